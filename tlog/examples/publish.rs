//! Writes a small log as the static files that any C2SP tool reads: `publish <folder> [<entries>]`.
//!
//! The folder then holds `vkey`, `checkpoint`, the tiles and entry bundles below `tile/`; and for those who check us an
//! older checkpoint (`checkpoint.old`), the proof between the two (`consistency`) and one proof file for an entry
//! (`entry.tlog-proof`).

#![allow(clippy::indexing_slicing, reason = "an example; its numbers are its own")]

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, io};

use chancery_tlog::{
    Actor, Bundle, Checkpoint, Commitment, Decision, Entry, Facts, Frontier, Hash, ProofPlan, Record, Sha256, Tile,
    TlogProof, Tree, VerifierKey,
};
use ring::digest::{Context, SHA256};
use ring::signature::{Ed25519KeyPair, KeyPair as _};

const ORIGIN: &str = "chancery.example/epoch/1";
const SHA: Sha256 = Sha256(|parts| {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
});

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let folder = arguments.next().ok_or("wanted: publish <folder> [<entries>]")?;
    let size: u64 = arguments.next().map_or(Ok(70_000), |entries| entries.parse())?;
    let folder = Path::new(&folder);

    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).map_err(|_| "seed")?;
    let key = VerifierKey::ed25519(SHA, ORIGIN, pair.public_key().as_ref().try_into()?)?;
    let sign = |message: &[u8]| {
        let mut signature = [0; 64];
        signature.copy_from_slice(pair.sign(message).as_ref());
        signature
    };
    fs::create_dir_all(folder)?;
    fs::write(folder.join("vkey"), format!("{key}\n"))?;

    let mut log = Log::default();
    let old_size = size * 2 / 3;
    (0..old_size).try_for_each(|index| log.append(index))?;
    let old = log.frontier.tree(SHA);
    log.publish(folder, old)?;
    let checkpoint = Checkpoint::new(ORIGIN, old, vec![])?.sign(&key, sign)?;
    fs::write(folder.join("checkpoint.old"), checkpoint.to_string())?;

    (old_size..size).try_for_each(|index| log.append(index))?;
    let new = log.frontier.tree(SHA);
    log.publish(folder, new)?;
    let checkpoint = Checkpoint::new(ORIGIN, new, vec!["epoch 1".into()])?.sign(&key, sign)?;
    fs::write(folder.join("checkpoint"), checkpoint.to_string())?;

    let consistency = ProofPlan::consistency(old.size, new.size)?.prove(SHA, |tile| log.read(tile))?;
    let mut lines = String::new();
    consistency.iter().try_for_each(|hash| writeln!(lines, "{hash}"))?;
    fs::write(folder.join("consistency"), lines)?;

    let index = size / 3;
    let path = ProofPlan::inclusion(index, new.size)?.prove(SHA, |tile| log.read(tile))?;
    let proof = TlogProof { extra: Some(b"anything".to_vec()), index, path, checkpoint };
    fs::write(folder.join("entry.tlog-proof"), proof.to_string())?;
    println!("{size} entries in {}", folder.display());
    Ok(())
}

/// What a store keeps: a commitment an entry, the nodes of tiles that the frontier hands out, and the frontier.
struct Log {
    commitments: Vec<Commitment>,
    levels: [Vec<Hash>; 4],
    frontier: Frontier,
}

impl Default for Log {
    fn default() -> Self {
        Self { commitments: Vec::new(), levels: Default::default(), frontier: Frontier::empty() }
    }
}

impl Log {
    fn append(&mut self, index: u64) -> Result<(), Box<dyn Error>> {
        let record = Record {
            at: chancery_identity::Timestamp::from_unix_seconds(1_795_000_000),
            epoch: 1,
            actor: Actor::Issuer,
            subjects: vec![format!("agent:a{index}")],
            request_id: None,
            decision: Decision::Registry(Facts::from_iter([("operation", "create")])),
        };
        // A real salt is random; here two runs shall write the same files.
        let mut salt = [0; 16];
        salt[..8].copy_from_slice(&index.to_be_bytes());
        let commitment = Entry::new(salt, &record).commitment(SHA);
        let leaf = commitment.leaf_hash(SHA);
        self.commitments.push(commitment);
        self.levels[0].push(leaf);
        for node in self.frontier.append(SHA, leaf) {
            self.levels.get_mut(usize::from(node.level)).ok_or("too many entries for an example")?.push(node.hash);
        }
        Ok(())
    }

    fn read(&self, tile: Tile) -> io::Result<Vec<Hash>> {
        let positions = tile.positions();
        let level = self.levels.get(usize::from(tile.level()));
        let hashes = level.and_then(|level| level.get(positions.start as usize..positions.end as usize));
        Ok(hashes.ok_or(io::ErrorKind::NotFound)?.to_vec())
    }

    /// Writes the tiles and bundles that a tree has.
    fn publish(&self, folder: &Path, tree: Tree) -> Result<(), Box<dyn Error>> {
        for level in 0..=7 {
            for tile in (0..).step_by(256).map_while(|position| Tile::holding(level, position, tree.size)) {
                write(folder, &tile.to_string(), &tile.to_bytes(&self.read(tile)?)?)?;
            }
        }
        for bundle in (0..).step_by(256).map_while(|position| Bundle::holding(position, tree.size)) {
            let positions = bundle.positions();
            let entries = &self.commitments[positions.start as usize..positions.end as usize];
            write(folder, &bundle.to_string(), &bundle.to_bytes(entries)?)?;
        }
        Ok(())
    }
}

fn write(folder: &Path, path: &str, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    let path = folder.join(path);
    fs::create_dir_all(path.parent().ok_or("no folder")?)?;
    fs::write(path, bytes)?;
    Ok(())
}
