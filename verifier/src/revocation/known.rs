//! What the feed taught, as of one signed head.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chancery_identity::Timestamp;
use rustls_pki_types::CertificateDer;

use super::entries::Entries;
use crate::{Freshness, Knowledge, Moment};

/// All that the issuer's revocation feed taught, up to one signed head. Only the feature `feed` makes one. Never changes:
/// a newer one replaces it.
pub struct Known {
    pub(crate) epoch: u64,
    pub(crate) n: u64,
    /// When the issuer read the state that the head tells of, by its clock.
    pub(crate) head_at: Timestamp,
    /// When the head came here, or was read from disk.
    pub(crate) seen: Moment,
    pub(crate) from_disk: bool,
    pub(crate) entries: Entries,
    pub(crate) roots: Option<Arc<[CertificateDer<'static>]>>,
}

impl Known {
    /// The log's epoch.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Every entry up to this number is known.
    pub const fn n(&self) -> u64 {
        self.n
    }

    /// When the issuer read what the head tells, by its clock.
    pub const fn head_at(&self) -> Timestamp {
        self.head_at
    }

    /// When the head came, or was read from the state folder.
    pub const fn seen(&self) -> Moment {
        self.seen
    }

    /// Whether it was saved by an earlier process, and no head has come since.
    pub const fn is_from_disk(&self) -> bool {
        self.from_disk
    }

    /// The trust anchors of the trust domain, once the feed has sent them.
    pub const fn roots(&self) -> Option<&Arc<[CertificateDer<'static>]>> {
        self.roots.as_ref()
    }

    /// How old it is. Once it is here its age grows with the monotonic clock, wherever the wall clock is set; a head that
    /// was held back on its way has the age that it came with.
    pub fn age(&self, now: Moment) -> Duration {
        let when_seen = self.seen.wall.since(self.head_at);
        let here = now.monotonic.saturating_duration_since(self.seen.monotonic);
        now.since(self.seen).max(now.wall.since(self.head_at)).max(when_seen.saturating_add(here))
    }

    /// How well it tells of the present. What an earlier process left behind is stale at best: no clock counted the time
    /// between.
    pub(crate) fn state(&self, limits: Freshness, now: Moment) -> Knowledge {
        match self.age(now) {
            age if age > limits.expired_after => Knowledge::Expired,
            age if age > limits.stale_after || self.from_disk => Knowledge::Stale,
            _ => Knowledge::Fresh,
        }
    }

    #[cfg(feature = "feed")]
    pub(crate) fn copy(&self) -> Self {
        Self { entries: self.entries.clone(), roots: self.roots.clone(), ..*self }
    }

    /// Where it stands in the sequence.
    pub(crate) const fn number(&self) -> (u64, u64) {
        (self.epoch, self.n)
    }
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known")
            .field("epoch", &self.epoch)
            .field("n", &self.n)
            .field("head_at", &self.head_at)
            .field("from_disk", &self.from_disk)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn at(start: Instant, wall: i64, monotonic: u64) -> Moment {
        Moment {
            wall: Timestamp::from_unix_seconds(1_000_000 + wall),
            monotonic: start + Duration::from_secs(monotonic),
        }
    }

    /// One whose head was read `old` seconds before it came.
    fn known(start: Instant, old: i64, from_disk: bool) -> Known {
        let seen = at(start, 0, 0);
        let head_at = at(start, -old, 0).wall;
        Known { epoch: 1, n: 7, head_at, seen, from_disk, entries: Entries::default(), roots: None }
    }

    #[test]
    fn no_clock_makes_it_younger() {
        let start = Instant::now();
        let state =
            |old, wall, monotonic| known(start, old, false).state(Freshness::default(), at(start, wall, monotonic));
        assert_eq!(state(0, 30, 30), Knowledge::Fresh);
        assert_eq!(state(0, 31, 31), Knowledge::Stale);
        assert_eq!(state(0, 901, 901), Knowledge::Expired);
        // The wall clock is set back, or on; the machine sleeps, and the monotonic clock with it.
        assert_eq!(state(0, -3600, 31), Knowledge::Stale);
        assert_eq!(state(0, -3600, 901), Knowledge::Expired);
        assert_eq!(state(0, 901, 1), Knowledge::Expired);
        // A head that was held back, or shown again, is as old as it says.
        assert_eq!(state(31, 0, 0), Knowledge::Stale);
        assert_eq!(state(901, 0, 0), Knowledge::Expired);
        // Setting the wall clock back after that does not help.
        assert_eq!(state(31, -3600, 0), Knowledge::Stale);
    }

    #[test]
    fn what_was_saved_is_stale_at_best() {
        let start = Instant::now();
        let state = |old, wall| known(start, old, true).state(Freshness::default(), at(start, wall, 0));
        assert_eq!(
            (state(0, 0), state(800, 100), state(800, 101)),
            (Knowledge::Stale, Knowledge::Stale, Knowledge::Expired)
        );
    }
}
