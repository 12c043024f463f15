//! A root whose key is elsewhere: rcgen's hand plays its part.

use std::path::PathBuf;
use std::process::{Command, Output};

use chancery::authority::{Requested, request};
use chancery_api::client::Fetched;
use chancery_api::{AuthorityState, AuthorityView, List, WellKnown};
use chancery_verifier::{Denial, Knowledge};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer as Signing, KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData, RevokedCertParams, SanType, SerialNumber,
    SignatureAlgorithm,
};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use crate::fixture::{Issuer, Key, problem};
use crate::head_keys::Follower;
use crate::program::{Running, Scratch, chancery, text};
use crate::taught::Service;

/// The root: its certificate, its key, and how many CRLs it signed.
struct Root {
    params: CertificateParams,
    key: KeyPair,
    pem: String,
}

/// What goes wrong with a certificate.
#[derive(Clone, Copy, PartialEq)]
enum Wrong {
    Nothing,
    PathLength,
    TrustDomain,
    Key,
    Over,
    Long,
    Usage,
}

impl Root {
    fn new(trust_domain: &str) -> Self {
        let mut params = authority(trust_domain, "An offline root", 3650);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { params, key, pem }
    }

    /// Signs a request, with what it asks for.
    fn sign(&self, request: &str, trust_domain: &str, wrong: Wrong) -> String {
        let asked =
            Asked::read(request, &["ca: true", "path_len_constraint: Some(0)", "KeyUsage { flags: 96 }", "spiffe://"]);
        let trust_domain = if wrong == Wrong::TrustDomain { "other.invalid" } else { trust_domain };
        let days = if wrong == Wrong::Over { -1 } else { 365 };
        let mut params = authority(trust_domain, "An issuing authority", days);
        let length = if wrong == Wrong::PathLength { 1 } else { 0 };
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(length));
        params.use_authority_key_identifier_extension = true;
        let issuer = Signing::from_params(&self.params, &self.key);
        match wrong {
            Wrong::Key => params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().pem(),
            _ => params.signed_by(&asked, &issuer).unwrap().pem(),
        }
    }

    /// Signs a request for a key that signs heads.
    fn sign_head_key(&self, request: &str, wrong: Wrong) -> String {
        self.sign_head_key_from(request, wrong, 0)
    }

    /// The same, so many days from now.
    fn sign_head_key_from(&self, request: &str, wrong: Wrong, from: i64) -> String {
        let asked = Asked::read(request, &["ca: false", "KeyUsage { flags: 1 }", "OID(1.3.6.1.4.1.32473.4)"]);
        let days = match wrong {
            Wrong::Over => -1,
            Wrong::Long => 91,
            _ => 90,
        };
        let mut params = authority("example.org", "A key that signs heads", days);
        params.not_before += Duration::days(from);
        params.not_after += Duration::days(from);
        params.is_ca = IsCa::ExplicitNoCa;
        params.subject_alt_names = if wrong == Wrong::TrustDomain { params.subject_alt_names } else { Vec::new() };
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let heads = [&[1, 3, 6, 1, 4, 1, 32473][..], HEAD_KEY_USAGE].concat();
        params.extended_key_usages = match wrong {
            Wrong::Usage => vec![ExtendedKeyUsagePurpose::ClientAuth],
            _ => vec![ExtendedKeyUsagePurpose::Other(heads)],
        };
        params.use_authority_key_identifier_extension = true;
        let issuer = Signing::from_params(&self.params, &self.key);
        match wrong {
            Wrong::Key => {
                let other = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
                params.signed_by(&other, &issuer).unwrap().pem()
            }
            _ => params.signed_by(&asked, &issuer).unwrap().pem(),
        }
    }

    fn crl(&self, number: u64, days: i64, revoked: &[&[u8]]) -> String {
        self.crl_at(OffsetDateTime::now_utc(), number, days, revoked)
    }

    /// A CRL that is made so many days from now.
    fn crl_from(&self, number: u64, from: i64, days: i64) -> String {
        self.crl_at(OffsetDateTime::now_utc() + Duration::days(from), number, days, &[])
    }

    fn crl_at(&self, now: OffsetDateTime, number: u64, days: i64, revoked: &[&[u8]]) -> String {
        let entry = |serial: &&[u8]| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: now - Duration::hours(2),
            reason_code: None,
            invalidity_date: None,
        };
        let crl = CertificateRevocationListParams {
            this_update: now - Duration::hours(1),
            next_update: now + Duration::days(days),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        crl.signed_by(&Signing::from_params(&self.params, &self.key)).unwrap().pem().unwrap()
    }
}

