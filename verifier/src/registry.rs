//! The open connections, so that what is revoked or over can be cut.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use chancery_identity::{KeyId, Scope, Serial, Timestamp};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::Peer;

/// The longest that a server may take to say goodbye to a peer before the connection is cut.
const FAREWELL_MAX: Duration = Duration::from_millis(50);

/// Peers without a connection whose last request is remembered, the latest.
const LEFT_MAX: usize = 512;

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
    /// There is a connection that ends before all others.
    earlier: Notify,
}

#[derive(Default)]
struct Open {
    next: u64,
    connections: HashMap<u64, Entered>,
    ends: BTreeSet<(Instant, u64)>,
    /// Peers that were served and have left, or never had a connection here: when they are revoked, what they did last is
    /// told too.
    left: HashMap<(KeyId, Serial), Peer>,
}

#[derive(Clone)]
struct Entered {
    peer: Peer,
    cut: Arc<Cut>,
    ends_at: Instant,
}

impl Registry {
    /// Enters a connection, to be cut at an instant at the latest. It leaves when the entry is dropped. Only within a
    /// tokio runtime.
    pub(crate) fn enter(self: &Arc<Self>, peer: Peer, ends_at: Instant) -> Entry {
        self.cutter.get_or_init(|| {
            let shared = Arc::clone(&self.shared);
            tokio::spawn(async move { shared.cut_when_over().await }).abort_handle()
        });
        peer.entered();
        let cut = Arc::new(Cut::default());
        let mut open = self.shared.lock();
        let id = open.next;
        open.next += 1;
        open.connections.insert(id, Entered { peer, cut: Arc::clone(&cut), ends_at });
        self.shared.end_at(&mut open, id, ends_at);
        drop(open);
        Entry { registry: Arc::clone(self), id, cut }
    }

    /// Cuts the connections of these peers, or has their servers say goodbye first; and says what they did last, unless they
    /// had ended before. Verdicts are reached outside the lock.
    pub(crate) fn cut_where(
        &self,
        ended: impl Fn(&Peer) -> bool,
        before: impl Fn(&Peer) -> bool,
        now: Instant,
    ) -> Closed {
        let connections: Vec<_> =
            self.shared.lock().connections.iter().map(|(id, entered)| (*id, entered.clone())).collect();
        let mut closed = Closed::default();
        for (id, entered) in connections.iter().filter(|(_, entered)| ended(&entered.peer)) {
            let told = match entered.cut.end(CutReason::Revoked) {
                Ended::Before => continue,
                Ended::Now => None,
                Ended::Told => {
                    let until = now + FAREWELL_MAX;
                    self.shared.end_at(&mut self.shared.lock(), *id, until);
                    Some(until)
                }
            };
            closed.add(Closed { connections: 1, last_accepted: entered.peer.last_accepted(), by: told });
        }
        // After the others, so that one that left meanwhile is found here.
        let left: Vec<_> = self.shared.lock().left.values().cloned().collect();
        for peer in left.iter().filter(|peer| ended(peer)) {
            let told = self.shared.lock().left.remove(&certificate(peer));
            // One that was let through as an earlier entry was published is none of this one's.
            let told = told.filter(|peer| !before(peer)).and_then(|peer| peer.last_accepted());
            closed.add(Closed { connections: 0, last_accepted: told, by: None });
        }
        closed
    }

    /// Cuts the connections that had until then at the latest, for whoever cannot wait for the task that does.
    pub(crate) fn cut_over(&self, at: Instant) {
        self.shared.cut_until(at);
    }

    /// Remembers what a peer did last that has no connection here, as one that a proxy forwards.
    pub(crate) fn remember(&self, peer: &Peer) {
        self.shared.lock().leave(peer);
    }

    /// The open connections by the certificate of their peer, unless more than `most` peers have some.
    pub(crate) fn by_serial(&self, most: usize) -> Option<Vec<(Serial, u32)>> {
        let mut open: HashMap<Serial, u32> = HashMap::new();
        for entered in self.shared.lock().connections.values() {
            *open.entry(entered.peer.serial()).or_default() += 1;
            if open.len() > most {
                return None;
            }
        }
        Some(open.into_iter().collect())
    }

    /// How many connections are open.
    pub(crate) fn len(&self) -> usize {
        self.shared.lock().connections.len()
    }

    /// How many peers a revocation is held against.
    pub(crate) fn scanned(&self) -> usize {
        let open = self.shared.lock();
        open.connections.len() + open.left.len()
    }
}

/// Connections that were closed because of revocations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) connections: u64,
    /// The last request that was let through, on one of them or of a peer that has none any more, and the scope it needed.
    pub(crate) last_accepted: Option<(Timestamp, Scope)>,
    /// When the last of them is closed at the latest, where servers say goodbye first.
    pub(crate) by: Option<Instant>,
}

impl Closed {
    pub(crate) fn add(&mut self, more: Self) {
        self.connections += more.connections;
        self.last_accepted = self.last_accepted.take().max(more.last_accepted);
        self.by = self.by.max(more.by);
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
        let cuts: Vec<_> = over
            .iter()
            .filter_map(|(_, id)| open.connections.get(id).map(|entered| (*id, Arc::clone(&entered.cut))))
            .collect();
        drop(open);
        for (id, cut) in cuts {
            match cut.end(CutReason::Expired) {
                Ended::Told => self.end_at(&mut self.lock(), id, at + FAREWELL_MAX),
                Ended::Now | Ended::Before => cut.now(CutReason::Expired),
            }
        }
    }

