//! The cases of x509-limbo (tests/data/x509-limbo.json: its certificates, times and expectations, nothing else) driven
//! through path validation and CRLs: all that stands below the SVID rules, as the cases are no SVIDs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chancery_identity::Timestamp;
use proptest::prelude::*;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivatePkcs8KeyDer, UnixTime};
use serde::Deserialize;

use crate::authority::Authority;
use crate::chain::{Anchors, Usage};
use crate::revocation::{Crl, Issuers, Revocations};
use crate::{Freshness, Knowledge, Material, Moment};

#[derive(Deserialize)]
struct Limbo {
    testcases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    id: String,
    kind: String,
    accept: bool,
    roots: Vec<String>,
    intermediates: Vec<String>,
    leaf: String,
    time: Option<String>,
    crls: Vec<String>,
}

fn certificate(base64: &str) -> CertificateDer<'static> {
    let pem = format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n");
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn crl(base64: &str) -> CertificateRevocationListDer<'static> {
    let pem = format!("-----BEGIN X509 CRL-----\n{base64}\n-----END X509 CRL-----\n");
    CertificateRevocationListDer::from_pem_slice(pem.as_bytes()).unwrap()
}

impl Case {
    fn certificates(list: &[String]) -> Vec<CertificateDer<'static>> {
        list.iter().map(|base64| certificate(base64)).collect()
    }

    fn now(&self) -> Timestamp {
        // Times have an offset of zero and at most microseconds.
        let text = self.time.as_deref().unwrap_or("2026-11-21T14:00:00+00:00").replace("+00:00", "Z");
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let whole: Timestamp = format!("{}Z", whole.trim_end_matches('Z')).parse().unwrap();
        let millis = fraction.get(..3).map_or(0, |digits| digits.parse().unwrap());
        whole + Duration::from_millis(millis)
    }

    fn usage(&self) -> Usage {
        if self.kind == "CLIENT" { Usage::Client } else { Usage::Server }
    }

    /// What this crate says.
    fn verdict(&self, algorithms: &WebPkiSupportedAlgorithms) -> Result<(), String> {
        let roots = Self::certificates(&self.roots);
        let intermediates = Self::certificates(&self.intermediates);
        let anchors = Anchors::read(&roots).map_err(|refused| refused.to_string())?;
        let path = anchors
            .verify_path(&certificate(&self.leaf), &intermediates, self.usage(), self.now(), algorithms)
            .map_err(|refused| refused.to_string())?;
        if self.crls.is_empty() {
            return Ok(());
        }
        let now = Moment { wall: self.now(), monotonic: Instant::now() };
        let material = Material {
            chain: Vec::new(),
            key: Arc::new(PrivatePkcs8KeyDer::from(Vec::new()).into()),
            trust_domain: "limbo.test".parse().unwrap(),
            roots: roots.into(),
            crls: self.crls.iter().map(|base64| crl(base64)).collect(),
            answered: Some(now),
            feed: None,
            freshness: Freshness::default(),
        };
        let below: Vec<_> = path.iter().map(|link| Arc::clone(&link.authority)).collect();
        let issuers = Issuers { roots: anchors.authorities(), below: &below, algorithms };
        let (revocations, _) = Revocations::none(Freshness::default()).renewed(&material, &issuers, now);
        revocations.hit_path(&path).map_err(|denial| denial.to_string())?;
        match revocations.state_of_path(&path, now) {
            Ok(Knowledge::Fresh) => Ok(()),
            other => Err(format!("{other:?} {:?}", revocations.refused())),
        }
    }

    /// What webpki says by itself, without CRLs.
    fn webpki(&self, algorithms: &WebPkiSupportedAlgorithms) -> Result<(), String> {
        let roots = Self::certificates(&self.roots);
        let anchors: Result<Vec<_>, _> = roots.iter().map(webpki::anchor_from_trusted_cert).collect();
        let anchors = anchors.map_err(|error| error.to_string())?;
        let leaf = certificate(&self.leaf);
        let leaf = webpki::EndEntityCert::try_from(&leaf).map_err(|error| error.to_string())?;
        let usage = match self.usage() {
            Usage::Client => webpki::KeyUsage::client_auth(),
            Usage::Server => webpki::KeyUsage::server_auth(),
        };
        let seconds = u64::try_from(self.now().unix_seconds()).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let intermediates = Self::certificates(&self.intermediates);
        leaf.verify_for_usage(algorithms.all, &anchors, &intermediates, now, usage, None, None)
            .map(|_| ())
            .map_err(|error| error.to_string())
    }
}

fn cases() -> Vec<Case> {
    let json = include_str!("../tests/data/x509-limbo.json");
    serde_json::from_str::<Limbo>(json).unwrap().testcases
}

