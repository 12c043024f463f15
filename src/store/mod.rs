//! What is known for good, and the one writer that makes it so.
//!
//! Reads go to [`State`], in memory, or to the database, as of the last commit. Everything that changes is a
//! [`Decision`]: the writer takes those that wait, decides them in one transaction (rows, log entries, head), publishes
//! to the state what changed, and answers with a [`Committed`], which nothing else makes.

mod authorities;
mod batch;
mod certificates;
mod column;
mod db;
mod decision;
mod epoch;
mod feed;
mod head;
mod head_keys;
mod issuing;
mod keys;
mod lease;
mod lineages;
mod log;
mod past;
mod queue;
mod registry;
mod revocations;
mod rows;
mod state;
mod tokens;
mod verifiers;
mod writer;

use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use chancery_api::{ApiToken, JoinToken, RevocationView, Subject};
use chancery_identity::{
    Certificate, KeyId, Lineage, Name, RequestId, Revocation, RevocationId, Serial, SpiffeId, Timestamp,
};
use chancery_tlog::{Action, Bundle, Commitment, Hash, Tile, Tree};
use ring::rand::SecureRandom;
use tokio::sync::oneshot;

use crate::clock::Clock;

pub use authorities::{Authority, CrlPublished, PutAuthority, ResponderCertified};
pub use certificates::{Query, StoredCertificate};
pub use db::DbError;
pub use decision::{Cause, CommitError, Committed, Decision, Refused};
pub use epoch::{NewEpoch, Restarted, RolledBack};
pub use feed::{FeedLine, Forget, Standing};
pub use head_keys::{HeadKey, PutHeadKey};
pub use issuing::{Issue, IssueOwn, Issued, Renew};
pub use lineages::{Purge, Purged, StoredLineage};
pub use log::{Deny, LogEntry, SHA256};
pub(crate) use registry::document;
pub use registry::{Put, Registered};
pub use revocations::{Hit, Resume, RevocationQuery, Revoke};
pub use state::{Position, State};
pub use tokens::{CreateApiToken, CreateJoinToken, DeleteApiToken, DeleteJoinToken, REPLAY, Redemption, Spent};
pub use verifiers::{ForgetVerifiers, KeepVerifier};
pub(crate) use writer::Commits;
pub use writer::Stopped;

use db::Db;
use head::Head;
use past::PastLogs;
use state::Memory;
use writer::{Candidate, Job, Office, Pending};

/// The store of one issuer. Clones share it.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    db: Db,
    state: Arc<State>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn SecureRandom + Send + Sync>,
    /// Where decisions go while this process holds the lease.
    jobs: RwLock<Option<Office>>,
    /// Set for good once something that was told is found missing.
    rolled_back: Arc<OnceLock<RolledBack>>,
    commits: Commits,
    past_logs: PastLogs,
}

impl Store {
    /// Makes the database's tables what this program needs; makes a SQLite file that is not there. Returns how many
    /// migrations were applied.
    ///
    /// # Errors
    /// See [`DbError`].
    pub async fn migrate(url: &str) -> Result<usize, DbError> {
        let db = Db::create(url).await?;
        let applied = db.migrate().await;
        db.close().await;
        applied
    }

    /// Opens a database, `sqlite:path` or `postgres://…`, to read. Migrates nothing.
    ///
    /// # Errors
    /// A database that is not there, not migrated, or of a later version: each says what to do.
    pub async fn open(
        url: &str,
        clock: Arc<dyn Clock>,
        random: Arc<dyn SecureRandom + Send + Sync>,
    ) -> Result<Self, DbError> {
        let db = Db::open(url).await?;
        db.check_migrations().await?;
        let state = Arc::new(State::new(Memory::load(&db).await?));
        Ok(Self {
            shared: Arc::new(Shared {
                db,
                state,
                clock,
                random,
                jobs: RwLock::default(),
                rolled_back: Arc::default(),
                commits: Commits::default(),
                past_logs: PastLogs::default(),
            }),
        })
    }

    /// Waits until no other issuer writes to the database, reads what they wrote, and writes from then on.
    ///
    /// # Errors
    /// A database that fails.
    pub async fn write(&self, holder: &str) -> Result<Writing, DbError> {
        let Shared { db, state, clock, random, rolled_back, commits, .. } = &*self.shared;
        let (db, state, clock, random) = (db.clone(), state.clone(), clock.clone(), random.clone());
        let (rolled_back, commits, holder) = (rolled_back.clone(), commits.clone(), holder.to_owned());
        let candidate = Candidate { db, state, clock, random, rolled_back, commits, holder };
        let (office, ended) = candidate.start().await?;
        *self.shared.jobs.write().unwrap_or_else(PoisonError::into_inner) = Some(office);
        Ok(Writing { store: self.clone(), ended })
    }

