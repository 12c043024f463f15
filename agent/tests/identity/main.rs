//! An identity over real sockets, from an issuer that can be told to fail.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod feed;
mod issuer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chancery_agent::{CallError, Error, Event, Files, How, Identity, StateError};
use chancery_api::Retry;
use chancery_identity::Leaf;
use chancery_testkit::TestCa;
use chancery_verifier::{Clock, Credentials, FileCredentials, FilePaths, Moment, Rules, SystemClock, Verifier};
use tokio::sync::{mpsc, watch};

use self::issuer::{Fault, Issuer, now};

/// A state folder and what was heard of its identity.
struct Agent {
    folder: PathBuf,
    tell: mpsc::UnboundedSender<Event>,
    heard: mpsc::UnboundedReceiver<Event>,
}

impl Agent {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("chancery-identity-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let (tell, heard) = mpsc::unbounded_channel();
        Self { folder, tell, heard }
    }

    fn builder(&self) -> chancery_agent::Builder {
        let tell = self.tell.clone();
        Identity::builder().state_dir(&self.folder).observe(move |event| {
            let _ = tell.send(event.clone());
        })
    }

    async fn join(&self, issuer: &Issuer) -> Result<Identity, Error> {
        self.builder().join(issuer.join()).start().await
    }

    async fn hear<T>(&mut self, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
        let heard = async {
            loop {
                if let Some(found) = wanted(&self.heard.recv().await.unwrap()) {
                    return found;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), heard).await.expect("it is said")
    }

    async fn hear_held(&mut self, by: How) {
        self.hear(|event| matches!(event, Event::Held { how, .. } if *how == by).then_some(())).await;
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn ca() -> TestCa {
    TestCa::at("example.org", now())
}

fn issuer() -> Issuer {
    Issuer::start(ca())
}

#[tokio::test]
async fn joins_by_pin_and_shows_its_token_last() {
    let issuer = issuer();
    let mut agent = Agent::new("join");
    let identity = agent.join(&issuer).await.unwrap();

    assert_eq!(issuer.asked()[..3], ["GET /v1/bundle", "GET /.well-known/chancery", "POST /v1/attest"]);
    assert!(matches!(agent.heard.recv().await, Some(Event::PinMatched { .. })));
    agent.hear_held(How::Attested).await;
    assert!(identity.spiffe_id().as_str().starts_with("spiffe://example.org/agent/invoice-bot/"));
    assert_eq!(identity.scopes().iter().map(ToString::to_string).collect::<Vec<_>>(), ["tools/call:crm/get_customer"]);
    let material = identity.material().borrow().clone();
    assert_eq!((material.crls.len(), material.answered.is_some()), (2, true), "revocations are known from the start");
}

/// Another root under the same address: the pin tells, before anything was sent.
#[tokio::test]
async fn another_root_gets_no_token() {
    let true_issuer = issuer();
    let foreign = ca().impostor();
    let middle = Issuer::start(foreign);
    let join = true_issuer.join().to_string().replace(&true_issuer.url, &middle.url).parse().unwrap();

    let agent = Agent::new("other-root");
    let error = agent.builder().join(join).start().await.unwrap_err();
    let Error::OtherRoot { wanted, came, .. } = &error else { panic!("{error}") };
    assert_eq!((*wanted, came.len()), (true_issuer.join().pin(), 1));
    assert!(error.to_string().contains("the token was not sent"));
    assert_eq!(middle.asked(), ["GET /v1/bundle"]);
    assert!(!agent.folder.join("identity.json").exists());
}

/// The true bundle is public: whoever relays it must still prove to stand below its root.
#[tokio::test]
async fn the_right_root_relayed_by_somebody_else_gets_no_token() {
    let true_issuer = issuer();
    let foreign = ca().impostor();
    let middle = Issuer::with(foreign.clone(), &foreign.server(), vec![true_issuer.world.ca.root()]);
    let join = true_issuer.join().to_string().replace(&true_issuer.url, &middle.url).parse().unwrap();

    let agent = Agent::new("relayed");
    let error = agent.builder().join(join).start().await.unwrap_err();
    assert!(matches!(error, Error::Unproven { .. }), "{error}");
    assert_eq!(middle.asked(), ["GET /v1/bundle"], "the second connection never came to a question");
}

/// A stolen service certificate is below the right root, and no issuer's.
#[tokio::test]
async fn a_service_below_the_right_root_gets_no_token() {
    let ca = ca();
    let middle = Issuer::with(ca.clone(), &ca.service("crm"), vec![ca.root()]);
    let agent = Agent::new("service");
    let error = agent.join(&middle).await.unwrap_err();
    assert!(matches!(error, Error::NotIssuer { .. }), "{error}");
    assert_eq!(middle.asked(), ["GET /v1/bundle"]);
}

#[tokio::test]
async fn resumes_from_disk_without_token_and_without_issuer() {
    let mut issuer = issuer();
    let mut agent = Agent::new("resume");
    let first = agent.join(&issuer).await.unwrap();
    let (id, key) = (first.spiffe_id(), first.material().borrow().key.clone_key());
    drop(first);
    agent.hear_held(How::Attested).await;

    let again = started(|| agent.builder().start()).await;
    assert_eq!((again.spiffe_id(), again.material().borrow().key.clone_key()), (id.clone(), key));
    agent.hear_held(How::Resumed).await;
    drop(again);

    // The same token once more is no reason to join once more.
    drop(started(|| agent.join(&issuer)).await);
    assert_eq!(issuer.asked().iter().filter(|line| *line == "POST /v1/attest").count(), 1);

    issuer.stop();
    let alone = started(|| agent.builder().start()).await;
    assert_eq!(alone.spiffe_id(), id);
    assert_eq!(alone.material().borrow().crls.len(), 2, "what was known of revocations is known again");
    assert_eq!(alone.material().borrow().answered, None, "and not as an answer of now");
}

#[tokio::test]
async fn two_processes_never_share_a_folder() {
    let issuer = issuer();
    let agent = Agent::new("in-use");
    let _first = agent.join(&issuer).await.unwrap();
    let error = agent.builder().start().await.unwrap_err();
    assert!(matches!(error, Error::State(StateError::InUse { .. })), "{error}");
}

#[tokio::test]
async fn a_lost_answer_to_the_token_is_asked_for_with_the_same_key() {
    let issuer = issuer();
    let agent = Agent::new("lost-attest");
    issuer.told().fault = Some(("/v1/attest", Fault::LoseAnswer));
    let error = agent.join(&issuer).await.unwrap_err();
    assert!(matches!(error, Error::Issuer { doing: "attestation", .. }), "{error}");

    started(|| agent.join(&issuer)).await;
    assert_eq!(issuer.told().keys["token"].len(), 1, "one key, or the token was spent on two");
}

#[tokio::test]
async fn renews_in_time_with_a_new_key_under_open_handles() {
    let issuer = issuer();
    issuer.told().renew_in = Some(Duration::ZERO);
    let mut agent = Agent::new("renew");
    let identity = agent.join(&issuer).await.unwrap();
    let mut material = identity.material();
    let first = material.borrow_and_update().clone();
    issuer.told().renew_in = None;
    agent.hear_held(How::Renewed).await;

    let second = material.wait_for(|material| material.chain != first.chain).await.unwrap().clone();
    let serial = |chain: &[rustls_pki_types::CertificateDer<'_>]| Leaf::read(&chain[0]).unwrap().certificate().serial;
    assert_ne!(first.key.secret_der(), second.key.secret_der());
    let renewal = ("POST /v1/certificates/renew".to_owned(), Some(serial(&first.chain)));
    assert!(issuer.told().asked.contains(&renewal), "shown: the certificate that is renewed");
    // The next questions go by the new certificate.
    let by_new = |issuer: &Issuer| issuer.told().asked.iter().any(|(_, by)| *by == Some(serial(&second.chain)));
    eventually(&mut material, || by_new(&issuer)).await;
    assert!(!agent.folder.join("next-key.json").exists());
}

#[tokio::test]
async fn a_lost_renewal_is_no_fork() {
    let issuer = issuer();
    issuer.told().renew_in = Some(Duration::ZERO);
    issuer.told().fault = Some(("/v1/certificates/renew", Fault::LoseAnswer));
    let mut agent = Agent::new("lost-renewal");
    let identity = agent.join(&issuer).await.unwrap();
    let serial = Leaf::read(&identity.material().borrow().chain[0]).unwrap().certificate().serial;
    agent.hear(|event| matches!(event, Event::NotRenewed { .. }).then_some(())).await;
    // As a crash would: the process is gone between the question and the answer.
    drop(identity);
    issuer.told().renew_in = None;

    let _again = started(|| agent.builder().start()).await;
    agent.hear_held(How::Renewed).await;
    assert_eq!(issuer.told().keys[&serial.to_string()].len(), 1, "a second key is a fork, and suspends the lineage");
}

#[tokio::test]
async fn a_refused_renewal_keeps_the_old_certificate_and_says_what_to_do() {
    let issuer = issuer();
    issuer.told().renew_in = Some(Duration::ZERO);
    let refusal = Fault::Refuse { status: 403, code: "suspended", retry: Retry::No };
    issuer.told().fault = Some(("/v1/certificates/renew", refusal));
    let mut agent = Agent::new("refused");
    let identity = agent.join(&issuer).await.unwrap();
    let chain = identity.material().borrow().chain.clone();
    let (reason, fix, left, again_in) = agent
        .hear(|event| match event {
            Event::NotRenewed { reason, fix, left, again_in } => Some((reason.clone(), fix.clone(), *left, *again_in)),
            _ => None,
        })
        .await;
    assert!(reason.contains("suspended"), "{reason}");
    assert_eq!(fix, ["an operator: chancery resume rv_1"]);
    assert!(left > Duration::from_secs(3000) && again_in >= Duration::from_secs(30), "{left:?} {again_in:?}");
    assert_eq!(identity.material().borrow().chain, chain);
}

#[tokio::test]
async fn renews_at_once_when_its_record_changes() {
    let issuer = issuer();
    let mut agent = Agent::new("record");
    let identity = agent.join(&issuer).await.unwrap();
    issuer.change_record();
    agent.hear_held(How::Renewed).await;
    let grant = Leaf::read(&identity.material().borrow().chain[0]).unwrap().into_certificate().grant.unwrap();
    assert_eq!(grant.revision, 2);
}

#[tokio::test]
async fn asks_for_revocations_and_is_told_only_what_changed() {
    let mut issuer = issuer();
    let mut agent = Agent::new("crls");
    let identity = agent.join(&issuer).await.unwrap();
    let mut material = identity.material();
    let first = material.borrow_and_update().clone();
    eventually(&mut material, || issuer.told().unchanged >= 2).await;
    let later = material.borrow_and_update().clone();
    assert!(Arc::ptr_eq(&first.crls, &later.crls), "the same list is the same value");
    assert!(later.answered.unwrap().monotonic > first.answered.unwrap().monotonic);

    issuer.revoke("5c0e91".parse().unwrap());
    let changed = material.wait_for(|material| !Arc::ptr_eq(&material.crls, &first.crls)).await.unwrap().clone();
    assert_ne!(changed.crls, first.crls);
    // Silence ages what is known: nothing pretends to be an answer.
    issuer.stop();
    agent.hear(|event| matches!(event, Event::RevocationsUnanswered { .. }).then_some(())).await;
    let last = material.borrow_and_update().answered.unwrap();
    assert!(SystemClock.now().since(last) > Duration::from_secs(3));
}

#[tokio::test]
async fn says_that_its_clock_is_off() {
    let issuer = issuer();
    issuer.told().clock_offset_s = 90;
    let mut agent = Agent::new("clock");
    let _identity = agent.join(&issuer).await.unwrap();
    let seconds = agent
        .hear(|event| match event {
            Event::ClockOff { seconds } => Some(*seconds),
            _ => None,
        })
        .await;
    assert!((88..=90).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn writes_files_that_a_verifier_reads_and_only_what_changed() {
    use std::os::unix::fs::MetadataExt;

    let issuer = issuer();
    let agent = Agent::new("files");
    let identity = agent.join(&issuer).await.unwrap();
    let mut files = Files::new(agent.folder.join("files")).unwrap();
    let mut material = identity.material();
    let first = material.borrow_and_update().clone();
    assert!(files.update(&first).unwrap());
    for (_, path) in files.environment() {
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600, "{}", path.display());
    }
    let read = FileCredentials::open(FilePaths::in_folder(files.folder())).await.unwrap();
    let read = read.material().borrow().clone();
    assert_eq!(
        (&read.chain, &read.key, &read.roots, &read.crls),
        (&first.chain, &first.key, &first.roots, &first.crls)
    );

    let answered_again = material.wait_for(|later| later.answered != first.answered).await.unwrap().clone();
    assert!(!files.update(&answered_again).unwrap(), "an answer without news changes no file");
    issuer.revoke("5c0e91".parse().unwrap());
    let revoked = material.wait_for(|later| !Arc::ptr_eq(&later.crls, &first.crls)).await.unwrap().clone();
    let inode = |name: &str| std::fs::metadata(files.folder().join(name)).unwrap().ino();
    let before = (inode("cert.pem"), inode("crl.pem"));
    assert!(files.update(&revoked).unwrap());
    let inode = |name: &str| std::fs::metadata(files.folder().join(name)).unwrap().ino();
    assert_eq!((inode("cert.pem") == before.0, inode("crl.pem") == before.1), (true, false));
}

/// Hours ahead of everybody else.
#[derive(Debug)]
struct Ahead(Duration);

impl Clock for Ahead {
    fn now(&self) -> Moment {
        let now = SystemClock.now();
        Moment { wall: now.wall + self.0, monotonic: now.monotonic }
    }
}

#[tokio::test]
async fn rejoins_with_its_key_when_the_certificate_ran_out() {
    let issuer = issuer();
    let mut agent = Agent::new("rejoin");
    let first = agent.join(&issuer).await.unwrap();
    let serial = Leaf::read(&first.material().borrow().chain[0]).unwrap().certificate().serial;
    drop(first);

    let late = started(|| agent.builder().clock(Arc::new(Ahead(Duration::from_secs(7200)))).start()).await;
    agent.hear_held(How::Rejoined).await;
    let now = Leaf::read(&late.material().borrow().chain[0]).unwrap().certificate().serial;
    assert_ne!(now, serial);
    let anonymous = ("POST /v1/attest".to_owned(), None);
    assert_eq!(issuer.told().asked.iter().filter(|asked| **asked == anonymous).count(), 2);
}

#[tokio::test]
async fn calls_services_and_takes_their_refusals_as_values() {
    let issuer = issuer();
    let agent = Agent::new("http");
    let identity = agent.join(&issuer).await.unwrap();
    let crm = service(&issuer.world.ca, "crm").await;

    let client = identity.http(&crm).unwrap();
    let reply = client.get("/customers/42").await.unwrap();
    assert_eq!((reply.status().as_u16(), reply.text()), (200, "hello invoice-bot".to_owned()));
    let error = client.post("/refunds", &serde_json::json!({"order": 4711})).await.unwrap_err();
    let CallError::Refused { code, needs, holds, .. } = &error else { panic!("{error}") };
    assert_eq!(
        (&**code, needs.join(","), holds.join(",")),
        ("scope-missing", "tools/call:crm/refund".to_owned(), "tools/call:crm/get_customer".to_owned(),)
    );
    let error = client.get("/nothing/here").await.unwrap_err();
    assert!(matches!(error, CallError::Refused { .. }), "what no rule lists is refused: {error}");
}

/// The issuer is under the same roots, and no service; so is whoever has another trust domain's certificate.
#[tokio::test]
async fn calls_nobody_but_services_of_its_trust_domain() {
    let issuer = issuer();
    let agent = Agent::new("not-service");
    let identity = agent.join(&issuer).await.unwrap();
    let error = identity.http(&issuer.url).unwrap().get("/v1/bundle").await.unwrap_err();
    assert!(matches!(error, CallError::Client(_)), "{error}");
    let foreign = service(&ca().impostor(), "crm").await;
    let error = identity.http(&foreign).unwrap().get("/customers/42").await.unwrap_err();
    assert!(matches!(error, CallError::Client(_)), "{error}");
}

/// A service behind a guard; it runs as long as the test.
async fn service(ca: &TestCa, name: &str) -> String {
    use axum::Router;
    use axum::routing::{get, post};
    use chancery_verifier::Peer;

    let hello = |peer: Peer| async move { format!("hello {}", peer.grant().unwrap().name) };
    let app = Router::new().route("/customers/{id}", get(hello)).route("/refunds", post(|| async { "refunded" }));
    let material = ca.material(&ca.service(name).system(name), &[], SystemClock.now());
    let (_keep, credentials) = watch::channel(Arc::new(material));
    let verifier = Verifier::start(credentials).await.unwrap();
    let rules = Rules::new()
        .allow("GET", "/customers/{id}", "tools/call:crm/get_customer")
        .and_then(|rules| rules.allow("POST", "/refunds", "tools/call:crm/refund"));
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", socket.local_addr().unwrap());
    let serving = chancery_verifier::axum::serve(socket, app, verifier.guard(rules.unwrap()).unwrap());
    tokio::spawn(async move { serving.await.unwrap() });
    url
}

/// Starts an identity whose folder the one before it may hold a moment longer: its tasks end after its last handle.
async fn started<F: Future<Output = Result<Identity, Error>>>(start: impl Fn() -> F) -> Identity {
    loop {
        match start().await {
            Err(Error::State(StateError::InUse { .. })) => tokio::task::yield_now().await,
            started => return started.unwrap(),
        }
    }
}

/// Waits until it holds, looking again with each new material, which comes each second.
async fn eventually<T>(material: &mut watch::Receiver<T>, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            material.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("it comes to hold");
}
