//! No input upsets the log's parsers, and what they take has one spelling.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests panic")]

use proptest::prelude::*;

use chancery_tlog::{Sha256, Tile, Tree, VerifierKey};

#[path = "../../fuzz/bodies/tlog.rs"]
mod bodies;

const SHA256: Sha256 = Sha256(|parts| {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    parts.iter().for_each(|part| context.update(part));
    context.finish().as_ref().try_into().unwrap()
});

fn checkpoint() -> String {
    let key = VerifierKey::ed25519(SHA256, "chancery.example.org/log", [7; 32]).unwrap();
    let tree = Tree { size: 70_000, root: chancery_tlog::Hash([9; 32]) };
    let checkpoint = chancery_tlog::Checkpoint::new("chancery.example.org/log", tree, vec!["epoch 1".into()]).unwrap();
    checkpoint.sign(&key, |_| [5; 64]).unwrap().to_string()
}

/// Some text that is nearly right: a good one with a piece cut out and another put in.
fn near(good: String) -> impl Strategy<Value = String> {
    (0..good.len(), 0..12_usize, "[ -~\\n—]{0,6}").prop_map(move |(at, cut, piece)| {
        let chars: Vec<char> = good.chars().collect();
        let at = at.min(chars.len());
        let rest = (at + cut).min(chars.len());
        chars[..at].iter().collect::<String>() + &piece + &chars[rest..].iter().collect::<String>()
    })
}

proptest! {
    #[test]
    fn notes(any in any::<String>(), near in near(checkpoint())) {
        bodies::checkpoint(&any);
        bodies::checkpoint(&near);
    }

    #[test]
    fn proofs(any in any::<String>(), near in near(format!("c2sp.org/tlog-proof@v1\nindex 3\n\n{}", checkpoint()))) {
        bodies::tlog_proof(&any);
        bodies::tlog_proof(&near);
    }

    #[test]
    fn records(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        bodies::record(&bytes);
    }

    #[test]
    fn tiles(
        near in "tile/(entries|[0-9]{1,2})/(x[0-9]{3}/){0,2}[0-9]{3}(\\.p/[0-9]{1,3})?",
        bytes in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        bodies::tile(&near, &bytes);
        let tile = Tile::holding(0, 0, 2).unwrap().to_string();
        bodies::tile(&tile, &bytes);
    }

    #[test]
    fn frontiers(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        bodies::frontier(&bytes);
    }
}

#[test]
fn the_good_ones_are_good() {
    assert!(checkpoint().parse::<chancery_tlog::Note>().is_ok());
    bodies::checkpoint(&checkpoint());
}