/// The key of a request, which proves to have it, and asks for what an issuing certificate must have.
struct Asked(Vec<u8>);

impl Asked {
    fn read(request: &str, wanted: &[&str]) -> Self {
        let (_, pem) = x509_parser::pem::parse_x509_pem(request.as_bytes()).unwrap();
        let (_, csr) = X509CertificationRequest::from_der(&pem.contents).unwrap();
        csr.verify_signature().unwrap();
        let asked: Vec<_> = csr.requested_extensions().unwrap().map(|asked| format!("{asked:?}")).collect();
        let all = asked.join(" ");
        for wanted in wanted {
            assert!(all.contains(wanted), "{wanted}: {all}");
        }
        Self(csr.certification_request_info.subject_pki.subject_public_key.data.to_vec())
    }
}

impl PublicKeyData for Asked {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        if self.0.len() == 32 { &rcgen::PKCS_ED25519 } else { &rcgen::PKCS_ECDSA_P256_SHA256 }
    }
}

fn authority(trust_domain: &str, name: &str, days: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = vec![SanType::URI(format!("spiffe://{trust_domain}").try_into().unwrap())];
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = OffsetDateTime::now_utc() - Duration::days(if days < 0 { 2 } else { 0 });
    params.not_after = OffsetDateTime::now_utc() + Duration::days(days);
    params
}

/// A host with a configuration that means an external root.
struct Host {
    folder: Scratch,
    config: PathBuf,
}

impl Host {
    fn new() -> Self {
        let folder = Scratch::new();
        let data = folder.path().join("data");
        std::fs::create_dir_all(&data).unwrap();
        let seal = folder.path().join("seal.key");
        chancery::authority::Seal::create(&seal, &ring::rand::SystemRandom::new()).unwrap();
        let config = folder.path().join("chancery.toml");
        let text = format!(
            "trust_domain = \"example.org\"\ndata_dir = {data:?}\npublic_url = \"https://localhost:1\"\n\
             status_url = \"http://status.invalid\"\n[listen]\napi = \"127.0.0.1:0\"\nstatus = \"127.0.0.1:0\"\nadmin_socket = {:?}\n\
             [keys]\nroot = \"external\"\nseal = \"file:{}\"\n",
            folder.path().join("admin.sock"),
            seal.display(),
        );
        std::fs::write(&config, text).unwrap();
        Self { folder, config }
    }

    fn run(&self, words: &[&str]) -> Output {
        chancery().args(words).arg("--config").arg(&self.config).current_dir(self.folder.path()).output().unwrap()
    }

    fn request(&self, what: &str) -> String {
        let out = self.run(&["authorities", "csr", "--for", what]);
        assert!(out.status.success(), "{}", text(&out.stderr));
        text(&out.stdout)
    }

    /// Imports before any start.
    fn import(&self, parts: &[&str]) -> Output {
        let file = self.folder.path().join("handed.pem");
        std::fs::write(&file, parts.concat()).unwrap();
        self.run(&["authorities", "import", "--offline", file.to_str().unwrap()])
    }

    fn waiting(&self) -> usize {
        let files = std::fs::read_dir(self.folder.path().join("data")).unwrap();
        files.filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().starts_with("requested-")).count()
    }
}

#[test]
fn without_an_import_it_says_what_to_do() {
    let host = Host::new();
    let out = host.run(&["serve"]);
    assert_eq!(out.status.code(), Some(1));
    let said = text(&out.stderr);
    for wanted in ["chancery authorities csr", "chancery authorities import --offline", "chancery serve"] {
        assert!(said.contains(wanted), "{said}");
    }
}

