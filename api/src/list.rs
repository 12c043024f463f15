//! Pages of records.

use serde::{Deserialize, Serialize};

/// One page of records, newest first. Asked for with `?limit=` (1 to 500, 50 if absent), `&cursor=` and `&count=true`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct List<T> {
    /// The records.
    pub data: Vec<T>,
    /// What to send as `cursor` for the next page; `null` after the last.
    pub next_cursor: Option<String>,
    /// How many there are in all, if it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}
