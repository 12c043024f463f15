//! What grows with nothing: what a certificate, a renewal, an entry and a check cost, counted in statements and rows.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "a test that meets the unexpected shall panic"
)]

#[allow(dead_code, reason = "the store's suite uses the rest")]
#[path = "store/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use chancery::store::{Forget, Resume, Revoke};
use chancery_api::Agent;
use chancery_identity::{Certificate, Effect, Lineage, Reason, Revocation, RevocationId, Serial, Target, Timestamp};
use chancery_testkit::TestCa;
use futures_util::future::join_all;
use sqlx::{Connection as _, Row as _};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use world::{Key, Kind, World, agent, by, spent};

/// Certificates in the small store, and how many more in the large one.
const FEW: usize = 20;
const MANY: usize = 600;

/// What the database was asked: how often each statement ran, how many rows it changed and gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Asked(BTreeMap<String, (u64, u64, u64)>);

/// The one listener of this process to what is said of statements.
static SAID: OnceLock<Arc<Mutex<Asked>>> = OnceLock::new();
/// One at a time is counted.
static COUNTING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

struct Listener;

#[derive(Default)]
struct Statement {
    summary: String,
    whole: String,
    affected: u64,
    returned: u64,
}

impl Visit for Statement {
    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "summary" | "sql" => self.summary = value.trim().to_owned(),
            "db.statement" => self.whole = value.trim().to_owned(),
            _ => {}
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "rows_affected" | "changed" => self.affected = value,
            "rows_returned" | "returned" => self.returned = value,
            _ => {}
        }
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        ["sqlx::query", "chancery::sql"].contains(&metadata.target())
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut statement = Statement::default();
        event.record(&mut statement);
        let text = if statement.whole.is_empty() { statement.summary } else { statement.whole };
        let mut said = SAID.get().unwrap().lock().unwrap();
        let (times, affected, returned) = said.0.entry(text).or_default();
        (*times, *affected, *returned) = (*times + 1, *affected + statement.affected, *returned + statement.returned);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// What the database was asked while this ran.
async fn asked<T>(world: &World, work: impl Future<Output = T>) -> (T, Asked) {
    let said = SAID.get_or_init(|| {
        tracing::subscriber::set_global_default(Listener).unwrap();
        Arc::default()
    });
    // A statement is said when it is over, which may be after its answer; the next one on the connection is after that.
    let settle = async || {
        let at = Timestamp::from_unix_millis(0);
        world.store.commit(Forget { at }).await.unwrap();
        std::mem::take(&mut *said.lock().unwrap())
    };
    settle().await;
    let output = work.await;
    let mut asked = settle().await;
    // By the clock and not by a decision: the log is copied into the file.
    let by_the_clock = ["PRAGMA", "UPDATE head SET lease"];
    asked.0.retain(|text, _| {
        !text.starts_with("SELECT n FROM feed_entry") && !by_the_clock.iter().any(|other| text.starts_with(other))
    });
    // The tree over n entries completes one node in two, on the average: at most one a level.
    let nodes = asked.0.iter_mut().filter(|(text, _)| text.starts_with("INSERT INTO log_node"));
    nodes.for_each(|(_, (times, affected, _))| {
        assert!(*times <= 8 && *affected <= 64, "{times} and {affected}");
        (*times, *affected) = (0, 0);
    });
    asked.0.retain(|text, _| !text.starts_with("INSERT INTO log_node"));
    (output, asked)
}

/// What each decision asks of a store, in order.
async fn each(world: &World, crowd: &Agent, lonely: &Agent, first: &Certificate) -> Vec<(&'static str, Asked)> {
    let issue = || async {
        let key = Key::new();
        let mut issue = world.plan(lonely, &key).await.issue();
        issue.spends = Some(spent(world::random(), issue.signed.certificate().not_after, None));
        issue
    };
    let (issued, issuing) = asked(world, world.store.commit(issue().await)).await;
    let issued = issued.unwrap().into_reply().certificate;
    let next = world.plan_next(&issued, 1, &Key::new()).await.renew(&issued);
    let (renewed, renewing) = asked(world, world.store.commit(next)).await;
    renewed.unwrap();
    let revoke = |target: Target, effect| {
        let (reason, comment) = (Reason::Unspecified, String::new());
        world.store.commit(Revoke { cause: by("ana"), targets: vec![target], effect, reason, comment, cascade: true })
    };
    let (suspended, suspending) = asked(world, revoke(Target::Agent(crowd.name.clone()), Effect::Suspend)).await;
    let id = suspended.unwrap().into_reply().remove(0).id;
    let resume = Resume { cause: by("ana"), id, comment: String::new() };
    let (resumed, resuming) = asked(world, world.store.commit(resume)).await;
    resumed.unwrap();
    let (revoked, revoking) = asked(world, revoke(Target::Owner(crowd.owner.clone()), Effect::Revoke)).await;
    revoked.unwrap();
    let (one, by_serial) = asked(world, revoke(Target::Serial(first.serial), Effect::Revoke)).await;
    one.unwrap();
    vec![
        ("an issuance", issuing),
        ("a renewal", renewing),
        ("a suspension of all", suspending),
        ("its end", resuming),
        ("a revocation of all", revoking),
        ("a revocation of one", by_serial),
    ]
}

