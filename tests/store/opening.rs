//! Opening, migrating, and who writes.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use chancery::clock::SystemClock;
use chancery::store::{CommitError, DbError, Put, Stopped, Store};
use chancery_api::Agent;
use ring::rand::SystemRandom;

use crate::world::{Database, Kind, World, agent, by, name};

async fn open(url: &str) -> Result<Store, DbError> {
    Store::open(url, Arc::new(SystemClock), Arc::new(SystemRandom::new())).await
}

async fn refused(url: &str) -> DbError {
    open(url).await.err().unwrap()
}

fn put(text: &str) -> Put<Agent> {
    Put { cause: by("ana"), record: agent(text), changes: None }
}

async fn opening_never_migrates(kind: Kind) {
    let Some(database) = Database::new(kind).await else { return };
    let error = refused(&database.url).await;
    match kind {
        Kind::Sqlite => assert!(matches!(error, DbError::Absent { .. }), "{error}"),
        Kind::Postgres => assert!(matches!(error, DbError::Unmigrated { found: 0, .. }), "{error}"),
    }
    assert!(error.to_string().contains("chancery db migrate"), "{error}");
    assert_ne!(Store::migrate(&database.url).await.unwrap(), 0);
    assert_eq!(Store::migrate(&database.url).await.unwrap(), 0);
    assert!(open(&database.url).await.is_ok());

    database.tamper("DELETE FROM _sqlx_migrations").await;
    assert!(matches!(refused(&database.url).await, DbError::Unmigrated { found: 0, .. }));
    assert!(Store::migrate(&database.url).await.is_err());
}

async fn other_versions_are_refused(kind: Kind) {
    let Some(database) = Database::new(kind).await else { return };
    Store::migrate(&database.url).await.unwrap();
    let later = "INSERT INTO _sqlx_migrations (version, description, installed_on, success, checksum, execution_time) \
                 SELECT 999, description, installed_on, success, checksum, execution_time FROM _sqlx_migrations \
                 WHERE version = 1";
    database.tamper(later).await;
    assert!(matches!(refused(&database.url).await, DbError::Newer { found: 999, .. }));
    database.tamper("DELETE FROM _sqlx_migrations WHERE version = 999").await;
    let zero = if kind == Kind::Sqlite { "x'00'" } else { "'\\x00'" };
    database.tamper(&format!("UPDATE _sqlx_migrations SET checksum = {zero} WHERE version = 1")).await;
    assert!(matches!(refused(&database.url).await, DbError::Altered { version: 1 }));
}

#[tokio::test]
async fn opening_never_migrates_sqlite() {
    opening_never_migrates(Kind::Sqlite).await;
}

#[tokio::test]
async fn opening_never_migrates_postgres() {
    opening_never_migrates(Kind::Postgres).await;
}

#[tokio::test]
async fn other_versions_are_refused_sqlite() {
    other_versions_are_refused(Kind::Sqlite).await;
}

#[tokio::test]
async fn other_versions_are_refused_postgres() {
    other_versions_are_refused(Kind::Postgres).await;
}

#[tokio::test]
async fn only_two_kinds_of_database() {
    assert!(matches!(refused("mysql://localhost/chancery").await, DbError::Url(_)));
}

#[tokio::test]
async fn a_new_file_is_its_owners() {
    use std::os::unix::fs::PermissionsExt as _;

    let database = Database::new(Kind::Sqlite).await.unwrap();
    Store::migrate(&database.url).await.unwrap();
    let path = database.url.strip_prefix("sqlite:").unwrap();
    for suffix in ["", "-wal"] {
        let Ok(metadata) = std::fs::metadata(format!("{path}{suffix}")) else { continue };
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{suffix}");
    }
}

/// Answers come from a task on the runtime of those who wait, which may end once the writer's end is told. Here that runtime
/// stands still meanwhile.
#[test]
fn the_end_is_told_once_all_is_answered() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (waiting, telling) = (runtime(), runtime());
    let database = waiting.block_on(Database::new(Kind::Sqlite)).unwrap();
    let (store, writing) = waiting.block_on(async {
        Store::migrate(&database.url).await.unwrap();
        let store = open(&database.url).await.unwrap();
        let writing = store.write("first").await.unwrap();
        (store, writing)
    });
    let mut commit = Box::pin(store.commit(put("a")));
    assert!(commit.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let mut stop = Box::pin(writing.stop());
    telling.block_on(async {
        let second = open(&database.url).await.unwrap();
        let successor = tokio::select! {
            biased;
            stopped = &mut stop => panic!("{stopped:?} is told, and nobody was answered"),
            writing = second.write("second") => writing.unwrap(),
        };
        // The first has written all and has nothing left but to answer and to tell.
        second.commit(put("b")).await.unwrap();
        successor.stop().await;
        let told = stop.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(told.is_pending(), "{told:?} is told, and nobody was answered");
    });
    waiting.block_on(commit).unwrap();
    waiting.block_on(async {
        let told = tokio::time::timeout(Duration::from_secs(60), stop).await;
        assert!(matches!(told, Ok(Stopped::Asked)));
    });
}

