//! The keys that sign heads: Ed25519, certified by the root, sealed at rest, each announced before it signs.

use std::sync::Arc;
use std::time::Duration;

use chancery_ca::HeadKeyCertificate;
use chancery_ca::local::{CRYPTO, LocalSigner};
use chancery_identity::{KeyId, Timestamp, TrustDomain};
use ring::signature::Ed25519KeyPair;

use super::{Authorities, KeyLabel, OpenError, SealError};
use crate::issuance::pem;
use crate::store::{Cause, HeadKey, PutHeadKey};

/// How long a successor is announced before it signs, so that no verifier meets a head by a key that it was not told of.
const ANNOUNCED: Duration = Duration::from_secs(24 * 3600);

/// The keys that sign heads, now and next, in memory; in the order in which they sign.
#[derive(Clone, Default)]
pub struct HeadKeys {
    keys: Vec<Arc<Held>>,
}

struct Held {
    signs_from: Timestamp,
    certificate: HeadKeyCertificate,
    pem: String,
    pair: Ed25519KeyPair,
}

impl HeadKeys {
    /// The certificates of all that sign or will, in PEM.
    pub fn certificates(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| key.pem.as_str())
    }

    /// Each key and when it ends.
    pub(crate) fn ends(&self) -> impl Iterator<Item = (KeyId, Timestamp)> {
        self.keys.iter().map(|key| (key.certificate.key_id(CRYPTO), key.certificate.not_after()))
    }

    /// The id of the newest key.
    pub(crate) fn newest(&self) -> Option<KeyId> {
        self.keys.last().map(|key| key.certificate.key_id(CRYPTO))
    }

    /// When the newest key ends.
    pub(crate) fn end(&self) -> Option<Timestamp> {
        self.keys.last().map(|key| key.certificate.not_after())
    }

    /// The key that signs now; `None` when all are over. Where the one before it ended early, a successor signs before
    /// its time: a silent feed would be worse.
    pub(crate) fn signing(&self, now: Timestamp) -> Option<HeadSigner<'_>> {
        let mut lasting = self.keys.iter().filter(|key| key.certificate.not_after() >= now);
        let announced = lasting.clone().rfind(|key| key.signs_from <= now);
        announced.or_else(|| lasting.next()).map(|key| HeadSigner(key))
    }

    fn is_due(&self, root_ends: Timestamp, now: Timestamp) -> bool {
        let Some(newest) = self.keys.last() else { return true };
        let (from, to) = (newest.certificate.not_before(), newest.certificate.not_after());
        // A successor that would end with it, as the root does, gains nothing.
        now > to || (now >= from + to.since(from) / 2 && root_ends > to)
    }
}

/// When a key that is certified now begins to sign: those that are kept may sign until then.
pub(super) fn signs_from(kept: &[HeadKey], now: Timestamp) -> Timestamp {
    let signs = |key: &HeadKey| {
        let certificate = HeadKeyCertificate::read(key.certificate.clone());
        key.signs_from <= now && certificate.is_ok_and(|certificate| certificate.not_after() >= now)
    };
    // Where nobody knows another there is nothing to announce it by.
    if kept.iter().any(signs) { now + ANNOUNCED } else { now }
}

/// A key that signs heads.
pub(crate) struct HeadSigner<'a>(&'a Held);

impl HeadSigner<'_> {
    pub(crate) const fn public(&self) -> [u8; 32] {
        *self.0.certificate.public_key()
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.0.pair.sign(message).as_ref());
        signature
    }
}

impl Authorities {
    /// The keys that sign heads, now and next.
    pub fn head_keys(&self) -> Arc<HeadKeys> {
        self.head_keys.load_full()
    }

