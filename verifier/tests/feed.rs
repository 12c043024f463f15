//! What a verifier takes from the issuer's feed, and what it does not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![cfg(all(feature = "ring", feature = "tokio", feature = "feed"))]

#[path = "../../fuzz/bodies/feed.rs"]
mod bodies;
mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use chancery_identity::Effect;
use chancery_testkit::{TestCa, TestFeed};
use chancery_verifier::feed::{Feed, FeedRefused, FeedTrust, Saved, Unsaved, UnsavedEntries};
use chancery_verifier::{Denial, Knowledge, Known, Material, Moment, Rules, Verifier};
use common::{Service, closed, provider, visit};
use proptest::prelude::*;

const SCOPE: &str = "tools/call:crm/refund";

fn trust(ca: &TestCa) -> FeedTrust {
    FeedTrust {
        trust_domain: ca.trust_domain().clone(),
        roots: [ca.root()].into(),
        algorithms: provider().signature_verification_algorithms,
        sha256: TestFeed::sha256(),
    }
}

struct Bench {
    ca: TestCa,
    sent: TestFeed,
    feed: Feed,
    now: Moment,
}

impl Bench {
    fn new() -> Self {
        let ca = TestCa::new("example.org");
        let now = ca.moment();
        let (feed, _) = Feed::new(trust(&ca), None, now);
        Self { sent: TestFeed::new(&ca), ca, feed, now }
    }

    /// One that knows three entries: an agent suspended, a scope forbidden, an owner stopped for good.
    fn with_three() -> Self {
        let mut bench = Self::new();
        bench.sent.add("agent:invoice-bot", Effect::Suspend);
        bench.sent.add("scope:tools/call:crm/refund", Effect::Forbid);
        bench.sent.add("owner:team-test", Effect::Revoke);
        bench.push(&bench.sent.whole()).unwrap();
        bench
    }

    fn push(&mut self, text: &str) -> Result<Option<Arc<Known>>, FeedRefused> {
        Ok(self.feed.push(text.as_bytes(), self.now)?.pop())
    }

    /// The same over a new connection.
    fn push_anew(&mut self, text: &str) -> Result<Option<Arc<Known>>, FeedRefused> {
        self.feed.connected();
        self.push(text)
    }

    fn material(&self, known: Option<Arc<Known>>) -> Material {
        let service = self.ca.service("crm").system("crm");
        Material { feed: known, ..self.ca.material(&service, &[], self.now) }
    }
}

/// Saves as a state folder does, and gives what would be read back.
fn save(saved: &mut Saved, unsaved: Unsaved) {
    match unsaved.entries {
        UnsavedEntries::None => {}
        UnsavedEntries::More(lines) => saved.entries.push_str(&lines),
        UnsavedEntries::Whole(lines) => saved.entries = lines,
    }
    saved.head = unsaved.head;
}

#[test]
fn nothing_counts_until_a_head_reaches_it() {
    let mut bench = Bench::new();
    assert_eq!(bench.feed.after(), None);
    bench.sent.add("agent:invoice-bot", Effect::Suspend);
    let (before_head, head) = (bench.sent.whole(), bench.sent.head());
    let before_head = before_head.strip_suffix(&head).unwrap();
    assert!(bench.push(before_head).unwrap().is_none());
    assert!(bench.feed.known().is_none());
    let known = bench.push(&head).unwrap().unwrap();
    assert_eq!((known.epoch(), known.n(), bench.feed.after()), (1, 1, Some((1, 1))));
    // A heartbeat, then more, then a new connection from there.
    assert_eq!(bench.push(&bench.sent.head()).unwrap().unwrap().n(), 1);
    bench.sent.resume(1);
    assert_eq!(bench.push(&bench.sent.since(1)).unwrap().unwrap().n(), 2);
    bench.sent.add("owner:team-test", Effect::Revoke);
    assert_eq!(bench.push_anew(&bench.sent.resumed(2)).unwrap().unwrap().n(), 3);
}

