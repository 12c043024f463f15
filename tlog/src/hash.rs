//! The RFC 6962 hash: SHA-256 with a leading byte that keeps leaves and nodes apart.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// SHA-256 over the concatenation of the parts, passed down as a value so that this crate names no cryptography.
///
/// With `ring`: `Sha256(|parts| { let mut c = Context::new(&SHA256); for p in parts { c.update(p) } … })`.
#[derive(Clone, Copy)]
pub struct Sha256(pub fn(&[&[u8]]) -> [u8; 32]);

impl Sha256 {
    /// The digest of the parts, as if they were one slice.
    pub fn digest(self, parts: &[&[u8]]) -> Hash {
        Hash((self.0)(parts))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sha256")
    }
}

/// A SHA-256 value: a leaf hash, the root of a subtree, a digest in a record.
///
/// As text: standard base64 with padding, 44 characters, as checkpoints and proofs write it.
#[derive(Clone, Copy, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// Length in bytes.
    pub const LEN: usize = 32;
}

impl AsRef<[u8]> for Hash {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<Vec<u8>> for Hash {
    type Error = HashError;

    fn try_from(bytes: Vec<u8>) -> Result<Self, HashError> {
        bytes.try_into().map(Self).map_err(|_| HashError)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

impl FromStr for Hash {
    type Err = HashError;

    fn from_str(text: &str) -> Result<Self, HashError> {
        STANDARD.decode(text).map_err(|_| HashError)?.try_into()
    }
}

/// Not 32 bytes, or text that is not the base64 of 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("wanted a hash: 32 bytes in standard base64, 44 characters")]
pub struct HashError;

/// The hash of a leaf.
///
/// RFC 6962 §2.1: `MTH({d(0)}) = SHA-256(0x00 || d(0))`.
pub fn leaf_hash(sha256: Sha256, data: &[u8]) -> Hash {
    sha256.digest(&[&[0x00], data])
}

/// The hash of an inner node.
///
/// RFC 6962 §2.1: `MTH(D[n]) = SHA-256(0x01 || MTH(D[0:k]) || MTH(D[k:n]))`.
pub fn node_hash(sha256: Sha256, left: Hash, right: Hash) -> Hash {
    sha256.digest(&[&[0x01], &left.0, &right.0])
}

/// The root of the tree without leaves.
///
/// RFC 6962 §2.1: "The hash of an empty list is the hash of an empty string: `MTH({}) = SHA-256()`."
pub fn empty_root(sha256: Sha256) -> Hash {
    sha256.digest(&[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive::SHA256;

    #[test]
    fn text_parses_back_and_nothing_else_does() {
        let hash = empty_root(SHA256);
        assert_eq!(hash.to_string(), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        for wrong in
            ["", "47DE", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV="]
        {
            assert_eq!(wrong.parse::<Hash>(), Err(HashError), "{wrong}");
        }
    }

    #[test]
    fn a_leaf_is_never_a_node() {
        let (a, b) = (leaf_hash(SHA256, b"a"), leaf_hash(SHA256, b"b"));
        let joined = [a.0, b.0].concat();
        assert_ne!(node_hash(SHA256, a, b), leaf_hash(SHA256, &joined));
    }
}
