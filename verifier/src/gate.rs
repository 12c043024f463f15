//! The order in which revocations and new connections pass each other.
//!
//! Revoke: publish the state, then scan the registry. Accept: enter the registry, then look the peer up in the state of
//! then. Whichever comes first, one of the two finds the other: no connection slips between verdict and registration.

use std::sync::Arc;
#[cfg(feature = "tokio")]
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};

#[cfg(feature = "tokio")]
use crate::registry::{Closed, Entry, Registry};
#[cfg(feature = "tokio")]
use crate::{Denial, Peer};

/// What peers are held against.
#[cfg(feature = "tokio")]
pub(crate) trait Verdicts: Send + Sync + 'static {
    /// What ends the peer, if anything known does.
    fn hit(&self, peer: &Peer) -> Result<(), Denial>;
}

/// The present state, and the connections that were let in under it or an earlier one.
pub(crate) struct Gate<S> {
    state: ArcSwap<S>,
    #[cfg(feature = "tokio")]
    registry: Arc<Registry>,
}

impl<S> Gate<S> {
    pub(crate) fn new(state: S) -> Self {
        Self {
            state: ArcSwap::from_pointee(state),
            #[cfg(feature = "tokio")]
            registry: Arc::default(),
        }
    }

    pub(crate) fn state(&self) -> Guard<Arc<S>> {
        point();
        self.state.load()
    }

    /// The next state, in which nothing ends that did not end before.
    pub(crate) fn replace(&self, next: Arc<S>) {
        self.state.store(next);
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }
}

#[cfg(feature = "tokio")]
impl<S: Verdicts> Gate<S> {
    /// First the state, then the connections: those of peers that it ends are cut.
    pub(crate) fn publish(&self, next: Arc<S>, now: Instant) -> Closed {
        point();
        self.state.store(Arc::clone(&next));
        point();
        let ended = |peer: &Peer| {
            point();
            next.hit(peer).is_err()
        };
        self.registry.cut_where(ended, now)
    }

    /// First the registry, then the state. The connection leaves when the entry is dropped.
    pub(crate) fn admit(&self, peer: &Peer, ends_at: Instant) -> Result<Entry, Denial> {
        point();
        let entry = self.registry.enter(peer.clone(), ends_at);
        self.state().hit(peer)?;
        Ok(entry)
    }
}

/// Where a test may let another thread go first.
#[cfg(not(test))]
const fn point() {}

#[cfg(test)]
use crate::interleave::point;

#[cfg(all(test, feature = "tokio"))]
mod tests {
    use std::sync::Mutex;
    use std::task::{Context, Waker};
    use std::time::{Duration, Instant};

    use chancery_identity::{Certificate, KeyId, ScopeSet, Serial, Timestamp};

    use super::*;
    use crate::chain::Verified;
    use crate::interleave::every_order;
    use crate::registry::Side;

    /// Which serials are revoked.
    struct Revoked(Vec<Serial>);

    impl Verdicts for Revoked {
        fn hit(&self, peer: &Peer) -> Result<(), Denial> {
            if self.0.contains(&peer.serial()) { Err(Denial::Revoked(peer.serial())) } else { Ok(()) }
        }
    }

    fn serial(n: u8) -> Serial {
        Serial::from_bytes(&[n + 1; 16]).unwrap()
    }

    fn peer(n: u8) -> Peer {
        let certificate = Certificate {
            spiffe_id: "spiffe://example.org/service/crm".parse().unwrap(),
            scopes: ScopeSet::default(),
            grant: None,
            serial: serial(n),
            authority: KeyId::from_bytes([1; 20]),
            not_before: Timestamp::from_unix_millis(0),
            not_after: Timestamp::from_unix_millis(1),
        };
        Peer::new(vec![].into(), Verified { certificate, dns_names: Vec::new(), links: Vec::new() })
    }

    struct World {
        gate: Gate<Revoked>,
        admitted: [Mutex<Option<Entry>>; 2],
        runtime: tokio::runtime::Runtime,
    }

    impl World {
        fn new() -> Self {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            Self { gate: Gate::new(Revoked(Vec::new())), admitted: Default::default(), runtime }
        }

        /// A connection as the listener lets it in, by this way of doing so.
        fn arrive(&self, n: u8, admit: impl Fn(&Self, &Peer) -> Result<Entry, Denial>) {
            let _runtime = self.runtime.enter();
            if let Ok(entry) = admit(self, &peer(n)) {
                *self.admitted[usize::from(n)].lock().unwrap() = Some(entry);
            }
        }

        fn admit(&self, peer: &Peer) -> Result<Entry, Denial> {
            self.gate.admit(peer, Instant::now() + Duration::from_secs(3600))
        }

        /// Whether this connection is served, and not cut.
        fn is_open(&self, n: usize) -> bool {
            let admitted = self.admitted[n].lock().unwrap();
            let cut = |entry: &Entry| entry.cut().poll(Side::Read, &Context::from_waker(Waker::noop()));
            admitted.as_ref().is_some_and(|entry| cut(entry).is_none())
        }
    }

    fn revoke_one(world: &World) {
        world.gate.publish(Arc::new(Revoked(vec![serial(1)])), Instant::now());
    }

    #[test]
    fn no_connection_slips_between_verdict_and_registration() {
        let runs = every_order(
            World::new,
            &[|world| world.arrive(1, World::admit), |world| world.arrive(0, World::admit), revoke_one],
            |world, order| {
                assert!(!world.is_open(1), "a revoked connection stays open when the threads go {order:?}");
                assert!(world.is_open(0), "another one is cut when the threads go {order:?}");
            },
        );
        assert!(runs > 500, "{runs} orders");
    }

    /// The test above can fail: verdict first and registration after it let one slip.
    #[test]
    fn the_other_order_lets_one_slip() {
        fn verdict_first(world: &World, peer: &Peer) -> Result<Entry, Denial> {
            world.gate.state().hit(peer)?;
            point();
            Ok(world.gate.registry.enter(peer.clone(), Instant::now() + Duration::from_secs(3600)))
        }
        let slipped = Mutex::new(0);
        every_order(World::new, &[|world| world.arrive(1, verdict_first), revoke_one], |world, _| {
            *slipped.lock().unwrap() += u32::from(world.is_open(1));
        });
        assert!(slipped.into_inner().unwrap() > 0);
    }
}
