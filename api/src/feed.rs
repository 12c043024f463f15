//! The feed of revocations: what `GET /v1/feed` sends, and what verifiers say back.
//!
//! Server-sent events: `head-key` (a certificate, PEM), `snapshot` ([`FeedSnapshot`]), `entry` ([`FeedEntry`]), `bundle`
//! (the SPIFFE bundle document), `pace` ([`FeedPace`]) and `head` (a signed note). The bytes of an entry's data are what heads hash: they are
//! sent as they were first written, and hashed as they came.

use chancery_identity::{
    Effect, Lineage, Reason, Revocation, RevocationId, Serial, SpiffeId, System, Target, Timestamp,
};
use serde::{Deserialize, Serialize};

/// The data of a `snapshot` event: what was known before does not count, and the sequence begins after the floor.
///
/// The entries that stand at or below the floor follow first, then all above it, in order, resumes included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct FeedSnapshot {
    /// The log's epoch.
    pub epoch: u64,
    /// The number up to which entries are forgotten, but for those that stand.
    pub floor: u64,
    /// How many entries at or below the floor follow.
    pub standing: u64,
}

/// The data of a `pace` event: when entries that come are to be acknowledged, so that those who are told last do not wait
/// for the answers of those who were told first. Without one, at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct FeedPace {
    /// Not before so many milliseconds.
    pub after_ms: u32,
    /// At a random moment of so many milliseconds from then on.
    pub within_ms: u32,
}

/// The data of an `entry` event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
#[allow(clippy::exhaustive_enums, reason = "an entry that a verifier cannot read must stop it")]
pub enum FeedEntry {
    /// Something is stopped.
    Revocation(FeedRevocation),
    /// A suspension or a forbidding ends.
    Resume(FeedResume),
}

impl FeedEntry {
    /// Its number in the sequence.
    pub const fn n(&self) -> u64 {
        match self {
            Self::Revocation(entry) => entry.n,
            Self::Resume(resume) => resume.n,
        }
    }
}

/// What verifiers need of an entry that stops something: no comment, and not who decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct FeedRevocation {
    /// Its number.
    pub n: u64,
    /// Its id.
    pub id: RevocationId,
    /// The log's epoch.
    pub epoch: u64,
    /// Its position in the log.
    pub log_index: u64,
    /// The position it is ordered by.
    pub fence: u64,
    /// When it was committed.
    pub created_at: Timestamp,
    /// What it names.
    pub target: Target,
    /// What happens to it.
    pub effect: Effect,
    /// Why.
    pub reason: Reason,
    /// Whether descendants are meant too.
    pub cascade: bool,
}

impl From<&Revocation> for FeedRevocation {
    fn from(entry: &Revocation) -> Self {
        let Revocation { id, n, epoch, log_index, fence, at, target, effect, reason, cascade } = entry.clone();
        Self { n, id, epoch, log_index, fence, created_at: at, target, effect, reason, cascade }
    }
}

impl From<FeedRevocation> for Revocation {
    fn from(entry: FeedRevocation) -> Self {
        let FeedRevocation { n, id, epoch, log_index, fence, created_at, target, effect, reason, cascade } = entry;
        Self { id, n, epoch, log_index, fence, at: created_at, target, effect, reason, cascade }
    }
}

/// The entry that ends another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct FeedResume {
    /// Its number.
    pub n: u64,
    /// The log's epoch.
    pub epoch: u64,
    /// The number of the entry that it ends.
    pub resumes: u64,
    /// Its position in the log.
    pub log_index: u64,
    /// When it was committed.
    pub created_at: Timestamp,
}

