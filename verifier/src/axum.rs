//! Serves an axum router: accept loop, check of each request, limits, drain.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use axum::{Router, http::Method, routing::get};
//! use chancery_verifier::{FileCredentials, FilePaths, Peer, Rules, Verifier};
//!
//! async fn show(peer: Peer) -> String {
//!     format!("hello {}", peer.spiffe_id())
//! }
//!
//! let id = FileCredentials::open(FilePaths::in_folder("/run/chancery".as_ref())).await?;
//! let rules = Rules::new() // not listed = refused
//!     .allow(Method::GET, "/customers/{id}", "tools/call:crm/get_customer")?
//!     .public(Method::GET, "/healthz");
//! let verifier = Verifier::start(id).await?;
//! let app = Router::new().route("/customers/{id}", get(show)).route("/healthz", get(|| async { "well" }));
//! let listener = tokio::net::TcpListener::bind("0.0.0.0:8443").await?;
//! chancery_verifier::axum::serve(listener, app, verifier.guard(rules)?).await?;
//! # Ok(())
//! # }
//! ```

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequestParts, OptionalFromRequestParts};
use axum::response::{IntoResponse, Response};
use http::Request;
use http::request::Parts;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tower_service::Service;

use crate::http::GuardLayer;
use crate::{Allowed, Connection, Counter, Denial, Guard, Listener, ListenerOptions, Peer, Verifier};

/// Serves a router behind a guard: each request is checked before the router sees it, and goes on with the path that
/// was checked. Handlers take the [`Peer`] as an argument.
///
/// A connection whose peer is revoked, or whose certificate ends, is cut with all its streams; over HTTP/2 the client is
/// told by GOAWAY first, for which there are 50 ms.
pub fn serve(socket: TcpListener, app: Router, guard: Guard) -> Serve {
    let verifier = guard.verifier().clone();
    Serve::new(socket, app, verifier, Some(guard))
}

/// Serves a router that decides by itself who may do what: requests are not checked, connections are cut all the same.
/// Requests carry the [`Peer`] if the client showed a certificate. For the issuer; [`serve`] is for services.
pub fn serve_unguarded(socket: TcpListener, app: Router, verifier: Verifier) -> Serve {
    Serve::new(socket, app, verifier, None)
}

/// A server about to run; await it.
#[must_use = "a server runs when it is awaited"]
pub struct Serve {
    socket: TcpListener,
    app: Router,
    verifier: Verifier,
    guard: Option<Guard>,
    options: ListenerOptions,
    limits: Limits,
    counter: Arc<OnceLock<Counter>>,
    shutdown: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// What a connection may ask of a server.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_structs, reason = "made by struct update from its default")]
pub struct Limits {
    /// The longest that a connection's first request may take to come, and the head of each further one over HTTP/1,
    /// counted from when one can come. Default: 15 s.
    pub header_timeout: Duration,
    /// The most streams at once on one HTTP/2 connection. Default: 256.
    pub streams_max: u32,
    /// The most bytes of request headers. Default: 16 KiB.
    pub header_bytes_max: u32,
    /// An HTTP/2 peer that does not answer a ping for this long is gone. Default: 20 s.
    pub ping_timeout: Duration,
    /// The longest that requests under way may take once the server is told to stop. Default: 10 s.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(15),
            streams_max: 256,
            header_bytes_max: 16 * 1024,
            ping_timeout: Duration::from_secs(20),
            drain: Duration::from_secs(10),
        }
    }
}

impl Serve {
    fn new(socket: TcpListener, app: Router, verifier: Verifier, guard: Option<Guard>) -> Self {
        Self {
            socket,
            app,
            verifier,
            guard,
            options: ListenerOptions::default(),
            limits: Limits::default(),
            counter: Arc::default(),
            shutdown: Box::pin(std::future::pending()),
        }
    }

    /// Accepts in another way than by default.
    pub fn options(self, options: ListenerOptions) -> Self {
        Self { options, ..self }
    }

    /// Sets other limits than the default ones.
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Puts what reads the listener's counts there, once it listens.
    pub fn counted_in(self, counter: Arc<OnceLock<Counter>>) -> Self {
        Self { counter, ..self }
    }

    /// Stops when this is ready: accepts no more, tells clients, and lets requests under way end within
    /// [`Limits::drain`].
    pub fn with_graceful_shutdown(self, signal: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { shutdown: Box::pin(signal), ..self }
    }

    async fn run(self) -> io::Result<()> {
        let mut listener = Listener::new(self.socket, &self.verifier, self.options)?;
        // A place that has one already keeps it: whoever gave it away twice reads the first.
        let _ = self.counter.set(listener.counter());
        let http = Http::new(&self.limits);
        let guard = self.guard.as_ref().map(Guard::layer);
        let mut shutdown = self.shutdown;
        let (drain, draining) = watch::channel(false);
        while let Some(connection) = next(&mut listener, shutdown.as_mut()).await {
            tokio::spawn(connected(connection, http.clone(), self.app.clone(), guard.clone(), draining.clone()));
        }
        listener.close();
        drop(draining);
        drain.send_replace(true);
        // Whatever is not done by then is dropped with the connections' tasks when the runtime ends, or goes on alone.
        let _ = tokio::time::timeout(self.limits.drain, drain.closed()).await;
        Ok(())
    }
}

