//! The service and the command line.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::disallowed_methods,
        reason = "a test fails by panicking, and has a clock"
    )
)]

pub mod attest;
pub mod authority;
pub mod caller;
pub mod clock;
pub mod commands;
pub mod config;
pub mod http;
pub mod issuance;
pub mod issuer;
mod metrics;
mod random;
pub mod refusal;
pub mod registry;
pub mod revocation;
pub mod server;
pub mod store;
