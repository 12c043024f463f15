//! Nonces for signing attestors: stateless until redeemed, so that nobody can fill a table by asking.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SecureRandom;

use chancery_identity::Timestamp;

use crate::store::REPLAY;

/// How long a nonce can be redeemed.
pub(super) const NONCE_LIFE: Duration = Duration::from_secs(60);

const RANDOM_LEN: usize = 16;
const EXPIRY_LEN: usize = 8;
const TAG_LEN: usize = 32;

/// Makes nonces and knows its own again. Under a key that lasts, so that a reply lost in a crash can be asked for again.
pub(super) struct Challenges {
    key: hmac::Key,
}

/// A nonce of ours that is not expired, or not so long that nothing it bought can be asked for again. Single use is the
/// store's to keep: it spends `digest` with what it buys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Redeemable {
    /// SHA-256 of the nonce.
    pub(super) digest: [u8; 32],
    /// When the nonce expires: what it did not buy by then it never does.
    pub(super) expires_at: Timestamp,
}

impl Challenges {
    /// Under the issuer's key.
    pub(super) const fn new(key: hmac::Key) -> Self {
        Self { key }
    }

    /// A nonce and when it expires.
    ///
    /// # Errors
    /// No randomness.
    pub(super) fn draw(
        &self,
        now: Timestamp,
        rng: &dyn SecureRandom,
    ) -> Result<(String, Timestamp), ring::error::Unspecified> {
        let expires_at = now + NONCE_LIFE;
        let mut bytes = vec![0; RANDOM_LEN];
        rng.fill(&mut bytes)?;
        bytes.extend_from_slice(&expires_at.unix_millis().to_be_bytes());
        let tag = hmac::sign(&self.key, &bytes);
        bytes.extend_from_slice(tag.as_ref());
        Ok((URL_SAFE_NO_PAD.encode(bytes), expires_at))
    }

    /// Knows a nonce again; `None` when it is not ours, altered, or worth nothing to anybody any more.
    pub(super) fn redeem(&self, nonce: &str, now: Timestamp) -> Option<Redeemable> {
        let bytes = URL_SAFE_NO_PAD.decode(nonce).ok().filter(|b| b.len() == RANDOM_LEN + EXPIRY_LEN + TAG_LEN)?;
        let (signed, tag) = bytes.split_at_checked(RANDOM_LEN + EXPIRY_LEN)?;
        hmac::verify(&self.key, signed, tag).ok()?;
        let expiry = signed.get(RANDOM_LEN..)?.try_into().map(i64::from_be_bytes).ok()?;
        let expires_at = Timestamp::from_unix_millis(expiry);
        let digest = ring::digest::digest(&ring::digest::SHA256, nonce.as_bytes()).as_ref().try_into().ok()?;
        (now < expires_at + REPLAY).then_some(Redeemable { digest, expires_at })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use ring::rand::SystemRandom;

    use super::*;

    #[test]
    fn a_nonce_is_known_again_for_as_long_as_it_can_matter_and_by_its_maker_only() {
        let (rng, now) = (SystemRandom::new(), Timestamp::from_unix_seconds(1_795_000_000));
        let key = || hmac::Key::generate(hmac::HMAC_SHA256, &rng).unwrap();
        let challenges = Challenges::new(key());
        let (nonce, expires_at) = challenges.draw(now, &rng).unwrap();
        assert_eq!(challenges.redeem(&nonce, now).unwrap().expires_at, expires_at);
        assert!(challenges.redeem(&nonce, expires_at).is_some_and(|late| late.expires_at <= expires_at));
        assert_eq!(challenges.redeem(&nonce, expires_at + REPLAY), None);
        assert_eq!(Challenges::new(key()).redeem(&nonce, now), None);

        for at in 0..nonce.len() {
            let mut altered = nonce.clone().into_bytes();
            let byte = altered.get_mut(at).unwrap();
            *byte = if *byte == b'A' { b'B' } else { b'A' };
            assert_eq!(challenges.redeem(std::str::from_utf8(&altered).unwrap(), now), None, "character {at}");
        }
    }
}
