//! The lease: one issuer writes at a time, a second one waits.
//!
//! The head row carries the holder, a fence that rises with each holder, and the end of the lease by the database's own
//! clock. Each commit checks the fence and moves the end. On SQLite a lock on a file beside the database decides
//! instead, as the system releases it the moment its holder dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::db::{Db, DbError};

/// The right to write, while it lasts.
#[derive(Debug)]
pub(super) struct Lease {
    /// What the head row must still say at each commit.
    pub(super) fence: u64,
    /// Released when dropped.
    _lock: Option<File>,
}

impl Lease {
    /// Waits until nobody else writes.
    pub(super) async fn acquire(db: &Db, holder: &str) -> Result<Self, DbError> {
        let lock = match db.path() {
            Some(path) => Some(wait_for_lock(&lock_path(path)).await?),
            None => None,
        };
        loop {
            if let Some(fence) = take(db, holder, lock.is_some()).await? {
                return Ok(Self { fence, _lock: lock });
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Whether the end of the lease must be moved even when there is nothing to commit.
    pub(super) const fn expires(&self) -> bool {
        self._lock.is_none()
    }

    /// Moves the end of the lease; false when it is another's.
    pub(super) async fn renew(&self, db: &Db) -> Result<bool, DbError> {
        self.set_end(db, TERM_MS).await
    }

    /// Gives it back, so that a successor need not wait for its end.
    pub(super) async fn release(self, db: &Db) -> Result<(), DbError> {
        self.set_end(db, 0).await.map(drop)
    }

    async fn set_end(&self, db: &Db, term_ms: i64) -> Result<bool, DbError> {
        let mut transaction = db.begin().await?;
        let sql = format!("UPDATE head SET lease_expires_at = {} + $1 WHERE lease_fence = $2", db.now());
        let changed = transaction.execute(sql, vec![term_ms.into(), self.fence.into()]).await?;
        transaction.commit().await?;
        Ok(changed == 1)
    }
}

/// Takes the lease when it is free, or when a lock says that its holder is gone.
async fn take(db: &Db, holder: &str, locked: bool) -> Result<Option<u64>, DbError> {
    let now = db.now();
    if !locked {
        // A look at a free lease costs the one who writes nothing; trying to take it would wait for each commit.
        let free = format!("SELECT one FROM head WHERE lease_holder IS NULL OR lease_expires_at <= {now}");
        if db.row(free, vec![]).await?.is_none() {
            return Ok(None);
        }
    }
    let sql = format!(
        "UPDATE head SET lease_holder = $1, lease_fence = lease_fence + 1, lease_expires_at = {now} + $2 \
         WHERE lease_holder IS NULL OR lease_expires_at <= {now} OR $3 = 1 RETURNING lease_fence"
    );
    let mut transaction = db.begin().await?;
    let row = transaction.row(sql, vec![holder.into(), TERM_MS.into(), locked.into()]).await?;
    let fence = row.map(|row| row.read(0)).transpose()?;
    transaction.commit().await?;
    Ok(fence)
}

async fn wait_for_lock(path: &Path) -> Result<File, DbError> {
    let failed = |error| DbError::File { path: path.to_owned(), error };
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(failed)?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(RETRY).await,
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
    }
}

fn lock_path(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

/// How long a lease lasts after its last commit or renewal, in milliseconds.
pub(super) const TERM_MS: i64 = 6000;
/// How often an idle holder moves its end.
pub(super) const RENEWAL: Duration = Duration::from_millis(1500);
/// How often a waiting issuer looks.
const RETRY: Duration = Duration::from_millis(200);
