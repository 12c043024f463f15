//! An issuer on a real socket that can be told to fail: what it was asked is kept, what it answers can be lost.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chancery_api::{
    AttestRequest, AuthorityEntry, AuthorityKind, Bundle, Evidence, FeedAck, FreshnessLimits, Issued,
    IssuedCertificate, JoinSecret, JoinString, Problem, RenewRequest, Retry, RootPin, WellKnown, Whoami,
    binding_preimage,
};
use chancery_identity::{Actor, Grant, KeyId, Leaf, Serial, SpiffeId, Timestamp};
use chancery_testkit::{Subject, TestCa, TestFeed};
use chancery_verifier::{ClientCertificate, ListenerOptions, Material, Peer, SystemClock, Verifier, axum as serving};
use ring::digest::{SHA256, digest};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

pub(crate) const SECRET: [u8; 32] = [7; 32];
const NONCE: &str = "one-nonce";

/// An issuer that issues for one subject.
pub(crate) struct Issuer {
    pub(crate) url: String,
    pub(crate) world: Arc<World>,
    /// Of its own: with it all its connections end, as with a process.
    runtime: Option<Runtime>,
}

pub(crate) struct World {
    pub(crate) ca: TestCa,
    subject: Subject,
    /// What the feed says, and with which clock its heads are made.
    feed: watch::Sender<Said>,
    bundle: Vec<CertificateDer<'static>>,
    revision: watch::Sender<u64>,
    state: Mutex<Told>,
    /// Tells that it was asked something, said something, or lost a reader.
    happened: watch::Sender<()>,
}

#[derive(Default)]
pub(crate) struct Told {
    /// Method, path and the serial of the client's certificate, in the order they came.
    pub(crate) asked: Vec<(String, Option<Serial>)>,
    /// The public keys that each token or certificate asked for; more than one is a fork.
    pub(crate) keys: BTreeMap<String, Vec<Vec<u8>>>,
    pub(crate) fault: Option<(&'static str, Fault)>,
    pub(crate) renew_in: Option<Duration>,
    pub(crate) unchanged: usize,
    pub(crate) clock_offset_s: i64,
    /// What was acknowledged, and by whom.
    pub(crate) acks: Vec<(SpiffeId, FeedAck)>,
    heads: usize,
    pub(crate) feeds_open: usize,
    answers: BTreeMap<Vec<u8>, Issued>,
    revoked: Vec<Serial>,
    crls: Option<(u64, Vec<Vec<u8>>)>,
}

/// What the feed says.
#[derive(Clone)]
struct Said {
    feed: TestFeed,
    /// Said instead, and then nothing.
    lie: Option<String>,
    clock_stands: bool,
}

#[derive(Clone, Copy)]
pub(crate) enum Fault {
    /// It is done, and nobody hears of it.
    LoseAnswer,
    Refuse {
        status: u16,
        code: &'static str,
        retry: Retry,
    },
}

impl Issuer {
    /// One that stands below its own root.
    pub(crate) fn start(ca: TestCa) -> Self {
        let subject = ca.agent("invoice-bot").scope("tools/call:crm/get_customer");
        Self::of(ca, subject)
    }

    /// One whose only subject is this.
    pub(crate) fn of(ca: TestCa, subject: Subject) -> Self {
        let server = ca.server().not_after(ca.now() + Duration::from_secs(86_400));
        let bundle = vec![ca.root()];
        Self::build(ca, subject, &server, bundle)
    }

    /// One that shows this certificate and this bundle.
    pub(crate) fn with(ca: TestCa, server: &Subject, bundle: Vec<CertificateDer<'static>>) -> Self {
        let subject = ca.agent("invoice-bot");
        Self::build(ca, subject, server, bundle)
    }