#[test]
fn what_does_not_hold_is_not_imported() {
    let host = Host::new();
    let (root, other) = (Root::new("example.org"), Root::new("example.org"));
    let request = host.request("issuing");
    let good = |wrong| root.sign(&request, "example.org", wrong);
    let crl = root.crl(1, 30, &[]);
    let issuing = good(Wrong::Nothing);
    let refused = |parts: &[&str], wanted: &str| {
        let out = host.import(parts);
        let said = text(&out.stderr);
        assert!(!out.status.success() && said.contains(wanted), "wanted {wanted}: {said}");
    };
    refused(&[&issuing, &crl], "the root's certificate is missing");
    refused(&[&root.pem, &issuing], "the root's CRL is missing");
    refused(&[&root.pem, &crl], "the issuing certificate is missing");
    refused(&[&root.pem, &crl, &good(Wrong::PathLength)], "basic_constraints");
    refused(&[&root.pem, &crl, &good(Wrong::TrustDomain)], "another trust domain");
    refused(&[&root.pem, &crl, &good(Wrong::Key)], "no key waits here");
    refused(&[&root.pem, &crl, &good(Wrong::Over)], "and not now");
    refused(&[&other.pem, &crl, &issuing], "not signed by the root");
    refused(&[&root.pem, &other.crl(1, 30, &[]), &issuing], "not signed by the root");
    refused(&[&root.pem, &root.crl(1, 0, &[]), &issuing], "and not now");
    refused(&[&Root::new("other.invalid").pem, &crl, &issuing], "trust_domain example.org");
    refused(&["no PEM at all"], "neither a certificate nor a CRL");
    let (_, der) = x509_parser::pem::parse_x509_pem(issuing.as_bytes()).unwrap();
    let serial = der.parse_x509().unwrap().raw_serial().to_vec();
    refused(&[&root.pem, &root.crl(1, 30, &[&serial]), &issuing], "it is revoked");

    let request = host.request("head-key");
    let signed = |wrong| root.sign_head_key(&request, wrong);
    let head_key = signed(Wrong::Nothing);
    let with = |head_key: &str, wanted| refused(&[&root.pem, &crl, &issuing, head_key], wanted);
    with(&signed(Wrong::Key), "no key waits here");
    with(&signed(Wrong::TrustDomain), "names: a name in what is nobody's");
    with(&signed(Wrong::Over), "and not now");
    with(&signed(Wrong::Long), "wanted at most 90 days");
    with(&signed(Wrong::Usage), "extended_key_usage");
    with(&other.sign_head_key(&request, Wrong::Nothing), "not signed by the root");
    with(&[&*head_key, &head_key].concat(), "a second certificate of a key that signs heads");
    let (_, der) = x509_parser::pem::parse_x509_pem(head_key.as_bytes()).unwrap();
    let serial = der.parse_x509().unwrap().raw_serial().to_vec();
    refused(&[&root.pem, &root.crl(1, 30, &[&serial]), &issuing, &head_key], "it is revoked");

    assert_eq!(host.waiting(), 2);
    let out = host.import(&[&crl, &issuing, &head_key, &root.pem]);
    assert!(out.status.success() && text(&out.stdout).lines().count() == 4, "{}", text(&out.stderr));
    assert_eq!(host.waiting(), 0);
    let again = host.import(&[&crl, &issuing, &head_key, &root.pem]);
    assert!(text(&again.stdout).contains("nothing new"), "{}", text(&again.stderr));
    let older = host.import(&[&root.crl(0, 30, &[])]);
    assert!(text(&older.stderr).contains("the next is above it"), "{}", text(&older.stderr));
}

async fn import(issuer: &Issuer, parts: &[&str]) -> Value {
    issuer.admin.post("/v1/admin/authorities/import", &json!({"pem": parts.concat()})).await.unwrap().body
}