#[test]
fn acknowledgements_wait_as_long_as_the_issuer_asks_for() {
    let ms = Duration::from_millis;
    let pace =
        |after: u32, within: u32| format!("event: pace\ndata: {{\"after_ms\":{after},\"within_ms\":{within}}}\n\n");
    let mut bench = Bench::with_three();
    assert_eq!(bench.feed.acknowledge_in(u32::MAX), Duration::ZERO);
    let entry = |bench: &mut Bench, pace: &str| {
        let n = bench.sent.add("agent:invoice-bot", Effect::Suspend);
        bench.push(&(pace.to_owned() + &bench.sent.since(n - 1))).unwrap();
    };
    entry(&mut bench, &pace(100, 300));
    let waits = |bench: &Bench| [0, 1 << 31, u32::MAX].map(|random| bench.feed.acknowledge_in(random));
    assert_eq!(waits(&bench), [ms(100), ms(250), ms(399)]);
    // A heartbeat that comes before anybody asks changes nothing of that.
    bench.push(&bench.sent.head()).unwrap();
    assert_eq!(waits(&bench), [ms(100), ms(250), ms(399)]);
    // It was asked for those alone: once the crowd is gone, nobody waits.
    entry(&mut bench, "");
    assert_eq!(waits(&bench), [Duration::ZERO; 3]);
    // No issuer keeps them back for long, and what one connection asked for is over with it.
    entry(&mut bench, &pace(u32::MAX, u32::MAX));
    assert_eq!(bench.feed.acknowledge_in(u32::MAX), ms(2000));
    bench.push_anew(&bench.sent.resumed(bench.sent.n())).unwrap();
    assert_eq!(bench.feed.acknowledge_in(u32::MAX), Duration::ZERO);
    assert!(matches!(bench.push("event: pace\ndata: soon\n\n"), Err(FeedRefused::Event { .. })));
}

#[test]
fn one_signer_counts() {
    let ca = TestCa::new("example.org");
    let feed = TestFeed::new(&ca);
    #[track_caller]
    fn signer(refused: Result<Option<Arc<Known>>, FeedRefused>) {
        assert!(matches!(refused, Err(FeedRefused::Signer { .. })), "{refused:?}");
    }
    // Another root's key; our root's key without the purpose; a head of another key than the one shown.
    let mut bench = Bench::new();
    signer(bench.push(&TestFeed::new(&ca.impostor()).whole()));
    signer(bench.push_anew(&feed.whole().replace(&feed.head_key(), &feed.other_key())));
    let other = feed.clone().with_key(2);
    signer(bench.push_anew(&feed.whole().replace(&feed.head(), &other.head())));
    signer(bench.push_anew(&feed.whole().replace(&feed.head_key(), "")));
    assert!(bench.feed.known().is_none());
    // Two keys may be shown, of which one signs; the key may change.
    bench.push_anew(&format!("{}{}", other.head_key(), feed.whole())).unwrap().unwrap();
    bench.push_anew(&other.resumed(0)).unwrap().unwrap();
    // Its certificate has a time.
    let late = Moment { wall: bench.now.wall + Duration::from_secs(200 * 86_400), ..bench.now };
    bench.feed.connected();
    signer(bench.feed.push(feed.resumed(0).as_bytes(), late).map(|_| None));
}