    fn build(ca: TestCa, subject: Subject, server: &Subject, bundle: Vec<CertificateDer<'static>>) -> Self {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let url = format!("https://{}", socket.local_addr().unwrap());
        let issued = server.issue();
        let material = Material {
            chain: issued.chain,
            key: Arc::new(issued.key),
            trust_domain: ca.trust_domain().clone(),
            roots: [ca.root()].into(),
            crls: ca.crls(&[]).into(),
            answered: None,
            feed: None,
            freshness: Default::default(),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Verifier::new(&material, provider, Arc::new(SystemClock)).unwrap();
        let world = Arc::new(World {
            feed: watch::Sender::new(Said { feed: TestFeed::new(&ca), lie: None, clock_stands: false }),
            ca,
            subject,
            bundle,
            revision: watch::Sender::new(1),
            state: Mutex::default(),
            happened: watch::Sender::new(()),
        });
        let app = Router::new()
            .route("/v1/bundle", get(bundle_of))
            .route("/.well-known/chancery", get(well_known))
            .route("/v1/attest/challenge", post(challenge))
            .route("/v1/attest", post(attest))
            .route("/v1/certificates/renew", post(renew))
            .route("/v1/whoami", get(whoami))
            .route("/crl/{n}", get(crl))
            .route("/v1/feed", get(feed))
            .route("/v1/feed/acks", post(acknowledge))
            .with_state(Arc::clone(&world));
        let options = ListenerOptions { client_certificate: ClientCertificate::Optional, ..Default::default() };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(async move {
            let socket = TcpListener::from_std(socket).unwrap();
            serving::serve_unguarded(socket, app, verifier).options(options).await.unwrap();
        });
        Self { url, world, runtime: Some(runtime) }
    }

    pub(crate) fn join(&self) -> JoinString {
        let pin = digest(&SHA256, &self.world.ca.root()).as_ref().try_into().unwrap();
        JoinString::new(&self.url, JoinSecret::from_bytes(SECRET), RootPin::from_bytes(pin)).unwrap()
    }

    pub(crate) fn told(&self) -> MutexGuard<'_, Told> {
        self.world.told()
    }

    /// Everything that was asked, without the questions that repeat.
    pub(crate) fn asked(&self) -> Vec<String> {
        let repeats = |line: &str| {
            line.starts_with("GET /crl") || line.starts_with("GET /v1/whoami") || line == "POST /v1/feed/acks"
        };
        self.told().asked.iter().map(|(line, _)| line.clone()).filter(|line| !repeats(line)).collect()
    }

    /// Changes the record: whoever waits for that is told.
    pub(crate) fn change_record(&self) {
        self.world.revision.send_modify(|revision| *revision += 1);
    }

    pub(crate) fn revoke(&self, serial: Serial) {
        let mut told = self.told();
        told.revoked.push(serial);
        told.crls = None;
    }

    /// Changes what the feed says: those who hear it are told.
    pub(crate) fn feed<T>(&self, change: impl FnOnce(&mut TestFeed) -> T) -> T {
        let mut outcome = None;
        self.world.feed.send_modify(|said| outcome = Some(change(&mut said.feed)));
        outcome.unwrap()
    }

    /// Says this instead, on connections that are open too.
    pub(crate) fn lie(&self, lie: Option<String>) {
        self.world.feed.send_modify(|said| said.lie = lie);
    }

    /// Heads are made at the time that the feed says.
    pub(crate) fn stop_clock(&self) {
        self.world.feed.send_modify(|said| said.clock_stands = true);
    }

    /// Waits until somebody acknowledges this number.
    pub(crate) async fn acknowledged(&self, n: u64) {
        self.eventually(|told| told.acks.iter().any(|(_, ack)| ack.n >= n)).await;
    }

    /// Waits for so many more heads.
    pub(crate) async fn heads(&self, more: usize) {
        let wanted = self.told().heads + more;
        self.eventually(|told| told.heads >= wanted).await;
    }

