//! `/v1/feed`.

use std::pin::pin;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use chancery_api::Subject;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendTimeoutError;

use crate::refusal::{Code, Refusal};
use crate::revocation::{After, Told};
use crate::store::DbError;

use super::App;
use super::authorize::Holder;
use super::extract::Query;

/// A consumer that takes nothing for so long while something waits for it is shed: a head comes each second.
const TAKEN_WITHIN: Duration = Duration::from_secs(5);

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
    let (sender, taken) = mpsc::channel(1);
    tokio::spawn(async move {
        hand_over(events, sender, &told).await;
        drop(place);
    });
    let taken = futures_util::stream::unfold(taken, async |mut taken| Some((taken.recv().await?, taken)));
    Ok(([(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")], Body::from_stream(taken)).into_response())
}

/// Hands events over until their reader is gone, or takes none of them. It is not the reader's connection that asks for
/// them: over HTTP/2 that goes on while one of its streams stands still.
async fn hand_over(
    events: impl Stream<Item = Result<Bytes, DbError>>,
    reader: mpsc::Sender<Result<Bytes, DbError>>,
    told: &Told,
) {
    let mut events = pin!(events);
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = reader.closed() => return,
        };
        let Some(event) = event else { return };
        match reader.send_timeout(event, TAKEN_WITHIN).await {
            Ok(()) => told.head(),
            Err(SendTimeoutError::Closed(_)) => return,
            Err(SendTimeoutError::Timeout(_)) => {
                tracing::warn!("a consumer of the feed takes nothing for {TAKEN_WITHIN:?}, and is shed");
                return;
            }
        }
    }
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