#[test]
fn an_older_head_does_not_count_nor_after_a_restart() {
    let mut bench = Bench::with_three();
    let mut backup = TestFeed::new(&bench.ca);
    backup.add("agent:invoice-bot", Effect::Suspend);
    let old = FeedRefused::Old { known: (1, 3), came: (1, 1) };
    assert_eq!(bench.push_anew(&backup.whole()).unwrap_err(), old);
    let mut saved = Saved::default();
    save(&mut saved, bench.feed.unsaved().unwrap());
    let (mut again, refused) = Feed::new(trust(&bench.ca), Some(&saved), bench.now);
    assert_eq!((refused, again.after(), again.head()), (None, Some((1, 3)), bench.feed.head()));
    assert_eq!(again.push(backup.whole().as_bytes(), bench.now).unwrap_err(), old);
    // The backup goes on by itself: at the same number it says something else.
    backup.add("agent:other", Effect::Suspend);
    backup.add("agent:another", Effect::Suspend);
    bench.feed.connected();
    let refused = bench.push(&backup.whole()).unwrap_err();
    assert!(matches!(refused, FeedRefused::Contradiction { .. }), "{refused}");
    // Past it, the snapshot has another past than the one known.
    backup.add("agent:more", Effect::Suspend);
    again.connected();
    assert_eq!(again.push(backup.whole().as_bytes(), bench.now).unwrap_err(), FeedRefused::LeftOut { n: 3 });
    // What was known is known still.
    assert_eq!(again.known().unwrap().n(), 3);
    // Another epoch begins anew, and ends the old one.
    let mut next = bench.sent.clone();
    next.restart();
    next.add("agent:x", Effect::Suspend);
    assert_eq!(bench.push_anew(&next.whole()).unwrap().unwrap().epoch(), 2);
    let before = FeedRefused::Old { known: (2, 4), came: (1, 3) };
    assert_eq!(bench.push_anew(&bench.sent.whole()).unwrap_err(), before);
}

#[test]
fn an_entry_left_out_is_noticed_wherever() {
    for n in 1..=4 {
        let mut bench = Bench::with_three();
        bench.sent.add("agent:x", Effect::Suspend);
        let honest = bench.sent.clone();
        bench.sent.leave_out(n);
        // The head counts it, and its entries do not have it.
        let text = bench.sent.whole().replace(&bench.sent.head(), &honest.head());
        let refused = bench.push_anew(&text).unwrap_err();
        assert!(matches!(refused, FeedRefused::Gap { .. }), "{n}: {refused}");
        // Nor does a head of another history help.
        let mut false_one = TestFeed::new(&bench.ca);
        let history = [
            ("agent:invoice-bot", Effect::Suspend),
            ("scope:tools/call:crm/refund", Effect::Forbid),
            ("owner:team-test", Effect::Revoke),
            ("agent:x", Effect::Suspend),
            ("agent:y", Effect::Suspend),
        ];
        for (number, (target, effect)) in (1..).zip(history) {
            false_one.add(
                if number == n { "agent:nobody" } else { target },
                if number == n { Effect::Suspend } else { effect },
            );
        }
        if n < 4 {
            assert_eq!(bench.push_anew(&false_one.whole()).unwrap_err(), FeedRefused::LeftOut { n: 3 }, "{n}");
        }
        assert_eq!(bench.feed.after(), None, "only all of it, anew, can mend this");
        bench.push_anew(&honest.whole()).unwrap().unwrap();
        assert_eq!(bench.feed.after(), Some((1, 4)));
    }
    // On an open connection.
    let mut bench = Bench::with_three();
    bench.sent.add("agent:x", Effect::Suspend);
    bench.sent.add("agent:y", Effect::Suspend);
    let gap = FeedRefused::Gap { wanted: 4, came: 5 };
    assert_eq!(bench.push(&bench.sent.since(4)).unwrap_err(), gap);
}

#[test]
fn what_is_below_the_floor_is_forgotten_but_not_what_is_forbidden() {
    let mut bench = Bench::with_three();
    bench.sent.add("agent:x", Effect::Suspend);
    bench.sent.forget(3);
    bench.push_anew(&bench.sent.whole()).unwrap().unwrap();
    // A snapshot that has lost what is forbidden, below the floor as it is.
    let mut lost = bench.sent.clone();
    lost.drop_standing();
    lost.add("agent:y", Effect::Suspend);
    assert_eq!(bench.push_anew(&lost.whole()).unwrap_err(), FeedRefused::LeftOut { n: 2 });
    // Resumed, it may be lost.
    let mut resumed = bench.sent.clone();
    resumed.resume(2);
    resumed.drop_standing();
    bench.push_anew(&resumed.whole()).unwrap().unwrap();
    // The floor does not go back.
    let mut back = TestFeed::new(&bench.ca);
    for _ in 1..=9 {
        back.add("agent:invoice-bot", Effect::Suspend);
    }
    let refused = bench.push_anew(&back.whole()).unwrap_err();
    assert!(matches!(refused, FeedRefused::Contradiction { .. }), "{refused}");
}

