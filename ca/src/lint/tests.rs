//! Each lint finds its defects, which lie in `tests/fixtures/{lint}/{defect}.pem`, and finds nothing else in them.
//!
//! A file name begins with `issuing-`, `root-`, `responder-` or `head-` where the certificate is not a leaf. `cargo test -p chancery-ca
//! write_fixtures -- --ignored` makes them anew from [`defects`].
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chancery_identity::{Attestation, GrantId, Instance, Lineage, ScopeSet, Serial, TrustDomain};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::*;
use crate::certificate::{self, CA_ISSUERS, Links, OCSP, Parts, crl_distribution_point};
use crate::local::{CRYPTO, LocalSigner};
use crate::profile::Claims;
use crate::{Algorithm, Authority, Linted, Profile, RootAuthority, Signer, StatusUrl, SubjectKey};

/// 2026-11-21T14:00:00Z.
const NOW: Timestamp = Timestamp::from_unix_millis(1_795_269_600_000);
const UNKNOWN: &[u8] = &[0x2b, 6, 1, 4, 1, 0x81, 0xfd, 0x59, 99];

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
    let text = base64(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"));
    fs::write(folder.join(format!("{name}.pem")), pem).unwrap();
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |chunk: &[u8]| {
        let bits = chunk.iter().chain(&[0, 0]).take(3).fold(0_usize, |bits, &byte| (bits << 8) | usize::from(byte));
        (0..4_usize)
            .map(move |i| if i > chunk.len() { '=' } else { char::from(ALPHABET[(bits >> (18 - 6 * i)) & 63]) })
            .collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

/// One thing wrong with a good certificate.
struct Defect {
    lint: &'static str,
    name: &'static str,
    make: fn(&mut Draft),
}

/// A TBSCertificate as bytes, to be spoilt.
struct Draft {
    version: Option<Vec<u8>>,
    /// The INTEGER's contents.
    serial: Vec<u8>,
    algorithm: Vec<u8>,
    issuer: Vec<u8>,
    not_before: Vec<u8>,
    not_after: Vec<u8>,
    subject: Vec<u8>,
    spki: Vec<u8>,
    extensions: Vec<(Vec<u8>, Option<bool>, Vec<u8>)>,
    trailing: Vec<u8>,
}

impl Draft {
    fn read(certificate: &[u8]) -> Self {
        let fields = Fields::read(Parts::read(certificate).unwrap().tbs).unwrap();
        let extensions = fields.extensions.iter();
        Self {
            version: fields.version.map(Into::into),
            serial: fields.serial.into(),
            algorithm: fields.algorithm.into(),
            issuer: fields.issuer.into(),
            not_before: fields.not_before.whole.into(),
            not_after: fields.not_after.whole.into(),
            subject: fields.subject.into(),
            spki: fields.spki.into(),
            extensions: extensions.map(|e| (e.id.to_vec(), e.critical, e.value.to_vec())).collect(),
            trailing: Vec::new(),
        }
    }

    fn sign(&self, signer: &dyn Signer) -> Vec<u8> {
        let mut tbs = Writer::new();
        tbs.nested(der::SEQUENCE, |w| {
            w.raw(self.version.as_deref().unwrap_or_default()).value(der::INTEGER, &self.serial);
            w.raw(&self.algorithm).raw(&self.issuer);
            w.nested(der::SEQUENCE, |w| {
                w.raw(&self.not_before).raw(&self.not_after);
            });
            w.raw(&self.subject).raw(&self.spki);
            w.nested(context_constructed(3), |w| {
                w.nested(der::SEQUENCE, |w| self.extensions.iter().for_each(|extension| write_extension(w, extension)));
            });
            w.raw(&self.trailing);
        });
        let tbs = tbs.finish();
        let signature = crate::testing::now(signer.sign(&tbs)).unwrap();
        certificate::assemble(&tbs, signer.algorithm(), &signature)
    }

    fn at(&mut self, id: &[u8]) -> &mut (Vec<u8>, Option<bool>, Vec<u8>) {
        self.extensions.iter_mut().find(|(found, ..)| found == id).unwrap()
    }

    fn value(&mut self, id: &[u8], write: impl FnOnce(&mut Writer)) {
        self.at(id).2 = written(write);
    }

    fn critical(&mut self, id: &[u8], critical: Option<bool>) {
        self.at(id).1 = critical;
    }

    fn remove(&mut self, id: &[u8]) {
        self.extensions.retain(|(found, ..)| found != id);
    }

    fn add(&mut self, id: &[u8], critical: Option<bool>, write: impl FnOnce(&mut Writer)) {
        self.extensions.push((id.to_vec(), critical, written(write)));
    }

    /// Every name of subjectAltName, whole, in the hands of `change`.
    fn names(&mut self, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
        let mut names = Vec::new();
        let mut list = Reader::new(&self.at(oid::SUBJECT_ALT_NAME).2).nested(der::SEQUENCE).unwrap();
        while let Ok((.., whole)) = list.read_any() {
            names.push(whole.to_vec());
        }
        change(&mut names);
        self.value(oid::SUBJECT_ALT_NAME, |w| {
            w.nested(der::SEQUENCE, |w| {
                w.raw(&names.concat());
            });
        });
    }

    fn uri(&mut self, uri: &str) {
        self.names(|names| {
            names.retain(|name| name.first() != Some(&URI));
            names.insert(0, name(URI, uri));
        });
    }
}

fn write_extension(w: &mut Writer, (id, critical, value): &(Vec<u8>, Option<bool>, Vec<u8>)) {
    w.nested(der::SEQUENCE, |w| {
        w.oid(id);
        if let Some(critical) = critical {
            w.boolean(*critical);
        }
        w.octets(value);
    });
}

fn written(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::new();
    write(&mut writer);
    writer.finish()
}

fn name(tag: u8, text: &str) -> Vec<u8> {
    written(|w| {
        w.value(tag, text.as_bytes());
    })
}

fn other_name(id: &[u8], text: &str) -> Vec<u8> {
    written(|w| {
        w.nested(OTHER_NAME, |w| {
            w.oid(id).nested(context_constructed(0), |w| {
                w.utf8(text);
            });
        });
    })
}

fn time(at: Timestamp) -> Vec<u8> {
    written(|w| {
        w.time(at);
    })
}

fn defects() -> Vec<Defect> {
    let defect = |lint, name, make| Defect { lint, name, make };
    vec![
        defect("authority_information_access", "absent", |d| d.remove(oid::AUTHORITY_INFO_ACCESS)),
        defect("authority_information_access", "critical", |d| d.critical(oid::AUTHORITY_INFO_ACCESS, Some(true))),
        defect("authority_information_access", "elsewhere", |d| {
            access(d, &[OCSP, CA_ISSUERS], "http://elsewhere.test/x")
        }),
        defect("authority_information_access", "no_ocsp", |d| {
            let key = signer("issuing");
            let key_id = key::key_id(PublicKey::read(key.public_key()).unwrap().unwrap().bits, CRYPTO);
            access(d, &[CA_ISSUERS], &status().certificate(key_id));
        }),
        defect("authority_information_access", "issuing-ocsp", |d| access(d, &[OCSP], "http://status.test/ocsp")),
        defect("authority_information_access", "responder-present", |d| {
            d.add(oid::AUTHORITY_INFO_ACCESS, None, |_| {});
            access(d, &[OCSP], "http://status.test/ocsp");
        }),
        defect("authority_information_access", "head-absent", |d| d.remove(oid::AUTHORITY_INFO_ACCESS)),
        defect("authority_information_access", "head-ocsp", |d| access(d, &[OCSP], "http://status.test/ocsp")),
        defect("authority_key_id", "absent", |d| d.remove(oid::AUTHORITY_KEY_ID)),
        defect("authority_key_id", "responder-absent", |d| d.remove(oid::AUTHORITY_KEY_ID)),
        defect("authority_key_id", "head-absent", |d| d.remove(oid::AUTHORITY_KEY_ID)),
        defect("authority_key_id", "another", |d| {
            d.value(oid::AUTHORITY_KEY_ID, |w| {
                w.nested(der::SEQUENCE, |w| {
                    w.value(der::context(0), &[1; 20]);
                });
            });
        }),
        defect("basic_constraints", "absent", |d| d.remove(oid::BASIC_CONSTRAINTS)),
        defect("basic_constraints", "ca", |d| {
            d.value(oid::BASIC_CONSTRAINTS, |w| {
                w.raw(&[der::SEQUENCE, 3, der::BOOLEAN, 1, 0xff]);
            });
        }),
        defect("basic_constraints", "default_said", |d| {
            d.value(oid::BASIC_CONSTRAINTS, |w| {
                w.raw(&[der::SEQUENCE, 3, der::BOOLEAN, 1, 0]);
            });
        }),
        defect("basic_constraints", "not_critical", |d| d.critical(oid::BASIC_CONSTRAINTS, None)),
        defect("basic_constraints", "issuing-no_path_length", |d| {
            d.value(oid::BASIC_CONSTRAINTS, |w| {
                w.raw(&[der::SEQUENCE, 3, der::BOOLEAN, 1, 0xff]);
            });
        }),
        defect("basic_constraints", "head-ca", |d| {
            d.value(oid::BASIC_CONSTRAINTS, |w| {
                w.raw(&[der::SEQUENCE, 3, der::BOOLEAN, 1, 0xff]);
            });
        }),
        defect("basic_constraints", "responder-ca", |d| {
            d.value(oid::BASIC_CONSTRAINTS, |w| {
                w.raw(&[der::SEQUENCE, 3, der::BOOLEAN, 1, 0xff]);
            });
        }),
        defect("basic_constraints", "root-path_length", |d| {
            d.value(oid::BASIC_CONSTRAINTS, |w| {
                w.raw(&[der::SEQUENCE, 6, der::BOOLEAN, 1, 0xff, der::INTEGER, 1, 0]);
            });
        }),
        defect("crl_distribution_point", "absent", |d| d.remove(oid::CRL_DISTRIBUTION_POINTS)),
        defect("crl_distribution_point", "elsewhere", |d| {
            d.value(oid::CRL_DISTRIBUTION_POINTS, |w| crl_distribution_point(w, "http://elsewhere.test/a.crl"));
        }),
        defect("crl_distribution_point", "issuing-absent", |d| d.remove(oid::CRL_DISTRIBUTION_POINTS)),
        defect("crl_distribution_point", "head-absent", |d| d.remove(oid::CRL_DISTRIBUTION_POINTS)),
        defect("crl_distribution_point", "responder-present", |d| {
            d.add(oid::CRL_DISTRIBUTION_POINTS, None, |w| crl_distribution_point(w, "http://status.test/a.crl"));
        }),
        defect("crl_distribution_point", "root-present", |d| {
            d.add(oid::CRL_DISTRIBUTION_POINTS, None, |w| crl_distribution_point(w, "http://status.test/a.crl"));
        }),
        defect("der", "critical_false_said", |d| d.critical(oid::SUBJECT_KEY_ID, Some(false))),
        defect("der", "length_not_minimal", |d| d.names(|names| names.push(vec![DNS_NAME, 0x81, 1, b'z']))),
        defect("der", "trailing_bytes", |d| d.trailing = vec![der::NULL, 0]),
        defect("extended_key_usage", "absent", |d| d.remove(oid::EXTENDED_KEY_USAGE)),
        defect("extended_key_usage", "client_auth_only", |d| {
            d.value(oid::EXTENDED_KEY_USAGE, |w| {
                w.nested(der::SEQUENCE, |w| {
                    w.oid(oid::CLIENT_AUTH);
                });
            });
        }),
        defect("extended_key_usage", "issuing-present", |d| {
            d.add(oid::EXTENDED_KEY_USAGE, None, |w| {
                w.nested(der::SEQUENCE, |w| {
                    w.oid(oid::CLIENT_AUTH);
                });
            });
        }),
        defect("extended_key_usage", "head-absent", |d| d.remove(oid::EXTENDED_KEY_USAGE)),
        defect("extended_key_usage", "head-client_auth_too", |d| {
            d.value(oid::EXTENDED_KEY_USAGE, |w| {
                w.nested(der::SEQUENCE, |w| {
                    w.oid(oid::HEAD_KEY_USAGE).oid(oid::CLIENT_AUTH);
                });
            });
        }),
        defect("extended_key_usage", "head-critical", |d| d.critical(oid::EXTENDED_KEY_USAGE, Some(true))),
        defect("extended_key_usage", "responder-absent", |d| d.remove(oid::EXTENDED_KEY_USAGE)),
        defect("extended_key_usage", "responder-server_auth_too", |d| {
            d.value(oid::EXTENDED_KEY_USAGE, |w| {
                w.nested(der::SEQUENCE, |w| {
                    w.oid(OCSP_SIGNING).oid(oid::SERVER_AUTH);
                });
            });
        }),
        defect("extensions", "twice", |d| {
            let twice = d.at(oid::SUBJECT_KEY_ID).clone();
            d.extensions.push(twice);
        }),
        defect("extensions", "unknown", |d| {
            d.add(UNKNOWN, None, |w| {
                w.value(der::NULL, &[]);
            });
        }),
        defect("extensions", "unknown_critical", |d| {
            d.add(UNKNOWN, Some(true), |w| {
                w.value(der::NULL, &[]);
            });
        }),
        defect("extensions", "head-unknown", |d| {
            d.add(UNKNOWN, None, |w| {
                w.value(der::NULL, &[]);
            });
        }),
        defect("grant", "absent", |d| d.remove(oid::GRANT)),
        defect("grant", "critical", |d| d.critical(oid::GRANT, Some(true))),
        defect("grant", "malformed", |d| {
            d.value(oid::GRANT, |w| {
                w.nested(der::SEQUENCE, |_| {});
            });
        }),
        defect("grant", "head-present", |d| {
            let grant = good_grant().to_der();
            d.add(oid::GRANT, None, |w| {
                w.raw(&grant);
            });
        }),
        defect("issuer", "head-another", |d| d.issuer = vec![der::SEQUENCE, 0]),
        defect("issuer", "another", |d| d.issuer = vec![der::SEQUENCE, 0]),
        defect("key_usage", "absent", |d| d.remove(oid::KEY_USAGE)),
        defect("key_usage", "key_cert_sign", |d| {
            d.value(oid::KEY_USAGE, |w| {
                w.raw(&[der::BIT_STRING, 2, 2, 0x84]);
            });
        }),
        defect("key_usage", "key_encipherment", |d| {
            d.value(oid::KEY_USAGE, |w| {
                w.raw(&[der::BIT_STRING, 2, 5, 0xa0]);
            });
        }),
        defect("key_usage", "not_critical", |d| d.critical(oid::KEY_USAGE, None)),
        defect("key_usage", "issuing-digital_signature", |d| {
            d.value(oid::KEY_USAGE, |w| {
                w.raw(&[der::BIT_STRING, 2, 1, 0x86]);
            });
        }),
        defect("key_usage", "head-key_cert_sign", |d| {
            d.value(oid::KEY_USAGE, |w| {
                w.raw(&[der::BIT_STRING, 2, 2, 0x84]);
            });
        }),
        defect("key_usage", "responder-crl_sign", |d| {
            d.value(oid::KEY_USAGE, |w| {
                w.raw(&[der::BIT_STRING, 2, 1, 0x82]);
            });
        }),
        defect("names", "dns_twice", |d| d.names(|names| names.push(name(DNS_NAME, "b.internal")))),
        defect("names", "dns_wildcard", |d| d.names(|names| names.insert(1, name(DNS_NAME, "*.internal")))),
        defect("names", "email", |d| d.names(|names| names.push(name(der::context(1), "a@example.org")))),
        defect("names", "issuing-dns", |d| d.names(|names| names.push(name(DNS_NAME, "a.internal")))),
        defect("names", "head-spiffe_id", |d| {
            d.add(oid::SUBJECT_ALT_NAME, None, |w| {
                w.nested(der::SEQUENCE, |w| {
                    w.value(URI, b"spiffe://example.org/chancery/server");
                });
            });
        }),
        defect("names", "responder-spiffe_id", |d| {
            d.add(oid::SUBJECT_ALT_NAME, None, |w| {
                w.nested(der::SEQUENCE, |w| {
                    w.value(URI, b"spiffe://example.org/chancery/server");
                });
            });
        }),
        defect("no_revocation_available", "present", |d| {
            d.add(NO_REVOCATION_AVAILABLE, None, |w| {
                w.value(der::NULL, &[]);
            });
        }),
        defect("ocsp_no_check", "head-present", |d| {
            d.add(OCSP_NO_CHECK, None, |w| {
                w.value(der::NULL, &[]);
            });
        }),
        defect("ocsp_no_check", "leaf", |d| {
            d.add(OCSP_NO_CHECK, None, |w| {
                w.value(der::NULL, &[]);
            });
        }),
        defect("ocsp_no_check", "responder-absent", |d| d.remove(OCSP_NO_CHECK)),
        defect("ocsp_no_check", "responder-critical", |d| d.critical(OCSP_NO_CHECK, Some(true))),
        defect("public_key", "responder-the_issuers", |d| holder(d, "issuing")),
        defect("public_key", "head-not_the_proved_one", |d| holder(d, "other")),
        defect("public_key", "head-the_issuers", |d| holder(d, "root")),
        defect("public_key", "not_the_proved_one", |d| holder(d, "other")),
        defect("public_key", "the_issuers", |d| holder(d, "issuing")),
        defect("scopes", "malformed", |d| d.names(|names| names.push(other_name(oid::SCOPE, "no scope")))),
        defect("scopes", "other_name_of_another_kind", |d| d.names(|names| names.push(other_name(UNKNOWN, "z:z/z")))),
        defect("scopes", "out_of_order", |d| d.names(|names| names.push(other_name(oid::SCOPE, "a:crm/a")))),
        defect("scopes", "twice", |d| d.names(|names| names.extend(names.last().cloned()))),
        defect("serial", "negative", |d| d.serial = vec![0x80; 16]),
        defect("serial", "short", |d| d.serial = vec![0x41]),
        defect("serial", "twenty_one_bytes", |d| d.serial = vec![0x41; 21]),
        defect("serial", "zero", |d| d.serial = vec![0]),
        defect("serial", "head-short", |d| d.serial = vec![0x41]),
        defect("signature_algorithm", "sha384_with_p256", |d| {
            d.algorithm = Algorithm::EcdsaP384.signature_identifier().into();
        }),
        defect("size", "too_many_bytes", |d| {
            let scopes = (10..60).map(|i| other_name(oid::SCOPE, &format!("zz:crm/{i}{}", "x".repeat(60))));
            d.names(|names| names.extend(scopes));
        }),
        defect("spiffe_id", "absent", |d| d.names(|names| names.retain(|name| name.first() != Some(&URI)))),
        defect("spiffe_id", "another_trust_domain", |d| d.uri("spiffe://elsewhere.test/agent/a")),
        defect("spiffe_id", "https", |d| d.uri("https://example.org/agent/a")),
        defect("spiffe_id", "no_path", |d| d.uri("spiffe://example.org")),
        defect("spiffe_id", "two", |d| d.names(|names| names.push(name(URI, "spiffe://example.org/agent/a")))),
        defect("spiffe_id", "issuing-path", |d| d.uri("spiffe://example.org/ca")),
        defect("subject", "not_empty", |d| d.subject = d.issuer.clone()),
        defect("subject", "names_not_critical", |d| d.critical(oid::SUBJECT_ALT_NAME, None)),
        defect("subject", "responder-empty", |d| d.subject = vec![der::SEQUENCE, 0]),
        defect("subject", "responder-the_issuers", |d| d.subject = d.issuer.clone()),
        defect("subject", "head-empty", |d| d.subject = vec![der::SEQUENCE, 0]),
        defect("subject", "head-the_issuers", |d| d.subject = d.issuer.clone()),
        defect("subject", "issuing-empty", |d| d.subject = vec![der::SEQUENCE, 0]),
        defect("subject", "issuing-the_roots", |d| d.subject = d.issuer.clone()),
        defect("subject_key_id", "absent", |d| d.remove(oid::SUBJECT_KEY_ID)),
        defect("subject_key_id", "another", |d| {
            d.value(oid::SUBJECT_KEY_ID, |w| {
                w.octets(&[1; 20]);
            });
        }),
        defect("subject_key_id", "head-another", |d| {
            d.value(oid::SUBJECT_KEY_ID, |w| {
                w.octets(&[1; 20]);
            });
        }),
        defect("time_form", "generalized_before_2050", |d| {
            d.not_after = written(|w| {
                w.value(der::GENERALIZED_TIME, b"20261121145959Z");
            });
        }),
        defect("time_form", "no_seconds", |d| {
            d.not_after = written(|w| {
                w.value(der::UTC_TIME, b"2611211459Z");
            });
        }),
        defect("time_form", "fraction", |d| {
            d.not_after = written(|w| {
                w.value(der::GENERALIZED_TIME, b"20500101000000.5Z");
            });
        }),
        defect("validity", "begins_two_minutes_back", |d| d.not_before = time(NOW - Duration::from_secs(120))),
        defect("validity", "begins_later", |d| d.not_before = time(NOW + Duration::from_secs(1))),
        defect("validity", "ends_before_it_begins", |d| d.not_after = time(NOW - Duration::from_secs(61))),
        defect("validity", "outlives_its_issuer", |d| d.not_after = time(NOW + Duration::from_secs(91 * 86_400))),
        defect("validity", "responder-two_days", |d| d.not_after = time(NOW + Duration::from_secs(2 * 86_400))),
        defect("validity", "head-ninety_one_days", |d| d.not_after = time(NOW + Duration::from_secs(91 * 86_400))),
        defect("version", "absent", |d| d.version = None),
        defect("version", "two", |d| d.version = Some(vec![context_constructed(0), 3, der::INTEGER, 1, 1])),
    ]
}

/// Points each of these ways of access to one place.
fn access(draft: &mut Draft, methods: &[&[u8]], uri: &str) {
    draft.value(oid::AUTHORITY_INFO_ACCESS, |w| {
        w.nested(der::SEQUENCE, |w| {
            for method in methods {
                w.nested(der::SEQUENCE, |w| {
                    w.oid(method).value(URI, uri.as_bytes());
                });
            }
        });
    });
}

fn holder(draft: &mut Draft, key: &str) {
    draft.spki = signer(key).public_key().to_vec();
    let key_id = key::key_id(PublicKey::read(&draft.spki).unwrap().unwrap().bits, CRYPTO);
    draft.value(oid::SUBJECT_KEY_ID, |w| {
        w.octets(key_id.bytes());
    });
}
