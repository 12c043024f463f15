//! The HTTP client of `/v1`: one connection, kept and made anew when it breaks or when its TLS configuration changes.

mod connection;
mod error;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chancery_identity::RequestId;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use rustls::ClientConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::connection::{Connection, Lease, Peer};
pub use self::error::ClientError;
use crate::{Problem, Secret};

/// The longest answer that is read, in bytes: a CRL of a million entries fits.
const ANSWER_LEN_MAX: usize = 64 << 20;
/// The longest refusal of a stream that is read, in bytes.
const PROBLEM_LEN_MAX: usize = 64 << 10;
/// How long a request may take, unless the client is told otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Speaks HTTP/2, or 1.1 where the other side has no more, to one issuer.
///
/// Requests share a connection. It knows neither trust nor identity: both are in the [`ClientConfig`] that the caller
/// supplies, which is asked for before each request; when another one is supplied than before, a new connection is made
/// with it, and requests under way end on the old one.
pub struct Client {
    connection: Connection,
    host: HeaderValue,
    authorization: Option<HeaderValue>,
    timeout: Duration,
}

impl Client {
    /// To the issuer at `base_url`, which is `https://host` or `https://host:port`.
    ///
    /// # Errors
    /// Another form of URL, or a host that TLS cannot name.
    pub fn new(
        base_url: &str,
        tls: impl Fn() -> Arc<ClientConfig> + Send + Sync + 'static,
    ) -> Result<Self, ClientError> {
        let refused = || ClientError::Url(base_url.into());
        let uri: Uri = base_url.parse().map_err(|_| refused())?;
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(refused)?;
        if uri.scheme_str() != Some("https") || !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(refused());
        }
        let name = authority.host().trim_start_matches('[').trim_end_matches(']');
        let peer = Peer::Tls {
            server_name: name.to_owned().try_into().map_err(|_| refused())?,
            address: (name.to_owned(), authority.port_u16().unwrap_or(443)),
            config: Box::new(tls),
        };
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| refused())?;
        Ok(Self { connection: Connection::to(peer), host, authorization: None, timeout: TIMEOUT })
    }

    /// To the issuer on this host, by its admin socket. There is no TLS: the kernel says who calls.
    pub fn over_unix_socket(path: impl Into<PathBuf>) -> Self {
        Self {
            connection: Connection::to(Peer::Unix(path.into())),
            host: HeaderValue::from_static("localhost"),
            authorization: None,
            timeout: TIMEOUT,
        }
    }

    /// Shows an API token with each request.
    ///
    /// # Errors
    /// A token that no header can carry.
    pub fn with_token(mut self, token: &Secret) -> Result<Self, ClientError> {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose())).map_err(|_| ClientError::Token)?;
        value.set_sensitive(true);
        self.authorization = Some(value);
        Ok(self)
    }

    /// How long a request may take, its connection and its answer included. 30 s if not set.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Reads a record.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Answer<T>, ClientError> {
        self.send(Method::GET, path, HeaderMap::new(), Bytes::new(), self.timeout).await?.json()
    }

    /// Reads a record that the issuer may hold back for up to `wait`, which the path asks for.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get_waiting<T: DeserializeOwned>(&self, path: &str, wait: Duration) -> Result<Answer<T>, ClientError> {
        self.send(Method::GET, path, HeaderMap::new(), Bytes::new(), self.timeout + wait).await?.json()
    }

    /// Sends a request for something new.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<Answer<T>, ClientError> {
        let (headers, body) = json(body)?;
        self.send(Method::POST, path, headers, body, self.timeout).await?.json()
    }

    /// Sends changes to a record; with `revision`, only if that is still its newest.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn patch<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        revision: Option<u64>,
    ) -> Result<Answer<T>, ClientError> {
        let (mut headers, body) = json(body)?;
        if let Some(revision) = revision {
            let tag = HeaderValue::from_str(&format!("\"{revision}\"")).map_err(|_| ClientError::Header)?;
            headers.insert(IF_MATCH, tag);
        }
        self.send(Method::PATCH, path, headers, body, self.timeout).await?.json()
    }

    /// Removes a record.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delete(&self, path: &str) -> Result<(), ClientError> {
        self.send(Method::DELETE, path, HeaderMap::new(), Bytes::new(), self.timeout).await.map(drop)
    }

    /// Tells something that needs no answer but that it was heard.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn tell(&self, path: &str, body: &impl Serialize) -> Result<(), ClientError> {
        let (headers, body) = json(body)?;
        self.send(Method::POST, path, headers, body, self.timeout).await.map(drop)
    }

    /// Opens a stream that the issuer adds to for as long as it likes. The client's timeout is for its beginning alone.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn stream(&self, path: &str) -> Result<Stream, ClientError> {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("text/event-stream"))]);
        let request = self.request(Method::GET, path, headers, Bytes::new())?;
        let timeout = self.timeout;
        let opening = async {
            let (response, lease) = self.connection.send(request, &self.host).await?;
            let status = response.status();
            if status.is_success() {
                return Ok(Stream { body: response.into_body(), _lease: lease });
            }
            let body = Limited::new(response.into_body(), PROBLEM_LEN_MAX).collect().await;
            Err(refused(status, &body.map(|body| body.to_bytes()).unwrap_or_default()))
        };
        tokio::time::timeout(timeout, opening).await.map_err(|_| ClientError::Timeout(timeout))?
    }

    /// Fetches a file, unless it is still the one that `etag` came with.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn fetch(&self, path: &str, etag: Option<&str>) -> Result<Fetched, ClientError> {
        let mut headers = HeaderMap::new();
        if let Some(etag) = etag {
            headers.insert(IF_NONE_MATCH, HeaderValue::from_str(etag).map_err(|_| ClientError::Header)?);
        }
        let answer = self.send(Method::GET, path, headers, Bytes::new(), self.timeout).await?;
        Ok(match answer.status {
            StatusCode::NOT_MODIFIED => Fetched::Unchanged,
            _ => Fetched::Changed { etag: answer.etag, contents: answer.body },
        })
    }

    /// Sends any request, as to a service that is no issuer. Every status is an answer, refusals too.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Bytes>, ClientError> {
        let request = self.request(method, path, headers, body)?;
        let timeout = self.timeout;
        tokio::time::timeout(timeout, self.answered(request)).await.map_err(|_| ClientError::Timeout(timeout))?
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Answer<Bytes>, ClientError> {
        let request = self.request(method, path, headers, body)?;
        tokio::time::timeout(timeout, self.exchange(request)).await.map_err(|_| ClientError::Timeout(timeout))?
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|_| ClientError::Url(path.into()))?;
        *request.headers_mut() = headers;
        request.headers_mut().entry(ACCEPT).or_insert(HeaderValue::from_static("application/json, */*"));
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        Ok(request)
    }

    /// The answer whole, whatever its status.
    async fn answered(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, ClientError> {
        let (response, lease) = self.connection.send(request, &self.host).await?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_LEN_MAX).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() { ClientError::TooLong } else { ClientError::Broken(error.to_string()) }
        })?;
        self.connection.give_back(lease).await;
        Ok(Response::from_parts(head, body.to_bytes()))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer<Bytes>, ClientError> {
        let (head, body) = self.answered(request).await?.into_parts();
        let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        let answer = Answer {
            status: head.status,
            etag: header(ETAG.as_str()).map(str::to_owned),
            request_id: header("request-id").and_then(|id| id.parse().ok()),
            body,
        };
        if head.status.is_success() || head.status == StatusCode::NOT_MODIFIED {
            return Ok(answer);
        }
        Err(refused(head.status, &answer.body))
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("host", &self.host).finish_non_exhaustive()
    }
}