/// Why the verdict on a case is not the expected one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// A CA certificate in the leaf's place: X509-SVID §3.2 never lets one authenticate.
    AuthorityAsLeaf,
    /// webpki's budget covers the work that the case asks for.
    Budget,
    /// Constraints on directory names and mailboxes fail closed in webpki; our authorities carry none.
    ConstraintKind,
    /// The case sets a depth for the whole validation; ours comes from the path lengths of the authorities.
    DepthNotSet,
    /// A form that RFC 5280 asks of issuers, and that changes nothing about what is obeyed.
    FormOnly,
    /// Key identifiers are missing: the SVID rules compare the leaf's with its authority's.
    KeyIds,
    /// A key that signs no TLS 1.3 handshake here, so that no peer can use the certificate.
    LeafKey,
    /// Names are matched above this layer: a SPIFFE ID, or a service's DNS name byte for byte and without wildcards.
    Name,
    /// webpki builds no path through a self-issued certificate; our authorities make none.
    SelfIssued,
    /// The SVID rules above this layer refuse it.
    SvidRule,
    /// A rule of the public Web PKI's profile (CA/Browser Forum) that a private CA does not have.
    WebPkiProfile,
}

use Reason::{
    AuthorityAsLeaf, Budget, ConstraintKind, DepthNotSet, FormOnly, KeyIds, LeafKey, Name, SelfIssued, SvidRule,
    WebPkiProfile,
};

/// Each case whose verdict is not the expected one.
const DIVERGENCES: &[(&str, Reason)] = &[
    ("pathlen::validation-ignores-pathlen-in-leaf", AuthorityAsLeaf),
    ("pathlen::self-issued-certs-pathlen", SelfIssued),
    ("pathlen::max-chain-depth-0-exhausted", DepthNotSet),
    ("pathlen::max-chain-depth-1-exhausted", DepthNotSet),
    ("pathological::nc-dos-3", Budget),
    ("rfc5280::aki::leaf-missing-aki", KeyIds),
    ("rfc5280::aki::intermediate-missing-aki", KeyIds),
    ("rfc5280::aki::cross-signed-root-missing-aki", KeyIds),
    ("rfc5280::nc::permitted-dns-match-noncritical", FormOnly),
    ("rfc5280::nc::permitted-dn-match", ConstraintKind),
    ("rfc5280::nc::permitted-self-issued", SelfIssued),
    ("rfc5280::nc::invalid-dnsname-leading-period", FormOnly),
    ("rfc5280::nc::not-allowed-in-ee-noncritical", FormOnly),
    ("rfc5280::nc::not-allowed-in-ee-critical", FormOnly),
    ("rfc5280::nc::nc-permits-email-exact", ConstraintKind),
    ("rfc5280::nc::nc-permits-email-domain", ConstraintKind),
    ("rfc5280::nc::nc-permits-email-literal-asterisk-exact-match", ConstraintKind),
    ("rfc5280::nc::nc-permits-email-literal-double-asterisk", ConstraintKind),
    ("rfc5280::nc::nc-permits-email-literal-mid-asterisk", ConstraintKind),
    ("rfc5280::pc::ica-noncritical-pc", FormOnly),
    ("rfc5280::san::noncritical-with-empty-subject", SvidRule),
    ("rfc5280::san::underscore-dns", Name),
    ("rfc5280::san::ip-in-dns", Name),
    ("rfc5280::ski::root-missing-ski", KeyIds),
    ("rfc5280::ski::intermediate-missing-ski", KeyIds),
    ("rfc5280::leaf-ku-keycertsign", SvidRule),
    ("rfc5280::ca-as-leaf", AuthorityAsLeaf),
    ("webpki::aki::root-with-aki-missing-keyidentifier", WebPkiProfile),
    ("webpki::aki::root-with-aki-authoritycertissuer", WebPkiProfile),
    ("webpki::aki::root-with-aki-authoritycertserialnumber", WebPkiProfile),
    ("webpki::aki::root-with-aki-all-fields", WebPkiProfile),
    ("webpki::aki::root-with-aki-ski-mismatch", WebPkiProfile),
    ("webpki::cn::ipv4-hex-mismatch", Name),
    ("webpki::cn::ipv4-leading-zeros-mismatch", Name),
    ("webpki::cn::ipv6-uppercase-mismatch", Name),
    ("webpki::cn::ipv6-uncompressed-mismatch", Name),
    ("webpki::cn::ipv6-non-rfc5952-mismatch", Name),
    ("webpki::cn::punycode-not-in-san", Name),
    ("webpki::cn::utf8-vs-punycode-mismatch", Name),
    ("webpki::cn::not-in-san", Name),
    ("webpki::cn::case-mismatch", Name),
    ("webpki::eku::ee-anyeku", SvidRule),
    ("webpki::eku::ee-critical-eku", WebPkiProfile),
    ("webpki::eku::ee-without-eku", WebPkiProfile),
    ("webpki::eku::root-has-eku", WebPkiProfile),
    ("webpki::nc::intermediate-permitted-excluded-subtrees-both-null", WebPkiProfile),
    ("webpki::nc::intermediate-permitted-excluded-subtrees-both-empty-sequences", WebPkiProfile),
    ("webpki::san::mismatch-domain-san", Name),
    ("webpki::san::mismatch-subdomain-san", Name),
    ("webpki::san::mismatch-subdomain-apex-san", Name),
    ("webpki::san::mismatch-apex-subdomain-san", Name),
    ("webpki::san::public-suffix-wildcard-san", Name),
    ("webpki::san::public-suffix-multi-label-wildcard-san", Name),
    ("webpki::san::public-suffix-private-namespace-wildcard-san", Name),
    ("webpki::san::wildcard-embedded-leftmost-san", Name),
    ("webpki::san::wildcard-not-in-leftmost-san", Name),
    ("webpki::san::wildcard-match-across-labels-san", Name),
    ("webpki::san::wildcard-embedded-ulabel-san", Name),
    ("webpki::san::unicode-emoji-san", Name),
    ("webpki::san::no-san", Name),
    ("webpki::san::san-critical-with-nonempty-subject", Name),
    ("webpki::san::san-wildcard-only", Name),
    ("webpki::san::san-wildcard-only-tld", Name),
    ("webpki::malformed-aia", WebPkiProfile),
    ("webpki::forbidden-p192-leaf", LeafKey),
    ("webpki::forbidden-dsa-leaf", LeafKey),
    ("webpki::forbidden-weak-rsa-in-leaf", LeafKey),
    ("webpki::forbidden-rsa-not-divisible-by-8-in-root", WebPkiProfile),
    ("webpki::forbidden-rsa-key-not-divisible-by-8-in-leaf", WebPkiProfile),
];

