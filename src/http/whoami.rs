//! `/v1/whoami`.

use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use chancery_api::{State as RecordState, Whoami};
use chancery_identity::{ScopeSet, Timestamp};

use crate::caller::Caller;
use crate::refusal::{Code, Refusal};

use super::App;
use super::answer::Answer;
use super::authorize::Holder;
use super::extract::Query;

/// The longest wait, in seconds.
const WAIT_MAX_S: u32 = 60;

/// What to wait for.
#[derive(Debug, Default, serde::Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhoamiQuery {
    /// Answer when the record's revision is above this one.
    after_revision: Option<u64>,
    /// Or after so many seconds, 60 at most.
    wait_s: Option<u32>,
}

pub(super) async fn whoami(
    State(app): State<App>,
    caller: Caller,
    holder: Option<Extension<Holder>>,
    Query(query): Query<WhoamiQuery>,
) -> Result<Answer, Refusal> {
    let wait_s = query.wait_s.unwrap_or(0);
    if wait_s > WAIT_MAX_S {
        return Err(Refusal::new(Code::BadRequest, format!("wait_s: wanted at most {WAIT_MAX_S}, got {wait_s}")));
    }
    let Some(Extension(holder)) = holder else { return Ok(Answer::read(&without_record(caller, app.now()))) };
    if let Some(after) = query.after_revision.filter(|_| wait_s > 0) {
        let mut changes = app.store().state().revision_changes(&holder.subject);
        let _place = app.limits.wait(&caller.actor)?;
        // Over or not, the answer is how things stand.
        let changed = changes.wait_for(|revision| *revision > after);
        let _ = tokio::time::timeout(Duration::from_secs(wait_s.into()), changed).await;
    }
    Ok(Answer::read(&app.issuer.whoami(&holder.peer)?))
}

/// An API token, or whoever is at the admin socket.
fn without_record(caller: Caller, now: Timestamp) -> Whoami {
    Whoami {
        caller: caller.actor,
        spiffe_id: None,
        state: RecordState::Active,
        revision: 0,
        scopes: ScopeSet::default(),
        access: caller.access,
        serial: None,
        not_after: None,
        renew_after: None,
        server_time: now,
    }
}
