//! What one peer, and all together, may ask of the routes that anybody can reach, and how many may wait or listen.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chancery_identity::{Actor, SpiffeId};
use chancery_verifier::network;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, NotUntil, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::metrics::Tally;
use crate::refusal::{Code, Refusal};

/// How much is too much.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_structs, reason = "made by struct update from its default")]
pub struct Rates {
    /// Attestations, challenges and bearer tokens a second from one address (a /64 for IPv6).
    pub peer_per_s: NonZeroU32,
    /// The same from all addresses.
    pub total_per_s: NonZeroU32,
    /// Open waits of one identity.
    pub waits_per_identity: u32,
    /// Open waits in all.
    pub waits_max: u32,
    /// Open feeds of one identity: its replicas have one each.
    pub feeds_per_identity: u32,
    /// Open feeds in all.
    pub feeds_max: u32,
    /// Refusals a second of one caller that get an entry in the log.
    pub denials_logged_per_s: NonZeroU32,
}

impl Default for Rates {
    fn default() -> Self {
        const fn at_least_one(rate: u32) -> NonZeroU32 {
            match NonZeroU32::new(rate) {
                Some(rate) => rate,
                None => NonZeroU32::MIN,
            }
        }
        Self {
            peer_per_s: at_least_one(100),
            total_per_s: at_least_one(5_000),
            waits_per_identity: 8,
            waits_max: 100_000,
            feeds_per_identity: 256,
            feeds_max: 4_096,
            denials_logged_per_s: at_least_one(1),
        }
    }
}

/// Keeps count.
pub(super) struct Limits {
    peers: DefaultKeyedRateLimiter<IpAddr>,
    total: DefaultDirectRateLimiter,
    denials: DefaultKeyedRateLimiter<String>,
    waits: Places,
    feeds: Places,
    hits: Tally,
}

/// Places for what stays open, so many for one identity and so many in all.
struct Places {
    all: Arc<Semaphore>,
    per_identity: u32,
    taken: Arc<Mutex<HashMap<Actor, u32>>>,
}

/// Above this many callers remembered, those that asked nothing lately are forgotten.
const REMEMBERED: usize = 10_000;

impl Limits {
    /// Counts in `hits` whom they keep out.
    pub(super) fn new(rates: Rates, hits: Tally) -> Self {
        Self {
            peers: RateLimiter::keyed(Quota::per_second(rates.peer_per_s)),
            total: RateLimiter::direct(Quota::per_second(rates.total_per_s)),
            denials: RateLimiter::keyed(Quota::per_second(rates.denials_logged_per_s)),
            waits: Places::new(rates.waits_per_identity, rates.waits_max),
            feeds: Places::new(rates.feeds_per_identity, rates.feeds_max),
            hits,
        }
    }

    /// Counts a request that anybody can make, before anything that costs.
    pub(super) fn admit(&self, address: IpAddr) -> Result<(), Refusal> {
        if self.peers.len() > REMEMBERED {
            self.peers.retain_recent();
        }
        let seconds = |not_until: NotUntil<_>| {
            let wait = not_until.wait_time_from(DefaultClock::default().now());
            u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1)
        };
        self.peers.check_key(&network(address)).map_err(|not_until| {
            self.hits.add("requests_of_peer");
            Refusal::new(Code::TooManyRequests, format!("too many requests from {address}")).after(seconds(not_until))
        })?;
        self.total.check().map_err(|not_until| {
            self.hits.add("requests");
            Refusal::new(Code::Overloaded, "too many requests from all callers together").after(seconds(not_until))
        })
    }

    /// Whether a refusal of this caller gets an entry in the log; one who is refused all the time does not fill it.
    pub(super) fn logs_denial(&self, actor: &Actor) -> bool {
        if self.denials.len() > REMEMBERED {
            self.denials.retain_recent();
        }
        let logs = self.denials.check_key(&actor.to_string()).is_ok();
        if !logs {
            self.hits.add("denials_logged");
        }
        logs
    }

    /// A place to wait in. Waits are the first thing to be shed.
    pub(super) fn wait(&self, identity: &Actor) -> Result<Place, Refusal> {
        self.waits.take(identity).map_err(|full| match full {
            Full::All => {
                self.hits.add("waits");
                Refusal::new(Code::Overloaded, "too many wait for changes").after(60)
            }
            Full::Identity => {
                self.hits.add("waits_of_identity");
                Refusal::new(Code::Overloaded, "this identity waits for changes too many times at once").after(60)
            }
        })
    }

    /// A place at the feed.
    pub(super) fn feed(&self, identity: &SpiffeId) -> Result<Place, Refusal> {
        self.feeds.take(&Actor::Holder(identity.clone())).map_err(|full| match full {
            Full::All => {
                self.hits.add("feeds");
                Refusal::new(Code::Overloaded, "too many read the feed")
            }
            Full::Identity => {
                self.hits.add("feeds_of_identity");
                Refusal::new(Code::TooManyRequests, format!("{identity} reads the feed too many times"))
            }
        })
    }
}

