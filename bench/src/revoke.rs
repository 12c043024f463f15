//! From the answer to a revocation until every connected verifier refuses, and has closed what was open.
//!
//! The issuer is the whole service in a process of its own. In this one stand the verifiers: each has an identity, a
//! listener and its own connection to the feed, and one open connection of the agent that is revoked. Both processes share
//! the processors, and so does the load.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use chancery::store::SHA256;
use chancery_api::client::Client;
use chancery_api::{Applies, FeedAck, NewJoinToken, RevocationsAnswer, RevocationsRequest, Subject};
use chancery_identity::{Effect, Target};
use chancery_verifier::feed::{Feed, FeedTrust};
use chancery_verifier::{
    Listener, ListenerOptions, Material, Peer, ServerExpectation, SystemClock, Verifier, first_contact,
};
use clap::Args;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use hyper::{Request, StatusCode};
use ring::rand::SystemRandom;
use rustls::pki_types::ServerName;
use serde_json::{Map, Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::drive::closed_loop;
use crate::http::{Server, http2};
use crate::issuer::{Running, attest_requests, certificates, csr, local, own_material, private};
use crate::report::{Watch, figure, load_average, median, ms, quantile, report_in_folder, row};

/// Attestations of one address that the issuer takes in a second; the load comes from as many addresses as it takes.
const PER_ADDRESS: usize = 80;
/// A verifier that has not done its part by then never will.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long processor time is counted from the question on.
const WATCHED: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(crate) struct Options {
    /// How many verifiers are connected.
    #[arg(long, default_value_t = 1000)]
    verifiers: usize,
    /// Revocations without load, and as many with it; figures are over all of them.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Certificates issued a second meanwhile, over HTTP.
    #[arg(long, default_value_t = 500)]
    load: usize,
    /// Where the issuer keeps its state while this runs; a folder of its own there, removed after.
    #[arg(long, default_value = ".")]
    folder: PathBuf,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    report_in_folder(&options.folder, |folder| async move { measure(options, &folder).await })
}

async fn measure(options: &Options, folder: &Path) -> anyhow::Result<Value> {
    let load_before = load_average();
    let Prepared { base, services, agents, load } = Prepared::new(options, folder).await?;
    let server = Server::whole(folder).await?;
    let address: SocketAddr = server.address().parse()?;
    let admin = Client::over_unix_socket(folder.join("admin.sock"));

    let (told, mut events) = mpsc::unbounded_channel();
    let mut verifiers = Vec::new();
    for service in services {
        verifiers.push(Connected::start(service, address, told.clone()).await?);
    }
    for verifier in &mut verifiers {
        verifier.followed.wait_for(|followed| *followed).await?;
    }

    let (idle, loaded) = agents.split_at(options.rounds);
    let mut calm = Rounds::default();
    for agent in idle {
        calm.add(round(agent, &verifiers, &server, &admin, &mut events).await?);
    }
    let issued = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let loading = tokio::spawn(keep_loading(load, base, address, options.load, issued.clone()));
    let mut busy = Rounds::default();
    for agent in loaded {
        busy.add(round(agent, &verifiers, &server, &admin, &mut events).await?);
    }
    let issued_per_s = issued.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
    loading.abort();
    drop(verifiers);
    server.stop().await?;

    calm.show("no load");
    busy.show(&format!("{issued_per_s:.0} issued/s beside"));
    let mut report = json!({
        "bench": "revoke", "verifiers": options.verifiers, "rounds": options.rounds,
        "load_average_before": load_before, "load_average_after": load_average(),
    });
    if let Value::Object(report) = &mut report {
        report.extend(calm.figures());
        let mut loaded = busy.figures();
        loaded.insert("issued_per_s".into(), figure(issued_per_s));
        report.insert("loaded".into(), loaded.into());
    }
    Ok(report)
}

/// Identities of all who take part, made before the server runs.
struct Prepared {
    base: Material,
    services: Vec<Material>,
    /// One for each revocation.
    agents: Vec<Agent>,
    /// Requests for certificates.
    load: Vec<Bytes>,
}

struct Agent {
    target: Target,
    identity: Material,
}

impl Prepared {
    async fn new(options: &Options, folder: &Path) -> anyhow::Result<Self> {
        let running = Running::open(folder).await?;
        let base = own_material(&running.issuer).await?;
        let mut services = Vec::new();
        for n in 0..options.verifiers {
            services.push(service(&running, &format!("service-{n}"), &base).await?);
        }
        let mut agents = Vec::new();
        for _ in 0..options.rounds * 2 {
            let secret = running.join_secrets(1, 1).await?.remove(0);
            let (identity, spiffe_id) = enrol(&running, secret, &base).await?;
            let name = spiffe_id.rsplit('/').nth(1).context("an agent's name")?;
            agents.push(Agent { target: format!("agent:{name}").parse()?, identity });
        }
        // Each round takes some seconds, most of them to open connections.
        let count = options.load * (options.rounds * 8 + 10);
        let requests = attest_requests(running.join_secrets(count, 64).await?)?;
        let load = requests.iter().map(|request| Ok(serde_json::to_vec(request)?.into()));
        let load = load.collect::<anyhow::Result<_>>()?;
        running.close().await;
        Ok(Self { base, services, agents, load })
    }
}

async fn service(running: &Running, name: &str, base: &Material) -> anyhow::Result<Material> {
    let issuer = &running.issuer;
    let caller = local(issuer)?;
    let new = serde_json::from_value(json!({ "name": name, "owner": "team-bench", "systems": [name] }))?;
    issuer.registry().create_service(new, &caller).await?;
    let subject = Subject::Service(name.parse()?);
    let token = NewJoinToken { subject, uses: 1, ttl_s: None, cidrs: Vec::new() };
    let token = issuer.registry().create_join_token(token, &caller, issuer.now()).await?.into_reply().token;
    Ok(enrol(running, token, base).await?.0)
}

async fn enrol(
    running: &Running,
    token: chancery_api::JoinSecret,
    base: &Material,
) -> anyhow::Result<(Material, String)> {
    let key = rcgen::KeyPair::generate()?;
    let mut request = attest_requests(vec![token])?.remove(0);
    request.csr_pem = csr(&key)?;
    let issuer = &running.issuer;
    let issued = issuer.attest(request, None, issuer.request_id()?).await?.into_reply().issued;
    let chain = certificates(&issued.chain_pem)?;
    Ok((Material { chain, key: private(&key), ..base.clone() }, issued.certificate.spiffe_id.to_string()))
}

/// What happened at a verifier, and when.
enum Event {
    /// It refuses the peer that it had.
    Refused(Instant),
    /// The agent's end of the connection is closed.
    Closed(Instant),
}

/// A verifier with its listener, connected to the feed.
struct Connected {
    address: SocketAddr,
    /// The agent that is connected.
    peer: watch::Receiver<Option<Peer>>,
    /// Whether a head has come.
    followed: watch::Receiver<bool>,
    told: mpsc::UnboundedSender<Event>,
    _tasks: JoinSet<anyhow::Result<()>>,
}

impl Connected {
    async fn start(material: Material, issuer: SocketAddr, told: mpsc::UnboundedSender<Event>) -> anyhow::Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Verifier::new(&material, provider, Arc::new(SystemClock))?;
        let tcp = TcpListener::bind("127.0.0.1:0").await?;
        let address = tcp.local_addr()?;
        let listener = Listener::new(tcp, &verifier, ListenerOptions::default())?;
        let (enter, peer) = watch::channel(None);
        let (follow, followed) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, enter));
        let following = follow_feed(verifier, material, issuer, peer.clone(), follow, told.clone());
        tasks.spawn(async move { following.await.inspect_err(|error| eprintln!("a verifier lost its feed: {error}")) });
        Ok(Self { address, peer, followed, told, _tasks: tasks })
    }
}