/// `POST /v1/feed/acks`: what the verifier behind the client certificate has applied. Sent after each head that brought
/// something, and at least each 10 seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct FeedAck {
    /// The epoch of `n`.
    pub epoch: u64,
    /// Every entry up to this number is in force there, and the connections that they hit are closed.
    pub n: u64,
    /// Since when, by the verifier's clock.
    pub applied_at: Timestamp,
    /// How its services learn of it: [`Applies::Here`] when it decides itself.
    #[serde(default)]
    pub applies: Applies,
    /// Connections that it closed since its last acknowledgement, because of entries.
    #[serde(default)]
    pub closed_connections: u64,
    /// The last request it accepted from a peer that an entry since its last acknowledgement hit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_accepted_at: Option<Timestamp>,
    /// The scope that request needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_accepted: Option<String>,
    /// Its open connections by the certificate of the peer, at most 4096; absent: it cannot tell, or has more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_connections: Option<Vec<OpenConnections>>,
    /// The last head it knows, if it is another than this feed sent: shows an issuer that it lost something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
}

/// Who applies what an acknowledgement tells of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[allow(clippy::exhaustive_enums, reason = "each consumer must decide for each")]
pub enum Applies {
    /// The process that acknowledges: it refuses requests and closes connections.
    #[default]
    Here,
    /// Another program that reads CRL files it wrote: it cannot close connections.
    ByCrlFile,
}

/// Connections of one peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct OpenConnections {
    /// The peer's certificate.
    pub serial: Serial,
    /// How many.
    pub count: u32,
}

/// One verifier, as the issuer knows it: `GET /v1/admin/verifiers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct VerifierView {
    /// Who it is.
    pub spiffe_id: SpiffeId,
    /// Which of the service's replicas: each attested on its own.
    pub lineage: Lineage,
    /// The systems it answers for.
    pub systems: Vec<System>,
    /// How it learns of revocations.
    pub how: Learns,
    /// The newest number that it acknowledged; absent where nothing acknowledges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
    /// How well it knows the present.
    pub state: KnowledgeState,
    /// From the commit of entry `n` to its acknowledgement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_ms: Option<u64>,
    /// Its open connections; absent: it cannot tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_connections: Option<u64>,
    /// When it was last heard; `null`: not since the issuer started.
    pub last_seen_at: Option<Timestamp>,
    /// When it refuses everything at the latest, unless it learns more.
    pub refuses_by: Timestamp,
}

/// How a verifier learns of revocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[allow(clippy::exhaustive_enums, reason = "each consumer must decide for each")]
pub enum Learns {
    /// By the feed, and it acknowledges.
    Feed,
    /// By asking for CRLs over mutual TLS.
    CrlPoll,
    /// By CRL files that another program writes from the feed.
    CrlFile,
}

/// How well a verifier knows the present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[allow(clippy::exhaustive_enums, reason = "each consumer must decide for each")]
pub enum KnowledgeState {
    /// Recently told.
    Fresh,
    /// Served and flagged.
    Stale,
    /// It refuses everything.
    Expired,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_one_spelling_for_good() {
        let entry = FeedEntry::Revocation(FeedRevocation {
            n: 1841,
            id: "rv_01936f30000070008000000000000001".parse().unwrap(),
            epoch: 1,
            log_index: 90211,
            fence: 90211,
            created_at: "2026-11-21T03:07:41.203Z".parse().unwrap(),
            target: "agent:invoice-bot".parse().unwrap(),
            effect: Effect::Suspend,
            reason: Reason::CertificateHold,
            cascade: true,
        });
        // Heads hash these bytes.
        let text = r#"{"kind":"revocation","n":1841,"id":"rv_01936f30000070008000000000000001","epoch":1,"log_index":90211,"fence":90211,"created_at":"2026-11-21T03:07:41.203Z","target":"agent:invoice-bot","effect":"suspend","reason":"certificate_hold","cascade":true}"#;
        assert_eq!(serde_json::to_string(&entry).unwrap(), text);
        assert_eq!(serde_json::from_str::<FeedEntry>(text).unwrap(), entry);
        let resume = r#"{"kind":"resume","n":1842,"epoch":1,"resumes":1841,"log_index":90212,"created_at":"2026-11-21T03:09:00.000Z"}"#;
        let read: FeedEntry = serde_json::from_str(resume).unwrap();
        assert_eq!((read.n(), serde_json::to_string(&read).unwrap()), (1842, resume.to_owned()));
    }
}
