//! The log: what was decided, in order, and the tree over it.

use std::time::Duration;

use chancery_identity::{Actor, RequestId, SpiffeId, Timestamp};
use chancery_tlog::{Action, Bundle, Commitment, Decision as Logged, Entry, Facts, Hash, Record, Sha256, Tile};

use super::batch::Batch;
use super::db::{Db, DbError, Row, Value};
use super::decision::{Cause, Committed, Decision, Rank, Undecided};

/// SHA-256, as the log's tree and all digests of rows use it.
pub const SHA256: Sha256 = Sha256(|parts| {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
});

/// Records that a known caller was refused. Nothing else changes.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "whoever decides sets all of it")]
pub struct Deny {
    /// Who was refused.
    pub cause: Cause,
    /// What it was about, in the spelling of targets.
    pub subjects: Vec<String>,
    /// What was refused and why; no secrets.
    pub facts: Facts,
}

impl Decision for Deny {
    type Reply = ();

    const RANK: Rank = Rank::Certificate;

    async fn decide(&self, batch: &mut Batch<'_>) -> Result<Committed<()>, Undecided> {
        Ok(batch.log(&self.cause, self.subjects.clone(), Logged::Deny(self.facts.clone()), ())?)
    }
}

/// One position of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogEntry {
    /// The position.
    pub position: u64,
    /// When it was committed.
    pub at: Timestamp,
    /// Its record under its salt; absent once deleted.
    pub entry: Option<Entry>,
    /// What the log publishes for it.
    pub commitment: Commitment,
}

impl LogEntry {
    /// What its record says; `None` once that is deleted.
    pub fn record(&self) -> Option<Record> {
        Record::parse(&self.entry.as_ref()?.record).ok()
    }

    fn from_row(row: &Row) -> Result<Self, DbError> {
        let (salt, record) = (row.read_optional(2)?, row.read_optional(3)?);
        Ok(Self {
            position: row.read(0)?,
            at: row.read(1)?,
            entry: salt.zip(record).map(|(salt, record)| Entry { salt, record }),
            commitment: Commitment(row.read(4)?),
        })
    }
}

/// The entries from a position on, in order, at most `limit`.
pub(super) async fn from(db: &Db, position: u64, limit: u32) -> Result<Vec<LogEntry>, DbError> {
    let values = vec![position.into(), i64::from(limit).into()];
    let rows = db
        .rows(
            "SELECT position, at, salt, record, commitment FROM log_entry WHERE position >= $1 ORDER BY position LIMIT $2",
            values,
        )
        .await?;
    rows.iter().map(LogEntry::from_row).collect()
}

/// The same of an earlier epoch's log.
pub(super) async fn past_from(db: &Db, epoch: u64, position: u64, limit: u32) -> Result<Vec<LogEntry>, DbError> {
    let sql = "SELECT position, at, salt, record, commitment FROM past_log_entry WHERE epoch = $1 AND position >= $2 \
               ORDER BY position LIMIT $3";
    let rows = db.rows(sql, vec![epoch.into(), position.into(), i64::from(limit).into()]).await?;
    rows.iter().map(LogEntry::from_row).collect()
}

/// The earlier epochs whose logs are here.
pub(super) async fn past_epochs(db: &Db) -> Result<Vec<u64>, DbError> {
    let rows = db.rows("SELECT DISTINCT epoch FROM past_log_entry ORDER BY epoch", vec![]).await?;
    rows.iter().map(|row| row.read(0)).collect()
}

/// The entries below a position, newest first, of one kind of action or all, at most `limit`.
pub(super) async fn before(
    db: &Db,
    position: Option<u64>,
    action: Option<&str>,
    limit: u32,
) -> Result<Vec<LogEntry>, DbError> {
    let mut sql = "SELECT position, at, salt, record, commitment FROM log_entry WHERE position < $1".to_owned();
    let mut values: Vec<Value> = vec![position.unwrap_or(u64::MAX).into()];
    if let Some(action) = action {
        values.push(action.into());
        sql.push_str(" AND action = $2");
    }
    values.push(i64::from(limit).into());
    sql.push_str(&format!(" ORDER BY position DESC LIMIT ${}", values.len()));
    db.rows(sql, values).await?.iter().map(LogEntry::from_row).collect()
}

/// The entries of one request, in order. Its id says when it was made, and times never fall along the log, so it is
/// found without an index.
pub(super) async fn of_request(db: &Db, size: u64, id: RequestId) -> Result<Vec<LogEntry>, DbError> {
    let [a, b, c, d, e, f, ..] = id.bytes();
    // RFC 9562 §5.7: a UUIDv7 begins with the Unix milliseconds.
    let made = Timestamp::from_unix_millis(i64::from_be_bytes([0, 0, a, b, c, d, e, f]));
    let first = committed_at_or_after(db, size, made).await?;
    let mut found = Vec::new();
    for position in (first..size.min(first + SCANNED)).step_by(PAGE as usize) {
        for entry in from(db, position, PAGE).await? {
            if entry.at > made + ANSWERED_WITHIN {
                return Ok(found);
            }
            if entry.record().is_some_and(|record| record.request_id == Some(id)) {
                found.push(entry);
            }
        }
    }
    Ok(found)
}