/// There is no place.
enum Full {
    All,
    Identity,
}

impl Places {
    fn new(per_identity: u32, all: u32) -> Self {
        let all = Arc::new(Semaphore::new(usize::try_from(all).unwrap_or(usize::MAX)));
        Self { all, per_identity, taken: Arc::default() }
    }

    fn take(&self, identity: &Actor) -> Result<Place, Full> {
        let permit = Arc::clone(&self.all).try_acquire_owned().map_err(|_| Full::All)?;
        let mut taken = lock(&self.taken);
        let count = taken.entry(identity.clone()).or_default();
        if *count >= self.per_identity {
            return Err(Full::Identity);
        }
        *count += 1;
        drop(taken);
        Ok(Place { taken: Arc::clone(&self.taken), identity: identity.clone(), _permit: permit })
    }
}

/// A place, given back on drop.
pub(super) struct Place {
    taken: Arc<Mutex<HashMap<Actor, u32>>>,
    identity: Actor,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        if let Some(count) = taken.get_mut(&self.identity) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.identity);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use chancery_identity::Timestamp;

    use super::*;
    use crate::metrics::Counts;

    fn limits(peer: u32, total: u32) -> Limits {
        let rate = |n| NonZeroU32::new(n).unwrap();
        let rates = Rates {
            peer_per_s: rate(peer),
            total_per_s: rate(total),
            waits_per_identity: 2,
            waits_max: 3,
            feeds_per_identity: 2,
            feeds_max: 3,
            ..Rates::default()
        };
        Limits::new(rates, Counts::new(Timestamp::from_unix_seconds(0)).capped)
    }

    #[test]
    fn one_peer_does_not_use_up_the_others_share() {
        let limits = limits(2, 1_000);
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        assert!(limits.admit(one).is_ok() && limits.admit(one).is_ok());
        let refused = limits.admit(one).unwrap_err();
        assert_eq!((refused.code(), refused.retry_after_s()), (Code::TooManyRequests, Some(1)));
        assert!(limits.admit(other).is_ok());
    }

    #[test]
    fn a_network_of_ipv6_is_one_peer() {
        let limits = limits(1, 1_000);
        assert!(limits.admit("2001:db8::1".parse().unwrap()).is_ok());
        assert!(limits.admit("2001:db8::2".parse().unwrap()).is_err());
        assert!(limits.admit("2001:db8:0:1::1".parse().unwrap()).is_ok());
    }

    #[test]
    fn all_together_have_a_bound_too() {
        let limits = limits(1, 2);
        let admitted = (0..10_u8).filter(|&n| limits.admit([192, 0, 2, n].into()).is_ok()).count();
        assert_eq!(admitted, 2);
    }

    #[test]
    fn feeds_are_bounded_by_identity_and_in_all() {
        let limits = limits(1, 1);
        let [a, b] = ["a", "b"].map(|name| format!("spiffe://example.org/service/{name}").parse::<SpiffeId>().unwrap());
        let refused = |identity| limits.feed(identity).err().unwrap().code();
        let first = limits.feed(&a).ok().unwrap();
        let _second = limits.feed(&a).ok().unwrap();
        assert_eq!(refused(&a), Code::TooManyRequests);
        let _third = limits.feed(&b).ok().unwrap();
        assert_eq!(refused(&b), Code::Overloaded);
        drop(first);
        assert!(limits.feed(&b).is_ok());
    }

    #[test]
    fn waits_are_bounded_and_given_back() {
        let limits = limits(1, 1);
        let [a, b] = ["a", "b"].map(|name| format!("spiffe://example.org/service/{name}").parse::<Actor>().unwrap());
        let first = limits.wait(&a).ok().unwrap();
        let _second = limits.wait(&a).ok().unwrap();
        assert_eq!(limits.wait(&a).err().unwrap().retry_after_s(), Some(60));
        let _third = limits.wait(&b).ok().unwrap();
        assert!(limits.wait(&b).is_err());
        drop(first);
        assert!(limits.wait(&a).is_ok());
        drop(_second);
        drop(_third);
        assert!(lock(&limits.waits.taken).is_empty());
    }
}
