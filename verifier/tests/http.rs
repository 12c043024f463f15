//! axum behind a guard, over real sockets: HTTP/1.1 and HTTP/2.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![cfg(feature = "axum")]

mod common;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::routing::{any, get};
use bytes::Bytes;
use chancery_api::Problem;
use chancery_identity::Serial;
use chancery_verifier::axum::{Limits, serve, serve_unguarded};
use chancery_verifier::http::RequireScope;
use chancery_verifier::{Allowed, ClientCertificate, ListenerOptions, Peer, Rules};
use common::{PATIENCE, Service, closed, connect};
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

const GET_CUSTOMER: &str = "tools/call:crm/get_customer";

fn rules() -> Rules {
    Rules::new()
        .allow("GET", "/customers/{id}", GET_CUSTOMER)
        .and_then(|rules| rules.allow("GET", "/projects/{name}", "resources/read:crm/projects/{name}"))
        .and_then(|rules| rules.allow("GET", "/endless", GET_CUSTOMER))
        .and_then(|rules| rules.allow("GET", "/upgrade", GET_CUSTOMER))
        .and_then(|rules| rules.allow("GET", "/tight", GET_CUSTOMER))
        .unwrap()
        .public("GET", "/healthz")
}

fn app() -> Router {
    let endless = || async { axum::body::Body::new(Endless { begun: false }) };
    let customer = |peer: Peer, allowed: Allowed, Path(id): Path<String>| async move {
        format!("{} {id} by {}", allowed.knowledge(), peer.grant().unwrap().name)
    };
    let upgrade = |request: Request<axum::body::Body>| async move {
        tokio::spawn(async move {
            let upgraded = hyper::upgrade::on(request).await.unwrap();
            let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgraded));
            let _ = tokio::io::copy(&mut reader, &mut writer).await;
        });
        Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header("connection", "upgrade")
            .header("upgrade", "echo")
            .body(axum::body::Body::empty())
            .unwrap()
    };
    let tighter = RequireScope::new("tools/call:crm/refund".parse().unwrap());
    Router::new()
        .route("/customers/{id}", any(customer))
        .route("/projects/{name}", get(|Path(name): Path<String>| async move { name }))
        .route("/endless", get(endless))
        .route("/upgrade", get(upgrade))
        .route("/tight", get(|| async { "tight" }).layer(tighter))
        .route("/unlisted", get(|| async { "unlisted" }))
        .route("/healthz", get(|| async { "well" }))
}

/// A body of one frame, then nothing more for ever.
struct Endless {
    begun: bool,
}

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if std::mem::replace(&mut self.begun, true) {
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"first")))))
    }
}

/// The service, serving; stops when the sender is dropped or sends.
async fn serving(service: &Service, limits: Limits) -> (SocketAddr, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let guard = service.verifier.guard(rules()).unwrap();
    let (stop, stopped) = oneshot::channel();
    let server = serve(socket, app(), guard).limits(limits).with_graceful_shutdown(async {
        let _ = stopped.await;
    });
    (address, stop, tokio::spawn(async move { server.await.unwrap() }))
}

fn agent(service: &Service, scopes: &[&str]) -> (Serial, Arc<ClientConfig>) {
    let subject = scopes.iter().fold(service.ca.agent("invoice-bot"), |subject, scope| subject.scope(scope));
    let issued = subject.issue();
    (issued.certificate.serial, service.stock_client(Some(issued)))
}

enum Client {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

impl Client {
    async fn connect(address: SocketAddr, config: &Arc<ClientConfig>, alpn: &[u8]) -> Self {
        let mut config = ClientConfig::clone(config);
        config.alpn_protocols = vec![alpn.to_vec()];
        let stream = TokioIo::new(connect(address, &Arc::new(config)).await.unwrap());
        if alpn == b"h2" {
            let (client, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
            tokio::spawn(connection);
            Self::Http2(client)
        } else {
            let (client, connection) = http1::handshake(stream).await.unwrap();
            tokio::spawn(connection.with_upgrades());
            Self::Http1(client)
        }
    }

    async fn send(&mut self, method: &str, target: &str) -> hyper::Result<Response<Incoming>> {
        let request = Request::builder().method(method);
        match self {
            Self::Http1(client) => {
                client.ready().await?;
                let request = request.uri(target).header("host", "crm.test");
                client.send_request(request.body(Empty::new()).unwrap()).await
            }
            Self::Http2(client) => {
                client.ready().await?;
                let request = request.uri(format!("https://crm.test{target}"));
                client.send_request(request.body(Empty::new()).unwrap()).await
            }
        }
    }

    async fn text(&mut self, method: &str, target: &str) -> (StatusCode, String) {
        let response = self.send(method, target).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.into()).unwrap())
    }

    async fn problem(&mut self, method: &str, target: &str) -> Problem {
        let response = self.send(method, target).await.unwrap();
        assert_eq!(response.headers()["content-type"], Problem::CONTENT_TYPE);
        let status = response.status();
        let problem: Problem =
            serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
        assert_eq!(problem.status, status.as_u16());
        problem
    }
}