    /// Makes a successor when half of the newest key's time is over, and forgets what is over. A root elsewhere certifies
    /// none unasked: warnings ask for it.
    ///
    /// # Errors
    /// A seal that does not open, a root that does not sign, a database that does not commit; the keys that were there
    /// stand.
    pub async fn succeed_head_key(&self, now: Timestamp) -> Result<(), OpenError> {
        let is_over = |key: &Arc<Held>| key.certificate.not_after() < now;
        if self.head_keys.load().keys.iter().any(is_over) {
            self.head_keys.rcu(|all| HeadKeys { keys: all.keys.iter().filter(|key| !is_over(key)).cloned().collect() });
        }
        if !self.root_is_here() || !self.head_key_due(now) {
            return Ok(());
        }
        // No head waits for a ceremony: the next beat tries again.
        let Ok(_one_at_a_time) = self.ceremony.try_lock() else { return Ok(()) };
        // What is recorded and was not read again is there already.
        self.load_head_keys(now).await?;
        if self.head_key_due(now) { self.make_head_key(now).await } else { Ok(()) }
    }

    pub(super) fn head_key_due(&self, now: Timestamp) -> bool {
        self.head_keys.load().is_due(self.root.not_after(), now)
    }

    /// Reads the keys that the database keeps, and are not over. From the next head on all verifiers are told of them.
    pub(super) async fn load_head_keys(&self, now: Timestamp) -> Result<(), OpenError> {
        let mut keys = Vec::new();
        for key in self.store.head_keys().await? {
            let held = self.unseal_head_key(key)?;
            if held.certificate.not_after() >= now {
                keys.push(Arc::new(held));
            }
        }
        let before = self.head_keys.swap(Arc::new(HeadKeys { keys }));
        let after = self.head_keys();
        if let Some(newest) = after.keys.last().filter(|_| after.newest() != before.newest()) {
            let (key_id, signs_from) = (newest.certificate.key_id(CRYPTO), newest.signs_from);
            tracing::info!(%key_id, %signs_from, "the newest key that signs heads");
        }
        Ok(())
    }

    /// Nothing is signed by a key that is not kept.
    async fn make_head_key(&self, now: Timestamp) -> Result<(), OpenError> {
        let pkcs8 = LocalSigner::generate_ed25519_pkcs8(&self.rng)?;
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).map_err(|_| SealError::Random)?;
        let mut public = [0; 32];
        public.copy_from_slice(ring::signature::KeyPair::public_key(&pair).as_ref());
        let serial = self.ceremony_at(now).serial()?;
        let certificate = self.unseal_root()?.certify_head_key(public, &self.status, now, serial).await?;
        let key_id = HeadKeyCertificate::read(certificate.clone())?.key_id(CRYPTO);
        let sealed_key =
            self.seal.seal(head_label(&self.trust_domain, &key_id.to_string()), pkcs8.as_ref(), &self.rng)?;
        let signs_from = signs_from(&self.store.head_keys().await?, now);
        let key = HeadKey { key_id, signs_from, certificate, sealed_key };
        let _kept = self.store.commit(PutHeadKey { cause: Cause::ISSUER, key }).await?;
        self.load_head_keys(now).await
    }

    fn unseal_head_key(&self, kept: HeadKey) -> Result<Held, OpenError> {
        let hex = kept.key_id.to_string();
        let wrong = || SealError::Wrong { key_id: hex.clone() };
        let pkcs8 = self.seal.unseal(head_label(&self.trust_domain, &hex), &kept.sealed_key)?;
        let pair = Ed25519KeyPair::from_pkcs8(&pkcs8).map_err(|_| wrong())?;
        let pem = pem("CERTIFICATE", &kept.certificate);
        Ok(Held { signs_from: kept.signs_from, certificate: HeadKeyCertificate::read(kept.certificate)?, pem, pair })
    }
}

pub(super) fn head_label<'a>(trust_domain: &'a TrustDomain, key_id: &'a str) -> KeyLabel<'a> {
    KeyLabel { kind: "head", key_id, trust_domain: trust_domain.as_str() }
}
