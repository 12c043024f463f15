//! Who the caller is to the issuer.

use std::collections::BTreeSet;

use chancery_identity::{Actor, ScopeSet, Serial, SpiffeId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Access, State};

/// `GET /v1/whoami`; with `?after_revision=&wait_s=` (up to 60) it answers when the record changes, or when the wait is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct Whoami {
    /// Kind and name, `agent:invoice-bot`.
    pub caller: Actor,
    /// The SPIFFE ID of the certificate shown; `null` for an API token and at the admin socket.
    pub spiffe_id: Option<SpiffeId>,
    /// What the revocation entries say of the record.
    pub state: State,
    /// The record's revision now; 0 where there is no record.
    pub revision: u64,
    /// What the record holds now: what a renewal would carry.
    pub scopes: ScopeSet,
    /// What an administrator or API token may do.
    pub access: BTreeSet<Access>,
    /// The certificate shown.
    pub serial: Option<Serial>,
    /// The last second that certificate is valid at.
    #[serde(with = "crate::seconds::optional")]
    pub not_after: Option<Timestamp>,
    /// When to renew it.
    #[serde(with = "crate::seconds::optional")]
    pub renew_after: Option<Timestamp>,
    /// The issuer's clock.
    pub server_time: Timestamp,
}
