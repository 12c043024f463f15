//! Refusals.

use std::fmt;

use chancery_identity::RequestId;
use serde::{Deserialize, Serialize};

/// A refusal, as RFC 9457 shapes it: what was wanted, what came, what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct Problem {
    /// A page about this kind of refusal.
    pub r#type: String,
    /// The kind of refusal, in kebab case; never reused for another.
    pub code: String,
    /// The kind in a few words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// This refusal in a sentence.
    pub detail: String,
    /// The path that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// What would have been enough.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// What the caller has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<String>,
    /// What to do, and who can; a command where there is one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fix: Vec<String>,
    /// Whether asking again can help.
    pub retry: Retry,
    /// The request, as the log and the `Request-Id` header name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    /// Where the refusal stands in the log, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_index: Option<u64>,
}

impl Problem {
    /// The media type of a problem document.
    pub const CONTENT_TYPE: &'static str = "application/problem+json";
}

impl fmt::Display for Problem {
    /// Without the fixes: a terminal shows those on lines of their own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.code, self.status, self.detail)
    }
}

impl std::error::Error for Problem {}

/// Whether asking again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[allow(clippy::exhaustive_enums, reason = "there is no fourth answer")]
pub enum Retry {
    /// The same request will be refused again.
    No,
    /// The same request may be sent again at once.
    Same,
    /// The same request may be sent again after `Retry-After`.
    After,
}
