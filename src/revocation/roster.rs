//! The core of [`super::Verifiers`]: what each verifier was told and confirmed. No I/O; the time is an argument.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use chancery_api::{Applied, Applies, FeedAck, KnowledgeState, Learns, OpenConnections, Unconfirmed};
use chancery_ca::CrlNumber;
use chancery_identity::{Certificate, KeyId, Lineage, Name, Principal, Serial, SpiffeId, Timestamp};
use chancery_verifier::Moment;

use crate::config::{CRL_VALIDITY, Freshness};

/// One replica of a service. It attested on its own, and decides on its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Replica {
    pub(super) service: Name,
    pub(super) lineage: Lineage,
}

impl Replica {
    /// The replica that a certificate is of; `None`: it is no service's.
    pub(super) fn of(certificate: &Certificate) -> Option<Self> {
        let Principal::Service(name) = certificate.spiffe_id.principal() else { return None };
        Some(Self { service: name.parse().ok()?, lineage: certificate.grant.as_ref()?.lineage })
    }
}

/// A place in the revocation sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Number {
    pub(super) epoch: u64,
    pub(super) n: u64,
}

/// The entries of one decision.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) first: Number,
    pub(super) last: Number,
    pub(super) committed_at: Timestamp,
    /// Whether one of them forbids a scope: CRLs have no word for it, so holding one confirms nothing.
    pub(super) forbids: bool,
}

/// All verifiers.
#[derive(Debug)]
pub(super) struct Roster {
    freshness: Freshness,
    verifiers: BTreeMap<Replica, Verifier>,
    /// Peers with open connections, of all verifiers.
    peers: usize,
    /// When services that are not known as verifiers asked for an authority's CRL last.
    askers: BTreeMap<(Replica, KeyId), Moment>,
}

#[derive(Debug)]
struct Verifier {
    how: Learns,
    /// When it was last given what keeps it fresh: a head, a CRL, the word that its CRL is the newest.
    told: Moment,
    heard_at: Option<Timestamp>,
    acknowledged: Option<Moment>,
    confirmed: Option<Number>,
    /// What it said itself that it decides by, CRLs apart.
    decides: Option<Number>,
    lag: Option<Duration>,
    open: Option<Arc<[OpenConnections]>>,
    /// How it came to what it confirmed, the newest last.
    steps: VecDeque<Step>,
    /// The CRLs of issuing authorities that it asks for.
    crls: BTreeMap<KeyId, Copy>,
}

#[derive(Clone, Debug)]
struct Step {
    from: Number,
    to: Number,
    at: Timestamp,
    closed: u64,
    last_accepted: Option<(Timestamp, Option<String>)>,
}

/// A CRL that was served to a verifier.
#[derive(Clone, Copy, Debug)]
struct Copy {
    number: CrlNumber,
    has: Number,
    /// What the verifier showed that it holds.
    held: Option<Number>,
    asked: Moment,
}

/// Without a feed a verifier asks for CRLs each second. What comes again within this is one.
const OFTEN: Duration = Duration::from_secs(5);
/// Steps that are remembered of each verifier.
const STEPS_MAX: usize = 64;
/// Verifiers.
pub(super) const VERIFIERS_MAX: usize = 100_000;
/// Peers with open connections that are remembered, of all verifiers.
const PEERS_MAX: usize = 1_000_000;
/// Unconfirmed verifiers that an answer names.
const NAMED_MAX: usize = 500;
/// A verifier that refuses everything for so long is gone.
const GONE_AFTER: Duration = Duration::from_secs(86_400);

