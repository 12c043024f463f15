//! Stories: the real issuer, real sockets, a real database, told as its users would.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and has a clock"
)]

mod agent;
mod attestation;
mod authz;
mod bad_input;
mod command_line;
mod external_root;
mod faults;
mod feed;
mod first_administrator;
mod fixture;
mod head_keys;
mod metrics;
mod ocsp;
mod patience;
mod program;
mod renewal;
mod revocation;
mod rotation;
mod secrets;
mod shown;
mod stopping;
mod taught;
mod verifiers;
