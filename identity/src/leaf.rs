//! The leaf reader: the one place where an end-entity certificate is taken apart.

use std::fmt;

use crate::der::{self, DerError, Reader, context, context_constructed};
use crate::{
    Certificate, Grant, GrantError, KeyId, Scope, ScopeError, ScopeSet, Serial, SpiffeId, SpiffeIdError, Timestamp, oid,
};

/// The longest leaf we issue, in bytes of DER; the reader itself takes longer ones, as other issuers may make them.
pub const LEAF_LEN_MAX: usize = 4096;

/// Extensions that most leaves have no more of.
const EXTENSIONS_USUAL: usize = 12;

/// An end-entity certificate, taken apart and not yet trusted. Borrows from its DER.
///
/// Reading checks the form and the SVID leaf rules that the form decides: version 3, one SPIFFE ID with a path, no CA, no
/// signing key usage, no extension twice, no scopes without exactly one grant of a known version. It judges no
/// signature, no time and no revocation.
#[derive(Clone, Debug)]
pub struct Leaf<'a> {
    der: &'a [u8],
    serial: &'a [u8],
    spki: &'a [u8],
    authority_key_id: Option<&'a [u8]>,
    not_before: Timestamp,
    not_after: Timestamp,
    subject_empty: bool,
    san_critical: bool,
    spiffe_id: &'a str,
    scopes: Vec<&'a str>,
    dns_names: Vec<&'a str>,
    extended_key_usages: Option<Vec<&'a [u8]>>,
    grant: Option<&'a [u8]>,
    certificate: Certificate,
}

impl<'a> Leaf<'a> {
    /// Takes a certificate apart.
    ///
    /// # Errors
    /// Anything that is no SVID leaf, or carries scopes or a grant that this code may not rely on.
    pub fn read(der: &'a [u8]) -> Result<Self, LeafError> {
        let mut outer = Reader::new(der);
        let mut certificate = outer.nested(der::SEQUENCE)?;
        outer.finish()?;
        let mut tbs = certificate.nested(der::SEQUENCE)?;
        let outer_algorithm = certificate.read(der::SEQUENCE)?;
        certificate.read(der::BIT_STRING)?;
        certificate.finish()?;

        let mut version = tbs.nested(context_constructed(0)).map_err(|_| LeafError::Version)?;
        // RFC 5280 §4.1.2.1: extensions are used, so the version MUST be 3 (value is 2).
        if version.unsigned_64()? != 2 {
            return Err(LeafError::Version);
        }
        version.finish()?;
        let serial = tbs.unsigned()?;
        // RFC 5280 §4.1.2.3: MUST contain the same algorithm identifier as signatureAlgorithm.
        if tbs.read(der::SEQUENCE)? != outer_algorithm {
            return Err(LeafError::SignatureAlgorithm);
        }
        tbs.read(der::SEQUENCE)?;
        let mut validity = tbs.nested(der::SEQUENCE)?;
        let (not_before, not_after) = (validity.time()?, validity.time()?);
        validity.finish()?;
        let subject_empty = tbs.read(der::SEQUENCE)?.is_empty();
        let (tag, _, spki) = tbs.read_any()?;
        if tag != der::SEQUENCE {
            return Err(LeafError::Der(DerError::Tag { wanted: der::SEQUENCE, found: tag }));
        }
        tbs.read_optional(context(1))?;
        tbs.read_optional(context(2))?;
        let mut wrapper = tbs.nested(context_constructed(3)).map_err(|_| LeafError::NoSpiffeId)?;
        tbs.finish()?;
        let extensions = Extensions::read(wrapper.nested(der::SEQUENCE)?)?;
        wrapper.finish()?;
        extensions.check()?;

        let names = extensions.subject_alt_name.map(Names::read).transpose()?.unwrap_or_default();
        let spiffe_id = match *names.uris {
            [] => return Err(LeafError::NoSpiffeId),
            [one] => one,
            // X509-SVID §2: exactly one URI SAN.
            _ => return Err(LeafError::ManyUris(names.uris.len())),
        };
        let id: SpiffeId = spiffe_id.parse()?;
        // X509-SVID §3.1: a leaf's SPIFFE ID has a non-root path.
        if id.path().is_empty() {
            return Err(LeafError::NoPath);
        }
        if extensions.grant.is_none() && !names.scopes.is_empty() {
            return Err(LeafError::ScopesWithoutGrant);
        }
        let scopes = names.scopes.iter().map(|text| text.parse::<Scope>()).collect::<Result<Vec<_>, _>>()?;
        let authority = extensions.authority_key_id.map(key_identifier).transpose()?.flatten();
        let parsed = Certificate {
            spiffe_id: id,
            scopes: ScopeSet::new(scopes)?,
            grant: extensions.grant.map(Grant::from_der).transpose()?,
            serial: Serial::from_bytes(serial).ok_or(LeafError::Serial)?,
            authority: KeyId::from_bytes(authority.and_then(|id| id.try_into().ok()).unwrap_or_default()),
            not_before,
            not_after,
        };
        Ok(Self {
            der,
            serial,
            spki,
            authority_key_id: authority,
            not_before,
            not_after,
            subject_empty,
            san_critical: extensions.subject_alt_name_critical,
            spiffe_id,
            scopes: names.scopes,
            dns_names: names.dns_names,
            extended_key_usages: extensions.extended_key_usage.map(purposes).transpose()?,
            grant: extensions.grant,
            certificate: parsed,
        })
    }

