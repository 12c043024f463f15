//! Kill -9 of the real process while certificates, renewals, revocations and resumes are asked of it at once. Each time all
//! views are read over HTTP and held against the model: what was answered is in all of them, and they say the same.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chancery::store::SHA256;
use chancery_api::client::{Client, Fetched};
use chancery_api::{
    AuthorityKind, Bundle, CertificateState, CertificateView, Issued, JoinTokenCreated, List as Page, LogRecord,
    RevocationView, RevocationsAnswer, WellKnown,
};
use chancery_ca::AuthorityCertificate;
use chancery_identity::der::Reader;
use chancery_identity::{Certificate, Leaf, Serial, SpiffeId, oid};
use chancery_tlog::Record;
use chancery_verifier::feed::{Feed, FeedTrust};
use chancery_verifier::{Clock as _, Denial, Freshness, Material, Moment, SystemClock, Verifier};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{Mutex, Notify, watch};

use crate::crash::{Folder, Process, chancery, client_of};
use crate::model::Model;
use crate::published::{List, Status, ask, read};
use crate::world::{Database, Kind};

/// How often the process is killed.
const KILLS: usize = 3;
/// Answers before each kill, more or less.
const ANSWERS: usize = 40;

#[tokio::test(flavor = "multi_thread")]
async fn sqlite() {
    survive(Database::new(Kind::Sqlite).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres() {
    if let Some(database) = Database::new(Kind::Postgres).await {
        survive(database).await;
    }
}

async fn survive(database: Database) {
    let folder = Folder::new(&database.url);
    let mut process = folder.start();
    let around = Around::new(&folder).await;
    let mut answered = Answered::default();
    for _ in 0..KILLS {
        answered = Box::pin(load(&around, answered, process)).await;
        process = folder.start();
        agree(&around, &answered).await;
    }
    let kinds = (answered.certificates.len(), answered.entries.len());
    assert!(kinds.0 > KILLS * 10 && kinds.1 > KILLS, "{kinds:?}");
    assert!(answered.entries.values().any(|view| view.resumed_by.is_some()));
    drop(process);
    let verified = chancery().args(["log", "verify", "--config"]).arg(folder.path("chancery.toml")).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}

/// An issuer's surroundings, which outlive it.
struct Around {
    url: String,
    admin: Client,
    root: Vec<u8>,
    tokens: [String; 2],
    /// Who follows the feed; nothing here stops it.
    service: Held,
}

impl Around {
    async fn new(folder: &Folder) -> Self {
        let admin = Client::over_unix_socket(folder.path("admin.sock"));
        let bundle: Bundle = admin.get("/v1/bundle").await.unwrap().body;
        let root = bundle.certificates().next().unwrap();
        for name in ["bot", "mate"] {
            let new = json!({"name": name, "owner": "team", "scopes": ["tools/call:crm/x"], "max_instances": 100_000});
            admin.post::<Value>("/v1/admin/agents", &new).await.unwrap();
        }
        let new = json!({"name": "crm", "owner": "others", "systems": ["crm"]});
        admin.post::<Value>("/v1/admin/services", &new).await.unwrap();
        let token = async |new: Value| {
            admin.post::<JoinTokenCreated>("/v1/admin/join-tokens", &new).await.unwrap().body.token.to_string()
        };
        let tokens =
            [token(json!({"agent": "bot", "uses": 1000})).await, token(json!({"agent": "mate", "uses": 1000})).await];
        let once = token(json!({"service": "crm"})).await;
        let nobody = client_of(&folder.url, &root, |builder| builder.with_no_client_auth());
        let service = Held::attest(&nobody, &once).await.unwrap();
        Self { url: folder.url.clone(), admin, root, tokens, service }
    }

    fn client(&self, held: Option<&Held>) -> Client {
        client_of(&self.url, &self.root, |builder| match held {
            None => builder.with_no_client_auth(),
            Some(held) => builder.with_client_auth_cert(held.chain.clone(), held.key()).unwrap(),
        })
    }

    /// All pages of a list.
    async fn all<T: DeserializeOwned>(&self, path: &str) -> Vec<T> {
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let next = cursor.map(|cursor: String| format!("&cursor={cursor}")).unwrap_or_default();
            let page: Page<T> = self.admin.get(&format!("{path}?limit=500{next}")).await.unwrap().body;
            all.extend(page.data);
            cursor = page.next_cursor;
            if cursor.is_none() {
                return all;
            }
        }
    }

    async fn file(&self, path: &str) -> Vec<u8> {
        match self.client(None).fetch(path, None).await.unwrap() {
            Fetched::Changed { contents, .. } => contents.to_vec(),
            Fetched::Unchanged => panic!("nothing is held of {path}"),
        }
    }
}

/// A certificate that came, and its key.
struct Held {
    key: rcgen::KeyPair,
    chain: Vec<CertificateDer<'static>>,
    certificate: Certificate,
}

impl Held {
    async fn attest(client: &Client, token: &str) -> Option<Self> {
        let evidence = json!({"method": "join_token", "token": token});
        Self::ask(client, "/v1/attest", json!({"evidence": evidence})).await
    }

    /// `None`: it was refused, for too many a second or as it is stopped, or there is nobody any more.
    async fn ask(client: &Client, path: &str, mut request: Value) -> Option<Self> {
        let key = rcgen::KeyPair::generate().unwrap();
        let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
        request["csr_pem"] = csr.into();
        let issued = client.post::<Issued>(path, &request).await.ok()?.body;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(issued.chain_pem.as_bytes()).map(Result::unwrap).collect();
        let certificate = Leaf::read(&chain[0]).unwrap().into_certificate();
        Some(Self { key, chain, certificate })
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }
}

/// All that was answered so far.
#[derive(Default)]
struct Answered {
    certificates: Vec<Arc<Held>>,
    /// By number, as last answered.
    entries: BTreeMap<u64, RevocationView>,
}

/// Asks from all sides until enough was answered, then kills.
async fn load(around: &Around, before: Answered, process: Process) -> Answered {
    let (answered, count, enough) = (Mutex::new(before), AtomicUsize::new(0), Notify::new());
    let (stop, stopped) = watch::channel(false);
    let counted = || {
        if count.fetch_add(1, Ordering::SeqCst) + 1 == ANSWERS {
            enough.notify_one();
        }
    };
    let agents = async |token: &str| {
        let nobody = around.client(None);
        until(&stopped, async || {
            let Some(held) = Held::attest(&nobody, token).await.map(Arc::new) else { return };
            answered.lock().await.certificates.push(held.clone());
            counted();
            let Some(next) = Held::ask(&around.client(Some(&held)), "/v1/certificates/renew", json!({})).await else {
                return;
            };
            answered.lock().await.certificates.push(Arc::new(next));
            counted();
        })
        .await;
    };
    let post = async |request: Value| {
        let answer = around.admin.post::<RevocationsAnswer>("/v1/admin/revocations", &request).await.ok()?.body;
        let view = answer.revocations.into_iter().next().unwrap();
        answered.lock().await.entries.insert(view.n, view.clone());
        counted();
        Some(view)
    };
    // One ends what was issued last.
    let ends = until(&stopped, async || {
        let last = answered.lock().await.certificates.last().map(|held| held.certificate.clone());
        let Some(last) = last else { return tokio::task::yield_now().await };
        let (target, effect) = match count.load(Ordering::SeqCst) % 3 {
            0 => (format!("serial:{}", last.serial), "revoke"),
            1 => (format!("lineage:{}", last.grant.unwrap().lineage), "suspend"),
            _ => (format!("grant:{}", last.grant.unwrap().id), "revoke"),
        };
        post(json!({"targets": [target], "effect": effect, "reason": "key_compromise"})).await;
    });
    // One stops an agent and lets it go on.
    let stops = until(&stopped, async || {
        let Some(view) = post(json!({"targets": ["agent:mate"], "effect": "suspend"})).await else { return };
        let resume = format!("/v1/admin/revocations/{}/resume", view.id);
        if let Ok(answer) = around.admin.post::<RevocationView>(&resume, &json!({})).await {
            answered.lock().await.entries.insert(answer.body.n, answer.body);
            counted();
        }
    });
    let [bot, mate] = &around.tokens;
    let killed = async {
        enough.notified().await;
        drop(process);
        stop.send(true).unwrap();
    };
    tokio::join!(agents(bot), agents(bot), agents(bot), agents(mate), agents(mate), ends, stops, killed);
    answered.into_inner()
}

async fn until<F: Future<Output = ()>>(stopped: &watch::Receiver<bool>, mut once: impl FnMut() -> F) {
    while !*stopped.borrow() {
        once().await;
    }
}

/// Each view, over HTTP, against the model of all that was answered and what the lists say beyond it.
async fn agree(around: &Around, answered: &Answered) {
    // The sequence: whole, and with all that was answered in it, as it was answered.
    let mut model = Model::default();
    for view in around.all::<RevocationView>("/v1/admin/revocations").await {
        model.take(&view);
    }
    for view in answered.entries.values() {
        assert!(model.entries.contains_key(&view.n), "{view:?} is lost");
        model.take(view);
    }
    let numbers: BTreeSet<u64> = model.entries.keys().chain(model.resumed.values()).copied().collect();
    assert!(numbers.iter().copied().eq(1..=model.n()), "{numbers:?}");

    // The serials: the list and the log have the same, and all that was answered.
    let listed = around.all::<CertificateView>("/v1/admin/certificates").await;
    let listed: BTreeMap<Serial, CertificateView> = listed.into_iter().map(|view| (view.serial, view)).collect();
    let own: SpiffeId = "spiffe://example.org/chancery/server".parse().unwrap();
    let (mut logged, mut entered) = (BTreeSet::new(), BTreeSet::new());
    for one in around.all::<LogRecord>("/v1/admin/log").await {
        let record = Record::parse(one.record.unwrap().as_bytes()).unwrap();
        let certificate = record.decision.certificate().map(|(certificate, _)| certificate);
        if let Some(certificate) = certificate.filter(|certificate| certificate.spiffe_id != own) {
            assert!(logged.insert(certificate.serial), "{} is in the log twice", certificate.serial);
        }
        entered.extend(match record.decision {
            chancery_tlog::Decision::Revoke(revoked) => Some(revoked.n),
            chancery_tlog::Decision::Resume(resumed) => Some(resumed.n),
            _ => None,
        });
    }
    assert_eq!(entered, numbers, "the log");
    assert!(listed.keys().copied().eq(logged), "the log and the list have other serials");

    // The CRL, and OCSP.
    let known: WellKnown = around.admin.get("/.well-known/chancery").await.unwrap().body;
    let issuing = known.authorities.iter().find(|one| one.kind == AuthorityKind::Issuing).unwrap();
    let crl = around.file(&issuing.crl).await;
    assert_eq!(number_in(&crl), model.n(), "the CRL");
    let crl = List::read(&crl);
    let authority = AuthorityCertificate::read(around.file(&issuing.certificate).await).unwrap();
    let serials: Vec<Serial> = answered.certificates.iter().map(|held| held.certificate.serial).collect();
    let mut statuses = Vec::new();
    for some in serials.chunks(16) {
        // RFC 6960 appendix A.1.
        let request =
            STANDARD.encode(ask(&authority, some)).replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        statuses.extend(read(&around.file(&format!("/ocsp/{request}")).await));
    }
    // The feed, by a verifier that knows nothing else.
    let verifier = follow(around, model.n()).await;

    let mut met = (false, false);
    for (held, status) in answered.certificates.iter().zip(statuses) {
        let certificate = &held.certificate;
        let (serial, entry) = (certificate.serial, model.hitting(certificate));
        assert_eq!(status, entry.map_or(Status::Good, |entry| Status::Ended(entry.into())), "OCSP on {serial}");
        assert_eq!(crl.entries.get(&serial).copied(), entry.map(Into::into), "the CRL on {serial}");
        let view = listed.get(&serial).unwrap_or_else(|| panic!("{serial} was answered and is not there"));
        assert_eq!(view.revocation_id, entry.map(|entry| entry.id), "the list on {serial}");
        let state = match entry {
            None => CertificateState::Valid,
            Some(entry) if entry.effect.resumable() => CertificateState::Held,
            Some(_) => CertificateState::Revoked,
        };
        assert_eq!(view.state, state, "the list on {serial}");
        let refused = match verifier.client(&held.chain, SystemClock.now()) {
            Ok(_) => None,
            Err(Denial::Revoked(revoked)) => Some(revoked),
            Err(other) => panic!("{serial}: {other}"),
        };
        assert_eq!(refused.is_some(), entry.is_some(), "a verifier on {serial}: {refused:?}");
        // The gate: at the first of either kind, as each costs a handshake.
        let first = if entry.is_some() { &mut met.0 } else { &mut met.1 };
        if !std::mem::replace(first, true) {
            let admitted = around.client(Some(held)).get::<Value>("/v1/whoami").await;
            assert_eq!(admitted.is_err(), entry.is_some(), "the gate on {serial}: {admitted:?}");
        }
    }
    assert_eq!(met, (true, true), "nothing ended, or nothing stayed");
}

/// Reads the feed from its beginning until a head signs number `n`.
async fn follow(around: &Around, n: u64) -> Verifier {
    let (provider, roots) = (Arc::new(default_provider()), Arc::from([CertificateDer::from(around.root.clone())]));
    let trust_domain: chancery_identity::TrustDomain = "example.org".parse().unwrap();
    let trust = FeedTrust {
        trust_domain: trust_domain.clone(),
        roots: Arc::clone(&roots),
        algorithms: provider.signature_verification_algorithms,
        sha256: SHA256,
    };
    let now = || Moment { wall: SystemClock.now().wall, monotonic: Instant::now() };
    let (mut feed, _) = Feed::new(trust, None, now());
    let mut stream = around.client(Some(&around.service)).stream("/v1/feed").await.unwrap();
    let known = loop {
        let bytes = stream.chunk().await.unwrap().unwrap();
        let known = feed.push(&bytes, now()).unwrap().pop();
        if let Some(known) = known.filter(|known| known.n() >= n) {
            assert_eq!(known.n(), n, "the feed");
            break known;
        }
    };
    let material = Material {
        chain: around.service.chain.clone(),
        key: Arc::new(around.service.key()),
        trust_domain,
        roots,
        crls: [].into(),
        answered: None,
        feed: Some(known),
        freshness: Freshness::default(),
    };
    Verifier::new(&material, provider, Arc::new(SystemClock)).unwrap()
}

/// The number of the newest entry that a CRL claims to know, by its own extension.
fn number_in(crl: &[u8]) -> u64 {
    let (_, crl) = x509_parser::parse_x509_crl(crl).unwrap();
    let state = crl.extensions().iter().find(|extension| extension.oid.as_bytes() == oid::CRL_STATE).unwrap();
    let mut state = Reader::new(state.value).nested(chancery_identity::der::SEQUENCE).unwrap();
    let _epoch = state.unsigned_64().unwrap();
    state.unsigned_64().unwrap()
}
