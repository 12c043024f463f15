//! An issuer in a folder of its own, and what stands around it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chancery::authority::Seal;
use chancery::clock::{Clock, SystemClock};
use chancery::config::{Config, SealSource};
use chancery::server::Server;
use chancery::store::Store;
use chancery_api::client::{Client, ClientError};
use chancery_api::{Issued, JoinTokenCreated, Problem};
use chancery_identity::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use serde_json::{Value, json};

use crate::patience::Patience;

/// A running issuer. Its folder goes with it.
pub(crate) struct Issuer {
    pub(crate) server: Server,
    pub(crate) admin: Client,
    pub(crate) clock: Arc<Hands>,
    config: Config,
    folder: Folder,
    patience: Patience,
}

/// Gone when dropped.
struct Folder(PathBuf);

/// An issuer that is not ready by then will not be.
const READY: Duration = Duration::from_secs(60);

/// The system's clock, moved by hand.
#[derive(Debug, Default)]
pub(crate) struct Hands(AtomicI64);

impl Hands {
    pub(crate) fn forward(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1000, Ordering::SeqCst);
    }
}

impl rustls::time_provider::TimeProvider for Hands {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Clock::now(self).since(Timestamp::from_unix_seconds(0))))
    }
}

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_millis(SystemClock.now().unix_millis() + self.0.load(Ordering::SeqCst))
    }
}

