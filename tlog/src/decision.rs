//! Decisions: the closed list of what the log records, and what each says.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use chancery_identity::{Certificate, Effect, KeyId, Reason, Revocation, RevocationId, Serial, Target};
use serde::{Deserialize, Serialize};

use crate::hash::Hash;
use crate::record::Record;
use crate::wire::{decimal, hex, shared_certificate};

/// What kind of decision a record is of. The closed list of what the log holds.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Action {
    /// A certificate for evidence that was shown.
    Issue,
    /// A certificate that follows another of the same lineage.
    Renew,
    /// Scopes granted, or asked for and pending.
    Grant,
    /// A child identity allowed.
    Delegate,
    /// A pending grant approved.
    Approve,
    /// A request of a known caller refused.
    Deny,
    /// A revocation entry: revoke, suspend, retire or forbid.
    Revoke,
    /// The end of a suspension or a forbidding.
    Resume,
    /// A change to agents, services, systems, roles, administrators or their tokens.
    Registry,
    /// A change to what the issuer allows.
    Policy,
    /// Something done with a key of an authority, the head or the seal.
    Ceremony,
    /// A CRL published.
    Crl,
    /// The first entry of a new epoch's log.
    LogRestart,
}

impl Action {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Issue,
        Self::Renew,
        Self::Grant,
        Self::Delegate,
        Self::Approve,
        Self::Deny,
        Self::Revoke,
        Self::Resume,
        Self::Registry,
        Self::Policy,
        Self::Ceremony,
        Self::Crl,
        Self::LogRestart,
    ];

    /// The word for it, as records, searches and the database write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Issue => "issue",
            Self::Renew => "renew",
            Self::Grant => "grant",
            Self::Delegate => "delegate",
            Self::Approve => "approve",
            Self::Deny => "deny",
            Self::Revoke => "revoke",
            Self::Resume => "resume",
            Self::Registry => "registry",
            Self::Policy => "policy",
            Self::Ceremony => "ceremony",
            Self::Crl => "crl",
            Self::LogRestart => "log-restart",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Action {
    type Err = ActionError;

    fn from_str(text: &str) -> Result<Self, ActionError> {
        Self::ALL.iter().copied().find(|action| action.as_str() == text).ok_or_else(|| ActionError(text.to_owned()))
    }
}

/// The text is no action.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("wanted an action, for example issue or revoke, got {0:?}")]
pub struct ActionError(String);

/// What was decided: typed where `chancery log verify` compares it with other records, facts where people read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[allow(clippy::exhaustive_enums, reason = "as closed as the list of actions")]
pub enum Decision {
    /// See [`Action::Issue`].
    Issue(Issued),
    /// See [`Action::Renew`].
    Renew(Renewed),
    /// See [`Action::Grant`].
    Grant(Facts),
    /// See [`Action::Delegate`].
    Delegate(Facts),
    /// See [`Action::Approve`].
    Approve(Facts),
    /// See [`Action::Deny`].
    Deny(Facts),
    /// See [`Action::Revoke`].
    Revoke(Revoked),
    /// See [`Action::Resume`].
    Resume(Resumed),
    /// See [`Action::Registry`].
    Registry(Facts),
    /// See [`Action::Policy`].
    Policy(Facts),
    /// See [`Action::Ceremony`].
    Ceremony(Facts),
    /// See [`Action::Crl`].
    Crl(CrlPublished),
    /// See [`Action::LogRestart`].
    LogRestart(LogRestarted),
}

impl Decision {
    /// What kind of decision it is.
    pub const fn action(&self) -> Action {
        match self {
            Self::Issue(_) => Action::Issue,
            Self::Renew(_) => Action::Renew,
            Self::Grant(_) => Action::Grant,
            Self::Delegate(_) => Action::Delegate,
            Self::Approve(_) => Action::Approve,
            Self::Deny(_) => Action::Deny,
            Self::Revoke(_) => Action::Revoke,
            Self::Resume(_) => Action::Resume,
            Self::Registry(_) => Action::Registry,
            Self::Policy(_) => Action::Policy,
            Self::Ceremony(_) => Action::Ceremony,
            Self::Crl(_) => Action::Crl,
            Self::LogRestart(_) => Action::LogRestart,
        }
    }

