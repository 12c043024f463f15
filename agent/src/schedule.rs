//! When to do what: pure functions of what is held, the time and a random number.

use std::time::Duration;

use chancery_identity::Timestamp;

/// How far the machine's clock may be from the issuer's before it is said.
const CLOCK_DIFFERENCE_MAX: Duration = Duration::from_secs(30);
/// The longest rest. A timer does not count the time a machine sleeps, so the wall clock is looked at this often.
const REST_MAX: Duration = Duration::from_secs(30);
/// The wait after the first failure; each further one doubles it.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// The same for the feed.
const REJOIN_SPREAD: Duration = Duration::from_secs(3);
const FEED_RETRY_MIN: Duration = Duration::from_millis(250);
/// CRLs are asked for meanwhile, so that nothing is missed.
const FEED_RETRY_MAX: Duration = Duration::from_secs(15);
/// The longest wait between two attempts.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// The times that decide about one certificate, in the issuer's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) renew_after: Timestamp,
    pub(crate) not_after: Timestamp,
}

/// What a certificate needs now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// Nothing; look again after this long.
    Rest(Duration),
    /// A new certificate, asked for with this one.
    Renew,
    /// It is over: ask with its key alone.
    Rejoin,
}

impl Life {
    pub(crate) fn step(self, now: Timestamp) -> Step {
        if now > self.not_after {
            Step::Rejoin
        } else if now >= self.renew_after {
            Step::Renew
        } else {
            Step::Rest(self.renew_after.since(now).min(REST_MAX))
        }
    }

    pub(crate) fn left(self, now: Timestamp) -> Duration {
        self.not_after.since(now)
    }
}

/// How long to wait after `failures` attempts in a row, the first of them being 1: doubling from a second to a minute, a
/// random half of it taken off so that many that failed together do not come back together. `left`, what remains of the
/// certificate, leaves room for four more attempts as long as it lasts.
pub(crate) fn retry_in(failures: u32, left: Duration, random: u32) -> Duration {
    let doubled = RETRY_MIN.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    let longest = if left.is_zero() { RETRY_MAX } else { (left / 4).clamp(RETRY_MIN, RETRY_MAX) };
    spread(doubled.min(longest), random)
}

/// How long to wait before the feed is asked for again, after `failures` in a row: doubling from an eighth of a second.
pub(crate) fn feed_retry_in(failures: u32, random: u32) -> Duration {
    let doubled = FEED_RETRY_MIN.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    spread(doubled.min(FEED_RETRY_MAX), random)
}

/// How long to wait before asking again what was refused and will be refused again unless somebody acts.
pub(crate) fn refused_retry_in(random: u32) -> Duration {
    spread(RETRY_MAX, random)
}

/// How long to wait with what all do at one instant that an authority certified.
pub(crate) fn rejoin_in(random: u32) -> Duration {
    REJOIN_SPREAD.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// Between a half and the whole of `longest`.
fn spread(longest: Duration, random: u32) -> Duration {
    let half = longest / 2;
    half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// The issuer's clock as told by one answer: what to add to ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClockOffset {
    millis: i64,
}

impl ClockOffset {
    /// From one answer: our time when we asked and when it came, and the issuer's time in it. The issuer read its clock
    /// at some instant between, so a slow answer alone never counts as a difference.
    pub(crate) fn new(asked_at: Timestamp, answered_at: Timestamp, server_time: Timestamp) -> Self {
        let behind = server_time.unix_millis().saturating_sub(answered_at.unix_millis());
        let ahead = asked_at.unix_millis().saturating_sub(server_time.unix_millis());
        let millis = if behind > 0 {
            behind
        } else if ahead > 0 {
            -ahead
        } else {
            0
        };
        Self { millis }
    }

    /// The issuer's time when ours is `now`.
    pub(crate) fn apply(self, now: Timestamp) -> Timestamp {
        Timestamp::from_unix_millis(now.unix_millis().saturating_add(self.millis))
    }

    /// The seconds to add to our clock, when it is too far off to be left unsaid.
    pub(crate) fn notable_seconds(self) -> Option<i64> {
        (u128::from(self.millis.unsigned_abs()) > CLOCK_DIFFERENCE_MAX.as_millis()).then_some(self.millis / 1000)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIFE: Life =
        Life { renew_after: Timestamp::from_unix_seconds(2100), not_after: Timestamp::from_unix_seconds(3599) };

    #[test]
    fn rests_renews_and_rejoins_in_this_order() {
        let at = Timestamp::from_unix_seconds;
        assert_eq!(LIFE.step(at(0)), Step::Rest(REST_MAX));
        assert_eq!(LIFE.step(at(2095)), Step::Rest(Duration::from_secs(5)));
        assert_eq!(LIFE.step(at(2100)), Step::Renew);
        assert_eq!(LIFE.step(at(3599)), Step::Renew);
        assert_eq!(LIFE.step(Timestamp::from_unix_millis(3_599_001)), Step::Rejoin);
    }

    #[test]
    fn a_slow_answer_is_no_clock_difference() {
        let at = Timestamp::from_unix_seconds;
        assert_eq!(ClockOffset::new(at(100), at(190), at(150)), ClockOffset::default());
        assert_eq!(ClockOffset::new(at(100), at(101), at(131)).notable_seconds(), None);
        assert_eq!(ClockOffset::new(at(100), at(101), at(132)).notable_seconds(), Some(31));
        assert_eq!(ClockOffset::new(at(100), at(101), at(69)).notable_seconds(), Some(-31));
        assert_eq!(ClockOffset::new(at(100), at(101), at(69)).apply(at(500)), at(469));
    }

    proptest! {
        #[test]
        fn a_rest_never_outlasts_its_renewal(now in 0_i64..10_000_000) {
            let now = Timestamp::from_unix_millis(now);
            if let Step::Rest(rest) = LIFE.step(now) {
                prop_assert!(rest > Duration::ZERO && rest <= REST_MAX && now + rest <= LIFE.renew_after);
            }
        }

        #[test]
        fn retries_spread_grow_and_leave_room(failures in 1_u32.., left_s in 0_u64..100_000, random: u32) {
            let left = Duration::from_secs(left_s);
            let wait = retry_in(failures, left, random);
            prop_assert!(wait >= RETRY_MIN / 2 && wait <= RETRY_MAX);
            prop_assert!(left < RETRY_MIN * 4 || wait <= left / 4);
            prop_assert!(retry_in(failures.saturating_add(1), left, random) >= wait);
        }
    }
}
