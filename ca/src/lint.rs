//! Lints: each judges one thing of the bytes that would be signed, by itself.
//!
//! They read the DER and not the plan, so a mistake in the writer is found, and each has a certificate with just its
//! defect in `tests/fixtures`.

use std::fmt;

use chancery_identity::der::{self, Reader, Writer, context_constructed};
use chancery_identity::{Grant, LEAF_LEN_MAX, SCOPES_MAX, Scope, SpiffeId, Timestamp, oid};

use crate::algorithm::{Algorithm, PublicKey};
use crate::authority::HEAD_KEY_VALIDITY;
use crate::certificate::{
    DIGITAL_SIGNATURE, DNS_NAME, Extension, Fields, Links, NO_REVOCATION_AVAILABLE, OCSP_NO_CHECK, OCSP_SIGNING,
    OTHER_NAME, SIGNS_CERTIFICATES, URI,
};
use crate::csr::oid_text;
use crate::key;
use crate::ocsp::RESPONDER_VALIDITY;
use crate::profile::{BACKDATING, Issuer, dns_name, len_max};

/// What a lint found wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    lint: &'static str,
    detail: String,
}

impl Finding {
    pub(crate) fn new(lint: &'static str, detail: impl fmt::Display) -> Self {
        Self { lint, detail: detail.to_string() }
    }

    /// The lint's name.
    pub const fn lint(&self) -> &'static str {
        self.lint
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.lint, self.detail)
    }
}

impl std::error::Error for Finding {}

/// Findings on one line.
pub(crate) fn list(findings: &[Finding]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Whose certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Leaf,
    Issuing,
    Root,
    /// Of OCSP.
    Responder,
    /// Of the key that signs heads.
    HeadKey,
}

/// Judges a TBSCertificate that the issuer would sign at `now` for the holder of the key.
pub(crate) fn lint(kind: Kind, tbs: &[u8], issuer: &Issuer, spki: &[u8], now: Timestamp) -> Vec<Finding> {
    match Fields::read(tbs) {
        Err(error) => vec![Finding::new("der", error)],
        Ok(fields) => {
            let names = fields.extension(oid::SUBJECT_ALT_NAME).map(|extension| names_of(extension.value));
            let case = Case { kind, tbs, fields, names: names.unwrap_or_default(), issuer, spki, now };
            let finding = |lint: &Lint| (lint.check)(&case).err().map(|detail| Finding::new(lint.name, detail));
            LINTS.iter().filter_map(finding).collect()
        }
    }
}

struct Lint {
    name: &'static str,
    check: fn(&Case<'_>) -> Result<(), String>,
}

/// By name. Leaf, authority and responder differ inside the checks where the profile differs.
const LINTS: &[Lint] = &[
    Lint { name: "authority_information_access", check: authority_information_access },
    Lint { name: "authority_key_id", check: authority_key_id },
    Lint { name: "basic_constraints", check: basic_constraints },
    Lint { name: "crl_distribution_point", check: crl_distribution_point },
    Lint { name: "der", check: well_formed },
    Lint { name: "extended_key_usage", check: extended_key_usage },
    Lint { name: "extensions", check: extensions },
    Lint { name: "grant", check: grant },
    Lint { name: "issuer", check: issuer },
    Lint { name: "key_usage", check: key_usage },
    Lint { name: "names", check: names },
    Lint { name: "no_revocation_available", check: no_revocation_available },
    Lint { name: "ocsp_no_check", check: ocsp_no_check },
    Lint { name: "public_key", check: public_key },
    Lint { name: "scopes", check: scopes },
    Lint { name: "serial", check: serial },
    Lint { name: "signature_algorithm", check: signature_algorithm },
    Lint { name: "size", check: size },
    Lint { name: "spiffe_id", check: spiffe_id },
    Lint { name: "subject", check: subject },
    Lint { name: "subject_key_id", check: subject_key_id },
    Lint { name: "time_form", check: time_form },
    Lint { name: "validity", check: validity },
    Lint { name: "version", check: version },
];

struct Case<'a> {
    kind: Kind,
    tbs: &'a [u8],
    fields: Fields<'a>,
    /// The names of subjectAltName, tag and contents; those that can be read, the rest is `der`'s to report.
    names: Vec<(u8, &'a [u8])>,
    issuer: &'a Issuer,
    /// The key that was proved.
    spki: &'a [u8],
    now: Timestamp,
}

impl<'a> Case<'a> {
    fn leaf(&self) -> bool {
        self.kind == Kind::Leaf
    }

