//! The one thread that writes: what waits becomes one transaction, and is answered after its commit.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use chancery_identity::Name;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use ring::rand::SecureRandom;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at};

use super::batch::{Batch, Lineages, Wanted};
use super::db::{Db, DbError};
use super::decision::{CommitError, Committed, Decision, Rank, Refused, Undecided};
use super::epoch::RolledBack;
use super::feed;
use super::head::Head;
use super::keys::Keys;
use super::lease::{self, Lease};
use super::queue::{self, queue};
use super::state::{Memory, State};
use crate::clock::Clock;

/// Who will write, once nobody else does.
pub(super) struct Candidate {
    pub(super) db: Db,
    pub(super) state: Arc<State>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn SecureRandom + Send + Sync>,
    pub(super) rolled_back: Arc<OnceLock<RolledBack>>,
    pub(super) commits: Commits,
    /// Under this name.
    pub(super) holder: String,
}

/// The lease, as those who decide and those who read under it know it.
#[derive(Clone)]
pub(super) struct Office {
    pub(super) jobs: queue::Sender<Box<dyn Job>>,
    pub(super) fence: u64,
}

/// What the writer works with.
struct Writer {
    db: Db,
    state: Arc<State>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn SecureRandom + Send + Sync>,
    lease: Lease,
    jobs: queue::Receiver<Box<dyn Job>>,
    rolled_back: Arc<OnceLock<RolledBack>>,
    /// See [`Batch::instances`]: true as long as nobody else writes.
    instances: HashMap<Name, u64>,
    keys: Keys,
    commits: Commits,
    answers: Answers,
}

/// Where batches go whose outcome is for good.
type Answers = mpsc::UnboundedSender<Vec<Box<dyn Job>>>;

/// What transactions held, and how long they took. Clones count together.
#[derive(Clone, Debug)]
pub(crate) struct Commits {
    pub(crate) size: Histogram,
    pub(crate) seconds: Histogram,
}

impl Default for Commits {
    fn default() -> Self {
        let size = Histogram::new(exponential_buckets(1.0, 2.0, 9));
        // From a quarter of a millisecond to two seconds.
        let seconds = Histogram::new(exponential_buckets(0.000_25, 2.0, 14));
        Self { size, seconds }
    }
}

/// Why a writer stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Stopped {
    /// It was told to; all that was accepted is answered.
    #[error("the writer was stopped")]
    Asked,
    /// Another issuer took the lease.
    #[error("the lease was lost: another issuer writes to this database now")]
    LeaseLost,
    /// A commit failed, and the database does not say whether it is done.
    #[error("the database failed at a commit and could not be asked whether it is done")]
    Unknown(#[source] Arc<DbError>),
}

impl Candidate {
    /// Waits until nobody else writes, reads what they wrote, and works from then on; gives up when this is dropped before.
    ///
    /// All of it on a thread and a runtime of its own: there it waits for the disk, its turn comes whatever else is to be done,
    /// and its connections are driven by nobody else. The log is copied by a task of the caller's, and another answers.
    pub(super) async fn start(self) -> Result<(Office, oneshot::Receiver<Stopped>), DbError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(DbError::Thread)?;
        let mut copying = JoinSet::new();
        copying.spawn(copy_log(self.db.clone(), self.state.clone()));
        let (answers, decided) = mpsc::unbounded_channel();
        let answering = tokio::spawn(answer(decided));
        let (mut begin, begun) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let work = async move {
            // Ended with the work, however that ends.
            let _copying = copying;
            let elected = tokio::select! {
                elected = self.elected(answers) => elected,
                () = begin.closed() => return,
            };
            match elected {
                Err(error) => drop(begin.send(Err(error))),
                Ok((writer, office)) => {
                    // Whoever does not wait any more leaves nobody who could ask: the work ends at once.
                    let _ = begin.send(Ok(office));
                    let stopped = writer.run().await;
                    // It ends once all is answered; whoever hears of the end may end its runtime.
                    let _ = answering.await;
                    let _ = end.send(stopped);
                }
            }
        };
        let thread = std::thread::Builder::new().name("writer".into());
        thread.spawn(move || runtime.block_on(work)).map_err(DbError::Thread)?;
        Ok((begun.await.map_err(|_| sqlx::Error::WorkerCrashed)??, ended))
    }

    async fn elected(self, answers: Answers) -> Result<(Writer, Office), DbError> {
        let Self { db, state, clock, random, rolled_back, commits, holder } = self;
        let lease = Lease::acquire(&db, &holder).await?;
        feed::backfill(&db).await?;
        // Whatever memory holds was logged when it changed.
        if Head::read(&db).await?.position() != state.position() {
            state.replace(Memory::load(&db).await?);
        }
        let (sender, jobs) = queue(PACE);
        let office = Office { jobs: sender, fence: lease.fence };
        let (instances, keys) = Default::default();
        Ok((Writer { db, state, clock, random, lease, jobs, rolled_back, instances, keys, commits, answers }, office))
    }
}