async fn fill(world: &World, crowd: &Agent, count: usize) -> Vec<Certificate> {
    let mut all = Vec::new();
    for _ in 0..count / 20 {
        let keys: Vec<Key> = (0..20).map(|_| Key::new()).collect();
        let issues = join_all(keys.iter().map(async |key| world.plan(crowd, key).await.issue())).await;
        let committed = join_all(issues.into_iter().map(|issue| world.store.commit(issue))).await;
        all.extend(committed.into_iter().map(|one| Certificate::clone(&one.unwrap().reply().certificate)));
        // Entries and lineages grow too.
        let target = vec![Target::Lineage(Lineage::from_bytes(world::random()))];
        let (effect, reason, comment) = (Effect::Suspend, Reason::Unspecified, String::new());
        let revoke = Revoke { cause: by("ana"), targets: target, effect, reason, comment, cascade: true };
        world.store.commit(revoke).await.unwrap();
    }
    all
}

async fn decisions(kind: Kind) {
    let _alone = COUNTING.lock().await;
    let Some(world) = World::new(kind).await else { return };
    let crowd = world.agent("crowd-bot").await;
    let lonely = chancery::store::Put {
        cause: by("ana"),
        record: Agent { owner: "others".parse().unwrap(), ..agent("lonely-bot") },
        changes: None,
    };
    let lonely = world.store.commit(lonely).await.unwrap().into_reply();
    let first = fill(&world, &crowd, FEW).await;
    let small = each(&world, &crowd, &lonely, &first[0]).await;
    let more = fill(&world, &crowd, MANY).await;
    let large = each(&world, &crowd, &lonely, &more[0]).await;
    for ((what, few), (_, many)) in small.iter().zip(&large) {
        assert!(few.0.len() > 3, "{what} asks nothing: {few:?}");
        assert_eq!(few, many, "{what} costs more in a larger store");
    }
    if kind == Kind::Sqlite {
        let texts = large.iter().flat_map(|(_, asked)| asked.0.keys());
        walks_nothing(&world.database.url, texts).await;
    }
}

/// Every statement finds its rows by an index, or asks for the first one alone.
async fn walks_nothing(url: &str, texts: impl Iterator<Item = &String>) {
    let mut connection = sqlx::SqliteConnection::connect(url).await.unwrap();
    let mut explained = 0;
    for text in texts.filter(|text| !["BEGIN", "COMMIT", "ROLLBACK"].iter().any(|word| text.starts_with(word))) {
        let plan = sqlx::query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {text}")));
        for row in plan.fetch_all(&mut connection).await.unwrap() {
            let step: String = row.get("detail");
            let of_one_row = step.contains("SCAN head") || step.contains("CONSTANT ROW") || step.contains("VALUES");
            let of_values = step.starts_with("SCAN renewed") || step.contains("SUBQUERY");
            let first_alone = step.contains("USING") && step.contains("INDEX") && text.contains("LIMIT 1");
            // For max() without an index SQLite says SEARCH, and walks all the same.
            let all = step.starts_with("SCAN") || (step.starts_with("SEARCH") && !step.contains("USING"));
            let walks = all && !of_one_row && !of_values && !first_alone;
            assert!(!walks, "{step}\n{text}");
            explained += 1;
        }
    }
    assert!(explained > 10, "{explained}");
}

#[tokio::test]
async fn what_a_decision_asks_of_the_database_grows_with_nothing_sqlite() {
    decisions(Kind::Sqlite).await;
}

#[tokio::test]
async fn what_a_decision_asks_of_the_database_grows_with_nothing_postgres() {
    decisions(Kind::Postgres).await;
}

/// A scan over so many more entries would take thousands of times as long; a look-up, about the same.
#[test]
fn a_verdict_takes_as_long_with_a_hundred_thousand_entries_as_with_ten() {
    let ca = TestCa::new("example.org");
    let visitor = ca.agent("visitor").issue();
    let took = |count: u64| {
        let verifier = ca.verifier("crm");
        let entries: Vec<Revocation> = (1..=count).map(entry).collect();
        verifier.set_entries(&entries);
        let now = verifier.now();
        // With its chain each time: a verdict on a peer is kept until there is news.
        let rounds = (0..15).map(|_| {
            let begun = Instant::now();
            verifier.client(&visitor.chain, now).unwrap();
            begun.elapsed()
        });
        rounds.min().unwrap()
    };
    let (few, many) = (took(10), took(100_000));
    assert!(many < few * 4, "{few:?} with 10, {many:?} with 100,000");
}

/// Of every kind that is found by name, none of which is the visitor's.
fn entry(n: u64) -> Revocation {
    let random = [&[0x41; 8][..], &n.to_be_bytes()].concat();
    let id: [u8; 16] = random.clone().try_into().unwrap();
    let target = match n % 4 {
        0 => Target::Serial(Serial::from_bytes(&random).unwrap()),
        1 => Target::Agent(format!("bot-{n}").parse().unwrap()),
        2 => Target::Lineage(Lineage::from_bytes(id)),
        _ => Target::Owner(format!("team-{n}").parse().unwrap()),
    };
    Revocation {
        id: RevocationId::from_bytes(id),
        n,
        epoch: 1,
        log_index: 1_000_000 + n,
        fence: 1_000_000 + n,
        at: Timestamp::from_unix_millis(world::START),
        target,
        effect: Effect::Suspend,
        reason: Reason::Unspecified,
        cascade: true,
    }
}
