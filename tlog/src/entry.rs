//! Entries: a record, the salt that hides it, and the commitment that the log publishes.

use std::fmt;

use crate::hash::{Hash, Sha256, leaf_hash};
use crate::record::{Record, RecordError};

/// What the store keeps for one position of the log. Salt and record may be deleted; the commitment stays.
#[derive(Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "this is what a commitment covers, for good")]
pub struct Entry {
    /// 16 random bytes, drawn for this entry alone: without them nobody can guess a record from its commitment.
    pub salt: [u8; 16],
    /// The canonical bytes of a [`Record`].
    pub record: Vec<u8>,
}

impl Entry {
    /// Seals a record under a salt.
    pub fn new(salt: [u8; 16], record: &Record) -> Self {
        Self { salt, record: record.to_bytes() }
    }

    /// What the log publishes for it: SHA-256(salt ‖ record).
    pub fn commitment(&self, sha256: Sha256) -> Commitment {
        Commitment(sha256.digest(&[&self.salt, &self.record]).0)
    }

    /// Reads the record.
    ///
    /// # Errors
    /// Bytes that no record encodes to.
    pub fn record(&self) -> Result<Record, RecordError> {
        Record::parse(&self.record)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The salt stays out of logs and panics: whoever has it can test guesses at the record.
        f.debug_struct("Entry").field("record", &String::from_utf8_lossy(&self.record)).finish_non_exhaustive()
    }
}

/// What a leaf of the tree holds: 32 bytes that say nothing, and that one entry alone explains.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "32 bytes, for good")]
pub struct Commitment(pub [u8; 32]);

impl Commitment {
    /// The leaf hash, which [`Frontier::append`](crate::Frontier::append) takes: of these bytes as the leaf's data.
    pub fn leaf_hash(&self, sha256: Sha256) -> Hash {
        leaf_hash(sha256, &self.0)
    }
}

impl AsRef<[u8]> for Commitment {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive::SHA256;

    #[test]
    fn commits_to_salt_and_record() {
        let entry = Entry { salt: [1; 16], record: b"{}".to_vec() };
        let commitment = entry.commitment(SHA256);
        assert_eq!(commitment.0, SHA256.digest(&[&[1; 16], b"{}"]).0);
        assert_ne!(commitment, Entry { salt: [2; 16], ..entry.clone() }.commitment(SHA256));
        assert_ne!(commitment, Entry { record: b"{ }".to_vec(), ..entry.clone() }.commitment(SHA256));
        assert_eq!(commitment.leaf_hash(SHA256), SHA256.digest(&[&[0], &commitment.0]));
        assert!(!format!("{entry:?}").contains('1'));
    }
}
