//! The clock, as an argument.

use chancery_identity::Timestamp;
use chancery_verifier::Moment;

/// What time it is. The service holds one and passes its readings on; nothing below asks for the time by itself.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Timestamp;

    /// Now, by the monotonic clock too.
    #[allow(clippy::disallowed_methods, reason = "the monotonic clock has no other source")]
    fn moment(&self) -> Moment {
        Moment { wall: self.now(), monotonic: std::time::Instant::now() }
    }
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one edge where the service reads the clock")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_unix_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}
