//! Digest, verification and keys in memory, by ring.

use std::fmt;
use std::pin::Pin;

use ring::digest;
use ring::rand::SystemRandom;
use ring::signature::{self, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use chancery_identity::der::{self, Writer};

use crate::{Algorithm, Crypto, Signer, SignerError};

/// Digest and verification by ring.
pub const CRYPTO: Crypto = Crypto { sha1, sha256, verify };

/// A key in this process's memory, P-256 or Ed25519. Prints only its public half.
pub struct LocalSigner {
    key: Key,
    public_key: Vec<u8>,
}

enum Key {
    EcdsaP256(EcdsaKeyPair, SystemRandom),
    Ed25519(Ed25519KeyPair),
}

impl LocalSigner {
    /// From a key in PKCS #8.
    ///
    /// # Errors
    /// Anything but a P-256 or Ed25519 key with its public half.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, SignerError> {
        let key = match Ed25519KeyPair::from_pkcs8(pkcs8) {
            Ok(key) => Key::Ed25519(key),
            Err(_) => {
                let random = SystemRandom::new();
                let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, &random);
                Key::EcdsaP256(key.map_err(SignerError::new)?, random)
            }
        };
        let (algorithm, bits) = match &key {
            Key::EcdsaP256(key, _) => (Algorithm::EcdsaP256, key.public_key().as_ref()),
            Key::Ed25519(key) => (Algorithm::Ed25519, key.public_key().as_ref()),
        };
        let mut spki = Writer::new();
        spki.nested(der::SEQUENCE, |w| {
            w.raw(algorithm.key_identifier()).bits(bits);
        });
        Ok(Self { public_key: spki.finish(), key })
    }

    /// Draws a new P-256 key; the answer is its PKCS #8 form, for the caller to seal and for [`LocalSigner::from_pkcs8`].
    ///
    /// # Errors
    /// The operating system gave no randomness.
    pub fn generate_pkcs8(random: &SystemRandom) -> Result<impl AsRef<[u8]> + use<>, SignerError> {
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, random).map_err(SignerError::new)
    }

    /// Draws a new Ed25519 key, as [`LocalSigner::generate_pkcs8`] does one on P-256.
    ///
    /// # Errors
    /// The operating system gave no randomness.
    pub fn generate_ed25519_pkcs8(random: &SystemRandom) -> Result<impl AsRef<[u8]> + use<>, SignerError> {
        Ed25519KeyPair::generate_pkcs8(random).map_err(SignerError::new)
    }
}

impl Signer for LocalSigner {
    fn algorithm(&self) -> Algorithm {
        match self.key {
            Key::EcdsaP256(..) => Algorithm::EcdsaP256,
            Key::Ed25519(_) => Algorithm::Ed25519,
        }
    }

    fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    fn sign<'a>(
        &'a self,
        message: &'a [u8],
    ) -> Pin<Box<dyn Future<Output = Result<Vec<u8>, SignerError>> + Send + 'a>> {
        let signature = match &self.key {
            Key::EcdsaP256(key, random) => key.sign(random, message).map(|s| s.as_ref().to_vec()),
            Key::Ed25519(key) => Ok(key.sign(message).as_ref().to_vec()),
        };
        Box::pin(std::future::ready(signature.map_err(SignerError::new)))
    }

    fn remote(&self) -> bool {
        false
    }
}

impl fmt::Debug for LocalSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalSigner").field("public_key", &self.public_key).finish_non_exhaustive()
    }
}

fn sha1(bytes: &[u8]) -> [u8; 20] {
    digest_of(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest_of(&digest::SHA256, bytes)
}

fn digest_of<const N: usize>(algorithm: &'static digest::Algorithm, bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    for (out, byte) in out.iter_mut().zip(digest::digest(algorithm, bytes).as_ref()) {
        *out = *byte;
    }
    out
}

fn verify(algorithm: Algorithm, public_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let algorithm: &dyn signature::VerificationAlgorithm = match algorithm {
        Algorithm::EcdsaP256 => &signature::ECDSA_P256_SHA256_ASN1,
        Algorithm::EcdsaP384 => &signature::ECDSA_P384_SHA384_ASN1,
        Algorithm::Ed25519 => &signature::ED25519,
        Algorithm::Rsa => &signature::RSA_PKCS1_2048_8192_SHA256,
    };
    UnparsedPublicKey::new(algorithm, public_key).verify(message, signature).is_ok()
}
