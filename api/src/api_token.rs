//! API tokens: bearer secrets for the admin plane.

use std::collections::BTreeSet;

use chancery_identity::{Actor, Timestamp, TokenId};
use serde::{Deserialize, Serialize};

use crate::{Access, Secret};

/// An API token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct ApiToken {
    /// Its id.
    pub id: TokenId,
    /// What it is for, in words.
    #[serde(default)]
    pub description: String,
    /// What it may do.
    pub access: BTreeSet<Access>,
    /// When it ends.
    pub expires_at: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: Actor,
    /// The log position of its making.
    pub log_index: u64,
}

/// `POST /v1/admin/api-tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct NewApiToken {
    /// What it is for, in words.
    #[serde(default)]
    pub description: String,
    /// What it may do; at least one level.
    pub access: BTreeSet<Access>,
    /// How long it lives, in seconds; absent: 30 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u32>,
}

/// The answer to making an API token: the only one that shows its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct ApiTokenCreated {
    /// The secret, `cht_…`, for `Authorization: Bearer`.
    pub token: Secret,
    /// The token's record.
    #[serde(flatten)]
    pub record: ApiToken,
}
