//! What happens in the demo, in order.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chancery_agent::{CallError, Identity, Reply};
use chancery_api::client::Client;
use chancery_api::{Agent, JoinTokenCreated, List, LogRecord, RevocationsAnswer, Service};
use chancery_identity::{Certificate, Leaf};
use chancery_tlog::Record;
use chancery_verifier::Credentials;
use ring::rand::SystemRandom;
use serde_json::json;

use super::{Told, milliseconds, service};
use crate::authority::Seal;
use crate::clock::SystemClock;
use crate::config::{Config, SealSource};
use crate::issuance::pem;
use crate::server::Server;

/// What the last line reports.
pub(super) struct Found {
    pub(super) spiffe_id: String,
    pub(super) serial: String,
    pub(super) scopes: Vec<String>,
    pub(super) revoke_to_refusal_ms: f64,
    pub(super) log_entries: u64,
}

/// Why it did not go as told.
pub(super) type Untold = Box<dyn std::error::Error + Send + Sync>;

/// How long anything may take that takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) async fn tell(folder: &Path, told: &mut Told) -> Result<Found, Untold> {
    told.begin("issuer", "an issuer starts, on embedded SQLite");
    let issuer = start_issuer(&folder.join("issuer"), "example.org").await?;
    told.say(&format!("trust domain  {}", issuer.issuer().trust_domain()));
    told.say(&format!("root pin      {}", issuer.issuer().root_pin()));
    told.say(&format!("api           {}", issuer.issuer().config().public_url));
    let admin = Client::over_unix_socket(&issuer.issuer().config().listen.admin_socket);
    told.done();

    told.begin("register", "an administrator registers a service and two agents");
    let new = json!({"name": "crm", "owner": "team-crm", "systems": ["crm"], "dns": ["crm.localhost"]});
    let crm: Service = admin.post("/v1/admin/services", &new).await?.body;
    told.say(&format!("service {}  serves system crm  owner {}", crm.name, crm.owner));
    let read = "tools/call:crm/get_customer";
    for (name, scopes) in [("invoice-bot", vec![read]), ("report-bot", vec![read, "resources/read:crm/reports/**"])] {
        let new = json!({"name": name, "owner": "team-finance", "scopes": scopes});
        let agent: Agent = admin.post("/v1/admin/agents", &new).await?.body;
        told.say(&format!("agent {}  holds {}  owner {}", agent.name, words(agent.scopes.iter()), agent.owner));
    }
    told.done();

    told.begin("attest", "service and agents prove what they are with join tokens, and get certificates");
    let service_identity = join(folder, &admin, "service", "crm").await?;
    let bot = join(folder, &admin, "agent", "invoice-bot").await?;
    let other = join(folder, &admin, "agent", "report-bot").await?;
    let certificate = certificate(&bot)?;
    told.say(&format!("{}", certificate.spiffe_id));
    told.say(&format!("serial {}  until {}", certificate.serial, certificate.not_after.to_seconds_text()));
    told.say(&format!("scopes {}", words(certificate.scopes.iter())));
    told.done();

    told.begin("service", "the service starts: an axum router behind the verifier, rules deny by default");
    let address = service::start(service_identity.clone()).await?;
    let url = format!("https://localhost:{}", address.port());
    told.say(&format!(
        "{url}  GET /customers/{{id}} needs tools/call:crm/get_customer, POST /refunds needs tools/call:crm/refund"
    ));
    told.done();

    let calls = bot.http(&url)?;
    told.begin("allowed", "invoice-bot calls what it may");
    let reply = calls.get("/customers/42").await?;
    told.say(&format!("GET /customers/42   {}  {}", reply.status(), reply.text()));
    told.done();

    told.begin("missing-scope", "invoice-bot calls what it may not");
    let refused = refusal(calls.post("/refunds", &json!({})).await, "scope-missing")?;
    told.say(&format!("POST /refunds       403  {}", refused.replace('\n', "\n   ")));
    told.done();

    told.begin("foreign", "a caller of another trust domain, with the same name and scopes, is refused");
    let foreign = start_issuer(&folder.join("foreign/issuer"), "other.invalid").await?;
    let foreign_admin = Client::over_unix_socket(&foreign.issuer().config().listen.admin_socket);
    let new = json!({"name": "invoice-bot", "owner": "somebody", "scopes": ["tools/call:crm/get_customer"]});
    foreign_admin.post::<Agent>("/v1/admin/agents", &new).await?;
    let stranger = join(&folder.join("foreign"), &foreign_admin, "agent", "invoice-bot").await?;
    told.say(&format!("{}", stranger.spiffe_id()));
    let error = service::call_as(&stranger, &service_identity, address).await?;
    told.say(&format!("refused in the handshake: {error}"));
    keep(&folder.join("foreign"), &stranger, &foreign)?;
    // Its open connections first: a server that stops lets them finish.
    drop((stranger, foreign_admin));
    foreign.stop().await;
    told.done();

    told.begin("fix", "an operator gives invoice-bot the scope; it renews at once, without a restart");
    let serial_before = certificate.serial;
    let patch = json!({"add_scopes": ["tools/call:crm/refund"]});
    admin.patch::<Agent>("/v1/admin/agents/invoice-bot", &patch, None).await?;
    until("renewal", async || bot.scopes().len() == 2).await?;
    let reply = calls.post("/refunds", &json!({})).await?;
    told.say(&format!("POST /refunds       {}  {}", reply.status(), reply.text()));
    told.done();

    told.begin("renewal", "that was a renewal: a new key, the same identity");
    let renewed = self::certificate(&bot)?;
    if renewed.serial == serial_before || renewed.spiffe_id != certificate.spiffe_id {
        return Err("the certificate is not a renewed one".into());
    }
    told.say(&format!("serial {serial_before} became {}", renewed.serial));
    told.say(&format!("scopes {}", words(renewed.scopes.iter())));
    keep(&folder.join("revoked"), &bot, &issuer)?;
    keep(&folder.join("good"), &other, &issuer)?;
    keep(&folder.join("service"), &service_identity, &issuer)?;
    told.done();

    told.begin("revoke", "an administrator suspends agent:invoice-bot, by HTTP");
    let request = json!({"targets": ["agent:invoice-bot"], "effect": "suspend", "comment": "demo"});
    let answer: RevocationsAnswer = admin.post("/v1/admin/revocations", &request).await?.body;
    let revoked_at = Instant::now();
    let entry = answer.revocations.first().ok_or("no entry was answered")?;
    told.say(&format!("{}  n {}  log {}  {}", entry.id, entry.n, entry.log_index, entry.created_at));
    told.done();

    told.begin("refusal", "the service refuses it from then on");
    until("refusal", async || calls.get("/customers/42").await.is_err()).await?;
    let revoke_to_refusal_ms = milliseconds(revoked_at);
    told.say(&format!("refused {revoke_to_refusal_ms} ms after the answer; its open connection is cut"));
    let reply = other.http(&url)?.get("/customers/42").await?;
    told.say(&format!("report-bot is untouched: GET /customers/42   {}", reply.status()));
    told.done();

    told.begin("log", "the log has all of it");
    let list: List<LogRecord> = admin.get("/v1/admin/log?limit=500").await?.body;
    for record in &list.data {
        told.say(&format!("{:>3}  {}", record.log_index, summary(record)));
    }
    let log_entries = list.data.len() as u64;
    told.done();

    write_chain(folder, &issuer)?;
    tell_where(folder);
    Ok(Found {
        spiffe_id: renewed.spiffe_id.to_string(),
        serial: renewed.serial.to_string(),
        scopes: renewed.scopes.iter().map(ToString::to_string).collect(),
        revoke_to_refusal_ms,
        log_entries,
    })
}

