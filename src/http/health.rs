//! `/livez` and `/readyz`.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use crate::refusal::{Code, Refusal};

use super::App;

/// The process answers: nothing more is claimed.
pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// Ready is what can issue and be believed: it writes, the database answers, each authority's CRL is in its time, and OCSP
/// requests are answered for each that signed.
pub(super) async fn ready(State(app): State<App>) -> Result<Response, Refusal> {
    app.issuer.ready()?;
    let not_ready = |why: String| Refusal::new(Code::NotReady, why).after(1);
    let answered = app.store().log_from(0, 1).await;
    answered.map_err(|error| not_ready(format!("the database does not answer: {error}")))?;
    let now = app.now();
    for authority in app.well_known().authorities {
        let fresh = app.crls().of(authority.key_id).is_some_and(|crl| crl.next_update > now);
        if !fresh {
            return Err(not_ready(format!("authority {} has no CRL in its time", authority.key_id)));
        }
    }
    if let Some(key_id) = app.responders().missing() {
        return Err(not_ready(format!("nobody answers OCSP requests for authority {key_id}")));
    }
    let position = app.store().state().position();
    let warnings = app.warnings();
    let body =
        serde_json::json!({ "ready": true, "log_size": position.log_size, "n": position.n, "warnings": warnings });
    Ok(Json(body).into_response())
}
