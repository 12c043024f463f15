//! A root whose key is elsewhere: what it is asked to sign, and what it signed, judged before it is relied on.

use chancery_identity::der::{self, DerError, Reader, context_constructed};
use chancery_identity::{Serial, Timestamp, oid};

use crate::algorithm::PublicKey;
use crate::certificate::{Links, Parts};
use crate::lint::{Finding, Kind, lint};
use crate::{
    Algorithm, AuthorityCertificate, AuthorityError, CrlNumber, Crypto, HEAD_KEY_VALIDITY, HeadKeyCertificate,
    KeyPolicy, KeyRefused,
};

/// What a foreign root may choose by itself: how long, which serials, and where its own CRL and certificate stand.
const ITS_OWN: &[&str] =
    &["authority_information_access", "crl_distribution_point", "serial", "subject_key_id", "validity"];

/// Judges a root that signs elsewhere: self-signed, within its time, and otherwise as one of ours would be.
///
/// # Errors
/// Each reason why it cannot be a trust domain's root.
pub fn judge_root(root: &AuthorityCertificate, crypto: Crypto, now: Timestamp) -> Result<(), ForeignRefused> {
    if !root.self_issued() || !root.signed_by(root, crypto) {
        return Err(ForeignRefused::Signature("root certificate"));
    }
    in_time("root certificate", root.not_before(), root.not_after(), now)?;
    let key = PublicKey::read(root.spki()).ok().flatten().ok_or(KeyRefused::Unknown)?;
    let any = Algorithm::ALL.into_iter().fold(KeyPolicy::new(crypto), KeyPolicy::allow);
    any.admit(&key)?;
    // OpenSSL writes its own key id into a root; that says nothing new and harms nobody.
    profile(Kind::Root, root.der(), root.spki(), root, crypto, now, &["authority_key_id"])
}

/// Judges an issuing certificate by that root.
///
/// # Errors
/// Each reason why leaves cannot be signed under it.
pub fn judge_issuing(
    issuing: &AuthorityCertificate,
    root: &AuthorityCertificate,
    crypto: Crypto,
    now: Timestamp,
) -> Result<(), ForeignRefused> {
    if !issuing.signed_by(root, crypto) {
        return Err(ForeignRefused::Signature("issuing certificate"));
    }
    in_time("issuing certificate", issuing.not_before(), issuing.not_after(), now)?;
    if issuing.not_after() > root.not_after() {
        return Err(ForeignRefused::Outlives("issuing certificate"));
    }
    profile(Kind::Issuing, issuing.der(), issuing.spki(), root, crypto, now, &[])
}

/// Judges the certificate of a key that signs heads by that root.
///
/// # Errors
/// Each reason why verifiers would not believe what it signs.
pub fn judge_head_key(
    key: &HeadKeyCertificate,
    root: &AuthorityCertificate,
    crypto: Crypto,
    now: Timestamp,
) -> Result<(), ForeignRefused> {
    const WHAT: &str = "certificate of the key that signs heads";
    if !key.signed_by(root, crypto) {
        return Err(ForeignRefused::Signature(WHAT));
    }
    let (from, to) = (key.not_before(), key.not_after());
    in_time(WHAT, from, to, now)?;
    if to > root.not_after() {
        return Err(ForeignRefused::Outlives(WHAT));
    }
    if to.since(from) > HEAD_KEY_VALIDITY {
        return Err(ForeignRefused::TooLong { from, to });
    }
    profile(Kind::HeadKey, key.der(), key.spki(), root, crypto, now, &[])
}

fn profile(
    kind: Kind,
    certificate: &[u8],
    spki: &[u8],
    root: &AuthorityCertificate,
    crypto: Crypto,
    now: Timestamp,
    besides: &[&str],
) -> Result<(), ForeignRefused> {
    let links = (kind != Kind::Root).then(Links::default);
    let parts = Parts::read(certificate).map_err(AuthorityError::from)?;
    let mut findings = lint(kind, parts.tbs, &root.issuer(links, crypto), spki, now);
    findings.retain(|finding| !ITS_OWN.contains(&finding.lint()) && !besides.contains(&finding.lint()));
    if findings.is_empty() { Ok(()) } else { Err(ForeignRefused::Profile(findings)) }
}

fn in_time(what: &'static str, from: Timestamp, to: Timestamp, now: Timestamp) -> Result<(), ForeignRefused> {
    if from <= now && now <= to { Ok(()) } else { Err(ForeignRefused::Time { what, from, to }) }
}

/// The CRL of a root that signs elsewhere: complete, by that root.
#[derive(Clone, Debug)]
pub struct ForeignCrl {
    number: CrlNumber,
    this_update: Timestamp,
    next_update: Timestamp,
    serials: Vec<Serial>,
}

