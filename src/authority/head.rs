//! The keys that sign heads: Ed25519, certified by the root, sealed at rest, each announced before it signs.

use std::time::Duration;

use chancery_ca::HEAD_KEY_VALIDITY;
use chancery_ca::local::CRYPTO;
use chancery_identity::{KeyId, Timestamp};
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use super::{Authorities, KeyLabel, OpenError, SealError};
use crate::issuance::pem;
use crate::store::{Cause, HeadKey, PutHeadKey};

/// How long a successor is announced before it signs, so that no verifier meets a head by a key that it was not told of.
const ANNOUNCED: Duration = Duration::from_secs(24 * 3600);

/// The keys that sign heads, now and next, in memory.
pub struct HeadKeys {
    keys: Vec<Held>,
}

struct Held {
    signs_from: Timestamp,
    not_after: Timestamp,
    pem: String,
    pair: Ed25519KeyPair,
}

impl HeadKeys {
    /// Finds the keys, and makes what is due.
    ///
    /// # Errors
    /// A seal that does not open, a root that does not sign, a database that does not commit.
    pub async fn open(authorities: &Authorities, now: Timestamp) -> Result<Self, OpenError> {
        let kept = authorities.store.head_keys().await?;
        let mut keys = Vec::with_capacity(kept.len());
        for key in kept {
            let held = authorities.unseal_head_key(key)?;
            if held.not_after >= now {
                keys.push(held);
            }
        }
        let mut keys = Self { keys };
        if authorities.store.rolled_back().is_none() {
            keys.renew(authorities, now).await?;
        }
        Ok(keys)
    }

    /// Makes a successor when half of the newest key's time is over, and forgets what is over. Says whether there is a
    /// new key, to be announced.
    ///
    /// # Errors
    /// As [`HeadKeys::open`]; the keys that were there stand.
    pub async fn renew(&mut self, authorities: &Authorities, now: Timestamp) -> Result<bool, OpenError> {
        self.keys.retain(|key| key.not_after >= now);
        // A root elsewhere certifies none: verifiers of its trust domain go by CRLs alone.
        if !authorities.root_is_here() {
            return Ok(false);
        }
        let newest = self.keys.last().map(|key| key.not_after);
        if newest.is_some_and(|not_after| not_after.since(now) > HEAD_KEY_VALIDITY / 2) {
            return Ok(false);
        }
        // Nobody knows another: there is nothing to announce it by.
        let signs_from = if self.signing(now).is_some() { now + ANNOUNCED } else { now };
        let held = authorities.make_head_key(now, signs_from).await?;
        self.keys.push(held);
        Ok(true)
    }

    /// The certificates of all that sign or will, in PEM.
    pub fn certificates(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| key.pem.as_str())
    }

    /// The key that signs now; `None` when all are over.
    pub(crate) fn signing(&self, now: Timestamp) -> Option<HeadSigner<'_>> {
        let signing = self.keys.iter().rfind(|key| key.signs_from <= now && key.not_after >= now);
        signing.map(|key| HeadSigner(&key.pair))
    }
}

/// A key that signs heads.
pub(crate) struct HeadSigner<'a>(&'a Ed25519KeyPair);

impl HeadSigner<'_> {
    pub(crate) fn public(&self) -> [u8; 32] {
        public(self.0)
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.0.sign(message).as_ref());
        signature
    }
}

impl Authorities {
    /// Nothing is signed by a key that is not kept.
    async fn make_head_key(&self, now: Timestamp, signs_from: Timestamp) -> Result<Held, OpenError> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&self.rng).map_err(|_| SealError::Random)?;
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).map_err(|_| SealError::Random)?;
        let public = public(&pair);
        let serial = self.ceremony_at(now).serial()?;
        let certificate = self.unseal_root()?.certify_head_key(public, &self.status, now, serial).await?;
        let key_id = key_id(&public);
        let sealed_key = self.seal.seal(self.head_label(&key_id.to_string()), pkcs8.as_ref(), &self.rng)?;
        let key = HeadKey { key_id, signs_from, certificate, sealed_key };
        let kept = self.store.commit(PutHeadKey { cause: Cause::ISSUER, key }).await?;
        self.unseal_head_key(kept.into_reply())
    }

    fn unseal_head_key(&self, kept: HeadKey) -> Result<Held, OpenError> {
        let hex = kept.key_id.to_string();
        let wrong = || SealError::Wrong { key_id: hex.clone() };
        let pkcs8 = self.seal.unseal(self.head_label(&hex), &kept.sealed_key)?;
        let pair = Ed25519KeyPair::from_pkcs8(&pkcs8).map_err(|_| wrong())?;
        let (_, certificate) = x509_parser::parse_x509_certificate(&kept.certificate).map_err(|_| wrong())?;
        let not_after = Timestamp::from_unix_seconds(certificate.validity().not_after.timestamp());
        Ok(Held { signs_from: kept.signs_from, not_after, pem: pem("CERTIFICATE", &kept.certificate), pair })
    }

    fn head_label<'a>(&'a self, key_id: &'a str) -> KeyLabel<'a> {
        KeyLabel { kind: "head", key_id, trust_domain: self.trust_domain.as_str() }
    }
}

fn public(pair: &Ed25519KeyPair) -> [u8; 32] {
    let mut public = [0; 32];
    public.copy_from_slice(pair.public_key().as_ref());
    public
}

/// RFC 7093 §2 method 1, as its certificate says it.
fn key_id(public: &[u8; 32]) -> KeyId {
    let mut id = [0; 20];
    id.iter_mut().zip((CRYPTO.sha256)(public)).for_each(|(id, byte)| *id = byte);
    KeyId::from_bytes(id)
}
