//! CRLs and authority certificates: files, on both listeners.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use axum::http::{Response, StatusCode};
use bytes::Bytes;
use chancery_api::AuthorityKind;
use chancery_ca::{AuthorityCertificate, CrlNumber};
use chancery_identity::{KeyId, Timestamp};

use crate::caller::Origin;
use crate::refusal::{Code, Refusal};
use crate::revocation::PublishedCrl;

use super::App;
use super::extract::Segment;

/// How long a copy may be served unasked.
const MAX_AGE: Duration = Duration::from_secs(30);

pub(super) async fn crl(
    State(app): State<App>,
    Extension(origin): Extension<Origin>,
    Segment(file): Segment<String>,
    headers: HeaderMap,
) -> Result<Response<Body>, Refusal> {
    let authority = key_id(&file, ".crl").ok_or_else(|| none(&file))?;
    let published = app.crls().of(authority).ok_or_else(|| none(&file))?;
    if let Origin::Tls { peer: Some(peer), .. } = &origin
        && app.admit(peer).is_ok()
        && app.store().state().authority(authority).is_some_and(|it| it.kind == AuthorityKind::Issuing)
    {
        let holds = |number: CrlNumber| tags(&headers).any(|tag| tag == format!("\"{number}\""));
        app.verifiers().polled(peer.certificate(), authority, &published, holds).await;
    }
    let file = File {
        media_type: "application/pkix-crl",
        etag: format!("\"{}\"", published.number),
        modified_at: published.this_update,
        max_age: MAX_AGE.min(published.next_update.since(app.now())),
        contents: Bytes::from_owner(Der(published)),
    };
    Ok(file.answer(&headers))
}

pub(super) async fn certificate(
    State(app): State<App>,
    Segment(file): Segment<String>,
    headers: HeaderMap,
) -> Result<Response<Body>, Refusal> {
    let key_id = key_id(&file, ".crt").ok_or_else(|| none(&file))?;
    let authority = app.store().state().authority(key_id).ok_or_else(|| none(&file))?;
    let certificate = AuthorityCertificate::read(authority.certificate.clone());
    let certificate = certificate.map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
    let file = File {
        media_type: "application/pkix-cert",
        etag: format!("\"{key_id}\""),
        modified_at: certificate.not_before(),
        max_age: MAX_AGE,
        contents: Bytes::from(authority.certificate.clone()),
    };
    Ok(file.answer(&headers))
}

/// The CRL's bytes, not copied for each answer: they can be many.
struct Der(Arc<PublishedCrl>);

impl AsRef<[u8]> for Der {
    fn as_ref(&self) -> &[u8] {
        &self.0.der
    }
}

struct File {
    media_type: &'static str,
    etag: String,
    modified_at: Timestamp,
    max_age: Duration,
    contents: Bytes,
}

impl File {
    fn answer(self, request: &HeaderMap) -> Response<Body> {
        let modified = http_date(self.modified_at);
        let unchanged = is_unchanged(request, &self.etag, &modified);
        let mut response = Response::new(if unchanged { Body::empty() } else { self.contents.into() });
        if unchanged {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let max_age = format!("max-age={}", self.max_age.as_secs());
        // RFC 9110 §15.4.5: what a 200 would have said of the copy, a 304 says too.
        for (name, value) in [(ETAG, self.etag), (LAST_MODIFIED, modified), (CACHE_CONTROL, max_age)] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(self.media_type));
        response
    }
}

/// RFC 9110 §13.2.2: If-Modified-Since counts only without If-None-Match.
pub(super) fn is_unchanged(request: &HeaderMap, etag: &str, modified: &str) -> bool {
    if request.contains_key(IF_NONE_MATCH) {
        return tags(request).any(|tag| tag == "*" || tag == etag);
    }
    // Only the time that was told: a clock that went back must not hide a newer CRL.
    request.get(IF_MODIFIED_SINCE).is_some_and(|since| since == modified)
}

/// The tags of copies that the caller has.
fn tags(request: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = request.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    // RFC 9110 §13.1.2: the comparison is the weak one.
    values.flat_map(|value| value.split(',')).map(str::trim).map(|tag| tag.strip_prefix("W/").unwrap_or(tag))
}

fn key_id(file: &str, extension: &str) -> Option<KeyId> {
    file.strip_suffix(extension)?.parse().ok()
}

fn none(file: &str) -> Refusal {
    Refusal::new(
        Code::NotFound,
        format!("there is no file {file:?}; .well-known/chancery on the API lists what there is"),
    )
}

/// IMF-fixdate of RFC 9110 §5.6.7.
pub(super) fn http_date(at: Timestamp) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let civil = at.civil();
    let pick = |names: &[&'static str], index: i64| {
        usize::try_from(index).ok().and_then(|index| names.get(index).copied()).unwrap_or_default()
    };
    let day = pick(&DAYS, at.unix_seconds().div_euclid(86_400).rem_euclid(7));
    let month = pick(&MONTHS, civil.month - 1);
    let (number, year) = (civil.day, civil.year);
    format!("{day}, {number:02} {month} {year:04} {:02}:{:02}:{:02} GMT", civil.hour, civil.minute, civil.second)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    fn request(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn dates_are_those_of_http() {
        assert_eq!(http_date(Timestamp::from_unix_seconds(784_111_777)), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(http_date(Timestamp::from_unix_seconds(0)), "Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn a_copy_is_good_by_its_tag_first_and_by_its_date_only_without_one() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let unchanged = |headers: &HeaderMap| is_unchanged(headers, "\"7\"", date);
        for tags in ["\"7\"", "W/\"7\"", "\"6\", \"7\"", "*"] {
            assert!(unchanged(&request(IF_NONE_MATCH, tags)), "{tags}");
        }
        assert!(!unchanged(&request(IF_NONE_MATCH, "\"6\"")));
        assert!(unchanged(&request(IF_MODIFIED_SINCE, date)));
        assert!(!unchanged(&request(IF_MODIFIED_SINCE, "Sun, 06 Nov 2094 08:49:37 GMT")));
        let mut both = request(IF_NONE_MATCH, "\"6\"");
        both.insert(IF_MODIFIED_SINCE, HeaderValue::from_static(date));
        assert!(!unchanged(&both));
        assert!(!unchanged(&HeaderMap::new()));
    }
}
