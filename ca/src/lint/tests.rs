//! Each lint finds its defects, which lie in `tests/fixtures/{lint}/{defect}.pem`, and finds nothing else in them.
//!
//! A file name begins with `issuing-`, `root-`, `responder-` or `head-` where the certificate is not a leaf. `cargo test -p chancery-ca
//! write_fixtures -- --ignored` makes them anew from [`defects`].
#![expect(clippy::unwrap_used, reason = "tests")]

mod defects;
mod draft;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chancery_identity::{Attestation, GrantId, Instance, Lineage, ScopeSet, Serial, TrustDomain};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use defects::{Defect, defects};
use draft::Draft;

use super::*;
use crate::certificate::Parts;
use crate::local::{CRYPTO, LocalSigner};
use crate::profile::Claims;
use crate::{Authority, Linted, Profile, RootAuthority, Signer, StatusUrl, SubjectKey};

/// 2026-11-21T14:00:00Z.
const NOW: Timestamp = Timestamp::from_unix_millis(1_795_269_600_000);

#[test]
fn good_certificates_have_no_findings() {
    let fixtures = Fixtures::open();
    for file in pem_files(&folder().join("good")) {
        assert_eq!(fixtures.findings(&file), Vec::<String>::new(), "{}", file.display());
    }
}

#[test]
fn each_lint_finds_its_defects_and_nothing_else_in_them() {
    let fixtures = Fixtures::open();
    for lint in LINTS {
        let files = pem_files(&folder().join(lint.name));
        assert!(!files.is_empty(), "lint {} has no fixture", lint.name);
        for file in files {
            let found: Vec<_> = fixtures.findings(&file);
            let names: BTreeSet<&str> = found.iter().filter_map(|f| f.split(": ").next()).collect();
            assert_eq!(names, BTreeSet::from([lint.name]), "{}: {found:?}", file.display());
        }
    }
}

#[test]
fn every_fixture_belongs_to_a_lint() {
    for entry in fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let known = LINTS.iter().any(|lint| lint.name == name) || ["good", "keys"].contains(&&*name);
        assert!(known, "tests/fixtures/{name} belongs to no lint");
    }
}

#[test]
fn every_defect_has_its_file() {
    for defect in defects() {
        let file = folder().join(defect.lint).join(format!("{}.pem", defect.name));
        assert!(file.exists(), "{} is missing: write_fixtures makes it", file.display());
    }
}

/// The fixtures' authorities, and the key that their leaves are for.
struct Fixtures {
    root: Issuer,
    issuing: Issuer,
    leaf_key: Vec<u8>,
    issuing_key: Vec<u8>,
    root_key: Vec<u8>,
    responder_key: Vec<u8>,
    head_key: Vec<u8>,
}

impl Fixtures {
    /// From `tests/fixtures/good` alone: nothing is signed.
    fn open() -> Self {
        let good = |name| fs::read(folder().join("good").join(name)).unwrap();
        let der = |pem: &[u8]| CertificateDer::from_pem_slice(pem).unwrap().to_vec();
        let root = RootAuthority::from_parts(der(&good("root.pem")), signer("root"), CRYPTO).unwrap();
        let issuing = Authority::from_parts(der(&good("issuing.pem")), signer("issuing"), CRYPTO).unwrap();
        Self {
            root: root.certificate().issuer(None, CRYPTO),
            issuing: issuing.issuer(&status()),
            leaf_key: signer("leaf").public_key().to_vec(),
            issuing_key: issuing.certificate().spki().to_vec(),
            root_key: root.certificate().spki().to_vec(),
            responder_key: signer("responder").public_key().to_vec(),
            head_key: signer("head").public_key().to_vec(),
        }
    }

    fn findings(&self, file: &Path) -> Vec<String> {
        let certificate = CertificateDer::from_pem_file(file).unwrap();
        let tbs = Parts::read(&certificate).unwrap().tbs;
        let name = file.file_name().unwrap().to_str().unwrap();
        let key_id = self.root.key_id;
        let links = Links::new(&status().crl(key_id), &status().certificate(key_id), None);
        let linked_root = Issuer { links: Some(links), ..self.root.clone() };
        let findings = if name.starts_with("root") {
            lint(Kind::Root, tbs, &self.root, &self.root_key, NOW)
        } else if name.starts_with("issuing") {
            lint(Kind::Issuing, tbs, &linked_root, &self.issuing_key, NOW)
        } else if name.starts_with("head") {
            lint(Kind::HeadKey, tbs, &linked_root, &self.head_key, NOW)
        } else if name.starts_with("responder") {
            lint(Kind::Responder, tbs, &Issuer { links: None, ..self.issuing.clone() }, &self.responder_key, NOW)
        } else {
            lint(Kind::Leaf, tbs, &self.issuing, &self.leaf_key, NOW)
        };
        findings.iter().map(ToString::to_string).collect()
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn pem_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "pem")).collect()
}