    /// The certificate that it made, and the SHA-256 of its DER.
    pub fn certificate(&self) -> Option<(&Certificate, Hash)> {
        match self {
            Self::Issue(Issued { certificate, sha256 }) => Some((certificate, *sha256)),
            Self::Renew(Renewed { certificate, sha256, .. }) => Some((certificate, *sha256)),
            _ => None,
        }
    }
}

/// A certificate issued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs, reason = "a new field is a new version of the record")]
pub struct Issued {
    /// What it says.
    #[serde(with = "shared_certificate")]
    pub certificate: Arc<Certificate>,
    /// The SHA-256 of its DER.
    #[serde(with = "hex")]
    pub sha256: Hash,
}

/// A certificate renewed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs, reason = "a new field is a new version of the record")]
pub struct Renewed {
    /// What the new certificate says.
    #[serde(with = "shared_certificate")]
    pub certificate: Arc<Certificate>,
    /// The certificate that it follows.
    pub previous: Serial,
    /// The SHA-256 of its DER.
    #[serde(with = "hex")]
    pub sha256: Hash,
}

/// An entry of the revocation sequence that stops something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs, reason = "a new field is a new version of the record")]
pub struct Revoked {
    /// Whether descendants are meant too.
    pub cascade: bool,
    /// The operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// What happens to the target.
    pub effect: Effect,
    /// The position it is ordered by: its own, or what an `issued-before` time was translated to.
    #[serde(with = "decimal")]
    pub fence: u64,
    /// Its id.
    pub id: RevocationId,
    /// Its number.
    #[serde(with = "decimal")]
    pub n: u64,
    /// Why.
    pub reason: Reason,
    /// What it names.
    pub target: Target,
}

impl Revoked {
    /// The entry, as the revocation sequence holds it, from the record it stands in and its position in the log.
    pub fn revocation(&self, record: &Record, log_index: u64) -> Revocation {
        Revocation {
            id: self.id,
            n: self.n,
            epoch: record.epoch,
            log_index,
            fence: self.fence,
            at: record.at,
            target: self.target.clone(),
            effect: self.effect,
            reason: self.reason,
            cascade: self.cascade,
        }
    }
}

/// An entry of the revocation sequence that ends another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs, reason = "a new field is a new version of the record")]
pub struct Resumed {
    /// The operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The id of the entry it ends.
    pub id: RevocationId,
    /// Its own number.
    #[serde(with = "decimal")]
    pub n: u64,
    /// The number of the entry it ends.
    #[serde(with = "decimal")]
    pub resumes: u64,
}

/// A CRL published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs, reason = "a new field is a new version of the record")]
pub struct CrlPublished {
    /// The authority whose CRL it is.
    pub authority: KeyId,
    /// How many certificates it lists.
    #[serde(with = "decimal")]
    pub entries: u64,
    /// The newest revocation that it takes into account.
    #[serde(with = "decimal")]
    pub n: u64,
    /// Its CRL number.
    #[serde(with = "decimal")]
    pub number: u64,
    /// The SHA-256 of its DER.
    #[serde(with = "hex")]
    pub sha256: Hash,
}

/// A new epoch: what was known to be signed, and what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs, reason = "a new field is a new version of the record")]
pub struct LogRestarted {
    /// The newest head that was kept outside the database.
    pub kept: LastHead,
    /// The head that the restored database had.
    pub restored: LastHead,
}

/// How far a log had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs, reason = "a new field is a new version of the record")]
pub struct LastHead {
    /// Its epoch.
    #[serde(with = "decimal")]
    pub epoch: u64,
    /// Its newest revocation. The new epoch goes on above the kept one's.
    #[serde(with = "decimal")]
    pub n: u64,
    /// The root of its log.
    #[serde(with = "hex")]
    pub root: Hash,
    /// The size of its log.
    #[serde(with = "decimal")]
    pub size: u64,
}

/// What a record says that no check depends on: words and their values, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
#[allow(clippy::exhaustive_structs, reason = "a map, for good")]
pub struct Facts(pub BTreeMap<String, String>);

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Facts {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(facts: I) -> Self {
        Self(facts.into_iter().map(|(word, value)| (word.into(), value.into())).collect())
    }
}
