//! `/v1/admin/authorities`.

use axum::extract::State;
use chancery_api::{AuthorityView, ImportRequest, List, RotateRequest};
use chancery_identity::KeyId;

use crate::caller::Caller;
use crate::refusal::{Code, Refusal};

use super::App;
use super::answer::{Answer, NothingNew, RotationPlan};
use super::extract::{Json, OptionalJson, Query, Segment};
use super::page::{cursor_of, cut, limit_of, list_query};

list_query! {
    /// Which authorities: all.
    AuthoritiesQuery {}
}

/// The root first, then the issuing ones, oldest first.
pub(super) async fn list(State(app): State<App>, Query(query): Query<AuthoritiesQuery>) -> Result<Answer, Refusal> {
    let limit = limit_of(query.limit)?;
    let after: Option<KeyId> = cursor_of(query.cursor.as_deref())?;
    let all = app.authority_views()?;
    let total = query.counts().then(|| u64::try_from(all.len()).unwrap_or(u64::MAX));
    let seen = after.and_then(|last| all.iter().position(|authority| authority.key_id == last)).map_or(0, |at| at + 1);
    let rest = all.into_iter().skip(seen).collect();
    let list = cut(rest, limit, |last: &AuthorityView| last.key_id.to_string(), |authority| authority);
    Ok(Answer::read(&List { total, ..list }))
}

pub(super) async fn read(State(app): State<App>, Segment(key_id): Segment<KeyId>) -> Result<Answer, Refusal> {
    let found = app.authority_views()?.into_iter().find(|authority| authority.key_id == key_id);
    Ok(Answer::read(&found.ok_or_else(|| Refusal::new(Code::NotFound, format!("there is no authority {key_id}")))?))
}

pub(super) async fn import(
    State(app): State<App>,
    caller: Caller,
    Json(request): Json<ImportRequest>,
) -> Result<Answer, Refusal> {
    let ImportRequest { pem, dry_run } = request;
    if dry_run {
        app.would_import(&pem).await?;
        return Ok(Answer::read(&NothingNew {}));
    }
    Ok(app.import(&pem, &caller).await?.map_or_else(|| Answer::read(&NothingNew {}), Answer::created))
}

pub(super) async fn rotate(
    State(app): State<App>,
    caller: Caller,
    OptionalJson(request): OptionalJson<RotateRequest>,
) -> Result<Answer, Refusal> {
    if request.dry_run {
        return Ok(Answer::read(&RotationPlan(app.would_rotate()?)));
    }
    Ok(Answer::created(app.rotate(&caller).await?))
}
