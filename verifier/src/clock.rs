//! Time as an argument: one moment read from both clocks.

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use chancery_identity::Timestamp;

/// One moment, read from the wall clock and from the monotonic clock at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "two clocks, and no third")]
pub struct Moment {
    /// What the wall clock said.
    pub wall: Timestamp,
    /// What the monotonic clock said.
    pub monotonic: Instant,
}

impl Moment {
    /// The time from `earlier` to `self`: the longer of what the two clocks say, so that no clock step makes knowledge
    /// look younger.
    pub fn since(self, earlier: Self) -> Duration {
        self.wall.since(earlier.wall).max(self.monotonic.saturating_duration_since(earlier.monotonic))
    }
}

/// Where the time comes from.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The present moment.
    fn now(&self) -> Moment;
}

/// The clocks of this machine.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "it holds nothing")]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one place of this crate that reads the clocks")]
    fn now(&self) -> Moment {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let millis = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
        Moment { wall: Timestamp::from_unix_millis(millis), monotonic: Instant::now() }
    }
}
