//! Every kind of open connection is cut when its peer is revoked, and nobody else's.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![cfg(feature = "axum")]

mod common;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
#[cfg(feature = "feed")]
use std::sync::Mutex;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use bytes::Bytes;
#[cfg(feature = "feed")]
use chancery_identity::Effect;
#[cfg(feature = "feed")]
use chancery_testkit::{TestCa, TestFeed};
use chancery_verifier::axum::serve;
#[cfg(feature = "feed")]
use chancery_verifier::feed::{Feed, FeedTrust};
#[cfg(feature = "feed")]
use chancery_verifier::{Applied, Attached, Clock, Credentials, Listener, Material, Moment, SystemClock, Verifier};
use chancery_verifier::{ListenerOptions, Rules};
#[cfg(feature = "feed")]
use common::provider;
use common::{Echo, PATIENCE, Service, closed, connect, round_trip, visit};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
#[cfg(feature = "feed")]
use tokio::io::AsyncWrite;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
#[cfg(feature = "feed")]
use tokio::sync::watch;
use tokio::sync::{broadcast, mpsc};
use tokio_rustls::client::TlsStream;

const CUSTOMERS: &str = "tools/call:crm/customers";

/// Tells the streams of all who listen to `/events`.
type Events = broadcast::Sender<&'static str>;

async fn serving(service: &Service) -> (SocketAddr, Events) {
    let rules = Rules::new()
        .allow("GET", "/customers", CUSTOMERS)
        .and_then(|rules| rules.allow("GET", "/events", CUSTOMERS))
        .and_then(|rules| rules.allow("GET", "/socket", CUSTOMERS))
        .and_then(|rules| rules.allow("POST", "/crm.Customers/Talk", CUSTOMERS))
        .unwrap();
    let events = Events::new(8);
    let listen = events.clone();
    let app = Router::new()
        .route("/customers", get(|| async { "42" }))
        .route("/events", get(|| async move { sse(listen.subscribe()) }))
        .route("/socket", get(upgraded))
        .route("/crm.Customers/Talk", post(talk));
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(serve(socket, app, service.verifier.guard(rules).unwrap()).into_future());
    (address, events)
}

fn sse(mut events: broadcast::Receiver<&'static str>) -> Response<axum::body::Body> {
    let (sender, body) = fed();
    sender.try_send(Frame::data(Bytes::from_static(b"data: begun\n\n"))).unwrap();
    tokio::spawn(async move {
        while let Ok(event) = events.recv().await {
            if sender.send(Frame::data(Bytes::from(format!("data: {event}\n\n")))).await.is_err() {
                return;
            }
        }
    });
    Response::builder().header("content-type", "text/event-stream").body(axum::body::Body::new(body)).unwrap()
}

/// RFC 6455 as far as a server's first answer; what follows is sent back.
async fn upgraded(request: Request<axum::body::Body>) -> Response<axum::body::Body> {
    tokio::spawn(async move {
        let upgraded = hyper::upgrade::on(request).await.unwrap();
        let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgraded));
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        // RFC 6455 §1.3: the answer to the key of its example.
        .header("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        .body(axum::body::Body::empty())
        .unwrap()
}

/// As gRPC streams in both directions: messages are sent back, and the trailers that end the request end the answer.
async fn talk(request: Request<axum::body::Body>) -> Response<axum::body::Body> {
    let (sender, body) = fed();
    let mut incoming = request.into_body();
    tokio::spawn(async move {
        while let Some(Ok(frame)) = incoming.frame().await {
            let _ = sender.send(frame).await;
        }
    });
    Response::builder().header("content-type", "application/grpc").body(axum::body::Body::new(body)).unwrap()
}

/// A body of what is sent to it.
struct Fed(mpsc::Receiver<Frame<Bytes>>);

fn fed() -> (mpsc::Sender<Frame<Bytes>>, Fed) {
    let (sender, receiver) = mpsc::channel(8);
    (sender, Fed(receiver))
}

impl Body for Fed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}

/// One agent's open connections, one of each kind.
struct Open {
    plain: TlsStream<TcpStream>,
    keep_alive: TlsStream<TcpStream>,
    events: TlsStream<TcpStream>,
    web_socket: TlsStream<TcpStream>,
    http2: http2::SendRequest<Fed>,
    http2_events: Incoming,
    call: mpsc::Sender<Frame<Bytes>>,
    answer: Incoming,
}

