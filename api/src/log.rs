//! The log's records as auditors read them.

use serde::{Deserialize, Serialize};

/// One position of the log, with what its leaf commits to: SHA-256 over the salt and the record's bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct LogRecord {
    /// The position.
    pub log_index: u64,
    /// The 32 bytes that the leaf holds, in hex.
    pub commitment: String,
    /// The 16 bytes that hide the record, in hex; absent once deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<String>,
    /// The record in its canonical spelling, which is JSON; absent once deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
}
