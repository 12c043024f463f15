//! What of a feed outlives the process: two texts, for two files.

use chancery_identity::Timestamp;
use chancery_tlog::{Chained, Hash};
use serde_json::{Value, json};

use super::draft::{Base, Draft};
use super::trust::{FeedTrust, HeadKeys};
use super::{FeedRefused, Newest};

const END: &str = "-----END CERTIFICATE-----\n";

/// What an earlier process saved: the newest head with the certificates of its keys, and the entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "two files")]
pub struct Saved {
    /// Certificates in PEM, then the head: a signed note.
    pub head: String,
    /// A line that says where they begin, then each entry as the feed sent it, a line each. It may have more of them than
    /// the head counts: those were saved before a head that was not.
    pub entries: String,
}

/// What is to be saved. The entries first, then the head; both for good before anything is acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "two files")]
pub struct Unsaved {
    /// In place of the head that was saved before.
    pub head: String,
    /// What becomes of the entries.
    pub entries: UnsavedEntries,
}

/// What becomes of the saved entries.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a file stays, grows or is another")]
pub enum UnsavedEntries {
    /// Nothing.
    None,
    /// These lines come at their end.
    More(String),
    /// These are all.
    Whole(String),
}

/// The newest head of what was saved, which stands by itself, and the entries up to it.
pub(super) fn load(
    saved: &Saved,
    trust: &FeedTrust,
    now: Timestamp,
) -> Result<(Newest, HeadKeys, Result<Draft, FeedRefused>), FeedRefused> {
    let (pem, note) = saved
        .head
        .rfind(END)
        .and_then(|at| saved.head.split_at_checked(at + END.len()))
        .ok_or(FeedRefused::Event { kind: "saved head".into(), why: "it has no certificate".into() })?;
    let mut keys = HeadKeys::default();
    for one in pem.split_inclusive(END) {
        keys.take(one, trust, now)?;
    }
    let head =
        keys.open(&note.parse().map_err(|error: chancery_tlog::NoteError| FeedRefused::Head(error.into()))?, trust)?;
    let newest = Newest { head, note: note.to_owned() };
    let entries = entries(&saved.entries, &newest, trust);
    Ok((newest, keys, entries))
}

fn entries(text: &str, newest: &Newest, trust: &FeedTrust) -> Result<Draft, FeedRefused> {
    let broken = || FeedRefused::Event { kind: "saved entries".into(), why: "they do not begin as saved ones".into() };
    let (first, lines) = text.split_once('\n').ok_or_else(broken)?;
    let base = base(first).ok_or_else(broken)?;
    let mut draft = Draft::at(base);
    for line in lines.lines() {
        if draft.is_at(newest.head.revocation.n) {
            break;
        }
        draft.take(line)?;
    }
    draft.check(base, newest.head.revocation, trust.sha256)?;
    Ok(draft)
}

/// The line that saved entries begin with.
pub(super) fn first_line(base: Base) -> String {
    let chained = |chained: Chained| json!({ "n": chained.n.to_string(), "hash": chained.hash.to_string() });
    json!({ "epoch": base.epoch.to_string(), "floor": chained(base.floor), "standing": chained(base.standing) })
        .to_string()
}

fn base(line: &str) -> Option<Base> {
    let value: Value = serde_json::from_str(line).ok()?;
    let number = |value: &Value| value.as_str()?.parse::<u64>().ok();
    let chained = |value: &Value| {
        Some(Chained { n: number(value.get("n")?)?, hash: value.get("hash")?.as_str()?.parse::<Hash>().ok()? })
    };
    Some(Base {
        epoch: number(value.get("epoch")?)?,
        floor: chained(value.get("floor")?)?,
        standing: chained(value.get("standing")?)?,
    })
}