impl Writer {
    /// Works until nobody can ask any more, or it may not write any more. What waits is answered either way.
    async fn run(mut self) -> Stopped {
        let stopped = self.work().await;
        while let Some(mut job) = self.jobs.rest().await {
            job.fail(&CommitError::NotWriting);
            job.answer();
        }
        if matches!(stopped, Stopped::Asked)
            && let Err(error) = self.lease.release(&self.db).await
        {
            tracing::warn!(%error, "the lease was not given back; a successor waits for its end");
        }
        stopped
    }

    async fn work(&mut self) -> Stopped {
        let mut renewal = interval_at(Instant::now() + lease::RENEWAL, lease::RENEWAL);
        let mut waiting = Vec::new();
        loop {
            tokio::select! {
                taken = self.jobs.take(&mut waiting) => {
                    if !taken {
                        return Stopped::Asked;
                    }
                    if let Err(stopped) = self.commit(&mut waiting).await {
                        return stopped;
                    }
                    renewal.reset();
                }
                _ = renewal.tick(), if self.lease.expires() => match self.lease.renew(&self.db).await {
                    Ok(true) => {}
                    Ok(false) => return Stopped::LeaseLost,
                    // The next commit will say what is the matter.
                    Err(error) => tracing::warn!(%error, "the lease was not renewed"),
                },
            }
        }
    }

    /// Decides all that waits in one transaction; when that cannot be, each in one of its own, so that a bad one fails
    /// alone.
    async fn commit(&mut self, waiting: &mut Vec<Box<dyn Job>>) -> Result<(), Stopped> {
        let mut jobs: Vec<Box<dyn Job>> = waiting.drain(..).filter(|job| job.wanted()).collect();
        jobs.sort_by_key(|job| job.rank());
        let mut result = self.transact(&mut jobs).await;
        if matches!(&result, Err(Failure::Before(error)) if error.concerns_statement()) && jobs.len() > 1 {
            result = Ok(());
            for job in &mut jobs {
                let alone = std::slice::from_mut(job);
                if result.is_err() {
                    job.fail(&CommitError::NotWriting);
                } else if let Err(failure) = self.transact(alone).await {
                    result = self.settle(alone, failure);
                }
            }
        } else if let Err(failure) = result {
            result = self.settle(&mut jobs, failure);
        }
        // Where that runtime has ended, nobody waits.
        let _ = self.answers.send(jobs);
        match result {
            Err(Failure::Stopped(stopped)) => Err(stopped),
            _ => Ok(()),
        }
    }

    /// Fails what a failure concerns; what is left of it is a reason to stop.
    fn settle(&self, jobs: &mut [Box<dyn Job>], failure: Failure) -> Result<(), Failure> {
        let (error, result) = match failure {
            Failure::Before(error) if error.unique_violation() => (Refused::Conflict.into(), Ok(())),
            Failure::Before(error) => (CommitError::Failed(error), Ok(())),
            Failure::Stopped(Stopped::Unknown(error)) => {
                (CommitError::Unknown(error.clone()), Err(Failure::Stopped(Stopped::Unknown(error))))
            }
            Failure::RolledBack(why) => (CommitError::RolledBack(why), Ok(())),
            Failure::Stopped(stopped) => (CommitError::NotWriting, Err(Failure::Stopped(stopped))),
        };
        jobs.iter_mut().for_each(|job| job.fail(&error));
        result
    }

