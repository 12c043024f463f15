#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails by panicking, and has a clock")]

use std::time::Instant;

use super::*;

const FRESHNESS: Freshness =
    Freshness { stale_after: Duration::from_secs(30), expired_after: Duration::from_secs(900) };

struct Story {
    roster: Roster,
    began: Moment,
}

impl Story {
    fn new() -> Self {
        let began = Moment { wall: Timestamp::from_unix_seconds(1_800_000_000), monotonic: Instant::now() };
        Self { roster: Roster::new(FRESHNESS), began }
    }

    fn at(&self, ms: u64) -> Moment {
        let after = Duration::from_millis(ms);
        Moment { wall: self.began.wall + after, monotonic: self.began.monotonic + after }
    }

    fn ack(&mut self, service: &str, n: u64, ms: u64, change: impl FnOnce(&mut FeedAck)) {
        let at = self.at(ms);
        let mut ack = FeedAck {
            epoch: 1,
            n,
            applied_at: at.wall,
            applies: Applies::Here,
            closed_connections: 0,
            last_accepted_at: None,
            last_accepted: None,
            open_connections: None,
            head: None,
        };
        change(&mut ack);
        let committed_at = Some(self.began.wall);
        self.roster.acknowledged(&replica(service), ack, committed_at, at).unwrap();
    }

    fn span(&self, epoch: u64, n: u64) -> Span {
        let number = Number { epoch, n };
        Span { first: number, last: number, committed_at: self.began.wall, forbids: false }
    }

    fn applied(&self, n: u64, ms: u64) -> Applied {
        let applied = self.roster.applied(&self.span(1, n), id, self.at(ms));
        assert_eq!(self.roster.is_applied(&self.span(1, n), self.at(ms)), applied.unconfirmed.is_empty());
        applied
    }
}

fn replica(service: &str) -> Replica {
    Replica { service: service.parse().unwrap(), lineage: Lineage::from_bytes([7; 16]) }
}

fn id(name: &Name) -> SpiffeId {
    format!("spiffe://example.org/service/{name}").parse().unwrap()
}

#[test]
fn an_entry_is_applied_once_all_said_so() {
    let mut story = Story::new();
    story.ack("crm", 4, 0, |_| {});
    story.ack("billing", 4, 0, |_| {});
    assert_eq!(story.applied(5, 1).confirmed, 0);
    story.ack("crm", 5, 20, |ack| {
        ack.closed_connections = 2;
        ack.last_accepted_at = Some("2027-01-15T08:00:00.012Z".parse().unwrap());
        ack.last_accepted = Some("GET:crm/customers/88".into());
    });
    let applied = story.applied(5, 21);
    assert_eq!((applied.verifiers, applied.confirmed, applied.max_ms), (2, 1, Some(20)));
    assert_eq!((applied.closed_connections, applied.last_accepted_by), (2, Some(id(&"crm".parse().unwrap()))));
    let missing = &applied.unconfirmed[0];
    assert_eq!((missing.n, missing.refuses_by), (Some(4), story.began.wall + FRESHNESS.expired_after));
    // What it closes later counts too.
    story.ack("crm", 5, 30, |ack| ack.closed_connections = 1);
    assert_eq!(story.applied(5, 31).closed_connections, 3);
    // A later number confirms the earlier ones too.
    story.ack("billing", 9, 38, |_| {});
    let applied = story.applied(5, 40);
    assert_eq!((applied.confirmed, applied.max_ms), (2, Some(38)));
    assert!(applied.unconfirmed.is_empty());
}

#[test]
fn one_that_is_silent_for_too_long_is_not_waited_for_and_is_listed() {
    let mut story = Story::new();
    story.ack("crm", 4, 0, |_| {});
    assert_eq!(story.applied(5, 900_000).unconfirmed.len(), 1);
    let applied = story.applied(5, 900_001);
    assert_eq!((applied.verifiers, applied.unconfirmed.len()), (0, 0));
    let states: Vec<_> = story.roster.all(story.at(900_001)).map(|(_, seen)| seen.state).collect();
    assert_eq!(states, [KnowledgeState::Expired]);
    assert!(story.roster.take_gone(story.at(900_001)).is_empty());
    assert_eq!(story.roster.take_gone(story.at(900_001 + 86_400_000)).len(), 1);
}

#[test]
fn what_was_sent_keeps_it_fresh_and_confirms_nothing() {
    let mut story = Story::new();
    story.ack("crm", 4, 0, |_| {});
    story.roster.told(&replica("crm"), story.at(600_000)).unwrap();
    let applied = story.applied(5, 1_000_000);
    assert_eq!(applied.unconfirmed[0].refuses_by, story.at(600_000).wall + FRESHNESS.expired_after);
}

#[test]
fn no_step_of_the_clock_makes_a_verifier_look_safe() {
    let mut story = Story::new();
    story.ack("crm", 4, 0, |_| {});
    let stepped = Moment { wall: story.at(10_000_000).wall, monotonic: story.at(1).monotonic };
    assert!(!story.roster.is_applied(&story.span(1, 5), stepped));
    let slept = Moment { wall: story.at(1).wall, monotonic: story.at(10_000_000).monotonic };
    assert!(!story.roster.is_applied(&story.span(1, 5), slept));
}

