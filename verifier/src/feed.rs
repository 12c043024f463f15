//! The issuer's revocation feed, as bytes come: nothing counts until a signed head reaches it.
//!
//! No I/O and no clock: the caller asks for `GET /v1/feed` with [`Feed::after`], hands over what it answers with
//! [`Feed::push`], and gives the [`Known`] that comes out to verifiers as part of their material.

mod draft;
mod events;
mod saved;
mod trust;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chancery_api::{Bundle, FeedPace, FeedSnapshot};
use chancery_tlog::{Chained, Head, HeadError, Note, NoteError};
use rustls_pki_types::CertificateDer;

use self::draft::{Base, Draft};
use self::events::{Decoder, Event};
use self::trust::HeadKeys;
use crate::revocation::Entries;
use crate::{Known, Moment};

pub use self::saved::{Saved, Unsaved, UnsavedEntries};
pub use self::trust::FeedTrust;
pub use chancery_tlog::Sha256;

/// The longest that an issuer can have acknowledgements wait.
const PACE_MAX: Duration = Duration::from_secs(2);

/// Follows one issuer's feed, over one connection after the other.
#[derive(Debug)]
pub struct Feed {
    trust: FeedTrust,
    /// The trust anchors that did not come by the feed.
    given: Arc<[CertificateDer<'static>]>,
    decoder: Decoder,
    /// Of the present connection.
    keys: HeadKeys,
    /// What no head has reached yet.
    draft: Option<Draft>,
    /// A bundle that no head has confirmed yet: the document as it came.
    bundle: Option<String>,
    /// The newest head that counts. None that is behind it, or contradicts it, ever will.
    newest: Option<Newest>,
    /// The entries up to it; none when they could not be read back.
    entries: Option<Entries>,
    /// The trust anchors that the feed sent.
    roots: Option<Arc<[CertificateDer<'static>]>>,
    known: Option<Arc<Known>>,
    unsaved: Option<Unsaved>,
    /// How many entries are saved, those that could be forgotten among them.
    saved_lines: u64,
    /// Something did not fit together: only all of it, anew, can.
    resynchronise: bool,
    /// When the entries that come next are to be acknowledged.
    pace: FeedPace,
    /// When those that the newest head reached are.
    newest_pace: FeedPace,
}

/// A head that counts, and its note.
#[derive(Clone, Debug)]
struct Newest {
    head: Head,
    note: String,
}

impl Feed {
    /// Before any connection, with what an earlier process saved. Says also why that cannot be used, if it cannot: then
    /// all is asked for anew, but a head that could be read is held against those that come.
    pub fn new(trust: FeedTrust, saved: Option<&Saved>, now: Moment) -> (Self, Option<FeedRefused>) {
        let mut feed = Self {
            given: Arc::clone(&trust.roots),
            trust,
            decoder: Decoder::default(),
            keys: HeadKeys::default(),
            draft: None,
            bundle: None,
            newest: None,
            entries: None,
            roots: None,
            known: None,
            unsaved: None,
            saved_lines: 0,
            resynchronise: false,
            pace: FeedPace::default(),
            newest_pace: FeedPace::default(),
        };
        let refused = saved.and_then(|saved| feed.load(saved, now).err());
        (feed, refused)
    }

    fn load(&mut self, saved: &Saved, now: Moment) -> Result<(), FeedRefused> {
        let (newest, keys, draft) = saved::load(saved, &self.trust, now.wall)?;
        let floor = newest.head.floor.n;
        self.newest = Some(newest);
        let draft = draft?;
        let mut entries = draft.entries;
        entries.forget(floor);
        let entries = if entries.is_untidy() { entries.tidied() } else { entries };
        self.saved_lines = count(&draft.lines);
        // What came before a head that was not saved is not to be there twice.
        let first = saved.entries.split_inclusive('\n').next().unwrap_or_default();
        if saved.entries.len() > first.len() + draft.lines.len() {
            let head = self.saved_head(&keys);
            self.unsaved = Some(Unsaved { head, entries: UnsavedEntries::Whole(format!("{first}{}", draft.lines)) });
        }
        self.entries = Some(entries);
        self.tell(now, true);
        Ok(())
    }

    /// Where the next connection may go on: `None` asks for all.
    pub fn after(&self) -> Option<(u64, u64)> {
        let head = &self.newest.as_ref().filter(|_| self.entries.is_some() && !self.resynchronise)?.head;
        let live = head.revocation.n.saturating_sub(head.floor.n).saturating_add(head.standing.n);
        // Where most of what is saved is over, asking for all is the way to be rid of it.
        let worn = self.saved_lines > live.saturating_mul(2).saturating_add(10_000);
        (!worn).then_some((head.epoch, head.revocation.n))
    }

    /// The own trust domain's anchors, when they come another way: those that the feed sends replace them.
    pub fn trust(&mut self, roots: &Arc<[CertificateDer<'static>]>) {
        if self.given != *roots {
            self.given = Arc::clone(roots);
            self.trust.roots = Arc::clone(roots);
        }
    }

    /// What [`Feed::unsaved`] gave could not be saved: all is asked for anew.
    pub fn not_saved(&mut self) {
        self.resynchronise = true;
    }

    /// A new connection begins: what an earlier one left unfinished does not count.
    pub fn connected(&mut self) {
        self.decoder = Decoder::default();
        self.keys = HeadKeys::default();
        self.draft = None;
        self.bundle = None;
        (self.pace, self.newest_pace) = <(FeedPace, FeedPace)>::default();
    }

    /// Takes bytes of the connection that came at `at`. Each head among them yields what is known from then on.
    ///
    /// # Errors
    /// What came cannot be relied on. The connection is to be dropped; what was known before stays.
    pub fn push(&mut self, mut bytes: &[u8], at: Moment) -> Result<Vec<Arc<Known>>, FeedRefused> {
        let mut known = Vec::new();
        while let Some(event) = self.decoder.next(&mut bytes)? {
            let taken = self.take(event, at);
            if let Err(
                FeedRefused::Gap { .. }
                | FeedRefused::LeftOut { .. }
                | FeedRefused::Contradiction { .. }
                | FeedRefused::Unfounded,
            ) = taken
            {
                self.resynchronise = true;
            }
            known.extend(taken?);
        }
        Ok(known)
    }

    /// What is known now.
    pub fn known(&self) -> Option<&Arc<Known>> {
        self.known.as_ref()
    }

    /// The newest head that counts, as the issuer signed it.
    pub fn head(&self) -> Option<&str> {
        self.newest.as_ref().map(|newest| newest.note.as_str())
    }

    /// What is not saved yet; from now on it counts as saved. `None` when nothing came since.
    pub fn unsaved(&mut self) -> Option<Unsaved> {
        self.unsaved.take()
    }

    /// Whether entries are not saved yet: they are to be, before they are acknowledged. A head alone has time.
    pub fn has_unsaved_entries(&self) -> bool {
        self.unsaved.as_ref().is_some_and(|unsaved| unsaved.entries != UnsavedEntries::None)
    }

    /// How long to wait before the entries that came last are acknowledged: as the issuer asked for ahead of them, `random` of
    /// all that there is of it, and 2 s at most; not at all if it did not ask.
    pub fn acknowledge_in(&self, random: u32) -> Duration {
        let FeedPace { after_ms, within_ms } = self.newest_pace;
        let within = (u64::from(within_ms) * u64::from(random)) >> 32;
        Duration::from_millis(u64::from(after_ms) + within).min(PACE_MAX)
    }

    /// Work that makes look-ups compact again, once it is due: [`Tidying::run`] takes time, and needs no feed.
    pub fn tidying(&self) -> Option<Tidying> {
        self.known.as_ref().filter(|known| known.entries.is_untidy()).map(|known| Tidying(Arc::clone(known)))
    }

    /// Takes the outcome, if no head has come in between; and what is known then, which is what was known.
    pub fn tidied(&mut self, tidied: Tidied) -> Option<Arc<Known>> {
        let known = self.known.as_ref().filter(|known| known.number() == tidied.of)?;
        let entries = tidied.entries;
        let known = Arc::new(Known { entries: entries.clone(), ..known.copy() });
        self.entries = Some(entries);
        self.known = Some(Arc::clone(&known));
        Some(known)
    }

    fn take(&mut self, event: Event, at: Moment) -> Result<Option<Arc<Known>>, FeedRefused> {
        match event.kind.as_str() {
            "head-key" => self.keys.take(&event.data, &self.trust, at.wall)?,
            "snapshot" => {
                let garbage =
                    |error: serde_json::Error| FeedRefused::Event { kind: "snapshot".into(), why: error.to_string() };
                let snapshot: FeedSnapshot = serde_json::from_str(&event.data).map_err(garbage)?;
                self.draft = Some(Draft::snapshot(snapshot));
            }
            "entry" => {
                if self.draft.is_none() {
                    let newest = self.newest.as_ref().ok_or(FeedRefused::Unfounded)?;
                    let entries = self.entries.clone().ok_or(FeedRefused::Unfounded)?;
                    self.draft = Some(Draft::after(entries, newest.head.revocation.n));
                }
                if let Some(draft) = &mut self.draft {
                    draft.take(&event.data)?;
                }
            }
            "bundle" => self.bundle = Some(event.data),
            "pace" => {
                let garbage =
                    |error: serde_json::Error| FeedRefused::Event { kind: "pace".into(), why: error.to_string() };
                self.pace = serde_json::from_str(&event.data).map_err(garbage)?;
            }
            "head" => return self.take_head(event.data, at).map(Some),
            // Later issuers may say more.
            _ => {}
        }
        Ok(None)
    }

    /// A head decides about all that came since the one before.
    fn take_head(&mut self, data: String, at: Moment) -> Result<Arc<Known>, FeedRefused> {
        let note = format!("{data}\n");
        let read: Note = note.parse().map_err(|error: NoteError| FeedRefused::Head(error.into()))?;
        let head = self.keys.open(&read, &self.trust)?;
        self.compare(&head)?;
        let draft = self.draft.take();
        let entries = match &draft {
            Some(draft) => self.check_draft(draft, &head)?,
            None => self.check_beat(&head)?,
        };
        let roots = self.check_bundle(&head)?;
        // From here on all of it counts.
        if let Some(roots) = roots {
            self.trust.roots = Arc::clone(&roots);
            self.roots = Some(roots);
        }
        let mut entries = entries;
        entries.forget(head.floor.n);
        self.entries = Some(entries);
        self.newest = Some(Newest { head, note });
        self.resynchronise = false;
        let pace = std::mem::take(&mut self.pace);
        if draft.is_some() {
            self.newest_pace = pace;
        }
        self.note_unsaved(draft);
        Ok(self.tell(at, false))
    }

    /// Holds a head against the newest one.
    fn compare(&self, head: &Head) -> Result<(), FeedRefused> {
        let Some(newest) = self.newest.as_ref().map(|newest| &newest.head) else { return Ok(()) };
        if head.is_behind(newest) {
            return Err(FeedRefused::Old { known: number(newest), came: number(head) });
        }
        let same_epoch = head.epoch == newest.epoch;
        let went_back = |was: Chained, is: Chained| is.n < was.n || (is.n == was.n && is.hash != was.hash);
        if head.contradicts(newest)
            || head.floor.n > head.revocation.n
            || went_back(newest.bundle, head.bundle)
            || (same_epoch && went_back(newest.floor, head.floor))
        {
            return Err(FeedRefused::Contradiction { known: number(newest), came: number(head) });
        }
        Ok(())
    }

    /// A head that nothing came before says what is known already.
    fn check_beat(&self, head: &Head) -> Result<Entries, FeedRefused> {
        let (newest, entries) = self.newest.as_ref().zip(self.entries.as_ref()).ok_or(FeedRefused::Unfounded)?;
        let known = newest.head.revocation;
        if newest.head.epoch != head.epoch {
            return Err(FeedRefused::Unfounded);
        }
        if known != head.revocation {
            return Err(FeedRefused::Gap { wanted: head.revocation.n, came: known.n });
        }
        Ok(entries.clone())
    }

    fn check_draft(&self, draft: &Draft, head: &Head) -> Result<Entries, FeedRefused> {
        let sha256 = self.trust.sha256;
        let newest = self.newest.as_ref().map(|newest| &newest.head).filter(|newest| newest.epoch == head.epoch);
        let Some(snapshot) = &draft.snapshot else {
            let newest = newest.ok_or(FeedRefused::Unfounded)?;
            draft.check_from(newest.revocation, head.revocation, None, sha256)?;
            return Ok(draft.entries.clone());
        };
        let base = base(head);
        if (snapshot.epoch, snapshot.floor, snapshot.standing) != (base.epoch, base.floor.n, base.standing.n) {
            let why = "its head has another epoch, floor or number of what stands".into();
            return Err(FeedRefused::Event { kind: "snapshot".into(), why });
        }
        draft.check(base, head.revocation, sha256)?;
        let Some(newest) = newest else { return Ok(draft.entries.clone()) };
        // What was known before is in it, entry for entry.
        draft.check_from(base.floor, head.revocation, Some(newest.revocation), sha256)?;
        if newest.revocation.n >= base.floor.n {
            // Every resume since is in it too, so what was forbidden and is not resumed must stand.
            let forbidden = |entries: &Entries| entries.forbidden().collect::<std::collections::BTreeSet<u64>>();
            let (before, now) = (self.entries.as_ref().map(forbidden).unwrap_or_default(), forbidden(&draft.entries));
            if let Some(n) = before.difference(&now).find(|n| !draft.ended.contains(n)) {
                return Err(FeedRefused::LeftOut { n: *n });
            }
        }
        Ok(draft.entries.clone())
    }

    /// The trust anchors of a bundle that came, if it is the one that the head names.
    fn check_bundle(&mut self, head: &Head) -> Result<Option<Arc<[CertificateDer<'static>]>>, FeedRefused> {
        let Some(document) = self.bundle.take() else { return Ok(None) };
        if self.trust.sha256.digest(&[document.as_bytes()]) != head.bundle.hash {
            return Err(FeedRefused::Bundle);
        }
        let bundle: Bundle = serde_json::from_str(&document)
            .map_err(|error| FeedRefused::Event { kind: "bundle".into(), why: error.to_string() })?;
        let roots: Vec<CertificateDer<'static>> = bundle.certificates().map(Into::into).collect();
        if roots.is_empty() || roots.iter().any(|root| webpki::anchor_from_trusted_cert(root).is_err()) {
            return Err(FeedRefused::Bundle);
        }
        // The same anchors stay the same value, so that nobody reads them again.
        let same = |known: &&Arc<[CertificateDer<'static>]>| ***known == *roots;
        let known = self.roots.iter().chain([&self.trust.roots]).find(same).cloned();
        Ok(Some(known.unwrap_or_else(|| roots.into())))
    }

    fn note_unsaved(&mut self, draft: Option<Draft>) {
        let head = self.saved_head(&self.keys);
        let before = self.unsaved.take().map_or(UnsavedEntries::None, |unsaved| unsaved.entries);
        let entries = match draft {
            None => before,
            Some(Draft { snapshot: Some(_), lines, .. }) => {
                self.saved_lines = count(&lines);
                let first =
                    self.newest.as_ref().map(|newest| saved::first_line(base(&newest.head))).unwrap_or_default();
                UnsavedEntries::Whole(format!("{first}\n{lines}"))
            }
            Some(Draft { lines, .. }) => {
                self.saved_lines = self.saved_lines.saturating_add(count(&lines));
                match before {
                    UnsavedEntries::None => UnsavedEntries::More(lines),
                    UnsavedEntries::More(before) => UnsavedEntries::More(before + &lines),
                    UnsavedEntries::Whole(before) => UnsavedEntries::Whole(before + &lines),
                }
            }
        };
        self.unsaved = Some(Unsaved { head, entries });
    }

    fn saved_head(&self, keys: &HeadKeys) -> String {
        keys.to_pem() + self.head().unwrap_or_default()
    }

    fn tell(&mut self, at: Moment, from_disk: bool) -> Arc<Known> {
        let head = self.newest.as_ref().map(|newest| &newest.head);
        let known = Arc::new(Known {
            epoch: head.map_or(0, |head| head.epoch),
            n: head.map_or(0, |head| head.revocation.n),
            head_at: head.map_or(at.wall, |head| head.at),
            seen: at,
            from_disk,
            entries: self.entries.clone().unwrap_or_default(),
            roots: self.roots.clone(),
        });
        self.known = Some(Arc::clone(&known));
        known
    }
}

/// Entries to be put in order.
#[derive(Debug)]
pub struct Tidying(Arc<Known>);

/// Entries in order.
#[derive(Debug)]
pub struct Tidied {
    of: (u64, u64),
    entries: Entries,
}

impl Tidying {
    /// Takes time in proportion to all that is known.
    pub fn run(self) -> Tidied {
        Tidied { of: self.0.number(), entries: self.0.entries.tidied() }
    }
}

fn base(head: &Head) -> Base {
    Base { epoch: head.epoch, floor: head.floor, standing: head.standing }
}

const fn number(head: &Head) -> (u64, u64) {
    (head.epoch, head.revocation.n)
}

fn count(lines: &str) -> u64 {
    u64::try_from(lines.lines().count()).unwrap_or(u64::MAX)
}

/// Why what a feed sent does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FeedRefused {
    /// Something is longer than it may be: bytes of an event or of entries, or keys.
    Oversize {
        /// The most there may be.
        most: usize,
    },
    /// Not UTF-8.
    Text,
    /// An event that is none of its kind.
    Event {
        /// Its kind.
        kind: Box<str>,
        /// What is wrong with it.
        why: String,
    },
    /// A head that none of the keys signed whose certificates hold here.
    Signer {
        /// What is wrong with it.
        head: HeadError,
        /// Why a key that was shown does not count, if one does not.
        key: Option<String>,
    },
    /// A head that is none.
    Head(HeadError),
    /// A head of an older state than is known: the issuer lost something, or this is not the newest that there is.
    Old {
        /// Epoch and number that are known.
        known: (u64, u64),
        /// Those of the head.
        came: (u64, u64),
    },
    /// A head that cannot be true if the one known is.
    Contradiction {
        /// Epoch and number that are known.
        known: (u64, u64),
        /// Those of the head.
        came: (u64, u64),
    },
    /// An entry is not what the head counts, or what was known is missing: at this number at the latest.
    LeftOut {
        /// The number.
        n: u64,
    },
    /// Entries that do not follow each other, or end where the head does not.
    Gap {
        /// The number that had to come.
        wanted: u64,
        /// The one that came.
        came: u64,
    },
    /// Entries or a head on top of what is not known here: a snapshot has to come first.
    Unfounded,
    /// A bundle that is not the one the head names, or has no trust anchors.
    Bundle,
}

impl fmt::Display for FeedRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Oversize { most } => write!(f, "the feed sent more than the {most} that there may be of it"),
            Self::Text => f.write_str("the feed sent what is not UTF-8"),
            Self::Event { kind, why } => write!(f, "the feed's {kind} cannot be read: {why}"),
            Self::Signer { head, key } => {
                write!(f, "the feed's head is not signed by a head key under the bundle's roots: {head}")?;
                key.iter().try_for_each(|why| write!(f, " (a key was not taken: {why})"))
            }
            Self::Head(error) => write!(f, "the feed's head cannot be read: {error}"),
            Self::Old { known: (epoch, n), came: (came_epoch, came_n) } => write!(
                f,
                "the feed's head tells of revocation {came_n} of epoch {came_epoch}, known is {n} of epoch {epoch}: \
                 the issuer may have been restored from a backup; chancery db restore mends it"
            ),
            Self::Contradiction { known: (epoch, n), .. } => {
                write!(f, "the feed's head contradicts the one known, of revocation {n} of epoch {epoch}")
            }
            Self::LeftOut { n } => write!(f, "the feed left out or changed an entry, at number {n} at the latest"),
            Self::Gap { wanted, came } => write!(f, "wanted the feed's entry {wanted}, got {came}"),
            Self::Unfounded => f.write_str("the feed goes on from what is not known here; wanted a snapshot"),
            Self::Bundle => f.write_str("the feed's bundle is not the one that its head names, or has no trust anchor"),
        }
    }
}

impl std::error::Error for FeedRefused {}
