//! Attested copies of agents.

use chancery_identity::{Lineage, Name, RequestId, RevocationId, Serial, SpiffeId, Timestamp};
use serde::{Deserialize, Serialize};

/// One attested running copy of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct Instance {
    /// Its id, the last segment of its SPIFFE ID.
    pub id: chancery_identity::Instance,
    /// The agent it is a copy of.
    pub agent: Name,
    /// The accountable party.
    pub owner: Name,
    /// Its SPIFFE ID.
    pub spiffe_id: SpiffeId,
    /// Its chain of renewals.
    pub lineage: Lineage,
    /// How it stands now.
    pub state: InstanceState,
    /// The attestor that took it in.
    pub attested_by: String,
    /// When it was attested.
    pub attested_at: Timestamp,
    /// Its newest certificate.
    pub serial: Serial,
    /// When its newest certificate was issued.
    pub issued_at: Timestamp,
    /// The last second its newest certificate is valid at.
    #[serde(with = "crate::seconds")]
    pub not_after: Timestamp,
    /// The entry that stopped it.
    pub revocation_id: Option<RevocationId>,
    /// What the issuer refused it lately; absent in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<Denials>,
}

/// Requests that the issuer refused to one who may not make them, as its log has them: at most one a second of each
/// caller. What verifiers refuse, they do not report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct Denials {
    /// Of how many seconds until now, of the newest 100,000 entries of the log at most.
    pub within_s: u32,
    /// How many.
    pub count: u64,
    /// The newest; `null`: none.
    pub last: Option<Denial>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct Denial {
    /// When.
    pub denied_at: Timestamp,
    /// The code of the problem that it was answered with.
    pub code: String,
    /// The request.
    pub request_id: Option<RequestId>,
    /// Its log position.
    pub log_index: u64,
}

/// How an instance stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[allow(clippy::exhaustive_enums, reason = "each consumer must decide for each state")]
pub enum InstanceState {
    /// Its newest certificate is valid.
    Live,
    /// Its newest certificate ran out.
    Expired,
    /// Ended for good by an entry.
    Revoked,
    /// Held by an entry that can be resumed.
    Held,
}

impl InstanceState {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Held => "held",
        }
    }
}
