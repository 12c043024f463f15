//! OCSP over HTTP (RFC 6960 appendix A, RFC 9919 §6): every answer is an OCSP response, also where there is none.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_TYPE, ETAG, EXPIRES, HeaderMap, HeaderValue, LAST_MODIFIED, RETRY_AFTER,
};
use axum::http::{HeaderName, Response, StatusCode};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use chancery_ca::OcspError;

use crate::revocation::OcspAnswer;

use super::App;
use super::extract::{BODY_LEN_MAX, BODY_TIMEOUT, collect};
use super::published::{http_date, is_unchanged};

/// How long a copy may be served unasked; what is revoked is told within this by whoever honours it, as by CRLs.
const MAX_AGE: Duration = Duration::from_secs(30);

pub(super) async fn post(State(app): State<App>, request: Request) -> Response<Body> {
    if has_query(&request) {
        return refused(&app, OcspError::MalformedRequest);
    }
    match collect(request.into_body(), BODY_LEN_MAX, BODY_TIMEOUT).await {
        Ok(body) => answered(&app, &body, &HeaderMap::new()).await,
        Err(_) => refused(&app, OcspError::MalformedRequest),
    }
}

pub(super) async fn get(State(app): State<App>, request: Request) -> Response<Body> {
    let encoded = request.uri().path().strip_prefix("/ocsp/").unwrap_or_default();
    match decode(encoded).filter(|_| !has_query(&request)) {
        Some(der) => answered(&app, &der, request.headers()).await,
        None => refused(&app, OcspError::MalformedRequest),
    }
}

/// RFC 6960 appendix A.1 puts all of a request in the path: what stands behind it was not asked for.
fn has_query(request: &Request) -> bool {
    request.uri().query().is_some_and(|query| !query.is_empty())
}

async fn answered(app: &App, request: &[u8], headers: &HeaderMap) -> Response<Body> {
    match app.ocsp().answer(request).await {
        Ok(answer) => {
            app.counts().ocsp.add("successful");
            successful(app, &answer, headers)
        }
        Err(error) => refused(app, error),
    }
}

fn successful(app: &App, answer: &Arc<OcspAnswer>, request: &HeaderMap) -> Response<Body> {
    if answer.has_nonce {
        return response(StatusCode::OK, answer.der.clone(), &[(CACHE_CONTROL, "no-store")]);
    }
    let etag: String = answer.sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    let etag = format!("\"{etag}\"");
    let modified = http_date(answer.times.this_update);
    let max_age = MAX_AGE.min(answer.times.next_update.since(app.now())).as_secs();
    let cache_control = format!("max-age={max_age}, public, no-transform, must-revalidate");
    let unchanged = is_unchanged(request, &etag, &modified);
    let (status, body) =
        if unchanged { (StatusCode::NOT_MODIFIED, Bytes::new()) } else { (StatusCode::OK, answer.der.clone()) };
    let headers = [
        (ETAG, &*etag),
        (LAST_MODIFIED, &*modified),
        (EXPIRES, &*http_date(answer.times.next_update)),
        (CACHE_CONTROL, &*cache_control),
    ];
    response(status, body, &headers)
}

/// RFC 6960 §2.3 has no HTTP statuses for these. A request for a stranger's certificate is a good one, so 200; what is to be
/// asked again says when.
fn refused(app: &App, error: OcspError) -> Response<Body> {
    let (word, status, retry_after) = match error {
        OcspError::MalformedRequest => ("malformed_request", StatusCode::BAD_REQUEST, None),
        OcspError::Unauthorized => ("unauthorized", StatusCode::OK, None),
        OcspError::InternalError => ("internal_error", StatusCode::INTERNAL_SERVER_ERROR, None),
        OcspError::TryLater => ("try_later", StatusCode::SERVICE_UNAVAILABLE, Some((RETRY_AFTER, "1"))),
    };
    app.counts().ocsp.add(word);
    let headers: Vec<_> = std::iter::once((CACHE_CONTROL, "no-store")).chain(retry_after).collect();
    response(status, Bytes::from_static(error.der()), &headers)
}

fn response(status: StatusCode, body: Bytes, headers: &[(HeaderName, &str)]) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/ocsp-response"));
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// RFC 6960 appendix A.1: base64, then URL-encoded. Not all encode `+`, `/` and `=`, and some leave the padding out.
fn decode(path: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let mut text = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        text.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                u8::try_from(digit(bytes.next())? << 4 | digit(bytes.next())?).ok()?
            }
            byte => byte,
        });
    }
    LENIENT.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_in_paths_are_read_however_they_were_encoded() {
        // 0xfb 0xff 0xff is "+///" in base64, and with one byte more there is padding.
        let wanted = Some(vec![0xfb, 0xff, 0xff, 0xff]);
        for path in ["+////w==", "%2B%2F%2F%2F%2Fw%3D%3D", "%2b%2f%2f%2f%2fw%3d%3d", "+////w", "%2B////w%3D="] {
            assert_eq!(decode(path), wanted, "{path}");
        }
        for path in ["%", "%2", "%zz", "%+1", "-___-w", "a b", "+////w===", "+////", "=", "\u{e4}"] {
            assert_eq!(decode(path).filter(|der| !der.is_empty()), None, "{path}");
        }
    }
}