const PROTOCOLS: [&[u8]; 2] = [b"http/1.1", b"h2"];

#[tokio::test]
async fn lets_through_what_a_rule_lists_for_those_who_hold_the_scope() {
    let service = Service::start().await;
    let (address, _stop, _) = serving(&service, Limits::default()).await;
    let config = agent(&service, &[GET_CUSTOMER, "resources/read:crm/projects/apollo"]).1;
    for protocol in PROTOCOLS {
        let mut client = Client::connect(address, &config, protocol).await;
        assert_eq!(client.text("GET", "/healthz").await, (StatusCode::OK, "well".into()));
        assert_eq!(client.text("GET", "/customers/42?x=1").await, (StatusCode::OK, "fresh 42 by invoice-bot".into()));
        assert_eq!(client.text("GET", "/projects/apollo").await, (StatusCode::OK, "apollo".into()));
        // What was checked is what is served, however it was spelled.
        assert_eq!(client.text("GET", "/%70rojects/%61pollo").await, (StatusCode::OK, "apollo".into()));

        let missing = client.problem("GET", "/projects/gemini").await;
        assert_eq!((missing.code.as_str(), missing.status), ("scope-missing", 403));
        assert_eq!(missing.needs, ["resources/read:crm/projects/gemini"]);
        assert_eq!(missing.holds, ["resources/read:crm/projects/apollo", GET_CUSTOMER]);
        assert_eq!(
            missing.fix,
            ["an operator: chancery agents update invoice-bot --add-scope resources/read:crm/projects/gemini"]
        );

        for (method, target) in [
            ("GET", "/unlisted"),
            ("GET", "/"),
            ("HEAD", "/customers/42"),
            ("POST", "/customers/42"),
            ("POST", "/healthz"),
            ("GET", "/customers/42/orders"),
            ("GET", "/Customers/42"),
        ] {
            if method == "HEAD" {
                assert_eq!(client.send(method, target).await.unwrap().status(), StatusCode::FORBIDDEN);
            } else {
                assert_eq!(client.problem(method, target).await.code, "not-listed", "{method} {target}");
            }
        }
        for target in [
            "/customers/%2e%2e",
            "/customers/a%2Fb",
            "/customers//42",
            "/customers/42/",
            "/customers/4%252",
            "/customers/a;b",
            "/customers/*",
        ] {
            let refused = client.problem("GET", target).await;
            assert_eq!((refused.code.as_str(), refused.status), ("path-refused", 400), "{target}");
        }
    }
}

#[tokio::test]
async fn a_required_scope_only_tightens() {
    let service = Service::start().await;
    let (address, _stop, _) = serving(&service, Limits::default()).await;
    let status = async |scopes: &[&str]| {
        let mut client = Client::connect(address, &agent(&service, scopes).1, b"h2").await;
        client.send("GET", "/tight").await.unwrap().status()
    };
    assert_eq!(status(&[GET_CUSTOMER]).await, StatusCode::FORBIDDEN);
    assert_eq!(status(&["tools/call:crm/refund"]).await, StatusCode::FORBIDDEN);
    assert_eq!(status(&[GET_CUSTOMER, "tools/call:crm/refund"]).await, StatusCode::OK);
}

#[tokio::test]
async fn a_revocation_cuts_an_open_stream() {
    for protocol in PROTOCOLS {
        let service = Service::start().await;
        let (address, _stop, _) = serving(&service, Limits::default()).await;
        let (serial, config) = agent(&service, &[GET_CUSTOMER]);
        let mut client = Client::connect(address, &config, protocol).await;
        let mut body = client.send("GET", "/endless").await.unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "first");

        service.verifier.renew(&service.revoking(&[serial])).unwrap();
        let end = tokio::time::timeout(PATIENCE, body.frame()).await.expect("the stream stays open");
        assert!(end.is_none_or(|frame| frame.is_err()));
        assert!(client.send("GET", "/customers/42").await.is_err());
        while service.verifier.status().connections > 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_revocation_cuts_an_upgraded_connection() {
    let service = Service::start().await;
    let (address, _stop, _) = serving(&service, Limits::default()).await;
    let (serial, config) = agent(&service, &[GET_CUSTOMER]);
    let mut stream = connect(address, &config).await.unwrap();
    stream
        .write_all(b"GET /upgrade HTTP/1.1\r\nhost: crm.test\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
        .await
        .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    stream.write_all(b"x").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'x');

    service.verifier.renew(&service.revoking(&[serial])).unwrap();
    closed(&mut stream).await;
}

#[tokio::test]
async fn a_client_that_asks_for_nothing_is_closed() {
    let service = Service::start().await;
    let limits = Limits { header_timeout: Duration::from_millis(100), ..Limits::default() };
    let (address, _stop, _) = serving(&service, limits).await;
    let config = agent(&service, &[GET_CUSTOMER]).1;
    let preface: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for sent in [b"" as &[u8], b"GET /customers/42 HTT", b"PRI * HT", preface] {
        let mut stream = connect(address, &config).await.unwrap();
        stream.write_all(sent).await.unwrap();
        let mut rest = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        assert!(read.is_ok(), "{:?} holds a connection", String::from_utf8_lossy(sent));
    }
    // One that has asked may take its time between requests over HTTP/2.
    let mut client = Client::connect(address, &config, b"h2").await;
    let mut body = client.send("GET", "/endless").await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(300), body.frame()).await.is_err(), "a stream was closed");
}

