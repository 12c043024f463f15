//! What can be decided, what comes of it, and the proof that it is for good.

use std::future::Future;
use std::sync::Arc;

use chancery_api::{Kind, Subject};
use chancery_ca::CrlNumber;
use chancery_identity::Actor;
use chancery_identity::{
    Instance, KeyId, Lineage, Name, Principal, RequestId, Revocation, Serial, SpiffeId, Timestamp,
};

use super::batch::{Batch, Wanted};
use super::db::DbError;

/// What was decided and is for good: its rows, its log entry and the head are in one commit.
///
/// Only the store makes it, so an answer that must not leave before the commit asks for one.
#[derive(Clone, Debug)]
pub struct Committed<T> {
    reply: T,
    log_index: u64,
    at: Timestamp,
}

impl<T> Committed<T> {
    pub(super) const fn new(reply: T, log_index: u64, at: Timestamp) -> Self {
        Self { reply, log_index, at }
    }

    /// What came of it.
    pub const fn reply(&self) -> &T {
        &self.reply
    }

    /// What came of it, owned.
    pub fn into_reply(self) -> T {
        self.reply
    }

    /// The same proof of something made from the reply.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Committed<U> {
        Committed { reply: change(self.reply), log_index: self.log_index, at: self.at }
    }

    /// The same proof of something made from the reply, if it can be.
    ///
    /// # Errors
    /// What `change` says.
    pub fn try_map<U, E>(self, change: impl FnOnce(T) -> Result<U, E>) -> Result<Committed<U>, E> {
        Ok(Committed { reply: change(self.reply)?, log_index: self.log_index, at: self.at })
    }

    /// The position of its log entry, or of the first where it has several.
    pub const fn log_index(&self) -> u64 {
        self.log_index
    }

    /// When it was committed.
    pub const fn at(&self) -> Timestamp {
        self.at
    }
}

/// On whose behalf something is decided, and on which request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "whoever decides sets both")]
pub struct Cause {
    /// Who.
    pub actor: Actor,
    /// The request; absent for what the issuer does by itself.
    pub request_id: Option<RequestId>,
}

impl Cause {
    /// What the issuer does by itself.
    pub const ISSUER: Self = Self { actor: Actor::Issuer, request_id: None };
}

/// Something that the one writer can decide.
pub trait Decision: Send + Sync + 'static {
    /// What comes of it.
    type Reply: Send + 'static;

    /// Where it stands among what is decided in one transaction.
    #[doc(hidden)]
    const RANK: Rank = Rank::Record;

    /// What it needs to know from the database.
    #[doc(hidden)]
    fn wants(&self, _wanted: &mut Wanted) {}

    /// Decides. What refuses must not have written anything.
    #[doc(hidden)]
    fn decide(&self, batch: &mut Batch<'_>) -> impl Future<Output = Result<Committed<Self::Reply>, Undecided>> + Send;
}

/// The order within one transaction: what stops goes before what could be stopped.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    Revocation,
    Record,
    Certificate,
}

/// Why a decision did not come about.
#[doc(hidden)]
#[derive(Debug)]
pub enum Undecided {
    Refused(Refused),
    Db(DbError),
}