/// There is no room for another verifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Roster {
    pub(super) const fn new(freshness: Freshness) -> Self {
        Self { freshness, verifiers: BTreeMap::new(), peers: 0, askers: BTreeMap::new() }
    }

    /// It verified before this process began. It may know the present until then.
    pub(super) fn restore(&mut self, replica: Replica, at: Moment) {
        self.verifiers.insert(replica, Verifier::new(at));
    }

    pub(super) fn knows(&self, replica: &Replica) -> bool {
        self.verifiers.contains_key(replica)
    }

    /// It was sent a head.
    pub(super) fn told(&mut self, replica: &Replica, at: Moment) -> Result<(), Full> {
        let verifier = self.entry(replica, at)?;
        verifier.told = at;
        Ok(())
    }

    /// It says what it applied. `committed_at` is when the entry of that number was.
    pub(super) fn acknowledged(
        &mut self,
        replica: &Replica,
        ack: FeedAck,
        committed_at: Option<Timestamp>,
        at: Moment,
    ) -> Result<(), Full> {
        let room = PEERS_MAX.saturating_sub(self.peers);
        let verifier = self.entry(replica, at)?;
        let number = Number { epoch: ack.epoch, n: ack.n };
        verifier.told = at;
        verifier.heard_at = Some(at.wall);
        verifier.acknowledged = Some(at);
        verifier.how = match ack.applies {
            Applies::Here => Learns::Feed,
            Applies::ByCrlFile => Learns::CrlFile,
        };
        verifier.decides = (ack.applies == Applies::Here).then_some(number);
        verifier.reach(number, ack.closed_connections, ack.last_accepted_at.map(|at| (at, ack.last_accepted)), at);
        if let Some(committed_at) = committed_at.filter(|_| verifier.steps.back().is_some_and(|step| step.to == number))
        {
            verifier.lag = verifier.steps.back().map(|step| step.at.since(committed_at));
        }
        let before = verifier.open.as_ref().map_or(0, |open| open.len());
        verifier.open = ack.open_connections.filter(|open| open.len() <= room + before).map(Arc::from);
        let after = verifier.open.as_ref().map_or(0, |open| open.len());
        self.peers = self.peers - before + after;
        Ok(())
    }

    /// Whether one that asks for an authority's CRL decides by it: a known verifier, or who asks as often as verifiers
    /// do. A service that only calls others asks now and then.
    pub(super) fn decides(&mut self, replica: &Replica, authority: KeyId, at: Moment) -> bool {
        if self.knows(replica) {
            return true;
        }
        if self.askers.len() >= VERIFIERS_MAX {
            self.askers.retain(|_, asked| younger(*asked, at) <= OFTEN);
        }
        let before = self.askers.insert((replica.clone(), authority), at);
        let often = before.is_some_and(|before| younger(before, at) <= OFTEN);
        if often {
            self.askers.retain(|(asker, _), _| asker != replica);
        }
        often
    }

    /// It asks for an authority's CRL. That it got one is shown by the tag that it asks with.
    pub(super) fn polled(
        &mut self,
        replica: &Replica,
        authority: KeyId,
        (number, has): (CrlNumber, Number),
        holds: impl Fn(CrlNumber) -> bool,
        at: Moment,
    ) -> Result<(), Full> {
        let stale_after = self.freshness.stale_after;
        let verifier = self.entry(replica, at)?;
        verifier.told = at;
        verifier.heard_at = Some(at.wall);
        let mut forgotten = 0;
        if verifier.acknowledged.is_none_or(|acknowledged| younger(acknowledged, at) > stale_after) {
            verifier.how = Learns::CrlPoll;
            forgotten = verifier.open.take().map_or(0, |open| open.len());
        }
        let before = verifier.crls.get(&authority).copied();
        let held = if holds(number) {
            Some(has)
        } else {
            before.and_then(|before| if holds(before.number) { Some(before.has) } else { before.held })
        };
        verifier.crls.insert(authority, Copy { number, has, held, asked: at });
        // An authority whose CRL it stopped asking for says nothing any more.
        verifier.crls.retain(|_, copy| younger(copy.asked, at) <= stale_after);
        // What it holds of every authority.
        let held = verifier.crls.values().map(|copy| copy.held).min().flatten();
        if let Some(number) = held.filter(|number| verifier.confirmed.is_none_or(|confirmed| confirmed < *number)) {
            verifier.reach(number, 0, None, at);
        }
        self.peers -= forgotten;
        Ok(())
    }

    /// Whether every verifier that may accept anything has confirmed the entries of a decision.
    pub(super) fn is_applied(&self, span: &Span, at: Moment) -> bool {
        self.verifiers
            .values()
            .all(|verifier| verifier.has_applied(span) || verifier.state(self.freshness, at) == KnowledgeState::Expired)
    }

    pub(super) fn applied(&self, span: &Span, id: impl Fn(&Name) -> SpiffeId, at: Moment) -> Applied {
        let mut applied = Applied {
            verifiers: 0,
            confirmed: 0,
            max_ms: None,
            closed_connections: 0,
            last_accepted_at: None,
            last_accepted_by: None,
            last_accepted: None,
            unconfirmed: Vec::new(),
        };
        for (replica, verifier) in &self.verifiers {
            if verifier.state(self.freshness, at) == KnowledgeState::Expired {
                continue;
            }
            applied.verifiers += 1;
            if verifier.has_applied(span) {
                applied.confirmed += 1;
            } else {
                applied.unconfirmed.push(Unconfirmed {
                    verifier: id(&replica.service),
                    lineage: replica.lineage,
                    n: verifier.confirmed.map(|confirmed| confirmed.n),
                    last_seen_at: verifier.heard_at,
                    refuses_by: verifier.refuses_by(self.freshness),
                });
            }
            for step in verifier.steps.iter().filter(|step| step.from < span.last && step.to >= span.first) {
                applied.closed_connections = applied.closed_connections.saturating_add(step.closed);
                if step.to >= span.last {
                    let ms = u64::try_from(step.at.since(span.committed_at).as_millis()).unwrap_or(u64::MAX);
                    applied.max_ms = applied.max_ms.max(Some(ms));
                }
                if let Some((accepted_at, scope)) = &step.last_accepted
                    && applied.last_accepted_at.is_none_or(|newest| newest < *accepted_at)
                {
                    applied.last_accepted_at = Some(*accepted_at);
                    applied.last_accepted_by = Some(id(&replica.service));
                    applied.last_accepted.clone_from(scope);
                }
            }
        }
        applied.unconfirmed.sort_by_key(|missing| std::cmp::Reverse(missing.refuses_by));
        applied.unconfirmed.truncate(NAMED_MAX);
        applied
    }

    /// What services report of their open connections now.
    pub(super) fn open(&self, at: Moment) -> Open {
        let living = self.verifiers.iter().filter(|(_, it)| it.state(self.freshness, at) != KnowledgeState::Expired);
        Open(living.filter_map(|(replica, it)| Some((replica.service.clone(), it.open.clone()?))).collect())
    }

    /// Each verifier, by service.
    pub(super) fn all(&self, at: Moment) -> impl Iterator<Item = (&Replica, Seen)> {
        self.verifiers.iter().map(move |(replica, verifier)| {
            let seen = Seen {
                how: verifier.how,
                n: verifier.confirmed.map(|confirmed| confirmed.n),
                state: verifier.state(self.freshness, at),
                lag_ms: verifier.lag.map(|lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX)),
                open_connections: verifier.open.as_ref().map(|open| open.iter().map(|it| u64::from(it.count)).sum()),
                last_seen_at: verifier.heard_at,
                refuses_by: verifier.refuses_by(self.freshness),
            };
            (replica, seen)
        })
    }

    /// How many there are, and how far those that may accept anything are behind `newest`.
    pub(super) fn census(&self, newest: Number, at: Moment) -> Census {
        let mut census = Census {
            states: [KnowledgeState::Fresh, KnowledgeState::Stale, KnowledgeState::Expired].map(|state| (state, 0)),
            behind: 0,
            slowest: None,
        };
        for verifier in self.verifiers.values() {
            let state = verifier.state(self.freshness, at);
            census.states.iter_mut().filter(|(it, _)| *it == state).for_each(|(_, count)| *count += 1);
            if state != KnowledgeState::Expired {
                census.behind += u64::from(verifier.confirmed.is_none_or(|confirmed| confirmed < newest));
                let slower = |slowest: u64| verifier.confirmed.map_or(slowest, |confirmed| slowest.min(confirmed.n));
                census.slowest = census.slowest.map(slower).or(verifier.confirmed.map(|confirmed| confirmed.n));
            }
        }
        census
    }

    /// Takes out those that refuse everything since a day.
    pub(super) fn take_gone(&mut self, at: Moment) -> Vec<Lineage> {
        let freshness = self.freshness;
        let gone = |verifier: &Verifier| younger(verifier.told, at) > verifier.may_accept_for(freshness) + GONE_AFTER;
        let lineages = self.verifiers.iter().filter(|(_, it)| gone(it)).map(|(replica, _)| replica.lineage).collect();
        self.verifiers.retain(|_, verifier| !gone(verifier));
        self.peers = self.verifiers.values().filter_map(|verifier| verifier.open.as_ref()).map(|open| open.len()).sum();
        lineages
    }

    fn entry(&mut self, replica: &Replica, at: Moment) -> Result<&mut Verifier, Full> {
        if self.verifiers.len() >= VERIFIERS_MAX && !self.knows(replica) {
            return Err(Full);
        }
        Ok(self.verifiers.entry(replica.clone()).or_insert_with(|| Verifier::new(at)))
    }
}

