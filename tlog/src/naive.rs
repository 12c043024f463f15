//! The tree as RFC 6962 defines it, by recursion over all leaves: the oracle of the tests.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests only")]

use ring::digest::{Context, SHA256 as RING_SHA256};

use crate::hash::{Hash, Sha256, leaf_hash, node_hash};

pub(crate) const SHA256: Sha256 = Sha256(|parts| {
    let mut context = Context::new(&RING_SHA256);
    parts.iter().for_each(|part| context.update(part));
    context.finish().as_ref().try_into().unwrap()
});

/// The hashes of `count` different leaves.
pub(crate) fn leaves(count: usize) -> Vec<Hash> {
    (0..count).map(|index| leaf_hash(SHA256, &index.to_be_bytes())).collect()
}

/// MTH(D\[n\]).
pub(crate) fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => SHA256.digest(&[]),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node_hash(SHA256, root(left), root(right))
        }
    }
}

/// PATH(m, D\[n\]).
pub(crate) fn path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() <= 1 {
        return Vec::new();
    }
    let k = split(leaves.len());
    let (left, right) = leaves.split_at(k);
    let (mut path, sibling) = if index < k { (path(index, left), right) } else { (path(index - k, right), left) };
    path.push(root(sibling));
    path
}

/// PROOF(m, D\[n\]).
pub(crate) fn consistency(old: usize, leaves: &[Hash]) -> Vec<Hash> {
    subproof(old, leaves, true)
}

pub(crate) fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

fn subproof(old: usize, leaves: &[Hash], complete: bool) -> Vec<Hash> {
    if old == leaves.len() {
        return if complete { Vec::new() } else { vec![root(leaves)] };
    }
    let k = split(leaves.len());
    let (left, right) = leaves.split_at(k);
    let (mut proof, other) =
        if old <= k { (subproof(old, left, complete), right) } else { (subproof(old - k, right, false), left) };
    proof.push(root(other));
    proof
}

/// The largest power of two below `count`.
fn split(count: usize) -> usize {
    count.next_power_of_two() / 2
}
