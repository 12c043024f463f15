//! `/v1/admin/log`.

use axum::extract::State;
use chancery_api::LogRecord;

use crate::refusal::Refusal;
use crate::store::LogEntry;

use super::App;
use super::answer::Answer;
use super::extract::Query;
use super::page::{cursor_of, cut, limit_of, list_query, one_more};

list_query! {
    /// Which records.
    LogQuery {
        /// From this position on; 0 if absent.
        from: u64,
    }
}

/// Oldest first, as the log is checked.
pub(super) async fn list(State(app): State<App>, Query(query): Query<LogQuery>) -> Result<Answer, Refusal> {
    let limit = limit_of(query.limit)?;
    let from = cursor_of(query.cursor.as_deref())?.or(query.from).unwrap_or(0);
    let found = app.store().log_from(from, one_more(limit)).await?;
    let next = |last: &LogEntry| (last.position + 1).to_string();
    Ok(Answer::read(&cut(found, limit, next, record)))
}

fn record(logged: LogEntry) -> LogRecord {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let (salt, record) =
        logged.entry.map(|entry| (hex(&entry.salt), String::from_utf8_lossy(&entry.record).into())).unzip();
    LogRecord { log_index: logged.position, commitment: hex(logged.commitment.as_ref()), salt, record }
}
