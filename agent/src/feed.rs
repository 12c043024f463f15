//! Following the issuer's feed: only while a verifier works from this identity, and acknowledged once all of them have
//! applied what came.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chancery_api::client::ClientError;
use chancery_api::{Applies, FeedAck, OpenConnections};
use chancery_identity::{Scope, Serial, Timestamp};
use chancery_verifier::feed::{FeedRefused, Sha256};
use chancery_verifier::{Applied, Attached, FeedHealth};
use tokio::sync::{Notify, watch};

/// The longest silence of a feed: a head comes each second.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(5);
/// How often what is known is acknowledged, and the newest head saved, when nothing happens.
pub(crate) const ACKNOWLEDGED_EACH: Duration = Duration::from_secs(10);
/// How long news may be under way that a certificate says there are.
const NEWS_MAX: Duration = Duration::from_secs(1);
/// The most peers that an acknowledgement lists.
const OPEN_MAX: usize = 4096;

/// SHA-256 by ring.
pub(crate) const SHA256: Sha256 = Sha256(|parts| {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut out = [0; 32];
    out.iter_mut().zip(context.finish().as_ref()).for_each(|(out, byte)| *out = *byte);
    out
});

/// Why a feed ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FeedLost {
    /// The issuer does not give it, or the way to it broke.
    #[error("{0}")]
    Client(#[from] ClientError),
    /// What came cannot be relied on.
    #[error("{0}")]
    Refused(#[from] FeedRefused),
    /// Nothing came.
    #[error("nothing came for {} s", SILENCE_MAX.as_secs())]
    Silent,
    /// The issuer ended it.
    #[error("the issuer ended it")]
    Ended,
    /// It did not bring what a certificate says the issuer knew.
    #[error("it does not bring what the issuer knew when it made a peer's certificate")]
    Behind,
    /// What came cannot be handed on.
    #[error("{0}")]
    Here(String),
    /// What came cannot be kept.
    #[error("{0}")]
    Unsaved(String),
}

/// The verifiers that work from this identity, and what they made of the feed.
#[derive(Default)]
pub(crate) struct Verifiers {
    all: Mutex<All>,
    /// Who wants the feed: verifiers, and those who hand on CRLs.
    listening: watch::Sender<Listening>,
    health: watch::Sender<FeedHealth>,
    reported: Notify,
    wanted: Notify,
}

#[derive(Clone, Copy, Default)]
struct Listening {
    verifiers: usize,
    hand_on: usize,
}

impl Listening {
    const fn anybody(&self) -> bool {
        self.verifiers + self.hand_on > 0
    }
}

#[derive(Default)]
struct All {
    next: u64,
    /// What each has applied.
    applied: BTreeMap<u64, Option<Position>>,
    /// What is to be told of connections since the last acknowledgement, by the number that made it so: an acknowledgement of
    /// less does not tell of it.
    closed: BTreeMap<(u64, u64), Closed>,
    /// Up to here what came outlives this process.
    saved: (u64, u64),
    /// The newest number that a peer's certificate named.
    wanted: (u64, u64),
    /// A head that the issuer has lost.
    head: Option<String>,
    /// How long what came last is not to be acknowledged yet.
    pace: Duration,
}

/// What came of connections.
#[derive(Default)]
struct Closed {
    connections: u64,
    last_accepted: Option<(Timestamp, Scope)>,
}

impl Closed {
    fn add(&mut self, more: Self) {
        self.connections += more.connections;
        self.last_accepted = self.last_accepted.take().max(more.last_accepted);
    }
}

#[derive(Clone)]
struct Position {
    number: (u64, u64),
    at: Timestamp,
    open: Option<Vec<(Serial, u32)>>,
}

/// An acknowledgement under way.
pub(crate) struct Acknowledgement {
    pub(crate) ack: FeedAck,
    last_accepted: Option<(Timestamp, Scope)>,
}

impl Acknowledgement {
    pub(crate) fn number(&self) -> (u64, u64) {
        (self.ack.epoch, self.ack.n)
    }

    /// Whether it tells more than where the verifiers stand.
    pub(crate) fn has_news(&self) -> bool {
        self.ack.closed_connections > 0 || self.last_accepted.is_some() || self.ack.head.is_some()
    }
}

impl Verifiers {
    /// One more verifier, until the answer is dropped.
    pub(crate) fn attach(self: &Arc<Self>) -> Box<dyn Attached> {
        let mut all = self.all();
        let id = all.next;
        all.next += 1;
        all.applied.insert(id, None);
        self.listening.send_modify(|listening| listening.verifiers += 1);
        drop(all);
        Box::new(One { verifiers: Arc::clone(self), id })
    }

    /// Somebody who hands on CRLs, until the answer is dropped.
    pub(crate) fn hand_on(self: &Arc<Self>) -> HandsOn {
        self.listening.send_modify(|listening| listening.hand_on += 1);
        HandsOn(Arc::clone(self))
    }

    /// How many verifiers there are.
    pub(crate) fn count(&self) -> usize {
        self.listening.borrow().verifiers
    }

    /// Waits until somebody wants the feed.
    pub(crate) async fn wanted(&self) {
        // The sender is here.
        let _ = self.listening.subscribe().wait_for(Listening::anybody).await;
    }

    /// Waits until nobody does.
    pub(crate) async fn unwanted(&self) {
        let _ = self.listening.subscribe().wait_for(|listening| !listening.anybody()).await;
    }

    /// Waits until one of them has applied something, or a head is to be shown.
    pub(crate) async fn reported(&self) {
        self.reported.notified().await;
    }

    /// Waits until a peer's certificate names a number that `known` does not reach in time.
    pub(crate) async fn behind(&self, known: impl Fn() -> Option<(u64, u64)>) {
        loop {
            self.wanted.notified().await;
            tokio::time::sleep(NEWS_MAX).await;
            if known() < Some(self.all().wanted) {
                return;
            }
        }
    }

    /// What comes now is to be acknowledged so long after.
    pub(crate) fn pace(&self, pace: Duration) {
        self.all().pace = pace;
    }

    /// How long to wait before what was reported is acknowledged, if at all.
    pub(crate) fn paced(&self) -> Option<Duration> {
        Some(std::mem::take(&mut self.all().pace)).filter(|pace| !pace.is_zero())
    }

    /// What came up to this number outlives this process.
    pub(crate) fn saved(&self, number: (u64, u64)) {
        self.all().saved = number;
        self.reported.notify_one();
    }

    /// The issuer's head is behind this one.
    pub(crate) fn show(&self, head: String) {
        self.all().head = Some(head);
        self.reported.notify_one();
    }

    pub(crate) fn connected(&self) {
        self.health.send_if_modified(|health| !std::mem::replace(&mut health.connected, true));
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.health.borrow().connected
    }

    pub(crate) fn lost(&self, why: Option<&FeedLost>) {
        self.health.send_modify(|health| {
            health.connected = false;
            health.reconnects += u64::from(why.is_some());
            match why {
                Some(FeedLost::Refused(refused)) => health.refused.add(refused),
                Some(FeedLost::Unsaved(why)) => health.unsaved.add(why),
                Some(FeedLost::Ended) => health.ended += 1,
                _ => {}
            }
        });
    }

    /// What all of them have applied and outlives this process; what it tells of connections counts as told.
    pub(crate) fn acknowledgement(&self) -> Option<Acknowledgement> {
        let mut all = self.all();
        let positions: Vec<Position> = all.applied.values().cloned().collect::<Option<_>>()?;
        let number = positions.iter().map(|position| position.number).min()?.min(all.saved);
        let applied_at = positions.iter().map(|position| position.at).max()?;
        let mut open: BTreeMap<Serial, u32> = BTreeMap::new();
        let complete = positions.iter().all(|position| position.open.is_some());
        for (serial, count) in positions.iter().flat_map(|position| position.open.iter().flatten()) {
            let sum = open.entry(*serial).or_default();
            *sum = sum.saturating_add(*count);
        }
        let listed = complete && open.len() <= OPEN_MAX;
        let later = all.closed.split_off(&(number.0, number.1.saturating_add(1)));
        let mut closed = Closed::default();
        std::mem::replace(&mut all.closed, later).into_values().for_each(|one| closed.add(one));
        let Closed { connections, last_accepted } = closed;
        let ack = FeedAck {
            epoch: number.0,
            n: number.1,
            applied_at,
            applies: Applies::Here,
            closed_connections: connections,
            last_accepted_at: last_accepted.as_ref().map(|(at, _)| *at),
            last_accepted: last_accepted.as_ref().map(|(_, scope)| scope.to_string()),
            open_connections: listed
                .then(|| open.into_iter().map(|(serial, count)| OpenConnections { serial, count }).collect()),
            head: all.head.take(),
        };
        Some(Acknowledgement { ack, last_accepted })
    }

    /// It was not heard: the next one tells of the same connections.
    pub(crate) fn not_heard(&self, told: Acknowledgement, why: &ClientError) {
        self.health.send_modify(|health| health.unacknowledged.add(why));
        let mut all = self.all();
        let (number, connections) = (told.number(), told.ack.closed_connections);
        all.closed.entry(number).or_default().add(Closed { connections, last_accepted: told.last_accepted });
        all.head = all.head.take().or(told.ack.head);
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One verifier.
struct One {
    verifiers: Arc<Verifiers>,
    id: u64,
}

impl Attached for One {
    fn applied(&self, applied: Applied) {
        let mut all = self.verifiers.all();
        if applied.closed_connections > 0 || applied.last_accepted.is_some() {
            let (connections, last_accepted) = (applied.closed_connections, applied.last_accepted);
            let closed = all.closed.entry((applied.epoch, applied.n)).or_default();
            closed.add(Closed { connections, last_accepted });
        }
        let position = Position { number: (applied.epoch, applied.n), at: applied.at, open: applied.open_connections };
        if let Some(known) = all.applied.get_mut(&self.id) {
            // One that waited for connections to close may be overtaken.
            if known.as_ref().is_none_or(|known| known.number <= position.number) {
                *known = Some(position);
            }
        }
        drop(all);
        self.verifiers.reported.notify_one();
    }

    fn behind(&self, wanted: (u64, u64)) {
        let mut all = self.verifiers.all();
        all.wanted = all.wanted.max(wanted);
        drop(all);
        self.verifiers.wanted.notify_one();
    }

    fn health(&self) -> Option<watch::Receiver<FeedHealth>> {
        Some(self.verifiers.health.subscribe())
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.verifiers.all().applied.remove(&self.id);
        self.verifiers.listening.send_modify(|listening| listening.verifiers -= 1);
    }
}

/// Somebody who hands on CRLs.
pub(crate) struct HandsOn(Arc<Verifiers>);

impl Drop for HandsOn {
    fn drop(&mut self) {
        self.0.listening.send_modify(|listening| listening.hand_on -= 1);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn applied(n: u64, closed_connections: u64) -> Applied {
        let mut applied = Applied::default();
        (applied.epoch, applied.n, applied.closed_connections) = (1, n, closed_connections);
        applied
    }

    fn told(verifiers: &Verifiers) -> ((u64, u64), u64) {
        let told = verifiers.acknowledgement().unwrap();
        (told.number(), told.ack.closed_connections)
    }

    #[test]
    fn what_closed_is_told_with_the_number_that_closed_it() {
        let verifiers = Arc::<Verifiers>::default();
        let one = verifiers.attach();
        one.applied(applied(10, 1));
        one.applied(applied(11, 2));
        verifiers.saved((1, 9));
        assert_eq!(told(&verifiers), ((1, 9), 0));
        verifiers.saved((1, 10));
        let unheard = verifiers.acknowledgement().unwrap();
        assert_eq!((unheard.number(), unheard.ack.closed_connections), ((1, 10), 1));
        verifiers.not_heard(unheard, &ClientError::Timeout(Duration::ZERO));
        verifiers.saved((1, 11));
        assert_eq!(told(&verifiers), ((1, 11), 3));
        assert_eq!(told(&verifiers), ((1, 11), 0));
    }
}
