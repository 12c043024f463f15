//! Calling services: mutual TLS, and refusals as values.

use std::sync::Arc;

use bytes::Bytes;
use chancery_api::Problem;
use chancery_api::client::{Client, ClientError};
use chancery_identity::RequestId;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};
use rustls::ClientConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;

/// A client for one service. Its connection is kept, and made anew with each new certificate.
#[derive(Debug)]
pub struct Http {
    client: Client,
}

impl Http {
    pub(crate) fn new(
        base_url: &str,
        tls: impl Fn() -> Arc<ClientConfig> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let client = Client::new(base_url, tls);
        Ok(Self { client: client.map_err(|source| Error::Service { url: base_url.to_owned(), source })? })
    }

    /// Reads what is at `path`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn get(&self, path: &str) -> Result<Reply, CallError> {
        self.call(Method::GET, path, HeaderMap::new(), Bytes::new()).await
    }

    /// Sends `body` as JSON to `path`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn post(&self, path: &str, body: &impl Serialize) -> Result<Reply, CallError> {
        let body = serde_json::to_vec(body).map_err(|error| CallError::Body(error.to_string()))?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.call(Method::POST, path, headers, body.into()).await
    }

    /// Sends any request.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call(&self, method: Method, path: &str, headers: HeaderMap, body: Bytes) -> Result<Reply, CallError> {
        let reply = self.client.call(method, path, headers, body).await?;
        if matches!(reply.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
            && let Ok(problem) = serde_json::from_slice::<Problem>(reply.body())
        {
            return Err(problem.into());
        }
        Ok(Reply(reply))
    }
}

/// What a service answered: any status but a refusal of ours.
#[derive(Clone, Debug)]
pub struct Reply(Response<Bytes>);

impl Reply {
    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.0.status()
    }

    /// The header fields.
    pub fn headers(&self) -> &HeaderMap {
        self.0.headers()
    }

    /// The body.
    pub fn bytes(&self) -> &Bytes {
        self.0.body()
    }

    /// The body as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.0.body()).into_owned()
    }

    /// The body read as JSON.
    ///
    /// # Errors
    /// It is something else.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, CallError> {
        serde_json::from_slice(self.0.body()).map_err(|error| CallError::Body(error.to_string()))
    }
}

/// Why a call has no reply.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The service's guard refused: what was needed, what is held, what to do.
    #[error("{code}: {detail}{}", advice(needs, holds, fix))]
    #[non_exhaustive]
    Refused {
        /// The kind of refusal, `scope-missing`.
        code: Box<str>,
        /// This refusal in a sentence.
        detail: Box<str>,
        /// What would have been enough.
        needs: Box<[String]>,
        /// What the certificate allows there.
        holds: Box<[String]>,
        /// What to do, and who can.
        fix: Box<[String]>,
        /// The request, as logs name it.
        request_id: Option<RequestId>,
    },
    /// No connection, no answer in time, or a server that is not a service of our trust domain.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A body that cannot be written or read as JSON.
    #[error("the body is not JSON of the form expected: {0}")]
    Body(String),
}

impl From<Problem> for CallError {
    fn from(problem: Problem) -> Self {
        let Problem { code, detail, needs, holds, fix, request_id, .. } = problem;
        Self::Refused {
            code: code.into(),
            detail: detail.into(),
            needs: needs.into(),
            holds: holds.into(),
            fix: fix.into(),
            request_id,
        }
    }
}

/// A line each, as a terminal shows it.
fn advice(needs: &[String], holds: &[String], fix: &[String]) -> String {
    let lines = |label: &'static str, items: &[String]| -> String {
        items.iter().map(|item| format!("\n  {label:<5}  {item}")).collect()
    };
    [lines("needs", needs), lines("holds", holds), lines("fix", fix)].concat()
}

#[cfg(test)]
mod tests {
    use chancery_api::Retry;

    use super::*;

    #[test]
    fn a_refusal_reads_as_what_was_needed_held_and_to_be_done() {
        let problem = Problem {
            r#type: "https://ca/problems/scope-missing".to_owned(),
            code: "scope-missing".to_owned(),
            title: String::new(),
            status: 403,
            detail: "crm needs a scope that invoice-bot does not hold".to_owned(),
            instance: None,
            needs: vec!["tools/call:crm/refund".to_owned()],
            holds: vec!["tools/call:crm/get_customer".to_owned()],
            fix: vec!["an operator: chancery agents update invoice-bot --add-scope tools/call:crm/refund".to_owned()],
            retry: Retry::No,
            request_id: None,
            log_index: None,
        };
        let error = CallError::from(problem);
        assert!(matches!(&error, CallError::Refused { needs, .. } if needs.len() == 1));
        assert_eq!(
            error.to_string(),
            "scope-missing: crm needs a scope that invoice-bot does not hold\
             \n  needs  tools/call:crm/refund\
             \n  holds  tools/call:crm/get_customer\
             \n  fix    an operator: chancery agents update invoice-bot --add-scope tools/call:crm/refund"
        );
    }
}