#[test]
fn garbage_is_refused_by_name() {
    let bench = Bench::with_three();
    let good = bench.sent.whole();
    let (entry, head) = (good.find("event: entry").unwrap(), good.find("event: head\n").unwrap());
    let refused = |text: String| {
        let mut bench = Bench::new();
        let refused = bench.push(&text).unwrap_err();
        assert!(bench.feed.known().is_none());
        refused
    };
    let event = |text: &str| format!("{}event: entry\ndata: {text}\n\n", &good[..entry]);
    for entry in ["{}", "null", "{\"kind\":\"revocation\"}", "\u{0}", "{\"kind\":\"else\",\"n\":1}"] {
        assert!(matches!(refused(event(entry)), FeedRefused::Event { .. }), "{entry}");
    }
    assert!(matches!(refused(event(&" ".repeat(10_000))), FeedRefused::Oversize { .. }));
    assert!(matches!(refused("x".repeat(3 << 20)), FeedRefused::Oversize { .. }));
    assert!(matches!(refused(format!("{}event: head\ndata: x\n\n", &good[..head])), FeedRefused::Head(_)));
    assert!(matches!(refused("event: snapshot\ndata: []\n\n".into()), FeedRefused::Event { .. }));
    assert_eq!(refused("event: entry\ndata: {}\n\n".into()), FeedRefused::Unfounded);
    assert_eq!(refused(bench.sent.resumed(0).replace("event: entry", "event: later")), FeedRefused::Unfounded);
    assert_eq!(refused(good.replace("spiffe_refresh_hint\":300", "spiffe_refresh_hint\":301")), FeedRefused::Bundle);
    let mut bench = Bench::new();
    assert_eq!(bench.feed.push(b"data: \xff\n", bench.now).unwrap_err(), FeedRefused::Text);
    // What a later issuer may add is passed over.
    bench.push_anew(&format!("retry: 7\n: hello\n\nevent: news\ndata: {{}}\n\n{good}")).unwrap().unwrap();
}

#[test]
fn what_is_saved_comes_back_whole_or_not_at_all() {
    let mut bench = Bench::with_three();
    let mut saved = Saved::default();
    save(&mut saved, bench.feed.unsaved().unwrap());
    assert!(bench.feed.unsaved().is_none());
    bench.sent.add("agent:x", Effect::Suspend);
    bench.push(&bench.sent.since(3)).unwrap();
    assert!(bench.feed.has_unsaved_entries());
    let before = saved.clone();
    save(&mut saved, bench.feed.unsaved().unwrap());
    assert!(saved.entries.starts_with(&before.entries));
    bench.push(&bench.sent.head()).unwrap();
    assert!(!bench.feed.has_unsaved_entries());

    let (feed, refused) = Feed::new(trust(&bench.ca), Some(&saved), bench.now);
    let known = feed.known().unwrap();
    assert_eq!((refused, known.n(), known.is_from_disk()), (None, 4, true));
    // The process ended between the entries and the head, in the middle of a line.
    for cut in [0, 1, 40] {
        let torn = Saved { head: before.head.clone(), entries: saved.entries[..saved.entries.len() - cut].into() };
        let (mut feed, refused) = Feed::new(trust(&bench.ca), Some(&torn), bench.now);
        assert_eq!((refused, feed.after()), (None, Some((1, 3))), "{cut}");
        let mut mended = torn.clone();
        save(&mut mended, feed.unsaved().unwrap());
        assert_eq!(mended, before);
    }
    // Entries that are not those of the head: all is asked for anew, and the head is held against it.
    let lost = Saved { entries: before.entries, ..saved.clone() };
    let (feed, refused) = Feed::new(trust(&bench.ca), Some(&lost), bench.now);
    assert!(matches!(refused, Some(FeedRefused::Gap { wanted: 4, came: 3 })), "{refused:?}");
    assert_eq!((feed.after(), feed.known().is_none(), feed.head().is_some()), (None, true, true));
    // Somebody else's head is none.
    let (feed, refused) = Feed::new(trust(&bench.ca.impostor()), Some(&saved), bench.now);
    assert!(matches!(refused, Some(FeedRefused::Signer { .. })) && feed.head().is_none());
}

