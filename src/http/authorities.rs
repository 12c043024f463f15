//! `/v1/admin/authorities`.

use axum::extract::State;
use chancery_api::AuthorityEntry;
use chancery_identity::KeyId;

use crate::refusal::{Code, Refusal};

use super::App;
use super::answer::Answer;
use super::extract::{Query, Segment};
use super::page::{cursor_of, cut, limit_of, list_query};

list_query! {
    /// Which authorities: all.
    AuthoritiesQuery {}
}

/// The roots first.
pub(super) async fn list(State(app): State<App>, Query(query): Query<AuthoritiesQuery>) -> Result<Answer, Refusal> {
    let limit = limit_of(query.limit)?;
    let after: Option<KeyId> = cursor_of(query.cursor.as_deref())?;
    let all = app.well_known().authorities;
    let seen = after.and_then(|last| all.iter().position(|authority| authority.key_id == last)).map_or(0, |at| at + 1);
    let rest = all.into_iter().skip(seen).collect();
    Ok(Answer::read(&cut(rest, limit, |last: &AuthorityEntry| last.key_id.to_string(), |authority| authority)))
}

pub(super) async fn read(State(app): State<App>, Segment(key_id): Segment<KeyId>) -> Result<Answer, Refusal> {
    let found = app.well_known().authorities.into_iter().find(|authority| authority.key_id == key_id);
    Ok(Answer::read(&found.ok_or_else(|| Refusal::new(Code::NotFound, format!("there is no authority {key_id}")))?))
}
