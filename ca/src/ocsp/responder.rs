//! Who answers for an authority: a key of its own, certified by the authority for that alone.

use std::sync::Arc;
use std::time::Duration;

use chancery_identity::{KeyId, Serial, Timestamp};

use super::{CertId, IssuerId};
use crate::algorithm::PublicKey;
use crate::{Algorithm, AuthorityCertificate, AuthorityError, Crypto, SignError, Signer, authority};

/// How long a responder's certificate is valid. Nobody can revoke it (id-pkix-ocsp-nocheck), so it is short.
pub const RESPONDER_VALIDITY: Duration = Duration::from_secs(24 * 3600);

/// Answers for one authority. Made by [`Authority::certify_responder`](crate::Authority::certify_responder).
#[derive(Clone, Debug)]
pub struct Responder {
    certificate: ResponderCertificate,
    authority: KeyId,
    answers_for: [IssuerId; 2],
    key_hash: [u8; 20],
    signer: Arc<dyn Signer>,
    crypto: Crypto,
}

/// Its certificate, and what is read of it often.
#[derive(Clone, Debug)]
pub(crate) struct ResponderCertificate {
    pub(crate) der: Vec<u8>,
    pub(crate) serial: Serial,
    pub(crate) certified_at: Timestamp,
    pub(crate) not_after: Timestamp,
}

impl Responder {
    pub(crate) fn new(
        authority: &AuthorityCertificate,
        certificate: ResponderCertificate,
        signer: Arc<dyn Signer>,
        crypto: Crypto,
    ) -> Result<Self, AuthorityError> {
        let unknown = AuthorityError::Unfit("its key is of no known kind");
        let issuing = PublicKey::read(authority.spki())?.ok_or_else(|| unknown.clone())?;
        let own = PublicKey::read(signer.public_key())?.ok_or(unknown)?;
        Ok(Self {
            authority: authority.key_id(),
            answers_for: IssuerId::of(authority, &issuing, crypto),
            // RFC 6960 §4.2.1: the SHA-1 of the BIT STRING's bytes, whatever the subjectKeyIdentifier is.
            key_hash: (crypto.sha1)(own.bits),
            certificate,
            signer,
            crypto,
        })
    }

    /// Whether the certificate asked for is named as one of its authority's.
    pub fn answers_for(&self, id: &CertId) -> bool {
        self.answers_for.contains(&id.issuer)
    }

    /// Its certificate, DER.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate.der
    }

    /// Its certificate's serial.
    pub const fn serial(&self) -> Serial {
        self.certificate.serial
    }

    /// The authority that it answers for.
    pub const fn authority(&self) -> KeyId {
        self.authority
    }

    /// When it was certified.
    pub const fn certified_at(&self) -> Timestamp {
        self.certificate.certified_at
    }

    /// The last second its certificate is valid at.
    pub const fn not_after(&self) -> Timestamp {
        self.certificate.not_after
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.signer.algorithm()
    }

    pub(super) async fn sign(&self, tbs: &[u8]) -> Result<Vec<u8>, SignError> {
        authority::signature(&*self.signer, self.crypto, tbs).await
    }

    pub(super) const fn key_hash(&self) -> [u8; 20] {
        self.key_hash
    }
}