impl Issuer {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_, _| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config, &Path)) -> Self {
        let (config, folder) = Self::configure(change);
        Self::serve(config, folder).await
    }

    /// Starts on a database that something was done to before.
    pub(crate) async fn start_after(
        change: impl FnOnce(&mut Config, &Path),
        before: impl AsyncFnOnce(&Config, &Seal, &Store, &SystemRandom),
    ) -> Self {
        let (config, folder) = Self::configure(change);
        let url = config.database_url();
        Store::migrate(&url).await.unwrap();
        let store = Store::open(&url, Arc::new(SystemClock), Arc::new(SystemRandom::new())).await.unwrap();
        let writing = store.write("before").await.unwrap();
        before(&config, &Seal::open(&config.seal).unwrap(), &store, &SystemRandom::new()).await;
        writing.stop().await;
        store.close().await;
        Self::serve(config, folder).await
    }

    fn configure(change: impl FnOnce(&mut Config, &Path)) -> (Config, PathBuf) {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::SeqCst);
        let folder = std::env::temp_dir().join(format!("chancery-story-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let free = "127.0.0.1:0".parse().unwrap();
        let mut config = Config::dev(folder.clone(), free, free).unwrap();
        change(&mut config, &folder);
        if let SealSource::File(path) = &config.seal {
            Seal::create(path, &SystemRandom::new()).unwrap();
        }
        (config, folder)
    }

    async fn serve(config: Config, folder: PathBuf) -> Self {
        let clock = Arc::new(Hands::default());
        let server = Server::start(config.clone(), clock.clone()).await.unwrap();
        let admin = Client::over_unix_socket(folder.join("admin.sock"));
        Self { server, admin, clock, config, folder: Folder(folder), patience: Patience::new() }
    }

    /// Stops, and starts again on what is there after `between`.
    pub(crate) async fn restart(self, between: impl AsyncFnOnce(&Config)) -> Self {
        let Self { server, admin, clock, config, folder, patience } = self;
        server.stop().await;
        between(&config).await;
        let server = Server::start(config.clone(), clock.clone()).await.unwrap();
        Self { server, admin, clock, config, folder, patience }
    }

    pub(crate) const fn config(&self) -> &Config {
        &self.config
    }

    /// What a path answers to anybody, as it comes; `None` for a refusal.
    pub(crate) async fn raw(&self, path: &str) -> Option<Vec<u8>> {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let tcp = tokio::net::TcpStream::connect(self.server.api()).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let config = Arc::new(self.tls(None, b"http/1.1"));
        let mut tls = tokio_rustls::TlsConnector::from(config).connect(name, tcp).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        tls.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        tls.read_to_end(&mut answer).await.unwrap();
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        answer.starts_with(b"HTTP/1.1 200").then(|| answer[end + 4..].to_vec())
    }

    pub(crate) async fn stop(self) {
        self.server.stop().await;
    }

    /// Runs the program against this issuer, by its admin socket.
    pub(crate) async fn chancery(&self, words: &[&str]) -> Said {
        let mut command = crate::program::chancery();
        command.args(words).arg("--issuer").arg(format!("unix:{}", self.folder.0.join("admin.sock").display()));
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Said { code: output.status.code().unwrap(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Moves the clock, and waits until the issuer has a certificate of its own for the new time.
    pub(crate) async fn forward(&self, seconds: i64) {
        self.clock.forward(seconds);
        let ready = async {
            while self.client(None).get::<Value>("/readyz").await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(READY, ready).await.expect("ready again after the jump");
    }

    /// A client with this certificate, or without one.
    pub(crate) fn client(&self, held: Option<&Held>) -> Client {
        let config = Arc::new(self.tls(held, b"h2"));
        // The issuer's own certificate names localhost.
        let url = format!("https://localhost:{}", self.server.api().port());
        Client::new(&url, move || config.clone()).unwrap()
    }

    /// How such a client shakes hands.
    pub(crate) fn tls(&self, held: Option<&Held>, protocol: &[u8]) -> rustls::ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        let root = self.server.issuer().authorities().root().der().to_vec();
        roots.add(CertificateDer::from(root)).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_details(provider, self.clock.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match held {
            None => builder.with_no_client_auth(),
            Some(held) => builder.with_client_auth_cert(held.chain(), held.key.private()).unwrap(),
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        config
    }

    pub(crate) async fn agent(&self, name: &str, scopes: &[&str]) {
        let new = json!({"name": name, "owner": "team-finance", "scopes": scopes});
        self.admin.post::<Value>("/v1/admin/agents", &new).await.unwrap();
    }

    pub(crate) async fn token(&self, name: &str, uses: u32) -> String {
        let new = json!({"agent": name, "uses": uses});
        let token: JoinTokenCreated = self.admin.post("/v1/admin/join-tokens", &new).await.unwrap().body;
        token.token.to_string()
    }

    /// Attests with a join token.
    pub(crate) async fn attest(&self, token: &str, key: Key) -> Result<Held, Problem> {
        let evidence = json!({"method": "join_token", "token": token});
        self.attest_by(evidence, key).await
    }

    pub(crate) async fn attest_by(&self, evidence: Value, key: Key) -> Result<Held, Problem> {
        let request = json!({"evidence": evidence, "csr_pem": key.csr()});
        let answer = self.client(None).post::<Issued>("/v1/attest", &request).await;
        answer.map(|answer| Held { issued: answer.body, key }).map_err(problem)
    }

    /// A registered agent's first certificate.
    pub(crate) async fn joined(&self, name: &str, scopes: &[&str]) -> Held {
        self.agent(name, scopes).await;
        let token = self.token(name, 1).await;
        self.attest(&token, Key::draw()).await.unwrap()
    }

    /// A registered service's first certificate. It answers for the system of its own name.
    pub(crate) async fn service(&self, name: &str) -> Held {
        let new = json!({"name": name, "owner": "team-crm", "systems": [name], "dns": []});
        self.admin.post::<Value>("/v1/admin/services", &new).await.unwrap();
        self.replica(name).await
    }

    /// Another replica of a service.
    pub(crate) async fn replica(&self, name: &str) -> Held {
        let new = json!({"service": name, "uses": 1});
        let token: JoinTokenCreated = self.admin.post("/v1/admin/join-tokens", &new).await.unwrap().body;
        self.attest(&token.token.to_string(), Key::draw()).await.unwrap()
    }

    pub(crate) async fn renew(&self, held: &Held, key: Key) -> Result<Held, Problem> {
        let request = json!({"csr_pem": key.csr()});
        let answer = self.client(Some(held)).post::<Issued>("/v1/certificates/renew", &request).await;
        answer.map(|answer| Held { issued: answer.body, key }).map_err(problem)
    }

    pub(crate) async fn revoke(&self, request: Value) -> chancery_api::RevocationsAnswer {
        self.admin.post("/v1/admin/revocations", &request).await.unwrap().body
    }

    /// Evidence that is a signature by a certificate's key.
    pub(crate) async fn signed(&self, method: &str, name: &str, chain_pem: &str, shown: &Key, new: &Key) -> Value {
        let challenge = self.client(None).post::<chancery_api::Challenge>("/v1/attest/challenge", &json!({})).await;
        let nonce = challenge.unwrap().body.nonce;
        self.sign(method, name, chain_pem, shown, new, &nonce)
    }

    pub(crate) fn sign(&self, method: &str, name: &str, chain_pem: &str, shown: &Key, new: &Key, nonce: &str) -> Value {
        let trust_domain = self.server.issuer().trust_domain().as_str();
        let preimage = chancery_api::binding_preimage(trust_domain, name, nonce, &sha256(&new.spki())).unwrap();
        let signature = URL_SAFE_NO_PAD.encode(shown.sign(&sha256(&preimage)));
        let mut evidence = json!({"method": method, "chain_pem": chain_pem, "nonce": nonce, "signature": signature});
        if method == "x509pop" {
            evidence["agent"] = name.into();
        }
        evidence
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The refusal, be it a problem document or the alert of a handshake; any other failure is the test's.
pub(crate) fn problem(error: ClientError) -> Problem {
    if matches!(error, ClientError::CertificateRevoked) {
        let alert = json!({"type": "", "code": "certificate-revoked", "title": "", "status": 401, "detail": "alert", "retry": "no"});
        return serde_json::from_value(alert).unwrap();
    }
    error.problem().cloned().unwrap_or_else(|| panic!("wanted a problem document, got {error}"))
}

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A certificate and its key.
pub(crate) struct Held {
    pub(crate) issued: Issued,
    pub(crate) key: Key,
}

impl Held {
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.issued.chain_pem.as_bytes()).map(Result::unwrap).collect()
    }

    pub(crate) fn serial(&self) -> String {
        self.issued.certificate.serial.to_string()
    }

    pub(crate) fn instance(&self) -> String {
        self.issued.certificate.spiffe_id.path().rsplit('/').next().unwrap().to_owned()
    }

    pub(crate) fn scopes(&self) -> Vec<String> {
        self.issued.certificate.scopes.iter().map(ToString::to_string).collect()
    }
}

/// A P-256 key.
#[derive(Clone)]
pub(crate) struct Key(Arc<rcgen::KeyPair>);

impl Key {
    pub(crate) fn draw() -> Self {
        Self(Arc::new(rcgen::KeyPair::generate().unwrap()))
    }

    pub(crate) fn pair(&self) -> &rcgen::KeyPair {
        &self.0
    }

    pub(crate) fn csr(&self) -> String {
        rcgen::CertificateParams::default().serialize_request(&*self.0).unwrap().pem().unwrap()
    }

    pub(crate) fn private(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.0.serialize_der()).into()
    }

    pub(crate) fn spki(&self) -> Vec<u8> {
        use rcgen::PublicKeyData;
        self.0.subject_public_key_info()
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let rng = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &self.0.serialize_der(), &rng).unwrap();
        key.sign(&rng, message).unwrap().as_ref().to_vec()
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    ring::digest::digest(&ring::digest::SHA256, bytes).as_ref().try_into().unwrap()
}