impl IntoFuture for Serve {
    type Output = io::Result<()>;
    type IntoFuture = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for Serve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve").field("socket", &self.socket).field("options", &self.options).finish_non_exhaustive()
    }
}

/// HTTP/1.1 and HTTP/2 within limits, on a stream that somebody else has accepted: a Unix socket's, or one that needs no
/// TLS. [`serve`] does the same with each of its connections.
#[derive(Clone, Debug)]
pub struct Http {
    server: auto::Builder<TokioExecutor>,
    first_request_within: Duration,
}

impl Http {
    /// Within these limits; [`Limits::drain`] is for whoever accepts.
    pub fn new(limits: &Limits) -> Self {
        let mut server = auto::Builder::new(TokioExecutor::new());
        server
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout)
            .max_buf_size(usize::try_from(limits.header_bytes_max).unwrap_or(usize::MAX));
        server
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams_max)
            .max_header_list_size(limits.header_bytes_max)
            .keep_alive_interval(limits.ping_timeout)
            .keep_alive_timeout(limits.ping_timeout);
        Self { server, first_request_within: limits.header_timeout }
    }

    /// Serves one stream until it ends. Once `leave` is ready the client is told, and requests under way are the last.
    pub async fn serve<I, F, A>(&self, stream: I, answer: F, leave: impl Future<Output = ()>)
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        F: Fn(Request<Body>) -> A,
        A: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
    {
        let asked = AtomicBool::new(false);
        let service = service_fn(|request: Request<Incoming>| {
            asked.store(true, Ordering::Relaxed);
            answer(request.map(Body::new))
        });
        let mut serving = pin!(self.server.serve_connection_with_upgrades(TokioIo::new(stream), service));
        // Before a request's head begins to be read nothing else has a deadline: not the client's choice of a protocol,
        // not HTTP/2's preface.
        let mut early = pin!(tokio::time::sleep(self.first_request_within));
        let mut leave = pin!(leave);
        let (mut is_early, mut leaves) = (true, false);
        std::future::poll_fn(|cx| {
            if !leaves && leave.as_mut().poll(cx).is_ready() {
                leaves = true;
                serving.as_mut().graceful_shutdown();
            }
            // A client that goes away in the middle is no news, and one that was cut knows.
            if serving.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            if is_early && early.as_mut().poll(cx).is_ready() {
                is_early = false;
                if !asked.load(Ordering::Relaxed) {
                    return Poll::Ready(());
                }
            }
            Poll::Pending
        })
        .await;
    }
}

/// The next connection, until it is time to stop.
async fn next(listener: &mut Listener, mut shutdown: Pin<&mut (dyn Future<Output = ()> + Send)>) -> Option<Connection> {
    let mut accept = pin!(listener.accept());
    std::future::poll_fn(|cx| match shutdown.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready(None),
        Poll::Pending => accept.as_mut().poll(cx),
    })
    .await
}

async fn connected(
    connection: Connection,
    http: Http,
    app: Router,
    guard: Option<GuardLayer>,
    mut draining: watch::Receiver<bool>,
) {
    let (peer, remote, farewell) = (connection.peer().cloned(), connection.remote_addr(), connection.farewell());
    let answer = |mut request: Request<Body>| {
        request.extensions_mut().insert(ConnectInfo(remote));
        if let Some(peer) = &peer {
            request.extensions_mut().insert(peer.clone());
        }
        answer(app.clone(), guard.clone(), request)
    };
    let leave = async {
        // The sender is gone only with the server.
        let mut stopping = pin!(draining.wait_for(|stop| *stop));
        std::future::poll_fn(|cx| match farewell.as_ref().map(|farewell| farewell.poll(cx)) {
            Some(Poll::Ready(())) => Poll::Ready(()),
            _ => stopping.as_mut().poll(cx).map(drop),
        })
        .await;
    };
    http.serve(connection, answer, leave).await;
}

async fn answer(
    mut app: Router,
    guard: Option<GuardLayer>,
    request: Request<Body>,
) -> Result<Response<Body>, Infallible> {
    // A router is always ready.
    match guard {
        Some(guard) => {
            let mut guarded = tower_layer::Layer::layer(&guard, app);
            Ok(guarded.call(request).await?.map(Body::new))
        }
        None => app.call(request).await,
    }
}

impl IntoResponse for Denial {
    fn into_response(self) -> Response {
        crate::http::response(&self).map(Body::new)
    }
}

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = Denial;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Denial> {
        parts.extensions.get().cloned().ok_or(Denial::NoCertificate)
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Peer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get().cloned())
    }
}

impl<S: Sync> FromRequestParts<S> for Allowed {
    type Rejection = Denial;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Denial> {
        parts.extensions.get().cloned().ok_or(Denial::NoCertificate)
    }
}
