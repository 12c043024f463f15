//! `/v1/admin/join-tokens`.

use axum::extract::State;
use chancery_api::{JoinToken, List, NewJoinToken};
use chancery_identity::JoinTokenId;

use crate::caller::Caller;
use crate::refusal::Refusal;

use super::App;
use super::answer::Answer;
use super::extract::{Json, Query, Segment};
use super::page::{cursor_of, cut, limit_of, list_query, one_more};

list_query! {
    /// Which join tokens: all.
    JoinTokensQuery {}
}

pub(super) async fn list(State(app): State<App>, Query(query): Query<JoinTokensQuery>) -> Result<Answer, Refusal> {
    let limit = limit_of(query.limit)?;
    let found = app.store().join_tokens(cursor_of(query.cursor.as_deref())?, one_more(limit)).await?;
    let list = cut(found, limit, |token: &JoinToken| token.log_index.to_string(), |token| token);
    let total = if query.counts() { Some(app.store().count_join_tokens().await?) } else { None };
    Ok(Answer::read(&List { total, ..list }))
}

pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Json(new): Json<NewJoinToken>,
) -> Result<Answer, Refusal> {
    Ok(Answer::created(app.registry().create_join_token(new, &caller, app.now()).await?))
}

pub(super) async fn remove(
    State(app): State<App>,
    caller: Caller,
    Segment(id): Segment<JoinTokenId>,
) -> Result<Answer, Refusal> {
    Ok(Answer::removed(app.registry().delete_join_token(id, &caller).await?))
}
