//! Which lineage a key could belong to, in memory: an index in the database moves two pages with each renewal.

use std::collections::{HashMap, HashSet};

use chancery_identity::{Lineage, Timestamp};

use super::db::{DbError, Transaction};
use super::lineages::{self, key_digest};

/// The keys that were certified and whose certificates last, each with its lineage; true as long as nobody else writes.
///
/// It may name a lineage that went on to another key, or ended: whether one holds a key is for its row to say.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// Read when a certificate is asked for first: whoever writes something else need not wait for it.
    held: Option<HashMap<Half, (Lineage, Timestamp)>>,
    /// Those that are over go once there may be as many as others.
    swept_at: usize,
}

/// Half of a key's SHA-256: nobody makes two keys that share it, and a million take half the memory.
type Half = [u8; 16];

impl Keys {
    /// The living lineages that hold these keys. The transaction keeps others from writing while all are read.
    pub(super) async fn holders(
        &mut self,
        transaction: &mut Transaction,
        keys: HashSet<[u8; 32]>,
        now: Timestamp,
    ) -> Result<HashMap<[u8; 32], Lineage>, DbError> {
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let held = match &self.held {
            Some(held) => held,
            None => {
                let held = load(transaction, now).await?;
                self.swept_at = held.len();
                self.held.insert(held)
            }
        };
        let suspected: HashSet<Lineage> =
            keys.iter().filter_map(|key| held.get(&half(key))).map(|(id, _)| *id).collect();
        let found = lineages::find(transaction, suspected).await?;
        let alive = found.into_iter().filter(|(_, newest)| newest.not_after >= now && !newest.ended);
        Ok(alive.map(|(id, newest)| (newest.key_digest, id)).filter(|(key, _)| keys.contains(key)).collect())
    }

    /// Notes a key that was certified, once that is for good.
    pub(super) fn hold(&mut self, key: &[u8; 32], lineage: Lineage, not_after: Timestamp, now: Timestamp) {
        // What is not read yet will be read with it.
        let Some(held) = &mut self.held else { return };
        if held.len() >= 2 * self.swept_at.max(LEAST) {
            held.retain(|_, (_, not_after)| *not_after >= now);
            self.swept_at = held.len();
        }
        held.insert(half(key), (lineage, not_after));
    }
}

/// Those of the lineages whose certificates last.
async fn load(transaction: &mut Transaction, now: Timestamp) -> Result<HashMap<Half, (Lineage, Timestamp)>, DbError> {
    let mut held = HashMap::new();
    let mut after = Lineage::from_bytes([0; 16]);
    loop {
        let rows = transaction.rows(LASTING, vec![after.into(), now.into(), AT_ONCE.into()]).await?;
        for row in &rows {
            after = row.read(0)?;
            let not_after = row.read(1)?;
            let key = half(&key_digest(&row.read::<Vec<u8>>(3)?)?);
            // One that was ended in this transaction may not be after all; and one that has its key since goes before it.
            if row.read(2)? {
                held.entry(key).or_insert((after, not_after));
            } else {
                held.insert(key, (after, not_after));
            }
        }
        if rows.len() < AT_ONCE as usize {
            return Ok(held);
        }
    }
}

fn half(key: &[u8; 32]) -> Half {
    key.first_chunk().copied().unwrap_or_default()
}

/// Lineages that are read at once.
const AT_ONCE: i64 = 4096;
/// So few keys are not worth a look at each.
const LEAST: usize = 4096;

const LASTING: &str = "SELECT newest.lineage, newest.not_after, ended, der \
                       FROM newest JOIN certificate ON certificate.serial = newest.serial \
                       WHERE newest.lineage > $1 AND newest.not_after >= $2 ORDER BY newest.lineage LIMIT $3";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_whose_certificates_are_over_go() {
        let at = Timestamp::from_unix_millis;
        let mut keys = Keys { held: Some(HashMap::new()), swept_at: 0 };
        for number in 0..1_000_000_u32 {
            let now = at(i64::from(number));
            let mut key = [0; 32];
            key[..4].copy_from_slice(&number.to_be_bytes());
            keys.hold(&key, Lineage::from_bytes([1; 16]), now + std::time::Duration::from_secs(20), now);
        }
        let held = keys.held.unwrap();
        assert!(held.len() <= 2 * 20_000 + LEAST, "{} keys are held, 20,000 last", held.len());
        assert!((980_000..1_000_000_u32).all(|number| {
            let mut half = Half::default();
            half[..4].copy_from_slice(&number.to_be_bytes());
            held.contains_key(&half)
        }));
    }
}
