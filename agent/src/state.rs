//! The state folder: what survives a restart. One process at a time, readable by its owner only.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use chancery_api::JoinSecret;
use chancery_identity::{Leaf, Name, Serial, Timestamp};
use chancery_verifier::feed::{self, Unsaved, UnsavedEntries};
use ring::rand::SecureRandom;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::key::{Key, KeyError};
use crate::pem;
use crate::replace::{append, remove, replace};

const IDENTITY: &str = "identity.json";
const NEXT_KEY: &str = "next-key.json";
const CRLS: &str = "crl.pem";
const FEED_HEAD: &str = "feed-head";
const FEED_ENTRIES: &str = "feed-entries";
const LOCK: &str = "lock";

/// A locked state folder. The lock ends with this value, and with the process whatever way that ends.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    _lock: File,
}

/// What an identity is made of. One file, so that key and certificate never part.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Saved {
    /// `https://host:port`.
    pub(crate) issuer: String,
    /// The join token that began it, if one did.
    pub(crate) joined_by: Option<TokenDigest>,
    pub(crate) key_pem: Zeroizing<String>,
    /// Leaf first, then issuing authorities.
    pub(crate) chain_pem: String,
    pub(crate) bundle_pem: String,
    pub(crate) renew_after: Timestamp,
    /// Of the record that the certificate was made from.
    pub(crate) revision: u64,
}

/// The SHA-256 of a join token's secret, in hex: recognises the token, opens nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct TokenDigest(String);

impl TokenDigest {
    pub(crate) fn of(secret: &JoinSecret) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, secret.bytes());
        Self(digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a next key is for. A key that was shown for one purpose is never used for another: the issuer may have answered,
/// and the key belongs to that lineage then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Purpose {
    /// To join with this token.
    Join(TokenDigest),
    /// To follow this certificate, by renewal or, when it is over, by rejoining.
    Follow(Serial),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NextKey {
    purpose: Purpose,
    key_pem: Zeroizing<String>,
}

impl Folder {
    /// Makes the folder if need be, and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self, StateError> {
        let failed = |doing, source| StateError::Io { doing, path: path.to_path_buf(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| failed("create", e))?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join(LOCK))
            .map_err(|e| failed("open the lock of", e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // The holder's id only helps to find it.
                let _ = lock.read_to_string(&mut holder);
                return Err(StateError::InUse { path: path.to_path_buf(), holder: holder.trim().parse().ok() });
            }
            Err(TryLockError::Error(source)) => return Err(failed("lock", source)),
        }
        lock.set_len(0)
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(|e| failed("write the lock of", e))?;
        Ok(Self { path: path.to_path_buf(), _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn load(&self) -> Result<Option<Saved>, StateError> {
        self.read_json(IDENTITY)
    }

    /// Writes the identity, then forgets the next key: it is this identity's own now.
    pub(crate) fn save(&self, saved: &Saved) -> Result<(), StateError> {
        self.write_json(IDENTITY, saved)?;
        self.forget_next_key()
    }

    /// The key to ask with: the one that was written for this purpose and is not answered yet, or a new one, written
    /// before this returns. `current` is the public key in use, if any.
    pub(crate) fn next_key(
        &self,
        purpose: &Purpose,
        current: Option<&[u8]>,
        rng: &dyn SecureRandom,
    ) -> Result<Key, StateError> {
        if let Some(next) = self.read_json::<NextKey>(NEXT_KEY)?
            && next.purpose == *purpose
        {
            let key = Key::from_pem(&next.key_pem)?;
            // Answered and saved, and then the process ended before it forgot the next key.
            if current != Some(key.spki().as_slice()) {
                return Ok(key);
            }
        }
        let key = Key::generate(rng)?;
        self.write_json(NEXT_KEY, &NextKey { purpose: purpose.clone(), key_pem: key.to_pem() })?;
        Ok(key)
    }

    /// Forgets a key that the issuer will not certify.
    pub(crate) fn forget_next_key(&self) -> Result<(), StateError> {
        let path = self.path.join(NEXT_KEY);
        remove(&path).map_err(|source| StateError::Io { doing: "remove", path, source })
    }

    /// The CRLs as last written, in PEM; empty when there are none.
    pub(crate) fn load_crls(&self) -> Result<String, StateError> {
        Ok(self.read(CRLS)?.unwrap_or_default())
    }

    pub(crate) fn save_crls(&self, pem: &str) -> Result<(), StateError> {
        self.write(CRLS, pem.as_bytes())
    }

    /// What the feed taught, as last saved.
    pub(crate) fn load_feed(&self) -> Result<Option<feed::Saved>, StateError> {
        let (head, entries) = (self.read(FEED_HEAD)?, self.read(FEED_ENTRIES)?);
        Ok(head.map(|head| feed::Saved { head, entries: entries.unwrap_or_default() }))
    }

    /// First the entries, for good, then the head that counts them.
    pub(crate) fn save_feed(&self, unsaved: &Unsaved) -> Result<(), StateError> {
        match &unsaved.entries {
            UnsavedEntries::None => {}
            UnsavedEntries::Whole(lines) => self.write(FEED_ENTRIES, lines.as_bytes())?,
            UnsavedEntries::More(lines) => {
                let path = self.path.join(FEED_ENTRIES);
                append(&path, lines.as_bytes()).map_err(|source| StateError::Io { doing: "write", path, source })?;
            }
        }
        self.write(FEED_HEAD, unsaved.head.as_bytes())
    }

    fn read_json<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Result<Option<T>, StateError> {
        let Some(text) = self.read(name)?.map(Zeroizing::new) else { return Ok(None) };
        let broken = |error: serde_json::Error| StateError::Content {
            path: self.path.join(name),
            line: error.line(),
            column: error.column(),
        };
        serde_json::from_str(&text).map(Some).map_err(broken)
    }

    fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), StateError> {
        let unwritable = |error: serde_json::Error| StateError::Io {
            doing: "write",
            path: self.path.join(name),
            source: error.into(),
        };
        let text = Zeroizing::new(serde_json::to_vec_pretty(value).map_err(unwritable)?);
        self.write(name, &text)
    }

    fn read(&self, name: &str) -> Result<Option<String>, StateError> {
        let path = self.path.join(name);
        let failed = |doing, source| StateError::Io { doing, path: path.clone(), source };
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|e| failed("open", e))?,
        };
        let mode = file.metadata().map_err(|e| failed("look at", e))?.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(StateError::Readable { path, mode });
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(|e| failed("read", e))?;
        Ok(Some(text))
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<(), StateError> {
        replace(&self.path, name, content).map_err(|source| StateError::Io {
            doing: "write",
            path: self.path.join(name),
            source,
        })
    }
}

/// Where the folder is, when nobody names one: below `base`, by the agent's name, else by the join token, else the only one
/// there. An agent that joined before it was named is in a folder by its token.
pub(crate) fn default_path(
    base: &Path,
    agent: Option<&str>,
    token: Option<&TokenDigest>,
) -> Result<PathBuf, StateError> {
    match (agent, token) {
        (Some(agent), Some(_)) => return Ok(base.join(agent)),
        (Some(agent), None) if base.join(agent).join(IDENTITY).is_file() => return Ok(base.join(agent)),
        (None, Some(token)) => {
            let short = token.as_str().get(..16).unwrap_or_default();
            return Ok(base.join(format!("join-{short}")));
        }
        (_, None) => {}
    }
    let unreadable = |source| StateError::Io { doing: "list", path: base.to_path_buf(), source };
    let entries = match fs::read_dir(base) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(StateError::Nothing(base.to_path_buf())),
        listed => listed.map_err(unreadable)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        let named = |agent: &str| holder(&path).is_some_and(|name| name.as_str() == agent);
        if path.join(IDENTITY).is_file() && agent.is_none_or(named) {
            found.push(path);
        }
    }
    found.sort();
    match found.as_slice() {
        [] => Err(StateError::Nothing(agent.map_or_else(|| base.to_path_buf(), |agent| base.join(agent)))),
        [one] => Ok(one.clone()),
        _ => Err(StateError::Several(found)),
    }
}

