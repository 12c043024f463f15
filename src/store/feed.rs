//! The sequence as verifiers are told it: a line for each entry, the hash chain over them, and how far they are forgotten.

use chancery_api::{FeedEntry, FeedResume, FeedRevocation, RevocationView};
use chancery_ca::AuthorityCertificate;
use chancery_identity::{Revocation, Target, Timestamp};
use chancery_tlog::{Chained, Hash, Tree};

use super::batch::Batch;
use super::certificates;
use super::db::{Db, DbError, Row, Transaction};
use super::decision::{Committed, Decision, Rank, Undecided};
use super::head::Head;
use super::log::SHA256;
use super::registry::{document, parse};
use super::state::Change;
use crate::config::CRL_VALIDITY;

/// Where all stands, as the database says that this process writes to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "whoever signs it reads all of it")]
pub struct Standing {
    /// The log's epoch.
    pub epoch: u64,
    /// The log.
    pub tree: Tree,
    /// The newest number of the revocation sequence.
    pub revocation: Chained,
    /// The number up to which entries are forgotten.
    pub floor: Chained,
    /// Those among them that stay.
    pub standing: Chained,
}

/// One entry as the feed sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "whoever sends it reads all of it")]
pub struct FeedLine {
    /// Its number.
    pub n: u64,
    /// One line of JSON.
    pub line: String,
}

impl FeedLine {
    fn from_row(row: &Row) -> Result<Self, DbError> {
        Ok(Self { n: row.read(0)?, line: row.read(1)? })
    }
}

/// The lines after a number and up to another, in order, at most `limit`.
pub(super) async fn lines(db: &Db, after: u64, to: u64, limit: u32) -> Result<Vec<FeedLine>, DbError> {
    let sql = "SELECT n, line FROM feed_entry WHERE n > $1 AND n <= $2 ORDER BY n LIMIT $3";
    let rows = db.rows(sql, vec![after.into(), to.into(), i64::from(limit).into()]).await?;
    rows.iter().map(FeedLine::from_row).collect()
}

/// The lines at or below the floor that stay, in order.
pub(super) async fn standing(db: &Db, floor: u64) -> Result<Vec<FeedLine>, DbError> {
    db.rows(STANDING, vec![floor.into()]).await?.iter().map(FeedLine::from_row).collect()
}

/// What stays of what is forgotten: scopes that are forbidden still, or were when the floor came to them.
///
/// It depends on the floor alone: what resumes one of them has a number above the floor, until the floor comes to it.
const STANDING: &str = "SELECT f.n, f.line FROM feed_entry f JOIN revocation r ON r.n = f.n \
                        WHERE f.n <= $1 AND r.effect = 'forbid' AND (r.resumed_n IS NULL OR r.resumed_n > $1) \
                        ORDER BY f.n";

/// Moves the floor up to the first entry that can still hit something. Nothing of the database goes.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_structs, reason = "it says nothing more than its time")]
pub struct Forget {
    /// As of when; not after now.
    pub at: Timestamp,
}

impl Decision for Forget {
    /// The floor.
    type Reply = u64;

    const RANK: Rank = Rank::Revocation;

