//! What waits for the writer, and when it takes it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep};

use super::decision::Rank;

/// Makes a queue. After a batch of many the next is taken `pace` after it, or once nobody comes any more: a commit writes the
/// pages it touches, whatever is on them, so what comes meanwhile costs less with the others than in a commit of its own.
pub(super) fn queue<T>(pace: Duration) -> (Sender<T>, Receiver<T>) {
    let (sender, jobs) = mpsc::channel(WAITING);
    let hurry = Arc::new(Notify::new());
    let receiver = Receiver { jobs, hurry: hurry.clone(), pace, taken_at: Instant::now(), taken: 0 };
    (Sender { jobs: sender, hurry }, receiver)
}

/// Where whoever decides puts it. Clones share it.
#[derive(Debug)]
pub(super) struct Sender<T> {
    jobs: mpsc::Sender<T>,
    hurry: Arc<Notify>,
}

/// Where the writer takes it.
#[derive(Debug)]
pub(super) struct Receiver<T> {
    jobs: mpsc::Receiver<T>,
    hurry: Arc<Notify>,
    pace: Duration,
    taken_at: Instant,
    /// How many were taken then.
    taken: usize,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { jobs: self.jobs.clone(), hurry: self.hurry.clone() }
    }
}

impl<T> Sender<T> {
    /// Waits for a place. Only certificates keep to the pace: what stops somebody is taken as soon as the writer is free.
    pub(super) async fn send(&self, job: T, rank: Rank) -> Result<(), Closed> {
        self.jobs.send(job).await.map_err(|_| Closed)?;
        if rank < Rank::Certificate {
            self.hurry.notify_one();
        }
        Ok(())
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.jobs.max_capacity() - self.jobs.capacity()
    }

    /// Whether nothing is taken any more.
    pub(super) fn is_closed(&self) -> bool {
        self.jobs.is_closed()
    }
}

/// Nothing is taken any more.
pub(super) struct Closed;

impl<T> Receiver<T> {
    /// Waits for the next batch and puts it into `batch`; `false` when nobody can ask any more. Dropped before it is done,
    /// it leaves in `batch` what it took, for the next call to go on with.
    pub(super) async fn take(&mut self, batch: &mut Vec<T>) -> bool {
        if batch.is_empty() && self.jobs.recv_many(batch, BATCH).await == 0 {
            return false;
        }
        if self.taken > MANY {
            self.gather(batch).await;
        }
        (self.taken_at, self.taken) = (Instant::now(), batch.len());
        true
    }

    async fn gather(&mut self, batch: &mut Vec<T>) {
        let due = self.taken_at + self.pace;
        while batch.len() < BATCH && Instant::now() < due {
            let hurried = tokio::select! {
                () = sleep(LULL) => false,
                // It may be for one that was taken before: then the pace is not kept, once.
                () = self.hurry.notified() => true,
            };
            let before = batch.len();
            while batch.len() < BATCH
                && let Ok(job) = self.jobs.try_recv()
            {
                batch.push(job);
            }
            if hurried || batch.len() == before {
                return;
            }
        }
    }

    /// Takes nothing new from now on, and gives what still waits, one after another.
    pub(super) async fn rest(&mut self) -> Option<T> {
        self.jobs.close();
        self.jobs.recv().await
    }
}

/// Decisions that may wait for the writer before whoever comes next waits to ask.
const WAITING: usize = 4096;
/// Decisions in one batch.
const BATCH: usize = 256;
/// More than this is a load under which waiting pays: fewer in flight could all be waiting for this very batch.
const MANY: usize = 32;
/// Under such a load somebody comes within this time.
const LULL: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    /// Longer than any test runs.
    const NEVER: Duration = Duration::from_secs(3600);

    async fn after_a_batch_of(count: usize) -> (Sender<usize>, Receiver<usize>) {
        let (sender, mut receiver) = queue(NEVER);
        for job in 0..count {
            assert!(sender.send(job, Rank::Certificate).await.is_ok());
        }
        let mut batch = Vec::new();
        assert!(receiver.take(&mut batch).await);
        assert_eq!(batch.len(), count);
        (sender, receiver)
    }

    #[tokio::test]
    async fn certificates_after_many_wait_for_each_other_and_for_nothing_that_stops_somebody() {
        let (sender, mut receiver) = after_a_batch_of(MANY + 1).await;
        let mut batch = Vec::new();
        assert!(sender.send(1, Rank::Certificate).await.is_ok());
        let asking = async {
            // `take` has had its turn, has the first and waits.
            tokio::task::yield_now().await;
            assert_eq!(sender.waiting(), 0);
            assert!(sender.send(2, Rank::Certificate).await.is_ok());
            tokio::task::yield_now().await;
            assert!(sender.send(3, Rank::Revocation).await.is_ok());
        };
        let (taken, ()) = tokio::join!(receiver.take(&mut batch), asking);
        assert!(taken);
        assert_eq!(batch, [1, 2, 3]);
    }

    #[tokio::test]
    async fn nobody_waits_for_those_who_do_not_come() {
        let (sender, mut receiver) = after_a_batch_of(MANY + 1).await;
        let mut batch = Vec::new();
        assert!(sender.send(1, Rank::Certificate).await.is_ok());
        assert!(receiver.take(&mut batch).await);
        assert_eq!(batch, [1]);
    }

    #[tokio::test]
    async fn after_few_nobody_waits() {
        let (sender, mut receiver) = after_a_batch_of(MANY).await;
        let mut batch = Vec::new();
        assert!(sender.send(1, Rank::Certificate).await.is_ok());
        assert!(receiver.take(&mut batch).await);
        assert_eq!(batch, [1]);
    }

    #[tokio::test]
    async fn a_full_batch_waits_for_nothing() {
        let (sender, mut receiver) = after_a_batch_of(BATCH).await;
        let mut batch = Vec::new();
        for job in 0..=BATCH {
            assert!(sender.send(job, Rank::Certificate).await.is_ok());
        }
        assert!(receiver.take(&mut batch).await);
        assert_eq!(batch.len(), BATCH);
    }

    #[tokio::test]
    async fn what_was_taken_by_a_call_that_was_dropped_is_in_the_next() {
        let (sender, mut receiver) = after_a_batch_of(MANY + 1).await;
        let mut batch = Vec::new();
        assert!(sender.send(1, Rank::Certificate).await.is_ok());
        tokio::select! {
            biased;
            _ = receiver.take(&mut batch) => panic!("the pace was not kept"),
            () = std::future::ready(()) => {}
        }
        assert!(sender.send(2, Rank::Record).await.is_ok());
        assert!(receiver.take(&mut batch).await);
        assert_eq!(batch, [1, 2]);
    }

    #[tokio::test]
    async fn whoever_asks_last_is_taken_before_the_end() {
        let (sender, mut receiver) = queue(NEVER);
        assert!(sender.send(1, Rank::Certificate).await.is_ok());
        drop(sender);
        let mut batch = Vec::new();
        assert!(receiver.take(&mut batch).await);
        assert_eq!(std::mem::take(&mut batch), [1]);
        assert!(!receiver.take(&mut batch).await);
    }
}
