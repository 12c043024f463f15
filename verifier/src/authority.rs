//! The authority reader: what a CA certificate says about what it may sign.

use std::fmt;

use chancery_identity::der::{self, DerError, Reader, context, context_constructed};
use chancery_identity::{KeyId, Serial, SpiffeId, Timestamp, TrustDomain, oid};

use crate::signed::Signed;

/// nameConstraints, RFC 5280 §4.2.1.10.
const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 30];
/// certificatePolicies, RFC 5280 §4.2.1.4.
const CERTIFICATE_POLICIES: &[u8] = &[0x55, 0x1d, 32];
/// issuerAltName, RFC 5280 §4.2.1.7.
const ISSUER_ALT_NAME: &[u8] = &[0x55, 0x1d, 18];

/// One CA certificate, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authority {
    subject: Box<[u8]>,
    issuer: Box<[u8]>,
    spki: Box<[u8]>,
    serial: Option<Serial>,
    not_before: Timestamp,
    not_after: Timestamp,
    key_id: Option<KeyId>,
    ca: bool,
    path_len: Option<u64>,
    /// The first byte of the KeyUsage bits.
    key_usage: Option<u8>,
    names: SpiffeNames,
    unknown_critical: bool,
}

/// The URIs of an authority, which may be one SPIFFE ID.
#[derive(Clone, Debug, PartialEq, Eq)]
enum SpiffeNames {
    None,
    One(SpiffeId),
    Unusable,
}

impl Authority {
    pub(crate) fn read(der: &[u8]) -> Result<Self, DerError> {
        let signed = Signed::read(der)?;
        let mut outer = Reader::new(signed.tbs);
        let mut tbs = outer.nested(der::SEQUENCE)?;
        outer.finish()?;
        tbs.read_optional(context_constructed(0))?;
        let serial = Serial::from_bytes(tbs.unsigned()?);
        tbs.read(der::SEQUENCE)?;
        let issuer = tbs.read(der::SEQUENCE)?;
        let mut validity = tbs.nested(der::SEQUENCE)?;
        let (not_before, not_after) = (validity.time()?, validity.time()?);
        validity.finish()?;
        let subject = tbs.read(der::SEQUENCE)?;
        let spki = tbs.read(der::SEQUENCE)?;
        tbs.read_optional(context(1))?;
        tbs.read_optional(context(2))?;
        let mut authority = Self {
            subject: subject.into(),
            issuer: issuer.into(),
            spki: spki.into(),
            serial,
            not_before,
            not_after,
            key_id: None,
            ca: false,
            path_len: None,
            key_usage: None,
            names: SpiffeNames::None,
            unknown_critical: false,
        };
        if let Some(wrapper) = tbs.read_optional(context_constructed(3))? {
            let mut wrapper = Reader::new(wrapper);
            let mut list = wrapper.nested(der::SEQUENCE)?;
            wrapper.finish()?;
            while !list.at_end() {
                authority.read_extension(list.nested(der::SEQUENCE)?)?;
            }
        }
        tbs.finish()?;
        Ok(authority)
    }

    fn read_extension(&mut self, mut extension: Reader<'_>) -> Result<(), DerError> {
        let id = extension.read(der::OBJECT_IDENTIFIER)?;
        let critical = if extension.peek() == Some(der::BOOLEAN) { extension.boolean()? } else { false };
        let value = extension.read(der::OCTET_STRING)?;
        extension.finish()?;
        let mut outer = Reader::new(value);
        match id {
            oid::BASIC_CONSTRAINTS => {
                let mut constraints = outer.nested(der::SEQUENCE)?;
                outer.finish()?;
                if constraints.peek() == Some(der::BOOLEAN) {
                    // RFC 5280 §4.2.1.9: MUST mark the extension as critical in CA certificates.
                    self.ca = constraints.boolean()? && critical;
                }
                if !constraints.at_end() {
                    self.path_len = Some(constraints.unsigned_64()?);
                }
                constraints.finish()?;
            }
            oid::KEY_USAGE => {
                let bits = outer.read(der::BIT_STRING)?;
                outer.finish()?;
                self.key_usage = Some(bits.get(1).copied().unwrap_or(0));
            }
            // RFC 5280 §4.2.1.2: MUST be non-critical.
            oid::SUBJECT_KEY_ID if !critical => {
                self.key_id = outer.read(der::OCTET_STRING)?.try_into().ok().map(KeyId::from_bytes);
                outer.finish()?;
            }
            oid::SUBJECT_ALT_NAME => {
                let mut names = outer.nested(der::SEQUENCE)?;
                outer.finish()?;
                while !names.at_end() {
                    let (tag, contents, _) = names.read_any()?;
                    if tag == context(6) {
                        let id = std::str::from_utf8(contents).ok().and_then(|text| text.parse().ok());
                        self.names = match (&self.names, id) {
                            (SpiffeNames::None, Some(id)) => SpiffeNames::One(id),
                            _ => SpiffeNames::Unusable,
                        };
                    }
                }
            }
            // Path building obeys these.
            NAME_CONSTRAINTS | oid::EXTENDED_KEY_USAGE | CERTIFICATE_POLICIES | ISSUER_ALT_NAME => {}
            _ => self.unknown_critical |= critical,
        }
        Ok(())
    }

