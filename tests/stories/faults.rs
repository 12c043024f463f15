//! What goes wrong around the issuer, with verifiers that follow its real feed: what each accepts, says and recovers from.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use chancery::store::{Cause, Revoke};
use chancery_agent::{Event, Identity};
use chancery_api::{JoinString, JoinTokenCreated};
use chancery_identity::{Effect, Reason, Serial, Target, Timestamp};
use chancery_verifier::{Clock, Credentials as _, Denial, Knowledge, Moment, Rules, Status, SystemClock, Verifier};
use futures_util::future::join_all;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::fixture::Issuer;
use crate::program;

const READ: &str = "tools/call:crm/get_customer";
/// What takes longer never comes.
const LATER: Duration = Duration::from_secs(30);

/// The clocks of this machine, set off by hand.
#[derive(Debug, Default)]
struct Off(Mutex<(i64, Duration)>);

impl Off {
    /// The wall clock is so many seconds off from now on, the monotonic one so much ahead.
    fn by(&self, wall_s: i64, monotonic: Duration) {
        *self.0.lock().unwrap() = (wall_s, monotonic);
    }
}

impl Clock for Off {
    fn now(&self) -> Moment {
        let ((wall_s, ahead), Moment { wall, monotonic }) = (*self.0.lock().unwrap(), SystemClock.now());
        Moment { wall: Timestamp::from_unix_millis(wall.unix_millis() + wall_s * 1000), monotonic: monotonic + ahead }
    }
}

/// A service that learns by the feed. Its folder goes with it.
struct Service {
    verifier: Verifier,
    identity: Identity,
    clock: Arc<Off>,
    /// How often the feed was heard anew, and how often it was lost.
    feed: watch::Receiver<(u32, u32)>,
    folder: PathBuf,
}

impl Service {
    async fn start(join: JoinString) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("chancery-faults-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        let (folder, clock) = (std::env::temp_dir().join(name), Arc::<Off>::default());
        let (told, feed) = watch::channel((0, 0));
        let observe = move |event: &Event| match event {
            Event::FeedHeard { .. } => told.send_modify(|(heard, _)| *heard += 1),
            Event::FeedLost { .. } => told.send_modify(|(_, lost)| *lost += 1),
            _ => {}
        };
        let builder = Identity::builder().state_dir(&folder).join(join).clock(clock.clone()).observe(observe);
        let identity = builder.start().await.unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Verifier::start_with(identity.clone(), provider, clock.clone()).await.unwrap();
        let service = Self { verifier, identity, clock, feed, folder };
        service.until(|status| status.feed.as_ref().is_some_and(|feed| !feed.from_disk)).await;
        service
    }

    /// At an issuer of this process.
    async fn of(issuer: &Issuer, name: &str) -> Self {
        let new = json!({"name": name, "owner": "team-crm", "systems": [name], "dns": []});
        issuer.admin.post::<Value>("/v1/admin/services", &new).await.unwrap();
        let token: JoinTokenCreated =
            issuer.admin.post("/v1/admin/join-tokens", &json!({"service": name})).await.unwrap().body;
        Self::start(token.join).await
    }

    /// Looks whenever there is news, and now and then, as what is known ages by itself.
    async fn until(&self, holds: impl Fn(&Status) -> bool) {
        let (begun, mut news) = (Instant::now(), self.verifier.changes());
        while !holds(&self.verifier.status()) {
            assert!(begun.elapsed() < LATER, "it does not come to hold: {:?}", self.verifier.status());
            let _ = tokio::time::timeout(Duration::from_millis(20), news.changed()).await;
        }
    }

    async fn knows(&self, n: u64) {
        self.until(|status| status.feed.as_ref().is_some_and(|feed| feed.n >= n)).await;
    }

    fn n(&self) -> u64 {
        self.verifier.status().feed.map_or(0, |feed| feed.n)
    }