async fn start_issuer(folder: &Path, trust_domain: &str) -> Result<Server, Untold> {
    fs::create_dir_all(folder)?;
    let free = "127.0.0.1:0".parse()?;
    let mut config = Config::dev(folder.to_path_buf(), free, free)?;
    config.trust_domain = trust_domain.parse()?;
    if let SealSource::File(path) = &config.seal {
        Seal::create(path, &SystemRandom::new())?;
    }
    Ok(Server::start(config, Arc::new(SystemClock)).await?)
}

/// A join token from the administrator, and what a workload does with it.
async fn join(folder: &Path, admin: &Client, kind: &str, name: &str) -> Result<Identity, Untold> {
    let token: JoinTokenCreated = admin.post("/v1/admin/join-tokens", &json!({ kind: name })).await?.body;
    let state = folder.join("state").join(name);
    fs::create_dir_all(&state)?;
    Ok(Identity::builder().join(token.join).state_dir(&state).start().await?)
}

/// What the identity's certificate says now.
fn certificate(identity: &Identity) -> Result<Certificate, Untold> {
    let material = identity.material().borrow().clone();
    let leaf = material.chain.first().ok_or("an identity has a certificate")?;
    Ok(Leaf::read(leaf)?.into_certificate())
}

/// The call must have been refused, with this code.
fn refusal(called: Result<Reply, CallError>, wanted: &str) -> Result<String, Untold> {
    match called {
        Err(error @ CallError::Refused { .. }) if error.to_string().starts_with(wanted) => Ok(error.to_string()),
        Err(error) => Err(format!("wanted {wanted}, got {error}").into()),
        Ok(reply) => Err(format!("wanted {wanted}, got {}", reply.status()).into()),
    }
}

