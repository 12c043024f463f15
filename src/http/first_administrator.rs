//! `/v1/first-administrator`.

use axum::Extension;
use axum::extract::State;
use chancery_api::FirstAdministrator;
use chancery_identity::RequestId;

use crate::refusal::Refusal;

use super::App;
use super::answer::Answer;
use super::extract::Json;

pub(super) async fn create(
    State(app): State<App>,
    Extension(request_id): Extension<RequestId>,
    Json(request): Json<FirstAdministrator>,
) -> Result<Answer, Refusal> {
    Ok(Answer::created(app.create_first_admin(request, request_id).await?))
}
