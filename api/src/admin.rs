//! Administrators and what they may do.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use chancery_identity::{Actor, Name, Timestamp};
use serde::{Deserialize, Serialize};

use crate::State;
use crate::agent::{agrees, replace};

/// What an administrator or API token may do. Levels imply nothing of one another, but that all see what a viewer sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[allow(clippy::exhaustive_enums, reason = "each consumer must decide for each level")]
pub enum Access {
    /// Sees records; changes nothing.
    Viewer,
    /// Registers and changes agents and services, makes join tokens, resumes.
    Operator,
    /// Stops things.
    Revoker,
    /// Approves what waits for approval.
    Approver,
    /// Reads the log's records.
    Auditor,
    /// Sets ceilings; makes administrators, API tokens and authorities.
    Administrator,
}

impl Access {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Viewer, Self::Operator, Self::Revoker, Self::Approver, Self::Auditor, Self::Administrator];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Revoker => "revoker",
            Self::Approver => "approver",
            Self::Auditor => "auditor",
            Self::Administrator => "administrator",
        }
    }

    /// Whether one who holds these levels may do what needs this one.
    pub fn is_met_by(self, held: &BTreeSet<Self>) -> bool {
        held.contains(&self) || (self == Self::Viewer && !held.is_empty())
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Access {
    type Err = String;

    /// The error is a sentence that names the levels.
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|level| level.as_str() == text).ok_or_else(|| {
            format!("{text:?} is no access level: wanted viewer, operator, revoker, approver, auditor or administrator")
        })
    }
}

/// A registered administrator. Enrols with a join token, holds an 8 h certificate that renews.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct Admin {
    /// Its name, never reused.
    pub name: Name,
    /// Who or what it is, in words.
    #[serde(default)]
    pub description: String,
    /// What it may do.
    pub access: BTreeSet<Access>,
    /// What the revocation entries say of it.
    pub state: State,
    /// Counts its changes, from 1. The `ETag`.
    pub revision: u64,
    /// When it was registered.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: Actor,
    /// The log position of its newest change.
    pub log_index: u64,
}

/// `POST /v1/admin/admins`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct NewAdmin {
    /// Its name.
    pub name: Name,
    /// Who or what it is, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What it may do; at least one level.
    pub access: BTreeSet<Access>,
}

impl NewAdmin {
    /// Whether the administrator is what is asked for: all that was sent is equal.
    pub fn agrees_with(&self, admin: &Admin) -> bool {
        self.name == admin.name && agrees(&self.description, &admin.description) && self.access == admin.access
    }
}

/// `PATCH /v1/admin/admins/{name}`, best with `If-Match`. What is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct AdminPatch {
    /// Who or what it is, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// All access levels; at least one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<BTreeSet<Access>>,
}

impl AdminPatch {
    /// The administrator with the changes, its state, revision and log position untouched.
    pub fn apply(self, mut admin: Admin) -> Admin {
        replace(&mut admin.description, self.description);
        replace(&mut admin.access, self.access);
        admin
    }
}