/// The refusals of a holder at a time or later, newest first, among the newest entries of the log.
pub(super) async fn denials(db: &Db, size: u64, since: Timestamp, of: &SpiffeId) -> Result<Vec<LogEntry>, DbError> {
    let first = committed_at_or_after(db, size, since).await?.max(size.saturating_sub(SCANNED));
    let sql = "SELECT position, at, salt, record, commitment FROM log_entry WHERE position >= $1 AND position < $2 \
               AND action = $3 ORDER BY position DESC";
    let mut found = Vec::new();
    let mut end = size;
    while end > first {
        let begin = end.saturating_sub(PAGE.into()).max(first);
        for row in db.rows(sql, vec![begin.into(), end.into(), Action::Deny.as_str().into()]).await? {
            let entry = LogEntry::from_row(&row)?;
            let by_it = |record: &Record| matches!(&record.actor, Actor::Holder(holder) if holder == of);
            if entry.record().as_ref().is_some_and(by_it) {
                found.push(entry);
            }
        }
        end = begin;
    }
    Ok(found)
}

/// Entries that a search without an index looks at, at most.
const SCANNED: u64 = 100_000;
/// Entries read at once.
const PAGE: u32 = 1000;
/// From a request to its last entry, at most.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);

/// The hashes of a tile; as many as it is wide, fewer when the log is too small for it.
pub(super) async fn tile(db: &Db, tile: Tile) -> Result<Vec<Hash>, DbError> {
    let positions = tile.positions();
    if tile.level() == 0 {
        return Ok(commitments(db, positions).await?.iter().map(|commitment| commitment.leaf_hash(SHA256)).collect());
    }
    let values = vec![i64::from(tile.level()).into(), positions.start.into(), positions.end.into()];
    let rows = db
        .rows(
            "SELECT hash FROM log_node WHERE level = $1 AND position >= $2 AND position < $3 ORDER BY position",
            values,
        )
        .await?;
    rows.iter().map(|row| row.read(0).map(Hash)).collect()
}

/// The entries of a bundle, as the log publishes them.
pub(super) async fn bundle(db: &Db, bundle: Bundle) -> Result<Vec<Commitment>, DbError> {
    commitments(db, bundle.positions()).await
}

/// The position of the first entry at or after a time; the log's size when there is none.
///
/// Times never fall along the log, so halving finds it without an index.
pub(super) async fn first_at_or_after(batch: &mut Batch<'_>, at: Timestamp) -> Result<u64, DbError> {
    // What this transaction has logged so far is not in the table yet, and is no earlier than its start.
    let mut search = Search { low: 0, high: batch.log_size_before() };
    while let Some(middle) = search.middle() {
        let row = batch.transaction().row(TIME, vec![middle.into()]).await?;
        search.found(middle, row, at)?;
    }
    Ok(search.low)
}

/// The same as of the last commit, in a log of this size.
pub(super) async fn committed_at_or_after(db: &Db, size: u64, at: Timestamp) -> Result<u64, DbError> {
    let mut search = Search { low: 0, high: size };
    while let Some(middle) = search.middle() {
        let row = db.row(TIME, vec![middle.into()]).await?;
        search.found(middle, row, at)?;
    }
    Ok(search.low)
}

const TIME: &str = "SELECT at FROM log_entry WHERE position = $1";

/// The log's times never fall: what lies where is found by halves.
struct Search {
    low: u64,
    high: u64,
}

impl Search {
    const fn middle(&self) -> Option<u64> {
        if self.low < self.high { Some(self.low + (self.high - self.low) / 2) } else { None }
    }

    fn found(&mut self, middle: u64, row: Option<Row>, at: Timestamp) -> Result<(), DbError> {
        let found: Timestamp = row.ok_or(DbError::Column { column: 0 })?.read(0)?;
        if found < at {
            self.low = middle + 1
        } else {
            self.high = middle
        }
        Ok(())
    }
}

async fn commitments(db: &Db, positions: std::ops::Range<u64>) -> Result<Vec<Commitment>, DbError> {
    let rows = db
        .rows(
            "SELECT commitment FROM log_entry WHERE position >= $1 AND position < $2 ORDER BY position",
            vec![positions.start.into(), positions.end.into()],
        )
        .await?;
    rows.iter().map(|row| row.read(0).map(Commitment)).collect()
}