#[tokio::test]
async fn an_issuer_under_an_external_root_from_end_to_end() {
    let root = Root::new("dev.invalid");
    let mut data = None;
    let issuer = Issuer::start_after(
        |config, folder| {
            config.root = chancery::config::RootKey::External;
            // Long enough for the publisher to look at the time while the successor is announced.
            config.freshness.stale_after = std::time::Duration::from_secs(2);
            data = Some(folder.to_path_buf());
        },
        async |config, seal, store, rng| {
            let request = request(Requested::Issuing, &config.trust_domain, &config.data_dir, seal, rng).await.unwrap();
            let parts = [root.pem.clone(), root.sign(&request, "dev.invalid", Wrong::Nothing), root.crl(1, 30, &[])];
            let handed = chancery::authority::Handed::read(parts.concat().as_bytes()).unwrap();
            chancery::authority::import_offline(config, seal, store, rng, handed, now()).await.unwrap();
        },
    )
    .await;
    let data = data.unwrap();

    let held = issuer.joined("invoice-bot", &["tools/call:crm/get_customer"]).await;
    let mut held = issuer.renew(&held, Key::draw()).await.unwrap();
    assert!(held.issued.bundle_pem.contains(root.pem.trim().lines().nth(3).unwrap().trim()));
    let client = issuer.client(None);
    let known: WellKnown = client.get("/.well-known/chancery").await.unwrap().body;
    let Fetched::Changed { contents, .. } = client.fetch(&known.authorities[0].crl, None).await.unwrap() else {
        panic!("nothing was held");
    };
    let (_, crl) = x509_parser::parse_x509_crl(&contents).unwrap();
    assert_eq!(crl.crl_number().map(ToString::to_string), Some("1".into()));

    // It does not rotate by itself: the root's hand is needed for that.
    let path = "/v1/admin/authorities/rotate";
    let refused = problem(issuer.admin.post::<Value>(path, &json!({})).await.err().unwrap());
    assert_eq!(refused.code, "invalid");
    assert!(refused.detail.contains("chancery authorities csr"), "{}", refused.detail);
    let seal = chancery::authority::Seal::open(&issuer.server.issuer().config().seal).unwrap();
    let trust_domain = issuer.server.issuer().trust_domain();
    let rng = ring::rand::SystemRandom::new();
    let request = request(Requested::Issuing, trust_domain, &data, &seal, &rng).await.unwrap();
    let first = held.chain()[1].clone();
    let imported = import(&issuer, &[&root.sign(&request, "dev.invalid", Wrong::Nothing), &root.crl(2, 30, &[])]).await;
    assert_eq!((&imported["crl_number"], &imported["issuing"]["state"]), (&json!("2"), &json!("announced")));
    let announced = loop {
        held = issuer.renew(&held, Key::draw()).await.unwrap();
        if held.chain()[1] != first {
            break issuer.server.issuer().now();
        }
    };
    let signs_from: chancery_identity::Timestamp =
        imported["issuing"]["signs_from_at"].as_str().unwrap().parse().unwrap();
    assert!(announced >= signs_from, "it is announced until {signs_from}, and signed at {announced}");
    let successor = loop {
        let all = issuer.admin.get::<List<AuthorityView>>("/v1/admin/authorities").await.unwrap().body.data;
        let newest = all.into_iter().next_back().unwrap();
        if newest.state == AuthorityState::Signing {
            break newest;
        }
    };
    let token = issuer.token("invoice-bot", 1).await;
    let after = issuer.attest(&token, Key::draw()).await.unwrap();
    assert_ne!(first, after.chain()[1]);

    // What only the root can do is said.
    let ready: Value = client.get("/readyz").await.unwrap().body;
    let warnings = ready["warnings"].to_string();
    assert!(warnings.contains("no key signs heads") && warnings.contains("csr --for head-key"), "{warnings}");
    assert_eq!(ready["warnings"].as_array().unwrap().len(), 1, "{warnings}");
    issuer.revoke(json!({"targets": [format!("authority:{}", successor.key_id)], "effect": "revoke"})).await;
    let warned = loop {
        if let Ok(ready) = client.get::<Value>("/readyz").await {
            break ready.body["warnings"].to_string();
        }
    };
    assert!(warned.contains(&successor.serial.to_string()) && warned.contains("authorities import"), "{warned}");
    let serial: Vec<u8> = successor.serial.bytes().to_vec();
    import(&issuer, &[&root.crl(3, 1, &[&serial])]).await;
    // What is imported is published by the next look at it.
    while client.get::<Value>("/readyz").await.unwrap().body["warnings"].to_string().contains("is stopped") {}

    // The root's CRL nears its end, and then the issuer is not ready.
    issuer.forward(20 * 3600).await;
    let warned = issuer.client(None).get::<Value>("/readyz").await.unwrap().body["warnings"].to_string();
    assert!(warned.contains("the root's CRL ends at"), "{warned}");
}

