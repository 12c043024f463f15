//! Kill -9 of the real process under issuing load: what was answered is there, nothing is there twice, the tree recomputes.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use chancery_api::client::Client;
use chancery_api::{Bundle, CertificateView, Issued, JoinTokenCreated};
use rustls::client::WantsClientCert;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ConfigBuilder};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::world::{Database, Kind};

/// How often the process is killed.
const KILLS: usize = 6;
/// Answers before each kill, more or less: tasks go on until their connection breaks.
const ANSWERS: usize = 25;
/// Who asks at the same time.
const TASKS: usize = 8;

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
    let admin = Client::over_unix_socket(folder.path("admin.sock"));
    let new = json!({"name": "bot", "owner": "team", "scopes": ["tools/call:crm/x"], "max_instances": 100_000});
    admin.post::<Value>("/v1/admin/agents", &new).await.unwrap();
    let token = json!({"agent": "bot", "uses": 1_000});
    let token: JoinTokenCreated = admin.post("/v1/admin/join-tokens", &token).await.unwrap().body;
    let bundle: Bundle = admin.get("/v1/bundle").await.unwrap().body;
    let root = bundle.certificates().next().unwrap();

    let mut received: HashMap<String, u64> = HashMap::new();
    for _ in 0..KILLS {
        let answers = load(&folder.url, &root, &token.token.to_string(), process).await;
        for issued in answers {
            let again = received.insert(issued.certificate.serial.to_string(), issued.log_index);
            assert_eq!(again, None, "{} was answered twice", issued.certificate.serial);
        }
        process = folder.start();
    }
    assert!(received.len() >= KILLS * ANSWERS);
    for (serial, log_index) in &received {
        let path = format!("/v1/admin/certificates/{serial}");
        let kept: CertificateView = admin.get(&path).await.unwrap().body;
        assert_eq!(kept.log_index, *log_index, "{serial}");
    }
    // Each certificate has its entry, no serial is there twice, the tree recomputes.
    drop(process);
    let verified = chancery().args(["log", "verify", "--config"]).arg(folder.path("chancery.toml")).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}

/// Asks for certificates from all sides until enough were answered, then kills; returns all that was answered.
async fn load(url: &str, root: &[u8], token: &str, process: Process) -> Vec<Issued> {
    let (count, stop, enough) =
        (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let (client, token) = (client(url, root), token.to_owned());
            let (count, stop, enough) = (count.clone(), stop.clone(), enough.clone());
            tokio::spawn(async move {
                let mut answers = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let key = rcgen::KeyPair::generate().unwrap();
                    let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
                    let request = json!({"evidence": {"method": "join_token", "token": token}, "csr_pem": csr});
                    // Refused for too many a second, or cut off: nothing was answered.
                    let Ok(answer) = client.post::<Issued>("/v1/attest", &request).await else { continue };
                    answers.push(answer.body);
                    if count.fetch_add(1, Ordering::SeqCst) + 1 == ANSWERS {
                        enough.notify_one();
                    }
                }
                answers
            })
        })
        .collect();
    enough.notified().await;
    drop(process);
    stop.store(true, Ordering::SeqCst);
    let mut answers = Vec::new();
    for task in tasks {
        answers.extend(task.await.unwrap());
    }
    answers
}

/// The issuer, killed when it goes out of use: SIGKILL, nothing of it runs on.
pub struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A client without a certificate.
fn client(url: &str, root: &[u8]) -> Client {
    client_of(url, root, |builder| builder.with_no_client_auth())
}

/// A client with what `finish` gives it.
pub fn client_of(
    url: &str,
    root: &[u8],
    finish: impl FnOnce(ConfigBuilder<ClientConfig, WantsClientCert>) -> ClientConfig,
) -> Client {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(root.to_vec())).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
    let mut config = finish(builder.with_root_certificates(roots));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let config = Arc::new(config);
    Client::new(url, move || config.clone()).unwrap()
}

pub fn chancery() -> Command {
    Command::new(env!("CARGO_BIN_EXE_chancery"))
}

/// A configuration, a seal and a data folder, as a real installation has them.
pub struct Folder {
    path: PathBuf,
    pub url: String,
}

impl Folder {
    pub fn new(database: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::SeqCst);
        let name = format!("chancery-crash-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(path.join("data")).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            r#"
            trust_domain = "example.org"
            data_dir = "{data}"
            public_url = "https://localhost:{port}"
            status_url = "http://status.internal"
            [listen]
            api = "127.0.0.1:{port}"
            status = "127.0.0.1:0"
            admin_socket = "{socket}"
            [store]
            url = "{database}"
            [keys]
            seal = "file:{seal}"
            "#,
            data = path.join("data").display(),
            socket = path.join("admin.sock").display(),
            seal = path.join("seal.key").display(),
        );
        std::fs::write(path.join("chancery.toml"), config).unwrap();
        std::fs::write(path.join("seal.key"), [7; 32]).unwrap();
        std::fs::set_permissions(path.join("seal.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
        Self { path, url: format!("https://localhost:{port}") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        Path::new(&self.path).join(name)
    }

    /// Starts the issuer, and waits until it says that it is ready.
    pub fn start(&self) -> Process {
        let mut command = chancery();
        command.args(["serve", "--config"]).arg(self.path("chancery.toml"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Process(command.spawn().unwrap());
        let mut said = BufReader::new(process.0.stderr.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("ready") {
            line.clear();
            assert!(said.read_line(&mut line).unwrap() > 0, "it ended before it was ready");
        }
        // What it says from now on goes nowhere, but it must not wait for a reader.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        process
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
