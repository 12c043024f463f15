//! Entries that no head has reached yet.

use std::collections::BTreeSet;

use chancery_api::{FeedEntry, FeedSnapshot};
use chancery_identity::Revocation;
use chancery_tlog::{Chained, Sha256};

use super::FeedRefused;
use crate::revocation::Entries;

/// The most bytes of entries between two heads: some three million of them.
const LINES_LEN_MAX: usize = 1 << 30;
/// The longest entry, in bytes.
const LINE_LEN_MAX: usize = 8 << 10;
/// How many entries of a snapshot are taken before they are put in order.
const TIDY_EACH: u64 = 1 << 16;

/// Where a run of entries begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Base {
    pub(super) epoch: u64,
    pub(super) floor: Chained,
    pub(super) standing: Chained,
}

/// Entries in the order they came, on top of what was known. Nothing of it counts until a head is found to reach it.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) entries: Entries,
    /// The lines as they came, each with a newline; those that stand below the floor first.
    pub(super) lines: String,
    pub(super) snapshot: Option<FeedSnapshot>,
    /// Of the lines, how many stand below the floor and are still to come.
    standing_left: u64,
    /// The greatest number so far.
    n: u64,
    /// What was resumed in it.
    pub(super) ended: BTreeSet<u64>,
    taken: u64,
}

impl Draft {
    /// More on top of what is known up to `n`.
    pub(super) fn after(entries: Entries, n: u64) -> Self {
        Self { entries, lines: String::new(), snapshot: None, standing_left: 0, n, ended: BTreeSet::new(), taken: 0 }
    }

    /// All anew.
    pub(super) fn snapshot(snapshot: FeedSnapshot) -> Self {
        let standing_left = snapshot.standing;
        let n = snapshot.floor;
        Self { snapshot: Some(snapshot), standing_left, ..Self::after(Entries::default(), n) }
    }

    /// All that was saved from there on.
    pub(super) fn at(base: Base) -> Self {
        Self::snapshot(FeedSnapshot { epoch: base.epoch, floor: base.floor.n, standing: base.standing.n })
    }

    /// Whether all up to this number is here.
    pub(super) const fn is_at(&self, n: u64) -> bool {
        self.standing_left == 0 && self.n == n
    }

    /// Takes the next entry, one line.
    pub(super) fn take(&mut self, line: &str) -> Result<(), FeedRefused> {
        if line.len() > LINE_LEN_MAX || self.lines.len() + line.len() >= LINES_LEN_MAX {
            return Err(FeedRefused::Oversize { most: LINE_LEN_MAX });
        }
        let garbage = |why: String| FeedRefused::Event { kind: "entry".into(), why };
        let entry: FeedEntry = serde_json::from_str(line).map_err(|error| garbage(error.to_string()))?;
        let standing = self.standing_left > 0;
        let wanted = self.n + 1;
        match entry {
            FeedEntry::Revocation(entry) if standing => {
                let floor = self.snapshot.as_ref().map_or(0, |snapshot| snapshot.floor);
                if entry.n > floor {
                    return Err(FeedRefused::Gap { wanted: floor, came: entry.n });
                }
                self.entries.insert(&Revocation::from(entry));
                self.standing_left -= 1;
            }
            FeedEntry::Resume(_) if standing => return Err(garbage("a resume does not stand below the floor".into())),
            entry if entry.n() != wanted => return Err(FeedRefused::Gap { wanted, came: entry.n() }),
            FeedEntry::Revocation(entry) => {
                self.n = wanted;
                self.entries.insert(&Revocation::from(entry));
            }
            FeedEntry::Resume(resume) => {
                self.n = wanted;
                self.entries.end(resume.resumes);
                self.ended.insert(resume.resumes);
            }
        }
        self.lines.push_str(line);
        self.lines.push('\n');
        self.taken += 1;
        if self.taken % TIDY_EACH == 0 {
            self.entries = self.entries.tidied();
        }
        Ok(())
    }

    /// Whether the lines lead from the base to `newest`: what stands below the floor by its own chain, the rest by the
    /// chain of all.
    pub(super) fn check(&self, base: Base, newest: Chained, sha256: Sha256) -> Result<(), FeedRefused> {
        let mut lines = self.lines.lines();
        let mut standing = Chained::start(0);
        while standing.n < base.standing.n {
            let line = lines.next().ok_or(FeedRefused::Gap { wanted: newest.n, came: self.n })?;
            standing = standing.then(sha256, line.as_bytes());
        }
        if standing.hash != base.standing.hash {
            return Err(FeedRefused::LeftOut { n: base.floor.n });
        }
        check_chain(lines, base.floor, newest, sha256, None)
    }

    /// The lines above the floor, checked to lead from `from` to `newest`; and that they pass `by`, if it lies between.
    pub(super) fn check_from(
        &self,
        from: Chained,
        newest: Chained,
        by: Option<Chained>,
        sha256: Sha256,
    ) -> Result<(), FeedRefused> {
        let standing = self.snapshot.as_ref().map_or(0, |snapshot| snapshot.standing);
        let skipped = usize::try_from(standing).unwrap_or(usize::MAX);
        check_chain(self.lines.lines().skip(skipped), from, newest, sha256, by)
    }
}

fn check_chain<'a>(
    lines: impl Iterator<Item = &'a str>,
    from: Chained,
    newest: Chained,
    sha256: Sha256,
    by: Option<Chained>,
) -> Result<(), FeedRefused> {
    let passes = |chained: &Chained| by.is_none_or(|by| by.n != chained.n || by.hash == chained.hash);
    let mut chained = from;
    if !passes(&chained) {
        return Err(FeedRefused::LeftOut { n: chained.n });
    }
    for line in lines {
        chained = chained.then(sha256, line.as_bytes());
        if !passes(&chained) {
            return Err(FeedRefused::LeftOut { n: chained.n });
        }
    }
    match chained {
        reached if reached == newest => Ok(()),
        reached if reached.n == newest.n => Err(FeedRefused::LeftOut { n: newest.n }),
        reached => Err(FeedRefused::Gap { wanted: newest.n, came: reached.n }),
    }
}