    /// Waits for it.
    pub(crate) async fn eventually(&self, holds: impl Fn(&Told) -> bool) {
        let mut happened = self.world.happened.subscribe();
        let waiting = async {
            while !holds(&self.told()) {
                happened.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("it comes to hold");
    }

    pub(crate) fn crls_asked(&self) -> usize {
        self.told().crls_asked()
    }

    pub(crate) fn feeds(&self) -> usize {
        self.told().asked.iter().filter(|(line, _)| line == "GET /v1/feed").count()
    }

    pub(crate) fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Told {
    pub(crate) fn crls_asked(&self) -> usize {
        self.asked.iter().filter(|(line, _)| line.starts_with("GET /crl")).count()
    }
}

impl World {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.state.lock().unwrap()
    }

    /// Something happens, and who waits for that is told.
    fn happens<T>(&self, change: impl FnOnce(&mut Told) -> T) -> T {
        let outcome = change(&mut self.told());
        self.happened.send_replace(());
        outcome
    }

    /// Writes down what was asked; tells what to do wrong.
    fn ask(&self, method: &Method, uri: &Uri, peer: Option<&Peer>) -> Option<Fault> {
        self.happens(|told| {
            told.asked.push((format!("{method} {}", uri.path()), peer.map(Peer::serial)));
            match told.fault {
                Some((path, fault)) if path == uri.path() => {
                    told.fault = None;
                    Some(fault)
                }
                _ => None,
            }
        })
    }

    fn issue(&self, purpose: String, csr_pem: &str, fault: Option<Fault>) -> Response {
        if let Some(Fault::Refuse { status, code, retry }) = fault {
            return refuse(status, code, retry);
        }
        let request = CertificateSigningRequestDer::from_pem_slice(csr_pem.as_bytes()).unwrap();
        let revision = *self.revision.borrow();
        let (chain, certificate) =
            self.subject.clone().grant(|grant: &mut Grant| grant.revision = revision).certify(&request);
        let spki = Leaf::read(chain.first().unwrap()).unwrap().spki().to_vec();
        let mut told = self.told();
        let keys = told.keys.entry(purpose).or_default();
        if !keys.contains(&spki) {
            keys.push(spki.clone());
        }
        let server_time = Timestamp::from_unix_millis(now().unix_millis() + told.clock_offset_s * 1000);
        let issued = Issued {
            certificate: IssuedCertificate {
                serial: certificate.serial,
                spiffe_id: certificate.spiffe_id.clone(),
                subject: "agent:invoice-bot".parse().unwrap(),
                agent_revision: revision,
                scopes: certificate.scopes.clone(),
                grant_id: certificate.grant.as_ref().unwrap().id,
                not_before: certificate.not_before,
                not_after: certificate.not_after,
                renew_after: server_time + told.renew_in.unwrap_or(Duration::from_secs(1800)),
            },
            chain_pem: chain.iter().map(|der| pem(der)).collect(),
            bundle_pem: self.bundle.iter().map(|der| pem(der)).collect(),
            server_time,
            log_index: 1,
        };
        // The same question is answered the same.
        let issued = told.answers.entry(spki).or_insert(issued).clone();
        match fault {
            Some(Fault::LoseAnswer) => StatusCode::BAD_GATEWAY.into_response(),
            _ => (StatusCode::CREATED, axum::Json(issued)).into_response(),
        }
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn bundle_of(
    State(world): State<Arc<World>>,
    method: Method,
    uri: Uri,
    peer: Option<Peer>,
) -> axum::Json<Bundle> {
    world.ask(&method, &uri, peer.as_ref());
    axum::Json(Bundle::new(1, 300, world.bundle.iter().map(AsRef::as_ref)).unwrap())
}

async fn well_known(
    State(world): State<Arc<World>>,
    method: Method,
    uri: Uri,
    peer: Option<Peer>,
) -> axum::Json<WellKnown> {
    world.ask(&method, &uri, peer.as_ref());
    let authority = |n: u8, kind| AuthorityEntry {
        key_id: KeyId::from_bytes([n; 20]),
        kind,
        crl: format!("/crl/{n}"),
        certificate: format!("/ca/{n}"),
    };
    let offset = world.told().clock_offset_s;
    axum::Json(WellKnown {
        trust_domain: world.ca.trust_domain().clone(),
        issuer_spiffe_id: world.ca.trust_domain().server(),
        server_time: Timestamp::from_unix_millis(now().unix_millis() + offset * 1000),
        freshness: FreshnessLimits { stale_after_s: 30, expired_after_s: 900 },
        authorities: vec![authority(2, AuthorityKind::Root), authority(0, AuthorityKind::Issuing)],
    })
}

async fn challenge(State(world): State<Arc<World>>, method: Method, uri: Uri, peer: Option<Peer>) -> Response {
    world.ask(&method, &uri, peer.as_ref());
    let challenge = chancery_api::Challenge { nonce: NONCE.into(), expires_at: now() + Duration::from_secs(60) };
    axum::Json(challenge).into_response()
}

async fn attest(
    State(world): State<Arc<World>>,
    method: Method,
    uri: Uri,
    peer: Option<Peer>,
    axum::Json(request): axum::Json<AttestRequest>,
) -> Response {
    let fault = world.ask(&method, &uri, peer.as_ref());
    let purpose = match request.evidence {
        Evidence::JoinToken(evidence) if evidence.token == JoinSecret::from_bytes(SECRET) => "token".to_owned(),
        Evidence::Rejoin(evidence) => {
            let chain = CertificateDer::from_pem_slice(evidence.chain_pem.as_bytes()).unwrap();
            let leaf = Leaf::read(&chain).unwrap();
            let request = CertificateSigningRequestDer::from_pem_slice(request.csr_pem.as_bytes()).unwrap();
            let (new, _) = world.subject.certify(&request);
            let new_key = digest(&SHA256, Leaf::read(new.first().unwrap()).unwrap().spki());
            let trust_domain = world.ca.trust_domain().as_str();
            let preimage = binding_preimage(trust_domain, "invoice-bot", NONCE, new_key.as_ref().try_into().unwrap());
            let signature = BASE64_URL_SAFE_NO_PAD.decode(evidence.signature).unwrap();
            // The point stands at the end of a P-256 SubjectPublicKeyInfo.
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &leaf.spki()[26..])
                .verify(digest(&SHA256, &preimage.unwrap()).as_ref(), &signature)
                .unwrap();
            leaf.certificate().serial.to_string()
        }
        _ => return refuse(401, "unknown-token", Retry::No),
    };
    world.issue(purpose, &request.csr_pem, fault)
}

async fn renew(
    State(world): State<Arc<World>>,
    method: Method,
    uri: Uri,
    peer: Peer,
    axum::Json(request): axum::Json<RenewRequest>,
) -> Response {
    let fault = world.ask(&method, &uri, Some(&peer));
    world.issue(peer.serial().to_string(), &request.csr_pem, fault)
}

async fn whoami(
    State(world): State<Arc<World>>,
    method: Method,
    uri: Uri,
    peer: Peer,
    Query(query): Query<BTreeMap<String, u64>>,
) -> Response {
    if let Some(Fault::Refuse { status, code, retry }) = world.ask(&method, &uri, Some(&peer)) {
        return refuse(status, code, retry);
    }
    let mut revision = world.revision.subscribe();
    let newer = revision.wait_for(|revision| *revision > query["after_revision"]);
    let _ = tokio::time::timeout(Duration::from_secs(query["wait_s"]), newer).await;
    let answer = Whoami {
        caller: Actor::Holder(peer.spiffe_id().clone()),
        spiffe_id: Some(peer.spiffe_id().clone()),
        state: chancery_api::State::Active,
        revision: *world.revision.borrow(),
        scopes: peer.scopes().clone(),
        access: Default::default(),
        serial: Some(peer.serial()),
        not_after: Some(peer.not_after()),
        renew_after: None,
        server_time: now(),
    };
    axum::Json(answer).into_response()
}

async fn crl(
    State(world): State<Arc<World>>,
    method: Method,
    uri: Uri,
    peer: Option<Peer>,
    Path(n): Path<usize>,
    headers: HeaderMap,
) -> Response {
    if let Some(Fault::Refuse { status, code, retry }) = world.ask(&method, &uri, peer.as_ref()) {
        return refuse(status, code, retry);
    }
    let mut told = world.told();
    let revoked = told.revoked.clone();
    let version = u64::try_from(revoked.len()).unwrap();
    let (version, crls) = told.crls.get_or_insert_with(|| {
        (version, world.ca.crls(&revoked).into_iter().map(|crl| crl.as_ref().to_vec()).collect())
    });
    let etag = format!("\"{version}\"");
    let crl = crls[n].clone();
    if headers.get(header::IF_NONE_MATCH).is_some_and(|tag| tag.as_bytes() == etag.as_bytes()) {
        told.unchanged += 1;
        return StatusCode::NOT_MODIFIED.into_response();
    }
    ([(header::ETAG, etag)], Bytes::from(crl)).into_response()
}

/// The feed of one connection.
struct Feeding {
    world: Arc<World>,
    said: watch::Receiver<Said>,
    /// What was sent last: epoch and number.
    sent: Option<(u64, u64)>,
    began: bool,
    lied: bool,
}

impl Feeding {
    async fn next(&mut self) -> String {
        loop {
            let Said { mut feed, lie, clock_stands } = self.said.borrow_and_update().clone();
            if let Some(lie) = lie {
                if !std::mem::replace(&mut self.lied, true) {
                    return lie;
                }
                // After a lie nothing comes.
                self.said.changed().await.unwrap();
                continue;
            }
            if !clock_stands {
                feed.set_time(now());
            }
            let newest = (feed.epoch(), feed.n());
            let text = match self.sent.filter(|(epoch, n)| *epoch == newest.0 && *n <= newest.1) {
                Some((_, n)) if self.began => feed.since(n),
                Some((_, n)) => feed.resumed(n),
                None => feed.whole(),
            };
            let news = !self.began || self.sent != Some(newest);
            (self.began, self.sent) = (true, Some(newest));
            if !news {
                // A heartbeat, unless something is said before.
                let heartbeat = tokio::time::timeout(Duration::from_millis(200), self.said.changed());
                if heartbeat.await.is_ok() {
                    continue;
                }
            }
            self.world.happens(|told| told.heads += 1);
            return text;
        }
    }
}

impl Drop for Feeding {
    fn drop(&mut self) {
        self.world.happens(|told| told.feeds_open -= 1);
    }
}

async fn feed(
    State(world): State<Arc<World>>,
    method: Method,
    uri: Uri,
    peer: Peer,
    Query(query): Query<BTreeMap<String, u64>>,
) -> Response {
    world.ask(&method, &uri, Some(&peer));
    world.happens(|told| told.feeds_open += 1);
    let sent = query.get("epoch").copied().zip(query.get("after").copied());
    let said = world.feed.subscribe();
    let feeding = Feeding { world, said, sent, began: false, lied: false };
    let events = futures_util::stream::unfold(feeding, |mut feeding| async {
        let text = feeding.next().await;
        Some((Ok::<_, std::convert::Infallible>(text), feeding))
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], axum::body::Body::from_stream(events)).into_response()
}

async fn acknowledge(
    State(world): State<Arc<World>>,
    method: Method,
    uri: Uri,
    peer: Peer,
    axum::Json(ack): axum::Json<FeedAck>,
) -> Response {
    if let Some(Fault::Refuse { status, code, retry }) = world.ask(&method, &uri, Some(&peer)) {
        return refuse(status, code, retry);
    }
    world.happens(|told| told.acks.push((peer.spiffe_id().clone(), ack)));
    StatusCode::NO_CONTENT.into_response()
}

fn refuse(status: u16, code: &str, retry: Retry) -> Response {
    let problem = Problem {
        r#type: format!("https://ca.test/problems/{code}"),
        code: code.into(),
        title: code.into(),
        status,
        detail: format!("told to refuse with {code}"),
        instance: None,
        needs: Vec::new(),
        holds: Vec::new(),
        fix: vec!["an operator: chancery resume rv_1".into()],
        retry,
        request_id: None,
        log_index: None,
    };
    (StatusCode::from_u16(status).unwrap(), axum::Json(problem)).into_response()
}

pub(crate) fn now() -> Timestamp {
    use chancery_verifier::Clock;

    SystemClock.now().wall
}

fn pem(der: &[u8]) -> String {
    let text = base64::prelude::BASE64_STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}
