//! Requests, read strictly.

use chancery_identity::der::{self, DerError, Reader, context_constructed};

use super::CertId;
use crate::csr::oid_text;

/// The longest request, in bytes: about a hundred certificates, or a few and a signature with its chain.
pub const OCSP_REQUEST_LEN_MAX: usize = 8 * 1024;

/// id-pkix-ocsp-nonce, RFC 9654 §2.1.
pub(super) const NONCE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 1, 2];

/// What a request asks for. Who asks, and by which signature, is read over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OcspRequest {
    certificates: Vec<CertId>,
    nonce: Option<OcspNonce>,
}

impl OcspRequest {
    /// Reads an OCSPRequest of RFC 6960 §4.1.1.
    ///
    /// # Errors
    /// Malformed or too long, another version, no certificate asked for, a critical extension but the nonce, a nonce that is
    /// there twice or has a length that RFC 9654 forbids. All of them are `malformedRequest`.
    pub fn read(der: &[u8]) -> Result<Self, OcspRequestRefused> {
        if der.len() > OCSP_REQUEST_LEN_MAX {
            return Err(OcspRequestRefused::TooLong(der.len()));
        }
        let mut outer = Reader::new(der);
        let mut request = outer.nested(der::SEQUENCE)?;
        outer.finish()?;
        let tbs = request.nested(der::SEQUENCE)?;
        // RFC 6960 §4.1.2: a signature is the requestor's to give; whoever asks is told the same.
        request.read_optional(context_constructed(0))?;
        request.finish()?;
        Self::read_tbs(tbs)
    }

    /// The certificates asked for, at least one, in the order of the request.
    pub fn certificates(&self) -> &[CertId] {
        &self.certificates
    }

    /// What the response must repeat.
    pub const fn nonce(&self) -> Option<&OcspNonce> {
        self.nonce.as_ref()
    }

    fn read_tbs(mut tbs: Reader<'_>) -> Result<Self, OcspRequestRefused> {
        if let Some(version) = tbs.read_optional(context_constructed(0))? {
            let mut version = Reader::new(version);
            let number = version.unsigned_64()?;
            version.finish()?;
            if number != 0 {
                return Err(OcspRequestRefused::Version(number));
            }
        }
        // requestorName, which nothing here asks for.
        tbs.read_optional(context_constructed(1))?;
        let mut list = tbs.nested(der::SEQUENCE)?;
        let mut certificates = Vec::new();
        while !list.at_end() {
            let mut single = list.nested(der::SEQUENCE)?;
            certificates.push(CertId::read(&mut single)?);
            if let Some(extensions) = single.read_optional(context_constructed(0))? {
                read_extensions(extensions, |_, _| Ok(false))?;
            }
            single.finish()?;
        }
        if certificates.is_empty() {
            return Err(OcspRequestRefused::NoCertificate);
        }
        let mut nonce = None;
        if let Some(extensions) = tbs.read_optional(context_constructed(2))? {
            read_extensions(extensions, |id, value| {
                if id != NONCE {
                    return Ok(false);
                }
                match nonce.replace(OcspNonce::read(value)?) {
                    None => Ok(true),
                    Some(_) => Err(OcspRequestRefused::TwoNonces),
                }
            })?;
        }
        tbs.finish()?;
        Ok(Self { certificates, nonce })
    }
}

/// A nonce: 1 to 128 bytes that a response repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OcspNonce(Box<[u8]>);

impl OcspNonce {
    /// The bytes themselves.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn read(value: &[u8]) -> Result<Self, OcspRequestRefused> {
        let mut reader = Reader::new(value);
        let bytes = reader.read(der::OCTET_STRING)?;
        reader.finish()?;
        // RFC 9654 §2.1: a length of 0 or above 128 MUST be answered with malformedRequest.
        if !(1..=128).contains(&bytes.len()) {
            return Err(OcspRequestRefused::Nonce(bytes.len()));
        }
        Ok(Self(bytes.into()))
    }
}

/// Reads Extensions; `known` takes those that it knows. RFC 6960 §4.4: others may be ignored unless they are critical.
fn read_extensions(
    contents: &[u8],
    mut known: impl FnMut(&[u8], &[u8]) -> Result<bool, OcspRequestRefused>,
) -> Result<(), OcspRequestRefused> {
    let mut outer = Reader::new(contents);
    let mut list = outer.nested(der::SEQUENCE)?;
    outer.finish()?;
    while !list.at_end() {
        let mut extension = list.nested(der::SEQUENCE)?;
        let id = extension.read(der::OBJECT_IDENTIFIER)?;
        let critical = extension.peek() == Some(der::BOOLEAN) && extension.boolean()?;
        let value = extension.read(der::OCTET_STRING)?;
        extension.finish()?;
        if !known(id, value)? && critical {
            return Err(OcspRequestRefused::CriticalExtension(oid_text(id)));
        }
    }
    Ok(())
}

/// The bytes are no request that can be answered: `malformedRequest`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OcspRequestRefused {
    /// More bytes than a request may have.
    #[error("an OCSP request has at most {OCSP_REQUEST_LEN_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// Not the DER of a request.
    #[error("malformed OCSP request: {0}")]
    Malformed(#[from] DerError),
    /// Another version than 1, which is written as 0.
    #[error("OCSP requests have version 0, this one has {0}")]
    Version(u64),
    /// The list of certificates is empty.
    #[error("the OCSP request asks for no certificate")]
    NoCertificate,
    /// An extension that must be understood and is not.
    #[error("the OCSP request has a critical extension {0}, which is not known here")]
    CriticalExtension(String),
    /// A nonce of a forbidden length.
    #[error("a nonce has 1 to 128 bytes, this one has {0}")]
    Nonce(usize),
    /// The nonce twice.
    #[error("the OCSP request has two nonces")]
    TwoNonces,
}
