//! Questions over HTTP: nginx' `auth_request`, and forward-auth as Caddy and Traefik ask.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{any, get, post};
use chancery_api::Problem;
use chancery_verifier::Knowledge;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{HeaderName, StatusCode};

use super::decide::{Asked, Decider, Leave, malformed};
use super::envoy;

/// nginx drops the body of a refusal; this header has the problem document for it, on one line.
const PROBLEM: HeaderName = HeaderName::from_static("chancery-problem");

/// The headers that one way of asking reads, and no others: a proxy that sets these leaves a client nothing to say.
struct Names {
    method: &'static str,
    target: &'static str,
    certificate: &'static str,
    /// How a value begins that stands for no certificate, where an empty one does not.
    nobody: Option<&'static str>,
}

const AUTH_REQUEST: Names =
    Names { method: "x-original-method", target: "x-original-uri", certificate: "client-cert", nobody: None };
const FORWARD_AUTH: Names = Names {
    method: "x-forwarded-method",
    target: "x-forwarded-uri",
    certificate: "x-forwarded-tls-client-cert",
    // Caddy leaves the name of what it has no value for.
    nobody: Some("{http.request.tls.client."),
};

/// All ways of asking.
pub(super) fn router(decider: Decider) -> Router {
    Router::new()
        .route("/auth-request", any(auth_request))
        .route("/forward-auth", any(forward_auth))
        .route(envoy::CHECK, post(envoy::check))
        .route("/readyz", get(ready))
        .with_state(Arc::new(decider))
}

/// nginx' module lets 2xx through, passes 401 and 403 on, and takes all else for a failure of ours.
async fn auth_request(State(decider): State<Arc<Decider>>, headers: HeaderMap) -> Response {
    match decide(&decider, &headers, &AUTH_REQUEST) {
        Ok(leave) => granted(&leave),
        Err(mut problem) => {
            if problem.status != 401 {
                problem.status = 403;
            }
            let document = serde_json::to_string(&problem).unwrap_or_default();
            let mut response = refused(&problem);
            if let Ok(value) = HeaderValue::try_from(document) {
                response.headers_mut().insert(PROBLEM, value);
            }
            response
        }
    }
}

async fn forward_auth(State(decider): State<Arc<Decider>>, headers: HeaderMap) -> Response {
    match decide(&decider, &headers, &FORWARD_AUTH) {
        Ok(leave) => granted(&leave),
        Err(problem) => refused(&problem),
    }
}

async fn ready(State(decider): State<Arc<Decider>>) -> (StatusCode, String) {
    let knowledge = decider.verifier().status().knowledge;
    let status = if knowledge == Knowledge::Expired { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, format!("revocations {knowledge}\n"))
}

fn decide(decider: &Decider, headers: &HeaderMap, names: &Names) -> Result<Leave, Box<Problem>> {
    let missing = |name: &str| malformed(&format!("the proxy sent no {name}"));
    decider.decide(Asked {
        method: one(headers, names.method)?.ok_or_else(|| missing(names.method))?,
        target: one(headers, names.target)?.ok_or_else(|| missing(names.target))?,
        certificate: one(headers, names.certificate)?
            .filter(|text| !names.nobody.is_some_and(|nobody| text.starts_with(nobody))),
    })
}

/// The header's only value. Of two, one may be the client's.
fn one<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Box<Problem>> {
    let mut values = headers.get_all(name).iter();
    let (first, second) = (values.next(), values.next());
    if second.is_some() {
        return Err(malformed(&format!("{name} came twice, so one of them may be the client's")));
    }
    let text = first.map(|value| value.to_str().map_err(|_| malformed(&format!("{name} is not ASCII")))).transpose()?;
    Ok(text.map(str::trim).filter(|text| !text.is_empty()))
}

fn granted(leave: &Leave) -> Response {
    let mut response = Response::new(Body::empty());
    for (name, value) in leave.headers() {
        // SPIFFE IDs and scopes are ASCII.
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn refused(problem: &Problem) -> Response {
    let mut response = Response::new(Body::from(serde_json::to_vec(problem).unwrap_or_default()));
    *response.status_mut() = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::FORBIDDEN);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(Problem::CONTENT_TYPE));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
