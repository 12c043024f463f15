//! `join_token`: a secret made for one record. Bearer, so it is short-lived, counted, and hashed at rest.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chancery_api::{JoinToken, JoinTokenEvidence, Method};
use chancery_identity::{Attestation, Timestamp};

use crate::refusal::{Code, Refusal};
use crate::store::{Spent, Store};

use super::binding::sha256;
use super::{Attested, Attestor, Basis, Shown};

pub(super) struct JoinTokens {
    store: Store,
    /// By their digest: a fleet shows the same one again and again. That one is still there, and not spent, is for the commit
    /// to say.
    remembered: Mutex<HashMap<[u8; 32], Remembered>>,
}

struct Remembered {
    read_at: Timestamp,
    token: Arc<JoinToken>,
}

impl JoinTokens {
    pub(super) fn new(store: Store) -> Self {
        Self { store, remembered: Mutex::default() }
    }

    async fn find(&self, digest: [u8; 32], now: Timestamp) -> Result<Option<Arc<JoinToken>>, Refusal> {
        let remembered = || self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Remembered { read_at, token }) = remembered().get(&digest)
            && now.since(*read_at) < LATELY
        {
            return Ok(Some(token.clone()));
        }
        let Some(token) = self.store.join_token_by_secret(&digest).await?.map(Arc::new) else { return Ok(None) };
        let mut remembered = remembered();
        if remembered.len() >= REMEMBERED {
            remembered.clear();
        }
        remembered.insert(digest, Remembered { read_at: now, token: token.clone() });
        Ok(Some(token))
    }
}

impl Attestor for JoinTokens {
    type Evidence = JoinTokenEvidence;

    async fn attest(&self, evidence: &JoinTokenEvidence, shown: &Shown<'_>) -> Result<Attested, Refusal> {
        let digest = sha256(evidence.token.bytes());
        let found = self.find(digest, shown.now).await?;
        // A wrong secret learns nothing else.
        let token = found.ok_or_else(|| Refusal::new(Code::UnknownToken, "unknown token"))?;
        if token.expires_at <= shown.now {
            let detail = format!("the join token {} for {} ended at {}", token.id, token.subject, token.expires_at);
            let fix = Refusal::another_token(&token.subject);
            return Err(Refusal::new(Code::TokenExpired, detail).fix(fix));
        }
        if !token.cidrs.is_empty() && !shown.peer.is_some_and(|peer| token.cidrs.iter().any(|net| contains(net, peer)))
        {
            let detail = format!("the join token {} may not be used from here", token.id);
            return Err(Refusal::new(Code::NetworkRefused, detail).needs(&token.cidrs).holds(shown.peer));
        }
        Ok(Attested {
            subject: token.subject.clone(),
            attestation: Attestation { method: Method::JoinToken.as_str().into(), digest, at: shown.now },
            selectors: BTreeSet::new(),
            basis: Basis::First {
                spends: Spent { digest, expires_at: token.expires_at, token: Some(token.id), peer: shown.peer },
                // It cannot be shown again, so nothing but revocation ends what it began.
                session_end: None,
            },
        })
    }
}

/// A token that was deleted costs a commit that refuses it no longer than this.
const LATELY: Duration = Duration::from_secs(10);
/// Join tokens that are remembered.
const REMEMBERED: usize = 1024;

/// Whether a network in CIDR form holds the address. A form that cannot be read holds nothing.
pub(crate) fn contains(network: &str, address: IpAddr) -> bool {
    let Some((base, prefix)) = network.split_once('/') else { return false };
    let (Ok(base), Ok(prefix)) = (base.parse::<IpAddr>(), prefix.parse::<u32>()) else { return false };
    match (base, address.to_canonical()) {
        (IpAddr::V4(base), IpAddr::V4(address)) if prefix <= 32 => {
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            base.to_bits() & mask == address.to_bits() & mask
        }
        (IpAddr::V6(base), IpAddr::V6(address)) if prefix <= 128 => {
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            base.to_bits() & mask == address.to_bits() & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_network_holds_its_own_addresses_only() {
        for (network, address, held) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("192.0.2.1/32", "192.0.2.1", true),
            ("192.0.2.1/32", "192.0.2.2", false),
            ("2001:db8::/32", "2001:db8::1", true),
            ("::/0", "192.0.2.1", false),
            ("10.0.0.0/33", "10.0.0.1", false),
            ("10.0.0.0", "10.0.0.0", false),
        ] {
            assert_eq!(contains(network, address.parse().unwrap()), held, "{address} in {network}");
        }
    }
}