/// Accepts the agent of each round, and reads whatever it sends.
async fn accept(mut listener: Listener, enter: watch::Sender<Option<Peer>>) -> anyhow::Result<()> {
    while let Some(mut connection) = listener.accept().await {
        enter.send_replace(connection.peer().cloned());
        tokio::spawn(async move { while connection.read(&mut [0; 64]).await.is_ok_and(|count| count > 0) {} });
    }
    Ok(())
}

/// Takes each head in, tells when that ends the peer, and acknowledges when the issuer asks for it.
async fn follow_feed(
    verifier: Verifier,
    material: Material,
    issuer: SocketAddr,
    peer: watch::Receiver<Option<Peer>>,
    follow: watch::Sender<bool>,
    told: mpsc::UnboundedSender<Event>,
) -> anyhow::Result<()> {
    let mut config = verifier.client_config(ServerExpectation::Issuer)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let mut sender = http2(&connector, TcpStream::connect(issuer).await?).await?;
    let trust = FeedTrust {
        trust_domain: material.trust_domain.clone(),
        roots: material.roots.clone(),
        algorithms: rustls::crypto::ring::default_provider().signature_verification_algorithms,
        sha256: SHA256,
    };
    let (mut feed, _) = Feed::new(trust, None, verifier.now());
    let request = Request::get(format!("https://{issuer}/v1/feed")).body(Full::default())?;
    let answer = sender.send_request(request).await?;
    ensure!(answer.status() == StatusCode::OK, "the feed is refused: {}", answer.status());
    let mut body = answer.into_body();
    let (mut applied, mut acknowledging) = (0, JoinSet::new());
    while let Some(frame) = body.frame().await {
        let Ok(bytes) = frame?.into_data() else { continue };
        for known in feed.push(&bytes, verifier.now())? {
            let (epoch, n) = (known.epoch(), known.n());
            verifier.renew(&Material { feed: Some(known), ..material.clone() })?;
            if n == std::mem::replace(&mut applied, n) {
                follow.send_replace(true);
                continue;
            }
            let refused = peer.borrow().as_ref().is_some_and(|peer| verifier.check(peer, verifier.now()).is_err());
            if refused {
                let _ = told.send(Event::Refused(Instant::now()));
            }
            follow.send_replace(true);
            let pause = feed.acknowledge_in(random()?);
            let (sender, verifier) = (sender.clone(), verifier.clone());
            acknowledging.spawn(async move {
                tokio::time::sleep(pause).await;
                acknowledge(sender, issuer, epoch, n, &verifier).await
            });
        }
        while let Some(acknowledged) = acknowledging.try_join_next() {
            acknowledged??;
        }
    }
    anyhow::bail!("the feed ended")
}