    fn names_tagged(&self, tag: u8) -> impl Iterator<Item = &'a [u8]> {
        self.names.iter().filter(move |(found, _)| *found == tag).map(|&(_, contents)| contents)
    }

    /// The extension is there, with this criticality and just this value.
    fn exactly(&self, id: &[u8], critical: bool, value: &[u8]) -> Result<(), String> {
        let extension = self.fields.extension(id).ok_or("absent")?;
        has_criticality(extension, critical)?;
        ensure(extension.value == value, "has another value than the profile's")
    }

    /// As [`Case::exactly`] where the issuer has links; else absent.
    fn linked(&self, id: &[u8], value: impl FnOnce(&Links) -> &[u8]) -> Result<(), String> {
        match &self.issuer.links {
            Some(links) => self.exactly(id, false, value(links)),
            None => ensure(self.fields.extension(id).is_none(), "present in a root or a responder"),
        }
    }
}

fn written(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::new();
    write(&mut writer);
    writer.finish()
}

fn names_of(subject_alt_name: &[u8]) -> Vec<(u8, &[u8])> {
    let Ok(mut list) = Reader::new(subject_alt_name).nested(der::SEQUENCE) else { return Vec::new() };
    std::iter::from_fn(|| list.read_any().ok().map(|(tag, contents, _)| (tag, contents))).collect()
}

fn ensure(holds: bool, detail: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(detail.into()) }
}

fn has_criticality(extension: &Extension<'_>, wanted: bool) -> Result<(), String> {
    match (wanted, extension.critical.unwrap_or(false)) {
        (true, false) => Err("not critical".into()),
        (false, true) => Err("critical".into()),
        _ => Ok(()),
    }
}

/// RFC 5280 §4.1.2.1: extensions are used, so the version MUST be 3 (value is 2).
fn version(case: &Case<'_>) -> Result<(), String> {
    let wanted = [context_constructed(0), 3, der::INTEGER, 1, 2];
    ensure(case.fields.version == Some(&wanted), "not version 3")
}

/// RFC 5280 §4.1.2.2: a positive integer of at most 20 octets; ours have 16, the top bits 01.
fn serial(case: &Case<'_>) -> Result<(), String> {
    let [first, ..] = *case.fields.serial else { return Err("empty".into()) };
    ensure(first & 0x80 == 0, "negative")?;
    ensure(case.fields.serial.len() == 16, "not of 16 bytes")?;
    ensure(first & 0x40 != 0, "the top bits are not 01")
}

/// RFC 5280 §4.1.2.3: MUST contain the same algorithm identifier as signatureAlgorithm, which is the issuer's.
fn signature_algorithm(case: &Case<'_>) -> Result<(), String> {
    let wanted = case.issuer.algorithm.signature_identifier();
    ensure(case.fields.algorithm == wanted, "not the issuer's signature algorithm")
}

/// RFC 5280 §4.1.2.4 and §6.1.3 (a)(4): byte for byte the subject of the issuer.
fn issuer(case: &Case<'_>) -> Result<(), String> {
    ensure(case.fields.issuer == case.issuer.subject, "not the issuer's subject, byte for byte")
}

/// Begins at most a minute back, ends after it begins, within the issuer's own time.
fn validity(case: &Case<'_>) -> Result<(), String> {
    let Fields { not_before, not_after, .. } = case.fields;
    // `time_form` reports a time that cannot be read.
    let (Some(from), Some(to)) = (not_before.at(), not_after.at()) else { return Ok(()) };
    ensure(from >= (case.now - BACKDATING).floor_to_second(), "begins more than 60 s before now")?;
    ensure(from <= case.now, "begins in the future")?;
    ensure(from < to, "ends before it begins")?;
    ensure(from >= case.issuer.not_before, "begins before its issuer")?;
    ensure(to <= case.issuer.not_after, "ends after its issuer")?;
    // RFC 6960 §4.2.2.2.1: whom nobody can revoke is issued for a short time, and again.
    let short = case.kind != Kind::Responder || to < case.now + RESPONDER_VALIDITY;
    ensure(short, "a responder's lasts longer than a responder may")?;
    let short = case.kind != Kind::HeadKey || to < case.now + HEAD_KEY_VALIDITY;
    ensure(short, "lasts longer than a key that signs heads may")
}

