//! The feed as an identity's verifiers hear it, over real sockets: from an issuer that lies, goes away or goes silent, and
//! over a network that stops carrying anything.

use std::net::SocketAddr;
use std::sync::Mutex;

use chancery_identity::Effect;
use chancery_testkit::TestFeed;
use chancery_verifier::{Denial, Knowledge, Status};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const LATER: Duration = Duration::from_secs(20);

/// A clock that a test sets: the wall clock by itself, or both.
#[derive(Debug, Default)]
struct Set(Mutex<(i64, Duration)>);

impl Set {
    /// The wall clock is this many seconds off from now on, the monotonic one this much ahead.
    fn to(&self, wall_s: i64, monotonic: Duration) {
        *self.0.lock().unwrap() = (wall_s, monotonic);
    }
}

/// A clock that stands until a test moves it on, and tells of each look at it.
#[derive(Debug)]
struct Standing {
    at: Mutex<Moment>,
    looks: watch::Sender<()>,
}

impl Standing {
    fn new() -> Arc<Self> {
        Arc::new(Self { at: Mutex::new(SystemClock.now()), looks: watch::Sender::new(()) })
    }

    fn forward(&self, seconds: u64) {
        let (mut at, by) = (self.at.lock().unwrap(), Duration::from_secs(seconds));
        *at = Moment { wall: at.wall + by, monotonic: at.monotonic + by };
    }

    /// Waits until somebody has looked so often, and has gone on from there.
    async fn looked_at(&self, times: usize) {
        let mut looks = self.looks.subscribe();
        for _ in 0..times {
            looks.changed().await.unwrap();
        }
    }
}

impl Clock for Standing {
    fn now(&self) -> Moment {
        self.looks.send_replace(());
        *self.at.lock().unwrap()
    }
}

impl Clock for Set {
    fn now(&self) -> Moment {
        let (wall_s, monotonic) = *self.0.lock().unwrap();
        let now = SystemClock.now();
        let wall = chancery_identity::Timestamp::from_unix_millis(now.wall.unix_millis() + wall_s * 1000);
        Moment { wall, monotonic: now.monotonic + monotonic }
    }
}

/// Carries bytes to the issuer, or lets them lie: no byte and no reset passes then, and who connects is not answered.
struct Network {
    address: SocketAddr,
    carries: watch::Sender<bool>,
}

impl Network {
    async fn before(issuer: &Issuer) -> Self {
        let target: SocketAddr = issuer.url.strip_prefix("https://").unwrap().parse().unwrap();
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, carries) = (socket.local_addr().unwrap(), watch::Sender::new(true));
        let open = carries.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = socket.accept().await {
                let open = open.clone();
                tokio::spawn(async move {
                    open.subscribe().wait_for(|carries| *carries).await.unwrap();
                    let far = TcpStream::connect(target).await.unwrap();
                    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                    tokio::join!(carry(near_in, far_out, open.subscribe()), carry(far_in, near_out, open.subscribe()));
                });
            }
        });
        Self { address, carries }
    }

    fn join(&self, issuer: &Issuer) -> chancery_api::JoinString {
        issuer.join().to_string().replace(&issuer.url, &format!("https://{}", self.address)).parse().unwrap()
    }
}

