//! The outermost layer: every request gets its id, every refusal its document, every panic an answer.

use std::panic::AssertUnwindSafe;

use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use chancery_identity::RequestId;
use futures_util::FutureExt as _;

use crate::refusal::{Code, Refusal};

use super::App;
use super::answer::{refusal_in, render};

/// Around every route and around what is no route.
pub(super) async fn identify(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let request_id = match app.request_id() {
        Ok(request_id) => request_id,
        Err(refusal) => return render(refusal.into_response(), app.config(), "", RequestId::from_bytes([0; 16])),
    };
    request.extensions_mut().insert(request_id);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let response = answered.unwrap_or_else(|_| {
        tracing::error!(%request_id, %method, path, "a handler panicked");
        Refusal::new(Code::Internal, "the issuer failed; its own log tells more under the request id").into_response()
    });
    if let Some(refusal) = refusal_in(&response) {
        app.counts().refused.add(refusal.code().as_str());
        if refusal.code().status() < 500 {
            tracing::info!(%request_id, %method, path, code = %refusal.code(), "refused");
        } else {
            tracing::warn!(%request_id, %method, path, code = %refusal.code(), detail = refusal.detail(), "refused");
        }
    } else {
        tracing::debug!(%request_id, %method, path, status = response.status().as_u16(), "answered");
    }
    let mut response = render(response, app.config(), &path, request_id);
    if let Ok(value) = HeaderValue::from_str(&request_id.to_string()) {
        response.headers_mut().insert("request-id", value);
    }
    response
}
