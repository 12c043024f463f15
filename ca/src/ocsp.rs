//! OCSP (RFC 6960, RFC 9919, RFC 9654): requests read, responses planned and signed by a delegated responder.
//!
//! ```text
//! bytes ── OcspRequest::read ──> OcspRequest ── OcspPlan::new ──> OcspPlan ── sign ──> SignedOcsp
//! ```

mod request;
mod responder;
mod response;

use chancery_identity::der::{self, DerError, Reader};
use chancery_identity::{Reason, Serial, Timestamp};

use crate::algorithm::PublicKey;
use crate::{AuthorityCertificate, Crypto};

pub use request::{OCSP_REQUEST_LEN_MAX, OcspNonce, OcspRequest, OcspRequestRefused};
pub(crate) use responder::ResponderCertificate;
pub use responder::{RESPONDER_VALIDITY, Responder};
pub use response::{OcspPlan, OcspRefused, OcspTimes, SignedOcsp};

/// Which certificate a request asks for: its issuer by digests of name and key, and its serial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertId {
    /// As it came: a response repeats it, digest algorithm and all.
    der: Box<[u8]>,
    issuer: IssuerId,
    serial: Option<Serial>,
}

impl CertId {
    /// The serial; `None` for a number that no certificate has, as it is not positive or longer than 20 bytes.
    pub const fn serial(&self) -> Option<Serial> {
        self.serial
    }

    /// As it came, DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    fn read(requests: &mut Reader<'_>) -> Result<Self, DerError> {
        let (tag, contents, whole) = requests.read_any()?;
        if tag != der::SEQUENCE {
            return Err(DerError::Tag { wanted: der::SEQUENCE, found: tag });
        }
        let mut fields = Reader::new(contents);
        let mut algorithm = fields.nested(der::SEQUENCE)?;
        let digest = algorithm.read(der::OBJECT_IDENTIFIER)?;
        // RFC 5754 §2: parameters are absent or NULL, and both must be taken.
        let parameters = algorithm.read_optional(der::NULL)?.unwrap_or_default();
        algorithm.finish()?;
        if !parameters.is_empty() {
            return Err(DerError::Value("NULL"));
        }
        let (name, key) = (fields.read(der::OCTET_STRING)?, fields.read(der::OCTET_STRING)?);
        let serial = match fields.unsigned() {
            Ok(magnitude) => Serial::from_bytes(magnitude),
            Err(DerError::Negative) => None,
            Err(error) => return Err(error),
        };
        fields.finish()?;
        Ok(Self { der: whole.into(), issuer: IssuerId::new(digest, name, key), serial })
    }
}

/// An issuer as a CertID names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IssuerId {
    Sha1 {
        name: [u8; 20],
        key: [u8; 20],
    },
    Sha256 {
        name: [u8; 32],
        key: [u8; 32],
    },
    /// By a digest that we do not make, or one of a wrong length: it is none of ours.
    Other,
}

impl IssuerId {
    const SHA1: &[u8] = &[0x2b, 14, 3, 2, 26];
    const SHA256: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];

    fn new(digest: &[u8], name: &[u8], key: &[u8]) -> Self {
        let made = match digest {
            Self::SHA1 => name.try_into().and_then(|name| Ok(Self::Sha1 { name, key: key.try_into()? })),
            Self::SHA256 => name.try_into().and_then(|name| Ok(Self::Sha256 { name, key: key.try_into()? })),
            _ => Ok(Self::Other),
        };
        made.unwrap_or(Self::Other)
    }

    /// RFC 6960 §4.1.1: digests of the issuer's name in DER and of its key's BIT STRING, without tag, length and unused bits.
    fn of(authority: &AuthorityCertificate, key: &PublicKey<'_>, crypto: Crypto) -> [Self; 2] {
        let Crypto { sha1, sha256, .. } = crypto;
        let (name, key) = (authority.subject(), key.bits);
        [Self::Sha1 { name: sha1(name), key: sha1(key) }, Self::Sha256 { name: sha256(name), key: sha256(key) }]
    }
}

/// What is known of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "RFC 6960 §2.2 has these three")]
pub enum CertStatus {
    /// Issued, and nothing in force ends it.
    Good,
    /// Ended or held.
    Revoked {
        /// Since when; cut to whole seconds, and to the response's own time where clocks disagree.
        at: Timestamp,
        /// Why.
        reason: Reason,
    },
    /// Never issued.
    Unknown,
}

/// Why there is no answer. Such a response is not signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(
    clippy::exhaustive_enums,
    reason = "RFC 6960 §4.2.1 has these; sigRequired is for responders that want signatures"
)]
pub enum OcspError {
    /// The request is none.
    MalformedRequest,
    /// The responder failed.
    InternalError,
    /// Too much is asked at the moment.
    TryLater,
    /// The issuer asked about is none that this responder answers for.
    Unauthorized,
}

impl OcspError {
    /// The whole response, DER.
    pub const fn der(self) -> &'static [u8] {
        match self {
            Self::MalformedRequest => &[der::SEQUENCE, 3, der::ENUMERATED, 1, 1],
            Self::InternalError => &[der::SEQUENCE, 3, der::ENUMERATED, 1, 2],
            Self::TryLater => &[der::SEQUENCE, 3, der::ENUMERATED, 1, 3],
            Self::Unauthorized => &[der::SEQUENCE, 3, der::ENUMERATED, 1, 6],
        }
    }
}
