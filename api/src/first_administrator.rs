//! The first administrator, where there is none yet.

use chancery_identity::Name;
use serde::{Deserialize, Serialize};

use crate::JoinSecret;

/// `POST /v1/first-administrator`: the token of the issuer's file buys one administrator with every access level. The
/// answer is the join token that this one enrols with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct FirstAdministrator {
    /// The secret in the issuer's file.
    pub token: JoinSecret,
    /// The administrator's name.
    pub name: Name,
}