/// Waits for what takes milliseconds.
async fn until(what: &str, done: impl AsyncFn() -> bool) -> Result<(), Untold> {
    let deadline = Instant::now() + PATIENCE;
    while !done().await {
        if Instant::now() > deadline {
            return Err(format!("{what} did not come within {} s", PATIENCE.as_secs()).into());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// Leaves certificate and key where `openssl` can look at them.
fn keep(folder: &Path, identity: &Identity, issuer: &Server) -> Result<(), Untold> {
    let material = identity.material().borrow().clone();
    fs::create_dir_all(folder)?;
    let chain: String = material.chain.iter().map(|certificate| pem("CERTIFICATE", certificate)).collect();
    fs::write(folder.join("cert.pem"), chain)?;
    write_secret(&folder.join("key.pem"), &pem("PRIVATE KEY", material.key.secret_der()))?;
    if folder.ends_with("foreign") {
        write_chain(folder, issuer)?;
    }
    Ok(())
}

/// Bundle, issuing certificate and the CRLs of the whole chain.
fn write_chain(folder: &Path, issuer: &Server) -> Result<(), Untold> {
    let issuer = issuer.issuer();
    let (root, issuing) = (issuer.authorities().root(), issuer.authorities().issuing());
    fs::write(folder.join("bundle.pem"), pem("CERTIFICATE", root.der()))?;
    fs::write(folder.join("issuing.pem"), pem("CERTIFICATE", issuing.certificate().der()))?;
    let crls = [issuing.key_id(), root.key_id()].into_iter().filter_map(|key_id| issuer.crls().of(key_id));
    fs::write(folder.join("crl.pem"), crls.map(|crl| pem("X509 CRL", &crl.der)).collect::<String>())?;
    Ok(())
}

fn write_secret(path: &Path, text: &str) -> Result<(), Untold> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}

fn words(items: impl Iterator<Item = impl ToString>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(" ")
}

/// One record on one line: when, what, by whom, about what.
fn summary(record: &LogRecord) -> String {
    let Some(record) = record.record.as_deref().and_then(|text| Record::parse(text.as_bytes()).ok()) else {
        return "a record that cannot be read".into();
    };
    format!(
        "{}  {:<8}  {}  by {}",
        record.at,
        record.decision.action().as_str(),
        record.subjects.join(" "),
        record.actor
    )
}

fn tell_where(folder: &Path) {
    let folder = folder.display();
    eprintln!(
        "\nThe certificates are in {folder}. Look at them:
   openssl x509 -in {folder}/good/cert.pem -noout -text
   openssl verify -x509_strict -crl_check_all -CAfile {folder}/bundle.pem -untrusted {folder}/issuing.pem \\
     -CRLfile {folder}/crl.pem {folder}/good/cert.pem       # and revoked/cert.pem, which fails
   openssl crl -in {folder}/crl.pem -noout -text"
    );
}