async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut open: watch::Receiver<bool>,
) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let mut bytes = [0; 4096];
    while let Ok(len @ 1..) = from.read(&mut bytes).await {
        if open.wait_for(|carries| *carries).await.is_err() || to.write_all(&bytes[..len]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

/// A verifier that works from an identity, and one peer of it.
struct Taught {
    issuer: Issuer,
    agent: Agent,
    clock: Arc<Set>,
    identity: Identity,
    verifier: Verifier,
    peer: Vec<rustls_pki_types::CertificateDer<'static>>,
}

impl Taught {
    async fn start(name: &str) -> Self {
        let issuer = issuer();
        let join = issuer.join();
        Self::join(name, issuer, join).await
    }

    async fn join(name: &str, issuer: Issuer, join: chancery_api::JoinString) -> Self {
        let (agent, clock) = (Agent::new(name), Arc::<Set>::default());
        let identity = agent.builder().join(join).clock(clock.clone()).start().await.unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Verifier::start_with(identity.clone(), provider, clock.clone()).await.unwrap();
        let peer = issuer.world.ca.agent("visitor").issue().chain;
        let taught = Self { issuer, agent, clock, identity, verifier, peer };
        taught.until(|status| status.feed.as_ref().is_some_and(|feed| !feed.from_disk)).await;
        taught
    }

    async fn until(&self, holds: impl Fn(&Status) -> bool) {
        until(&self.verifier, holds).await;
    }

    fn judge(&self) -> Result<Knowledge, Denial> {
        self.verifier
            .client(&self.peer, self.verifier.now())
            .and_then(|peer| self.verifier.check(&peer, self.verifier.now()))
    }

    /// Suspends the visitor, and waits until the verifier says that this is in force.
    async fn suspend(&self) -> u64 {
        let n = self.issuer.feed(|feed| feed.add("agent:visitor", Effect::Suspend));
        self.issuer.acknowledged(n).await;
        n
    }
}

async fn until(verifier: &Verifier, holds: impl Fn(&Status) -> bool) {
    let mut changes = verifier.changes();
    let waiting = async {
        while !holds(&verifier.status()) {
            changes.changed().await.unwrap();
        }
    };
    let waited = tokio::time::timeout(LATER, waiting).await;
    assert!(waited.is_ok(), "it does not come to hold: {:?}", verifier.status());
}

fn refused(status: &Status) -> u64 {
    status.health.as_ref().map_or(0, |health| health.refused.count)
}

fn connected(status: &Status) -> bool {
    status.health.as_ref().is_some_and(|health| health.connected)
}

#[tokio::test]
async fn what_is_acknowledged_is_in_force() {
    let mut taught = Taught::start("taught").await;
    assert_eq!(taught.judge(), Ok(Knowledge::Fresh));
    let n = taught.suspend().await;
    assert!(matches!(taught.judge(), Err(Denial::Revoked(_))));
    let ack = taught.issuer.told().acks.last().cloned().unwrap();
    assert_eq!((ack.1.epoch, ack.1.n, ack.1.head), (1, n, None));
    assert_eq!(ack.0, taught.identity.spiffe_id(), "shown by the certificate, not by what is said");
    let resumed = taught.issuer.feed(|feed| feed.resume(n));
    taught.issuer.acknowledged(resumed).await;
    assert_eq!(taught.judge(), Ok(Knowledge::Fresh));
    let line = taught.agent.hear(|event| matches!(event, Event::FeedHeard { .. }).then(|| event.to_string())).await;
    assert!(line.starts_with("revocations fresh  n 0  lag "), "{line}");
    assert!(line.ends_with(" ms  |  stale after 30s: served and flagged; expired after 15m00s: refused"), "{line}");
    // With the feed there is no need of CRLs.
    let asked = taught.issuer.crls_asked();
    let n = taught.suspend().await;
    taught.issuer.heads(3).await;
    assert_eq!(taught.issuer.crls_asked(), asked);
    assert_eq!(taught.verifier.status().feed.unwrap().n, n);
    assert!(taught.identity.material().borrow().crls.is_empty(), "nor to hold them");
}

#[tokio::test]
async fn who_only_calls_asks_for_no_feed_and_rarely_for_crls() {
    let (issuer, agent, clock) = (issuer(), Agent::new("calls"), Standing::new());
    let identity = agent.builder().join(issuer.join()).clock(clock.clone()).start().await.unwrap();
    let asked = issuer.crls_asked();
    // Each second it looks whether it is time. It has begun to by the second look; what it made of the first one is done by
    // the third.
    clock.looked_at(2).await;
    clock.forward(14);
    clock.looked_at(3).await;
    assert_eq!((issuer.crls_asked(), issuer.feeds()), (asked, 0));
    clock.forward(1);
    issuer.eventually(|told| told.crls_asked() > asked).await;
    // Somebody who writes files needs them each second.
    let asked = issuer.crls_asked();
    let files = identity.material();
    clock.forward(1);
    issuer.eventually(|told| told.crls_asked() > asked + 1).await;
    assert_eq!(issuer.feeds(), 0);
    drop((files, identity));
}

#[tokio::test]
async fn the_feed_is_followed_as_long_as_somebody_wants_it() {
    let issuer = issuer();
    let agent = Agent::new("wanted");
    let identity = agent.join(&issuer).await.unwrap();
    let verifier = Verifier::start(identity).await.unwrap();
    until(&verifier, connected).await;
    drop(verifier);
    issuer.eventually(|told| told.feeds_open == 0).await;
}

/// Whoever hands CRLs on hears of a revocation when the feed tells it: the clock stands, so no round is due by itself.
#[tokio::test]
async fn news_of_the_feed_are_in_the_crls_that_are_handed_on() {
    let ca = ca();
    let issuer = Issuer::of(ca.clone(), ca.service("edge"));
    let agent = Agent::new("handed-on");
    let identity = agent.builder().join(issuer.join()).clock(Standing::new()).start().await.unwrap();
    let mut material = identity.hand_on();
    let mut crls = material.next().await.unwrap().crls.clone();
    issuer.eventually(|told| told.feeds_open == 1).await;
    for serial in ["5c0e91", "5c0e92"] {
        issuer.revoke(serial.parse().unwrap());
        issuer.feed(|feed| feed.add(&format!("serial:{serial}"), Effect::Revoke));
        let shown = async {
            loop {
                let now = material.next().await.unwrap();
                if !Arc::ptr_eq(&now.crls, &crls) {
                    break now.crls.clone();
                }
            }
        };
        crls = tokio::time::timeout(LATER, shown).await.expect("the CRLs show it");
    }
    drop(material);
    issuer.eventually(|told| told.feeds_open == 0).await;
}

/// An acknowledgement that is not taken is no silence: the status tells, and it is told again.
#[tokio::test]
async fn acknowledgements_that_are_not_taken_are_counted_and_made_again() {
    let taught = Taught::start("unacknowledged").await;
    let refusal = Fault::Refuse { status: 503, code: "overloaded", retry: Retry::Same };
    taught.issuer.told().fault = Some(("/v1/feed/acks", refusal));
    taught.suspend().await;
    let health = taught.verifier.status().health.unwrap();
    assert_eq!((health.unacknowledged.count, health.unsaved.count), (1, 0), "{health:?}");
    assert!(health.unacknowledged.last.unwrap().contains("overloaded"));
}

/// What cannot be saved is in force, and is not acknowledged.
#[tokio::test]
async fn what_cannot_be_saved_is_in_force_counted_and_not_acknowledged() {
    let taught = Taught::start("unsaved").await;
    let entries = taught.agent.folder.join("feed-entries");
    // The agent writes there too: between the two it may be there again.
    while let Err(error) = std::fs::create_dir(&entries) {
        assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
        let _ = std::fs::remove_file(&entries);
    }
    let n = taught.issuer.feed(|feed| feed.add("agent:visitor", Effect::Suspend));
    taught.until(|status| status.health.as_ref().is_some_and(|health| health.unsaved.count > 0)).await;
    taught.until(|status| status.feed.as_ref().is_some_and(|feed| feed.n == n)).await;
    assert!(matches!(taught.judge(), Err(Denial::Revoked(_))));
    assert!(taught.issuer.told().acks.iter().all(|(_, ack)| ack.n < n), "acknowledged, and not saved");
    std::fs::remove_dir(&entries).unwrap();
    taught.issuer.acknowledged(n).await;
}

#[tokio::test]
async fn a_network_that_carries_nothing_is_noticed_and_its_healing_too() {
    let issuer = issuer();
    let network = Network::before(&issuer).await;
    let join = network.join(&issuer);
    let mut taught = Taught::join("cut", issuer, join).await;
    network.carries.send_replace(false);
    let n = taught.issuer.feed(|feed| feed.add("agent:visitor", Effect::Suspend));
    taught.until(|status| !connected(status)).await;
    taught.agent.hear(|event| matches!(event, Event::FeedLost { .. }).then_some(())).await;
    // What it knows serves as long as it may, and no longer.
    assert_eq!(taught.judge(), Ok(Knowledge::Fresh));
    taught.clock.to(40, Duration::from_secs(40));
    assert_eq!((taught.judge(), taught.verifier.status().knowledge), (Ok(Knowledge::Stale), Knowledge::Stale));
    taught.clock.to(1000, Duration::from_secs(1000));
    assert_eq!(
        (taught.judge(), taught.verifier.status().knowledge),
        (Err(Denial::RevocationExpired), Knowledge::Expired)
    );
    assert!(taught.issuer.told().acks.iter().all(|(_, ack)| ack.n < n), "acknowledged, and not known");
    taught.clock.to(0, Duration::ZERO);
    network.carries.send_replace(true);
    taught.issuer.acknowledged(n).await;
    assert!(matches!(taught.judge(), Err(Denial::Revoked(_))));
    taught.until(|status| connected(status) && status.knowledge == Knowledge::Fresh).await;
    assert!(taught.verifier.status().health.unwrap().reconnects >= 1);
}

#[tokio::test]
async fn no_step_of_a_clock_makes_knowledge_younger() {
    let issuer = issuer();
    let network = Network::before(&issuer).await;
    let join = network.join(&issuer);
    let taught = Taught::join("clocks", issuer, join).await;
    network.carries.send_replace(false);
    taught.until(|status| !connected(status)).await;
    let judge = |wall_s, monotonic_s| {
        taught.clock.to(wall_s, Duration::from_secs(monotonic_s));
        taught.judge()
    };
    // A suspended machine: the monotonic clock stood still. A wall clock set back: the monotonic one went on.
    assert_eq!(judge(60, 0), Ok(Knowledge::Stale));
    assert_eq!(judge(1000, 0), Err(Denial::RevocationExpired));
    assert_eq!(judge(-50, 60), Ok(Knowledge::Stale));
    assert_eq!(judge(-50, 1000), Err(Denial::RevocationExpired));
    assert_eq!(judge(0, 0), Ok(Knowledge::Fresh));
    drop(network);
    // An issuer whose clock stands: its heads come, and are as old as they say.
    let stopped = Taught::start("stopped").await;
    stopped.issuer.stop_clock();
    stopped.issuer.feed(|feed| feed.set_time(now() - Duration::from_secs(60)));
    stopped.until(|status| status.feed.as_ref().is_some_and(|feed| feed.knowledge == Knowledge::Stale)).await;
    assert!(connected(&stopped.verifier.status()));
}

#[tokio::test]
async fn a_feed_that_lies_is_refused_said_and_left_behind() {
    let taught = Taught::start("lies").await;
    taught.suspend().await;
    let honest = taught.issuer.feed(|feed| feed.clone());
    let impostor = TestFeed::new(&taught.issuer.world.ca.impostor()).with_key(9);
    let mut left_out = honest.clone();
    left_out.add("agent:x", Effect::Suspend);
    left_out.add("agent:y", Effect::Suspend);
    left_out.leave_out(1);
    let older = TestFeed::new(&taught.issuer.world.ca);
    let lies = [
        ("cannot be read", "event: entry\ndata: garbage\n\n".to_owned()),
        ("not signed by a head key", impostor.whole()),
        ("wanted the feed's entry 1", left_out.whole()),
        ("tells of revocation 0", older.whole()),
    ];
    for (why, lie) in lies {
        let before = refused(&taught.verifier.status());
        let asked = taught.issuer.crls_asked();
        taught.issuer.lie(Some(lie));
        taught.until(|status| refused(status) > before).await;
        let health = taught.verifier.status().health.unwrap();
        assert!(health.refused.last.as_ref().is_some_and(|last| last.contains(why)), "{why}: {health:?}");
        assert!(matches!(taught.judge(), Err(Denial::Revoked(_))), "{why}: what is known stays known");
        // CRLs are asked for meanwhile.
        taught.issuer.eventually(|told| told.crls_asked() > asked).await;
        taught.issuer.lie(None);
        taught.until(connected).await;
        assert!(matches!(taught.judge(), Err(Denial::Revoked(_))), "{why}: after it");
    }
    // The issuer is shown the head that it lost.
    let shown = |ack: &chancery_api::FeedAck| ack.head.as_ref().is_some_and(|head| head.contains("\nrevocation 1 "));
    taught.issuer.eventually(|told| told.acks.iter().any(|(_, ack)| shown(ack))).await;
}

/// A feed whose heads come and do not bring what the issuer knew: it is asked for anew.
#[tokio::test]
async fn a_verifier_that_is_behind_asks_anew() {
    let taught = Taught::start("behind").await;
    let wiser = taught.issuer.world.ca.agent("visitor").grant(|grant| grant.seen = 1).issue().chain;
    let judge = || taught.verifier.client(&wiser, taught.verifier.now()).map(|_| ());
    assert!(matches!(judge(), Err(Denial::Behind { .. })));
    taught.until(|status| status.health.as_ref().is_some_and(|health| health.reconnects > 0)).await;
    assert!(taught.verifier.status().behind >= 1);
    let n = taught.issuer.feed(|feed| feed.add("agent:else", Effect::Suspend));
    taught.issuer.acknowledged(n).await;
    assert_eq!(judge(), Ok(()));
}

#[tokio::test]
async fn an_issuer_that_is_away_is_no_reason_not_to_start() {
    let mut taught = Taught::start("away").await;
    taught.suspend().await;
    taught.issuer.stop();
    let Taught { issuer, agent, identity, verifier, peer, .. } = taught;
    let ca = issuer.world.ca.clone();
    drop((identity, verifier));
    // CRLs on disk would do as well: without them the feed alone decides.
    std::fs::remove_file(agent.folder.join("crl.pem")).unwrap();
    let clock = Arc::<Set>::default();
    let again = started(|| agent.builder().clock(clock.clone()).start()).await;
    let provider = || Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier::start_with(again.clone(), provider(), clock.clone()).await.unwrap();
    let status = verifier.status();
    let feed = status.feed.unwrap();
    assert_eq!((status.knowledge, feed.n, feed.from_disk), (Knowledge::Stale, 1, true));
    let judge = |chain: &[_]| verifier.client(chain, verifier.now()).map(|_| ());
    assert!(matches!(judge(&peer), Err(Denial::Revoked(_))), "what was acknowledged is in force after a restart");
    judge(&ca.agent("other").issue().chain).unwrap();
    drop(verifier);
    // Too late, and it says so.
    clock.to(1000, Duration::ZERO);
    let error = Verifier::start_with(again, provider(), clock).await.unwrap_err();
    assert!(error.to_string().contains("the feed's newest head, of n 1, is expired"), "{error}");
}