/// What follows the arc of the project in the usage of keys that sign heads.
const HEAD_KEY_USAGE: &[u64] = &[4];

/// An issuer for which the root signed both requests, and its folder.
async fn under(root: &Root) -> (Issuer, PathBuf) {
    let mut data = None;
    let issuer = Issuer::start_after(
        |config, folder| {
            config.root = chancery::config::RootKey::External;
            data = Some(folder.to_path_buf());
        },
        async |config, seal, store, rng| {
            let asked = async |what| request(what, &config.trust_domain, &config.data_dir, seal, rng).await.unwrap();
            let (issuing, head_key) = (asked(Requested::Issuing).await, asked(Requested::HeadKey).await);
            let issuing = root.sign(&issuing, "dev.invalid", Wrong::Nothing);
            let parts =
                [root.pem.clone(), issuing, root.sign_head_key(&head_key, Wrong::Nothing), root.crl(1, 30, &[])];
            let handed = chancery::authority::Handed::read(parts.concat().as_bytes()).unwrap();
            chancery::authority::import_offline(config, seal, store, rng, handed, now()).await.unwrap();
        },
    )
    .await;
    (issuer, data.unwrap())
}

#[tokio::test]
async fn under_an_external_root_the_feed_is_heard_and_its_keys_follow_each_other() {
    let root = Root::new("dev.invalid");
    let (issuer, data) = under(&root).await;
    let ready: Value = issuer.client(None).get("/readyz").await.unwrap().body;
    assert_eq!(ready["warnings"], json!([]));

    // A service learns by the feed, and what is stopped has stopped there.
    let service = Service::start(&issuer, "edge").await;
    let bot = issuer.joined("invoice-bot", &["tools/call:edge/get_customer"]).await;
    assert_eq!(service.judge(&bot), Ok(Knowledge::Fresh));
    let suspend = json!({"targets": ["agent:invoice-bot"], "effect": "suspend", "wait_s": 10});
    let answer = issuer.revoke(suspend).await;
    assert_eq!(answer.applied.map(|applied| (applied.verifiers, applied.confirmed)), Some((1, 1)));
    assert!(matches!(service.judge(&bot), Err(Denial::Revoked(_))));
    drop(service);

    // Half of the key's time over, the ceremony is asked for; what it brings is announced a day before it signs.
    let mut follower = Follower::new(&issuer, "crm").await;
    let first = follower.signer().await;
    issuer.forward(25 * 86_400).await;
    // The root's hand is needed for its CRL, too.
    import(&issuer, &[&root.crl_from(2, 25, 90)]).await;
    issuer.forward(21 * 86_400).await;
    let warned = issuer.client(None).get::<Value>("/readyz").await.unwrap().body["warnings"].to_string();
    assert!(warned.contains("the key that signs heads needs a successor"), "{warned}");
    let seal = chancery::authority::Seal::open(&issuer.server.issuer().config().seal).unwrap();
    let (trust_domain, rng) = (issuer.server.issuer().trust_domain(), ring::rand::SystemRandom::new());
    let asked = request(Requested::HeadKey, trust_domain, &data, &seal, &rng).await.unwrap();
    let imported = import(&issuer, &[&root.sign_head_key_from(&asked, Wrong::Nothing, 46)]).await;
    assert!(imported["head_key"]["signs_from_at"].is_string(), "{imported}");
    follower.announced(2).await;
    assert_eq!(follower.signer().await, first);
    issuer.forward(25 * 3600).await;
    follower.other_than(&first).await;
    let warned = issuer.client(None).get::<Value>("/readyz").await.unwrap().body["warnings"].to_string();
    assert!(!warned.contains("signs heads"), "{warned}");
}

