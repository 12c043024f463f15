//! One connection at a time to one peer.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::rt::{Read, Write};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{AlertDescription, ClientConfig};
use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

use super::ClientError;

/// A silent connection is asked whether it lives, so that a long wait does not hang on a dead one.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Whom to connect to.
pub(super) enum Peer {
    /// Over TCP and TLS.
    Tls {
        server_name: ServerName<'static>,
        address: (String, u16),
        config: Box<dyn Fn() -> Arc<ClientConfig> + Send + Sync>,
    },
    /// A socket in the file system.
    Unix(PathBuf),
}

/// The connection that requests share.
pub(super) struct Connection {
    peer: Peer,
    /// Held while connecting, so that requests that come together make one connection.
    open: Mutex<Option<Open>>,
}

struct Open {
    sender: Sender,
    config: Option<Arc<ClientConfig>>,
}

enum Sender {
    /// Carries one request at a time: taken out while it does.
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// An HTTP/1.1 connection that is in use until its answer has been read.
pub(super) struct Lease(Option<Open>);

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lease")
    }
}

impl Connection {
    pub(super) fn to(peer: Peer) -> Self {
        Self { peer, open: Mutex::new(None) }
    }

    /// Sends a request whose URI is a path. One that a dying connection did not take is sent once more on a new one.
    pub(super) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        host: &HeaderValue,
    ) -> Result<(Response<Incoming>, Lease), ClientError> {
        let request = match self.attempt(request, host).await {
            Ok(answered) => return Ok(answered),
            Err(Failed::Unsent(request, _)) => *request,
            Err(Failed::For(error)) => return Err(error),
        };
        match self.attempt(request, host).await {
            Ok(answered) => Ok(answered),
            Err(Failed::Unsent(_, error) | Failed::For(error)) => Err(error),
        }
    }

    /// Lets the next request have the connection.
    pub(super) async fn give_back(&self, lease: Lease) {
        if let Some(open) = lease.0 {
            self.open.lock().await.get_or_insert(open);
        }
    }

    async fn attempt(
        &self,
        mut request: Request<Full<Bytes>>,
        host: &HeaderValue,
    ) -> Result<(Response<Incoming>, Lease), Failed> {
        let mut open = self.acquire().await.map_err(Failed::For)?;
        match &mut open.sender {
            Sender::Http1(sender) => {
                // RFC 9112 §3.2: a client MUST send a Host header field.
                request.headers_mut().insert(HOST, host.clone());
                let sent = match sender.ready().await {
                    Ok(()) => sender.try_send_request(request).await.map_err(Failed::from),
                    Err(error) => Err(Failed::Unsent(Box::new(request), broken(&error))),
                };
                Ok((sent?, Lease(Some(open))))
            }
            Sender::Http2(sender) => {
                request.headers_mut().remove(HOST);
                // RFC 9113 §8.3.1: scheme and authority are pseudo-header fields.
                let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
                let authority = host.to_str().unwrap_or_default();
                let uri = Uri::builder().scheme("https").authority(authority).path_and_query(path).build();
                *request.uri_mut() = uri.map_err(|error| Failed::For(ClientError::Url(error.to_string())))?;
                let sent = match sender.ready().await {
                    Ok(()) => sender.try_send_request(request).await.map_err(Failed::from),
                    Err(error) => Err(Failed::Unsent(Box::new(request), broken(&error))),
                };
                Ok((sent?, Lease(None)))
            }
        }
    }

    /// The open connection, if it lives and was made with the configuration of now; else a new one.
    async fn acquire(&self) -> Result<Open, ClientError> {
        let config = match &self.peer {
            Peer::Tls { config, .. } => Some(config()),
            Peer::Unix(_) => None,
        };
        let mut slot = self.open.lock().await;
        if let Some(open) = slot.take() {
            let same_config = match (&open.config, &config) {
                (Some(before), Some(now)) => Arc::ptr_eq(before, now),
                (before, now) => before.is_none() && now.is_none(),
            };
            match open.sender {
                Sender::Http1(sender) if same_config && !sender.is_closed() => {
                    return Ok(Open { sender: Sender::Http1(sender), config });
                }
                Sender::Http2(sender) if same_config && !sender.is_closed() => {
                    *slot = Some(Open { sender: Sender::Http2(sender.clone()), config: config.clone() });
                    return Ok(Open { sender: Sender::Http2(sender), config });
                }
                _ => {}
            }
        }
        let sender = self.connect(config.as_ref()).await?;
        if let Sender::Http2(sender) = &sender {
            *slot = Some(Open { sender: Sender::Http2(sender.clone()), config: config.clone() });
        }
        Ok(Open { sender, config })
    }

    async fn connect(&self, config: Option<&Arc<ClientConfig>>) -> Result<Sender, ClientError> {
        let (server_name, (host, port)) = match &self.peer {
            Peer::Unix(path) => {
                let address = || path.display().to_string();
                let stream = UnixStream::connect(path).await.map_err(|error| unreachable(address(), &error))?;
                return start_http1(TokioIo::new(stream)).await.map_err(|error| unreachable(address(), &error));
            }
            Peer::Tls { server_name, address, .. } => (server_name, address),
        };
        let address = || if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let stream =
            TcpStream::connect((host.as_str(), *port)).await.map_err(|error| unreachable(address(), &error))?;
        stream.set_nodelay(true).map_err(|error| unreachable(address(), &error))?;
        let mut config = config.map(|config| ClientConfig::clone(config)).ok_or(ClientError::Header)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let connecting = TlsConnector::from(Arc::new(config)).connect(server_name.clone(), stream);
        let stream = connecting.await.map_err(|error| unreachable(address(), &error))?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let stream = TokioIo::new(stream);
        let started = if http2 { start_http2(stream).await } else { start_http1(stream).await };
        started.map_err(|error| unreachable(address(), &error))
    }
}