/// RFC 5280 §4.1.2.5: UTCTime through 2049, GeneralizedTime after, in seconds and Z.
fn time_form(case: &Case<'_>) -> Result<(), String> {
    ensure(case.fields.not_before.at().is_some(), "notBefore is not in the form of RFC 5280")?;
    ensure(case.fields.not_after.at().is_some(), "notAfter is not in the form of RFC 5280")
}

/// RFC 5280 §4.1.2.6: with an empty subject the subjectAltName MUST be critical. Authorities have a subject of their own.
fn subject(case: &Case<'_>) -> Result<(), String> {
    let empty = case.fields.subject == [der::SEQUENCE, 0];
    match case.kind {
        Kind::Leaf => {
            ensure(empty, "a leaf's subject is not empty")?;
            let Some(extension) = case.fields.extension(oid::SUBJECT_ALT_NAME) else { return Ok(()) };
            ensure(extension.critical == Some(true), "the subject is empty and subjectAltName not critical")
        }
        Kind::Issuing | Kind::Responder | Kind::HeadKey => {
            ensure(!empty, "the subject of what is no leaf is empty")?;
            ensure(case.fields.subject != case.fields.issuer, "the same subject as the issuer's")
        }
        Kind::Root => {
            ensure(!empty, "an authority's subject is empty")?;
            ensure(case.fields.subject == case.fields.issuer, "a root is its own issuer")
        }
    }
}

/// X509-SVID §2 and §3: exactly one URI, a SPIFFE ID in our trust domain, with a path in leaves and none in authorities.
fn spiffe_id(case: &Case<'_>) -> Result<(), String> {
    if matches!(case.kind, Kind::Responder | Kind::HeadKey) {
        // `names` refuses any.
        return Ok(());
    }
    let mut uris = case.names_tagged(URI);
    let (Some(uri), None) = (uris.next(), uris.next()) else {
        return Err(format!("{} URIs, wanted one", case.names_tagged(URI).count()));
    };
    let text = std::str::from_utf8(uri).map_err(|_| "not ASCII")?;
    let id: SpiffeId = text.parse().map_err(|error| format!("{error}"))?;
    ensure(id.is_in(&case.issuer.trust_domain), "in another trust domain than the issuer")?;
    ensure(case.leaf() != id.path().is_empty(), "leaves have a path and authorities none")
}

/// Nothing but the SPIFFE ID, scopes and DNS names; the last in order, each once. Who answers for
/// certificates or speaks of the log is nobody to a service.
fn names(case: &Case<'_>) -> Result<(), String> {
    if matches!(case.kind, Kind::Responder | Kind::HeadKey) {
        return ensure(case.fields.extension(oid::SUBJECT_ALT_NAME).is_none(), "a name in what is nobody's");
    }
    let known = |tag| tag == URI || (case.leaf() && matches!(tag, DNS_NAME | OTHER_NAME));
    ensure(case.names.iter().all(|&(tag, _)| known(tag)), "a name of another kind")?;
    ensure(case.names_tagged(DNS_NAME).is_sorted_by(|a, b| a < b), "DNS names out of order or twice")?;
    let good = |name: &[u8]| std::str::from_utf8(name).is_ok_and(dns_name);
    ensure(case.names_tagged(DNS_NAME).all(good), "not a lower-case DNS name without wildcard")
}

/// Scopes parse, are in order, each once, at most 64.
fn scopes(case: &Case<'_>) -> Result<(), String> {
    let mut scopes = Vec::new();
    for contents in case.names_tagged(OTHER_NAME) {
        scopes.push(scope(contents).ok_or("an otherName that is no scope")?);
    }
    ensure(scopes.len() <= SCOPES_MAX, "more than 64 scopes")?;
    ensure(scopes.is_sorted_by(|a, b| a < b), "scopes out of order or twice")
}