#[test]
fn a_restarted_issuer_does_not_claim_that_all_know() {
    let mut story = Story::new();
    story.roster.restore(replica("crm"), story.began);
    let applied = story.applied(0, 1);
    assert_eq!((applied.verifiers, applied.confirmed), (1, 0));
    assert_eq!((applied.unconfirmed[0].n, applied.unconfirmed[0].last_seen_at), (None, None));
    story.ack("crm", 0, 2, |_| {});
    assert_eq!(story.applied(0, 3).confirmed, 1);
}

#[test]
fn a_verifier_that_lost_what_it_knew_confirms_it_no_more() {
    let mut story = Story::new();
    story.ack("crm", 5, 0, |_| {});
    story.ack("crm", 3, 1, |_| {});
    assert_eq!(story.applied(5, 2).confirmed, 0);
}

#[test]
fn a_number_of_an_older_epoch_confirms_nothing_of_a_newer() {
    let mut story = Story::new();
    story.ack("crm", 50, 0, |_| {});
    assert!(!story.roster.is_applied(&story.span(2, 6), story.at(1)));
    story.ack("crm", 6, 2, |ack| ack.epoch = 2);
    assert!(story.roster.is_applied(&story.span(2, 6), story.at(3)));
}

#[test]
fn who_asks_for_crls_now_and_then_is_no_verifier() {
    let mut story = Story::new();
    let [issuing, root] = [1, 2].map(|byte| KeyId::from_bytes([byte; 20]));
    let mut asks = |service: &str, authority, ms| {
        let at = story.at(ms);
        story.roster.decides(&replica(service), authority, at)
    };
    // As the agent crate does for a service that only calls others: each list of a round, each 15 s.
    for ms in [0, 15_000, 30_000] {
        assert!(!asks("billing", issuing, ms) && !asks("billing", root, ms + 5), "{ms}");
    }
    // As it does for one that verifies and has no feed: each second.
    assert!(!asks("edge", issuing, 0));
    assert!(asks("edge", issuing, 1_000));
    story.ack("edge", 0, 2_000, |_| {});
    // One that is known stays one, however seldom it asks.
    let at = story.at(60_000);
    assert!(story.roster.decides(&replica("edge"), issuing, at));
    assert_eq!(story.applied(0, 60_000).verifiers, 1);
}

#[test]
fn a_poll_confirms_what_the_one_before_it_brought() {
    let mut story = Story::new();
    let key = KeyId::from_bytes([1; 20]);
    let crl = |number: u128, n| (CrlNumber::new(number), Number { epoch: 1, n });
    let poll = |story: &mut Story, crl, held: Option<u128>, ms| {
        let holds = |number: CrlNumber| held.map(CrlNumber::new) == Some(number);
        story.roster.polled(&replica("edge"), key, crl, holds, story.at(ms)).unwrap();
    };
    poll(&mut story, crl(10, 4), None, 0);
    assert_eq!(story.applied(4, 1).confirmed, 0);
    poll(&mut story, crl(11, 5), Some(10), 1000);
    assert_eq!((story.applied(4, 1001).confirmed, story.applied(5, 1001).confirmed), (1, 0));
    // One that asks for the whole each time never shows what it holds.
    poll(&mut story, crl(11, 5), None, 2000);
    assert_eq!(story.applied(5, 2001).confirmed, 0);
    poll(&mut story, crl(11, 5), Some(11), 3000);
    let applied = story.applied(5, 3001);
    assert_eq!((applied.confirmed, applied.max_ms), (1, Some(3000)));
    let how: Vec<_> = story.roster.all(story.at(3001)).map(|(_, seen)| seen.how).collect();
    assert_eq!(how, [Learns::CrlPoll]);
    // No CRL says what is forbidden.
    let forbidden = Span { forbids: true, ..story.span(1, 5) };
    assert!(!story.roster.is_applied(&forbidden, story.at(3001)));
    story.ack("edge", 5, 4000, |ack| ack.applies = Applies::ByCrlFile);
    assert!(!story.roster.is_applied(&forbidden, story.at(4001)));
    story.ack("edge", 5, 5000, |_| {});
    assert!(story.roster.is_applied(&forbidden, story.at(5001)));
}

#[test]
fn connections_are_counted_where_they_are_reported() {
    let mut story = Story::new();
    let serial = |byte| Serial::from_bytes(&[byte; 16]).unwrap();
    let wanted = HashSet::from([serial(1), serial(2)]);
    assert_eq!(story.roster.open(story.began).of(&wanted), None);
    let open = |serial, count| OpenConnections { serial, count };
    story.ack("crm", 1, 0, |ack| ack.open_connections = Some(vec![open(serial(1), 2), open(serial(3), 9)]));
    story.ack("billing", 1, 0, |ack| ack.open_connections = Some(vec![open(serial(2), 1)]));
    story.ack("edge", 1, 0, |_| {});
    let (count, services) = story.roster.open(story.at(1)).of(&wanted).unwrap();
    assert_eq!((count, services.len()), (3, 2));
    story.ack("crm", 1, 2, |ack| ack.open_connections = Some(Vec::new()));
    assert_eq!(story.roster.open(story.at(3)).of(&wanted).unwrap().0, 1);
}
