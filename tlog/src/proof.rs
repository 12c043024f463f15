//! Inclusion and consistency proofs, RFC 6962 §2.1.1 and §2.1.2: made from stored tiles, checked without them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::frontier::SIZE_MAX;
use crate::hash::{Hash, Sha256, empty_root, node_hash};
use crate::tile::{HEIGHT, Tile};

/// A tree at one moment: how many leaves and what they hash to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tree {
    /// The number of leaves.
    pub size: u64,
    /// The Merkle Tree Hash of the leaves.
    pub root: Hash,
}

/// What it takes to make a proof: first the tiles to read, then the hashes computed from them.
///
/// Two steps, so that the tiles may come from anywhere, awaited or not:
///
/// ```
/// # use chancery_tlog::{Hash, ProofPlan, Sha256, Tile};
/// # fn prove(sha256: Sha256, read: impl Fn(Tile) -> Option<Vec<Hash>>) -> Option<Vec<Hash>> {
/// let plan = ProofPlan::inclusion(6, 1000).ok()?;
/// assert_eq!(plan.tiles().len(), 3); // the leaf's tile, the last tile, the tile above both
/// plan.prove(sha256, |tile| read(tile).ok_or("no such tile")).ok()
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ProofPlan {
    /// The leaves under each hash of the proof, in the proof's order.
    spans: Vec<Range<u64>>,
    size: u64,
}

impl ProofPlan {
    /// That the leaf `index` is in the tree of `size` leaves: PATH(index, D\[size\]), the leaf's sibling first.
    pub fn inclusion(index: u64, size: u64) -> Result<Self, ProofError> {
        expect_size(size)?;
        if index >= size {
            return Err(ProofError::Index { index, size });
        }
        let mut spans = Vec::new();
        let (mut start, mut end) = (0, size);
        while end - start > 1 {
            let middle = start + split(end - start);
            if index < middle {
                spans.push(middle..end);
                end = middle;
            } else {
                spans.push(start..middle);
                start = middle;
            }
        }
        spans.reverse();
        Ok(Self { spans, size })
    }

    /// That the tree of `size` leaves begins with the tree of `old` leaves: PROOF(old, D\[size\]).
    ///
    /// Empty from the empty tree, and from a tree to itself.
    pub fn consistency(old: u64, size: u64) -> Result<Self, ProofError> {
        expect_size(size)?;
        if old > size {
            return Err(ProofError::Shrinks { old, size });
        }
        let mut spans = Vec::new();
        let (mut start, mut end) = (0, size);
        while old > 0 && old != end {
            let middle = start + split(end - start);
            if old <= middle {
                spans.push(middle..end);
                end = middle;
            } else {
                spans.push(start..middle);
                start = middle;
            }
        }
        // RFC 6962 §2.1.2: the subtree that ends with the old tree is sent unless the verifier knows it as the old root.
        if start > 0 {
            spans.push(start..end);
        }
        spans.reverse();
        Ok(Self { spans, size })
    }

    /// The tiles that [`ProofPlan::prove`] will ask for, each as wide as it is in the tree of the plan.
    pub fn tiles(&self) -> BTreeSet<Tile> {
        self.spans.iter().flat_map(|span| perfect(span.clone())).filter_map(|subtree| subtree.tile(self.size)).collect()
    }

    /// The proof. `read` is called once for each of [`ProofPlan::tiles`] and returns its hashes.
    pub fn prove<E>(
        &self,
        sha256: Sha256,
        mut read: impl FnMut(Tile) -> Result<Vec<Hash>, E>,
    ) -> Result<Vec<Hash>, ProveError<E>> {
        let mut tiles = BTreeMap::new();
        for tile in self.tiles() {
            let hashes = read(tile).map_err(|source| ProveError::Read { tile, source })?;
            if hashes.len() != usize::from(tile.width()) {
                return Err(ProveError::Width { tile, got: hashes.len() });
            }
            tiles.insert((tile.level(), tile.index()), hashes);
        }
        self.spans.iter().map(|span| root_of(sha256, span.clone(), &tiles).ok_or(ProveError::Size(self.size))).collect()
    }
}