    /// Has a connection cut then, if it is still open, instead of whenever else it was to be.
    fn end_at(&self, open: &mut Open, id: u64, at: Instant) {
        let Some(entered) = open.connections.get_mut(&id) else { return };
        let before = std::mem::replace(&mut entered.ends_at, at);
        open.ends.remove(&(before, id));
        let first = open.ends.first().copied();
        open.ends.insert((at, id));
        if first.is_none_or(|first| (at, id) < first) {
            self.earlier.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn leave(&mut self, peer: &Peer) {
        let Some(newest) = peer.last_accepted() else { return };
        let certificate = certificate(peer);
        if self.left.get(&certificate).is_some_and(|other| other.last_accepted().as_ref() > Some(&newest)) {
            return;
        }
        if self.left.len() >= LEFT_MAX && !self.left.contains_key(&certificate) {
            // The older half goes at once, so that not each one that comes is a search for the oldest.
            let at = |peer: &Peer| peer.last_accepted().map(|(at, _)| at);
            let mut all: Vec<_> = self.left.iter().map(|(certificate, peer)| (at(peer), *certificate)).collect();
            all.sort_unstable();
            all.truncate(LEFT_MAX / 2);
            all.iter().for_each(|(_, certificate)| drop(self.left.remove(certificate)));
        }
        self.left.insert(certificate, peer.clone());
    }
}

fn certificate(peer: &Peer) -> (KeyId, Serial) {
    (peer.authority(), peer.serial())
}

/// A connection's place in the registry. Lives in the I/O object, so that it outlives the future that serves HTTP, as
/// an upgraded connection does.
pub(crate) struct Entry {
    registry: Arc<Registry>,
    id: u64,
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
        if let Some(Entered { ends_at, peer, cut }) = open.connections.remove(&self.id) {
            open.ends.remove(&(ends_at, self.id));
            if !cut.is_revoked() {
                open.leave(&peer);
            }
        }
    }
}

/// Why a connection was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CutReason {
    Revoked,
    Expired,
}

/// What came of the order to end a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// It was ended before.
    Before,
    /// It is cut.
    Now,
    /// Its server is told.
    Told,
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
    state: State,
    /// Whether a server waits for word that it is to say goodbye.
    polite: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    server: Option<Waker>,
}

#[derive(Clone, Copy, Default)]
enum State {
    #[default]
    Open,
    /// The server is to say goodbye.
    Told(CutReason),
    /// It has said so; what it said is on its way to the socket.
    #[cfg_attr(not(feature = "axum"), expect(dead_code, reason = "the server that says so comes with axum"))]
    Leaving(CutReason),
    Cut(CutReason),
}

impl Cut {
    /// Whether the connection was cut; if not, wakes this task when it is.
    pub(crate) fn poll(&self, side: Side, cx: &Context<'_>) -> Option<CutReason> {
        let mut switch = self.lock();
        if let State::Cut(reason) = switch.state {
            return Some(reason);
        }
        let slot = match side {
            Side::Read => &mut switch.reader,
            Side::Write => &mut switch.writer,
        };
        remember(slot, cx);
        None
    }

    /// Whether it was ended by a revocation, which has told of it.
    fn is_revoked(&self) -> bool {
        match self.lock().state {
            State::Open => false,
            State::Told(reason) | State::Leaving(reason) | State::Cut(reason) => reason == CutReason::Revoked,
        }
    }

    /// What was written before is with the socket: if it was a goodbye, there is no more to wait for.
    pub(crate) fn flushed(&self) {
        let switch = self.lock();
        if let State::Leaving(reason) = switch.state {
            drop(switch);
            self.now(reason);
        }
    }

    /// Cuts at once, unless a server is to say goodbye first: then it is told, and the cut is to follow.
    fn end(&self, reason: CutReason) -> Ended {
        let mut switch = self.lock();
        match (switch.state, switch.polite) {
            (State::Open, true) => {
                switch.state = State::Told(reason);
                let waker = switch.server.take();
                drop(switch);
                waker.into_iter().for_each(Waker::wake);
                Ended::Told
            }
            (State::Open, false) => {
                drop(switch);
                self.now(reason);
                Ended::Now
            }
            _ => Ended::Before,
        }
    }

    /// Cuts, for this reason if there was none before.
    fn now(&self, reason: CutReason) {
        let mut switch = self.lock();
        switch.state = match switch.state {
            State::Open => State::Cut(reason),
            State::Told(reason) | State::Leaving(reason) => State::Cut(reason),
            State::Cut(_) => return,
        };
        let wakers = [switch.reader.take(), switch.writer.take(), switch.server.take()];
        drop(switch);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Switch> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A server's word that it says goodbye before a connection is cut.
#[cfg(feature = "axum")]
pub(crate) struct Farewell(Arc<Cut>);

#[cfg(feature = "axum")]
impl Farewell {
    pub(crate) fn on(cut: &Arc<Cut>) -> Self {
        cut.lock().polite = true;
        Self(Arc::clone(cut))
    }

    /// Whether it is time. The connection is cut once the next flush is done, or [`FAREWELL_MAX`] is over.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> std::task::Poll<()> {
        let mut switch = self.0.lock();
        match switch.state {
            State::Open => {
                remember(&mut switch.server, cx);
                return std::task::Poll::Pending;
            }
            State::Told(reason) => switch.state = State::Leaving(reason),
            State::Leaving(_) | State::Cut(_) => {}
        }
        std::task::Poll::Ready(())
    }
}

fn remember(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}
