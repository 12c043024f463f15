//! `/v1/feed/acks` and `/v1/admin/verifiers`.

use axum::Extension;
use axum::extract::State;
use chancery_api::{FeedAck, List, Service, VerifierView};
use chancery_identity::{Lineage, Name};

use crate::refusal::{Code, Refusal};

use super::App;
use super::answer::Answer;
use super::authorize::Holder;
use super::extract::{LongJson, Query, Segment};
use super::page::{cursor_of, limit_of, list_query};

list_query! {
    /// Which verifiers.
    VerifiersQuery {}
}

/// Whose it is, the certificate of the connection says.
pub(super) async fn acknowledge(
    State(app): State<App>,
    Extension(holder): Extension<Holder>,
    LongJson(ack): LongJson<FeedAck>,
) -> Result<Answer, Refusal> {
    let (shown, verifier) = (ack.head.clone(), holder.peer.certificate());
    let acknowledged = app.verifiers().acknowledge(verifier, ack).await;
    // A head counts by its signature, whoever shows it; one that is none says nothing of the database.
    if let Some(head) = shown
        && let Err(refusal) = app.shown(&head).await
    {
        tracing::warn!(verifier = %verifier.spiffe_id, %refusal, "a verifier shows another head");
        if refusal.code() == Code::RolledBack {
            return Err(refusal);
        }
    }
    acknowledged?;
    Ok(Answer::noted())
}

pub(super) async fn list(State(app): State<App>, Query(query): Query<VerifiersQuery>) -> Result<Answer, Refusal> {
    page(app.verifiers().list(None), query)
}

/// A service's replicas, each of which verifies on its own.
pub(super) async fn read(
    State(app): State<App>,
    Segment(service): Segment<Name>,
    Query(query): Query<VerifiersQuery>,
) -> Result<Answer, Refusal> {
    if app.store().state().record::<Service>(&service).is_none() {
        return Err(Refusal::new(Code::NotFound, format!("there is no service {service}")));
    }
    page(app.verifiers().list(Some(&service)), query)
}

/// By service, then by lineage.
fn page(mut all: Vec<VerifierView>, query: VerifiersQuery) -> Result<Answer, Refusal> {
    let limit = limit_of(query.limit)?;
    let total = query.counts().then_some(all.len() as u64);
    let after: Option<Place> = cursor_of(query.cursor.as_deref())?;
    let place = |view: &VerifierView| Place { service: view.spiffe_id.path().to_owned(), lineage: view.lineage };
    if let Some(after) = after {
        all.retain(|view| place(view) > after);
    }
    let more = all.len() > limit;
    all.truncate(limit);
    let next_cursor = all.last().filter(|_| more).map(|last| place(last).to_string());
    Ok(Answer::read(&List { data: all, next_cursor, total }))
}

/// Where a page ends.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    service: String,
    lineage: Lineage,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.lineage, self.service)
    }
}

impl std::str::FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (lineage, service) = text.split_once('.').ok_or("wanted a cursor as it was answered")?;
        let lineage = lineage.parse().map_err(|_| "wanted a cursor as it was answered")?;
        Ok(Self { service: service.to_owned(), lineage })
    }
}
