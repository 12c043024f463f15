//! The same over HTTP/2 with mutual TLS on loopback, the issuer as a process of its own.
//!
//! First certificates for join tokens, many on one connection: a renewal is its connection's, one each, so it would
//! measure handshakes. The issuer's caps on attestations of one address are lifted; the load is one address.

use std::num::NonZeroU32;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use chancery::caller::Origin;
use chancery::clock::SystemClock;
use chancery::config::Config;
use chancery::http::Rates;
use chancery_verifier::{ClientCertificate, Listener, ListenerOptions, Material, ServerExpectation, Verifier};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rustls::pki_types::ServerName;
use serde_json::{Map, Value};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio_rustls::TlsConnector;
use tower::ServiceExt;

use crate::drive::{closed_loop, open_loop};
use crate::issue::{Crypto, STANDARD};
use crate::issuer::{INSTANCES, Running, attest_requests, certificates, csr, own_material, private};
use crate::memory::Memory;
use crate::report::{figure, median, row};

/// Connections that the requests share.
const CONNECTIONS: usize = 8;

/// All requests, and a client's identity: made before the server runs.
pub(crate) struct Plan {
    slices: Vec<Vec<Bytes>>,
    open_loop: Vec<Bytes>,
    identity: Material,
}

impl Plan {
    pub(crate) async fn prepare(running: &Running, slice: usize, rounds: usize) -> anyhow::Result<Self> {
        let mut slices = Vec::new();
        for _ in 0..rounds {
            slices.push(bodies(running, slice).await?);
        }
        Ok(Self { slices, open_loop: bodies(running, slice).await?, identity: identity(running).await? })
    }
}

async fn bodies(running: &Running, count: usize) -> anyhow::Result<Vec<Bytes>> {
    let requests = attest_requests(running.join_secrets(count, INSTANCES).await?)?;
    requests.iter().map(|request| Ok(serde_json::to_vec(request)?.into())).collect()
}

/// An agent's, as good as any.
async fn identity(running: &Running) -> anyhow::Result<Material> {
    let key = rcgen::KeyPair::generate()?;
    let mut request = attest_requests(running.join_secrets(1, 1).await?)?.remove(0);
    request.csr_pem = csr(&key)?;
    let issuer = &running.issuer;
    let issued = issuer.attest(request, None, issuer.request_id()?).await?.into_reply();
    Ok(Material { chain: certificates(&issued.issued.chain_pem)?, key: private(&key), ..own_material(issuer).await? })
}

/// Slices at [`STANDARD`] in flight against the crypto alone in turn, then half that rate, open loop.
pub(crate) async fn measure(folder: &Path, plan: Plan, limit: &Crypto) -> anyhow::Result<Map<String, Value>> {
    let server = Server::start(folder).await?;
    let client = Arc::new(Client::connect(&server.address, &plan.identity).await?);
    let attest = move |body| {
        let client = client.clone();
        async move { client.attest(body).await }
    };
    let mut slices = Vec::new();
    for bodies in plan.slices {
        let crypto = limit.run()?;
        let cpu = server.cpu()?;
        let driven = closed_loop(bodies, STANDARD, attest.clone()).await?;
        slices.push((driven.slice.with_cpu(server.cpu()?.saturating_sub(cpu)), crypto, driven.p99_ms));
    }
    let per_s = median(slices.iter().map(|(path, _, _)| path.per_s()));
    let per_server_cpu_s = median(slices.iter().map(|(path, _, _)| path.per_cpu_s()));
    let ratio = median(slices.iter().map(|(path, crypto, _)| path.per_s() / crypto.per_s()));
    let closed_p99_ms = median(slices.iter().map(|(_, _, p99_ms)| *p99_ms));
    let open_p99_ms = open_loop(plan.open_loop, per_s / 2.0, attest).await?.p99_ms;
    server.stop().await?;

    let cells = [(per_s, "/s"), (ratio, "of crypto"), (per_server_cpu_s, "/server CPU s"), (closed_p99_ms, "ms p99")];
    row(&format!("HTTP/2 mTLS, {STANDARD} in flight"), &cells);
    row("HTTP/2 mTLS, half that, open loop", &[(open_p99_ms, "ms p99")]);
    let figures = [
        ("http_per_s", per_s),
        ("http_per_server_cpu_s", per_server_cpu_s),
        ("http_ratio", ratio),
        ("http_p99_ms", open_p99_ms),
        ("http_closed_loop_p99_ms", closed_p99_ms),
    ];
    Ok(figures.map(|(name, value)| (name.to_owned(), figure(value))).into_iter().collect())
}