/// Each case that webpki by itself accepts and that is refused here, as expected: by a CRL, or by what authorities must
/// be.
const STRICTER_THAN_WEBPKI: &[&str] = &[
    "crl::revoked-certificate-with-crl",
    "crl::crlnumber-missing",
    "crl::crlnumber-critical",
    "crl::issuer-missing-crlsign",
    "rfc5280::aki::critical-aki",
    "rfc5280::serial::too-long",
    "rfc5280::serial::zero",
    "rfc5280::ski::critical-ski",
    "rfc5280::validity::expired-root",
    "rfc5280::ca-empty-subject",
    "rfc5280::unknown-critical-extension-root",
    "rfc5280::root-missing-basic-constraints",
    "rfc5280::root-non-critical-basic-constraints",
    "rfc5280::root-inconsistent-ca-extensions",
];

#[test]
fn verdicts_are_the_expected_ones_but_for_those_listed() {
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
    let listed: BTreeMap<&str, Reason> = DIVERGENCES.iter().copied().collect();
    assert_eq!(listed.len(), DIVERGENCES.len(), "a case is listed twice");
    let cases = cases();
    assert_eq!(cases.len(), 208);
    let mut wrong = Vec::new();
    let mut stricter = Vec::new();
    for case in &cases {
        let (ours, webpki) = (case.verdict(&algorithms), case.webpki(&algorithms));
        if (ours.is_ok() != case.accept) != listed.contains_key(case.id.as_str()) {
            wrong.push(format!("{}: expected {}, got {ours:?}", case.id, if case.accept { "yes" } else { "no" }));
        }
        match (&ours, &webpki) {
            (Ok(()), Err(why)) => wrong.push(format!("{}: webpki refuses it: {why}", case.id)),
            (Err(_), Ok(())) => stricter.push(case.id.as_str()),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(stricter, STRICTER_THAN_WEBPKI);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    /// The bodies of the fuzz targets for the two readers of this crate.
    #[test]
    fn readers_stand_any_bytes(mut der in whole(), at in any::<proptest::sample::Index>(), byte: u8, cut: bool) {
        let at = at.index(der.len());
        if cut {
            der.truncate(at);
            prop_assert!(Crl::read(&der).is_err() && Authority::read(&der).is_err());
        } else {
            der[at] = byte;
            let _ = Authority::read(&der);
            if let Ok(crl) = Crl::read(&der) {
                let sound = crl.check_entries().is_ok();
                prop_assert!(!sound || crl.serials().count() <= der.len());
            }
        }
    }
}

/// A CRL or a certificate.
fn whole() -> impl Strategy<Value = Vec<u8>> {
    let mut ders: Vec<Vec<u8>> = Vec::new();
    for case in cases() {
        ders.extend(case.crls.iter().map(|base64| crl(base64).to_vec()));
        ders.extend(
            case.roots.iter().take(1).map(|base64| certificate(base64).to_vec()).filter(|der| der.len() < 2048),
        );
    }
    proptest::sample::select(ders)
}