    /// Decides, and comes back when it is for good.
    ///
    /// # Errors
    /// See [`CommitError`]. Whoever stops waiting does not undo what was committed meanwhile.
    pub async fn commit<D: Decision>(&self, decision: D) -> Result<Committed<D::Reply>, CommitError> {
        if let Some(why) = self.rolled_back() {
            return Err(CommitError::RolledBack(why));
        }
        let jobs = self.office().map(|office| office.jobs);
        let (answer, answered) = oneshot::channel();
        let job: Box<dyn Job> = Box::new(Pending::new(decision, answer));
        jobs.ok_or(CommitError::NotWriting)?.send(job, D::RANK).await.map_err(|_| CommitError::NotWriting)?;
        let (_decision, outcome) = answered.await.map_err(|_| CommitError::NotWriting)?;
        outcome
    }

    /// What the writer measured.
    pub(crate) fn commits(&self) -> &Commits {
        &self.shared.commits
    }

    /// How many decisions wait for the writer.
    pub fn waiting(&self) -> u64 {
        self.office().map_or(0, |office| office.jobs.waiting() as u64)
    }

    /// Whether this process holds the lease and takes decisions.
    pub fn writes(&self) -> bool {
        self.office().is_some_and(|office| !office.jobs.is_closed())
    }

    /// Whether the database is behind what was told of it, so that nothing is decided any more.
    pub fn rolled_back(&self) -> Option<RolledBack> {
        self.shared.rolled_back.get().copied()
    }

    /// Whether the database is behind a head that was signed, or contradicts it.
    ///
    /// # Errors
    /// A database that fails.
    pub async fn lost(&self, told: &chancery_tlog::Head) -> Result<Option<RolledBack>, DbError> {
        epoch::lost(&self.shared.db, told).await
    }

    /// Holds the database against a head that was signed, and decides nothing any more if it is behind it.
    ///
    /// # Errors
    /// A database that fails.
    pub async fn hold_against(&self, told: &chancery_tlog::Head) -> Result<Option<RolledBack>, DbError> {
        let lost = self.lost(told).await?;
        if let Some(why) = lost {
            let _earlier = self.shared.rolled_back.set(why);
        }
        Ok(lost)
    }

