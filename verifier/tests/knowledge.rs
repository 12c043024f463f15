//! What a verifier knows of revocations, and what it makes of old, wrong and missing knowledge.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![cfg(all(feature = "ring", feature = "tokio"))]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chancery_identity::{Effect, Reason, Revocation, RevocationId, Timestamp};
use chancery_testkit::{Subject, TestCa};
use chancery_verifier::{
    Clock, Credentials, CrlRefused, Denial, FileCredentials, FileError, FilePaths, Freshness, Knowledge, Material,
    MaterialRefused, Moment, Peer, Rules, RulesRefused, StartError, SystemClock, Verifier,
};
use common::{PATIENCE, Service, closed, provider, visit};
use rustls_pki_types::CertificateRevocationListDer;
use tokio::sync::watch;

const SCOPE: &str = "tools/call:crm/get_customer";

/// A clock that a test moves; both clocks of it go together.
#[derive(Debug)]
struct Moved {
    start: Moment,
    millis: AtomicU64,
}

impl Moved {
    fn new(ca: &TestCa) -> Arc<Self> {
        Arc::new(Self { start: Moment { wall: ca.now(), monotonic: Instant::now() }, millis: AtomicU64::new(0) })
    }

    fn set(&self, since_start: Duration) {
        self.millis.store(u64::try_from(since_start.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for Moved {
    fn now(&self) -> Moment {
        let since = Duration::from_millis(self.millis.load(Ordering::SeqCst));
        Moment { wall: self.start.wall + since, monotonic: self.start.monotonic + since }
    }
}

struct Bench {
    ca: TestCa,
    clock: Arc<Moved>,
    service: Subject,
    verifier: Verifier,
}

impl Bench {
    fn new() -> Self {
        let ca = TestCa::new("example.org");
        let clock = Moved::new(&ca);
        let service = ca.service("crm").system("crm");
        let material = ca.material(&service, &[], clock.now());
        let verifier = Verifier::new(&material, provider(), clock.clone()).unwrap();
        Self { ca, clock, service, verifier }
    }

    fn material(&self) -> Material {
        self.ca.material(&self.service, &[], self.clock.now())
    }

    fn with_crls(&self, crls: Vec<CertificateRevocationListDer<'static>>) -> Material {
        Material { crls: crls.into(), ..self.material() }
    }

    fn agent(&self) -> Peer {
        let chain = self.ca.agent("invoice-bot").scope(SCOPE).issue().chain;
        self.verifier.client(&chain, self.clock.now()).unwrap()
    }

    fn check(&self, peer: &Peer) -> Result<Knowledge, Denial> {
        self.verifier.check(peer, self.clock.now())
    }
}

#[test]
fn a_crl_is_replaced_by_a_newer_one_only() {
    let bench = Bench::new();
    let peer = bench.agent();
    let older = bench.ca.crls(&[]);
    bench.verifier.renew(&bench.with_crls(bench.ca.crls(&[peer.serial()]))).unwrap();
    assert_eq!(bench.check(&peer), Err(Denial::Revoked(peer.serial())));
    // A lower number does not bring the peer back, though it is signed as well.
    bench.verifier.renew(&bench.with_crls(older)).unwrap();
    assert_eq!(bench.check(&peer), Err(Denial::Revoked(peer.serial())));
    // Nor does no CRL at all.
    bench.verifier.renew(&bench.with_crls(Vec::new())).unwrap();
    assert_eq!(bench.check(&peer), Err(Denial::Revoked(peer.serial())));
    // A hold that was resumed is not on the next one.
    bench.verifier.renew(&bench.with_crls(bench.ca.crls(&[]))).unwrap();
    assert_eq!(bench.check(&peer), Ok(Knowledge::Fresh));
}

/// The handshake let it in; each request is judged anew.
#[test]
fn a_request_is_refused_once_its_peer_is_revoked_or_over() {
    let bench = Bench::new();
    let rules = Rules::new().allow("GET", "/customers/{id}", SCOPE).unwrap();
    let guard = bench.verifier.guard(rules).unwrap();
    let ask = |peer: &Peer| guard.check(peer, "GET", "/customers/42", bench.clock.now()).map(|_| ());
    let (peer, other) = (bench.agent(), bench.agent());
    assert_eq!((ask(&peer), ask(&other)), (Ok(()), Ok(())));
    bench.verifier.renew(&bench.with_crls(bench.ca.crls(&[peer.serial()]))).unwrap();
    assert_eq!((ask(&peer), ask(&other)), (Err(Denial::Revoked(peer.serial())), Ok(())));
    bench.clock.set(other.not_after().since(bench.ca.now()) + Duration::from_secs(1));
    assert_eq!(ask(&other).unwrap_err().code(), "certificate-expired");
}

#[test]
fn an_older_answer_does_not_make_newer_knowledge_fresh() {
    let bench = Bench::new();
    let (older, newer) = (bench.ca.crls(&[]), bench.ca.crls(&[]));
    bench.verifier.renew(&bench.with_crls(newer)).unwrap();
    let peer = bench.agent();
    bench.clock.set(Duration::from_secs(25 * 60));
    bench.verifier.renew(&bench.with_crls(older)).unwrap();
    assert_eq!(bench.check(&peer), Ok(Knowledge::Stale));
}

#[test]
fn a_crl_counts_only_with_its_authority_s_signature() {
    let bench = Bench::new();
    let peer = bench.agent();
    let forged: Vec<_> = bench.ca.impostor().crls(&[peer.serial()]);
    let mut broken = bench.ca.crls(&[peer.serial()]);
    for crl in &mut broken {
        let mut der = crl.to_vec();
        *der.last_mut().unwrap() ^= 1;
        *crl = der.into();
    }
    for (crls, refused) in [(forged, CrlRefused::UnknownIssuer), (broken, CrlRefused::Signature)] {
        bench.verifier.renew(&bench.with_crls(crls)).unwrap();
        assert!(bench.verifier.status().crls_refused.contains(&refused), "{:?}", bench.verifier.status());
        // What was known before is known still, and ages.
        assert_eq!(bench.check(&peer), Ok(Knowledge::Fresh));
    }
    bench.clock.set(Duration::from_secs(21 * 60));
    assert_eq!(bench.check(&peer), Ok(Knowledge::Stale));
}

#[test]
fn without_a_crl_of_each_authority_nobody_is_let_in() {
    let bench = Bench::new();
    let chain = bench.ca.agent("invoice-bot").issue().chain;
    for left_out in 0..3 {
        let mut crls = bench.ca.crls(&[]);
        crls.remove(left_out);
        let verifier = Verifier::new(&bench.with_crls(crls), provider(), bench.clock.clone()).unwrap();
        let outcome = verifier.client(&chain, bench.clock.now());
        // The second is of an authority that this peer has nothing to do with.
        match left_out {
            1 => assert!(outcome.is_ok()),
            _ => assert!(matches!(outcome, Err(Denial::RevocationUnknown(Some(_)))), "{outcome:?}"),
        }
    }
}

#[test]
fn a_crl_waits_for_its_authority_to_be_met() {
    let bench = Bench::new();
    let issued = bench.ca.agent("invoice-bot").issue();
    let mut material = bench.ca.material(&bench.service, &[issued.certificate.serial], bench.clock.now());
    material.chain.truncate(1);
    let verifier = Verifier::new(&material, provider(), bench.clock.clone()).unwrap();
    assert_eq!(verifier.status().crls_refused, [CrlRefused::UnknownIssuer; 2]);
    let denied = verifier.client(&issued.chain, bench.clock.now()).unwrap_err();
    assert_eq!(denied, Denial::Revoked(issued.certificate.serial));
    verifier.client(&bench.ca.agent("invoice-bot").issue().chain, bench.clock.now()).unwrap();
}

#[test]
fn knowledge_grows_stale_and_then_expires() {
    let bench = Bench::new();
    let peer = bench.agent();
    let rules = Rules::new()
        .allow("GET", "/customers/{id}", SCOPE)
        .and_then(|rules| rules.allow("GET", "/risky", SCOPE))
        .and_then(|rules| rules.high_risk("tools/call:crm/refund"))
        .unwrap();
    let risky = rules.clone().high_risk("tools/call:crm/*").unwrap().public("GET", "/healthz");
    let guard = bench.verifier.guard(rules).unwrap();
    let risky = bench.verifier.guard(risky).unwrap();
    let get = |guard: &chancery_verifier::Guard, path: &str| guard.check(&peer, "GET", path, bench.clock.now());

    assert_eq!(get(&guard, "/customers/1").unwrap().knowledge(), Knowledge::Fresh);
    get(&risky, "/customers/1").unwrap();
    bench.clock.set(Duration::from_secs(31));
    assert_eq!(get(&guard, "/customers/1").unwrap().knowledge(), Knowledge::Stale);
    assert_eq!(get(&risky, "/customers/1").unwrap_err().code(), "revocation-stale");
    assert_eq!(bench.verifier.status().knowledge, Knowledge::Stale);
    bench.clock.set(Duration::from_secs(901));
    assert_eq!(get(&guard, "/customers/1").unwrap_err(), Denial::RevocationExpired);
    assert_eq!(bench.verifier.status().knowledge, Knowledge::Expired);
    get(&risky, "/healthz").unwrap();
    // The next answer makes it good again.
    bench.verifier.renew(&bench.material()).unwrap();
    assert_eq!(get(&guard, "/customers/1").unwrap().knowledge(), Knowledge::Fresh);
    // Until the certificate itself is over.
    bench.clock.set(Duration::from_secs(3600));
    bench.verifier.renew(&bench.with_crls(bench.ca.crls_at(bench.clock.now().wall, &[]))).unwrap();
    assert!(matches!(get(&guard, "/customers/1"), Err(Denial::Expired { .. })));
}

#[test]
fn what_a_service_answers_for_comes_from_its_own_certificate() {
    let bench = Bench::new();
    let rules = || Rules::new().allow("GET", "/a", SCOPE).unwrap();
    let other = Rules::new().allow("GET", "/a", "tools/call:billing/refund").unwrap();
    assert!(matches!(bench.verifier.guard(other), Err(RulesRefused::System { .. })));
    let guard = bench.verifier.guard(rules()).unwrap();
    let peer = bench.agent();
    guard.check(&peer, "GET", "/a", bench.clock.now()).unwrap();
    // The next certificate says that another service has the system now.
    let lesser = bench.ca.material(&bench.ca.service("crm").system("crm-archive"), &[], bench.clock.now());
    bench.verifier.renew(&lesser).unwrap();
    let denied = guard.check(&peer, "GET", "/a", bench.clock.now()).unwrap_err();
    assert_eq!(denied.code(), "system-not-served");
}

#[test]
fn material_that_cannot_be_used_leaves_the_last_in_force() {
    let bench = Bench::new();
    let peer = bench.agent();
    let foreign = TestCa::new("elsewhere.test");
    let foreign = foreign.material(&foreign.service("crm").system("crm"), &[], bench.clock.now());
    let wanted = [
        (Material { chain: Vec::new(), ..bench.material() }, "wanted the own certificate chain, got none"),
        (Material { trust_domain: "elsewhere.test".parse().unwrap(), ..bench.material() }, "trust domain"),
        (Material { roots: [vec![0x30, 0].into()].into(), ..bench.material() }, "trust anchor"),
        (
            Material { key: Arc::new(rustls_pki_types::PrivatePkcs8KeyDer::from(vec![0]).into()), ..bench.material() },
            "key",
        ),
        (Material { trust_domain: bench.ca.trust_domain().clone(), ..foreign }, "elsewhere.test"),
    ];
    for (material, words) in wanted {
        let refused: MaterialRefused = bench.verifier.renew(&material).unwrap_err();
        assert!(refused.to_string().contains(words), "{refused}");
        assert_eq!(bench.verifier.status().material_refused, Some(refused));
        assert_eq!(bench.check(&peer), Ok(Knowledge::Fresh));
    }
    bench.verifier.renew(&bench.material()).unwrap();
    assert_eq!(bench.verifier.status().material_refused, None);
}

#[tokio::test]
async fn a_verifier_does_not_start_on_expired_knowledge() {
    let ca = TestCa::new("example.org");
    let service = ca.service("crm").system("crm");
    let now = Moment { wall: ca.now(), monotonic: Instant::now() };
    let start = async |material: Material| {
        let clock = Moved::new(&ca);
        clock.set(Duration::from_secs(3000));
        let (_sender, newest) = watch::channel(Arc::new(material));
        Verifier::start_with(newest, provider(), clock).await.map(|_| ())
    };
    let good = Material { answered: None, ..ca.material(&service, &[], now) };
    start(good.clone()).await.unwrap();
    let old = start(Material { answered: Some(now), ..good.clone() }).await.unwrap_err();
    assert!(matches!(old, StartError::Knowledge(_)), "{old}");
    let nothing = start(Material { crls: Arc::default(), ..good }).await.unwrap_err();
    assert!(nothing.to_string().contains("CRL"), "{nothing}");
}

fn entry(target: &str, effect: Effect) -> Revocation {
    Revocation {
        id: RevocationId::from_bytes([1; 16]),
        n: 1,
        epoch: 1,
        log_index: 9,
        fence: 9,
        at: Timestamp::from_unix_millis(0),
        target: target.parse().unwrap(),
        effect,
        reason: Reason::KeyCompromise,
        cascade: true,
    }
}

#[tokio::test]
async fn entries_in_force_count_beside_the_crls() {
    let service = Service::start().await;
    let echo = service.echo(Default::default()).await;
    let (_, agent) = service.agent();
    let mut stream = visit(echo.address, &agent).await.unwrap();
    service.verifier.set_entries(&[entry("owner:somebody-else", Effect::Retire)]);
    common::round_trip(&mut stream).await.unwrap();
    service.verifier.set_entries(&[entry("agent:invoice-bot", Effect::Suspend)]);
    closed(&mut stream).await;
    visit(echo.address, &agent).await.unwrap_err();
    // Newer CRLs leave the entries alone; a resume takes them out.
    service.verifier.renew(&service.revoking(&[])).unwrap();
    visit(echo.address, &agent).await.unwrap_err();
    service.verifier.set_entries(&[]);
    visit(echo.address, &agent).await.unwrap();
}

struct Files {
    folder: std::path::PathBuf,
}

impl Files {
    fn new(name: &str) -> Self {
        let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        Self { folder }
    }

    fn write(&self, name: &str, label: &str, ders: &[&[u8]]) {
        let pem: String = ders.iter().map(|der| pem(label, der)).collect();
        let (new, path) = (self.folder.join(format!("{name}.new")), self.folder.join(name));
        std::fs::write(&new, pem).unwrap();
        std::fs::rename(new, path).unwrap();
    }

    fn write_all(&self, material: &Material) {
        self.write("cert.pem", "CERTIFICATE", &material.chain.iter().map(AsRef::as_ref).collect::<Vec<_>>());
        self.write("key.pem", "PRIVATE KEY", &[material.key.secret_der()]);
        self.write("bundle.pem", "CERTIFICATE", &material.roots.iter().map(AsRef::as_ref).collect::<Vec<_>>());
        self.write("crl.pem", "X509 CRL", &material.crls.iter().map(AsRef::as_ref).collect::<Vec<_>>());
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in der.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |sum, &byte| (sum << 8) | u32::from(byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let at = usize::try_from((bits >> (18 - 6 * digit)) & 63).unwrap();
            text.push(if digit > chunk.len() { '=' } else { char::from(*DIGITS.get(at).unwrap()) });
        }
    }
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

#[tokio::test]
async fn credentials_from_files_follow_the_files() {
    let ca = TestCa::at("example.org", SystemClock.now().wall);
    let subject = ca.service("crm").system("crm").dns("crm.test");
    let files = Files::new("follow");
    let paths = FilePaths::in_folder(&files.folder);
    assert!(matches!(FileCredentials::open(paths.clone()).await, Err(FileError::Io(..))));
    let first = ca.material(&subject, &[], SystemClock.now());
    files.write_all(&first);

    let credentials = FileCredentials::open(paths).await.unwrap();
    let mut newest = credentials.material();
    let read = Arc::clone(&newest.borrow_and_update());
    assert_eq!((&read.chain, &read.roots, &read.crls), (&first.chain, &first.roots, &first.crls));
    assert_eq!((&read.trust_domain, read.answered, read.freshness), (ca.trust_domain(), None, Freshness::default()));
    let verifier = Verifier::start(credentials).await.unwrap();
    let (material, _) = watch::channel(Arc::new(first));
    let service = Service { ca, subject, material, verifier };
    let echo = service.echo(Default::default()).await;
    let (serial, agent) = service.agent();
    let mut stream = visit(echo.address, &agent).await.unwrap();

    // Half a file, then the whole one.
    files.write("crl.pem", "X509 CRL", &[]);
    std::fs::write(files.folder.join("crl.pem"), "-----BEGIN X509 CRL-----\nMIIB").unwrap();
    let revoking = service.revoking(&[serial]);
    let crls: Vec<&[u8]> = revoking.crls.iter().map(AsRef::as_ref).collect();
    files.write("crl.pem", "X509 CRL", &crls);
    closed(&mut stream).await;
    tokio::time::timeout(PATIENCE, newest.changed()).await.unwrap().unwrap();
    assert_eq!(newest.borrow().crls, revoking.crls);
    assert!(Arc::ptr_eq(&newest.borrow().key, &read.key), "the key did not change");
}