#[tokio::test]
async fn what_an_import_recorded_and_did_not_announce_is_announced_when_it_is_handed_in_again() {
    let root = Root::new("dev.invalid");
    let (issuer, data) = under(&root).await;
    let (inner, data, rng) = (issuer.server.issuer(), data, ring::rand::SystemRandom::new());
    let seal = chancery::authority::Seal::open(&inner.config().seal).unwrap();
    let asked = async |what| request(what, inner.trust_domain(), &data, &seal, &rng).await.unwrap();
    let (issuing, head_key) = (asked(Requested::Issuing).await, asked(Requested::HeadKey).await);
    let parts =
        [root.sign(&issuing, "dev.invalid", Wrong::Nothing), root.sign_head_key(&head_key, Wrong::Nothing)].concat();
    let known = || {
        let authorities = inner.authorities();
        (authorities.all_issuing().len(), authorities.head_keys().certificates().count())
    };

    // Recorded, and ended before it was announced.
    let handed = chancery::authority::Handed::read(parts.as_bytes()).unwrap();
    chancery::authority::import_offline(inner.config(), &seal, inner.store(), &rng, handed, now()).await.unwrap();
    assert_eq!(known(), (1, 1));
    assert_eq!(import(&issuer, &[&parts]).await, json!({}));
    assert_eq!(known(), (2, 2));
    Follower::new(&issuer, "crm").await.announced(2).await;
    // Once: nobody is announced twice.
    import(&issuer, &[&parts]).await;
    assert_eq!(known(), (2, 2));
}

/// The commands of docs/operations.md, as they stand there, by OpenSSL.
#[test]
fn the_documented_ceremony_works_line_by_line() {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("no openssl here: not run");
        return;
    }
    let host = Host::new();
    let documented = include_str!("../../docs/operations.md");
    let (_, section) = documented.split_once("\n## An external root\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let blocks: Vec<&str> = section.split("```sh\n").skip(1).map(|block| block.split_once("```").unwrap().0).collect();
    let [make_root, ask, sign, first, later] = blocks[..] else { panic!("{} blocks", blocks.len()) };
    let socket = host.folder.path().join("admin.sock");
    let shell = |script: &str| {
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_chancery")).parent().unwrap();
        let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("sh");
        command.args(["-ec", script]).env("PATH", path).env("CHANCERY_CONFIG", &host.config);
        command.env("CHANCERY_ISSUER", format!("unix:{}", socket.display())).current_dir(host.folder.path());
        let out = command.output().unwrap();
        assert!(out.status.success(), "{script}: {}{}", text(&out.stdout), text(&out.stderr));
        text(&out.stdout)
    };
    [make_root, ask, sign, first].into_iter().for_each(|script| drop(shell(script)));
    let mut serve = chancery();
    serve.arg("serve").arg("--config").arg(&host.config);
    let mut serving = Running::start(&mut serve);
    serving.say_until(|line| line.starts_with("ready"));
    assert_eq!(shell("chancery authorities list -o id").lines().count(), 2);
    // The next generation, into the one that runs.
    [ask, sign].into_iter().for_each(|script| drop(shell(script)));
    let said = shell(later);
    for wanted in ["root CRL", "authority", "announced", "head key", "signs heads from"] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    let ended = shell("chancery authorities import head-key.pem root-crl.pem");
    assert!(ended.contains("nothing new"), "{ended}");
}

fn now() -> chancery_identity::Timestamp {
    use chancery::clock::{Clock, SystemClock};
    SystemClock.now()
}