    fn judge(&self, chain: &[CertificateDer<'static>]) -> Result<Knowledge, Denial> {
        let now = self.verifier.now();
        self.verifier.client(chain, now).and_then(|peer| self.verifier.check(&peer, now))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn free_address() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// The real process, killed and started again while requests and handshakes go on; then away for as long as verifiers bear it.
#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_is_killed_costs_no_refusal_until_it_is_away_for_too_long() {
    let address = free_address();
    let (issuer, service, callers) = {
        let address = address.clone();
        let (issuer, join, callers) = blocking(move || {
            let issuer = program::Issuer::start_in(program::Scratch::new(), &address);
            issuer.done(&["services", "create", "crm", "--owner", "team-crm", "--system", "crm"]);
            let callers = ["one-bot", "two-bot"].map(|name| (name, issuer.join(name)));
            let join = issuer.join_string("--service", "crm");
            (issuer, join, callers)
        })
        .await;
        let service = Service::start(join.parse().unwrap()).await;
        let folder = service.folder.clone();
        let callers =
            join_all(callers.map(|(name, join)| {
                Identity::builder().join(join.parse().unwrap()).state_dir(&folder.join(name)).start()
            }));
        (issuer, service, callers.await.into_iter().map(Result::unwrap).collect::<Vec<_>>())
    };
    let rules = Rules::new().allow("GET", "/customers/{id}", READ).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let app = Router::new().route("/customers/{id}", get(async || "hello"));
    let served = chancery_verifier::axum::serve(listener, app, service.verifier.guard(rules).unwrap());
    let serving = tokio::spawn(async move { drop(served.await) });

    // Each opens a connection, uses it twice, and opens another.
    let (served, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let (stop, stopped) = watch::channel(false);
    let load: Vec<_> = callers
        .iter()
        .cloned()
        .map(|caller| {
            let (served, refused, stopped, url) = (served.clone(), refused.clone(), stopped.clone(), url.clone());
            tokio::spawn(async move {
                while !*stopped.borrow() {
                    let calls = caller.http(&url).unwrap();
                    for _ in 0..2 {
                        match calls.get("/customers/42").await {
                            Ok(_) => drop(served.fetch_add(1, Ordering::SeqCst)),
                            Err(error) => refused.lock().unwrap().push(error.to_string()),
                        }
                    }
                }
            })
        })
        .collect();
    let more = async |wanted: usize| {
        let begun = served.load(Ordering::SeqCst);
        while served.load(Ordering::SeqCst) < begun + wanted && refused.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    more(50).await;
    let mut feed = service.feed.clone();
    let (heard, lost) = *feed.borrow();
    let killed = Instant::now();
    let folder = blocking(move || issuer.kill()).await;
    feed.wait_for(|now| now.1 > lost).await.unwrap();
    more(100).await;
    let again = address.clone();
    let issuer = blocking(move || program::Issuer::start_in(folder, &again)).await;
    let ready = killed.elapsed();
    feed.wait_for(|now| now.0 > heard).await.unwrap();
    println!(
        "killed, away for {ready:?}, heard again after {:?}; {} served",
        killed.elapsed(),
        served.load(Ordering::SeqCst)
    );
    more(50).await;
    stop.send(true).unwrap();
    for one in load {
        one.await.unwrap();
    }
    assert_eq!(*refused.lock().unwrap(), Vec::<String>::new());

    // What is stopped after it came back has stopped.
    let [one, two] = &callers[..] else { unreachable!() };
    let words = ["suspend", "agent:one-bot", "--yes", "--confirm", "1", "--wait", "10s"];
    let issuer = blocking(move || {
        issuer.done(&words);
        issuer
    })
    .await;
    assert!(one.http(&url).unwrap().get("/customers/42").await.is_err());
    two.http(&url).unwrap().get("/customers/42").await.unwrap();

    // Away: fresh, then served and flagged, then nobody passes; by either clock.
    let chain = |of: &Identity| of.material().borrow().chain.clone();
    let (stopped, good) = (chain(one), chain(two));
    let folder = blocking(move || issuer.kill()).await;
    feed.wait_for(|now| now.1 > lost + 1).await.unwrap();
    for (away_s, wanted) in
        [(0, Some(Knowledge::Fresh)), (31, Some(Knowledge::Stale)), (890, Some(Knowledge::Stale)), (901, None)]
    {
        for (wall_s, ahead) in [(away_s, Duration::ZERO), (0, Duration::from_secs(i64::unsigned_abs(away_s)))] {
            service.clock.by(wall_s, ahead);
            let judged = service.judge(&good);
            match wanted {
                Some(knowledge) => assert_eq!(judged, Ok(knowledge), "away for {away_s} s"),
                None => {
                    assert!(matches!(judged, Err(Denial::RevocationExpired)), "away for {away_s} s: {judged:?}")
                }
            }
            let said = service.verifier.status().knowledge;
            assert_eq!(said, wanted.unwrap_or(Knowledge::Expired), "away for {away_s} s");
            assert!(matches!(service.judge(&stopped), Err(Denial::Revoked(_) | Denial::RevocationExpired)));
        }
    }
    // It comes back to a verifier that refuses all, which recovers by itself.
    let heard = feed.borrow().0;
    let _issuer = blocking(move || program::Issuer::start_in(folder, &address)).await;
    feed.wait_for(|now| now.0 > heard).await.unwrap();
    service.until(|status| status.knowledge == Knowledge::Fresh).await;
    assert_eq!(service.judge(&good), Ok(Knowledge::Fresh));
    assert!(matches!(service.judge(&stopped), Err(Denial::Revoked(_))));
    serving.abort();
}

/// Ten thousand entries at once: at every number that the verifier says it knows, all that is stopped up to there is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_ten_thousand_bites_at_every_number() {
    let issuer = Issuer::start().await;
    let service = Service::of(&issuer, "crm").await;
    let mut bots = Vec::new();
    for name in ["first-bot", "second-bot", "third-bot", "last-bot", "good-bot"] {
        bots.push(issuer.joined(name, &[READ]).await);
    }
    let good = bots.pop().unwrap();
    let store = issuer.server.issuer().store().clone();
    let revoke = |targets: Vec<Target>| {
        let (effect, reason, comment) = (Effect::Revoke, Reason::Unspecified, String::new());
        store.commit(Revoke { cause: Cause::ISSUER, targets, effect, reason, comment, cascade: true })
    };
    let nobody = |n: u64| Target::Serial(Serial::from_bytes(&[&[0x41; 8][..], &n.to_be_bytes()].concat()).unwrap());
    let begun = Instant::now();
    let burst = async {
        let bursts = (0..100_u64).map(|burst| {
            let mut targets: Vec<_> = (0..100).map(|one| nobody(burst * 100 + one)).collect();
            // Somebody real at every 33rd.
            if burst % 33 == 0 {
                targets[50] = Target::Serial(bots[usize::try_from(burst / 33).unwrap()].issued.certificate.serial);
            }
            revoke(targets)
        });
        let committed = join_all(bursts).await;
        committed.into_iter().flat_map(|one| one.unwrap().into_reply()).collect::<Vec<_>>()
    };
    // Judged all the while, at the number that was known before.
    let (done, ended) = watch::channel(false);
    let watching = async {
        let (chains, mut seen) = (bots.iter().map(|bot| bot.chain()).collect::<Vec<_>>(), Vec::new());
        let mut news = service.identity.material();
        loop {
            // Once more at the end, when all is known: it may come at once.
            let last = *ended.borrow();
            let n = service.n();
            let refused: Vec<bool> = chains.iter().map(|chain| service.judge(chain).is_err()).collect();
            assert_eq!(service.judge(&good.chain()), Ok(Knowledge::Fresh), "n {n}");
            seen.push((n, refused));
            if last {
                break;
            }
            let _ = tokio::time::timeout(Duration::from_millis(20), news.changed()).await;
        }
        seen
    };
    let (entries, seen) = tokio::join!(
        async {
            let entries = burst.await;
            println!("10,000 entries committed after {:?}", begun.elapsed());
            service.knows(10_000).await;
            println!("10,000 entries in force at a verifier after {:?}", begun.elapsed());
            done.send(true).unwrap();
            entries
        },
        watching
    );
    let stopped_at = |serial: Serial| entries.iter().find(|entry| entry.target == Target::Serial(serial)).unwrap().n;
    let stops: Vec<u64> = bots.iter().map(|bot| stopped_at(bot.issued.certificate.serial)).collect();
    assert_eq!(entries.len(), 10_000);
    for (n, refused) in &seen {
        for (stop, refused) in stops.iter().zip(refused) {
            assert!(*refused || stop > n, "n {n} was known, and {stop} accepted");
        }
    }
    assert!(seen.len() > 10 && seen.last().is_some_and(|(n, _)| *n == 10_000), "{}", seen.len());
    assert!(bots.iter().all(|bot| matches!(service.judge(&bot.chain()), Err(Denial::Revoked(_)))));
}

/// Either clock is wrong: what is stopped is stopped all the same, and nothing looks younger than it is.
#[tokio::test(flavor = "multi_thread")]
async fn whichever_clock_is_set_what_is_stopped_has_stopped() {
    let issuer = Issuer::start().await;
    let service = Service::of(&issuer, "crm").await;
    let good = issuer.joined("good-bot", &[READ]).await;
    let mut bots = Vec::new();
    // By how much the issuer's clock moves, and where the service's stands.
    let settings = [
        (0, 0, Knowledge::Fresh),
        (600, 0, Knowledge::Fresh),
        (-600, 0, Knowledge::Fresh),
        (0, 600, Knowledge::Stale),
        (0, -30, Knowledge::Fresh),
        (0, 0, Knowledge::Fresh),
    ];
    for step in 0..settings.len() {
        bots.push(issuer.joined(&format!("bot-{step}"), &[READ]).await);
    }
    for (bot, (moves_s, stands_s, wanted)) in bots.iter().zip(settings) {
        let target = format!("instance:{}", bot.instance());
        issuer.clock.forward(moves_s);
        service.clock.by(stands_s, Duration::ZERO);
        let stopped = issuer.revoke(json!({"targets": [target], "effect": "suspend"})).await;
        service.knows(stopped.revocations[0].n).await;
        service.until(|status| status.knowledge == wanted).await;
        assert!(matches!(service.judge(&bot.chain()), Err(Denial::Revoked(_))), "{moves_s} s, {stands_s} s");
        assert_eq!(service.judge(&good.chain()), Ok(wanted), "{moves_s} s, {stands_s} s");
    }
    assert_eq!(service.verifier.status().health.unwrap().refused.count, 0);
}

/// A service and an agent live through it: the issuer comes back with an older database, under a new authority.
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_is_lived_through_by_those_it_knows() {
    let address = free_address();
    let at = address.clone();
    let (issuer, join, joins) = blocking(move || {
        let issuer = program::Issuer::start_in(program::Scratch::new(), &at);
        issuer.done(&["services", "create", "crm", "--owner", "team-crm", "--system", "crm"]);
        let joins = ["known-bot", "stopped-bot"].map(|name| issuer.join(name));
        let join = issuer.join_string("--service", "crm");
        (issuer, join, joins)
    })
    .await;
    let service = Service::start(join.parse().unwrap()).await;
    let (told, mut refusals) = watch::channel(BTreeSet::new());
    let held = async |name: &'static str, join: String| {
        let told = told.clone();
        let observe = move |event: &Event| {
            if let Event::NotRenewed { .. } = event {
                told.send_if_modified(|refused| refused.insert(name));
            }
        };
        let builder = Identity::builder().join(join.parse().unwrap()).state_dir(&service.folder.join(name));
        builder.observe(observe).start().await.unwrap()
    };
    let [known, stopped] = joins;
    let (known, stopped) = (held("known", known).await, held("stopped", stopped).await);
    let chain = |of: &Identity| of.material().borrow().chain.clone();
    let (issuer, late) = blocking(move || {
        issuer.done(&["db", "backup", "backup.db", "--database", DATABASE]);
        issuer.done(&["suspend", "agent:stopped-bot", "--yes", "--confirm", "1", "--wait", "10s"]);
        let late = issuer.join("late-bot");
        (issuer, late)
    })
    .await;
    let late = held("late", late).await;
    let before = [&known, &stopped, &late].map(chain);
    let judged = |service: &Service| before.clone().map(|chain| service.judge(&chain).is_ok());
    assert_eq!(judged(&service), [true, false, true]);

    let mut feed = service.feed.clone();
    let (heard, lost) = *feed.borrow();
    let folder = blocking(move || issuer.kill()).await;
    feed.wait_for(|now| now.1 > lost).await.unwrap();
    let state = service.folder.display().to_string();
    let folder = blocking(move || {
        let data = folder.path().join("chancery-dev");
        for file in ["chancery.db", "chancery.db-wal", "chancery.db-shm"] {
            let _ = std::fs::remove_file(data.join(file));
        }
        std::fs::copy(folder.path().join("backup.db"), data.join("chancery.db")).unwrap();
        let mut restore = program::chancery();
        restore.args(["db", "restore", "--new-epoch", "--yes", "--import", &state, "--database", DATABASE]);
        let restored = restore.args(["--head", "chancery-dev/head"]).current_dir(folder.path()).output().unwrap();
        assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
        folder
    })
    .await;
    // What was known goes on being so as long as nothing else is told.
    assert_eq!(judged(&service), [true, false, true]);
    let _issuer = blocking(move || program::Issuer::start_in(folder, &address)).await;

    // Its own certificate ended with the authority that signed it: it comes back by its key.
    feed.wait_for(|now| now.0 > heard).await.unwrap();
    service.until(|status| status.feed.as_ref().is_some_and(|feed| feed.epoch == 2)).await;
    service.until(|status| status.knowledge == Knowledge::Fresh).await;
    assert_eq!(judged(&service), [false, false, false]);
    // So does whom the backup knows; not whom others kept a suspension of, nor whom nobody knows.
    let mut material = known.material();
    let again = material.wait_for(|material| material.chain != before[0]);
    let again = tokio::time::timeout(LATER, again).await.unwrap().unwrap().chain.clone();
    service.until(|_| service.judge(&again) == Ok(Knowledge::Fresh)).await;
    let both = refusals.wait_for(|refused| refused.len() == 2);
    assert_eq!(*tokio::time::timeout(LATER, both).await.unwrap().unwrap(), ["late", "stopped"].into());
    for (gone, chain_before) in [(&stopped, &before[1]), (&late, &before[2])] {
        assert_eq!(chain(gone), *chain_before);
    }
}

const DATABASE: &str = "sqlite:chancery-dev/chancery.db";