/// An answer that is still being made.
#[derive(Debug)]
pub struct Stream {
    body: Incoming,
    /// The connection is in use until the stream is dropped.
    _lease: Lease,
}

impl Stream {
    /// The next bytes; `None` when the issuer has ended it.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|error| ClientError::Broken(error.to_string()))?;
            // What is no data are trailers.
            if let Ok(bytes) = frame.into_data() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }
}

/// An answer that is no refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer<T> {
    /// The HTTP status: 200, 201, 202, 204 or 304.
    pub status: StatusCode,
    /// The `ETag`, quotes included.
    pub etag: Option<String>,
    /// The request, as the issuer's log names it.
    pub request_id: Option<RequestId>,
    /// What was asked for.
    pub body: T,
}

impl Answer<Bytes> {
    fn json<T: DeserializeOwned>(self) -> Result<Answer<T>, ClientError> {
        let Self { status, etag, request_id, body } = self;
        // A 204 has no body: whoever expects nothing gets it.
        let body = if body.is_empty() { b"null" } else { &body[..] };
        let body = serde_json::from_slice(body).map_err(|error| ClientError::Json(error.to_string()))?;
        Ok(Answer { status, etag, request_id, body })
    }
}

/// A file, if it changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a file has changed or it has not")]
pub enum Fetched {
    /// It is what the given `ETag` came with.
    Unchanged,
    /// It is another.
    Changed {
        /// To be given next time.
        etag: Option<String>,
        /// The file.
        contents: Bytes,
    },
}

/// A path with its query; values are percent-encoded where they must be.
pub fn with_query<'a>(path: &str, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut target = path.to_owned();
    for (index, (name, value)) in pairs.into_iter().enumerate() {
        target.push(if index == 0 { '?' } else { '&' });
        target.push_str(name);
        target.push('=');
        for byte in value.bytes() {
            // RFC 3986 §2.3: unreserved characters stand for themselves.
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => target.push(byte.into()),
                _ => target.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    target
}

/// Whatever stands between us and the issuer may answer in another form than a problem.
fn refused(status: StatusCode, body: &[u8]) -> ClientError {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => ClientError::Refused(Box::new(problem)),
        Err(_) => ClientError::Status(status),
    }
}

fn json(body: &impl Serialize) -> Result<(HeaderMap, Bytes), ClientError> {
    let body = serde_json::to_vec(body).map_err(|error| ClientError::Json(error.to_string()))?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok((headers, body.into()))
}

#[cfg(test)]
mod tests;