conformance! {
    async fn nobody_commits_without_the_lease(world) {
        let reader = open(&world.database.url).await.unwrap();
        assert!(matches!(reader.commit(put("a")).await, Err(CommitError::NotWriting)));
        world.writing.take().unwrap().stop().await;
        assert!(matches!(world.store.commit(put("a")).await, Err(CommitError::NotWriting)));
    }

    async fn a_second_issuer_waits_and_takes_over_what_the_first_left(world) {
        let second = open(&world.database.url).await.unwrap();
        let mut waiting = Box::pin(second.write("second"));
        let first = tokio::select! {
            _ = &mut waiting => panic!("two issuers write"),
            committed = world.store.commit(put("a")) => committed.unwrap(),
        };
        assert!(matches!(world.writing.take().unwrap().stop().await, Stopped::Asked));
        let writing = waiting.await.unwrap();
        assert_eq!(second.state().record::<Agent>(&name("a")).unwrap().log_index, first.log_index());
        assert_eq!(second.commit(put("b")).await.unwrap().log_index(), first.log_index() + 1);
        writing.stop().await;
    }

    // On SQLite a transaction that reads first and writes then would fail at once; on PostgreSQL it would read what is not
    // true any more when it writes.
    async fn a_commit_waits_for_whoever_writes_and_is_decided_by_what_that_left(world) {
        for (number, sql) in ["UPDATE head SET at = at", "UPDATE head SET lease_fence = lease_fence + 1"].iter().enumerate() {
            let other = world.database.hold(sql).await;
            let mut commit = Box::pin(world.store.commit(put(&format!("agent-{number}"))));
            let early = tokio::time::timeout(Duration::from_millis(300), &mut commit).await;
            assert!(early.is_err(), "{sql}: it did not wait: {early:?}");
            other.commit().await;
            match (number, commit.await) {
                (0, committed) => drop(committed.unwrap()),
                (_, Err(CommitError::NotWriting)) => {}
                (_, other) => panic!("{sql}: {other:?}"),
            }
        }
        assert_eq!(world.store.state().position().log_size, 1);
    }

    async fn a_lost_lease_stops_the_writer(world) {
        world.store.commit(put("a")).await.unwrap();
        world.database.tamper("UPDATE head SET lease_fence = lease_fence + 1, lease_holder = 'other'").await;
        assert!(matches!(world.store.commit(put("b")).await, Err(CommitError::NotWriting)));
        assert!(matches!(world.writing.as_mut().unwrap().stopped().await, Stopped::LeaseLost));
        assert!(matches!(world.store.commit(put("b")).await, Err(CommitError::NotWriting)));
        assert_eq!(world.store.state().position().log_size, 1);
    }

    async fn what_waits_at_the_stop_is_answered(world) {
        let mut asked = tokio::task::JoinSet::new();
        for number in 0..20 {
            let store = world.store.clone();
            asked.spawn(async move { store.commit(put(&format!("agent-{number}"))).await });
        }
        // The first answer says that the others have asked too: they were spawned before it could come.
        let mut answers = vec![asked.join_next().await.unwrap().unwrap()];
        world.writing.take().unwrap().stop().await;
        answers.extend(asked.join_all().await);
        assert!(answers.iter().all(|answer| matches!(answer, Ok(_) | Err(CommitError::NotWriting))));
        let kept = answers.iter().filter(|answer| answer.is_ok()).count();
        world.restart().await;
        assert_eq!(world.store.state().records::<Agent>().len(), kept);
    }

    async fn a_failing_database_commits_nothing_and_recovers(world) {
        world.store.commit(put("a")).await.unwrap();
        world.database.tamper("ALTER TABLE log_entry RENAME TO hidden").await;
        let (one, two) = tokio::join!(world.store.commit(put("b")), world.store.commit(put("c")));
        assert!(matches!(one, Err(CommitError::Failed(_))), "{one:?}");
        assert!(matches!(two, Err(CommitError::Failed(_))), "{two:?}");
        assert_eq!(world.store.state().records::<Agent>().len(), 1);
        world.database.tamper("ALTER TABLE hidden RENAME TO log_entry").await;
        assert_eq!(world.store.commit(put("b")).await.unwrap().log_index(), 1);
    }

    async fn a_commit_that_fails_is_asked_after_and_done_nothing(world) {
        world.store.commit(put("a")).await.unwrap();
        // A violation that only the commit finds.
        world.database.tamper(
            "CREATE TABLE parent (id INTEGER PRIMARY KEY); \
             CREATE TABLE child (id INTEGER REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED);",
        ).await;
        let (arm, disarm) = match world.database.kind {
            Kind::Sqlite => (
                "CREATE TRIGGER fail AFTER INSERT ON log_entry BEGIN INSERT INTO child VALUES (9); END",
                "DROP TRIGGER fail",
            ),
            Kind::Postgres => (
                "CREATE RULE fail AS ON INSERT TO log_entry DO ALSO INSERT INTO child VALUES (9)",
                "DROP RULE fail ON log_entry",
            ),
        };
        world.database.tamper(arm).await;
        assert!(matches!(world.store.commit(put("b")).await, Err(CommitError::Failed(_))));
        assert_eq!(world.store.state().position().log_size, 1);
        world.database.tamper(disarm).await;
        assert_eq!(world.store.commit(put("b")).await.unwrap().log_index(), 1);
        world.restart().await;
        assert_eq!(world.store.state().records::<Agent>().len(), 2);
    }
}