/// Open connections as services reported them at one moment.
#[derive(Debug)]
pub(super) struct Open(Vec<(Name, Arc<[OpenConnections]>)>);

impl Open {
    /// Those of these certificates, and the services that have them. `None`: nobody reports any.
    pub(super) fn of(&self, serials: &HashSet<Serial>) -> Option<(u64, Vec<Name>)> {
        let (mut count, mut services) = (0_u64, BTreeSet::new());
        for (service, open) in &self.0 {
            let here: u64 = open.iter().filter(|it| serials.contains(&it.serial)).map(|it| u64::from(it.count)).sum();
            if here > 0 {
                count = count.saturating_add(here);
                services.insert(service.clone());
            }
        }
        (!self.0.is_empty()).then(|| (count, services.into_iter().collect()))
    }
}

/// All verifiers at one moment, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Census {
    /// How many know the present how well.
    pub(crate) states: [(KnowledgeState, u64); 3],
    /// How many may accept something and did not confirm the newest number.
    pub(crate) behind: u64,
    /// The lowest number that one of those that may accept something has confirmed.
    pub(crate) slowest: Option<u64>,
}

/// What is known of one verifier.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) how: Learns,
    pub(super) n: Option<u64>,
    pub(super) state: KnowledgeState,
    pub(super) lag_ms: Option<u64>,
    pub(super) open_connections: Option<u64>,
    pub(super) last_seen_at: Option<Timestamp>,
    pub(super) refuses_by: Timestamp,
}

