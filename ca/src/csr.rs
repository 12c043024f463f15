//! Certificate requests (RFC 2986): a public key and the proof of its private half; nothing else in one counts.

use chancery_identity::der::{self, DerError, Reader, context_constructed};
use chancery_identity::oid;

use crate::algorithm::{PublicKey, whole_bytes};
use crate::{Algorithm, KeyPolicy, KeyRefused, SubjectKey};

/// The longest request, in bytes of DER.
pub const CSR_LEN_MAX: usize = 8192;

/// PKCS #9 extensionRequest, RFC 2985 §5.4.2.
pub(crate) const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 9, 14];

/// Takes the key out of a request in DER, if the policy allows it and the request is signed by it.
///
/// The subject is ignored. Requested extensions are refused unless the list is empty: what a certificate says is the
/// issuer's to decide, and a requester that expects otherwise learns it now.
///
/// # Errors
/// Anything that is no such request; see [`CsrRefused`].
pub fn inspect_csr(der: &[u8], keys: &KeyPolicy) -> Result<SubjectKey, CsrRefused> {
    if der.len() > CSR_LEN_MAX {
        return Err(CsrRefused::TooLong(der.len()));
    }
    let csr = Csr::read(der)?;
    refuse_requests(csr.attributes)?;
    let key = PublicKey::read(csr.spki)?.ok_or(KeyRefused::Unknown)?;
    keys.admit(&key)?;
    // The key decides curve and hash; a request that names others is confused or meant to confuse.
    if csr.signature_algorithm != key.algorithm.signature_identifier() {
        return Err(CsrRefused::SignatureAlgorithm(key.algorithm));
    }
    let crypto = keys.crypto();
    if !(crypto.verify)(key.algorithm, key.bits, csr.signed, csr.signature) {
        return Err(CsrRefused::Proof);
    }
    Ok(SubjectKey::new(&key, crypto))
}

struct Csr<'a> {
    /// The CertificationRequestInfo, whole: what the signature is over.
    signed: &'a [u8],
    spki: &'a [u8],
    attributes: &'a [u8],
    signature_algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Csr<'a> {
    fn read(der: &'a [u8]) -> Result<Self, CsrRefused> {
        let mut outer = Reader::new(der);
        let mut request = outer.nested(der::SEQUENCE)?;
        outer.finish()?;
        let (info, signed) = sequence(&mut request)?;
        let (_, signature_algorithm) = sequence(&mut request)?;
        let signature = whole_bytes(&mut request)?;
        request.finish()?;

        let mut info = Reader::new(info);
        match info.unsigned_64()? {
            0 => {}
            version => return Err(CsrRefused::Version(version)),
        }
        sequence(&mut info)?;
        let (_, spki) = sequence(&mut info)?;
        // RFC 2986 §4.1: attributes is not OPTIONAL; some write nothing for the empty set all the same.
        let attributes = info.read_optional(context_constructed(0))?.unwrap_or_default();
        info.finish()?;
        Ok(Self { signed, spki, attributes, signature_algorithm, signature })
    }
}

fn refuse_requests(attributes: &[u8]) -> Result<(), CsrRefused> {
    let mut attributes = Reader::new(attributes);
    while !attributes.at_end() {
        let mut attribute = attributes.nested(der::SEQUENCE)?;
        let id = attribute.read(der::OBJECT_IDENTIFIER)?;
        let mut values = attribute.nested(der::SET)?;
        attribute.finish()?;
        if id != EXTENSION_REQUEST {
            return Err(CsrRefused::Attribute(oid_text(id)));
        }
        while !values.at_end() {
            let mut extensions = values.nested(der::SEQUENCE)?;
            if !extensions.at_end() {
                return Err(requested(extensions.nested(der::SEQUENCE)?)?);
            }
        }
    }
    Ok(())
}

fn requested(mut extension: Reader<'_>) -> Result<CsrRefused, DerError> {
    let id = extension.read(der::OBJECT_IDENTIFIER)?;
    Ok(match id {
        oid::BASIC_CONSTRAINTS => {
            extension.read_optional(der::BOOLEAN)?;
            let mut value = Reader::new(extension.read(der::OCTET_STRING)?);
            let mut constraints = value.nested(der::SEQUENCE)?;
            if !constraints.at_end() && constraints.boolean()? {
                CsrRefused::AsksForAuthority
            } else {
                CsrRefused::AsksForExtension(oid_text(id))
            }
        }
        oid::SUBJECT_ALT_NAME => CsrRefused::AsksForNames,
        _ => CsrRefused::AsksForExtension(oid_text(id)),
    })
}

/// Contents and whole of the next SEQUENCE.
fn sequence<'a>(reader: &mut Reader<'a>) -> Result<(&'a [u8], &'a [u8]), DerError> {
    match reader.read_any()? {
        (der::SEQUENCE, contents, whole) => Ok((contents, whole)),
        (found, ..) => Err(DerError::Tag { wanted: der::SEQUENCE, found }),
    }
}

/// An object identifier in dots, for refusals.
pub(crate) fn oid_text(contents: &[u8]) -> String {
    let mut arcs = Vec::new();
    let mut arc = 0_u64;
    for &byte in contents.iter().take(64) {
        arc = (arc << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if arcs.is_empty() {
                let first = (arc / 40).min(2);
                arcs.push(first.to_string());
                arc -= first * 40;
            }
            arcs.push(arc.to_string());
            arc = 0;
        }
    }
    arcs.join(".")
}

/// The request is none that a certificate can be made for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CsrRefused {
    /// Longer than [`CSR_LEN_MAX`].
    #[error("a certificate request has at most {CSR_LEN_MAX} bytes, got {0}")]
    TooLong(usize),
    /// Not the DER of a request, or bytes after it.
    #[error("malformed certificate request: {0}")]
    Malformed(#[from] DerError),
    /// Not version 1.
    #[error("wanted version 1 of PKCS #10 (value 0), got value {0}")]
    Version(u64),
    /// The key is none that may be certified.
    #[error(transparent)]
    Key(#[from] KeyRefused),
    /// Signed by an algorithm that does not go with the key.
    #[error("the request's key is signed for with {0} only, and the request names another algorithm")]
    SignatureAlgorithm(Algorithm),
    /// The signature is not the key's.
    #[error("the request is not signed by its own key: no proof that you hold the private half")]
    Proof,
    /// It asks to be a CA.
    #[error("the request asks for a CA certificate (basicConstraints); send a request without extensions")]
    AsksForAuthority,
    /// It asks for names.
    #[error(
        "the request asks for names (subjectAltName); names come from the registry: send a request without extensions"
    )]
    AsksForNames,
    /// It asks for another extension.
    #[error("the request asks for extension {0}; send a request without extensions")]
    AsksForExtension(String),
    /// It carries another attribute.
    #[error("the request carries attribute {0}; send a request without attributes")]
    Attribute(String),
}
