//! Whom a certificate, a join token or a proof of identity is for.

use std::fmt;
use std::str::FromStr;

use chancery_identity::{Name, NameError};
use serde::{Deserialize, Serialize};

/// What kinds of principal are registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[allow(clippy::exhaustive_enums, reason = "each consumer must decide for each kind")]
pub enum Kind {
    /// An agent: many instances.
    Agent,
    /// A service: answers for systems.
    Service,
    /// An administrator.
    Admin,
}

impl Kind {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Service => "service",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A registered principal by kind and name. In JSON one field, `"agent":"invoice-bot"`; as text `agent:invoice-bot`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[allow(clippy::exhaustive_enums, reason = "each consumer must decide for each kind")]
pub enum Subject {
    /// An agent.
    Agent(Name),
    /// A service.
    Service(Name),
    /// An administrator.
    Admin(Name),
}

impl Subject {
    /// From its two parts.
    pub const fn new(kind: Kind, name: Name) -> Self {
        match kind {
            Kind::Agent => Self::Agent(name),
            Kind::Service => Self::Service(name),
            Kind::Admin => Self::Admin(name),
        }
    }

    /// Its kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Agent(_) => Kind::Agent,
            Self::Service(_) => Kind::Service,
            Self::Admin(_) => Kind::Admin,
        }
    }

    /// Its name.
    pub const fn name(&self) -> &Name {
        match self {
            Self::Agent(name) | Self::Service(name) | Self::Admin(name) => name,
        }
    }

    /// The one that a request names.
    pub fn exactly_one(agent: Option<Name>, service: Option<Name>, admin: Option<Name>) -> Result<Self, SubjectError> {
        match (agent, service, admin) {
            (Some(name), None, None) => Ok(Self::Agent(name)),
            (None, Some(name), None) => Ok(Self::Service(name)),
            (None, None, Some(name)) => Ok(Self::Admin(name)),
            _ => Err(SubjectError::NotOne),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind(), self.name())
    }
}

impl FromStr for Subject {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        let (kind, name) = text.split_once(':').ok_or(SubjectError::Form)?;
        let kind = match kind {
            "agent" => Kind::Agent,
            "service" => Kind::Service,
            "admin" => Kind::Admin,
            _ => return Err(SubjectError::Form),
        };
        Ok(Self::new(kind, name.parse().map_err(SubjectError::Name)?))
    }
}

/// No registered principal is named.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubjectError {
    /// Not `agent:`, `service:` or `admin:` and a name.
    Form,
    /// The name is none.
    Name(NameError),
    /// None or several of the three fields.
    NotOne,
}

impl fmt::Display for SubjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => f.write_str("wanted agent:<name>, service:<name> or admin:<name>"),
            Self::Name(error) => error.fmt(f),
            Self::NotOne => f.write_str("exactly one of the fields agent, service and admin is needed"),
        }
    }
}

impl std::error::Error for SubjectError {}
