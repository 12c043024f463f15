//! Envoy's `ext_authz` over gRPC: `envoy.service.auth.v3.Authorization/Check`.
//!
//! Two messages, of which a dozen fields matter, do not pay for a code generator. The numbers are those of
//! `envoy/service/auth/v3/attribute_context.proto` and `external_auth.proto`.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::response::Response;
use bytes::{BufMut, BytesMut};
use chancery_api::Problem;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http_body_util::{BodyExt, Full};

use super::decide::{Asked, Decider, Leave};
use super::protobuf::{Malformed, Message, find};

/// The one method.
pub(super) const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// The most bytes of a question. The request's body is none of our business: `with_request_body` is to stay off.
const QUESTION_MAX: usize = 1 << 20;

/// CheckRequest: attributes(1), source(1), certificate(5).
const CERTIFICATE: &[u64] = &[1, 1, 5];
/// CheckRequest: attributes(1), request(4), http(2), method(2).
const METHOD: &[u64] = &[1, 4, 2, 2];
/// CheckRequest: attributes(1), request(4), http(2), path(4).
const PATH: &[u64] = &[1, 4, 2, 4];

/// The codes of gRPC, and of google.rpc.Status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    Ok = 0,
    InvalidArgument = 3,
    PermissionDenied = 7,
    Unimplemented = 12,
    Unavailable = 14,
    Unauthenticated = 16,
}

pub(super) async fn check(State(decider): State<Arc<Decider>>, headers: HeaderMap, body: Body) -> Response {
    let grpc = headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if !grpc {
        return failed(Code::Unimplemented, "this is gRPC");
    }
    let Ok(body) = to_bytes(body, QUESTION_MAX).await else {
        return failed(Code::InvalidArgument, "the question is too long, or broke off");
    };
    // The gRPC wire format: a byte that says whether it is compressed, four of length, the message.
    let question = match body.split_first_chunk::<5>() {
        Some((&[0, a, b, c, d], message)) if u32::from_be_bytes([a, b, c, d]) as usize == message.len() => message,
        Some((&[1, ..], _)) => return failed(Code::Unimplemented, "no compression was offered"),
        _ => return failed(Code::InvalidArgument, "not one gRPC message"),
    };
    match answer(&decider, question) {
        Ok(message) => succeeded(&message),
        Err(Malformed) => failed(Code::InvalidArgument, "not a CheckRequest"),
    }
}

fn answer(decider: &Decider, question: &[u8]) -> Result<Vec<u8>, Malformed> {
    let text = |way| find(question, way).and_then(|bytes| str::from_utf8(bytes).map_err(|_| Malformed));
    let certificate = text(CERTIFICATE)?;
    let asked = Asked {
        method: text(METHOD)?,
        target: text(PATH)?,
        certificate: Some(certificate).filter(|certificate| !certificate.is_empty()),
    };
    if asked.method.is_empty() || asked.target.is_empty() {
        return Err(Malformed);
    }
    Ok(match decider.decide(asked) {
        Ok(leave) => allowed(&leave),
        Err(problem) => denied(&problem),
    }
    .into_bytes())
}

/// CheckResponse: status(1), ok_response(3) with headers(2) and headers_to_remove(5).
fn allowed(leave: &Leave) -> Message {
    let mut ok = Message::default();
    for (name, value) in leave.headers() {
        // Envoy drops a header that is set to nothing and keeps the client's, so that one is removed.
        ok = if value.is_empty() { ok.bytes(5, name) } else { ok.bytes(2, header(name, value)) };
    }
    Message::default().bytes(1, status(Code::Ok)).bytes(3, ok)
}

/// CheckResponse: status(1), denied_response(2) with status(1), headers(2) and body(3).
fn denied(problem: &Problem) -> Message {
    let code = match problem.status {
        401 => Code::Unauthenticated,
        503 => Code::Unavailable,
        _ => Code::PermissionDenied,
    };
    let denied = Message::default()
        .bytes(1, Message::default().number(1, problem.status.into()))
        .bytes(2, header("content-type", Problem::CONTENT_TYPE))
        .bytes(3, serde_json::to_vec(problem).unwrap_or_default());
    Message::default().bytes(1, status(code)).bytes(2, denied)
}

/// HeaderValueOption: header(1) with key(1) and value(2), append_action(3) OVERWRITE_IF_EXISTS_OR_ADD.
fn header(name: &str, value: &str) -> Message {
    Message::default().bytes(1, Message::default().bytes(1, name).bytes(2, value)).number(3, 2)
}

/// google.rpc.Status: code(1).
fn status(code: Code) -> Message {
    Message::default().number(1, code as u64)
}

fn succeeded(message: &[u8]) -> Response {
    let mut framed = BytesMut::with_capacity(5 + message.len());
    framed.put_u8(0);
    // Some kilobytes: a leaf's scopes, or a problem document.
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(message);
    let trailers = std::future::ready(Some(Ok(trailers(Code::Ok, ""))));
    grpc(Body::new(Full::new(framed.freeze()).with_trailers(trailers)))
}

/// Trailers alone: Envoy takes it for a failure of ours, and refuses unless `failure_mode_allow` says otherwise.
fn failed(code: Code, why: &'static str) -> Response {
    let mut response = grpc(Body::empty());
    response.headers_mut().extend(trailers(code, why));
    response
}

fn trailers(code: Code, why: &'static str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(code as u16));
    if !why.is_empty() {
        trailers.insert("grpc-message", HeaderValue::from_static(why));
    }
    trailers
}

fn grpc(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}
