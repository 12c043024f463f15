//! Private keys and the requests they sign. A key leaves this process only into its state folder.

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SigningKey};
use ring::rand::SecureRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

/// A P-256 key. `Debug` shows nothing of it.
pub(crate) struct Key {
    pkcs8: Zeroizing<Vec<u8>>,
    pair: KeyPair,
}

impl Key {
    pub(crate) fn generate(rng: &dyn SecureRandom) -> Result<Self, KeyError> {
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, rng).map_err(|_| KeyError::Random)?;
        Self::from_pkcs8(Zeroizing::new(document.as_ref().to_vec()))
    }

    pub(crate) fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError::Pem)?;
        Self::from_pkcs8(Zeroizing::new(der.secret_pkcs8_der().to_vec()))
    }

    fn from_pkcs8(pkcs8: Zeroizing<Vec<u8>>) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from(pkcs8.as_slice());
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256).map_err(|_| KeyError::Key)?;
        Ok(Self { pkcs8, pair })
    }

    /// The key in PKCS #8, as PEM.
    pub(crate) fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(crate::pem::encode("PRIVATE KEY", &self.pkcs8))
    }

    /// The key as rustls takes it.
    pub(crate) fn to_private_key_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.pkcs8.to_vec()).into()
    }

    /// The public key as a SubjectPublicKeyInfo.
    pub(crate) fn spki(&self) -> Vec<u8> {
        self.pair.subject_public_key_info()
    }

    /// A certificate request that says nothing but the public key: empty subject, no extension. As PEM.
    pub(crate) fn request_pem(&self) -> Result<String, KeyError> {
        let mut nothing = CertificateParams::default();
        nothing.distinguished_name = DistinguishedName::new();
        let request = nothing.serialize_request(&self.pair).map_err(|_| KeyError::Sign)?;
        Ok(crate::pem::encode("CERTIFICATE REQUEST", request.der()))
    }

    /// An ECDSA signature with SHA-256, in ASN.1.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.pair.sign(message).map_err(|_| KeyError::Sign)
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

/// A private key cannot be made, read or used. Never holds any of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The system gives no random numbers.
    #[error("the system's random number generator gave nothing")]
    Random,
    /// Not a PEM block of the right label.
    #[error("not a private key in PEM: wanted one PRIVATE KEY block (PKCS #8)")]
    Pem,
    /// Not a P-256 key.
    #[error("not a P-256 private key in PKCS #8")]
    Key,
    /// Signing failed.
    #[error("the private key could not sign")]
    Sign,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test fails by panicking")]

    use chancery_identity::der::{self, Reader, context_constructed};
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

    use super::*;

    #[test]
    fn a_key_reads_back_from_its_pem() {
        let key = Key::generate(&SystemRandom::new()).unwrap();
        let read = Key::from_pem(&key.to_pem()).unwrap();
        assert_eq!(read.spki(), key.spki());
        assert_eq!(Key::from_pem("").unwrap_err(), KeyError::Pem);
        assert!(!format!("{key:?}").contains("PRIVATE"));
    }

    #[test]
    fn a_request_says_its_key_and_nothing_else() {
        let key = Key::generate(&SystemRandom::new()).unwrap();
        let pem = key.request_pem().unwrap();
        let request = rustls_pki_types::CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap();
        let mut outer = Reader::new(&request);
        let mut request = outer.nested(der::SEQUENCE).unwrap();
        let (_, info, signed) = request.read_any().unwrap();
        request.read(der::SEQUENCE).unwrap();
        let signature = request.read(der::BIT_STRING).unwrap();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &key.spki()[26..]).verify(signed, &signature[1..]).unwrap();

        let mut info = Reader::new(info);
        assert_eq!(info.unsigned_64().unwrap(), 0);
        assert!(info.read(der::SEQUENCE).unwrap().is_empty(), "subject");
        assert_eq!(info.read_any().unwrap().2, key.spki());
        assert!(info.read(context_constructed(0)).unwrap().is_empty(), "attributes");
        info.finish().unwrap();
    }
}