fn random() -> anyhow::Result<u32> {
    let bytes =
        ring::rand::generate(&SystemRandom::new()).map_err(|_| anyhow::anyhow!("the system gives no randomness"))?;
    Ok(u32::from_be_bytes(bytes.expose()))
}

async fn acknowledge(
    mut sender: SendRequest<Full<Bytes>>,
    issuer: SocketAddr,
    epoch: u64,
    n: u64,
    verifier: &Verifier,
) -> anyhow::Result<()> {
    let ack = FeedAck {
        epoch,
        n,
        applied_at: verifier.now().wall,
        applies: Applies::Here,
        closed_connections: 1,
        last_accepted_at: None,
        last_accepted: None,
        open_connections: None,
        head: None,
    };
    let request = Request::post(format!("https://{issuer}/v1/feed/acks")).header("content-type", "application/json");
    let answer = sender.send_request(request.body(Full::from(serde_json::to_vec(&ack)?))?).await?;
    ensure!(answer.status().is_success(), "an acknowledgement is refused: {}", answer.status());
    Ok(())
}

/// Opens the agent's connections, revokes it, and waits until all is over.
async fn round(
    agent: &Agent,
    verifiers: &[Connected],
    server: &Server,
    admin: &Client,
    events: &mut mpsc::UnboundedReceiver<Event>,
) -> anyhow::Result<Round> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let own = Verifier::new(&agent.identity, provider, Arc::new(SystemClock))?;
    let connector = TlsConnector::from(Arc::new(own.client_config(ServerExpectation::AnyService)?));
    let name = own.client(&agent.identity.chain, own.now())?.spiffe_id().clone();
    let call = move |(address, told): (SocketAddr, mpsc::UnboundedSender<Event>)| {
        let connector = connector.clone();
        async move {
            let tcp = TcpStream::connect(address).await?;
            let mut tls = connector.connect(ServerName::try_from("localhost")?, tcp).await?;
            tokio::spawn(async move {
                let _ = tls.read(&mut [0]).await;
                let _ = told.send(Event::Closed(Instant::now()));
            });
            anyhow::Ok(())
        }
    };
    let inputs = verifiers.iter().map(|verifier| (verifier.address, verifier.told.clone())).collect();
    closed_loop(inputs, 32, call).await?;
    for verifier in verifiers {
        let entered = |peer: &Option<Peer>| peer.as_ref().is_some_and(|peer| *peer.spiffe_id() == name);
        verifier.peer.clone().wait_for(entered).await?;
    }
    while events.try_recv().is_ok() {}

    let request: RevocationsRequest =
        serde_json::from_value(json!({ "targets": [agent.target], "effect": Effect::Suspend }))?;
    let watch = Watch::process();
    let (asked, issuer_cpu) = (Instant::now(), server.cpu()?);
    admin.post::<RevocationsAnswer>("/v1/admin/revocations", &request).await?;
    let answered = Instant::now();
    let mut round = Round { answer_ms: ms(answered - asked), ..Round::default() };
    let after = |at: Instant| ms(at.saturating_duration_since(answered));
    while round.refused.len() < verifiers.len() || round.closed.len() < verifiers.len() {
        match tokio::time::timeout(PATIENCE, events.recv()).await.context("not all verifiers refuse")? {
            Some(Event::Refused(at)) => round.refused.push(after(at)),
            Some(Event::Closed(at)) => round.closed.push(after(at)),
            None => anyhow::bail!("no verifier is left"),
        }
    }
    // Acknowledgements come later.
    tokio::time::sleep_until((asked + WATCHED).into()).await;
    round.issuer_cpu_ms = ms(server.cpu()?.saturating_sub(issuer_cpu));
    round.verifiers_cpu_ms = ms(watch.stop(1).cpu());
    Ok(round)
}