#[test]
fn the_feed_is_enough_and_the_better_knowledge_counts() {
    let mut bench = Bench::new();
    let known = bench.push(&bench.sent.whole()).unwrap();
    let without_crls = Material { crls: Arc::default(), answered: None, ..bench.material(known) };
    let clock = |now: Moment| Arc::new(Standing(now));
    let verifier = Verifier::new(&without_crls, provider(), clock(bench.now)).unwrap();
    let agent = bench.ca.agent("invoice-bot").scope(SCOPE).issue();
    let peer = verifier.client(&agent.chain, bench.now).unwrap();
    let later = |seconds| {
        let by = Duration::from_secs(seconds);
        Moment { wall: bench.now.wall + by, monotonic: bench.now.monotonic + by }
    };
    assert_eq!(verifier.check(&peer, later(30)), Ok(Knowledge::Fresh));
    assert_eq!(verifier.check(&peer, later(31)), Ok(Knowledge::Stale));
    assert_eq!(verifier.check(&peer, later(901)), Err(Denial::RevocationExpired));
    // CRLs that were answered later.
    let with_crls = Material { answered: Some(later(900)), ..bench.material(without_crls.feed.clone()) };
    verifier.renew(&with_crls).unwrap();
    assert_eq!(verifier.check(&peer, later(901)), Ok(Knowledge::Fresh));
    let status = verifier.status();
    assert_eq!(status.feed.as_ref().map(|feed| (feed.epoch, feed.n, feed.knowledge)), Some((1, 0, Knowledge::Fresh)));
    // Material without a feed takes nothing away, nor does an older one.
    bench.sent.add("agent:invoice-bot", Effect::Suspend);
    let known = bench.push(&bench.sent.since(0)).unwrap();
    verifier.renew(&bench.material(known)).unwrap();
    assert_eq!(verifier.check(&peer, bench.now), Err(Denial::Revoked(peer.serial())));
    verifier.renew(&bench.material(without_crls.feed)).unwrap();
    verifier.renew(&bench.material(None)).unwrap();
    assert_eq!(verifier.check(&peer, bench.now), Err(Denial::Revoked(peer.serial())));
}

#[derive(Debug)]
struct Standing(Moment);

impl chancery_verifier::Clock for Standing {
    fn now(&self) -> Moment {
        self.0
    }
}

#[test]
fn what_is_forbidden_is_refused_whoever_asks() {
    let mut bench = Bench::new();
    let forbidden = bench.sent.add("scope:tools/call:crm/**", Effect::Forbid);
    let known = bench.push(&bench.sent.whole()).unwrap();
    let verifier = Verifier::new(&bench.material(known), provider(), Arc::new(Standing(bench.now))).unwrap();
    let rules = Rules::new().allow("POST", "/refunds", SCOPE).unwrap().allow("GET", "/x", "read:crm/x").unwrap();
    let guard = verifier.guard(rules).unwrap();
    let agent = bench.ca.agent("invoice-bot").scope("tools/call:crm/*").scope("read:crm/x").issue();
    let peer = verifier.client(&agent.chain, bench.now).unwrap();
    let denial = guard.check(&peer, "POST", "/refunds", bench.now).unwrap_err();
    assert_eq!((denial.code(), denial.status(), denial.needs().unwrap().as_str()), ("scope-forbidden", 403, SCOPE));
    assert!(denial.fix().contains("chancery resume rv_0000"), "{}", denial.fix());
    assert!(denial.to_string().contains("forbids tools/call:crm/**"), "{denial}");
    // Nothing else is.
    guard.check(&peer, "GET", "/x", bench.now).unwrap();
    bench.sent.resume(forbidden);
    let known = bench.push(&bench.sent.since(1)).unwrap();
    verifier.renew(&bench.material(known)).unwrap();
    guard.check(&peer, "POST", "/refunds", bench.now).unwrap();
}

