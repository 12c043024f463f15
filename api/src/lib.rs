//! The wire types of Chancery's HTTP interface `/v1`, and the problem documents that refuse.
//!
//! Each record has one type: what HTTP answers is what the store keeps. Requests refuse fields that they do not know;
//! answers may gain fields, so readers of answers ignore those. Times are RFC 3339 in UTC: milliseconds in fields named
//! `…_at`, whole seconds in the fields of a certificate. Durations are integers with the unit last in the name.
//!
//! Features: `client`, the HTTP client; `openapi`, the schemas.

#![cfg_attr(
    test,
    allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")
)]

mod admin;
mod agent;
mod api_token;
mod attest;
mod authority;
mod binding;
mod bundle;
mod certificate;
#[cfg(feature = "client")]
pub mod client;
mod feed;
mod first_administrator;
mod instance;
mod join;
mod join_token;
mod list;
mod log;
mod problem;
mod revocation;
mod rule;
mod secret;
mod service;
mod subject;
mod well_known;
mod whoami;

pub use admin::{Access, Admin, AdminPatch, NewAdmin};
pub use agent::{Agent, AgentPatch, NewAgent, State};
pub use api_token::{ApiToken, ApiTokenCreated, NewApiToken};
pub use attest::{
    AttestRequest, Challenge, Evidence, Issued, IssuedCertificate, JoinTokenEvidence, RejoinEvidence, RenewRequest,
    X509popEvidence,
};
pub use authority::{AuthorityState, AuthorityView, HeadKeyView, ImportRequest, Imported, RotateRequest, Rotation};
pub use binding::binding_preimage;
pub use bundle::{Bundle, BundleError, Jwk};
pub use certificate::{CertificateState, CertificateView};
pub use feed::{
    Applies, FeedAck, FeedEntry, FeedPace, FeedResume, FeedRevocation, FeedSnapshot, KnowledgeState, Learns,
    OpenConnections, VerifierView,
};
pub use first_administrator::FirstAdministrator;
pub use instance::{Denial, Denials, Instance, InstanceState};
pub use join::{JoinSecret, JoinString, JoinStringError, RootPin};
pub use join_token::{JoinToken, JoinTokenCreated, NewJoinToken};
pub use list::List;
pub use log::LogRecord;
pub use problem::{Problem, Retry};
pub use revocation::{
    Applied, Published, Radius, Resume, ResumeRequest, RevocationStanding, RevocationState, RevocationView,
    RevocationsAnswer, RevocationsRequest, RevokeOwnRequest, Unconfirmed,
};
pub use rule::{AttestationRule, Method, Selector, SelectorError};
pub use secret::Secret;
pub use service::{NewService, Service, ServicePatch, SystemEntry};
pub use subject::{Kind, Subject, SubjectError};
pub use well_known::{AuthorityEntry, AuthorityKind, FreshnessLimits, WellKnown};
pub use whoami::Whoami;

/// Times of a certificate, which has no fractions of a second.
mod seconds {
    use chancery_identity::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&at.to_seconds_text())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        Timestamp::deserialize(deserializer)
    }

    /// The same, where the time may be absent.
    pub(crate) mod optional {
        use super::*;

        pub(crate) fn serialize<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
            match at {
                Some(at) => super::serialize(at, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
            Option::deserialize(deserializer)
        }
    }
}

/// In a patch, `null` means something else than absence.
mod present {
    use serde::{Deserialize, Deserializer};

    pub(crate) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Option<T>>, D::Error> {
        Option::deserialize(deserializer).map(Some)
    }
}