/// Issues at a steady rate, from addresses that are each within the issuer's limits.
async fn keep_loading(
    load: Vec<Bytes>,
    base: Material,
    issuer: SocketAddr,
    per_s: usize,
    issued: Arc<AtomicUsize>,
) -> anyhow::Result<()> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let root = base.roots.first().context("a root")?;
    let mut config = first_contact(root, base.trust_domain.clone(), &provider, Arc::new(SystemClock))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let mut senders = Vec::new();
    for n in 0..per_s.div_ceil(PER_ADDRESS).max(1) {
        let socket = TcpSocket::new_v4()?;
        socket.bind((IpAddr::V4(Ipv4Addr::new(127, 0, 1, u8::try_from(n)?)), 0).into())?;
        senders.push(http2(&connector, socket.connect(issuer).await?).await?);
    }
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for (at, body) in load.into_iter().enumerate() {
        let due = begun + Duration::from_secs_f64(at as f64 / per_s as f64);
        tokio::time::sleep_until(due.into()).await;
        let mut sender = senders.get(at % senders.len()).context("a connection")?.clone();
        let issued = issued.clone();
        let request = Request::post(format!("https://{issuer}/v1/attest")).header("content-type", "application/json");
        let request = request.body(Full::new(body))?;
        tasks.spawn(async move {
            if sender.send_request(request).await.is_ok_and(|answer| answer.status() == StatusCode::CREATED) {
                issued.fetch_add(1, Ordering::Relaxed);
            }
        });
        while tasks.try_join_next().is_some() {}
    }
    Ok(())
}

/// Milliseconds after the answer, one for each verifier.
#[derive(Default)]
struct Round {
    answer_ms: f64,
    /// Processor time of the issuer in the second that begins with the question, a heartbeat included.
    issuer_cpu_ms: f64,
    /// The same of all verifiers and the agent.
    verifiers_cpu_ms: f64,
    refused: Vec<f64>,
    closed: Vec<f64>,
}

/// All rounds of one kind.
#[derive(Default)]
struct Rounds {
    answer_ms: Vec<f64>,
    issuer_cpu_ms: Vec<f64>,
    verifiers_cpu_ms: Vec<f64>,
    refused: Vec<f64>,
    closed: Vec<f64>,
}

impl Rounds {
    fn add(&mut self, round: Round) {
        self.answer_ms.push(round.answer_ms);
        self.issuer_cpu_ms.push(round.issuer_cpu_ms);
        self.verifiers_cpu_ms.push(round.verifiers_cpu_ms);
        self.refused.extend(round.refused);
        self.closed.extend(round.closed);
    }

    fn show(&self, load: &str) {
        let shares = |values: &[f64]| [0.5, 0.99, 1.0].map(|share| quantile(values.iter().copied(), share));
        for (name, values) in [("refused", &self.refused), ("closed", &self.closed)] {
            let [p50, p99, max] = shares(values);
            row(&format!("{name}, {load}"), &[(p50, "ms p50"), (p99, "ms p99"), (max, "ms max")]);
        }
        let [issuer, verifiers] = [&self.issuer_cpu_ms, &self.verifiers_cpu_ms].map(|all| median(all.iter().copied()));
        row(&format!("processor time of the second, {load}"), &[(issuer, "ms issuer"), (verifiers, "ms verifiers")]);
    }

    fn figures(&self) -> Map<String, Value> {
        let mut figures = Map::new();
        for (name, values) in [("refused", &self.refused), ("closed", &self.closed)] {
            for (share, word) in [(0.5, "p50"), (0.99, "p99"), (1.0, "max")] {
                figures.insert(format!("{name}_ms_{word}"), figure(quantile(values.iter().copied(), share)));
            }
        }
        let medians = [
            ("answer_ms", &self.answer_ms),
            ("issuer_cpu_ms", &self.issuer_cpu_ms),
            ("verifiers_cpu_ms", &self.verifiers_cpu_ms),
        ];
        figures.extend(medians.map(|(name, all)| (name.to_owned(), figure(median(all.iter().copied())))));
        figures
    }
}
