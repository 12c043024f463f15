//! The compact right edge of a growing tree: all that appending needs, a few hundred bytes at any size.

use crate::hash::{Hash, Sha256, empty_root, node_hash};
use crate::proof::Tree;
use crate::tile::{HEIGHT, TileNode};

/// The roots of the perfect subtrees that make up a tree, largest first, and the number of leaves.
///
/// There is one root for each 1 bit of the size. Appending costs one node hash on average, and at most 63.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    roots: Vec<Hash>,
}

impl Frontier {
    /// The tree without leaves.
    pub fn empty() -> Self {
        Self { size: 0, roots: Vec::new() }
    }

    /// Adds a leaf by its [`leaf_hash`](crate::leaf_hash), and returns the nodes of tiles above level 0 that it
    /// completed, lowest first: one for each 256th leaf, one more for each 65,536th, and so on.
    ///
    /// A store persists these next to the leaf, and every tile can be read back without hashing.
    pub fn append(&mut self, sha256: Sha256, leaf: Hash) -> Vec<TileNode> {
        let mut completed = Vec::new();
        let mut root = leaf;
        // The trailing ones of the old size are the subtrees that the new leaf completes.
        for height in 1..=self.size.trailing_ones() {
            let Some(left) = self.roots.pop() else { break };
            root = node_hash(sha256, left, root);
            if height % HEIGHT == 0 {
                completed.push(TileNode { level: (height / HEIGHT) as u8, index: self.size >> height, hash: root });
            }
        }
        self.roots.push(root);
        self.size += 1;
        completed
    }

    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root of the tree: RFC 6962's Merkle Tree Hash.
    pub fn root(&self, sha256: Sha256) -> Hash {
        let mut from_the_right = self.roots.iter().rev().copied();
        match from_the_right.next() {
            Some(last) => from_the_right.fold(last, |right, left| node_hash(sha256, left, right)),
            None => empty_root(sha256),
        }
    }

    /// The size and the root together, as checkpoints and proofs take them.
    pub fn tree(&self, sha256: Sha256) -> Tree {
        Tree { size: self.size, root: self.root(sha256) }
    }

    /// The size as 8 bytes, big-endian, then the roots, 32 bytes each, largest subtree first.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + Hash::LEN * self.roots.len());
        bytes.extend_from_slice(&self.size.to_be_bytes());
        for root in &self.roots {
            bytes.extend_from_slice(&root.0);
        }
        bytes
    }

    /// Reads what [`Frontier::to_bytes`] wrote: no other length, no size above 2^63 − 1.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FrontierError> {
        let (size, hashes) =
            bytes.split_first_chunk::<8>().ok_or(FrontierError::Length { wanted: 8, got: bytes.len() })?;
        let size = u64::from_be_bytes(*size);
        if size > SIZE_MAX {
            return Err(FrontierError::Size(size));
        }
        let wanted = Hash::LEN * size.count_ones() as usize;
        if hashes.len() != wanted {
            return Err(FrontierError::Length { wanted: 8 + wanted, got: bytes.len() });
        }
        let roots = hashes.chunks_exact(Hash::LEN).filter_map(|root| root.try_into().ok().map(Hash)).collect();
        Ok(Self { size, roots })
    }
}

/// Bytes that no frontier writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrontierError {
    /// The length does not follow from the size it states.
    #[error("wanted a frontier of {wanted} bytes, got {got}")]
    Length {
        /// The bytes that the stated size needs.
        wanted: usize,
        /// The bytes given.
        got: usize,
    },
    /// The size does not fit a database's signed integer.
    #[error("wanted a tree size of at most 2^63 - 1, got {0}")]
    Size(u64),
}

/// The largest tree: databases and Go count in signed 64 bits.
pub(crate) const SIZE_MAX: u64 = i64::MAX as u64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::naive::{self, SHA256};

    #[test]
    fn agrees_with_the_naive_tree_at_every_size() {
        let leaves = naive::leaves(600);
        let mut frontier = Frontier::empty();
        assert_eq!(frontier.root(SHA256), naive::root(&[]));
        for (index, leaf) in leaves.iter().enumerate() {
            frontier.append(SHA256, *leaf);
            assert_eq!(frontier.size(), index as u64 + 1);
            assert_eq!(frontier.root(SHA256), naive::root(&leaves[..=index]));
        }
    }

    #[test]
    fn completes_each_tile_node_once() {
        let leaves = naive::leaves(256 * 256 + 300);
        let mut frontier = Frontier::empty();
        let nodes: Vec<TileNode> = leaves.iter().flat_map(|leaf| frontier.append(SHA256, *leaf)).collect();

        let wanted: Vec<TileNode> = leaves
            .chunks_exact(256)
            .enumerate()
            .flat_map(|(index, chunk)| {
                let first = TileNode { level: 1, index: index as u64, hash: naive::root(chunk) };
                let second =
                    (index == 255).then(|| TileNode { level: 2, index: 0, hash: naive::root(&leaves[..65_536]) });
                [Some(first), second].into_iter().flatten()
            })
            .collect();
        assert_eq!(nodes, wanted);
    }

    #[test]
    fn rfc_6962_vectors() {
        // The eight inputs that Certificate Transparency implementations share, and the root at each size.
        let inputs =
            ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut frontier = Frontier::empty();
        for (input, root) in inputs.iter().zip(roots) {
            frontier.append(SHA256, crate::leaf_hash(SHA256, &naive::hex(input)));
            assert_eq!(frontier.root(SHA256).0.to_vec(), naive::hex(root));
        }
    }

    #[test]
    fn strict_about_bytes() {
        let mut frontier = Frontier::empty();
        for leaf in naive::leaves(5) {
            frontier.append(SHA256, leaf);
        }
        let bytes = frontier.to_bytes();
        assert_eq!(bytes.len(), 8 + 2 * 32);
        let longer = [bytes.as_slice(), &[0]].concat();
        assert_eq!(Frontier::from_bytes(&longer), Err(FrontierError::Length { wanted: 72, got: 73 }));
        assert_eq!(Frontier::from_bytes(&bytes[..71]), Err(FrontierError::Length { wanted: 72, got: 71 }));
        assert_eq!(Frontier::from_bytes(&[]), Err(FrontierError::Length { wanted: 8, got: 0 }));
        assert_eq!(Frontier::from_bytes(&u64::MAX.to_be_bytes()), Err(FrontierError::Size(u64::MAX)));
    }

    proptest! {
        #[test]
        fn goes_on_after_the_database(before in 0usize..400, after in 0usize..400) {
            let leaves = naive::leaves(before + after);
            let mut frontier = Frontier::empty();
            leaves[..before].iter().for_each(|leaf| drop(frontier.append(SHA256, *leaf)));
            let mut frontier = Frontier::from_bytes(&frontier.to_bytes()).unwrap();
            leaves[before..].iter().for_each(|leaf| drop(frontier.append(SHA256, *leaf)));
            prop_assert_eq!(frontier.root(SHA256), naive::root(&leaves));
        }

        #[test]
        fn reads_only_what_it_writes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(frontier) = Frontier::from_bytes(&bytes) {
                prop_assert_eq!(frontier.to_bytes(), bytes);
            }
        }
    }
}
