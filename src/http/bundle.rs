//! `/v1/bundle` and `/.well-known/chancery`: what every client needs first.

use axum::extract::State;

use crate::refusal::Refusal;

use super::App;
use super::answer::Answer;

pub(super) async fn read(State(app): State<App>) -> Result<Answer, Refusal> {
    Ok(Answer::read(&app.issuer.bundle()?))
}

pub(super) async fn well_known(State(app): State<App>) -> Answer {
    Answer::read(&app.issuer.well_known())
}
