//! `/v1/attest` and renewal: where certificates come from.

use axum::Extension;
use axum::extract::State;
use chancery_api::{AttestRequest, RenewRequest};
use chancery_identity::RequestId;

use crate::caller::Origin;
use crate::refusal::Refusal;

use super::App;
use super::answer::Answer;
use super::authorize::{Holder, address};
use super::extract::{Json, OptionalJson};

/// A challenge is asked for with an empty object, or with nothing.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// Stateless: nothing is kept of a nonce until it is redeemed.
pub(super) async fn challenge(
    State(app): State<App>,
    OptionalJson(Nothing {}): OptionalJson<Nothing>,
) -> Result<Answer, Refusal> {
    Ok(Answer::read(&app.challenge()?))
}

pub(super) async fn attest(
    State(app): State<App>,
    Extension(origin): Extension<Origin>,
    Extension(request_id): Extension<RequestId>,
    Json(request): Json<AttestRequest>,
) -> Result<Answer, Refusal> {
    Ok(Answer::issued(app.issuer.attest(request, address(&origin), request_id).await?))
}

pub(super) async fn renew(
    State(app): State<App>,
    Extension(holder): Extension<Holder>,
    Extension(request_id): Extension<RequestId>,
    Json(request): Json<RenewRequest>,
) -> Result<Answer, Refusal> {
    Ok(Answer::issued(app.issuer.renew(&holder.peer, request, request_id).await?))
}
