//! `/v1/admin/revocations`, and a holder's own.

use axum::Extension;
use axum::extract::State;
use chancery_api::{
    Access, List, ResumeRequest, RevocationState, RevocationView, RevocationsRequest, RevokeOwnRequest,
};
use chancery_identity::{RevocationId, Serial, Target};

use crate::caller::Caller;
use crate::refusal::Refusal;
use crate::store::RevocationQuery;

use super::App;
use super::answer::{Answer, DryRun};
use super::authorize::Holder;
use super::extract::{Json, OptionalJson, Query, Segment};
use super::page::{cursor_of, cut, limit_of, list_query, one_more};

list_query! {
    /// Which entries.
    RevocationsQuery {
        /// Only those that name exactly this.
        #[param(value_type = Option<String>)]
        target: Target,
        /// Only those that stand so.
        state: RevocationState,
    }
}

pub(super) async fn list(State(app): State<App>, Query(query): Query<RevocationsQuery>) -> Result<Answer, Refusal> {
    let limit = limit_of(query.limit)?;
    let before = cursor_of(query.cursor.as_deref())?;
    let counts = query.counts();
    let search = RevocationQuery { target: query.target, state: query.state, before };
    let found = app.store().revocations(&search, one_more(limit)).await?;
    let list = cut(found, limit, |entry: &RevocationView| entry.n.to_string(), |entry| entry);
    let total = if counts { Some(app.store().count_revocations(&search).await?) } else { None };
    Ok(Answer::read(&List { total, ..list }))
}

/// How long to wait for all to confirm.
#[derive(Debug, Default, serde::Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StandingQuery {
    /// Answer when every verifier confirmed it, or after so many seconds, 30 at most.
    wait_s: Option<u32>,
}

pub(super) async fn read(
    State(app): State<App>,
    caller: Caller,
    Segment(id): Segment<RevocationId>,
    Query(query): Query<StandingQuery>,
) -> Result<Answer, Refusal> {
    let wait_s = query.wait_s.unwrap_or(0);
    let place = if wait_s > 0 { app.limits.wait(&caller.actor).ok() } else { None };
    Ok(Answer::read(&app.revocations().standing(id, wait_s, place).await?))
}

/// Whoever may look may also ask what would happen; to do it takes more.
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Json(request): Json<RevocationsRequest>,
) -> Result<Answer, Refusal> {
    if request.dry_run {
        return Ok(Answer::read(&DryRun::new(app.revocations().dry_run(request, &caller).await?)));
    }
    caller.require(Access::Revoker)?;
    // Waits are shed first; what must stop is stopped all the same.
    let place = if request.wait_s > 0 { app.limits.wait(&caller.actor).ok() } else { None };
    let stopped = app.revocations().revoke(request, &caller, place).await?;
    Ok(if stopped.entered { Answer::created(stopped.answer) } else { Answer::committed(stopped.answer) })
}

pub(super) async fn resume(
    State(app): State<App>,
    caller: Caller,
    Segment(id): Segment<RevocationId>,
    OptionalJson(request): OptionalJson<ResumeRequest>,
) -> Result<Answer, Refusal> {
    Ok(Answer::created(app.revocations().resume(id, request, &caller).await?))
}

pub(super) async fn revoke_own(
    State(app): State<App>,
    caller: Caller,
    Extension(holder): Extension<Holder>,
    Segment(serial): Segment<Serial>,
    OptionalJson(request): OptionalJson<RevokeOwnRequest>,
) -> Result<Answer, Refusal> {
    let own = holder.peer.certificate();
    Ok(Answer::created(app.revocations().revoke_own(own, serial, request, &caller).await?))
}