impl Verifier {
    fn new(at: Moment) -> Self {
        Self {
            how: Learns::Feed,
            told: at,
            heard_at: None,
            acknowledged: None,
            confirmed: None,
            decides: None,
            lag: None,
            open: None,
            steps: VecDeque::new(),
            crls: BTreeMap::new(),
        }
    }

    fn has_applied(&self, span: &Span) -> bool {
        let number = if span.forbids { self.decides } else { self.confirmed };
        number.is_some_and(|number| number >= span.last)
    }

    /// What it says last counts: one that began anew from an older state says so, and is not believed to know more.
    fn reach(&mut self, to: Number, closed: u64, last_accepted: Option<(Timestamp, Option<String>)>, at: Moment) {
        if let Some(from) = self.confirmed.filter(|from| *from < to) {
            if self.steps.len() == STEPS_MAX {
                self.steps.pop_front();
            }
            self.steps.push_back(Step { from, to, at: at.wall, closed, last_accepted });
        } else if let Some(step) = self.steps.back_mut().filter(|step| step.to == to) {
            // What it closed is told after it was known to have it.
            step.closed = step.closed.saturating_add(closed);
            step.last_accepted = last_accepted.or(step.last_accepted.take());
        }
        self.confirmed = Some(to);
    }

    /// For how long after it was told anything it may accept requests. A verifier may be stricter, never looser.
    fn may_accept_for(&self, freshness: Freshness) -> Duration {
        match self.how {
            Learns::Feed | Learns::CrlPoll => freshness.expired_after,
            // Whoever reads files believes them until their nextUpdate.
            Learns::CrlFile => freshness.expired_after.max(CRL_VALIDITY),
        }
    }

    fn refuses_by(&self, freshness: Freshness) -> Timestamp {
        self.told.wall + self.may_accept_for(freshness)
    }

    fn state(&self, freshness: Freshness, at: Moment) -> KnowledgeState {
        let age = younger(self.told, at);
        if age > self.may_accept_for(freshness) {
            KnowledgeState::Expired
        } else if age > freshness.stale_after {
            KnowledgeState::Stale
        } else {
            KnowledgeState::Fresh
        }
    }
}

/// The shorter of what the two clocks say: no step of the issuer's clock makes a verifier look safe.
fn younger(earlier: Moment, at: Moment) -> Duration {
    at.wall.since(earlier.wall).min(at.monotonic.saturating_duration_since(earlier.monotonic))
}

#[cfg(test)]
mod tests;
