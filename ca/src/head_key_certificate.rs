//! The certificates of keys that sign heads, read.

use chancery_identity::{KeyId, Serial, Timestamp};

use crate::algorithm::PublicKey;
use crate::certificate::Fields;
use crate::{Algorithm, AuthorityCertificate, AuthorityError, Crypto, key};

/// The certificate of a key that signs heads, taken apart; no signature judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadKeyCertificate {
    der: Vec<u8>,
    serial: Serial,
    issuer: Vec<u8>,
    spki: Vec<u8>,
    public_key: [u8; 32],
    not_before: Timestamp,
    not_after: Timestamp,
}

impl HeadKeyCertificate {
    /// Takes it apart.
    ///
    /// # Errors
    /// It is malformed, or its key is no Ed25519 key.
    pub fn read(der: Vec<u8>) -> Result<Self, AuthorityError> {
        let fields = Fields::of_certificate(&der)?;
        let unfit = AuthorityError::Unfit("its key is no Ed25519 key");
        let public_key = match PublicKey::read(fields.spki)? {
            Some(key) if key.algorithm == Algorithm::Ed25519 => key.bits.try_into().map_err(|_| unfit)?,
            _ => return Err(unfit),
        };
        let (not_before, not_after) = fields.validity()?;
        Ok(Self {
            serial: fields.serial_number()?,
            issuer: fields.issuer.to_vec(),
            spki: fields.spki.to_vec(),
            public_key,
            not_before,
            not_after,
            der,
        })
    }

    /// The whole certificate.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Its serial.
    pub const fn serial(&self) -> Serial {
        self.serial
    }

    /// Its SubjectPublicKeyInfo, DER.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The key.
    pub const fn public_key(&self) -> &[u8; 32] {
        &self.public_key
    }

    /// The key's id: RFC 7093 §2 method 1.
    pub fn key_id(&self, crypto: Crypto) -> KeyId {
        key::key_id(&self.public_key, crypto)
    }

    /// The first instant it is valid at.
    pub const fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// The last second it is valid at.
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whether the root's name and key stand behind it. Says nothing of time or revocation.
    pub fn signed_by(&self, root: &AuthorityCertificate, crypto: Crypto) -> bool {
        root.signed(&self.der, &self.issuer, crypto)
    }
}
