//! What the store refuses, in words for the caller.

use chancery_api::Subject;
use chancery_identity::Revocation;

use crate::store::{CommitError, DbError, Refused, RolledBack};

use super::{Code, Refusal};

impl From<CommitError> for Refusal {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Refused(refused) => refused.into(),
            CommitError::Failed(source) => {
                tracing::error!(error = %source, "the database failed; nothing was committed");
                Self::new(Code::NotReady, "the database failed and nothing was committed").after(1)
            }
            CommitError::Unknown(source) => {
                tracing::error!(error = %source, "the database failed while committing");
                Self::new(Code::OutcomeUnknown, "the database failed while committing: whether it is done is not known")
            }
            CommitError::RolledBack(why) => Self::rolled_back(&why),
            CommitError::NotWriting => Self::new(Code::NotReady, "this issuer does not write now").after(1),
        }
    }
}

impl From<DbError> for Refusal {
    fn from(error: DbError) -> Self {
        tracing::error!(%error, "the database could not be read");
        Self::new(Code::NotReady, "the database could not be read").after(1)
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        let detail = refused.to_string();
        match refused {
            Refused::Stopped(entry) => Self::stopped(&entry),
            Refused::NoRecord(_) | Refused::NoRevocation | Refused::NoAuthority(_) => Self::new(Code::NotFound, detail),
            Refused::Revision { wanted, found, .. } => {
                Self::new(Code::RevisionMismatch, detail).needs([wanted]).holds([found])
            }
            Refused::Exists(_) => Self::new(Code::AlreadyExists, detail),
            Refused::Owned { .. } => Self::new(Code::Taken, detail),
            Refused::Instances { live, max } => Self::new(Code::TooManyInstances, detail)
                .needs([format!("fewer than {max} live instances")])
                .holds([live]),
            Refused::Spent { serial, .. } => Self::spent(&format!("{detail} for certificate {serial}"), serial),
            Refused::EvidenceExpired(_) => Self::new(Code::TokenExpired, detail)
                .fix("an operator: chancery join-tokens create --agent NAME (or --service, --admin)"),
            Refused::NoJoinToken => Self::new(Code::UnknownToken, detail),
            Refused::KeyInUse(_) => Self::new(Code::KeyRefused, detail),
            Refused::KeyReused => Self::new(Code::KeyReused, detail),
            Refused::LineageOver(_) => Self::new(Code::SessionOver, detail),
            Refused::Fork { entry, .. } => Self::new(Code::LineageForked, detail)
                .fix("attest again with a new key, once it is known who else has the old one")
                .fix(format!("an operator: chancery revocations get {}", entry.id)),
            Refused::Effect(_) | Refused::InFuture(_) | Refused::BeforeFirst(_) => Self::new(Code::Invalid, detail),
            Refused::Final => Self::new(Code::NotResumable, detail),
            Refused::Conflict | Refused::NotOurs(_) | Refused::CrlNumber { .. } => {
                tracing::error!(detail, "a decision of the issuer itself was refused");
                Self::new(Code::Internal, detail)
            }
        }
    }
}

impl Refusal {
    /// What an operator does for somebody whose join token is over.
    pub fn another_token(subject: &Subject) -> String {
        let (kind, name) = (subject.kind(), subject.name());
        format!("an operator: chancery join-tokens create --{kind} {name}")
    }

    /// Evidence that was spent, and what an operator looks at who wants to know on whom.
    pub fn spent(detail: &str, on: impl std::fmt::Display) -> Self {
        Self::new(Code::TokenUsed, detail)
            .fix(format!("if that was not you, an operator: chancery show {on}"))
            .fix("an operator: chancery join-tokens create --agent NAME (or --service, --admin)")
    }

    /// The refusal of everything that would be decided on a database that lost something.
    pub fn rolled_back(why: &RolledBack) -> Self {
        Self::new(Code::RolledBack, why.to_string())
            .fix("on the issuer's host, with the issuer stopped: chancery db restore --new-epoch --dry-run")
    }

    /// The refusal of whatever an entry in force stops.
    pub fn stopped(entry: &Revocation) -> Self {
        let Revocation { effect, target, at, n, id, .. } = entry;
        let detail = format!("{effect} of {target} is in force since {at} (n {n})");
        if effect.resumable() {
            Self::new(Code::Suspended, detail).fix(format!("an operator: chancery resume {id}"))
        } else {
            Self::new(Code::Retired, detail)
        }
    }
}
