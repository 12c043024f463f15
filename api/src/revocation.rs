//! Revocations: what was stopped, and what resumed.

use chancery_identity::{Actor, Effect, Reason, Revocation, RevocationId, Target, Timestamp};
use serde::{Deserialize, Serialize};

/// `POST /v1/admin/revocations`: one decision, one commit, an entry for each target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct RevocationsRequest {
    /// What must stop; 1 to 100.
    pub targets: Vec<Target>,
    /// What happens to it. May be absent for `serial:` and `issued-before:`, where it is `revoke`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
    /// Why, in the words of RFC 5280; absent: `unspecified`, or `certificate_hold` for a suspension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether descendants are meant too.
    #[serde(default = "yes")]
    pub cascade: bool,
    /// Only says what would happen; access `viewer` is enough.
    #[serde(default)]
    pub dry_run: bool,
}

const fn yes() -> bool {
    true
}

/// `POST /v1/certificates/{serial}/revoke`: one's own certificate, or a descendant's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct RevokeOwnRequest {
    /// Why, in the words of RFC 5280.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// `POST /v1/admin/revocations/{id}/resume`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct ResumeRequest {
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// The answer to a revocation. It is durable when it is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct RevocationsAnswer {
    /// An entry for each target; empty for a dry run.
    pub revocations: Vec<RevocationView>,
    /// Where the entries can be seen; absent for a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Published>,
    /// What the caller may not have meant.
    pub warnings: Vec<String>,
}

/// Where revocations can be seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct Published {
    /// The number of the issuing authority's CRL that has them, or `pending`.
    pub crl_number: String,
}

/// One entry of the revocation sequence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct RevocationView {
    /// Its id.
    pub id: RevocationId,
    /// The log's epoch.
    pub epoch: u64,
    /// Its number; the sequence has no gaps.
    pub n: u64,
    /// What it names.
    pub target: Target,
    /// What happens to it.
    pub effect: Effect,
    /// Why, in the words of RFC 5280.
    pub reason: Reason,
    /// Why, in words.
    #[serde(default)]
    pub comment: String,
    /// Whether descendants are meant too.
    pub cascade: bool,
    /// How it stands now.
    pub state: RevocationState,
    /// What ended it.
    pub resumed_by: Option<Resume>,
    /// When it was committed.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: Actor,
    /// Its log position.
    pub log_index: u64,
    /// The log position it is ordered by: its own, or what an `issued-before` time was translated to.
    pub fence: u64,
}

impl From<&RevocationView> for Revocation {
    fn from(view: &RevocationView) -> Self {
        Self {
            id: view.id,
            n: view.n,
            epoch: view.epoch,
            log_index: view.log_index,
            fence: view.fence,
            at: view.created_at,
            target: view.target.clone(),
            effect: view.effect,
            reason: view.reason,
            cascade: view.cascade,
        }
    }
}

/// How an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[allow(clippy::exhaustive_enums, reason = "each consumer must decide for each state")]
pub enum RevocationState {
    /// It stops what it names.
    InForce,
    /// It did, until it was resumed.
    Resumed,
}

impl RevocationState {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InForce => "in_force",
            Self::Resumed => "resumed",
        }
    }
}

/// The sequenced entry that ended a suspension or a forbidding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct Resume {
    /// Its number, in the same sequence as revocations.
    pub n: u64,
    /// Why, in words.
    #[serde(default)]
    pub comment: String,
    /// When it was committed.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: Actor,
    /// Its log position.
    pub log_index: u64,
}
