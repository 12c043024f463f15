//! The signature algorithms, and the two operations of cryptography that the caller passes down.

use std::fmt;

use chancery_identity::der::{self, DerError, Reader};

/// A kind of key together with the one signature algorithm that is used with it.
///
/// Curve and hash are no choice of a request: the key alone decides them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// A key on P-384; ECDSA with SHA-384.
    EcdsaP384,
    /// A key on P-256; ECDSA with SHA-256.
    EcdsaP256,
    /// Ed25519.
    Ed25519,
    /// An RSA key; PKCS #1 v1.5 with SHA-256.
    Rsa,
}

impl Algorithm {
    /// The signature's AlgorithmIdentifier, DER.
    pub const fn signature_identifier(self) -> &'static [u8] {
        match self {
            Self::EcdsaP256 => &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2],
            Self::EcdsaP384 => &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3],
            Self::Ed25519 => &[0x30, 5, 6, 3, 0x2b, 0x65, 0x70],
            Self::Rsa => &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 1, 11, 5, 0],
        }
    }

    /// The key's AlgorithmIdentifier in a SubjectPublicKeyInfo, DER.
    pub const fn key_identifier(self) -> &'static [u8] {
        match self {
            Self::EcdsaP256 => {
                &[0x30, 19, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]
            }
            Self::EcdsaP384 => &[0x30, 16, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 34],
            Self::Ed25519 => &[0x30, 5, 6, 3, 0x2b, 0x65, 0x70],
            Self::Rsa => &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 1, 1, 5, 0],
        }
    }

    /// The longest signature, in bytes.
    pub(crate) const fn signature_len_max(self) -> usize {
        match self {
            Self::EcdsaP256 => 72,
            Self::EcdsaP384 => 104,
            Self::Ed25519 => 64,
            Self::Rsa => 512,
        }
    }

    pub(crate) const ALL: [Self; 4] = [Self::EcdsaP256, Self::EcdsaP384, Self::Ed25519, Self::Rsa];
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EcdsaP256 => "ECDSA P-256 with SHA-256",
            Self::EcdsaP384 => "ECDSA P-384 with SHA-384",
            Self::Ed25519 => "Ed25519",
            Self::Rsa => "RSA with SHA-256",
        })
    }
}

/// Digest and verification, as values: the crate itself names no crypto library.
///
/// With feature `ring`, `local::CRYPTO` is one.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_structs, reason = "callers make it")]
pub struct Crypto {
    /// SHA-1. OCSP names issuers and responders by it (RFC 6960 §4.1.1, §4.2.1); nothing is signed over it.
    pub sha1: fn(&[u8]) -> [u8; 20],
    /// SHA-256.
    pub sha256: fn(&[u8]) -> [u8; 32],
    /// Whether the signature is the key's over the message. Called as `verify(algorithm, public_key, message, signature)`;
    /// the public key is what the BIT STRING of a SubjectPublicKeyInfo holds, ECDSA signatures are DER.
    pub verify: fn(Algorithm, &[u8], &[u8], &[u8]) -> bool,
}

/// A SubjectPublicKeyInfo, taken apart: a known algorithm and a key of the right shape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PublicKey<'a> {
    pub(crate) algorithm: Algorithm,
    /// The whole SubjectPublicKeyInfo.
    pub(crate) spki: &'a [u8],
    /// What its BIT STRING holds.
    pub(crate) bits: &'a [u8],
}

impl<'a> PublicKey<'a> {
    /// `None` when the algorithm is none of ours.
    pub(crate) fn read(spki: &'a [u8]) -> Result<Option<Self>, DerError> {
        let mut outer = Reader::new(spki);
        let mut fields = outer.nested(der::SEQUENCE)?;
        outer.finish()?;
        let (_, _, identifier) = fields.read_any()?;
        let bits = whole_bytes(&mut fields)?;
        fields.finish()?;
        let Some(algorithm) = Algorithm::ALL.into_iter().find(|a| a.key_identifier() == identifier) else {
            return Ok(None);
        };
        let shaped = match algorithm {
            // Uncompressed points only, RFC 5480 §2.2.
            Algorithm::EcdsaP256 => bits.len() == 65 && bits.first() == Some(&4),
            Algorithm::EcdsaP384 => bits.len() == 97 && bits.first() == Some(&4),
            Algorithm::Ed25519 => bits.len() == 32,
            Algorithm::Rsa => true,
        };
        if shaped { Ok(Some(Self { algorithm, spki, bits })) } else { Err(DerError::Value("public key")) }
    }
}

/// A BIT STRING of whole bytes.
pub(crate) fn whole_bytes<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], DerError> {
    match reader.read(der::BIT_STRING)? {
        [0, bytes @ ..] => Ok(bytes),
        _ => Err(DerError::Value("BIT STRING")),
    }
}