#[test]
fn who_was_certified_by_a_wiser_issuer_waits() {
    let mut bench = Bench::with_three();
    let known = bench.feed.known().cloned();
    let verifier = Verifier::new(&bench.material(known), provider(), Arc::new(Standing(bench.now))).unwrap();
    let agent = |seen, epoch| {
        let subject = bench.ca.agent("other").scope(SCOPE).grant(|grant| {
            (grant.seen, grant.epoch, grant.owner) = (seen, epoch, "team-else".parse().unwrap());
        });
        verifier.client(&subject.issue().chain, bench.now)
    };
    let knows = |seen| agent(seen, 1).map(|_| ());
    assert_eq!(knows(3), Ok(()));
    let behind = knows(4).unwrap_err();
    assert_eq!((behind.code(), behind.status()), ("verifier-behind", 503));
    assert_eq!(behind, Denial::Behind { wanted: (1, 4), known: (1, 3) });
    assert!(matches!(agent(0, 2), Err(Denial::Behind { .. })), "a later epoch");
    assert_eq!(verifier.status().behind, 2);
    // Whoever the entries known hit is refused for that.
    bench.sent.add("agent:x", Effect::Suspend);
    let known = bench.feed.push(bench.sent.since(3).as_bytes(), bench.now).unwrap().pop();
    verifier.renew(&bench.material(known)).unwrap();
    let again = bench.ca.agent("other").grant(|grant| (grant.seen, grant.owner) = (4, "team-else".parse().unwrap()));
    verifier.client(&again.issue().chain, bench.now).unwrap();
}

#[tokio::test]
async fn news_cut_the_connections_that_they_hit_and_no_other() {
    let service = Service::start().await;
    let now = service.verifier.now();
    let mut sent = TestFeed::new(&service.ca);
    let (mut feed, _) = Feed::new(trust(&service.ca), None, now);
    let echo = service.echo(Default::default()).await;
    let (_, agent) = service.agent();
    let other = service.ca.agent("other").issue();
    let mut hit = visit(echo.address, &agent).await.unwrap();
    let mut spared = visit(echo.address, &service.stock_client(Some(other))).await.unwrap();
    let begun = Instant::now();
    sent.add("agent:invoice-bot", Effect::Suspend);
    let known = feed.push(sent.whole().as_bytes(), now).unwrap().pop();
    let material = Material { feed: known, ..service.revoking(&[]) };
    service.material.send_replace(Arc::new(material));
    closed(&mut hit).await;
    assert!(begun.elapsed() < common::PATIENCE);
    common::round_trip(&mut spared).await.unwrap();
    // Counted once all that it hits is cut.
    while service.verifier.status().closed_connections == 0 {
        tokio::task::yield_now().await;
    }
    visit(echo.address, &agent).await.unwrap_err();
}

/// A handshake that comes with the entry on its heels waits for it.
#[tokio::test]
async fn a_handshake_waits_a_moment_for_what_the_issuer_knew() {
    let service = Service::start().await;
    let now = service.verifier.now();
    let mut sent = TestFeed::new(&service.ca);
    let (mut feed, _) = Feed::new(trust(&service.ca), None, now);
    let known = feed.push(sent.whole().as_bytes(), now).unwrap().pop();
    service.verifier.renew(&Material { feed: known, ..service.revoking(&[]) }).unwrap();
    let echo = service.echo(Default::default()).await;
    let issued = service.ca.agent("invoice-bot").grant(|grant| grant.seen = 1).issue();
    let client = service.stock_client(Some(issued));
    let (address, verifier) = (echo.address, service.verifier.clone());
    let visiting = tokio::spawn(async move { visit(address, &client).await });
    while verifier.status().behind == 0 {
        tokio::task::yield_now().await;
    }
    sent.add("agent:else", Effect::Suspend);
    let known = feed.push(sent.since(0).as_bytes(), now).unwrap().pop();
    service.verifier.renew(&Material { feed: known, ..service.revoking(&[]) }).unwrap();
    visiting.await.unwrap().unwrap();
}

