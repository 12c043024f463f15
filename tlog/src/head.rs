//! Heads: one signed statement of the newest state, which is heartbeat, checkpoint and bundle version at once.

use std::fmt;
use std::str::FromStr;

use chancery_identity::{Timestamp, TrustDomain};

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::hash::{Hash, Sha256};
use crate::note::{Note, NoteError, VerifierKey, VerifierKeyError};
use crate::proof::Tree;
use crate::tile::parse_decimal;

/// Where log, revocation sequence and bundle stand, as the issuer signs it.
///
/// Signed, it is a checkpoint of the log `<trust domain>/log/<epoch>` with five lines of its own:
///
/// ```text
/// example.org/log/1
/// 90212
/// Qw3…=                                  root
/// revocation 1841 3nJ…=                  newest number, and the hash chain up to it
/// floor 1702 9aR…=                       entries up to here are forgotten, and the hash chain up to it
/// standing 2 Xk1…=                       those among them that stay: how many, and their own hash chain
/// bundle 1 0pL…=                         version and SHA-256 of the bundle
/// time 2026-11-21T03:07:41.203Z
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a new line is a new version of the head")]
pub struct Head {
    /// The log's epoch.
    pub epoch: u64,
    /// The log.
    pub tree: Tree,
    /// The newest number of the revocation sequence.
    pub revocation: Chained,
    /// The number up to which entries can hit nothing that is still valid, and need not be known.
    pub floor: Chained,
    /// The entries up to the floor that stay all the same, as forbidden scopes do: how many.
    pub standing: Chained,
    /// The version of the bundle, and the SHA-256 of its document.
    pub bundle: Chained,
    /// When the state was read, by the issuer's clock.
    pub at: Timestamp,
}

/// A number, and a hash over all that it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a number and its hash")]
pub struct Chained {
    /// The number.
    pub n: u64,
    /// The hash.
    pub hash: Hash,
}

impl Chained {
    /// Before the first entry of an epoch that begins after number `n`.
    pub const fn start(n: u64) -> Self {
        Self { n, hash: Hash([0; Hash::LEN]) }
    }

    /// One entry on: `SHA-256(hash ‖ SHA-256(line))`, where the line is the entry as the feed sends it.
    #[must_use]
    pub fn then(self, sha256: Sha256, line: &[u8]) -> Self {
        let line = sha256.digest(&[line]);
        Self { n: self.n + 1, hash: sha256.digest(&[&self.hash.0, &line.0]) }
    }
}

impl Head {
    /// The name of the log of an epoch, which is the name of the key that signs its heads.
    pub fn origin(trust_domain: &TrustDomain, epoch: u64) -> String {
        format!("{trust_domain}/log/{epoch}")
    }

    /// Signs it with the Ed25519 key `public`. The closure is called once, with the bytes to sign.
    ///
    /// # Errors
    /// None for a trust domain and numbers that exist.
    pub fn sign(
        &self,
        trust_domain: &TrustDomain,
        sha256: Sha256,
        public: [u8; 32],
        signer: impl FnOnce(&[u8]) -> [u8; 64],
    ) -> Result<Note, HeadError> {
        let origin = Self::origin(trust_domain, self.epoch);
        let lines = [
            Line("revocation", self.revocation).to_string(),
            Line("floor", self.floor).to_string(),
            Line("standing", self.standing).to_string(),
            Line("bundle", self.bundle).to_string(),
            format!("{TIME} {}", self.at),
        ];
        let key = VerifierKey::ed25519(sha256, &origin, public)?;
        Ok(Checkpoint::new(origin, self.tree, lines.into())?.sign(&key, signer)?)
    }

