//! Certificates as administrators see them.

use chancery_identity::{GrantId, Instance, KeyId, Lineage, Name, RevocationId, ScopeSet, Serial, SpiffeId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::Subject;

/// One certificate that was issued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct CertificateView {
    /// Its serial.
    pub serial: Serial,
    /// The authority that signed it.
    pub authority: KeyId,
    /// Whose it is.
    pub spiffe_id: SpiffeId,
    /// The record behind it.
    #[serde(flatten)]
    pub subject: Subject,
    /// The accountable party.
    pub owner: Name,
    /// The instance, for an agent.
    pub instance: Option<Instance>,
    /// The chain of renewals it belongs to.
    pub lineage: Lineage,
    /// What it allows.
    pub scopes: ScopeSet,
    /// What stands behind the scopes.
    pub grant_id: GrantId,
    /// How it stands now.
    pub state: CertificateState,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// The first instant it is valid at.
    #[serde(with = "crate::seconds")]
    pub not_before: Timestamp,
    /// The last second it is valid at.
    #[serde(with = "crate::seconds")]
    pub not_after: Timestamp,
    /// The attestor behind its lineage.
    pub attested_by: String,
    /// The certificate it was delegated from.
    pub parent_serial: Option<Serial>,
    /// The entry that stopped it.
    pub revocation_id: Option<RevocationId>,
    /// The log position of its issuance.
    pub log_index: u64,
}

/// How a certificate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[allow(clippy::exhaustive_enums, reason = "each consumer must decide for each state")]
pub enum CertificateState {
    /// Within its time, and no entry hits it.
    Valid,
    /// Past its time.
    Expired,
    /// Ended for good by an entry.
    Revoked,
    /// Held by an entry that can be resumed.
    Held,
}

impl CertificateState {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Held => "held",
        }
    }
}