    /// The whole certificate.
    pub const fn der(&self) -> &'a [u8] {
        self.der
    }

    /// The serial's magnitude.
    pub const fn serial(&self) -> &'a [u8] {
        self.serial
    }

    /// The SubjectPublicKeyInfo, whole.
    pub const fn spki(&self) -> &'a [u8] {
        self.spki
    }

    /// The issuer's key id, from the AuthorityKeyIdentifier.
    pub const fn authority_key_id(&self) -> Option<&'a [u8]> {
        self.authority_key_id
    }

    /// The first instant it is valid at.
    pub const fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// The last second it is valid at.
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whether the subject is the empty name.
    pub const fn subject_empty(&self) -> bool {
        self.subject_empty
    }

    /// Whether the SubjectAltName is critical.
    pub const fn san_critical(&self) -> bool {
        self.san_critical
    }

    /// The SPIFFE ID as it stands in the certificate.
    pub const fn spiffe_id(&self) -> &'a str {
        self.spiffe_id
    }

    /// The scopes in the order of the certificate.
    pub fn scopes(&self) -> &[&'a str] {
        &self.scopes
    }

    /// The DNS names.
    pub fn dns_names(&self) -> &[&'a str] {
        &self.dns_names
    }

    /// The extended key usages as OID contents; `None` when the extension is absent.
    pub fn extended_key_usages(&self) -> Option<&[&'a [u8]]> {
        self.extended_key_usages.as_deref()
    }

    /// The grant extension's value.
    pub const fn grant_der(&self) -> Option<&'a [u8]> {
        self.grant
    }

    /// What it says, parsed.
    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// What it says, parsed and owned.
    pub fn into_certificate(self) -> Certificate {
        self.certificate
    }
}

#[derive(Default)]
struct Extensions<'a> {
    seen: Vec<&'a [u8]>,
    subject_alt_name: Option<&'a [u8]>,
    subject_alt_name_critical: bool,
    basic_constraints: Option<&'a [u8]>,
    key_usage: Option<(&'a [u8], bool)>,
    extended_key_usage: Option<&'a [u8]>,
    authority_key_id: Option<&'a [u8]>,
    grant: Option<&'a [u8]>,
}

