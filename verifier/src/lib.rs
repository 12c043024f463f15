//! What a service links: mutual TLS, scopes and revocation, checked on every request, offline.
//!
//! A [`Verifier`] takes its own identity, the bundle and the CRLs from [`Credentials`] and keeps up with them. A
//! [`Listener`] accepts connections, and cuts those whose peer is revoked or whose certificate ends. A [`Guard`] checks
//! each request against [`Rules`]: what they do not list is refused.

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used,
        reason = "a test fails by panicking"
    )
)]

mod authority;
mod chain;
mod clock;
mod credentials;
mod denial;
#[cfg(feature = "feed")]
pub mod feed;
mod freshness;
mod gate;
mod guard;
#[cfg(test)]
mod interleave;
#[cfg(all(test, feature = "ring"))]
mod limbo;
mod peer;
mod revocation;
mod rules;
#[cfg(feature = "toml")]
mod rules_file;
mod signed;
mod state;
mod verifier;

#[cfg(feature = "axum")]
pub mod axum;
#[cfg(feature = "tokio")]
mod connection;
#[cfg(feature = "tokio")]
mod files;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "tokio")]
mod listener;
#[cfg(feature = "tokio")]
mod registry;
mod tls;

pub use authority::AuthorityRefused;
pub use chain::ChainRefused;
pub use clock::{Clock, Moment, SystemClock};
#[cfg(feature = "tokio")]
pub use connection::Connection;
#[cfg(feature = "tokio")]
pub use credentials::{Applied, Attached, Credentials, Failures, FeedHealth};
pub use credentials::{Material, MaterialRefused};
pub use denial::Denial;
#[cfg(feature = "tokio")]
pub use files::{FileCredentials, FileError, FilePaths};
pub use freshness::{Freshness, Knowledge};
pub use guard::{Allowed, Guard};
#[cfg(feature = "tokio")]
pub use listener::{ClientCertificate, Counter, Counts, Listener, ListenerOptions, network};
pub use peer::Peer;
pub use revocation::{CrlHeader, CrlRefused, Known};
pub use rules::{Rules, RulesRefused};
#[cfg(feature = "toml")]
pub use rules_file::RulesFileRefused;
pub use tls::{ClientConfigs, FirstContactRefused, ServerExpectation, first_contact};
#[cfg(feature = "tokio")]
pub use verifier::StartError;
pub use verifier::{AuthorityStatus, FeedStatus, Status, Verifier};
