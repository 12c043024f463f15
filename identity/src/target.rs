//! What a revocation names.

use std::fmt;
use std::str::FromStr;

use crate::name::clip;
use crate::{
    ApprovalId, Certificate, GrantId, Instance, KeyId, Lineage, Name, Principal, Scope, Serial, SpiffeId, Timestamp,
};

/// What must stop. One spelling on the command line, in HTTP, log and feed: `agent:invoice-bot`, `serial:5c0e…`.
///
/// A bare SPIFFE ID and a bare typed id are accepted as themselves; a bare word never is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Target {
    /// One certificate. Serials are unique over all authorities of an issuer, so its authority need not be named.
    Serial(Serial),
    /// One attested copy of an agent.
    Instance(Instance),
    /// One chain of renewals.
    Lineage(Lineage),
    /// All copies of an agent.
    Agent(Name),
    /// A service.
    Service(Name),
    /// An administrator.
    Admin(Name),
    /// All that one party is accountable for.
    Owner(Name),
    /// All that could exercise part of a scope.
    Scope(Scope),
    /// One grant.
    Grant(GrantId),
    /// A task of an agent.
    Task {
        /// The agent.
        agent: Name,
        /// The agent's id for the task.
        id: String,
    },
    /// All that rests on an approval.
    Approval(ApprovalId),
    /// All that an authority signed.
    Authority(KeyId),
    /// All that was issued before a time; the log position that this means is fixed when the entry is committed.
    IssuedBefore(Timestamp),
}

impl Target {
    /// Whether the certificate is one of those named; with `cascade`, also whether it descends from one.
    ///
    /// Decided from the certificate alone. Order is not: see [`crate::Revocation::hits`]. Nor is the trust domain: an
    /// issuer's targets name certificates of its own.
    pub fn matches(&self, certificate: &Certificate, cascade: bool) -> bool {
        self.matches_itself(certificate)
            || (cascade && self.names_parent(&certificate.spiffe_id))
            || (cascade
                && certificate.grant.iter().flat_map(|grant| &grant.chain).any(|ancestor| match self {
                    Self::Serial(serial) => ancestor.serial == *serial,
                    Self::Lineage(lineage) => ancestor.lineage == *lineage,
                    Self::Grant(grant) => ancestor.grant == *grant,
                    Self::Authority(authority) => ancestor.authority == *authority,
                    _ => self.names(&ancestor.spiffe_id) || self.names_parent(&ancestor.spiffe_id),
                }))
    }

    fn matches_itself(&self, certificate: &Certificate) -> bool {
        let grant = certificate.grant.as_ref();
        match self {
            Self::Serial(serial) => certificate.serial == *serial,
            Self::Authority(authority) => certificate.authority == *authority,
            Self::Scope(scope) => certificate.scopes.iter().any(|held| held.overlaps(scope)),
            Self::Lineage(lineage) => grant.is_some_and(|g| g.lineage == *lineage),
            Self::Owner(owner) => grant.is_some_and(|g| g.owner == *owner),
            Self::Grant(id) => grant.is_some_and(|g| g.id == *id),
            Self::Task { agent, id } => {
                grant.is_some_and(|g| g.name == *agent && g.task.as_ref().is_some_and(|task| task.id == *id))
            }
            Self::Approval(id) => grant.and_then(|g| g.task.as_ref()).is_some_and(|task| task.approval == Some(*id)),
            Self::IssuedBefore(_) => true,
            Self::Instance(_) | Self::Agent(_) | Self::Service(_) | Self::Admin(_) => {
                self.names(&certificate.spiffe_id)
            }
        }
    }

    /// Whether the target names the principal of this SPIFFE ID.
    fn names(&self, spiffe_id: &SpiffeId) -> bool {
        match (self, spiffe_id.principal()) {
            (Self::Instance(wanted), Principal::Agent { instance, sub: None, .. }) => instance == *wanted,
            (Self::Agent(wanted), Principal::Agent { name, sub: None, .. } | Principal::Shared(name)) => {
                name == wanted.as_str()
            }
            (Self::Service(wanted), Principal::Service(name)) => name == wanted.as_str(),
            (Self::Admin(wanted), Principal::Admin(name)) => name == wanted.as_str(),
            _ => false,
        }
    }