/// Whose identity is in a folder; nobody's if it cannot be read.
fn holder(folder: &Path) -> Option<Name> {
    let text = Zeroizing::new(fs::read_to_string(folder.join(IDENTITY)).ok()?);
    let saved: Saved = serde_json::from_str(&text).ok()?;
    let chain = pem::certificates(&saved.chain_pem)?;
    Leaf::read(chain.first()?).ok()?.into_certificate().grant.map(|grant| grant.name)
}

/// The state folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Another process has it.
    #[error(
        "{} is in use by {}: one process has one identity; give this one another folder with CHANCERY_STATE_DIR",
        path.display(),
        holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The process that holds it, if it said so.
        holder: Option<u32>,
    },
    /// Others may read a private key.
    #[error("{} has mode {mode:04o}: others can read it; wanted 0600 (chmod 600, and think about who read it)", path.display())]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file of ours that we cannot read back.
    #[error("{} is no state file of this version (line {line}, column {column}); remove the folder and join anew", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Where reading stopped.
        line: usize,
        /// Where reading stopped.
        column: usize,
    },
    /// No identity is here and no join token was given.
    #[error("no identity in {} and no CHANCERY_JOIN: an operator makes one with chancery agents create NAME --join", .0.display())]
    Nothing(PathBuf),
    /// Several identities are here and none was named.
    #[error("several identities are here: name one with CHANCERY_AGENT or CHANCERY_STATE_DIR ({})", list(.0))]
    Several(Vec<PathBuf>),
    /// Neither `XDG_STATE_HOME` nor `HOME` is set.
    #[error("no place for the state: set CHANCERY_STATE_DIR, XDG_STATE_HOME or HOME")]
    NoHome,
    /// A key that cannot be made or read.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The file system refused.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

    use std::os::unix::fs::PermissionsExt;

    use ring::rand::SystemRandom;

    use super::*;

    /// A fresh folder that goes with the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("chancery-agent-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn token(byte: u8) -> TokenDigest {
        TokenDigest::of(&JoinSecret::from_bytes([byte; 32]))
    }

    fn saved(key: &Key) -> Saved {
        Saved {
            issuer: "https://ca:1".to_owned(),
            joined_by: Some(token(1)),
            key_pem: key.to_pem(),
            chain_pem: "chain".to_owned(),
            bundle_pem: "bundle".to_owned(),
            renew_after: Timestamp::from_unix_millis(7),
            revision: 3,
        }
    }

    #[test]
    fn one_process_at_a_time() {
        let scratch = Scratch::new("lock");
        let first = Folder::open(&scratch.0).unwrap();
        match Folder::open(&scratch.0).unwrap_err() {
            StateError::InUse { holder, .. } => assert_eq!(holder, Some(std::process::id())),
            other => panic!("{other}"),
        }
        drop(first);
        Folder::open(&scratch.0).unwrap();
    }

    #[test]
    fn an_unanswered_key_is_asked_with_again() {
        let scratch = Scratch::new("next-key");
        let rng = SystemRandom::new();
        let purpose = Purpose::Join(token(1));
        let folder = Folder::open(&scratch.0).unwrap();
        let asked = folder.next_key(&purpose, None, &rng).unwrap();
        drop(folder);

        let folder = Folder::open(&scratch.0).unwrap();
        assert_eq!(folder.next_key(&purpose, None, &rng).unwrap().spki(), asked.spki());
        let other = folder.next_key(&Purpose::Join(token(2)), None, &rng).unwrap();
        assert_ne!(other.spki(), asked.spki(), "a key shown for one token is not shown for another");

        folder.save(&saved(&other)).unwrap();
        assert!(!scratch.0.join(NEXT_KEY).exists());
        assert_ne!(folder.next_key(&purpose, Some(&other.spki()), &rng).unwrap().spki(), other.spki());
    }

    #[test]
    fn a_crash_between_saving_and_forgetting_does_not_reuse_the_key() {
        let scratch = Scratch::new("forget");
        let rng = SystemRandom::new();
        let purpose = Purpose::Join(token(1));
        let folder = Folder::open(&scratch.0).unwrap();
        let key = folder.next_key(&purpose, None, &rng).unwrap();
        assert_ne!(folder.next_key(&purpose, Some(&key.spki()), &rng).unwrap().spki(), key.spki());
    }

    #[test]
    fn an_identity_reads_back_and_is_for_its_owner_only() {
        let scratch = Scratch::new("identity");
        let key = Key::generate(&SystemRandom::new()).unwrap();
        let folder = Folder::open(&scratch.0).unwrap();
        assert!(folder.load().unwrap().is_none());
        folder.save(&saved(&key)).unwrap();
        let file = scratch.0.join(IDENTITY);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&scratch.0).unwrap().mode() & 0o777, 0o700);
        let read = folder.load().unwrap().unwrap();
        assert_eq!((read.revision, read.joined_by, &*read.key_pem), (3, Some(token(1)), &*key.to_pem()));

        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(folder.load(), Err(StateError::Readable { mode: 0o640, .. })));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&file, "{").unwrap();
        let error = folder.load().err().unwrap();
        assert!(matches!(error, StateError::Content { line: 1, .. }), "{error}");
    }

    #[test]
    fn a_half_written_file_is_never_read() {
        let scratch = Scratch::new("replace");
        let folder = Folder::open(&scratch.0).unwrap();
        folder.save_crls("old").unwrap();
        // What a crash in the middle leaves behind.
        fs::write(scratch.0.join(".crl.pem.new"), "ha").unwrap();
        assert_eq!(folder.load_crls().unwrap(), "old");
        folder.save_crls("new").unwrap();
        assert_eq!(folder.load_crls().unwrap(), "new");
    }

    #[test]
    fn the_folder_is_found_by_agent_token_or_alone() {
        let scratch = Scratch::new("default");
        let base = &scratch.0;
        assert_eq!(default_path(base, Some("bot"), Some(&token(1))).unwrap(), base.join("bot"));
        let joined = default_path(base, None, Some(&token(1))).unwrap();
        assert_ne!(joined, default_path(base, None, Some(&token(2))).unwrap());
        assert!(matches!(default_path(base, None, None), Err(StateError::Nothing(_))));
        let key = Key::generate(&SystemRandom::new()).unwrap();
        Folder::open(&joined).unwrap().save(&saved(&key)).unwrap();
        assert_eq!(default_path(base, None, None).unwrap(), joined);
        Folder::open(&base.join("bot")).unwrap().save(&saved(&key)).unwrap();
        assert!(matches!(default_path(base, None, None), Err(StateError::Several(both)) if both.len() == 2));
        assert_eq!(default_path(base, Some("bot"), None).unwrap(), base.join("bot"));
    }
}