impl<'a> Extensions<'a> {
    fn read(mut list: Reader<'a>) -> Result<Self, LeafError> {
        let mut extensions = Self { seen: Vec::with_capacity(EXTENSIONS_USUAL), ..Self::default() };
        while !list.at_end() {
            let mut extension = list.nested(der::SEQUENCE)?;
            let id = extension.read(der::OBJECT_IDENTIFIER)?;
            let critical = if extension.peek() == Some(der::BOOLEAN) { extension.boolean()? } else { false };
            let value = extension.read(der::OCTET_STRING)?;
            extension.finish()?;
            // RFC 5280 §4.2: MUST NOT include more than one instance of a particular extension.
            if extensions.seen.contains(&id) {
                return Err(if id == oid::GRANT { LeafError::TwoGrants } else { LeafError::ExtensionTwice });
            }
            extensions.seen.push(id);
            match id {
                oid::SUBJECT_ALT_NAME => {
                    extensions.subject_alt_name = Some(value);
                    extensions.subject_alt_name_critical = critical;
                }
                oid::BASIC_CONSTRAINTS => extensions.basic_constraints = Some(value),
                oid::KEY_USAGE => extensions.key_usage = Some((value, critical)),
                oid::EXTENDED_KEY_USAGE => extensions.extended_key_usage = Some(value),
                oid::AUTHORITY_KEY_ID => extensions.authority_key_id = Some(value),
                oid::GRANT => extensions.grant = Some(value),
                oid::SUBJECT_KEY_ID | oid::CRL_DISTRIBUTION_POINTS | oid::AUTHORITY_INFO_ACCESS => {}
                // RFC 5280 §4.2: MUST reject if it encounters a critical extension it does not recognize.
                _ if critical => return Err(LeafError::UnknownCritical),
                _ => {}
            }
        }
        Ok(extensions)
    }

    /// X509-SVID §5.2: a leaf is no CA and signs neither certificates nor CRLs.
    fn check(&self) -> Result<(), LeafError> {
        if let Some(value) = self.basic_constraints {
            let mut outer = Reader::new(value);
            let mut constraints = outer.nested(der::SEQUENCE)?;
            outer.finish()?;
            if !constraints.at_end() && constraints.boolean()? {
                return Err(LeafError::Authority);
            }
            // RFC 5280 §4.2.1.9: MUST NOT include pathLenConstraint unless cA is asserted.
            constraints.finish()?;
        }
        // X509-SVID §4.3: key usage MUST be set on every SVID, and be critical.
        let (value, critical) = self.key_usage.ok_or(LeafError::KeyUsage("absent"))?;
        if !critical {
            return Err(LeafError::KeyUsage("not critical"));
        }
        let mut outer = Reader::new(value);
        let [_, bits, ..] = *outer.read(der::BIT_STRING)? else { return Err(LeafError::KeyUsage("empty")) };
        outer.finish()?;
        const DIGITAL_SIGNATURE: u8 = 0x80;
        const KEY_CERT_SIGN: u8 = 0x04;
        const CRL_SIGN: u8 = 0x02;
        if bits & (KEY_CERT_SIGN | CRL_SIGN) != 0 {
            return Err(LeafError::KeyUsage("signs certificates or CRLs"));
        }
        if bits & DIGITAL_SIGNATURE == 0 {
            return Err(LeafError::KeyUsage("without digitalSignature"));
        }
        Ok(())
    }
}

#[derive(Default)]
struct Names<'a> {
    uris: Vec<&'a str>,
    dns_names: Vec<&'a str>,
    scopes: Vec<&'a str>,
}

impl<'a> Names<'a> {
    fn read(value: &'a [u8]) -> Result<Self, LeafError> {
        const OTHER_NAME: u8 = context_constructed(0);
        const DNS_NAME: u8 = context(2);
        const URI: u8 = context(6);
        let mut outer = Reader::new(value);
        let mut list = outer.nested(der::SEQUENCE)?;
        outer.finish()?;
        let mut names = Self::default();
        while !list.at_end() {
            let (tag, contents, _) = list.read_any()?;
            match tag {
                URI => names.uris.push(ia5(contents)?),
                DNS_NAME => names.dns_names.push(ia5(contents)?),
                OTHER_NAME => {
                    let mut other = Reader::new(contents);
                    if other.read(der::OBJECT_IDENTIFIER)? == oid::SCOPE {
                        let mut wrapped = other.nested(context_constructed(0))?;
                        names.scopes.push(wrapped.utf8()?);
                        wrapped.finish()?;
                        other.finish()?;
                    }
                }
                _ => {}
            }
        }
        Ok(names)
    }
}