/// The root of the first `size` leaves, computed from tiles.
///
/// `read` is called once for each tile of the right edge, each as wide as it is in that tree.
pub fn root_from_tiles<E>(
    sha256: Sha256,
    size: u64,
    read: impl FnMut(Tile) -> Result<Vec<Hash>, E>,
) -> Result<Hash, ProveError<E>> {
    if size > SIZE_MAX {
        return Err(ProveError::Size(size));
    }
    if size == 0 {
        return Ok(empty_root(sha256));
    }
    let whole = ProofPlan { spans: vec![Range { start: 0, end: size }], size };
    whole.prove(sha256, read)?.into_iter().next().ok_or(ProveError::Size(size))
}

/// Checks that a leaf is in a tree at an index.
pub fn verify_inclusion(sha256: Sha256, leaf: Hash, index: u64, tree: Tree, path: &[Hash]) -> Result<(), ProofError> {
    if index >= tree.size {
        return Err(ProofError::Index { index, size: tree.size });
    }
    let (mut node, mut last) = (index, tree.size - 1);
    let mut root = leaf;
    for sibling in path {
        // RFC 9162 §2.1.3.2: "If sn is 0, then stop the iteration and fail the proof verification."
        if last == 0 {
            return Err(ProofError::Length);
        }
        if node & 1 == 1 || node == last {
            root = node_hash(sha256, *sibling, root);
            skip_to_right_child(&mut node, &mut last);
        } else {
            root = node_hash(sha256, root, *sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(ProofError::Length);
    }
    if root == tree.root { Ok(()) } else { Err(ProofError::Root) }
}

/// Checks that a tree only appended to an older one.
///
/// From the empty tree the proof is empty, and the old root must be that of the empty tree.
pub fn verify_consistency(sha256: Sha256, old: Tree, new: Tree, path: &[Hash]) -> Result<(), ProofError> {
    if old.size > new.size {
        return Err(ProofError::Shrinks { old: old.size, size: new.size });
    }
    if old.size == 0 || old.size == new.size {
        let wanted = if old.size == 0 { empty_root(sha256) } else { new.root };
        return match (path.is_empty(), old.root == wanted) {
            (true, true) => Ok(()),
            (true, false) => Err(ProofError::Root),
            (false, _) => Err(ProofError::Length),
        };
    }
    // RFC 9162 §2.1.4.2: "If first is an exact power of 2, then prepend first_hash to the consistency_path array."
    let known = old.size.is_power_of_two().then_some(&old.root);
    let mut path = known.into_iter().chain(path);
    let (mut node, mut last) = (old.size - 1, new.size - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let seed = *path.next().ok_or(ProofError::Length)?;
    let (mut old_root, mut new_root) = (seed, seed);
    for sibling in path {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if node & 1 == 1 || node == last {
            old_root = node_hash(sha256, *sibling, old_root);
            new_root = node_hash(sha256, *sibling, new_root);
            skip_to_right_child(&mut node, &mut last);
        } else {
            new_root = node_hash(sha256, new_root, *sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(ProofError::Length);
    }
    if old_root == old.root && new_root == new.root { Ok(()) } else { Err(ProofError::Root) }
}

/// Why a proof does not hold, or cannot exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The tree has no such leaf.
    #[error("wanted an index below the tree's size {size}, got {index}")]
    Index {
        /// The leaf asked about.
        index: u64,
        /// The leaves there are.
        size: u64,
    },
    /// The old tree is the larger one: a log never shrinks.
    #[error("wanted an old tree of at most {size} leaves, got {old}")]
    Shrinks {
        /// The size of the old tree.
        old: u64,
        /// The size of the new tree.
        size: u64,
    },
    /// The tree is larger than any can be.
    #[error("wanted a tree of at most 2^63 - 1 leaves, got {0}")]
    Size(u64),
    /// The proof has more or fewer hashes than the sizes need.
    #[error("the proof has more or fewer hashes than the tree sizes need")]
    Length,
    /// The hashes lead to another root: the proof, the leaf or the tree was changed.
    #[error("the proof leads to another root hash than the tree's")]
    Root,
}

/// Why a proof could not be made from tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProveError<E> {
    /// A tile could not be read.
    #[error("could not read {tile}")]
    Read {
        /// The tile.
        tile: Tile,
        /// What its reader said.
        source: E,
    },
    /// A tile came with another number of hashes than it has in the tree.
    #[error("wanted {} hashes in {tile}, got {got}", tile.width())]
    Width {
        /// The tile.
        tile: Tile,
        /// The hashes that came.
        got: usize,
    },
    /// The tree is larger than any can be.
    #[error("wanted a tree of at most 2^63 - 1 leaves, got {0}")]
    Size(u64),
}

/// A subtree whose leaves are a power of two, aligned to it.
#[derive(Clone, Copy)]
struct Subtree {
    height: u32,
    index: u64,
}

impl Subtree {
    /// The stored hashes that lie lowest in it and highest in their tile: at most 128, all in one tile.
    fn stored(self) -> (u8, Range<u64>) {
        let within_tile = self.height % HEIGHT;
        ((self.height / HEIGHT) as u8, self.index << within_tile..(self.index + 1) << within_tile)
    }

    fn tile(self, size: u64) -> Option<Tile> {
        let (level, positions) = self.stored();
        Tile::holding(level, positions.start, size)
    }

    fn root(self, sha256: Sha256, tiles: &BTreeMap<(u8, u64), Vec<Hash>>) -> Option<Hash> {
        let (level, positions) = self.stored();
        let in_tile = (positions.start % 256) as usize..;
        let count = (positions.end - positions.start) as usize;
        let mut hashes = tiles.get(&(level, positions.start / 256))?.get(in_tile)?.get(..count)?.to_vec();
        while hashes.len() > 1 {
            hashes = hashes
                .chunks_exact(2)
                .filter_map(|pair| Some(node_hash(sha256, *pair.first()?, *pair.last()?)))
                .collect();
        }
        hashes.first().copied()
    }
}

/// The perfect subtrees that make up a span which starts where RFC 6962 splits, largest first.
fn perfect(span: Range<u64>) -> impl DoubleEndedIterator<Item = Subtree> {
    let len = span.end - span.start;
    (0..u64::BITS).rev().filter(move |height| len >> height & 1 == 1).map(move |height| {
        let larger = len >> height >> 1 << 1 << height;
        Subtree { height, index: (span.start + larger) >> height }
    })
}

fn root_of(sha256: Sha256, span: Range<u64>, tiles: &BTreeMap<(u8, u64), Vec<Hash>>) -> Option<Hash> {
    let mut roots = perfect(span).rev().map(|subtree| subtree.root(sha256, tiles));
    let last = roots.next()??;
    roots.try_fold(last, |right, left| Some(node_hash(sha256, left?, right)))
}

/// Climbs to where the node is a right child: up to there it had no sibling, being the last of its level.
fn skip_to_right_child(node: &mut u64, last: &mut u64) {
    while *node & 1 == 0 && *node != 0 {
        *node >>= 1;
        *last >>= 1;
    }
}

fn expect_size(size: u64) -> Result<(), ProofError> {
    if size <= SIZE_MAX { Ok(()) } else { Err(ProofError::Size(size)) }
}

/// RFC 6962 §2.1: "let k be the largest power of two smaller than n", for n above 1.
fn split(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;
    use crate::frontier::Frontier;
    use crate::naive::{self, SHA256};

    /// What a store keeps: leaf hashes, and the tile nodes that the frontier handed out.
    struct Stored(Vec<Vec<Hash>>);

    impl Stored {
        fn new(leaves: &[Hash]) -> Self {
            let mut levels = vec![leaves.to_vec()];
            let mut frontier = Frontier::empty();
            for node in leaves.iter().flat_map(|leaf| frontier.append(SHA256, *leaf)) {
                levels.resize_with(levels.len().max(usize::from(node.level) + 1), Vec::new);
                let level = &mut levels[usize::from(node.level)];
                assert_eq!(level.len() as u64, node.index);
                level.push(node.hash);
            }
            Self(levels)
        }

        fn read(&self, tile: Tile) -> Result<Vec<Hash>, Infallible> {
            let positions = tile.positions();
            Ok(self.0[usize::from(tile.level())][positions.start as usize..positions.end as usize].to_vec())
        }

        fn inclusion(&self, index: usize, size: usize) -> Vec<Hash> {
            let plan = ProofPlan::inclusion(index as u64, size as u64).unwrap();
            plan.prove(SHA256, |tile| self.read(tile)).unwrap()
        }

        fn consistency(&self, old: usize, size: usize) -> Vec<Hash> {
            let plan = ProofPlan::consistency(old as u64, size as u64).unwrap();
            plan.prove(SHA256, |tile| self.read(tile)).unwrap()
        }
    }

    fn tree(leaves: &[Hash]) -> Tree {
        Tree { size: leaves.len() as u64, root: naive::root(leaves) }
    }

    #[test]
    fn every_proof_of_small_trees() {
        let leaves = naive::leaves(40);
        let stored = Stored::new(&leaves);
        for size in 0..=leaves.len() {
            let new = tree(&leaves[..size]);
            assert_eq!(root_from_tiles(SHA256, new.size, |tile| stored.read(tile)), Ok(new.root));
            for index in 0..size {
                let path = stored.inclusion(index, size);
                assert_eq!(path, naive::path(index, &leaves[..size]));
                assert_eq!(verify_inclusion(SHA256, leaves[index], index as u64, new, &path), Ok(()));
            }
            for old in 0..=size {
                let path = stored.consistency(old, size);
                if old > 0 {
                    assert_eq!(path, naive::consistency(old, &leaves[..size]));
                }
                assert_eq!(verify_consistency(SHA256, tree(&leaves[..old]), new, &path), Ok(()));
            }
        }
    }

    #[test]
    fn three_levels_of_tiles() {
        let leaves = naive::leaves(70_000);
        let stored = Stored::new(&leaves);
        for size in [65_535, 65_536, 65_537, 70_000] {
            let new = tree(&leaves[..size]);
            assert_eq!(root_from_tiles(SHA256, size as u64, |tile| stored.read(tile)), Ok(new.root));
            for index in [0, 255, 256, 40_000, 65_534, size - 1] {
                let path = stored.inclusion(index, size);
                assert_eq!(verify_inclusion(SHA256, leaves[index], index as u64, new, &path), Ok(()));
            }
            let path = stored.consistency(300, size);
            assert_eq!(verify_consistency(SHA256, tree(&leaves[..300]), new, &path), Ok(()));
        }
        assert!(ProofPlan::inclusion(40_000, 70_000).unwrap().tiles().len() <= 6);
    }

    #[test]
    fn what_cannot_be_proved() {
        assert_eq!(ProofPlan::inclusion(5, 5).unwrap_err(), ProofError::Index { index: 5, size: 5 });
        assert_eq!(ProofPlan::inclusion(0, 0).unwrap_err(), ProofError::Index { index: 0, size: 0 });
        assert_eq!(ProofPlan::consistency(6, 5).unwrap_err(), ProofError::Shrinks { old: 6, size: 5 });
        assert_eq!(ProofPlan::inclusion(0, u64::MAX).unwrap_err(), ProofError::Size(u64::MAX));
        assert_eq!(ProofPlan::consistency(1, u64::MAX).unwrap_err(), ProofError::Size(u64::MAX));
        let read = |_| Err::<Vec<Hash>, _>("gone");
        assert_eq!(root_from_tiles(SHA256, u64::MAX, read), Err(ProveError::Size(u64::MAX)));
        let tile = Tile::holding(0, 0, 2).unwrap();
        assert_eq!(root_from_tiles(SHA256, 2, read), Err(ProveError::Read { tile, source: "gone" }));
        let short = |_| Ok::<_, Infallible>(naive::leaves(1));
        assert_eq!(root_from_tiles(SHA256, 2, short), Err(ProveError::Width { tile, got: 1 }));
    }

    #[test]
    fn the_empty_tree_has_its_own_root() {
        let new = tree(&naive::leaves(3));
        let wrong = Tree { size: 0, root: new.root };
        assert_eq!(verify_consistency(SHA256, wrong, new, &[]), Err(ProofError::Root));
        assert_eq!(verify_consistency(SHA256, tree(&[]), new, &[new.root]), Err(ProofError::Length));
        assert_eq!(verify_consistency(SHA256, new, new, &[new.root]), Err(ProofError::Length));
        let fork = Tree { size: 3, root: tree(&[]).root };
        assert_eq!(verify_consistency(SHA256, fork, new, &[]), Err(ProofError::Root));
        assert_eq!(verify_consistency(SHA256, new, tree(&[]), &[]), Err(ProofError::Shrinks { old: 3, size: 0 }));
    }

    /// A change to a proof or to what it is checked against.
    #[derive(Clone, Debug)]
    enum Tamper {
        Flip(prop::sample::Index, u8),
        Drop(prop::sample::Index),
        Repeat(prop::sample::Index),
        Swap(prop::sample::Index),
        Append,
    }

    impl Tamper {
        fn apply(&self, path: &[Hash]) -> Vec<Hash> {
            let mut path = path.to_vec();
            let len = path.len();
            match self {
                Self::Append => path.push(Hash([7; 32])),
                _ if len == 0 => path.push(Hash([0; 32])),
                Self::Flip(at, bit) => path[at.index(len)].0[usize::from(bit / 8)] ^= 1 << (bit % 8),
                Self::Drop(at) => drop(path.remove(at.index(len))),
                Self::Repeat(at) => path.insert(at.index(len), path[at.index(len)]),
                Self::Swap(at) if len > 1 => path.swap(at.index(len - 1), at.index(len - 1) + 1),
                Self::Swap(_) => path.clear(),
            }
            path
        }
    }

    fn tamper() -> impl Strategy<Value = Tamper> {
        prop_oneof![
            (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, bit)| Tamper::Flip(at, bit)),
            any::<prop::sample::Index>().prop_map(Tamper::Drop),
            any::<prop::sample::Index>().prop_map(Tamper::Repeat),
            any::<prop::sample::Index>().prop_map(Tamper::Swap),
            Just(Tamper::Append),
        ]
    }

    proptest! {
        #[test]
        fn proofs_are_those_of_the_naive_tree(size in 1usize..1500, index: prop::sample::Index, old: prop::sample::Index) {
            let leaves = naive::leaves(size);
            let stored = Stored::new(&leaves);
            let new = tree(&leaves);
            let index = index.index(size);
            let path = stored.inclusion(index, size);
            prop_assert_eq!(&path, &naive::path(index, &leaves));
            prop_assert_eq!(verify_inclusion(SHA256, leaves[index], index as u64, new, &path), Ok(()));

            let old = old.index(size) + 1;
            let path = stored.consistency(old, size);
            prop_assert_eq!(&path, &naive::consistency(old, &leaves));
            prop_assert_eq!(verify_consistency(SHA256, tree(&leaves[..old]), new, &path), Ok(()));
        }

        #[test]
        fn a_changed_proof_does_not_hold(size in 1usize..300, index: prop::sample::Index, old: prop::sample::Index, tamper in tamper()) {
            let leaves = naive::leaves(size);
            let stored = Stored::new(&leaves);
            let new = tree(&leaves);
            let index = index.index(size);
            let path = tamper.apply(&stored.inclusion(index, size));
            prop_assert!(verify_inclusion(SHA256, leaves[index], index as u64, new, &path).is_err());

            let old = old.index(size) + 1;
            let path = tamper.apply(&stored.consistency(old, size));
            prop_assert!(verify_consistency(SHA256, tree(&leaves[..old]), new, &path).is_err());
        }

        #[test]
        fn a_proof_holds_for_its_own_leaf_place_and_tree(size in 2usize..300, index: prop::sample::Index, other: prop::sample::Index) {
            let leaves = naive::leaves(size);
            let stored = Stored::new(&leaves);
            let new = tree(&leaves);
            let (index, other) = (index.index(size), other.index(size));
            prop_assume!(index != other);
            let path = stored.inclusion(index, size);
            prop_assert!(verify_inclusion(SHA256, leaves[other], index as u64, new, &path).is_err());
            prop_assert!(verify_inclusion(SHA256, leaves[index], other as u64, new, &path).is_err());
            let smaller = tree(&leaves[..size - 1]);
            prop_assert!(verify_inclusion(SHA256, leaves[index], index as u64, smaller, &path).is_err());

            let fork = [&leaves[..other], &naive::leaves(size + 1)[size..], &leaves[other + 1..]].concat();
            let consistency = stored.consistency(other + 1, size);
            let forked = tree(&fork[..other + 1]);
            prop_assert!(verify_consistency(SHA256, forked, new, &consistency).is_err());
        }

        #[test]
        fn verifying_never_panics(
            index: u64, old: u64, size: u64, path in prop::collection::vec(any::<[u8; 32]>().prop_map(Hash), 0..70),
        ) {
            let new = Tree { size, root: Hash([1; 32]) };
            let _ = verify_inclusion(SHA256, Hash([0; 32]), index, new, &path);
            let _ = verify_consistency(SHA256, Tree { size: old, root: Hash([2; 32]) }, new, &path);
            let _ = ProofPlan::inclusion(index, size).map(|plan| plan.tiles());
            let _ = ProofPlan::consistency(old, size).map(|plan| plan.tiles());
        }
    }
}
