//! The laws of what certificates and revocations say, against brute force and independent oracles.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests panic")]

#[path = "../../../fuzz/bodies/identity.rs"]
mod bodies;
mod certificates;
mod der;
mod grant;
mod in_force;
mod leaf;
mod normalise;
mod scope;
mod spiffe;
mod target;
#[cfg(feature = "serde")]
mod text;
mod timestamp;