fn ia5(contents: &[u8]) -> Result<&str, LeafError> {
    std::str::from_utf8(contents)
        .ok()
        .filter(|text| text.is_ascii())
        .ok_or(LeafError::Der(DerError::Value("IA5String")))
}

fn key_identifier(value: &[u8]) -> Result<Option<&[u8]>, LeafError> {
    let mut outer = Reader::new(value);
    let mut fields = outer.nested(der::SEQUENCE)?;
    outer.finish()?;
    Ok(fields.read_optional(context(0))?)
}

fn purposes(value: &[u8]) -> Result<Vec<&[u8]>, LeafError> {
    let mut outer = Reader::new(value);
    let mut list = outer.nested(der::SEQUENCE)?;
    outer.finish()?;
    let mut purposes = Vec::new();
    while !list.at_end() {
        purposes.push(list.read(der::OBJECT_IDENTIFIER)?);
    }
    Ok(purposes)
}

/// The certificate is no SVID leaf that this code may rely on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeafError {
    /// Not DER.
    Der(DerError),
    /// Not version 3.
    Version,
    /// The serial is zero or longer than 20 bytes.
    Serial,
    /// The two signature algorithms differ.
    SignatureAlgorithm,
    /// One extension twice.
    ExtensionTwice,
    /// A critical extension that nobody here knows.
    UnknownCritical,
    /// No URI SAN.
    NoSpiffeId,
    /// More than one URI SAN.
    ManyUris(usize),
    /// The URI SAN is no SPIFFE ID.
    SpiffeId(SpiffeIdError),
    /// The SPIFFE ID of a trust domain, as authorities have it.
    NoPath,
    /// A CA certificate.
    Authority,
    /// Key usage that no leaf has.
    KeyUsage(&'static str),
    /// A scope that is none, or too many.
    Scope(ScopeError),
    /// Scopes and no grant behind them.
    ScopesWithoutGrant,
    /// Two grants.
    TwoGrants,
    /// A grant that this code may not rely on.
    Grant(GrantError),
}

macro_rules! from_errors {
    ($($variant:ident($error:ident)),+) => {$(
        impl From<$error> for LeafError {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        }
    )+};
}

from_errors!(Der(DerError), SpiffeId(SpiffeIdError), Scope(ScopeError), Grant(GrantError));

impl fmt::Display for LeafError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Der(error) => write!(f, "malformed certificate: {error}"),
            Self::Version => f.write_str("wanted an X.509 version 3 certificate"),
            Self::Serial => f.write_str("the serial number is zero or longer than 20 bytes"),
            Self::SignatureAlgorithm => f.write_str("the certificate names two different signature algorithms"),
            Self::ExtensionTwice => f.write_str("the certificate has one extension twice"),
            Self::UnknownCritical => f.write_str("the certificate has an unknown critical extension"),
            Self::NoSpiffeId => f.write_str("the certificate has no SPIFFE ID"),
            Self::ManyUris(count) => write!(f, "wanted exactly one URI in the certificate, got {count}"),
            Self::SpiffeId(error) => write!(f, "{error}"),
            Self::NoPath => f.write_str("the certificate's SPIFFE ID has no path, as only an authority's has"),
            Self::Authority => f.write_str("a CA certificate cannot identify a workload"),
            Self::KeyUsage(what) => write!(f, "key usage of a leaf is critical and digitalSignature; it is {what}"),
            Self::Scope(error) => write!(f, "{error}"),
            Self::ScopesWithoutGrant => f.write_str("the certificate has scopes and no grant behind them"),
            Self::TwoGrants => f.write_str("the certificate has two grants"),
            Self::Grant(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for LeafError {}
