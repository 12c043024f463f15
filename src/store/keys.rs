//! Which lineage a key could belong to, in memory: an index in the database moves two pages with each renewal.

use std::collections::{HashMap, HashSet};

use chancery_identity::{Lineage, Timestamp};

use super::db::{Db, DbError, Transaction};
use super::rows::SelectIn;

/// The keys that were certified and whose certificates last, each with its lineage; true as long as nobody else writes.
///
/// It may name a lineage that went on to another key, or ended: whether one holds a key is for its row to say.
#[derive(Debug, Default)]
pub(super) struct Keys {
    held: HashMap<Half, (Lineage, Timestamp)>,
    /// Those that are over go once there may be as many as others.
    swept_at: usize,
}

/// Half of a key's SHA-256: nobody makes two keys that share it, and a million take half the memory.
type Half = [u8; 16];

impl Keys {
    /// Those of the lineages that live.
    pub(super) async fn load(db: &Db, now: Timestamp) -> Result<Self, DbError> {
        let mut keys = Self::default();
        let mut after = Lineage::from_bytes([0; 16]);
        loop {
            let sql = "SELECT id, key_digest, not_after, ended FROM lineage WHERE id > $1 ORDER BY id LIMIT $2";
            let rows = db.rows(sql, vec![after.into(), AT_ONCE.into()]).await?;
            for row in &rows {
                after = row.read(0)?;
                let not_after = row.read(2)?;
                if not_after >= now && !row.read::<bool>(3)? {
                    keys.held.insert(half(&row.read(1)?), (after, not_after));
                }
            }
            if rows.len() < AT_ONCE as usize {
                keys.swept_at = keys.held.len();
                return Ok(keys);
            }
        }
    }

    /// Notes a key that was certified, once that is for good.
    pub(super) fn hold(&mut self, key: &[u8; 32], lineage: Lineage, not_after: Timestamp, now: Timestamp) {
        if self.held.len() >= 2 * self.swept_at.max(LEAST) {
            self.held.retain(|_, (_, not_after)| *not_after >= now);
            self.swept_at = self.held.len();
        }
        self.held.insert(half(key), (lineage, not_after));
    }

    /// The living lineages that hold these keys.
    pub(super) async fn holders(
        &self,
        transaction: &mut Transaction,
        keys: HashSet<[u8; 32]>,
        now: Timestamp,
    ) -> Result<HashMap<[u8; 32], Lineage>, DbError> {
        let suspected = keys.iter().filter_map(|key| self.held.get(&half(key))).map(|(lineage, _)| *lineage);
        let suspected: HashSet<Lineage> = suspected.collect();
        let rows = BY_ID.run(transaction, &[], suspected.into_iter().map(|id| [id.into()]).collect()).await?;
        let mut holders = HashMap::new();
        for row in &rows {
            let key = row.read(0)?;
            if row.read::<Timestamp>(2)? >= now && keys.contains(&key) {
                holders.insert(key, row.read(1)?);
            }
        }
        Ok(holders)
    }
}

fn half(key: &[u8; 32]) -> Half {
    key.first_chunk().copied().unwrap_or_default()
}

/// Lineages that are read at once.
const AT_ONCE: i64 = 4096;
/// So few keys are not worth a look at each.
const LEAST: usize = 4096;

pub(super) static BY_ID: SelectIn =
    SelectIn::new("SELECT key_digest, id, not_after FROM lineage WHERE ended = 0 AND id IN", "");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_whose_certificates_are_over_go() {
        let at = Timestamp::from_unix_millis;
        let mut keys = Keys::default();
        for number in 0..1_000_000_u32 {
            let now = at(i64::from(number));
            let mut key = [0; 32];
            key[..4].copy_from_slice(&number.to_be_bytes());
            keys.hold(&key, Lineage::from_bytes([1; 16]), now + std::time::Duration::from_secs(20), now);
        }
        assert!(keys.held.len() <= 2 * 20_000 + LEAST, "{} keys are held, 20,000 last", keys.held.len());
        assert!((980_000..1_000_000_u32).all(|number| {
            let mut half = Half::default();
            half[..4].copy_from_slice(&number.to_be_bytes());
            keys.held.contains_key(&half)
        }));
    }
}