/// A good feed of three entries, of which a piece is cut out and another put in.
fn near() -> impl Strategy<Value = (String, usize)> {
    let good = Bench::with_three().sent.whole();
    let pieces = [
        "",
        "\n",
        "\n\n",
        "\r",
        "event: head\n",
        "event: entry\n",
        "data: ",
        "data: {}\n",
        ":",
        "1",
        "\"",
        "A",
        "é",
        "{}",
    ];
    let piece = prop::sample::select(pieces.to_vec());
    let len = good.len();
    (any::<prop::sample::Index>(), 0..300_usize, piece, 0..len).prop_map(move |(at, cut, piece, chunk)| {
        let at = at.index(len);
        let (before, after) = (&good.as_bytes()[..at], &good.as_bytes()[(at + cut).min(len)..]);
        (String::from_utf8_lossy(&[before, piece.as_bytes(), after].concat()).into_owned(), chunk)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn no_changed_byte_teaches_anything_else((text, chunk) in near()) {
        let ca = TestCa::new("example.org");
        let known = bodies::feed(&trust(&ca), text.as_bytes(), chunk, ca.moment());
        prop_assert!(known.is_none_or(|known| known == (1, 3)), "{known:?}");
    }

    #[test]
    fn no_changed_file_is_read_as_something_else(at: prop::sample::Index, to: u8, of_head: bool) {
        let mut bench = Bench::with_three();
        let mut saved = Saved::default();
        save(&mut saved, bench.feed.unsaved().unwrap());
        let text = if of_head { &mut saved.head } else { &mut saved.entries };
        let (at, was) = *at.get(&text.char_indices().collect::<Vec<_>>());
        let to = char::from(to & 0x7f);
        text.replace_range(at..at + was.len_utf8(), to.encode_utf8(&mut [0; 4]));
        let known = bodies::saved(&trust(&bench.ca), &saved.head, &saved.entries, bench.now);
        prop_assert!(known.is_none_or(|known| known == (1, 3)), "{known:?}");
    }
}

/// Ten thousand at once, by heads of a few each: look-ups stay compact, and every one counts.
#[test]
fn a_burst_is_taken_and_put_in_order() {
    let mut bench = Bench::new();
    bench.push(&bench.sent.whole()).unwrap();
    let (mut tidied, mut sent) = (0, 0);
    for _ in 0..100 {
        for _ in 0..100 {
            bench.sent.add(&format!("serial:41{:030x}", 1 + bench.sent.n()), Effect::Revoke);
        }
        bench.push(&bench.sent.since(sent)).unwrap();
        sent = bench.sent.n();
        if let Some(tidying) = bench.feed.tidying() {
            tidied += 1;
            assert_eq!(bench.feed.tidied(tidying.run()).unwrap().n(), sent);
        }
    }
    assert!((2..=10).contains(&tidied), "{tidied} times");
    let known = bench.feed.known().cloned();
    let verifier = Verifier::new(&bench.material(known), provider(), Arc::new(Standing(bench.now))).unwrap();
    let peer = bench.ca.agent("invoice-bot").issue();
    verifier.client(&peer.chain, bench.now).unwrap();
    bench.sent.add(&format!("serial:{}", peer.certificate.serial), Effect::Revoke);
    let known = bench.push(&bench.sent.since(sent)).unwrap();
    verifier.renew(&bench.material(known)).unwrap();
    assert!(matches!(verifier.client(&peer.chain, bench.now), Err(Denial::Revoked(_))));
}

/// What was indexed is not kept as DER, and what the feed tells not a second time.
#[test]
fn no_list_is_held_that_was_read() {
    let mut bench = Bench::new();
    let known = bench.push(&bench.sent.whole()).unwrap();
    let material = bench.material(known);
    let list = Arc::downgrade(&material.crls);
    let verifier = Verifier::new(&material, provider(), Arc::new(Standing(bench.now))).unwrap();
    drop(material);
    assert_eq!(list.strong_count(), 0);
    // The third is of an authority that no peer has shown yet: it alone is kept.
    assert_eq!((verifier.status().authorities.len(), verifier.status().crls_refused.len()), (2, 1));
}
