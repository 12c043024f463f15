//! What the crate promises, seen from outside.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests say in a panic what went wrong"
)]

mod authority;
mod crl;
mod csr;
mod leaf;
mod ocsp;
mod stages;
mod support;
