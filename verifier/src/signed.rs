//! What certificates and CRLs have in common: something to be signed, an algorithm, a signature.

use chancery_identity::der::{self, DerError, Reader};
use rustls::crypto::WebPkiSupportedAlgorithms;

/// The outer SEQUENCE of a certificate or CRL, taken apart.
pub(crate) struct Signed<'a> {
    /// The bytes that are signed, tag and length included.
    pub(crate) tbs: &'a [u8],
    /// The AlgorithmIdentifier's contents.
    pub(crate) algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    pub(crate) fn read(der: &'a [u8]) -> Result<Self, DerError> {
        let mut outer = Reader::new(der);
        let mut parts = outer.nested(der::SEQUENCE)?;
        outer.finish()?;
        let (tag, _, tbs) = parts.read_any()?;
        if tag != der::SEQUENCE {
            return Err(DerError::Tag { wanted: der::SEQUENCE, found: tag });
        }
        let algorithm = parts.read(der::SEQUENCE)?;
        let signature = bits(parts.read(der::BIT_STRING)?)?;
        parts.finish()?;
        Ok(Self { tbs, algorithm, signature })
    }

    /// Whether the key signed it, by one of the algorithms.
    pub(crate) fn verified_by(&self, spki: &[u8], algorithms: &WebPkiSupportedAlgorithms) -> bool {
        let Ok((key_algorithm, key)) = public_key(spki) else { return false };
        algorithms.all.iter().any(|algorithm| {
            algorithm.signature_alg_id().as_ref() == self.algorithm
                && algorithm.public_key_alg_id().as_ref() == key_algorithm
                && algorithm.verify_signature(key, self.tbs, self.signature).is_ok()
        })
    }
}

/// The algorithm and the key bits of a SubjectPublicKeyInfo's contents.
fn public_key(spki: &[u8]) -> Result<(&[u8], &[u8]), DerError> {
    let mut reader = Reader::new(spki);
    let algorithm = reader.read(der::SEQUENCE)?;
    let key = bits(reader.read(der::BIT_STRING)?)?;
    reader.finish()?;
    Ok((algorithm, key))
}

/// A BIT STRING of whole bytes.
fn bits(contents: &[u8]) -> Result<&[u8], DerError> {
    match contents {
        [0, bytes @ ..] => Ok(bytes),
        _ => Err(DerError::Value("BIT STRING")),
    }
}
