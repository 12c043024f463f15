//! `/v1/admin/admins`.

use std::sync::Arc;

use axum::extract::State;
use chancery_api::{Admin, AdminPatch, NewAdmin, State as RecordState, Subject};
use chancery_identity::Name;

use crate::caller::Caller;
use crate::refusal::Refusal;
use crate::registry::missing;

use super::App;
use super::answer::Answer;
use super::extract::{IfMatch, Json, Query, Segment};
use super::page::{Page, list_query};

list_query! {
    /// Which administrators.
    AdminsQuery {
        /// Only those in this state.
        state: RecordState,
    }
}

pub(super) async fn list(State(app): State<App>, Query(query): Query<AdminsQuery>) -> Result<Answer, Refusal> {
    let mut admins: Vec<Arc<Admin>> = app.store().state().records();
    admins.retain(|admin| query.state.is_none_or(|state| admin.state == state));
    Ok(Answer::read(&Page::new(query.limit, query.cursor, query.count)?.of(admins)?))
}

pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Json(new): Json<NewAdmin>,
) -> Result<Answer, Refusal> {
    Ok(Answer::registered(app.registry().create_admin(new, &caller).await?, "/v1/admin/admins"))
}

pub(super) async fn read(State(app): State<App>, Segment(name): Segment<Name>) -> Result<Answer, Refusal> {
    let admin = app.store().state().record::<Admin>(&name);
    Ok(Answer::record(&*admin.ok_or_else(|| missing(&Subject::Admin(name)))?))
}

pub(super) async fn update(
    State(app): State<App>,
    caller: Caller,
    Segment(name): Segment<Name>,
    IfMatch(revision): IfMatch,
    Json(patch): Json<AdminPatch>,
) -> Result<Answer, Refusal> {
    Ok(Answer::changed(app.registry().update_admin(&name, patch, revision, &caller).await?))
}
