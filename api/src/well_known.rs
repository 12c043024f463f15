//! What an issuer says of itself.

use chancery_identity::{KeyId, SpiffeId, Timestamp, TrustDomain};
use serde::{Deserialize, Serialize};

/// `GET /.well-known/chancery`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct WellKnown {
    /// The trust domain it issues for.
    pub trust_domain: TrustDomain,
    /// Its own SPIFFE ID.
    pub issuer_spiffe_id: SpiffeId,
    /// Its clock.
    pub server_time: Timestamp,
    /// How old a verifier's knowledge may grow; a verifier may only be stricter.
    pub freshness: FreshnessLimits,
    /// Its authorities, the roots first.
    pub authorities: Vec<AuthorityEntry>,
}

/// How old a verifier's knowledge of revocations may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct FreshnessLimits {
    /// Above this, in seconds: served and flagged, high-risk scopes refused.
    pub stale_after_s: u32,
    /// Above this, in seconds: all refused.
    pub expired_after_s: u32,
}

/// One authority and where to find what it publishes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct AuthorityEntry {
    /// Its key.
    pub key_id: KeyId,
    /// What it signs.
    pub kind: AuthorityKind,
    /// The path of its CRL, on both listeners.
    pub crl: String,
    /// The path of its certificate, on both listeners.
    pub certificate: String,
}

/// What an authority signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[allow(clippy::exhaustive_enums, reason = "there is no third kind")]
pub enum AuthorityKind {
    /// Authorities.
    Root,
    /// Leaves.
    Issuing,
}

impl AuthorityKind {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Issuing => "issuing",
        }
    }
}
