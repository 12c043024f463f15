//! The binding that signing evidence is a signature over.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chancery_api::binding_preimage;
use chancery_identity::{Name, TrustDomain};
use ring::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::refusal::{Code, Refusal};

/// The digest that the evidence's key must have signed.
pub(super) fn binding(trust_domain: &TrustDomain, name: &Name, nonce: &str, spki_sha256: &[u8; 32]) -> [u8; 32] {
    // All parts are bounded far below what a u16 counts; an empty preimage is what no client signs.
    sha256(&binding_preimage(trust_domain.as_str(), name.as_str(), nonce, spki_sha256).unwrap_or_default())
}

/// Checks a signature by a certificate's key, whichever algorithm that fits the key was used.
pub(super) fn check(leaf: &CertificateDer<'_>, binding: &[u8; 32], signature: &str) -> Result<(), Refusal> {
    let refused = || {
        let detail = "the signature is not made by the certificate's key over this nonce, name and new key";
        Refusal::new(Code::EvidenceRefused, detail)
    };
    let signature = URL_SAFE_NO_PAD
        .decode(signature)
        .map_err(|_| Refusal::new(Code::BadRequest, "signature: wanted base64url without padding"))?;
    let certificate = EndEntityCert::try_from(leaf).map_err(|_| refused())?;
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| refused())?;
    let key_algorithm = parsed.public_key().algorithm.algorithm.as_bytes();
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
    // An algorithm identifier's contents begin with the OID's tag and length.
    let fits = |id: &[u8]| id.get(2..).is_some_and(|oid| oid.starts_with(key_algorithm));
    let mut fitting = algorithms.all.iter().filter(|algorithm| fits(algorithm.public_key_alg_id().as_ref()));
    if fitting.any(|algorithm| certificate.verify_signature(*algorithm, binding, &signature).is_ok()) {
        Ok(())
    } else {
        Err(refused())
    }
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().unwrap_or_default()
}
