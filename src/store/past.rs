//! The logs of earlier epochs, as anybody reads them. They are over: what is computed of one stays true.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use chancery_tlog::{Bundle, Commitment, Frontier, Hash, Tile};
use tokio::sync::OnceCell;

use super::db::{Db, DbError};
use super::log::SHA256;

/// Commitments read at once.
const PAGE: u64 = 1 << 16;

/// What was computed of them.
#[derive(Default)]
pub(super) struct PastLogs {
    /// By epoch. A log of ten million entries takes some seconds, once.
    above: Mutex<HashMap<u64, Arc<OnceCell<Above>>>>,
}

/// The hashes of a log's tiles above the lowest level: 32 bytes for each 256 entries.
struct Above {
    levels: Vec<Vec<Hash>>,
}

impl PastLogs {
    /// The hashes of a tile; `None` where the log has no such tile.
    pub(super) async fn tile(&self, db: &Db, epoch: u64, tile: Tile) -> Result<Option<Vec<Hash>>, DbError> {
        if !tile.within(size(db, epoch).await?) {
            return Ok(None);
        }
        let Some(level) = usize::from(tile.level()).checked_sub(1) else {
            let commitments = commitments(db, epoch, tile.positions()).await?;
            return Ok(Some(commitments.iter().map(|commitment| commitment.leaf_hash(SHA256)).collect()));
        };
        let cell = self.above.lock().unwrap_or_else(PoisonError::into_inner).entry(epoch).or_default().clone();
        if !cell.initialized() {
            // In a task of its own: who asked may go, and whoever asks next finds it further on.
            let (cell, db) = (cell.clone(), db.clone());
            let computing = async move { cell.get_or_try_init(|| Above::compute(&db, epoch)).await.map(drop) };
            tokio::spawn(computing).await.map_err(|_| sqlx::Error::WorkerCrashed)??;
        }
        let Range { start, end } = tile.positions();
        let index = |at| usize::try_from(at).unwrap_or(usize::MAX);
        let hashes = cell.get().and_then(|above| above.levels.get(level));
        Ok(hashes.and_then(|hashes| hashes.get(index(start)..index(end))).map(<[_]>::to_vec))
    }
}

impl Above {
    async fn compute(db: &Db, epoch: u64) -> Result<Self, DbError> {
        let size = size(db, epoch).await?;
        let (mut frontier, mut levels) = (Frontier::empty(), Vec::<Vec<Hash>>::new());
        while frontier.size() < size {
            let from = frontier.size();
            for commitment in commitments(db, epoch, from..size.min(from + PAGE)).await? {
                for node in frontier.append(SHA256, commitment.leaf_hash(SHA256)) {
                    let level = usize::from(node.level).saturating_sub(1);
                    if levels.len() <= level {
                        levels.resize_with(level + 1, Vec::new);
                    }
                    // Nodes of a level come in order.
                    if let Some(hashes) = levels.get_mut(level) {
                        hashes.push(node.hash);
                    }
                }
            }
            if frontier.size() == from {
                return Err(DbError::Gap { after: from });
            }
        }
        Ok(Self { levels })
    }
}

/// The entries of a bundle; `None` where the log has no such bundle.
pub(super) async fn bundle(db: &Db, epoch: u64, bundle: Bundle) -> Result<Option<Vec<Commitment>>, DbError> {
    if !bundle.within(size(db, epoch).await?) {
        return Ok(None);
    }
    commitments(db, epoch, bundle.positions()).await.map(Some)
}

/// How many of its entries are here: those that a restored backup had.
async fn size(db: &Db, epoch: u64) -> Result<u64, DbError> {
    let sql = "SELECT position FROM past_log_entry WHERE epoch = $1 ORDER BY position DESC LIMIT 1";
    db.row(sql, vec![epoch.into()]).await?.map_or(Ok(0), |row| Ok(row.read::<u64>(0)? + 1))
}

async fn commitments(db: &Db, epoch: u64, positions: Range<u64>) -> Result<Vec<Commitment>, DbError> {
    let sql = "SELECT commitment FROM past_log_entry WHERE epoch = $1 AND position >= $2 AND position < $3 \
               ORDER BY position";
    let values = vec![epoch.into(), positions.start.into(), positions.end.into()];
    db.rows(sql, values).await?.iter().map(|row| row.read(0).map(Commitment)).collect()
}