    /// Whether the target names the agent that this SPIFFE ID stands below.
    fn names_parent(&self, spiffe_id: &SpiffeId) -> bool {
        match (self, spiffe_id.principal()) {
            (Self::Instance(wanted), Principal::Agent { instance, sub: Some(_), .. }) => instance == *wanted,
            (Self::Agent(wanted), Principal::Agent { name, sub: Some(_), .. }) => name == wanted.as_str(),
            _ => false,
        }
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        if text.starts_with("spiffe://") {
            return from_spiffe_id(text);
        }
        if text.starts_with("gr_") {
            return value(text, text).map(Self::Grant);
        }
        if text.starts_with("ap_") {
            return value(text, text).map(Self::Approval);
        }
        let (kind, rest) = text.split_once(':').ok_or_else(|| TargetError::Bare(clip(text)))?;
        Ok(match kind {
            "serial" => Self::Serial(value(text, rest)?),
            "instance" => Self::Instance(value(text, rest)?),
            "lineage" => Self::Lineage(value(text, rest)?),
            "agent" => Self::Agent(value(text, rest)?),
            "service" => Self::Service(value(text, rest)?),
            "admin" => Self::Admin(value(text, rest)?),
            "owner" => Self::Owner(value(text, rest)?),
            "scope" => Self::Scope(value(text, rest)?),
            "grant" => Self::Grant(value(text, rest)?),
            "approval" => Self::Approval(value(text, rest)?),
            "authority" => Self::Authority(value(text, rest)?),
            "issued-before" => Self::IssuedBefore(value(text, rest)?),
            "task" => {
                let (agent, id) = rest.split_once('/').ok_or_else(|| TargetError::Task(clip(text)))?;
                if id.is_empty() || id.len() > 128 || id.chars().any(char::is_control) {
                    return Err(TargetError::Task(clip(text)));
                }
                Self::Task { agent: value(text, agent)?, id: id.into() }
            }
            _ => return Err(TargetError::Kind(clip(kind))),
        })
    }
}

fn value<T: FromStr<Err: fmt::Display>>(whole: &str, text: &str) -> Result<T, TargetError> {
    text.parse().map_err(|error: T::Err| TargetError::Value { target: clip(whole), why: error.to_string().into() })
}

/// A pasted SPIFFE ID means the instance, service or administrator it names.
fn from_spiffe_id(text: &str) -> Result<Target, TargetError> {
    let id: SpiffeId = value(text, text)?;
    match id.principal() {
        Principal::Agent { instance, sub: None, .. } => Ok(Target::Instance(instance)),
        Principal::Service(name) => value(text, name).map(Target::Service),
        Principal::Admin(name) => value(text, name).map(Target::Admin),
        Principal::Shared(name) => value(text, name).map(Target::Agent),
        _ => Err(TargetError::SpiffeId(clip(text))),
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serial(id) => write!(f, "serial:{id}"),
            Self::Instance(id) => write!(f, "instance:{id}"),
            Self::Lineage(id) => write!(f, "lineage:{id}"),
            Self::Agent(name) => write!(f, "agent:{name}"),
            Self::Service(name) => write!(f, "service:{name}"),
            Self::Admin(name) => write!(f, "admin:{name}"),
            Self::Owner(name) => write!(f, "owner:{name}"),
            Self::Scope(scope) => write!(f, "scope:{scope}"),
            Self::Grant(id) => write!(f, "grant:{id}"),
            Self::Task { agent, id } => write!(f, "task:{agent}/{id}"),
            Self::Approval(id) => write!(f, "approval:{id}"),
            Self::Authority(id) => write!(f, "authority:{id}"),
            Self::IssuedBefore(at) => write!(f, "issued-before:{at}"),
        }
    }
}

/// The text names no target.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TargetError {
    /// A word without a kind.
    Bare(Box<str>),
    /// A kind that there is not.
    Kind(Box<str>),
    /// A SPIFFE ID that stands for no target of ours.
    SpiffeId(Box<str>),
    /// Not `task:<agent>/<id>`.
    Task(Box<str>),
    /// A value that its kind does not allow.
    Value {
        /// What came.
        target: Box<str>,
        /// What is wrong with it.
        why: Box<str>,
    },
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const KINDS: &str = "serial, instance, lineage, agent, service, admin, owner, scope, grant, task, approval, \
                             authority, issued-before";
        match self {
            Self::Bare(came) => write!(f, "{came:?} names no kind: write for example agent:{came}; kinds are {KINDS}"),
            Self::Kind(came) => write!(f, "{came:?} is no kind of target; kinds are {KINDS}"),
            Self::SpiffeId(came) => write!(f, "{came:?} is no agent instance, service or administrator"),
            Self::Task(came) => write!(f, "a task is named as task:<agent>/<id>, got {came:?}"),
            Self::Value { target, why } => write!(f, "target {target:?}: {why}"),
        }
    }
}

impl std::error::Error for TargetError {}