impl Open {
    async fn connect(address: SocketAddr, echo: &Echo, config: &Arc<ClientConfig>) -> Self {
        let plain = visit(echo.address, config).await.unwrap();
        let mut keep_alive = connect(address, config).await.unwrap();
        ask(&mut keep_alive, "/customers", "").await;
        let mut events = connect(address, config).await.unwrap();
        ask(&mut events, "/events", "accept: text/event-stream\r\n").await;
        until(&mut events, b"data: begun\n\n").await;
        let mut web_socket = connect(address, config).await.unwrap();
        let upgrade = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                       sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        assert!(ask(&mut web_socket, "/socket", upgrade).await.starts_with("HTTP/1.1 101 "));

        let mut h2 = ClientConfig::clone(config);
        h2.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TokioIo::new(connect(address, &Arc::new(h2)).await.unwrap());
        let (mut http2, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        let mut http2_events = send(&mut http2, "GET", "/events", fed().1).await.unwrap().into_body();
        assert_eq!(data(&mut http2_events).await.unwrap(), "data: begun\n\n");
        let (call, body) = fed();
        let answer = send(&mut http2, "POST", "/crm.Customers/Talk", body).await.unwrap().into_body();
        Self { plain, keep_alive, events, web_socket, http2, http2_events, call, answer }
    }

    /// All of them serve.
    async fn serve(&mut self, tell: &Events) {
        round_trip(&mut self.plain).await.unwrap();
        round_trip(&mut self.web_socket).await.unwrap();
        assert!(ask(&mut self.keep_alive, "/customers", "").await.starts_with("HTTP/1.1 200 "));
        tell.send("news").unwrap();
        until(&mut self.events, b"data: news\n\n").await;
        assert_eq!(data(&mut self.http2_events).await.unwrap(), "data: news\n\n");
        self.call.send(Frame::data(Bytes::from_static(b"hello"))).await.unwrap();
        assert_eq!(data(&mut self.answer).await.unwrap(), "hello");
        assert_eq!(send(&mut self.http2, "GET", "/customers", fed().1).await.unwrap().status(), StatusCode::OK);
    }

    /// A call that is not cut ends as both sides say: with trailers.
    async fn end(mut self) {
        let status = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
        self.call.send(Frame::trailers(status.clone())).await.unwrap();
        drop(self.call);
        let last = self.answer.frame().await.unwrap().unwrap();
        assert_eq!(last.into_trailers().unwrap(), status);
    }

    /// None of them is open.
    async fn cut(mut self) {
        for stream in [&mut self.plain, &mut self.keep_alive, &mut self.web_socket] {
            closed(stream).await;
        }
        // An answer that is cut short never looks like one that is whole: no last chunk came.
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, self.events.read_to_end(&mut rest)).await.expect("events stay open");
        assert!(!rest.windows(5).any(|bytes| bytes == b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&rest));
        for body in [&mut self.http2_events, &mut self.answer] {
            let end = tokio::time::timeout(PATIENCE, body.frame()).await.expect("a stream stays open");
            assert!(end.is_none_or(|frame| frame.is_err()), "something came");
        }
        assert!(send(&mut self.http2, "GET", "/customers", fed().1).await.is_err());
    }
}

/// Asks, and reads the answer's head and a body of known length.
async fn ask(stream: &mut TlsStream<TcpStream>, path: &str, headers: &str) -> String {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: crm.test\r\n{headers}\r\n").as_bytes()).await.unwrap();
    let head = until(stream, b"\r\n\r\n").await;
    if head.contains("content-length: 2\r\n") {
        stream.read_exact(&mut [0; 2]).await.unwrap();
    }
    head
}

async fn until(stream: &mut TlsStream<TcpStream>, end: &[u8]) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end) {
        let byte = tokio::time::timeout(PATIENCE, stream.read_u8()).await.expect("nothing comes").unwrap();
        read.push(byte);
    }
    String::from_utf8(read).unwrap()
}

async fn send(
    client: &mut http2::SendRequest<Fed>,
    method: &str,
    path: &str,
    body: Fed,
) -> hyper::Result<Response<Incoming>> {
    client.ready().await?;
    let request = Request::builder().method(method).uri(format!("https://crm.test{path}"));
    client.send_request(request.body(body).unwrap()).await
}

