//! `/v1/admin/services`.

use std::sync::Arc;

use axum::extract::State;
use chancery_api::{NewService, Service, ServicePatch, State as RecordState, Subject};
use chancery_identity::Name;

use crate::caller::Caller;
use crate::refusal::Refusal;
use crate::registry::missing;

use super::App;
use super::answer::Answer;
use super::extract::{IfMatch, Json, Query, Segment};
use super::page::{Page, list_query};

list_query! {
    /// Which services.
    ServicesQuery {
        /// Only those of this owner.
        #[param(value_type = Option<String>)]
        owner: Name,
        /// Only those in this state.
        state: RecordState,
    }
}

pub(super) async fn list(State(app): State<App>, Query(query): Query<ServicesQuery>) -> Result<Answer, Refusal> {
    let mut services: Vec<Arc<Service>> = app.store().state().records();
    services.retain(|service| {
        query.owner.as_ref().is_none_or(|owner| service.owner == *owner)
            && query.state.is_none_or(|state| service.state == state)
    });
    Ok(Answer::read(&Page::new(query.limit, query.cursor, query.count)?.of(services)?))
}

pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Json(new): Json<NewService>,
) -> Result<Answer, Refusal> {
    Ok(Answer::registered(app.registry().create_service(new, &caller).await?, "/v1/admin/services"))
}

pub(super) async fn read(State(app): State<App>, Segment(name): Segment<Name>) -> Result<Answer, Refusal> {
    let service = app.store().state().record::<Service>(&name);
    Ok(Answer::record(&*service.ok_or_else(|| missing(&Subject::Service(name)))?))
}

pub(super) async fn update(
    State(app): State<App>,
    caller: Caller,
    Segment(name): Segment<Name>,
    IfMatch(revision): IfMatch,
    Json(patch): Json<ServicePatch>,
) -> Result<Answer, Refusal> {
    Ok(Answer::changed(app.registry().update_service(&name, patch, revision, &caller).await?))
}
