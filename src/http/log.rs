//! `/v1/admin/log`.

use axum::extract::State;
use chancery_api::{List, LogRecord};
use chancery_identity::RequestId;

use crate::refusal::Refusal;
use crate::store::LogEntry;

use super::App;
use super::answer::Answer;
use super::extract::Query;
use super::page::{cursor_of, cut, limit_of, list_query, one_more};

list_query! {
    /// Which records.
    LogQuery {
        /// Oldest first from this position on, as the log is checked; absent: newest first.
        from: u64,
        /// Only those of this request, oldest first, on one page.
        #[param(value_type = Option<String>)]
        request_id: RequestId,
    }
}

pub(super) async fn list(State(app): State<App>, Query(query): Query<LogQuery>) -> Result<Answer, Refusal> {
    if let Some(request) = query.request_id {
        let data: Vec<_> = app.store().log_of(request).await?.into_iter().map(record).collect();
        let total = query.counts().then_some(data.len() as u64);
        return Ok(Answer::read(&List { data, next_cursor: None, total }));
    }
    let limit = limit_of(query.limit)?;
    let cursor = cursor_of(query.cursor.as_deref())?;
    let total = query.counts().then(|| app.store().state().position().log_size);
    let list = match query.from {
        Some(from) => {
            let found = app.store().log_from(cursor.unwrap_or(from), one_more(limit)).await?;
            cut(found, limit, |last: &LogEntry| (last.position + 1).to_string(), record)
        }
        None => {
            let found = app.store().log_before(cursor, None, one_more(limit)).await?;
            cut(found, limit, |last: &LogEntry| last.position.to_string(), record)
        }
    };
    Ok(Answer::read(&List { total, ..list }))
}

fn record(logged: LogEntry) -> LogRecord {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let (salt, record) =
        logged.entry.map(|entry| (hex(&entry.salt), String::from_utf8_lossy(&entry.record).into())).unzip();
    LogRecord { log_index: logged.position, commitment: hex(logged.commitment.as_ref()), salt, record }
}
