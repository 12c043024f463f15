//! `/v1/feed`.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap};
use axum::response::{IntoResponse as _, Response};
use chancery_api::Subject;
use futures_util::StreamExt as _;

use crate::refusal::{Code, Refusal};
use crate::revocation::After;

use super::App;
use super::authorize::Holder;
use super::extract::Query;

/// Where to go on.
#[derive(Debug, Default, serde::Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct FeedQuery {
    /// The number that was verified last; absent: from the beginning. A header `Last-Event-ID: <epoch>.<n>` says both.
    after: Option<u64>,
    /// The epoch of that number.
    epoch: Option<u64>,
}

pub(super) async fn read(
    State(app): State<App>,
    Extension(holder): Extension<Holder>,
    headers: HeaderMap,
    Query(query): Query<FeedQuery>,
) -> Result<Response, Refusal> {
    if !matches!(holder.subject, Subject::Service(_)) {
        let detail = format!("{} is no service: the feed is for those who decide about requests", holder.subject);
        return Err(Refusal::new(Code::WrongCaller, detail));
    }
    let after = match (query.epoch, query.after) {
        (Some(epoch), Some(n)) => Some(After { epoch, n }),
        (None, Some(0)) => None,
        (None, Some(_)) => return Err(Refusal::new(Code::BadRequest, "query: after needs its epoch")),
        (_, None) => last_event_id(&headers)?,
    };
    let place = app.limits.feed(holder.peer.spiffe_id())?;
    let events = app.feed().connect(after)?;
    let told = app.verifiers().connected(holder.peer.certificate()).await?;
    let body = Body::from_stream(events.inspect(move |_| {
        // Held for as long as events are sent.
        let _ = &place;
        told.head();
    }));
    Ok(([(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")], body).into_response())
}

/// The id of the last event, as a reconnecting reader of events sends it.
fn last_event_id(headers: &HeaderMap) -> Result<Option<After>, Refusal> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(|text| {
        let (epoch, n) = text.split_once('.')?;
        Some(After { epoch: epoch.parse().ok()?, n: n.parse().ok()? })
    });
    parsed
        .map(Some)
        .ok_or_else(|| Refusal::new(Code::BadRequest, "Last-Event-ID: wanted epoch and number, like 1.1841"))
}