    /// Nearly all renewals find their lineage as the certificate shown says, so that is written without a look, and the
    /// UPDATE tells. Where one does not, all is decided again from the rows.
    async fn transact(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), Failure> {
        let begun = Instant::now();
        if let Some(why) = self.rolled_back.get() {
            return Err(Failure::RolledBack(*why));
        }
        if !self.attempt(jobs, Lineages::Expected).await? {
            self.attempt(jobs, Lineages::Read).await?;
        }
        self.commits.size.observe(jobs.len() as f64);
        self.commits.seconds.observe(begun.elapsed().as_secs_f64());
        Ok(())
    }

    /// Decides and commits; `false`: undone, as not all lineages are as expected.
    async fn attempt(&mut self, jobs: &mut [Box<dyn Job>], lineages: Lineages) -> Result<bool, Failure> {
        let now = self.clock.now();
        let (db, state, random, fence) = (&self.db, &self.state, &*self.random, self.lease.fence);
        let begun = Batch::begin(db, state, random, fence, now, lineages, &mut self.instances).await?;
        let mut batch = begun.ok_or(Failure::Stopped(Stopped::LeaseLost))?;
        // Under our fence nobody else moves the head: what it has not, the database lost.
        let (told, found) = (self.state.position(), batch.head().position());
        if told != found {
            batch.abandon().await?;
            let why = *self.rolled_back.get_or_init(|| RolledBack { told, found });
            tracing::error!(%why, "the database is rolled back; nothing is decided any more");
            return Err(Failure::RolledBack(why));
        }
        let certificates = jobs.partition_point(|job| job.rank() < Rank::Certificate);
        let (first, rest) = jobs.split_at_mut(certificates);
        for job in first {
            job.decide(&mut batch).await?;
        }
        // Rows are asked for once everything that changes them otherwise is decided.
        let mut wanted = Wanted::default();
        rest.iter().for_each(|job| job.wants(&mut wanted));
        batch.find(wanted, &mut self.keys).await?;
        batch.reserve(rest.len())?;
        for job in rest {
            job.decide(&mut batch).await?;
        }
        if !batch.write_lineages().await? {
            batch.abandon().await?;
            return Ok(false);
        }
        if batch.is_empty() {
            batch.abandon().await?;
            return Ok(true);
        }
        let before = batch.log_size_before();
        let closed = batch.close(lease::TERM_MS, self.db.now()).await?;
        let (head, changes, certified) = (closed.head, closed.changes, closed.certified);
        if let Err(error) = closed.transaction.commit().await {
            self.ask_whether_done(error, before, &head).await?;
        }
        self.state.publish(&head, changes);
        for (key, lineage, not_after) in certified {
            self.keys.hold(&key, lineage, not_after, head.at);
        }
        Ok(true)
    }

    /// A commit failed: the head row says whether it is done all the same, as nobody else moves it under our fence.
    async fn ask_whether_done(&self, error: DbError, before: u64, wanted: &Head) -> Result<(), Failure> {
        let error = Arc::new(error);
        tracing::error!(%error, "a commit failed; asking whether it is done");
        let asked = tokio::time::timeout(ASK, async {
            let mut transaction = self.db.begin().await?;
            let found = Head::read_for_update(&mut transaction).await?;
            transaction.rollback().await?;
            Ok::<_, DbError>(found)
        });
        match asked.await {
            Ok(Ok(found)) if found.fence != wanted.fence => Err(Failure::Stopped(Stopped::Unknown(error))),
            Ok(Ok(found)) if found.frontier == wanted.frontier => Ok(()),
            Ok(Ok(found)) if found.frontier.size() == before => Err(Failure::Before(error)),
            _ => Err(Failure::Stopped(Stopped::Unknown(error))),
        }
    }
}

/// Answers batch after batch on the runtime of those who wait: the writer wakes one of its threads a batch, and that one shares
/// out what there is to go on with. Woken one by one from the writer's thread they stood behind it, on a processor that it
/// needed for the next batch, while another had nothing to do.
async fn answer(mut decided: mpsc::UnboundedReceiver<Vec<Box<dyn Job>>>) {
    while let Some(jobs) = decided.recv().await {
        jobs.into_iter().for_each(|mut job| job.answer());
    }
}

