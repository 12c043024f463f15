//! A root whose key is elsewhere: rcgen's hand plays its part.

use std::path::PathBuf;
use std::process::Output;

use chancery_api::client::Fetched;
use chancery_api::{AuthorityState, AuthorityView, List, WellKnown};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer as Signing, KeyIdMethod,
    KeyPair, KeyUsagePurpose, PublicKeyData, RevokedCertParams, SanType, SerialNumber, SignatureAlgorithm,
};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use crate::fixture::{Issuer, Key, problem};
use crate::program::{Scratch, chancery, text};

/// The root: its certificate, its key, and how many CRLs it signed.
struct Root {
    params: CertificateParams,
    key: KeyPair,
    pem: String,
}

/// What goes wrong with an issuing certificate.
#[derive(Clone, Copy, PartialEq)]
enum Wrong {
    Nothing,
    PathLength,
    TrustDomain,
    Key,
    Over,
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
        let asked = Asked::read(request);
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

    fn crl(&self, number: u64, days: i64, revoked: &[&[u8]]) -> String {
        let now = OffsetDateTime::now_utc();
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
    fn read(request: &str) -> Self {
        let (_, pem) = x509_parser::pem::parse_x509_pem(request.as_bytes()).unwrap();
        let (_, csr) = X509CertificationRequest::from_der(&pem.contents).unwrap();
        csr.verify_signature().unwrap();
        let asked: Vec<_> = csr.requested_extensions().unwrap().map(|asked| format!("{asked:?}")).collect();
        let all = asked.join(" ");
        for wanted in ["ca: true", "path_len_constraint: Some(0)", "KeyUsage { flags: 96 }", "spiffe://"] {
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
        &rcgen::PKCS_ECDSA_P256_SHA256
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
             status_url = \"http://status.invalid\"\n[listen]\napi = \"127.0.0.1:0\"\nstatus = \"127.0.0.1:0\"\n\
             [keys]\nroot = \"external\"\nseal = \"file:{}\"\n",
            seal.display(),
        );
        std::fs::write(&config, text).unwrap();
        Self { folder, config }
    }

    fn run(&self, words: &[&str]) -> Output {
        chancery().args(words).arg("--config").arg(&self.config).current_dir(self.folder.path()).output().unwrap()
    }

    fn request(&self) -> String {
        let out = self.run(&["authorities", "csr"]);
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
    let request = host.request();
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

    assert_eq!(host.waiting(), 1);
    let out = host.import(&[&crl, &issuing, &root.pem]);
    assert!(out.status.success() && text(&out.stdout).lines().count() == 3, "{}", text(&out.stderr));
    assert_eq!(host.waiting(), 0);
    let again = host.import(&[&crl, &issuing, &root.pem]);
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
            let request =
                chancery::authority::request(&config.trust_domain, &config.data_dir, seal, rng).await.unwrap();
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
    let request = chancery::authority::request(trust_domain, &data, &seal, &rng).await.unwrap();
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
    assert_eq!(ready["warnings"], json!([]));
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

fn now() -> chancery_identity::Timestamp {
    use chancery::clock::{Clock, SystemClock};
    SystemClock.now()
}