    /// Reads a note that one of the Ed25519 keys `publics` signed for the trust domain. `verify` takes public key,
    /// message and signature.
    ///
    /// # Errors
    /// Another trust domain's, nobody's or a changed head, or lines that are none of a head.
    pub fn open(
        note: &Note,
        trust_domain: &TrustDomain,
        sha256: Sha256,
        publics: &[[u8; 32]],
        verify: impl Fn(&[u8; 32], &[u8], &[u8; 64]) -> bool,
    ) -> Result<Self, HeadError> {
        let epoch =
            note.origin().and_then(|origin| epoch_of(origin, trust_domain)).ok_or_else(|| HeadError::Origin {
                wanted: Self::origin(trust_domain, 1),
                came: note.origin().unwrap_or_default().to_owned(),
            })?;
        let origin = Self::origin(trust_domain, epoch);
        let keys: Vec<VerifierKey> = publics
            .iter()
            .map(|public| VerifierKey::ed25519(sha256, &origin, *public))
            .collect::<Result<_, VerifierKeyError>>()?;
        let checkpoint = Checkpoint::open(note, &origin, &keys, verify)?;
        let [revocation, floor, standing, bundle, time] = checkpoint.extensions() else {
            return Err(HeadError::Lines);
        };
        Ok(Self {
            epoch,
            tree: checkpoint.tree(),
            revocation: chained("revocation", revocation)?,
            floor: chained("floor", floor)?,
            standing: chained("standing", standing)?,
            bundle: chained("bundle", bundle)?,
            at: time.strip_prefix(TIME).and_then(|at| at.strip_prefix(' ')?.parse().ok()).ok_or(HeadError::Lines)?,
        })
    }

    /// Whether it tells of an older state than `other`: an earlier epoch, or in the same one a smaller log or number.
    pub fn is_behind(&self, other: &Self) -> bool {
        self.epoch < other.epoch
            || (self.epoch == other.epoch
                && (self.tree.size < other.tree.size || self.revocation.n < other.revocation.n))
    }

    /// Whether both cannot be true: in one epoch the same log size with another root, or the same number with another
    /// hash.
    pub fn contradicts(&self, other: &Self) -> bool {
        self.epoch == other.epoch
            && ((self.tree.size == other.tree.size && self.tree.root != other.tree.root)
                || (self.revocation.n == other.revocation.n && self.revocation.hash != other.revocation.hash))
    }
}

/// A head that cannot be made, read or trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeadError {
    /// Not signed by a known key, or no checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A key that no head can be signed with.
    #[error(transparent)]
    Key(#[from] VerifierKeyError),
    /// Not a head of this trust domain.
    #[error("wanted a head such as {wanted} signs, got one of {came:?}")]
    Origin {
        /// A name that would do.
        wanted: String,
        /// The name that came.
        came: String,
    },
    /// Other lines than a head has.
    #[error("wanted the lines revocation, floor, standing, bundle and time of a head, in this order")]
    Lines,
}

impl From<NoteError> for HeadError {
    fn from(error: NoteError) -> Self {
        Self::Checkpoint(error.into())
    }
}

const TIME: &str = "time";

struct Line(&'static str, Chained);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(word, Chained { n, hash }) = self;
        write!(f, "{word} {n} {hash}")
    }
}

fn chained(word: &'static str, line: &str) -> Result<Chained, HeadError> {
    let mut parts = line.split(' ');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(came), Some(n), Some(hash), None) if came == word => Ok(Chained {
            n: parse_decimal(n).ok_or(HeadError::Lines)?,
            hash: Hash::from_str(hash).map_err(|_| HeadError::Lines)?,
        }),
        _ => Err(HeadError::Lines),
    }
}

