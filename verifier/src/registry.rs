//! The open connections, so that what is revoked or over can be cut.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Waker};
use std::time::Instant;

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::Peer;

/// The open connections of one verifier. A connection enters before its peer is looked up for the last time, and a
/// revocation is published before this is scanned: whichever comes first, one of the two finds the other.
#[derive(Default)]
pub(crate) struct Registry {
    shared: Arc<Shared>,
    /// Cuts connections whose certificate ends; runs from the first connection on.
    cutter: OnceLock<AbortHandle>,
}

#[derive(Default)]
struct Shared {
    open: Mutex<Open>,
    /// A connection entered that ends before all others.
    earlier: Notify,
}

#[derive(Default)]
struct Open {
    next: u64,
    connections: HashMap<u64, (Peer, Arc<Cut>)>,
    ends: BTreeSet<(Instant, u64)>,
}

impl Registry {
    /// Enters a connection, to be cut at an instant at the latest. It leaves when the entry is dropped. Only within a
    /// tokio runtime.
    pub(crate) fn enter(self: &Arc<Self>, peer: Peer, ends_at: Instant) -> Entry {
        self.cutter.get_or_init(|| {
            let shared = Arc::clone(&self.shared);
            tokio::spawn(async move { shared.cut_when_over().await }).abort_handle()
        });
        let cut = Arc::new(Cut::default());
        let mut open = self.shared.lock();
        let id = open.next;
        open.next += 1;
        open.connections.insert(id, (peer, Arc::clone(&cut)));
        let first_before = open.ends.first().copied();
        open.ends.insert((ends_at, id));
        if first_before.is_none_or(|first| (ends_at, id) < first) {
            self.shared.earlier.notify_one();
        }
        drop(open);
        Entry { registry: Arc::clone(self), id, ends_at, cut }
    }

    /// Cuts the connections of these peers. Verdicts are reached outside the lock.
    pub(crate) fn cut_where(&self, ended: impl Fn(&Peer) -> bool) {
        let connections: Vec<_> = self.shared.lock().connections.values().cloned().collect();
        for (_, cut) in connections.iter().filter(|(peer, _)| ended(peer)) {
            cut.cut(CutReason::Revoked);
        }
    }

    /// How many connections are open.
    pub(crate) fn len(&self) -> usize {
        self.shared.lock().connections.len()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Some(cutter) = self.cutter.get() {
            cutter.abort();
        }
    }
}

impl Shared {
    /// Cuts each connection when its certificate ends. Never returns.
    async fn cut_when_over(&self) {
        loop {
            let first = self.lock().ends.first().map(|&(at, _)| at);
            match first {
                None => self.earlier.notified().await,
                Some(at) => {
                    let over = tokio::time::timeout_at(at.into(), self.earlier.notified()).await.is_err();
                    if over {
                        self.cut_until(at);
                    }
                }
            }
        }
    }

    fn cut_until(&self, at: Instant) {
        let mut open = self.lock();
        let later = open.ends.split_off(&(at, u64::MAX));
        let over = std::mem::replace(&mut open.ends, later);
        let cuts: Vec<_> =
            over.iter().filter_map(|(_, id)| open.connections.get(id).map(|(_, cut)| Arc::clone(cut))).collect();
        drop(open);
        for cut in cuts {
            cut.cut(CutReason::Expired);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place in the registry. Lives in the I/O object, so that it outlives the future that serves HTTP, as
/// an upgraded connection does.
pub(crate) struct Entry {
    registry: Arc<Registry>,
    id: u64,
    ends_at: Instant,
    cut: Arc<Cut>,
}

impl Entry {
    pub(crate) fn cut(&self) -> &Arc<Cut> {
        &self.cut
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut open = self.registry.shared.lock();
        open.connections.remove(&self.id);
        open.ends.remove(&(self.ends_at, self.id));
    }
}

/// Why a connection was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CutReason {
    Revoked,
    Expired,
}

/// One side of a connection, which one task at a time waits on.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    Read,
    Write,
}

/// The switch in a connection's I/O object.
#[derive(Default)]
pub(crate) struct Cut(Mutex<Switch>);

#[derive(Default)]
struct Switch {
    reason: Option<CutReason>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Cut {
    /// Whether the connection was cut; if not, wakes this task when it is.
    pub(crate) fn poll(&self, side: Side, cx: &Context<'_>) -> Option<CutReason> {
        let mut switch = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if switch.reason.is_none() {
            let slot = match side {
                Side::Read => &mut switch.reader,
                Side::Write => &mut switch.writer,
            };
            match slot {
                Some(waker) => waker.clone_from(cx.waker()),
                None => *slot = Some(cx.waker().clone()),
            }
        }
        switch.reason
    }

    fn cut(&self, reason: CutReason) {
        let mut switch = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if switch.reason.is_some() {
            return;
        }
        switch.reason = Some(reason);
        let wakers = [switch.reader.take(), switch.writer.take()];
        drop(switch);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}