#[tokio::test]
async fn a_server_told_to_stop_lets_requests_end() {
    let service = Service::start().await;
    let limits = Limits { drain: Duration::from_millis(200), ..Limits::default() };
    let (address, stop, server) = serving(&service, limits).await;
    let config = agent(&service, &[GET_CUSTOMER]).1;
    let mut idle = Client::connect(address, &config, b"h2").await;
    assert_eq!(idle.text("GET", "/healthz").await.0, StatusCode::OK);
    let mut busy = Client::connect(address, &config, b"http/1.1").await;
    let mut body = busy.send("GET", "/endless").await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    stop.send(()).unwrap();
    tokio::time::timeout(PATIENCE, server).await.expect("it does not stop").unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "it still accepts");
    assert!(idle.send("GET", "/healthz").await.is_err());
}

#[tokio::test]
async fn the_public_needs_no_certificate_where_none_is_required() {
    let service = Service::start().await;
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let options = ListenerOptions { client_certificate: ClientCertificate::Optional, ..Default::default() };
    let guard = service.verifier.guard(rules()).unwrap();
    tokio::spawn(serve(socket, app(), guard).options(options).into_future());
    let mut nobody = Client::connect(address, &service.stock_client(None), b"h2").await;
    assert_eq!(nobody.text("GET", "/healthz").await.1, "well");
    let refused = nobody.problem("GET", "/customers/42").await;
    assert_eq!((refused.code.as_str(), refused.status), ("client-certificate-required", 401));
}

#[tokio::test]
async fn a_server_that_decides_by_itself_learns_who_asks() {
    let service = Service::start().await;
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let name = |peer: Option<Peer>| async move { peer.map_or("nobody".into(), |peer| peer.spiffe_id().to_string()) };
    let app = Router::new().route("/whoami", get(name));
    let options = ListenerOptions { client_certificate: ClientCertificate::Optional, ..Default::default() };
    tokio::spawn(serve_unguarded(socket, app, service.verifier.clone()).options(options).into_future());
    let mut nobody = Client::connect(address, &service.stock_client(None), b"h2").await;
    assert_eq!(nobody.text("GET", "/whoami").await.1, "nobody");
    let mut agent = Client::connect(address, &agent(&service, &[]).1, b"h2").await;
    assert!(agent.text("GET", "/whoami").await.1.starts_with("spiffe://example.org/agent/invoice-bot/"));
}

/// More and more, as fast as it is taken; tells when nobody will take any more.
struct Flood(mpsc::UnboundedSender<()>);

impl Body for Flood {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; 1 << 16])))))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

/// Over HTTP/1.1 a full socket shows it, over HTTP/2 a ping that nobody answers.
#[tokio::test]
async fn a_peer_that_takes_nothing_is_gone_and_harms_nobody() {
    let service = Service::start().await;
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let (gone, mut left) = mpsc::unbounded_channel();
    let flood = move || async move { axum::body::Body::new(Flood(gone)) };
    let options = ListenerOptions { stalled_max: Duration::from_millis(200), ..Default::default() };
    let limits = Limits { ping_timeout: Duration::from_millis(200), ..Limits::default() };
    let server = serve_unguarded(socket, Router::new().route("/flood", get(flood)), service.verifier.clone());
    tokio::spawn(server.options(options).limits(limits).into_future());
    let config = agent(&service, &[]).1;
    let mut good = Client::connect(address, &config, b"h2").await.send("GET", "/flood").await.unwrap().into_body();
    good.frame().await.unwrap().unwrap();

    let mut http1 = connect(address, &config).await.unwrap();
    http1.write_all(b"GET /flood HTTP/1.1\r\nhost: crm.test\r\n\r\n").await.unwrap();
    tokio::time::timeout(PATIENCE, left.recv()).await.expect("a full socket is waited for").unwrap();
    good.frame().await.unwrap().unwrap();

    // A client that nobody drives once it has its answer.
    let asking = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let answer = runtime.block_on(async {
            let mut client = Client::connect(address, &config, b"h2").await;
            (client.send("GET", "/flood").await.unwrap(), client)
        });
        (answer, runtime)
    });
    let (answer, runtime) = asking.await.unwrap();
    let reading = async { while good.frame().await.unwrap().is_ok() {} };
    tokio::select! {
        gone = tokio::time::timeout(PATIENCE, left.recv()) => gone.expect("a ping is waited for").unwrap(),
        () = reading => panic!("the other one is gone too"),
    }
    drop((http1, answer));
    runtime.shutdown_background();
}
