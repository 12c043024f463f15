//! What enters: bodies, queries, path segments and preconditions, each parsed once and refused with its reason.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::header::{CONTENT_TYPE, HeaderMap, IF_MATCH};
use axum::http::request::Parts;
use axum::response::IntoResponse as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::caller::Caller;
use crate::refusal::{Code, Refusal};

/// The longest body, in bytes: a chain of six certificates and a request fit many times.
pub(super) const BODY_LEN_MAX: usize = 64 * 1024;
/// The longest acknowledgement of a verifier, in bytes: 4,096 peers fit.
const LONG_BODY_LEN_MAX: usize = 512 * 1024;
/// How long a body may take to arrive.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A body in JSON. Fields that the type does not know are refused.
#[derive(Debug)]
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = axum::response::Response;

    async fn from_request(request: Request, _: &S) -> Result<Self, Self::Rejection> {
        let body = read(request, BODY_LEN_MAX).await.map_err(Refusal::into_response)?;
        parse(&body).map(Self).map_err(Refusal::into_response)
    }
}

/// As [`Json`], for what holders tell of thousands of others.
#[derive(Debug)]
pub(super) struct LongJson<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for LongJson<T> {
    type Rejection = axum::response::Response;

    async fn from_request(request: Request, _: &S) -> Result<Self, Self::Rejection> {
        let body = read(request, LONG_BODY_LEN_MAX).await.map_err(Refusal::into_response)?;
        parse(&body).map(Self).map_err(Refusal::into_response)
    }
}

/// As [`Json`], where no body at all means the defaults.
#[derive(Debug)]
pub(super) struct OptionalJson<T>(pub(super) T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalJson<T> {
    type Rejection = axum::response::Response;

    async fn from_request(mut request: Request, state: &S) -> Result<Self, Self::Rejection> {
        if !request.headers().contains_key(CONTENT_TYPE) {
            let body = std::mem::take(request.body_mut());
            let body = collect(body, BODY_LEN_MAX, BODY_TIMEOUT).await.map_err(Refusal::into_response)?;
            if body.is_empty() {
                return Ok(Self(T::default()));
            }
            *request.body_mut() = Body::from(body);
        }
        Json::from_request(request, state).await.map(|Json(body)| Self(body))
    }
}

/// A query. Parameters that the type does not know are refused.
#[derive(Debug)]
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = axum::response::Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let query = axum::extract::Query::try_from_uri(&parts.uri);
        query.map(|axum::extract::Query(query)| Self(query)).map_err(|rejection| {
            // The rejection's own text is about its type; the reason is under it.
            let reason =
                std::error::Error::source(&rejection).map_or_else(|| rejection.to_string(), ToString::to_string);
            Refusal::new(Code::BadRequest, format!("query: {reason}")).into_response()
        })
    }
}

/// The one variable segment of a path.
#[derive(Debug)]
pub(super) struct Segment<T>(pub(super) T);

impl<T: FromStr<Err: Display>, S: Send + Sync> FromRequestParts<S> for Segment<T> {
    type Rejection = axum::response::Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let malformed = |why: String| Refusal::new(Code::BadRequest, format!("path: {why}")).into_response();
        let Path(text) =
            Path::<String>::from_request_parts(parts, state).await.map_err(|e| malformed(e.to_string()))?;
        text.parse().map(Self).map_err(|error: T::Err| malformed(error.to_string()))
    }
}

/// The revision that a change starts from, if the caller names one.
#[derive(Clone, Copy, Debug)]
pub(super) struct IfMatch(pub(super) Option<u64>);

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = axum::response::Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        if_match(&parts.headers).map(Self).map_err(Refusal::into_response)
    }
}

/// The caller, as the layer before the handler found it.
impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = axum::response::Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let missing = || Refusal::new(Code::Internal, "the route has no caller").into_response();
        parts.extensions.get::<Self>().cloned().ok_or_else(missing)
    }
}

fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let Some(value) = headers.get(IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    // RFC 9110 §13.1.1: "*" asks only that the record exists.
    if text == "*" {
        return Ok(None);
    }
    let quoted = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    quoted.and_then(|revision| revision.parse().ok()).map(Some).ok_or_else(|| {
        Refusal::new(
            Code::BadRequest,
            format!("If-Match: wanted one ETag as it was answered, like \"3\", got {text:?}"),
        )
    })
}

async fn read(request: Request, len_max: usize) -> Result<Bytes, Refusal> {
    let media_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        let detail = format!("wanted a body with Content-Type: application/json, got {essence:?}");
        return Err(Refusal::new(Code::NotJson, detail));
    }
    collect(request.into_body(), len_max, BODY_TIMEOUT).await
}

pub(super) async fn collect(body: Body, len_max: usize, within: Duration) -> Result<Bytes, Refusal> {
    let collected = tokio::time::timeout(within, Limited::new(body, len_max).collect()).await;
    match collected {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Refusal::new(Code::BodyTooLarge, format!("the body may have at most {len_max} bytes")))
        }
        Ok(Err(error)) => Err(Refusal::new(Code::BadRequest, format!("the body broke off: {error}"))),
        Err(_) => Err(Refusal::new(Code::BadRequest, format!("the body did not arrive within {within:?}"))),
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    // Serde takes an array for any record, its members for the fields in their order.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(Refusal::new(Code::BadRequest, "body: wanted an object, got an array"));
    }
    serde_json::from_slice(body).map_err(|error| Refusal::new(Code::BadRequest, format!("body: {error}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use axum::http::HeaderValue;

    use super::*;

    fn revision(text: &str) -> Result<Option<u64>, Refusal> {
        if_match(&HeaderMap::from_iter([(IF_MATCH, HeaderValue::from_str(text).unwrap())]))
    }

    #[test]
    fn a_precondition_is_one_etag_of_ours() {
        assert_eq!(if_match(&HeaderMap::new()), Ok(None));
        assert_eq!(revision("*"), Ok(None));
        assert_eq!(revision("\"3\""), Ok(Some(3)));
        for bad in ["3", "W/\"3\"", "\"3\", \"4\"", "\"x\"", ""] {
            assert_eq!(revision(bad).map_err(|refusal| refusal.code()), Err(Code::BadRequest), "{bad}");
        }
    }

    async fn body_of(request: Request) -> Result<chancery_api::ResumeRequest, Option<Code>> {
        match OptionalJson::from_request(request, &()).await {
            Ok(OptionalJson(body)) => Ok(body),
            Err(response) => Err(super::super::answer::refusal_in(&response).map(Refusal::code)),
        }
    }

    fn request(content_type: Option<&str>, body: Body) -> Request {
        let builder = content_type.into_iter().fold(Request::builder(), |b, value| b.header(CONTENT_TYPE, value));
        builder.body(body).unwrap()
    }

    #[tokio::test]
    async fn bodies_are_json_known_and_small() {
        let json = Some("application/json; charset=utf-8");
        assert!(body_of(request(None, Body::empty())).await.is_ok());
        assert_eq!(body_of(request(json, r#"{"comment":"x"}"#.into())).await.unwrap().comment.as_deref(), Some("x"));
        for (content_type, body, code) in [
            (None, "{}".to_owned(), Code::NotJson),
            (Some("text/plain"), "{}".to_owned(), Code::NotJson),
            (json, String::new(), Code::BadRequest),
            (json, "{".to_owned(), Code::BadRequest),
            (json, r#"{"coment":"x"}"#.to_owned(), Code::BadRequest),
            (json, r#"{"comment":"x","comment":"y"}"#.to_owned(), Code::BadRequest),
            (json, r#"{"comment":"x"} {}"#.to_owned(), Code::BadRequest),
            (json, "[".repeat(10_000), Code::BadRequest),
            (json, " ".repeat(BODY_LEN_MAX + 1), Code::BodyTooLarge),
        ] {
            assert_eq!(body_of(request(content_type, body.into())).await, Err(Some(code)));
        }
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_given_up() {
        let never = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        let refusal = collect(never, BODY_LEN_MAX, Duration::from_millis(1)).await.unwrap_err();
        assert_eq!(refusal.code(), Code::BadRequest);
    }
}