fn signer(name: &str) -> Arc<dyn Signer> {
    let pkcs8 = fs::read(folder().join("keys").join(format!("{name}.pk8"))).unwrap();
    Arc::new(LocalSigner::from_pkcs8(&pkcs8).unwrap())
}

fn status() -> StatusUrl {
    "http://status.test".parse().unwrap()
}

// Making the fixtures.

#[test]
#[ignore = "writes tests/fixtures anew, with other signatures"]
fn write_fixtures() {
    let (domain, day): (TrustDomain, _) = ("example.org".parse().unwrap(), Duration::from_secs(86_400));
    let serial = |last| Serial::compose(NOW, [0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    let root = RootAuthority::create(&domain, signer("root"), CRYPTO, 3650 * day, NOW, serial(1));
    let root = crate::testing::now(root).unwrap();
    let issuing = crate::testing::now(root.issue(signer("issuing"), &status(), 90 * day, NOW, serial(2))).unwrap();
    let leaf = crate::testing::now(issuing.sign(good_leaf(&issuing, serial(3)))).unwrap();
    write("good", "root", root.certificate().der());
    write("good", "issuing", issuing.certificate().der());
    write("good", "leaf", leaf.der());
    let responder = crate::testing::now(issuing.certify_responder(signer("responder"), NOW, serial(4))).unwrap();
    write("good", "responder", responder.certificate());
    let public = signer("head").public_key().last_chunk().copied().unwrap();
    let head = crate::testing::now(root.certify_head_key(public, &status(), NOW, serial(5))).unwrap();
    write("good", "head", &head);
    for Defect { lint, name, make } in defects() {
        let (good, by) = match name.split('-').next() {
            Some("root") => (root.certificate().der(), "root"),
            Some("issuing") => (issuing.certificate().der(), "root"),
            Some("responder") => (responder.certificate(), "issuing"),
            Some("head") => (&*head, "root"),
            _ => (&**leaf.der(), "issuing"),
        };
        let mut draft = Draft::read(good);
        make(&mut draft);
        write(lint, name, &draft.sign(&*signer(by)));
    }
}

fn good_leaf(issuing: &Authority, serial: Serial) -> Linted {
    let key = signer("leaf");
    let key = SubjectKey::new(&PublicKey::read(key.public_key()).unwrap().unwrap(), CRYPTO);
    let instance = Instance::from_bytes([7; 16]);
    let claims = Claims {
        spiffe_id: issuing.certificate().trust_domain().agent(&"invoice-bot".parse().unwrap(), instance),
        scopes: good_scopes(),
        grant: Some(good_grant()),
        dns_names: vec!["a.internal".into(), "b.internal".into()],
        not_after: NOW + Duration::from_secs(3599),
    };
    Profile::new(issuing, &status()).plan(key, claims, serial, NOW).unwrap().lint().unwrap()
}

fn good_grant() -> Grant {
    Grant {
        id: GrantId::from_bytes([1; 16]),
        name: "invoice-bot".parse().unwrap(),
        revision: 1,
        owner: "team-finance".parse().unwrap(),
        systems: Vec::new(),
        lineage: Lineage::from_bytes([2; 16]),
        epoch: 1,
        planned_at: 5,
        seen: 0,
        attestation: Attestation { method: "join_token".into(), digest: [3; 32], at: NOW },
        on_behalf_of: None,
        task: None,
        chain: Vec::new(),
        depth_left: 0,
        chosen: false,
        constraints: Vec::new(),
    }
}

fn good_scopes() -> ScopeSet {
    let scopes = ["tools/call:crm/get_customer", "tools/call:crm/refund"];
    ScopeSet::new(scopes.map(|scope| scope.parse().unwrap())).unwrap()
}

fn write(lint: &str, name: &str, der: &[u8]) {
    let folder = folder().join(lint);
    fs::create_dir_all(&folder).unwrap();
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"));
    fs::write(folder.join(format!("{name}.pem")), pem).unwrap();
}
