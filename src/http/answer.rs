//! What leaves: answers from what is committed or may be read, and refusals.

use std::sync::Arc;

use axum::http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE,
};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use bytes::Bytes;
use chancery_api::{
    Admin, Agent, ApiToken, AuthorityView, Bundle, CertificateView, Challenge, Instance, JoinToken, List, LogRecord,
    Problem, RevocationStanding, RevocationView, RevocationsAnswer, Rotation, Service, SystemEntry, VerifierView,
    WellKnown, Whoami,
};
use chancery_identity::RequestId;
use serde::Serialize;

use crate::config::Config;
use crate::issuance::Outcome;
use crate::refusal::{Code, Refusal};
use crate::registry::Registration;
use crate::store::{Committed, Registered};

/// An answer that is no refusal. What decides something can only be answered from its commit: for those types there is
/// no other way to make one.
#[derive(Debug)]
pub(super) struct Answer(Response<axum::body::Body>);

impl Answer {
    /// What anybody with the access may read.
    pub(super) fn read<T: Readable>(body: &T) -> Self {
        Self::json(StatusCode::OK, body)
    }

    /// What came of a decision: 200.
    pub(super) fn committed<T: Serialize>(committed: Committed<T>) -> Self {
        Self::json(StatusCode::OK, committed.reply())
    }

    /// Something new that came of a decision: 201.
    pub(super) fn created<T: Serialize>(committed: Committed<T>) -> Self {
        Self::json(StatusCode::CREATED, committed.reply())
    }

    /// A certificate: 201, or 200 with the one that was there.
    pub(super) fn issued(committed: Committed<Outcome>) -> Self {
        let replayed = committed.reply().replayed;
        let issued = committed.map(|outcome| outcome.issued);
        if replayed { Self::committed(issued) } else { Self::created(issued) }
    }

    /// Something was removed: 204.
    pub(super) fn removed<T>(_committed: Committed<T>) -> Self {
        Self(StatusCode::NO_CONTENT.into_response())
    }

    /// Taken note of: 204.
    pub(super) fn noted() -> Self {
        Self(StatusCode::NO_CONTENT.into_response())
    }

    /// A record, whose revision is its `ETag`.
    pub(super) fn record<R: Registered + Readable>(record: &R) -> Self {
        Self::read(record).tagged(record.revision())
    }

    /// A record as it is after a change.
    pub(super) fn changed<R: Registered>(committed: Committed<R>) -> Self {
        let revision = committed.reply().revision();
        Self::committed(committed).tagged(revision)
    }

    /// 201 with a new record, or 200 with the equal one that was there.
    pub(super) fn registered<R: Registered + Readable>(registration: Registration<R>, path: &str) -> Self {
        match registration {
            Registration::Existing(record) => Self::record(&*Arc::clone(&record)),
            Registration::Created(committed) => {
                let revision = committed.reply().revision();
                let location = format!("{path}/{}", committed.reply().name());
                let mut answer = Self::created(committed).tagged(revision);
                // A name has no character that a header could not carry.
                if let Ok(location) = HeaderValue::from_str(&location) {
                    answer.0.headers_mut().insert(LOCATION, location);
                }
                answer
            }
        }
    }

    fn json(status: StatusCode, body: &impl Serialize) -> Self {
        match serde_json::to_vec(body) {
            // Answers are of the moment, and some hold a secret.
            Ok(body) => {
                let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
                Self((status, headers, Bytes::from(body)).into_response())
            }
            Err(error) => Self(Refusal::new(Code::Internal, error.to_string()).into_response()),
        }
    }

    fn tagged(mut self, revision: u64) -> Self {
        if let Ok(tag) = HeaderValue::from_str(&format!("\"{revision}\"")) {
            self.0.headers_mut().insert(ETAG, tag);
        }
        self
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> axum::response::Response {
        self.0
    }
}

/// What may be answered without a decision. `Issued` is not among them, nor is an answer to a revocation.
pub(super) trait Readable: Serialize {}

macro_rules! readable {
    ($($type:ty),+ $(,)?) => {$(impl Readable for $type {})+};
}

readable!(
    Admin,
    Agent,
    ApiToken,
    AuthorityView,
    Bundle,
    CertificateView,
    Challenge,
    DryRun,
    Instance,
    JoinToken,
    LogRecord,
    NothingNew,
    RevocationStanding,
    RevocationView,
    RotationPlan,
    Service,
    SystemEntry,
    VerifierView,
    WellKnown,
    Whoami,
);

impl<T: Readable> Readable for List<T> {}

/// What a revocation would do; it has no entries.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct DryRun(RevocationsAnswer);

impl DryRun {
    /// Without the entries, whatever came.
    pub(super) fn new(answer: RevocationsAnswer) -> Self {
        Self(RevocationsAnswer { revocations: Vec::new(), applied: None, published: None, ..answer })
    }
}

/// An import that brought nothing new, or was only asked about.
#[derive(Debug, Serialize)]
pub(super) struct NothingNew {}

/// What a rotation would do; there is no successor yet.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct RotationPlan(pub(super) Rotation);

/// A refusal waits in the response until the outermost layer, which knows the request, renders it.
impl IntoResponse for Refusal {
    fn into_response(self) -> axum::response::Response {
        let status = StatusCode::from_u16(self.code().status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        response.extensions_mut().insert(Waiting(self));
        response
    }
}

#[derive(Clone)]
struct Waiting(Refusal);

/// The refusal that waits in a response.
pub(super) fn refusal_in(response: &axum::response::Response) -> Option<&Refusal> {
    response.extensions().get::<Waiting>().map(|waiting| &waiting.0)
}

/// Renders the refusal that waits in a response, if one does. Headers of the response stay.
pub(super) fn render(
    mut response: axum::response::Response,
    config: &Config,
    path: &str,
    request_id: RequestId,
) -> axum::response::Response {
    let Some(Waiting(refusal)) = response.extensions_mut().remove::<Waiting>() else { return response };
    let retry_after = refusal.retry_after_s();
    let problem = refusal.into_problem(&config.public_url.to_string(), Some(path.to_owned()), Some(request_id));
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let (mut head, _) = response.into_parts();
    head.headers.remove(CONTENT_LENGTH);
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static(Problem::CONTENT_TYPE));
    if head.status == StatusCode::UNAUTHORIZED {
        // RFC 9110 §15.5.2: a 401 MUST name a challenge. A certificate, the other way in, has none of its own.
        head.headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"chancery\""));
    }
    if let Some(seconds) = retry_after {
        head.headers.insert(RETRY_AFTER, seconds.into());
    }
    axum::response::Response::from_parts(head, body.into())
}