fn scope(contents: &[u8]) -> Option<Scope> {
    let mut other = Reader::new(contents);
    let id = other.read(der::OBJECT_IDENTIFIER).ok()?;
    let mut value = other.nested(context_constructed(0)).ok()?;
    let scope = value.utf8().ok()?.parse().ok()?;
    (id == oid::SCOPE && other.at_end() && value.at_end()).then_some(scope)
}

/// Scopes have one readable grant behind them; it is not critical, as strangers must be able to verify the chain.
fn grant(case: &Case<'_>) -> Result<(), String> {
    let Some(extension) = case.fields.extension(oid::GRANT) else {
        return ensure(case.names_tagged(OTHER_NAME).next().is_none(), "scopes without a grant");
    };
    ensure(case.leaf(), "a grant in what is no leaf")?;
    has_criticality(extension, false)?;
    Grant::from_der(extension.value).map(drop).map_err(|error| error.to_string())
}

/// The longest signature included.
fn size(case: &Case<'_>) -> Result<(), String> {
    let len = len_max(case.tbs, case.issuer.algorithm);
    if !case.leaf() || len <= LEAF_LEN_MAX {
        return Ok(());
    }
    Err(format!("{len} bytes with its signature, at most {LEAF_LEN_MAX}"))
}

/// RFC 5280 §4.2.1.9; leaves say cA=FALSE too, as some clients want it said.
fn basic_constraints(case: &Case<'_>) -> Result<(), String> {
    let value: &[u8] = match case.kind {
        Kind::Leaf | Kind::Responder | Kind::HeadKey => &[der::SEQUENCE, 0],
        Kind::Issuing => &[der::SEQUENCE, 6, der::BOOLEAN, 1, 0xff, der::INTEGER, 1, 0],
        Kind::Root => &[der::SEQUENCE, 3, der::BOOLEAN, 1, 0xff],
    };
    case.exactly(oid::BASIC_CONSTRAINTS, true, value)
}

/// X509-SVID §4.3: critical; digitalSignature for leaves and responders, keyCertSign and cRLSign for authorities.
fn key_usage(case: &Case<'_>) -> Result<(), String> {
    let value = match case.kind {
        Kind::Leaf | Kind::Responder | Kind::HeadKey => DIGITAL_SIGNATURE,
        Kind::Issuing | Kind::Root => SIGNS_CERTIFICATES,
    };
    case.exactly(oid::KEY_USAGE, true, value)
}

/// X509-SVID §4.4: both serverAuth and clientAuth. Authorities have none, as libraries differ on what that would mean. RFC 6960
/// §4.2.2.2: OCSPSigning for responders, and nothing that a service would take them for.
fn extended_key_usage(case: &Case<'_>) -> Result<(), String> {
    let usages: &[&[u8]] = match case.kind {
        Kind::Leaf => &[oid::SERVER_AUTH, oid::CLIENT_AUTH],
        Kind::Responder => &[OCSP_SIGNING],
        Kind::HeadKey => &[oid::HEAD_KEY_USAGE],
        Kind::Issuing | Kind::Root => {
            return ensure(case.fields.extension(oid::EXTENDED_KEY_USAGE).is_none(), "present in an authority");
        }
    };
    let value = written(|w| {
        w.nested(der::SEQUENCE, |w| {
            for usage in usages {
                w.oid(usage);
            }
        });
    });
    case.exactly(oid::EXTENDED_KEY_USAGE, false, &value)
}

/// RFC 5280 §4.2.1.1: the issuer's subjectKeyIdentifier.
fn authority_key_id(case: &Case<'_>) -> Result<(), String> {
    if case.kind == Kind::Root {
        return ensure(case.fields.extension(oid::AUTHORITY_KEY_ID).is_none(), "present in a root");
    }
    let value = written(|w| {
        w.nested(der::SEQUENCE, |w| {
            w.value(der::context(0), case.issuer.key_id.bytes());
        });
    });
    case.exactly(oid::AUTHORITY_KEY_ID, false, &value)
}

/// RFC 5280 §4.2.1.2, by RFC 7093 §2 method 1.
fn subject_key_id(case: &Case<'_>) -> Result<(), String> {
    let public = PublicKey::read(case.fields.spki).ok().flatten();
    // `public_key` reports one that cannot be read.
    let Some(public) = public else { return Ok(()) };
    let value = written(|w| {
        w.octets(key::key_id(public.bits, case.issuer.crypto).bytes());
    });
    case.exactly(oid::SUBJECT_KEY_ID, false, &value)
}