fn epoch_of(origin: &str, trust_domain: &TrustDomain) -> Option<u64> {
    let epoch = origin.strip_prefix(trust_domain.as_str())?.strip_prefix("/log/")?;
    parse_decimal(epoch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive::{self, SHA256};
    use crate::note::tests::{Signer, verify};

    fn head() -> Head {
        Head {
            epoch: 2,
            tree: Tree { size: 3, root: naive::root(&naive::leaves(3)) },
            revocation: Chained::start(7).then(SHA256, b"{}"),
            floor: Chained::start(7),
            standing: Chained::start(0),
            bundle: Chained { n: 1, hash: SHA256.digest(&[b"bundle"]) },
            at: "2026-11-21T03:07:41.203Z".parse().unwrap(),
        }
    }

    fn domain() -> TrustDomain {
        "example.org".parse().unwrap()
    }

    fn signed(head: &Head, by: &Signer) -> String {
        head.sign(&domain(), SHA256, by.public(), |message| by.sign(message)).unwrap().to_string()
    }

    fn open(note: &str, keys: &[[u8; 32]]) -> Result<Head, HeadError> {
        Head::open(&note.parse()?, &domain(), SHA256, keys, verify)
    }

    #[test]
    fn reads_what_it_signs() {
        let signer = Signer::new(1);
        let note = signed(&head(), &signer);
        assert_eq!(open(&note, &[Signer::new(2).public(), signer.public()]), Ok(head()));
        let lines: Vec<&str> = note.lines().collect();
        assert_eq!(lines[0], "example.org/log/2");
        assert!(lines[3].starts_with("revocation 8 ") && lines[4].starts_with("floor 7 AAAA"), "{note}");
        assert_eq!(lines[7], "time 2026-11-21T03:07:41.203Z");
    }

    #[test]
    fn trusts_no_other_key_domain_or_text() {
        let signer = Signer::new(1);
        let note = signed(&head(), &signer);
        assert!(matches!(open(&note, &[Signer::new(2).public()]), Err(HeadError::Checkpoint(_))));
        let changed = note.replacen("revocation 8", "revocation 9", 1);
        assert!(matches!(open(&changed, &[signer.public()]), Err(HeadError::Checkpoint(_))));
        let other: TrustDomain = "example.net".parse().unwrap();
        let read = Head::open(&note.parse().unwrap(), &other, SHA256, &[signer.public()], verify);
        assert!(matches!(read, Err(HeadError::Origin { .. })));
    }

    #[test]
    fn lines_that_are_no_head() {
        let signer = Signer::new(1);
        let origin = Head::origin(&domain(), 2);
        let key = VerifierKey::ed25519(SHA256, &origin, signer.public()).unwrap();
        let hash = Chained::start(0).hash;
        let good = |n| format!("{n} 0 {hash}");
        let all = || ["revocation", "floor", "standing", "bundle"].map(good).to_vec();
        let with = |lines: Vec<String>| {
            let note = Checkpoint::new(&*origin, head().tree, lines).unwrap().sign(&key, |m| signer.sign(m)).unwrap();
            open(&note.to_string(), &[signer.public()])
        };
        let time = || "time 2026-11-21T03:07:41.203Z".to_owned();
        assert!(with([all(), vec![time()]].concat()).is_ok());
        assert_eq!(with(all()), Err(HeadError::Lines));
        assert_eq!(with([all(), vec![time(), "more".into()]].concat()), Err(HeadError::Lines));
        assert_eq!(with([all(), vec!["time soon".into()]].concat()), Err(HeadError::Lines));
        for wrong in ["revocation 01 ", "revocation 1  ", "floor 1 "] {
            let mut lines = all();
            lines[0] = format!("{wrong}{hash}");
            lines.push(time());
            assert_eq!(with(lines), Err(HeadError::Lines), "{wrong}");
        }
    }

    #[test]
    fn order_is_epoch_then_size_and_number() {
        let now = head();
        let mut older = head();
        older.revocation = Chained::start(7);
        assert!(older.is_behind(&now) && !now.is_behind(&older) && !now.is_behind(&now));
        let mut next_epoch = head();
        next_epoch.epoch = 3;
        next_epoch.tree.size = 1;
        assert!(now.is_behind(&next_epoch) && !next_epoch.is_behind(&now));
        let mut other = head();
        other.tree.root = naive::root(&naive::leaves(4));
        assert!(other.contradicts(&now) && !now.contradicts(&now));
        let mut left_out = head();
        left_out.revocation = Chained::start(7).then(SHA256, b"[]");
        assert!(left_out.contradicts(&now));
    }
}
