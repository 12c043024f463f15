//! Revocations: what was stopped, and what resumed.

use chancery_identity::{
    Actor, Effect, Lineage, Name, Reason, Revocation, RevocationId, SpiffeId, System, Target, Timestamp,
};
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
    /// How long the answer may wait for every verifier to confirm, in seconds: 0 to 30. The commit does not wait.
    #[serde(default)]
    pub wait_s: u32,
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
    /// What it reaches; absent where that could not be read, and where a holder ends its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub radius: Option<Radius>,
    /// Who confirmed it so far; absent for a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<Applied>,
    /// Where the entries can be seen; absent for a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Published>,
    /// What the caller may not have meant.
    pub warnings: Vec<String>,
}

/// What a revocation reaches of what is valid and not stopped yet.
///
/// It is read beside the commit, from at most 20,000 certificates; a forbidding ends none, and shows who holds part of
/// its scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct Radius {
    /// Attested copies of agents.
    pub instances: u64,
    /// Certificates.
    pub certificates: u64,
    /// Those of them that descend from others.
    pub descendants: u64,
    /// Services.
    pub services: u64,
    /// The systems that their scopes name, and those that the services among them answer for; 100 at most.
    pub systems: Vec<System>,
    /// Whose they are; 100 at most.
    pub holders: Vec<Target>,
    /// Their open connections, as far as verifiers report them; `null`: none does.
    pub open_connections: Option<u64>,
    /// The services that have these connections.
    pub open_at: Vec<Name>,
    /// Whether the caller's own certificate is among them.
    pub includes_caller: bool,
    /// Whether the issuer's own certificate is.
    pub includes_issuer: bool,
    /// Whether there may be more: not all that is valid was looked at.
    pub at_least: bool,
    /// How many certificates are valid in all, counted up to 1,001.
    pub live_certificates: u64,
    /// When this was so.
    pub as_of: Timestamp,
}

/// Who confirmed that an entry is in force there.
///
/// A verifier that was silent for so long that it refuses everything is not counted: nothing is accepted there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct Applied {
    /// Verifiers that may accept anything.
    pub verifiers: u64,
    /// Those of them that confirmed.
    pub confirmed: u64,
    /// From the commit to the last confirmation that came; `null`: no verifier was there before and confirmed after.
    pub max_ms: Option<u64>,
    /// Connections that verifiers closed when they applied it.
    pub closed_connections: u64,
    /// The last request from what it stops that any of the confirmed accepted, by that verifier's clock.
    pub last_accepted_at: Option<Timestamp>,
    /// Where that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_accepted_by: Option<SpiffeId>,
    /// The scope that it needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_accepted: Option<String>,
    /// The verifiers that did not confirm, those that may accept for longest first; 500 at most.
    pub unconfirmed: Vec<Unconfirmed>,
}

/// A verifier of which it is not known that it applied an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct Unconfirmed {
    /// Who it is.
    pub verifier: SpiffeId,
    /// Which of the service's replicas.
    pub lineage: Lineage,
    /// The newest number that it confirmed; `null`: none.
    pub n: Option<u64>,
    /// When it was last heard; `null`: not since the issuer started.
    pub last_seen_at: Option<Timestamp>,
    /// When it refuses everything at the latest, unless it learns more.
    pub refuses_by: Timestamp,
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

/// `GET /v1/admin/revocations/{id}`: an entry, and who confirmed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct RevocationStanding {
    /// The entry.
    #[serde(flatten)]
    pub revocation: RevocationView,
    /// Who confirmed it so far.
    pub applied: Applied,
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
