//! `/v1/admin/api-tokens`.

use axum::extract::State;
use chancery_api::{ApiToken, List, NewApiToken};
use chancery_identity::TokenId;

use crate::caller::Caller;
use crate::refusal::Refusal;

use super::App;
use super::answer::Answer;
use super::extract::{Json, Query, Segment};
use super::page::{cursor_of, cut, limit_of, list_query, one_more};

list_query! {
    /// Which API tokens: all.
    ApiTokensQuery {}
}

pub(super) async fn list(State(app): State<App>, Query(query): Query<ApiTokensQuery>) -> Result<Answer, Refusal> {
    let limit = limit_of(query.limit)?;
    let found = app.store().api_tokens(cursor_of(query.cursor.as_deref())?, one_more(limit)).await?;
    let list = cut(found, limit, |token: &ApiToken| token.log_index.to_string(), |token| token);
    let total = if query.counts() { Some(app.store().count_api_tokens().await?) } else { None };
    Ok(Answer::read(&List { total, ..list }))
}

pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Json(new): Json<NewApiToken>,
) -> Result<Answer, Refusal> {
    Ok(Answer::created(app.registry().create_api_token(new, &caller, app.now()).await?))
}

pub(super) async fn remove(
    State(app): State<App>,
    caller: Caller,
    Segment(id): Segment<TokenId>,
) -> Result<Answer, Refusal> {
    Ok(Answer::removed(app.registry().delete_api_token(id, &caller).await?))
}