async fn start_http1(io: impl Read + Write + Send + Unpin + 'static) -> hyper::Result<Sender> {
    let (sender, connection) = http1::handshake(io).await?;
    // Ends with its sender; what goes wrong on it, the request on it tells.
    tokio::spawn(connection);
    Ok(Sender::Http1(sender))
}

async fn start_http2(io: impl Read + Write + Send + Unpin + 'static) -> hyper::Result<Sender> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new()).keep_alive_interval(KEEP_ALIVE).keep_alive_timeout(KEEP_ALIVE);
    let (sender, connection) = builder.handshake(io).await?;
    tokio::spawn(connection);
    Ok(Sender::Http2(sender))
}

enum Failed {
    /// Not a byte of it has left.
    Unsent(Box<Request<Full<Bytes>>>, ClientError),
    For(ClientError),
}

impl From<hyper::client::conn::TrySendError<Request<Full<Bytes>>>> for Failed {
    fn from(mut error: hyper::client::conn::TrySendError<Request<Full<Bytes>>>) -> Self {
        let why = broken(error.error());
        match error.take_message() {
            Some(request) => Self::Unsent(Box::new(request), why),
            None => Self::For(why),
        }
    }
}

/// A TLS 1.3 server refuses a certificate after the client believes the handshake done: whoever reads first finds the alert.
/// Of what was found, h2 keeps the text alone.
fn broken(error: &(dyn std::error::Error + 'static)) -> ClientError {
    let why = explain(error);
    let revoked = rustls::Error::AlertReceived(AlertDescription::CertificateRevoked).to_string();
    if why.contains(&revoked) { ClientError::CertificateRevoked } else { ClientError::Broken(why) }
}

fn unreachable(address: String, error: &(dyn std::error::Error + 'static)) -> ClientError {
    ClientError::Unreachable { address, why: explain(error) }
}

/// An error with what lies under it: hyper's own words do not name the cause.
fn explain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