/// The issuer in a process of its own. It goes when its standard input is closed.
pub(crate) struct Server {
    child: Child,
    address: String,
}

impl Server {
    pub(crate) async fn start(folder: &Path) -> anyhow::Result<Self> {
        Self::child("serve-child", folder).await
    }

    /// The whole service, with its own limits and all that runs beside it.
    pub(crate) async fn whole(folder: &Path) -> anyhow::Result<Self> {
        Self::child("serve-whole-child", folder).await
    }

    async fn child(command: &str, folder: &Path) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(command)
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().context("a pipe was asked for")?;
        let address = BufReader::new(stdout).lines().next_line().await?.context("the issuer did not start")?;
        Ok(Self { child, address })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// User and system time so far: fields 14 and 15 of its stat, in hundredths of a second.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let id = self.child.id().context("the issuer is gone")?;
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
        // The second field is the program's name, in parentheses.
        let (_, fields) = stat.rsplit_once(')').context("no stat")?;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
        Ok(Duration::from_millis(ticks * 10))
    }

    /// Resident memory, now and at most: two lines of its status, in KiB.
    pub(crate) fn memory(&self) -> anyhow::Result<Memory> {
        let id = self.child.id().context("the issuer is gone")?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
            Ok::<f64, anyhow::Error>(value.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
        };
        Ok(Memory { now: line("VmRSS:")?, peak: line("VmHWM:")? })
    }

    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        drop(self.child.stdin.take());
        self.child.wait().await?;
        Ok(())
    }
}

/// Several connections, used in turn.
struct Client {
    connections: Vec<SendRequest<Full<Bytes>>>,
    turn: AtomicUsize,
    uri: Uri,
}

impl Client {
    async fn connect(address: &str, identity: &Material) -> anyhow::Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Verifier::new(identity, provider, Arc::new(chancery_verifier::SystemClock))?;
        let mut config = verifier.client_config(ServerExpectation::Issuer)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(http2(&connector, TcpStream::connect(address).await?).await?);
        }
        Ok(Self { connections, turn: AtomicUsize::new(0), uri: format!("https://{address}/v1/attest").parse()? })
    }

    /// Sends a body, and reads the answer whole.
    async fn attest(&self, body: Bytes) -> anyhow::Result<()> {
        let at = self.turn.fetch_add(1, Ordering::Relaxed) % CONNECTIONS;
        let mut sender = self.connections.get(at).context("a connection")?.clone();
        let request = Request::post(&self.uri).header("content-type", "application/json").body(Full::new(body))?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        if status != StatusCode::CREATED {
            bail!("{status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(())
    }
}

/// HTTP/2 to an issuer.
pub(crate) async fn http2(connector: &TlsConnector, tcp: TcpStream) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    tcp.set_nodelay(true)?;
    let tls = connector.connect(ServerName::try_from("localhost")?, tcp).await?;
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// `serve-whole-child`: prints where it listens, serves until its standard input is closed.
#[tokio::main]
pub(crate) async fn serve_whole_child(folder: &Path) -> anyhow::Result<()> {
    let anywhere = ([127, 0, 0, 1], 0).into();
    let config = Config::dev(folder.into(), anywhere, anywhere)?;
    let server = chancery::server::Server::start(config, Arc::new(SystemClock)).await?;
    println!("{}", server.api());
    let _closed = tokio::io::stdin().read(&mut [0]).await?;
    server.stop().await;
    Ok(())
}

/// `serve-child`: prints where it listens, serves until its standard input is closed.
#[tokio::main]
pub(crate) async fn serve_child(folder: &Path) -> anyhow::Result<()> {
    let running = Running::open(folder).await?;
    let rate = NonZeroU32::MAX;
    let router =
        chancery::http::api(running.issuer.clone(), Rates { peer_per_s: rate, total_per_s: rate, ..Rates::default() });
    let tcp = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", tcp.local_addr()?);
    let options = ListenerOptions { client_certificate: ClientCertificate::Optional, ..ListenerOptions::default() };
    let mut listener = Listener::new(tcp, &running.verifier, options)?;
    let mut stdin = tokio::io::stdin();
    let mut end = [0];
    loop {
        let connection = tokio::select! {
            connection = listener.accept() => connection.context("the listener stopped")?,
            _ = stdin.read(&mut end) => break,
        };
        let origin = Origin::Tls { peer: connection.peer().cloned(), address: connection.remote_addr() };
        let router = router.clone();
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(origin.clone());
            router.clone().oneshot(request)
        });
        tokio::spawn(async move {
            let served = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(connection), service).await;
            if let Err(error) = served {
                eprintln!("a connection ended early: {error}");
            }
        });
    }
    running.close().await;
    Ok(())
}