    async fn decide(&self, batch: &mut Batch<'_>) -> Result<Committed<u64>, Undecided> {
        let (at, before, newest) = (self.at.min(batch.at()), batch.head().floor, batch.head().revocation);
        let (position, committed_at) = (batch.log_size(), batch.at());
        // What this transaction has entered is not in the table yet, and hits what is valid.
        let sql = "SELECT n FROM feed_entry WHERE n > $1 AND over_at >= $2 ORDER BY n LIMIT 1";
        let held = batch.transaction().row(sql, vec![before.n.into(), at.into()]).await?;
        let last = match held {
            Some(row) => row.read::<u64>(0)?.saturating_sub(1),
            None => {
                let sql = "SELECT n FROM feed_entry WHERE n <= $1 ORDER BY n DESC LIMIT 1";
                let row = batch.transaction().row(sql, vec![newest.n.into()]).await?;
                row.map(|row| row.read(0)).transpose()?.unwrap_or(before.n)
            }
        };
        if last > before.n {
            let sql = "SELECT chain FROM feed_entry WHERE n = $1";
            let row = batch.transaction().row(sql, vec![last.into()]).await?.ok_or(DbError::NoHead)?;
            let floor = Chained { n: last, hash: Hash(row.read(0)?) };
            let rows = batch.transaction().rows(STANDING, vec![last.into()]).await?;
            let stay = rows.iter().map(FeedLine::from_row).collect::<Result<Vec<_>, _>>()?;
            let standing = stay.iter().fold(Chained::start(0), |chain, line| chain.then(SHA256, line.line.as_bytes()));
            batch.forget(floor, standing);
            batch.change(Change::Floor(last));
        }
        Ok(Committed::new(last.max(before.n), position, committed_at))
    }
}

/// From when on an entry can hit nothing: everything that it could is over then and has been in a CRL after that.
pub(super) async fn over_at(batch: &mut Batch<'_>, target: &Target) -> Result<Timestamp, DbError> {
    let mut last = batch.last_not_after().await?;
    if let Target::Authority(key_id) = target {
        // It ends what was signed by it whatever that says of itself, for as long as the authority could be believed.
        let authority = batch.state().authority(*key_id);
        let certificate = authority.and_then(|held| AuthorityCertificate::read(held.certificate.clone()).ok());
        last = certificate.map_or(Timestamp::from_unix_millis(i64::MAX / 2), |held| held.not_after().max(last));
    }
    Ok(last.max(batch.at()) + CRL_VALIDITY)
}

/// Gives the entries of a database that knows none the lines and the chain that this version writes with each.
pub(super) async fn backfill(db: &Db) -> Result<(), DbError> {
    let mut transaction = db.begin().await?;
    let head = Head::read_for_update(&mut transaction).await?;
    if head.chained {
        return transaction.rollback().await;
    }
    let rows = transaction.rows("SELECT document FROM revocation ORDER BY n", vec![]).await?;
    let mut entries = Vec::with_capacity(rows.len());
    for row in &rows {
        let view: RevocationView = parse(&row.read::<String>(0)?)?;
        if let Some(resume) = &view.resumed_by {
            let (n, epoch, resumes) = (resume.n, view.epoch, view.n);
            let (log_index, created_at) = (resume.log_index, resume.created_at);
            entries.push(FeedEntry::Resume(FeedResume { n, epoch, resumes, log_index, created_at }));
        }
        entries.push(FeedEntry::Revocation(FeedRevocation::from(&Revocation::from(&view))));
    }
    entries.sort_by_key(FeedEntry::n);
    let over_at = certificates::last_not_after(&mut transaction).await?.max(head.at) + CRL_VALIDITY;
    let mut chain = Chained::start(0);
    for entry in entries {
        if entry.n() != chain.n + 1 {
            return Err(DbError::Gap { after: chain.n });
        }
        let line = document(&entry);
        chain = chain.then(SHA256, line.as_bytes());
        insert(&mut transaction, head.epoch, chain, over_at, line).await?;
    }
    if chain.n != head.revocation.n {
        return Err(DbError::Gap { after: chain.n });
    }
    let sql = "UPDATE head SET chain = $1";
    transaction.execute(sql, vec![chain.hash.0.into()]).await?;
    transaction.commit().await
}

/// Writes one line.
pub(super) async fn insert(
    transaction: &mut Transaction,
    epoch: u64,
    chain: Chained,
    over_at: Timestamp,
    line: String,
) -> Result<(), DbError> {
    let sql = "INSERT INTO feed_entry (n, epoch, over_at, line, chain) VALUES ($1, $2, $3, $4, $5)";
    let values = vec![chain.n.into(), epoch.into(), over_at.into(), line.into(), chain.hash.0.into()];
    transaction.execute(sql, values).await.map(drop)
}