async fn data(body: &mut Incoming) -> Option<Bytes> {
    tokio::time::timeout(PATIENCE, body.frame()).await.expect("nothing comes")?.unwrap().into_data().ok()
}

fn agent(service: &Service) -> (chancery_identity::Serial, Arc<ClientConfig>) {
    let issued = service.ca.agent("invoice-bot").scope(CUSTOMERS).issue();
    (issued.certificate.serial, service.stock_client(Some(issued)))
}

#[tokio::test]
async fn a_revocation_cuts_every_kind_of_connection_and_nobody_elses() {
    let service = Service::start().await;
    let (address, events) = serving(&service).await;
    let echo = service.echo(ListenerOptions::default()).await;
    let (serial, config) = agent(&service);
    let mut stopped = Open::connect(address, &echo, &config).await;
    let mut other = Open::connect(address, &echo, &agent(&service).1).await;
    stopped.serve(&events).await;
    let _ = data(&mut other.http2_events).await;
    until(&mut other.events, b"data: news\n\n").await;
    assert_eq!(service.verifier.status().connections, 10);

    service.verifier.renew(&service.revoking(&[serial])).unwrap();
    stopped.cut().await;
    while service.verifier.status().connections > 5 {
        tokio::task::yield_now().await;
    }
    other.serve(&events).await;
    other.end().await;
}

/// A client over HTTP/2 by hand: it sees each frame, and answers none.
struct Frames(TlsStream<TcpStream>);

const HEADERS: u8 = 1;
const GOAWAY: u8 = 7;

impl Frames {
    /// Asks for a path on stream 1.
    async fn ask(address: SocketAddr, config: &Arc<ClientConfig>, path: &str) -> Self {
        let mut config = ClientConfig::clone(config);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let mut stream = connect(address, &Arc::new(config)).await.unwrap();
        // RFC 7541 Appendix A: 2 is :method GET, 7 is :scheme https; 1 and 4 name :authority and :path.
        let mut fields = vec![0x82, 0x87];
        for (name, value) in [(1_u8, "crm.test"), (4, path)] {
            fields.extend([name, u8::try_from(value.len()).unwrap()]);
            fields.extend(value.as_bytes());
        }
        let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        // RFC 9113 §6.5: an empty SETTINGS frame. §6.2: END_STREAM and END_HEADERS.
        sent.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
        sent.extend([0, 0, u8::try_from(fields.len()).unwrap(), HEADERS, 0x5, 0, 0, 0, 1]);
        sent.extend(fields);
        stream.write_all(&sent).await.unwrap();
        Self(stream)
    }

    /// The type and payload of the next frame; `None` at the connection's end.
    async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        let read = async {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.0.read_exact(&mut payload).await.ok()?;
            Some((head[3], payload))
        };
        tokio::time::timeout(PATIENCE, read).await.expect("the connection stays open, and silent")
    }
}

