//! Loads: so many requests in flight, or so many a second whatever happens.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::sleep_until;

use crate::report::{Slice, Watch, ms, quantile};

/// What came of a load.
pub(crate) struct Driven<O> {
    pub(crate) outputs: Vec<O>,
    pub(crate) slice: Slice,
    pub(crate) p99_ms: f64,
}

/// Closed loop: the next request begins when one of `in_flight` is answered.
pub(crate) async fn closed_loop<I, O, F, R>(inputs: Vec<I>, in_flight: usize, call: F) -> anyhow::Result<Driven<O>>
where
    I: Send + 'static,
    O: Send + 'static,
    F: Fn(I) -> R + Clone + Send + 'static,
    R: Future<Output = anyhow::Result<O>> + Send,
{
    let queue = Arc::new(Mutex::new(inputs.into_iter()));
    let watch = Watch::process();
    let mut tasks = JoinSet::new();
    for _ in 0..in_flight {
        let (queue, call) = (queue.clone(), call.clone());
        tasks.spawn(async move {
            let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let mut answered = Vec::new();
            while let Some(input) = next() {
                let begun = Instant::now();
                answered.push((call(input).await?, begun.elapsed()));
            }
            anyhow::Ok(answered)
        });
    }
    let mut answered = Vec::new();
    while let Some(worker) = tasks.join_next().await {
        answered.extend(worker??);
    }
    Ok(driven(answered, &watch))
}

/// Open loop: requests begin at their time, be those before them answered or not, and are late from then on.
pub(crate) async fn open_loop<I, O, F, R>(inputs: Vec<I>, per_s: f64, call: F) -> anyhow::Result<Driven<O>>
where
    I: Send + 'static,
    O: Send + 'static,
    F: Fn(I) -> R + Clone + Send + 'static,
    R: Future<Output = anyhow::Result<O>> + Send,
{
    let watch = Watch::process();
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for (at, input) in inputs.into_iter().enumerate() {
        let due = begun + Duration::from_secs_f64(at as f64 / per_s);
        sleep_until(due.into()).await;
        let call = call.clone();
        tasks.spawn(async move { anyhow::Ok((call(input).await?, due.elapsed())) });
    }
    let mut answered = Vec::new();
    while let Some(one) = tasks.join_next().await {
        answered.push(one??);
    }
    Ok(driven(answered, &watch))
}

fn driven<O>(answered: Vec<(O, Duration)>, watch: &Watch) -> Driven<O> {
    let slice = watch.stop(answered.len());
    let p99_ms = quantile(answered.iter().map(|(_, took)| ms(*took)), 0.99);
    Driven { outputs: answered.into_iter().map(|(output, _)| output).collect(), slice, p99_ms }
}

/// Maps on all processors, outside of what is measured.
pub(crate) fn in_parallel<I: Sync, O: Send>(
    inputs: &[I],
    map: impl Fn(&I) -> anyhow::Result<O> + Sync,
) -> anyhow::Result<Vec<O>> {
    let share = inputs.len().div_ceil(processors()).max(1);
    std::thread::scope(|scope| {
        let shares = inputs.chunks(share);
        let threads: Vec<_> =
            shares.map(|share| scope.spawn(|| share.iter().map(&map).collect::<anyhow::Result<Vec<_>>>())).collect();
        let mut outputs = Vec::with_capacity(inputs.len());
        for thread in threads {
            outputs.extend(thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??);
        }
        Ok(outputs)
    })
}

/// How many there are.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
