//! How old what is known of revocations may be.

use std::fmt;
use std::time::Duration;

use chancery_identity::Timestamp;

use crate::Moment;

/// A CRL from a file counts as fresh this long after its thisUpdate; the issuer signs anew each 15 minutes.
const FILE_FRESH: Duration = Duration::from_secs(20 * 60);

/// How long knowledge of revocations serves, counted from the start of the last authenticated answer about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "the issuer tells these two")]
pub struct Freshness {
    /// After this, requests are served and flagged, and high-risk scopes are refused.
    pub stale_after: Duration,
    /// After this, all is refused.
    pub expired_after: Duration,
}

impl Default for Freshness {
    /// 30 seconds and 15 minutes.
    fn default() -> Self {
        Self { stale_after: Duration::from_secs(30), expired_after: Duration::from_secs(15 * 60) }
    }
}

/// Whether what is known of revocations is recent enough. The worse one is the greater one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(clippy::exhaustive_enums, reason = "callers must handle each")]
pub enum Knowledge {
    /// Recent.
    Fresh,
    /// Served and flagged; high-risk scopes are refused.
    Stale,
    /// Refused.
    Expired,
}

impl Knowledge {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::Expired => "expired",
        }
    }
}

impl fmt::Display for Knowledge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What one CRL says about its own age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Period {
    pub(crate) this_update: Timestamp,
    pub(crate) next_update: Timestamp,
    /// When this CRL was first seen here.
    pub(crate) seen: Moment,
    /// A root signs a CRL for months at a time.
    pub(crate) of_root: bool,
}

impl Period {
    /// The time since thisUpdate. Once seen it grows with the monotonic clock, wherever the wall clock is set.
    pub(crate) fn age(&self, now: Moment) -> Duration {
        let when_seen = self.seen.wall.since(self.this_update);
        let here = now.monotonic.saturating_duration_since(self.seen.monotonic);
        now.wall.since(self.this_update).max(when_seen.saturating_add(here))
    }

    /// The state of knowledge that rests on this CRL, with the last authenticated answer about it, if it came by one.
    pub(crate) fn state(&self, answered: Option<Moment>, limits: Freshness, now: Moment) -> Knowledge {
        let age = self.age(now);
        if age >= self.next_update.since(self.this_update) {
            return Knowledge::Expired;
        }
        match answered {
            Some(answered) => match now.since(answered) {
                age if age > limits.expired_after => Knowledge::Expired,
                age if age > limits.stale_after => Knowledge::Stale,
                _ => Knowledge::Fresh,
            },
            None if self.of_root || age <= FILE_FRESH => Knowledge::Fresh,
            None => Knowledge::Stale,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(start: Instant, wall: i64, monotonic: u64) -> Moment {
        Moment {
            wall: Timestamp::from_unix_seconds(1_000_000 + wall),
            monotonic: start + Duration::from_secs(monotonic),
        }
    }

    fn period(seen: Moment) -> Period {
        Period { this_update: seen.wall, next_update: seen.wall + 60 * MINUTE, seen, of_root: false }
    }

    #[test]
    fn an_answer_ages_by_the_faster_clock() {
        let start = Instant::now();
        let crl = period(at(start, 0, 0));
        let answered = Some(at(start, 0, 0));
        let state = |wall, monotonic| crl.state(answered, Freshness::default(), at(start, wall, monotonic));
        assert_eq!(state(30, 30), Knowledge::Fresh);
        assert_eq!(state(31, 31), Knowledge::Stale);
        assert_eq!(state(900, 900), Knowledge::Stale);
        assert_eq!(state(901, 901), Knowledge::Expired);
        // The wall clock is set back by an hour, or stands still: the monotonic one goes on.
        assert_eq!(state(-3600, 901), Knowledge::Expired);
        // The machine slept, and the monotonic clock with it.
        assert_eq!(state(901, 1), Knowledge::Expired);
    }

    #[test]
    fn a_file_ages_from_this_update() {
        let start = Instant::now();
        let crl = period(at(start, 0, 0));
        let state = |wall, monotonic| crl.state(None, Freshness::default(), at(start, wall, monotonic));
        assert_eq!(state(20 * 60, 20 * 60), Knowledge::Fresh);
        assert_eq!(state(20 * 60 + 1, 20 * 60 + 1), Knowledge::Stale);
        assert_eq!(state(3600, 3600), Knowledge::Expired);
        assert_eq!(state(-7200, 3600), Knowledge::Expired);
        let of_root = Period { of_root: true, ..crl };
        assert_eq!(of_root.state(None, Freshness::default(), at(start, 3599, 3599)), Knowledge::Fresh);
        assert_eq!(of_root.state(None, Freshness::default(), at(start, 3600, 3600)), Knowledge::Expired);
    }

    #[test]
    fn an_answer_makes_no_crl_outlive_its_next_update() {
        let start = Instant::now();
        let crl = period(at(start, 0, 0));
        let now = at(start, 3600, 3600);
        assert_eq!(crl.state(Some(now), Freshness::default(), now), Knowledge::Expired);
    }
}