    fn office(&self) -> Option<Office> {
        self.shared.jobs.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where all stands, read now from the database that this process writes to. `None` when it does not write to it any
    /// more: another issuer holds the lease, so nobody may be told that this is the newest.
    ///
    /// # Errors
    /// A database that fails.
    pub async fn standing(&self) -> Result<Option<Standing>, DbError> {
        if self.rolled_back().is_some() {
            return Ok(None);
        }
        let Some(fence) = self.office().filter(|office| !office.jobs.is_closed()).map(|office| office.fence) else {
            return Ok(None);
        };
        let head = Head::read(&self.shared.db).await?;
        Ok((head.fence == fence).then(|| head.standing()))
    }

    /// The sequence as the feed sends it: the lines after a number and up to another, in order, at most `limit`.
    ///
    /// # Errors
    /// A database that fails; so for all that follow.
    pub async fn feed_lines(&self, after: u64, to: u64, limit: u32) -> Result<Vec<FeedLine>, DbError> {
        feed::lines(&self.shared.db, after, to, limit).await
    }

    /// The lines at or below the floor that stay all the same, in order.
    pub async fn feed_standing(&self, floor: u64) -> Result<Vec<FeedLine>, DbError> {
        feed::standing(&self.shared.db, floor).await
    }

    /// The keys that sign heads, oldest first.
    pub async fn head_keys(&self) -> Result<Vec<HeadKey>, DbError> {
        head_keys::all(&self.shared.db).await
    }

    /// Ends all connections. What is asked afterwards fails.
    pub async fn close(self) {
        self.shared.db.close().await;
    }

    /// The records, entries in force and positions, in memory.
    pub fn state(&self) -> &State {
        &self.shared.state
    }

    /// One certificate.
    ///
    /// # Errors
    /// A database that fails; so for all that follow.
    pub async fn certificate(&self, serial: Serial) -> Result<Option<StoredCertificate>, DbError> {
        certificates::read(&self.shared.db, serial).await
    }

    /// The newest certificates of a query, newest first, at most `limit`.
    pub async fn certificates(&self, query: &Query, limit: u32) -> Result<Vec<StoredCertificate>, DbError> {
        certificates::find(&self.shared.db, query, limit).await
    }

    /// One lineage.
    pub async fn lineage(&self, id: Lineage) -> Result<Option<StoredLineage>, DbError> {
        lineages::read(&self.shared.db, id).await
    }

    /// The lineages of an instance, oldest first.
    pub async fn lineages_of(&self, instance: chancery_identity::Instance) -> Result<Vec<StoredLineage>, DbError> {
        lineages::of_instance(&self.shared.db, instance).await
    }

    /// Agents' lineages, newest first: those below `before`, of one agent or all, at most `limit`.
    pub async fn instances(
        &self,
        agent: Option<&Name>,
        before: Option<Lineage>,
        limit: u32,
    ) -> Result<Vec<StoredLineage>, DbError> {
        lineages::page(&self.shared.db, agent, before, limit).await
    }

    /// The join token of a secret, by the secret's SHA-256.
    pub async fn join_token_by_secret(&self, secret_hash: &[u8; 32]) -> Result<Option<JoinToken>, DbError> {
        tokens::join_token_of_secret(&self.shared.db, *secret_hash).await
    }

    /// Whether evidence was spent on this key so short a time ago that a lost reply may be asked for again.
    pub async fn replayable(&self, evidence: &[u8; 32], key: &[u8; 32], now: Timestamp) -> Result<bool, DbError> {
        tokens::replayable(&self.shared.db, evidence, key, now).await
    }

    /// Join tokens, newest first: those made before a log position, at most `limit`.
    pub async fn join_tokens(&self, before: Option<u64>, limit: u32) -> Result<Vec<JoinToken>, DbError> {
        tokens::join_tokens(&self.shared.db, before, limit).await
    }

    /// The API token of a secret, by the secret's SHA-256.
    pub async fn api_token_by_secret(&self, secret_hash: &[u8; 32]) -> Result<Option<ApiToken>, DbError> {
        tokens::api_token_of_secret(&self.shared.db, *secret_hash).await
    }

    /// API tokens, newest first: those made before a log position, at most `limit`.
    pub async fn api_tokens(&self, before: Option<u64>, limit: u32) -> Result<Vec<ApiToken>, DbError> {
        tokens::api_tokens(&self.shared.db, before, limit).await
    }

    /// How many join tokens there are.
    pub async fn count_join_tokens(&self) -> Result<u64, DbError> {
        self.shared.db.count("SELECT count(*) FROM join_token", vec![]).await
    }

    /// How many API tokens there are.
    pub async fn count_api_tokens(&self) -> Result<u64, DbError> {
        self.shared.db.count("SELECT count(*) FROM api_token", vec![]).await
    }

    /// How many entries a query finds on all pages.
    pub async fn count_revocations(&self, query: &RevocationQuery) -> Result<u64, DbError> {
        revocations::count(&self.shared.db, query).await
    }

    /// How many instances there are, of one agent or all.
    pub async fn count_instances(&self, agent: Option<&Name>) -> Result<u64, DbError> {
        lineages::count(&self.shared.db, agent).await
    }

    /// How many certificates of holders a query finds on all pages.
    pub async fn count_certificates(&self, query: &Query) -> Result<u64, DbError> {
        certificates::count(&self.shared.db, query).await
    }

    /// One entry of the revocation sequence, in force or resumed.
    pub async fn revocation(&self, id: RevocationId) -> Result<Option<RevocationView>, DbError> {
        revocations::read(&self.shared.db, id).await
    }

    /// The newest entries of a query, newest first, at most `limit`.
    pub async fn revocations(&self, query: &RevocationQuery, limit: u32) -> Result<Vec<RevocationView>, DbError> {
        revocations::find(&self.shared.db, query, limit).await
    }

    /// Whether an authority signed a certificate that is valid at `at` or later.
    pub async fn signed_any_valid_at(&self, authority: KeyId, at: Timestamp) -> Result<bool, DbError> {
        certificates::any_valid_at(&self.shared.db, authority, at).await
    }

    /// The certificates that an entry hits and that are valid at `at` or later.
    pub async fn hit_by(&self, entry: &Revocation, at: Timestamp) -> Result<Vec<Hit>, DbError> {
        revocations::hit_by(&self.shared.db, entry, at).await
    }

    /// Hands over each certificate that an entry hits and that is valid at `at` or later, of the first `looks` that it
    /// could hit. Returns at how many it looked; at `looks` there may be more.
    pub async fn reach(
        &self,
        entry: &Revocation,
        at: Timestamp,
        looks: u64,
        each: &mut (dyn FnMut(Certificate) + Send),
    ) -> Result<u64, DbError> {
        revocations::reach(&self.shared.db, entry, at, looks, each).await
    }

    /// Whether an entry hits a certificate that a holder has at `at`; without one, the issuer itself.
    pub async fn hits_holder(
        &self,
        entry: &Revocation,
        at: Timestamp,
        holder: Option<&Subject>,
    ) -> Result<bool, DbError> {
        revocations::hits_holder(&self.shared.db, entry, at, holder).await
    }

    /// How many certificates are valid at `at` or later, counted up to `most`.
    pub async fn count_valid(&self, at: Timestamp, most: u64) -> Result<u64, DbError> {
        certificates::count_valid(&self.shared.db, at, most).await
    }

    /// The position of the first log entry at or after a time, in a log of this size; `size` when there is none.
    pub async fn log_position(&self, size: u64, at: Timestamp) -> Result<u64, DbError> {
        log::committed_at_or_after(&self.shared.db, size, at).await
    }

    /// The verifiers that were known, each with the service it is a replica of.
    pub async fn verifiers(&self) -> Result<Vec<(Lineage, Name)>, DbError> {
        verifiers::all(&self.shared.db).await
    }

    /// The log's entries from a position on, in order, at most `limit`.
    pub async fn log_from(&self, position: u64, limit: u32) -> Result<Vec<LogEntry>, DbError> {
        log::from(&self.shared.db, position, limit).await
    }

    /// The log's entries of one request, in order, of the first 100,000 since it was made.
    pub async fn log_of(&self, request: RequestId) -> Result<Vec<LogEntry>, DbError> {
        log::of_request(&self.shared.db, self.state().position().log_size, request).await
    }

    /// The log's refusals of a holder since a time, newest first, of the newest 100,000 entries.
    pub async fn denials(&self, since: Timestamp, of: &SpiffeId) -> Result<Vec<LogEntry>, DbError> {
        log::denials(&self.shared.db, self.state().position().log_size, since, of).await
    }

    /// The log's entries below a position, newest first, of one action or all, at most `limit`.
    pub async fn log_before(
        &self,
        position: Option<u64>,
        action: Option<Action>,
        limit: u32,
    ) -> Result<Vec<LogEntry>, DbError> {
        log::before(&self.shared.db, position, action.map(Action::as_str), limit).await
    }

    /// The log of an earlier epoch, from a position on, in order, at most `limit`.
    pub async fn past_log_from(&self, epoch: u64, position: u64, limit: u32) -> Result<Vec<LogEntry>, DbError> {
        log::past_from(&self.shared.db, epoch, position, limit).await
    }

    /// The earlier epochs whose logs are here.
    pub async fn past_epochs(&self) -> Result<Vec<u64>, DbError> {
        log::past_epochs(&self.shared.db).await
    }

    /// Copies a SQLite database, as of its last commit, into a file that is not there yet; `false` for another database.
    ///
    /// # Errors
    /// A database that fails, a file that cannot be made.
    pub async fn copy_to(&self, file: &std::path::Path) -> Result<bool, DbError> {
        self.shared.db.copy_to(file).await
    }

    /// The log's tree: how many entries, and what they hash to.
    pub async fn tree(&self) -> Result<Tree, DbError> {
        Ok(Head::read(&self.shared.db).await?.frontier.tree(SHA256))
    }

    /// The hashes of a tile; fewer than it is wide when the log is too small for it.
    pub async fn tile(&self, tile: Tile) -> Result<Vec<Hash>, DbError> {
        log::tile(&self.shared.db, tile).await
    }

    /// The entries of a bundle, as the log publishes them.
    pub async fn bundle(&self, bundle: Bundle) -> Result<Vec<Commitment>, DbError> {
        log::bundle(&self.shared.db, bundle).await
    }

    /// The hashes of a tile of an earlier epoch's log; `None` where that has no such tile.
    pub async fn past_tile(&self, epoch: u64, tile: Tile) -> Result<Option<Vec<Hash>>, DbError> {
        self.shared.past_logs.tile(&self.shared.db, epoch, tile).await
    }

    /// The entries of a bundle of an earlier epoch's log; `None` where that has no such bundle.
    pub async fn past_bundle(&self, epoch: u64, bundle: Bundle) -> Result<Option<Vec<Commitment>>, DbError> {
        past::bundle(&self.shared.db, epoch, bundle).await
    }
}

/// The right to write, at work.
pub struct Writing {
    store: Store,
    ended: oneshot::Receiver<Stopped>,
}

impl Writing {
    /// Waits until writing ends by itself: the lease is lost, or the database does not say what it did.
    pub async fn stopped(&mut self) -> Stopped {
        (&mut self.ended).await.unwrap_or(Stopped::Asked)
    }

    /// Takes no more decisions, answers those that wait, and gives the lease back.
    pub async fn stop(mut self) -> Stopped {
        self.store.shared.jobs.write().unwrap_or_else(PoisonError::into_inner).take();
        self.stopped().await
    }
}