/// RFC 5280 §4.2.1.13: one point, the issuer's complete CRL.
fn crl_distribution_point(case: &Case<'_>) -> Result<(), String> {
    case.linked(oid::CRL_DISTRIBUTION_POINTS, |links| &links.crl_distribution_point)
}

/// RFC 5280 §4.2.2.1: the issuer's OCSP responder if it has one, and one caIssuers, the issuer's certificate.
fn authority_information_access(case: &Case<'_>) -> Result<(), String> {
    case.linked(oid::AUTHORITY_INFO_ACCESS, |links| &links.authority_information_access)
}

/// RFC 9608: it would tell verifiers not to look for a revocation.
fn no_revocation_available(case: &Case<'_>) -> Result<(), String> {
    ensure(case.fields.extension(NO_REVOCATION_AVAILABLE).is_none(), "present")
}

/// RFC 6960 §4.2.2.2.1: in a responder's certificate, non-critical, NULL; elsewhere it would end every look for a revocation.
fn ocsp_no_check(case: &Case<'_>) -> Result<(), String> {
    if case.kind != Kind::Responder {
        return ensure(case.fields.extension(OCSP_NO_CHECK).is_none(), "present in what is no responder's");
    }
    case.exactly(OCSP_NO_CHECK, false, &[der::NULL, 0])
}

/// RFC 5280 §4.2: no extension twice; and none that the profile does not have.
fn extensions(case: &Case<'_>) -> Result<(), String> {
    const KNOWN: &[&[u8]] = &[
        oid::AUTHORITY_INFO_ACCESS,
        oid::AUTHORITY_KEY_ID,
        oid::BASIC_CONSTRAINTS,
        oid::CRL_DISTRIBUTION_POINTS,
        oid::EXTENDED_KEY_USAGE,
        oid::GRANT,
        oid::KEY_USAGE,
        oid::SUBJECT_ALT_NAME,
        oid::SUBJECT_KEY_ID,
        NO_REVOCATION_AVAILABLE,
        OCSP_NO_CHECK,
    ];
    for (before, &Extension { id, .. }) in case.fields.extensions.iter().enumerate() {
        if case.fields.extensions.iter().take(before).any(|earlier| earlier.id == id) {
            return Err(format!("{} twice", oid_text(id)));
        }
        if !KNOWN.contains(&id) {
            return Err(format!("{} is none of the profile's", oid_text(id)));
        }
    }
    Ok(())
}

/// The key that was proved, and not the issuer's own unless that is the subject.
fn public_key(case: &Case<'_>) -> Result<(), String> {
    ensure(case.fields.spki == case.spki, "not the key that was proved")?;
    let own = case.fields.spki == case.issuer.spki;
    ensure(own == (case.kind == Kind::Root), "the issuer's own key")?;
    match PublicKey::read(case.fields.spki) {
        Ok(Some(key)) => {
            let fits = case.kind != Kind::HeadKey || key.algorithm == Algorithm::Ed25519;
            ensure(fits, "heads are signed by Ed25519")
        }
        _ => Err("a key of no known kind".into()),
    }
}

/// X.690 §10 and §11: what would be encoded otherwise when read and written again.
fn well_formed(case: &Case<'_>) -> Result<(), String> {
    for extension in &case.fields.extensions {
        // X.690 §11.5: a value equal to its DEFAULT is not encoded.
        if extension.critical == Some(false) {
            return Err(format!("{}: critical FALSE is said", oid_text(extension.id)));
        }
        values(extension.value, 0).map_err(|detail| format!("{}: {detail}", oid_text(extension.id)))?;
    }
    values(case.tbs, 0)
}

fn values(der: &[u8], depth: u8) -> Result<(), String> {
    const CONSTRUCTED: u8 = 0x20;
    const DEPTH_MAX: u8 = 16;
    ensure(depth < DEPTH_MAX, "nested too deeply")?;
    let mut reader = Reader::new(der);
    while !reader.at_end() {
        let (tag, contents, _) = reader.read_any().map_err(|error| error.to_string())?;
        if tag & CONSTRUCTED != 0 {
            values(contents, depth + 1)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