impl ForeignCrl {
    /// Reads it and checks its signature. What time it is good for is the caller's to look at.
    ///
    /// # Errors
    /// It is no complete version 2 CRL of this root.
    pub fn read(der: &[u8], root: &AuthorityCertificate, crypto: Crypto) -> Result<Self, ForeignRefused> {
        let parts = Parts::read(der)?;
        let mut outer = Reader::new(parts.tbs);
        let mut tbs = outer.nested(der::SEQUENCE)?;
        outer.finish()?;
        // RFC 5280 §5.1.2.1: extensions are used, so the version MUST be 2 (value is 1).
        if tbs.unsigned_64()? != 1 {
            return Err(ForeignRefused::Crl("it is not of version 2"));
        }
        let (_, _, algorithm) = tbs.read_any()?;
        let (_, _, issuer) = tbs.read_any()?;
        if issuer != root.subject() {
            return Err(ForeignRefused::Crl("its issuer is not the root, byte for byte"));
        }
        let key = PublicKey::read(root.spki())?.ok_or(KeyRefused::Unknown)?;
        let ours = key.algorithm.signature_identifier();
        if algorithm != ours || parts.algorithm != ours {
            return Err(ForeignRefused::Crl("its signature algorithm is not that of the root's key"));
        }
        if !(crypto.verify)(key.algorithm, key.bits, parts.tbs, parts.signature) {
            return Err(ForeignRefused::Signature("CRL"));
        }
        let this_update = tbs.time()?;
        // RFC 5280 §5.1.2.5: conforming issuers MUST include nextUpdate.
        if !matches!(tbs.peek(), Some(der::UTC_TIME | der::GENERALIZED_TIME)) {
            return Err(ForeignRefused::Crl("it has no nextUpdate"));
        }
        let next_update = tbs.time()?;
        let mut entries = Reader::new(tbs.read_optional(der::SEQUENCE)?.unwrap_or_default());
        let mut serials = Vec::new();
        while !entries.at_end() {
            let serial = entries.nested(der::SEQUENCE)?.unsigned()?;
            serials.push(Serial::from_bytes(serial).ok_or(ForeignRefused::Crl("it lists a serial that is none"))?);
        }
        let mut wrapper =
            tbs.nested(context_constructed(0)).map_err(|_| ForeignRefused::Crl("it has no CRL number"))?;
        tbs.finish()?;
        let number = number(wrapper.nested(der::SEQUENCE)?)?;
        Ok(Self { number, this_update, next_update, serials })
    }

    /// Its number.
    pub const fn number(&self) -> CrlNumber {
        self.number
    }

    /// When it was made.
    pub const fn this_update(&self) -> Timestamp {
        self.this_update
    }

    /// When the next one is there at the latest.
    pub const fn next_update(&self) -> Timestamp {
        self.next_update
    }

    /// What it lists.
    pub fn serials(&self) -> &[Serial] {
        &self.serials
    }

    /// It must be in its time.
    ///
    /// # Errors
    /// It is not.
    pub fn judge_time(&self, now: Timestamp) -> Result<(), ForeignRefused> {
        in_time("CRL", self.this_update, self.next_update, now)
    }
}

fn number(mut extensions: Reader<'_>) -> Result<CrlNumber, ForeignRefused> {
    let mut number = None;
    while !extensions.at_end() {
        let mut extension = extensions.nested(der::SEQUENCE)?;
        let id = extension.read(der::OBJECT_IDENTIFIER)?;
        let critical = extension.peek() == Some(der::BOOLEAN) && extension.boolean()?;
        let value = extension.read(der::OCTET_STRING)?;
        // Deltas, and CRLs that cover only some certificates, say so critically.
        if critical {
            return Err(ForeignRefused::Crl("it has a critical extension; wanted a complete CRL"));
        }
        if id == oid::CRL_NUMBER {
            let magnitude = Reader::new(value).unsigned()?;
            // RFC 5280 §5.2.3 allows 20 bytes; a database column has 63 bits.
            let fits =
                magnitude.len() < 8 || (magnitude.len() == 8 && magnitude.first().is_some_and(|byte| *byte < 0x80));
            if !fits {
                return Err(ForeignRefused::Crl("its number has more than 63 bits"));
            }
            number = Some(magnitude.iter().fold(0_u128, |sum, byte| (sum << 8) | u128::from(*byte)));
        }
    }
    // RFC 5280 §5.2.3: MUST include this extension in all CRLs.
    number.map(CrlNumber::new).ok_or(ForeignRefused::Crl("it has no CRL number"))
}

/// What came from a root elsewhere cannot be relied on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForeignRefused {
    /// Another hand signed it.
    #[error("the {0} is not signed by the root")]
    Signature(&'static str),
    /// It is not valid now.
    #[error("the {what} is good from {from} to {to}, and not now")]
    Time {
        /// What.
        what: &'static str,
        /// Its first instant.
        from: Timestamp,
        /// Its last.
        to: Timestamp,
    },
    /// A certificate that ends after the root's.
    #[error("the {0} ends after the root's")]
    Outlives(&'static str),
    /// A key that signs heads is to be followed by another in time.
    #[error("the certificate of the key that signs heads is good from {from} to {to}; wanted at most 90 days")]
    TooLong {
        /// Its first instant.
        from: Timestamp,
        /// Its last.
        to: Timestamp,
    },
    /// It breaks the profile.
    #[error("it breaks the profile of authorities: {}", crate::lint::list(.0))]
    Profile(Vec<Finding>),
    /// No authority's certificate.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The root's key is weak or of no known kind.
    #[error("the root's key: {0}")]
    Key(#[from] KeyRefused),
    /// Not DER.
    #[error("malformed CRL: {0}")]
    Malformed(#[from] DerError),
    /// No complete CRL of the root.
    #[error("the root's CRL cannot be used: {0}")]
    Crl(&'static str),
}
