//! The log: gapless, recomputable, readable tile by tile.

use std::collections::BTreeSet;
use std::time::Duration;

use chancery::clock::Clock as _;
use chancery::store::{Deny, NewEpoch, SHA256};
use chancery_tlog::{Action, Bundle, Facts, Frontier, LastHead, Tile};

use crate::world::{Key, Kind, World, by};

pub fn deny() -> Deny {
    Deny {
        cause: by("ana"),
        subjects: vec!["agent:invoice-bot".into()],
        facts: Facts::from_iter([("code", "access-missing")]),
    }
}

async fn fill(world: &World, entries: u64) {
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..entries {
        let store = world.store.clone();
        waiting.spawn(async move { store.commit(deny()).await.unwrap().log_index() });
    }
    let positions: BTreeSet<u64> = waiting.join_all().await.into_iter().collect();
    assert_eq!(positions, (0..entries).collect());
}

conformance! {
    async fn the_tree_recomputes_and_tiles_hold_it(world) {
        const ENTRIES: u64 = 700;
        fill(&world, ENTRIES).await;
        world.restart().await;
        let entries = world.store.log_from(0, 1000).await.unwrap();
        assert_eq!(entries.len() as u64, ENTRIES);
        let mut frontier = Frontier::empty();
        let mut nodes = Vec::new();
        for (position, entry) in (0..).zip(&entries) {
            assert_eq!(entry.position, position);
            let inner = entry.entry.as_ref().unwrap();
            assert_eq!(inner.commitment(SHA256), entry.commitment);
            assert_eq!(inner.record().unwrap().decision.action(), Action::Deny);
            nodes.extend(frontier.append(SHA256, entry.commitment.leaf_hash(SHA256)));
        }
        let salts: BTreeSet<_> = entries.iter().map(|entry| entry.entry.as_ref().unwrap().salt).collect();
        assert_eq!(salts.len() as u64, ENTRIES);

        let leaves = world.store.tile(Tile::holding(0, 300, ENTRIES).unwrap()).await.unwrap();
        assert_eq!(leaves.len(), 256);
        assert_eq!(leaves[0], entries[256].commitment.leaf_hash(SHA256));
        let upper = world.store.tile(Tile::holding(1, 0, ENTRIES).unwrap()).await.unwrap();
        assert_eq!(upper, nodes.iter().map(|node| node.hash).collect::<Vec<_>>());
        let bundle = Bundle::holding(699, ENTRIES).unwrap();
        let commitments = world.store.bundle(bundle).await.unwrap();
        assert_eq!(commitments.len(), 700 - 512);
        assert_eq!(commitments[0], entries[512].commitment);
        assert_eq!(world.store.tree().await.unwrap(), frontier.tree(SHA256));
    }

    async fn a_log_that_is_over_is_read_as_it_was(world) {
        const ENTRIES: u64 = 700;
        fill(&world, ENTRIES).await;
        let tree = world.store.tree().await.unwrap();
        let tiles = [Tile::holding(0, 300, ENTRIES).unwrap(), Tile::holding(0, 699, ENTRIES).unwrap(), Tile::holding(1, 0, ENTRIES).unwrap()];
        let bundle = Bundle::holding(699, ENTRIES).unwrap();
        let mut before = Vec::new();
        for tile in tiles {
            before.push(world.store.tile(tile).await.unwrap());
        }
        let entries = world.store.bundle(bundle).await.unwrap();
        let kept = LastHead { epoch: 1, n: 0, root: tree.root, size: tree.size };
        world.store.commit(NewEpoch { cause: by("ana"), kept, import: Vec::new() }).await.unwrap();
        world.store.commit(deny()).await.unwrap();

        for (tile, before) in tiles.into_iter().zip(before) {
            // Twice: what was computed is kept.
            assert_eq!(world.store.past_tile(1, tile).await.unwrap().as_ref(), Some(&before), "{tile}");
            assert_eq!(world.store.past_tile(1, tile).await.unwrap(), Some(before), "{tile}");
        }
        assert_eq!(world.store.past_bundle(1, bundle).await.unwrap(), Some(entries));
        // Nothing beyond its end, and nothing of an epoch that was not.
        let beyond = Tile::holding(0, ENTRIES, ENTRIES + 1).unwrap();
        assert_eq!(world.store.past_tile(1, beyond).await.unwrap(), None);
        assert_eq!(world.store.past_tile(1, Tile::holding(1, 2, 1 << 10).unwrap()).await.unwrap(), None);
        assert_eq!(world.store.past_tile(7, tiles[0]).await.unwrap(), None);
        assert_eq!(world.store.past_bundle(7, bundle).await.unwrap(), None);
    }

    async fn the_newest_come_first_and_by_action(world) {
        let agent = world.agent("invoice-bot").await;
        world.issued(&agent, &Key::new()).await;
        world.store.commit(deny()).await.unwrap();
        let positions = async |before, action, limit| {
            world.store.log_before(before, action, limit).await.unwrap().into_iter().map(|entry| entry.position).collect::<Vec<_>>()
        };
        assert_eq!(positions(None, None, 2).await, [2, 1]);
        assert_eq!(positions(Some(1), None, 2).await, [0]);
        assert_eq!(positions(None, Some(Action::Issue), 2).await, [1]);
        assert_eq!(positions(None, Some(Action::Crl), 2).await, [0_u64; 0]);
    }

    async fn times_never_fall(world) {
        world.store.commit(deny()).await.unwrap();
        let before = world.clock.now();
        world.clock.set_back(Duration::from_secs(60));
        let committed = world.store.commit(deny()).await.unwrap();
        assert_eq!(committed.at(), before);
        world.restart().await;
        assert_eq!(world.store.commit(deny()).await.unwrap().at(), before);
    }

    async fn a_deleted_record_leaves_its_place(world) {
        fill(&world, 3).await;
        world.database.tamper("UPDATE log_entry SET salt = NULL, record = NULL WHERE position = 1").await;
        let entries = world.store.log_from(0, 10).await.unwrap();
        assert_eq!(entries.iter().map(|entry| entry.entry.is_some()).collect::<Vec<_>>(), [true, false, true]);
        assert_eq!(world.store.bundle(Bundle::holding(0, 3).unwrap()).await.unwrap().len(), 3);
    }
}
