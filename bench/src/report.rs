//! Figures: slices of time, medians, a table, and the one JSON line.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, Timespec, clock_gettime};
use serde_json::Value;

/// Runs what needs a folder of its own below `parent`, which is gone afterwards; then prints what it says, on one line.
pub(crate) fn report_in_folder<F: Future<Output = anyhow::Result<Value>>>(
    parent: &Path,
    measure: impl FnOnce(PathBuf) -> F,
) -> anyhow::Result<()> {
    let folder = parent.join(format!("chancery-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let measured = tokio::runtime::Runtime::new()?.block_on(measure(folder.clone()));
    std::fs::remove_dir_all(&folder)?;
    println!("{}", measured?);
    Ok(())
}

/// What was done in one slice of time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slice {
    count: usize,
    wall: Duration,
    cpu: Duration,
}

impl Slice {
    /// A second of the wall clock.
    pub(crate) fn per_s(&self) -> f64 {
        self.count as f64 / self.wall.as_secs_f64()
    }

    /// A second of processor time, which others on the machine do not take away.
    pub(crate) fn per_cpu_s(&self) -> f64 {
        self.count as f64 / self.cpu.as_secs_f64()
    }

    /// Its processor time.
    pub(crate) const fn cpu(&self) -> Duration {
        self.cpu
    }

    /// The same slice, by the processor time of another process.
    pub(crate) fn with_cpu(self, cpu: Duration) -> Self {
        Self { cpu, ..self }
    }
}

/// Begins a slice.
pub(crate) struct Watch {
    clock: ClockId,
    begun: Instant,
    cpu: Duration,
}

impl Watch {
    /// By the processor time of all threads.
    pub(crate) fn process() -> Self {
        Self::of(ClockId::ProcessCPUTime)
    }

    /// By the processor time of this thread.
    pub(crate) fn thread() -> Self {
        Self::of(ClockId::ThreadCPUTime)
    }

    fn of(clock: ClockId) -> Self {
        Self { cpu: duration(clock_gettime(clock)), clock, begun: Instant::now() }
    }

    /// Ends it.
    pub(crate) fn stop(&self, count: usize) -> Slice {
        let cpu = duration(clock_gettime(self.clock)).saturating_sub(self.cpu);
        Slice { count, wall: self.begun.elapsed(), cpu }
    }
}

fn duration(time: Timespec) -> Duration {
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The middle one.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    quantile(values, 0.5)
}

/// The value that this share of all is not above.
pub(crate) fn quantile(values: impl IntoIterator<Item = f64>, share: f64) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    let at = (values.len().saturating_sub(1) as f64 * share).round() as usize;
    values.get(at).copied().unwrap_or(f64::NAN)
}

/// Milliseconds with fractions.
pub(crate) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// A figure with as many digits as it is worth.
pub(crate) fn figure(value: f64) -> Value {
    let digits = if value.abs() >= 100.0 { 1.0 } else { 1000.0 };
    ((value * digits).round() / digits).into()
}

/// A row of the table.
pub(crate) fn row(name: &str, cells: &[(f64, &str)]) {
    let cells: String = cells.iter().map(|(value, unit)| format!("{:>12} {unit:<12}", figure(*value))).collect();
    println!("{name:<34}{cells}");
}

/// What else used the machine, as the kernel tells: its load averages.
pub(crate) fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}