impl From<Refused> for Undecided {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<DbError> for Undecided {
    fn from(error: DbError) -> Self {
        Self::Db(error)
    }
}

/// Why a decision has no [`Committed`].
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// It may not be.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The database failed before the commit: nothing of it is there, it may be tried again.
    #[error("the database failed, nothing was committed; try again")]
    Failed(#[source] Arc<DbError>),
    /// The database failed at the commit and does not say whether it is done.
    #[error("the database failed while committing: whether it is done is unknown")]
    Unknown(#[source] Arc<DbError>),
    /// The database lost something that was told of.
    #[error("the database is rolled back: {0}")]
    RolledBack(super::epoch::RolledBack),
    /// This process does not hold the lease (any more): another issuer writes.
    #[error("this issuer does not write: it waits for the lease, has lost it, or is stopping")]
    NotWriting,
}

/// Why something may not be decided, though it was well-formed and, when it was planned, allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// Stopped by an entry of the revocation sequence.
    #[error("{} of {} is in force (n {})", .0.effect, .0.target, .0.n)]
    Stopped(Box<Revocation>),
    /// The holder's record is not there.
    #[error("there is no {0}")]
    NoRecord(String),
    /// The record has moved on since.
    #[error("{record} is at revision {found}, wanted {wanted}: read it again")]
    Revision {
        /// Which, as `agent:invoice-bot`.
        record: String,
        /// What was assumed.
        wanted: u64,
        /// What it is at.
        found: u64,
    },
    /// A record of that name exists.
    #[error("{0} exists already")]
    Exists(String),
    /// A system or DNS name that another service answers for.
    #[error("{name} belongs to service {service}")]
    Owned {
        /// The system or DNS name.
        name: String,
        /// Whose it is.
        service: Name,
    },
    /// The agent has as many live instances as it may.
    #[error("the agent has {live} live instances and may have {max}: stop one, or raise max_instances")]
    Instances {
        /// How many live.
        live: u64,
        /// How many may.
        max: u32,
    },
    /// The evidence was spent before.
    #[error("the evidence was used {at}{}", .peer.as_deref().map(|peer| format!(" by {peer}")).unwrap_or_default())]
    Spent {
        /// When, the last time.
        at: Timestamp,
        /// From where.
        peer: Option<String>,
        /// The certificate it was spent on.
        serial: Serial,
    },
    /// The join token or other evidence is not valid any more.
    #[error("the evidence expired {0}")]
    EvidenceExpired(Timestamp),
    /// The join token is not there: deleted since.
    #[error("there is no such join token")]
    NoJoinToken,
    /// The key belongs to another lineage that is alive.
    #[error("the key is in use by lineage {0}: make a new one")]
    KeyInUse(Lineage),
    /// The key is the one of the certificate to be renewed.
    #[error("the key is that of the certificate to be renewed: make a new one")]
    KeyReused,
    /// The lineage is over or was never there: attest again.
    #[error("lineage {0} is over: attest again")]
    LineageOver(Lineage),
    /// A second renewal of one certificate by another key: somebody has a copy. The lineage is suspended now.
    #[error("certificate {presented} was renewed before by another key: lineage {} is suspended (n {})", .entry.target, .entry.n)]
    Fork {
        /// The certificate shown.
        presented: Serial,
        /// The entry that suspends the lineage, of this very commit.
        entry: Box<Revocation>,
    },
    /// Another row has its serial, id or secret.
    #[error("its serial, id or secret is there already: draw another")]
    Conflict,
    /// A leaf that cannot be recorded: no holder of ours, or no grant.
    #[error("a certificate of ours names its holder and carries a grant; {0} does not")]
    NotOurs(SpiffeId),
    /// A target and effect that do not go together.
    #[error("{0}")]
    Effect(&'static str),
    /// An issued-before time after now.
    #[error("issued-before:{0} is in the future")]
    InFuture(Timestamp),
    /// An issued-before time that nothing was issued before.
    #[error("nothing was issued before {0}")]
    BeforeFirst(Timestamp),
    /// No such entry.
    #[error("there is no revocation of that id")]
    NoRevocation,
    /// A final entry.
    #[error("the entry is final: only a suspension or a forbidding can be resumed")]
    Final,
    /// A CRL that is not newer than the one published.
    #[error("authority {authority} has CRL {found}, which is not lower than {wanted}")]
    CrlNumber {
        /// Whose.
        authority: KeyId,
        /// The number to publish.
        wanted: CrlNumber,
        /// The number that is published.
        found: CrlNumber,
    },
    /// No such authority.
    #[error("there is no authority {0}")]
    NoAuthority(KeyId),
}

/// Who a certificate is for, as rows name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) kind: HolderKind,
    pub(super) name: Name,
    pub(super) instance: Option<Instance>,
}

/// Kinds of holders, as numbers in rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum HolderKind {
    Agent = 1,
    Service = 2,
    Admin = 3,
    Issuer = 4,
}

impl HolderKind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Service => "service",
            Self::Admin => "admin",
            Self::Issuer => "chancery",
        }
    }
}

impl From<Kind> for HolderKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Agent => Self::Agent,
            Kind::Service => Self::Service,
            Kind::Admin => Self::Admin,
        }
    }
}

impl Holder {
    /// The record; the issuer has none.
    pub(super) fn subject(&self) -> Option<Subject> {
        let kind = match self.kind {
            HolderKind::Agent => Kind::Agent,
            HolderKind::Service => Kind::Service,
            HolderKind::Admin => Kind::Admin,
            HolderKind::Issuer => return None,
        };
        Some(Subject::new(kind, self.name.clone()))
    }

    /// The holder that a SPIFFE ID names; `None` for an ID that is none of our layout.
    pub(super) fn of(spiffe_id: &SpiffeId) -> Option<Self> {
        let (kind, name, instance) = match spiffe_id.principal() {
            Principal::Agent { name, instance, .. } => (HolderKind::Agent, name, Some(instance)),
            Principal::Shared(name) => (HolderKind::Agent, name, None),
            Principal::Service(name) => (HolderKind::Service, name, None),
            Principal::Admin(name) => (HolderKind::Admin, name, None),
            Principal::Server => (HolderKind::Issuer, "server", None),
            _ => return None,
        };
        Some(Self { kind, name: name.parse().ok()?, instance })
    }
}
