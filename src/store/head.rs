//! The head row: what the writer goes on from.

use chancery_identity::Timestamp;
use chancery_tlog::{Chained, Frontier, Hash, LastHead};

use super::db::{Db, DbError, Row, Transaction};
use super::feed::Standing;
use super::log::SHA256;
use super::state::Position;

/// Where log, revocation sequence and lease stand.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) epoch: u64,
    pub(super) frontier: Frontier,
    pub(super) at: Timestamp,
    pub(super) revocation: Chained,
    /// Whether the entries have their chain: those of an earlier version get it before anything is written.
    pub(super) chained: bool,
    pub(super) floor: Chained,
    pub(super) standing: Chained,
    pub(super) bundle_version: u64,
    pub(super) certificate: u64,
    pub(super) fence: u64,
}

impl Head {
    /// As of the last commit.
    pub(super) async fn read(db: &Db) -> Result<Self, DbError> {
        Self::from_row(db.row(SELECT, vec![]).await?)
    }

    /// Inside the transaction that will move it.
    pub(super) async fn read_for_update(transaction: &mut Transaction) -> Result<Self, DbError> {
        Self::from_row(transaction.row(SELECT, vec![]).await?)
    }

    fn from_row(row: Option<Row>) -> Result<Self, DbError> {
        let row = row.ok_or(DbError::NoHead)?;
        Ok(Self {
            epoch: row.read(0)?,
            frontier: Frontier::from_bytes(&row.read::<Vec<u8>>(1)?).map_err(|_| DbError::Column { column: 1 })?,
            at: row.read(2)?,
            revocation: chained(&row, 3, 7)?,
            chained: row.read_optional::<Vec<u8>>(7)?.is_some(),
            floor: chained(&row, 8, 9)?,
            standing: chained(&row, 10, 11)?,
            bundle_version: row.read(4)?,
            certificate: row.read(5)?,
            fence: row.read(6)?,
        })
    }

    /// Moves the row on, and the end of the lease with it.
    pub(super) async fn write(&self, transaction: &mut Transaction, lease_ms: i64, now: &str) -> Result<(), DbError> {
        let sql = format!(
            "UPDATE head SET epoch = $1, frontier = $2, at = $3, revocation = $4, bundle_version = $5, certificate = $6, \
             chain = $7, floor = $8, floor_chain = $9, standing = $10, standing_chain = $11, lease_expires_at = {now} + $12"
        );
        let values = vec![
            self.epoch.into(),
            self.frontier.to_bytes().into(),
            self.at.into(),
            self.revocation.n.into(),
            self.bundle_version.into(),
            self.certificate.into(),
            self.revocation.hash.0.into(),
            self.floor.n.into(),
            self.floor.hash.0.into(),
            self.standing.n.into(),
            self.standing.hash.0.into(),
            lease_ms.into(),
        ];
        transaction.execute(sql, values).await.map(drop)
    }

    /// What a plan records of it.
    pub(super) fn position(&self) -> Position {
        Position { epoch: self.epoch, log_size: self.frontier.size(), n: self.revocation.n }
    }

    /// What the next epoch commits to.
    pub(super) fn last(&self) -> LastHead {
        let tree = self.frontier.tree(SHA256);
        LastHead { epoch: self.epoch, n: self.revocation.n, root: tree.root, size: tree.size }
    }

    /// What a signed head says of it.
    pub(super) fn standing(&self) -> Standing {
        Standing {
            epoch: self.epoch,
            tree: self.frontier.tree(SHA256),
            revocation: self.revocation,
            floor: self.floor,
            standing: self.standing,
        }
    }
}

/// A number and the hash up to it; none is that of nothing.
fn chained(row: &Row, n: usize, hash: usize) -> Result<Chained, DbError> {
    let n = row.read(n)?;
    Ok(row.read_optional(hash)?.map_or(Chained::start(n), |hash| Chained { n, hash: Hash(hash) }))
}

const SELECT: &str = "SELECT epoch, frontier, at, revocation, bundle_version, certificate, lease_fence, chain, floor, \
                      floor_chain, standing, standing_chain FROM head";