/// Keeps the database's log short beside the writer.
async fn copy_log(db: Db, state: Arc<State>) {
    let mut ticks = interval_at(Instant::now() + COPY, COPY);
    let mut copied = state.position();
    loop {
        ticks.tick().await;
        let position = state.position();
        if position != copied {
            match db.copy_log().await {
                Ok(()) => copied = position,
                Err(error) => {
                    tracing::warn!(%error, "the database's log was not copied into its file; the writer will")
                }
            }
        }
    }
}

/// Why a transaction did not come about.
enum Failure {
    /// Before its commit: nothing of it is there.
    Before(Arc<DbError>),
    /// Nor will there be, until the database is restored.
    RolledBack(RolledBack),
    /// And there will be no other.
    Stopped(Stopped),
}

impl From<DbError> for Failure {
    fn from(error: DbError) -> Self {
        Self::Before(Arc::new(error))
    }
}

/// A decision that waits, and whom to answer.
pub(super) trait Job: Send {
    /// Whether anybody still waits for it.
    fn wanted(&self) -> bool;
    fn rank(&self) -> Rank;
    fn wants(&self, wanted: &mut Wanted);
    fn decide<'a>(
        &'a mut self,
        batch: &'a mut Batch<'_>,
    ) -> Pin<Box<dyn Future<Output = Result<(), DbError>> + Send + 'a>>;
    fn fail(&mut self, error: &CommitError);
    /// Tells what came of it: call it after the commit.
    fn answer(&mut self);
}

/// The job of one kind of decision.
pub(super) struct Pending<D: Decision> {
    asked: Option<(D, Answer<D>)>,
    outcome: Option<Outcome<D>>,
}

/// What came of a decision.
type Outcome<D> = Result<Committed<<D as Decision>::Reply>, CommitError>;
/// The decision goes back with its outcome: what was allocated on one processor is freed there.
type Answer<D> = oneshot::Sender<(D, Outcome<D>)>;

impl<D: Decision> Pending<D> {
    pub(super) const fn new(decision: D, answer: Answer<D>) -> Self {
        Self { asked: Some((decision, answer)), outcome: None }
    }
}

impl<D: Decision> Job for Pending<D> {
    fn wanted(&self) -> bool {
        self.asked.as_ref().is_some_and(|(_, answer)| !answer.is_closed())
    }

    fn rank(&self) -> Rank {
        D::RANK
    }

    fn wants(&self, wanted: &mut Wanted) {
        if let Some((decision, _)) = &self.asked {
            decision.wants(wanted);
        }
    }

    fn decide<'a>(
        &'a mut self,
        batch: &'a mut Batch<'_>,
    ) -> Pin<Box<dyn Future<Output = Result<(), DbError>> + Send + 'a>> {
        Box::pin(async move {
            if let Some((decision, _)) = &self.asked {
                self.outcome = Some(match decision.decide(batch).await {
                    Ok(committed) => Ok(committed),
                    Err(Undecided::Refused(refused)) => Err(refused.into()),
                    Err(Undecided::Db(error)) => return Err(error),
                });
            }
            Ok(())
        })
    }

    fn fail(&mut self, error: &CommitError) {
        self.outcome = Some(Err(error.clone()));
    }

    fn answer(&mut self) {
        if let (Some((decision, answer)), Some(outcome)) = (self.asked.take(), self.outcome.take()) {
            // Nobody waits any more: it is committed all the same, and can be asked for again.
            let _ = answer.send((decision, outcome));
        }
    }
}

/// From one commit of many to the next. Measured: without it, commits of 20 to 50 certificates each write most of the pages
/// that one of 100 writes.
const PACE: std::time::Duration = std::time::Duration::from_millis(3);
/// How often the log is copied into the file.
const COPY: std::time::Duration = std::time::Duration::from_millis(200);
/// How long a database that failed at a commit is given to say whether it is done. SQLite is waited for.
const ASK: std::time::Duration = std::time::Duration::from_secs(5);