#[tokio::test]
async fn goaway_comes_before_the_cut_and_does_not_put_it_off() {
    let service = Service::start().await;
    let (address, _events) = serving(&service).await;
    let (serial, config) = agent(&service);
    let mut client = Frames::ask(address, &config, "/events").await;
    while client.next().await.expect("an answer").0 != HEADERS {}

    service.verifier.renew(&service.revoking(&[serial])).unwrap();
    let mut goodbye = None;
    // The stream is open and nobody answers the server's ping: only the cut ends this.
    while let Some((kind, payload)) = client.next().await {
        if kind == GOAWAY {
            // RFC 9113 §6.8: the last stream, then an error code, NO_ERROR.
            goodbye = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
    }
    assert_eq!(goodbye, Some(0));
    while service.verifier.status().connections > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_cut_without_a_goodbye() {
    let service = Service::start().await;
    let (full, mut filled) = mpsc::channel(1);
    let flood = move || async move {
        let (sender, body) = fed();
        tokio::spawn(async move {
            let frame = || Frame::data(Bytes::from_static(&[0; 1 << 14]));
            while tokio::time::timeout(Duration::from_millis(300), sender.send(frame())).await.is_ok() {}
            let _ = full.send(()).await;
            sender.closed().await;
        });
        axum::body::Body::new(body)
    };
    let rules = Rules::new().allow("GET", "/flood", CUSTOMERS).unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let app = Router::new().route("/flood", get(flood));
    tokio::spawn(serve(socket, app, service.verifier.guard(rules).unwrap()).into_future());

    let (serial, config) = agent(&service);
    let mut client = Frames::ask(address, &config, "/flood").await;
    // RFC 9113 §6.9: a window for the connection and one for the stream that only the socket's buffers bound.
    let window = (i32::MAX - 65_535).to_be_bytes();
    for stream in [0, 1] {
        client.0.write_all(&[0, 0, 4, 8, 0, 0, 0, 0, stream]).await.unwrap();
        client.0.write_all(&window).await.unwrap();
    }
    filled.recv().await.unwrap();
    service.verifier.renew(&service.revoking(&[serial])).unwrap();
    let cut = async {
        while service.verifier.status().connections > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, cut).await.expect("the connection stays open");
}

/// Gives material, and hears what was applied of it.
#[cfg(feature = "feed")]
struct Heard {
    newest: watch::Receiver<Arc<Material>>,
    applied: mpsc::UnboundedSender<Applied>,
}

#[cfg(feature = "feed")]
impl Credentials for Heard {
    fn material(&self) -> watch::Receiver<Arc<Material>> {
        self.newest.clone()
    }

    fn attach(&self) -> Box<dyn Attached> {
        Box::new(Listening(self.applied.clone()))
    }
}

#[cfg(feature = "feed")]
struct Listening(mpsc::UnboundedSender<Applied>);

#[cfg(feature = "feed")]
impl Attached for Listening {
    fn applied(&self, applied: Applied) {
        let _ = self.0.send(applied);
    }
}

/// A clock whose monotonic side is set ahead: a goodbye that begins then has so much longer.
#[cfg(feature = "feed")]
#[derive(Debug, Default)]
struct Ahead(Mutex<Duration>);

#[cfg(feature = "feed")]
impl Ahead {
    fn set(&self, ahead: Duration) {
        *self.0.lock().unwrap() = ahead;
    }
}

#[cfg(feature = "feed")]
impl Clock for Ahead {
    fn now(&self) -> Moment {
        let now = SystemClock.now();
        Moment { monotonic: now.monotonic + *self.0.lock().unwrap(), ..now }
    }
}

/// A service that learns by a feed, and what it says to have applied.
#[cfg(feature = "feed")]
struct Told {
    service: Service,
    first: Material,
    feed: Feed,
    sent: TestFeed,
    heard: mpsc::UnboundedReceiver<Applied>,
    clock: Arc<Ahead>,
}

#[cfg(feature = "feed")]
impl Told {
    async fn start() -> Self {
        let (ca, now) = (TestCa::at("example.org", SystemClock.now().wall), SystemClock.now());
        let trust = FeedTrust {
            trust_domain: ca.trust_domain().clone(),
            roots: [ca.root()].into(),
            algorithms: provider().signature_verification_algorithms,
            sha256: TestFeed::sha256(),
        };
        let (mut feed, sent) = (Feed::new(trust, None, now).0, TestFeed::new(&ca));
        let known = feed.push(sent.whole().as_bytes(), now).unwrap().pop();
        let subject = ca.service("crm").system("crm").dns("crm.test");
        let first = Material { feed: known, ..ca.material(&subject, &[], now) };
        let (material, newest) = watch::channel(Arc::new(first.clone()));
        let (applied, heard) = mpsc::unbounded_channel();
        let clock = Arc::new(Ahead::default());
        let verifier = Verifier::start_with(Heard { newest, applied }, provider(), clock.clone()).await.unwrap();
        Self { service: Service { ca, subject, material, verifier }, first, feed, sent, heard, clock }
    }

    fn client(&self, agent: &str) -> Arc<ClientConfig> {
        self.service.stock_client(Some(self.service.ca.agent(agent).scope(CUSTOMERS).issue()))
    }

    /// An open connection of this agent, whose server says goodbye.
    async fn polite(&self, address: SocketAddr, agent: &str) -> Frames {
        let mut client = Frames::ask(address, &self.client(agent), "/events").await;
        while client.next().await.expect("an answer").0 != HEADERS {}
        client
    }

    fn send(&mut self, text: &str) {
        let known = self.feed.push(text.as_bytes(), SystemClock.now()).unwrap().pop();
        self.service.material.send_replace(Arc::new(Material { feed: known, ..self.first.clone() }));
    }

    /// It is in force once this returns.
    async fn tell(&mut self, text: &str) {
        let mut changes = self.service.verifier.changes();
        self.send(text);
        changes.changed().await.unwrap();
    }

    fn stopping(&mut self, agent: &str) -> String {
        let n = self.sent.add(&format!("agent:{agent}"), Effect::Suspend);
        self.sent.since(n - 1)
    }

    /// What it says first of entries.
    async fn applied(&mut self) -> Applied {
        let applied = async {
            loop {
                let applied = self.heard.recv().await.unwrap();
                if applied.n > 0 {
                    break applied;
                }
            }
        };
        tokio::time::timeout(PATIENCE, applied).await.expect("nothing is acknowledged")
    }
}

/// A heartbeat while a goodbye is said acknowledges nothing: the connection is open still.
#[cfg(feature = "feed")]
#[tokio::test]
async fn nothing_is_acknowledged_before_its_connections_are_closed() {
    let mut told = Told::start().await;
    let (address, _events) = serving(&told.service).await;
    let _client = told.polite(address, "invoice-bot").await;
    let stopping = told.stopping("invoice-bot");
    told.tell(&stopping).await;
    told.tell(&told.sent.head()).await;
    let applied = told.applied().await;
    assert_eq!((applied.n, applied.closed_connections), (1, 1));
    assert_eq!(told.service.verifier.status().connections, 0);
}

/// Goodbyes that follow each other put off no acknowledgement but their own.
#[cfg(feature = "feed")]
#[tokio::test]
async fn a_later_goodbye_puts_off_no_earlier_acknowledgement() {
    let mut told = Told::start().await;
    let (address, _events) = serving(&told.service).await;
    let _clients = (told.polite(address, "invoice-bot").await, told.polite(address, "other-bot").await);
    let stopping = told.stopping("invoice-bot");
    told.tell(&stopping).await;
    // The one after it has far longer than this test.
    told.clock.set(Duration::from_secs(3600));
    let stopping = told.stopping("other-bot");
    told.tell(&stopping).await;
    assert_eq!(told.applied().await.n, 1);
    // Nor does a heartbeat tell of what has not had its time; the second one is in force after the first was reported.
    for _ in 0..2 {
        told.tell(&told.sent.head()).await;
    }
    assert!(told.heard.try_recv().is_err());
}

/// Wakes by telling so, and waits there until it may go on.
#[cfg(feature = "feed")]
struct Holding {
    told: mpsc::UnboundedSender<()>,
    go_on: Mutex<std::sync::mpsc::Receiver<()>>,
}

#[cfg(feature = "feed")]
impl std::task::Wake for Holding {
    fn wake(self: Arc<Self>) {
        let _ = self.told.send(());
        // What waits for this worker's turn is handed to others.
        let _ = tokio::task::block_in_place(|| self.go_on.lock().unwrap().recv());
    }
}

/// Between a state and the end of its scan what waits for older connections tells of those alone.
#[cfg(feature = "feed")]
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn nothing_is_acknowledged_while_its_connections_are_looked_for() {
    let mut told = Told::start().await;
    let (address, _events) = serving(&told.service).await;
    let _client = told.polite(address, "invoice-bot").await;
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut listener = Listener::new(socket, &told.service.verifier, ListenerOptions::default()).unwrap();
    let config = told.client("other-bot");
    let other = tokio::spawn(connect_to(listener.local_addr(), config));
    let mut accepted = listener.accept().await.unwrap();
    let _other = other.await.unwrap();
    let (hold, mut held) = mpsc::unbounded_channel();
    let (go_on, may_go_on) = std::sync::mpsc::channel();
    let waker = Arc::new(Holding { told: hold, go_on: Mutex::new(may_go_on) }).into();
    // Nothing is left to be flushed, so nobody wakes it but a cut.
    assert!(Pin::new(&mut accepted).poll_flush(&mut Context::from_waker(&waker)).is_ready());

    // The goodbye lasts until the scan for the next entry is under way.
    told.clock.set(Duration::from_millis(500));
    let stopping = told.stopping("invoice-bot");
    told.tell(&stopping).await;
    let stopping = told.stopping("other-bot");
    told.send(&stopping);
    held.recv().await.unwrap();
    assert_eq!(told.applied().await.n, 1);
    go_on.send(()).unwrap();
    while told.applied().await.n < 2 {}
}

#[cfg(feature = "feed")]
async fn connect_to(address: SocketAddr, config: Arc<ClientConfig>) -> TlsStream<TcpStream> {
    connect(address, &config).await.unwrap()
}