    /// The subject, without tag and length.
    pub(crate) fn subject(&self) -> &[u8] {
        &self.subject
    }

    /// The issuer, without tag and length.
    pub(crate) fn issuer(&self) -> &[u8] {
        &self.issuer
    }

    /// The SubjectPublicKeyInfo, without tag and length.
    pub(crate) fn spki(&self) -> &[u8] {
        &self.spki
    }

    pub(crate) const fn serial(&self) -> Option<Serial> {
        self.serial
    }

    /// The SubjectKeyIdentifier, when it has the 20 bytes that ours have.
    pub(crate) const fn key_id(&self) -> Option<KeyId> {
        self.key_id
    }

    pub(crate) fn signs_crls(&self) -> bool {
        const CRL_SIGN: u8 = 0x02;
        self.key_usage.is_none_or(|bits| bits & CRL_SIGN != 0)
    }

    /// The same name and key: one authority, whichever certificate says so.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.subject == other.subject && self.spki == other.spki
    }

    /// RFC 5280 §6.1.4 (k) to (n), for one certificate with `below` further ones between it and the leaf. Of these,
    /// path building leaves the key usage to others, and looks at none for a trust anchor.
    pub(crate) fn check_issuer(&self, below: usize, now: Timestamp) -> Result<(), AuthorityRefused> {
        const KEY_CERT_SIGN: u8 = 0x04;
        if self.unknown_critical {
            return Err(AuthorityRefused::UnknownCritical);
        }
        // RFC 5280 §4.1.2.6: a CA's subject MUST NOT be empty.
        if !self.ca || self.subject.is_empty() {
            return Err(AuthorityRefused::NotCa);
        }
        if self.key_usage.is_some_and(|bits| bits & KEY_CERT_SIGN == 0) {
            return Err(AuthorityRefused::KeyUsage);
        }
        if self.path_len.is_some_and(|most| u64::try_from(below).is_ok_and(|below| below > most)) {
            return Err(AuthorityRefused::PathLength);
        }
        if now < self.not_before || now.floor_to_second() > self.not_after {
            return Err(AuthorityRefused::Time { not_before: self.not_before, not_after: self.not_after });
        }
        Ok(())
    }

    /// What X509-SVID asks of a signing certificate beyond RFC 5280.
    pub(crate) fn check_svid(&self, trust_domain: &TrustDomain) -> Result<(), AuthorityRefused> {
        // X509-SVID §4.3: key usage MUST be set on every SVID.
        if self.key_usage.is_none() {
            return Err(AuthorityRefused::KeyUsage);
        }
        match &self.names {
            SpiffeNames::None => Ok(()),
            // X509-SVID §3.2: MUST NOT have a path component, and SHOULD be in the trust domain of what it signs.
            SpiffeNames::One(id) if id.path().is_empty() && id.is_in(trust_domain) => Ok(()),
            SpiffeNames::One(_) | SpiffeNames::Unusable => Err(AuthorityRefused::SpiffeId),
        }
    }
}

/// The key id of an AuthorityKeyIdentifier extension, when it has the 20 bytes that ours have.
pub(crate) fn key_identifier(value: &[u8]) -> Result<Option<KeyId>, DerError> {
    let mut outer = Reader::new(value);
    let mut fields = outer.nested(der::SEQUENCE)?;
    outer.finish()?;
    Ok(fields.read_optional(context(0))?.and_then(|id| id.try_into().ok()).map(KeyId::from_bytes))
}

/// Why a certificate of the chain may not have signed what stands below it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthorityRefused {
    /// A critical extension that nobody here knows.
    UnknownCritical,
    /// BasicConstraints, critical as they must be, do not make it a CA with a name.
    NotCa,
    /// Its key usage does not hold keyCertSign.
    KeyUsage,
    /// More certificates below it than its path length allows.
    PathLength,
    /// Outside its validity.
    Time {
        /// The first instant it is valid at.
        not_before: Timestamp,
        /// The last second it is valid at.
        not_after: Timestamp,
    },
    /// It carries a SPIFFE ID with a path, of another trust domain, or several.
    SpiffeId,
}

impl fmt::Display for AuthorityRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownCritical => f.write_str("it has an unknown critical extension"),
            Self::NotCa => f.write_str("it is no CA certificate"),
            Self::KeyUsage => f.write_str("its key usage does not hold keyCertSign"),
            Self::PathLength => f.write_str("more certificates below it than its path length allows"),
            Self::Time { not_before, not_after } => {
                write!(f, "it is valid from {} to {}", not_before.to_seconds_text(), not_after.to_seconds_text())
            }
            Self::SpiffeId => f.write_str("its SPIFFE ID is not that of the leaf's trust domain"),
        }
    }
}

impl std::error::Error for AuthorityRefused {}
