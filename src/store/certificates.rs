//! Certificates as they are stored: found by serial, by holder, by time.

use std::collections::BTreeMap;
use std::sync::Arc;

use chancery_identity::{Certificate, KeyId, Leaf, Lineage, Name, Serial, Timestamp};

use super::db::{Db, DbError, Row, Transaction, Value};
use super::decision::HolderKind;
use super::rows::Write;

/// A certificate as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredCertificate {
    /// Rises with each one issued: what pages go by.
    pub key: u64,
    /// What it says.
    pub certificate: Certificate,
    /// The certificate.
    pub der: Vec<u8>,
    /// The position of its log entry.
    pub log_index: u64,
    /// When it was committed.
    pub issued_at: Timestamp,
}

impl StoredCertificate {
    fn from_row(row: &Row) -> Result<Self, DbError> {
        let der: Vec<u8> = row.read(1)?;
        let certificate = Leaf::read(&der).map_err(DbError::Certificate)?.into_certificate();
        // A position of an earlier epoch's log is another entry's here, or nobody's.
        let epoch: u64 = row.read(4)?;
        let of_this_log = certificate.grant.as_ref().is_none_or(|grant| grant.epoch == epoch);
        let logged_at = row.read_optional(3)?.filter(|_| of_this_log);
        let issued_at = logged_at.unwrap_or_else(|| drawn_at(certificate.serial));
        Ok(Self { key: row.read(0)?, certificate, der, log_index: row.read(2)?, issued_at })
    }
}

/// When a serial of ours was drawn: its first six bytes are that millisecond, below the bits that make it positive.
fn drawn_at(serial: Serial) -> Timestamp {
    let millis = serial.bytes().iter().take(6).fold(0_i64, |millis, byte| (millis << 8) | i64::from(*byte));
    Timestamp::from_unix_millis(millis & 0x3fff_ffff_ffff)
}

/// Which certificates. Nothing set: all.
#[derive(Clone, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "whoever searches sets what it wants")]
pub struct Query {
    /// Whose: `agent:invoice-bot` and the like.
    pub holder: Option<chancery_api::Subject>,
    /// Not expired at this time.
    pub unexpired_at: Option<Timestamp>,
    /// Issued at this time or later.
    pub issued_after: Option<Timestamp>,
    /// With a key below this one.
    pub before: Option<u64>,
}

/// One certificate, as a transaction sees it.
pub(super) async fn read_in(
    transaction: &mut Transaction,
    serial: Serial,
) -> Result<Option<StoredCertificate>, DbError> {
    transaction.row(BY_SERIAL, vec![serial.into()]).await?.map(|row| StoredCertificate::from_row(&row)).transpose()
}

/// One certificate.
pub(super) async fn read(db: &Db, serial: Serial) -> Result<Option<StoredCertificate>, DbError> {
    db.row(BY_SERIAL, vec![serial.into()]).await?.map(|row| StoredCertificate::from_row(&row)).transpose()
}

/// The end of the certificate that lasts longest.
pub(super) async fn last_not_after(transaction: &mut Transaction) -> Result<Timestamp, DbError> {
    let sql = "SELECT not_after FROM certificate_block ORDER BY not_after DESC LIMIT 1";
    transaction.row(sql, vec![]).await?.map_or(Ok(Timestamp::default()), |row| row.read(0))
}

/// Whether an authority signed a certificate that is valid at `at` or later. What ends soonest is looked at first: an
/// authority that no longer signs is found out by it.
pub(super) async fn any_valid_at(db: &Db, authority: KeyId, at: Timestamp) -> Result<bool, DbError> {
    let sql = format!("SELECT key FROM {VALID} AND authority = $2 ORDER BY block.not_after LIMIT 1");
    Ok(db.row(sql, vec![at.into(), authority.into()]).await?.is_some())
}

/// How many certificates are valid at `at` or later, counted up to `most`.
pub(super) async fn count_valid(db: &Db, at: Timestamp, most: u64) -> Result<u64, DbError> {
    let sql = format!("SELECT count(*) FROM (SELECT key FROM {VALID} LIMIT $2) AS valid");
    db.row(sql, vec![at.into(), most.into()]).await?.map_or(Ok(0), |row| row.read(0))
}

/// The blocks where one may be valid at `at` or later, in the order of issue.
pub(super) async fn blocks_valid_at(db: &Db, at: Timestamp) -> Result<Vec<u64>, DbError> {
    let sql = "SELECT number FROM certificate_block WHERE not_after >= $1 ORDER BY number";
    db.rows(sql, vec![at.into()]).await?.iter().map(|row| row.read(0)).collect()
}

/// The newest certificates of a query, newest first, at most `limit`.
pub(super) async fn find(db: &Db, query: &Query, limit: u32) -> Result<Vec<StoredCertificate>, DbError> {
    // Keys first: of whoever has many, what is on this page alone is read.
    let (keys, mut values) = found_by("SELECT key", query);
    values.push(i64::from(limit).into());
    let keys = format!("{keys} ORDER BY key DESC LIMIT ${}", values.len());
    db.rows(format!("{SELECT} WHERE key IN ({keys}) ORDER BY key DESC"), values)
        .await?
        .iter()
        .map(StoredCertificate::from_row)
        .collect()
}

/// How many certificates a query finds on all pages; the issuer's own are nobody's to list.
pub(super) async fn count(db: &Db, query: &Query) -> Result<u64, DbError> {
    let (mut sql, mut values) = found_by("SELECT count(*)", &Query { before: None, ..query.clone() });
    values.push((HolderKind::Issuer as i64).into());
    sql.push_str(&format!(" AND kind <> ${}", values.len()));
    db.count(sql, values).await
}

pub(super) fn found_by(select: &str, query: &Query) -> (String, Vec<Value>) {
    let by_blocks = query.holder.is_some() || query.unexpired_at.is_some();
    let from = if by_blocks { IN_BLOCKS } else { "certificate WHERE 1 = 1" };
    let mut sql = format!("{select} FROM {from}");
    let mut values: Vec<Value> = Vec::new();
    let mut and = |condition: &str, value: Value| {
        values.push(value);
        sql.push_str(&condition.replace("$$", &format!("${}", values.len())));
    };
    if let Some(holder) = &query.holder {
        and(" AND kind = $$", (HolderKind::from(holder.kind()) as i64).into());
        and(" AND name = $$", holder.name().into());
    }
    if let Some(at) = query.unexpired_at {
        and(" AND block.not_after >= $$ AND certificate.not_after >= $$", at.into());
    }
    if let Some(at) = query.issued_after {
        // Serials begin with their time, so the index over them is one over time.
        and(" AND serial >= $$", Serial::compose(at, [0; 10]).into());
    }
    if let Some(key) = query.before {
        and(" AND key < $$", key.into());
    }
    (sql, values)
}

/// Writes rows, numbered from `first`.
pub(super) async fn insert(
    transaction: &mut Transaction,
    first: u64,
    rows: Vec<CertificateRow>,
) -> Result<(), DbError> {
    let mut blocks: BTreeMap<u64, Timestamp> = BTreeMap::new();
    for (key, row) in (first..).zip(&rows) {
        let not_after = blocks.entry(key / BLOCK).or_insert(row.not_after);
        *not_after = row.not_after.max(*not_after);
    }
    let rows = rows.into_iter().enumerate().map(|(after, row)| row.into_values(first + after as u64));
    INSERT.run(transaction, rows).await?;
    let blocks = blocks.into_iter().map(|(number, not_after)| [number.into(), not_after.into()]);
    INSERT_BLOCKS.run(transaction, blocks).await.map(drop)
}

/// The row of a certificate. All else that it says is in its DER.
pub(super) struct CertificateRow {
    pub(super) serial: Serial,
    pub(super) authority: KeyId,
    pub(super) kind: i64,
    pub(super) name: Name,
    pub(super) lineage: Option<Lineage>,
    pub(super) delegated: bool,
    pub(super) not_after: Timestamp,
    pub(super) log_index: u64,
    pub(super) der: Arc<[u8]>,
    pub(super) previous: Option<Serial>,
}

impl CertificateRow {
    fn into_values(self, key: u64) -> [Value; 11] {
        [
            key.into(),
            self.serial.into(),
            self.authority.into(),
            self.kind.into(),
            (&self.name).into(),
            self.lineage.into(),
            self.delegated.into(),
            self.not_after.into(),
            self.log_index.into(),
            self.der.into(),
            self.previous.into(),
        ]
    }
}

const SELECT: &str = "SELECT key, der, log_index, log_entry.at, (SELECT epoch FROM head) FROM certificate \
                      LEFT JOIN log_entry ON position = log_index";
const BY_SERIAL: &str = "SELECT key, der, log_index, log_entry.at, (SELECT epoch FROM head) FROM certificate \
                         LEFT JOIN log_entry ON position = log_index WHERE serial = $1";

/// Certificates in a row of `certificate_block`; stands in the migrations too.
const BLOCK: u64 = 1024;
/// Block by block; conditions on kind and name, or on both ends, follow. Each block is one look into the index: CROSS is what tells
/// SQLite, and the plus, as it takes an index over an expression for what has no type alone.
const IN_BLOCKS: &str = "certificate_block AS block CROSS JOIN certificate WHERE key / 1024 = +block.number";
/// What of all is valid at `$1` or later; conditions may follow.
pub(super) const VALID: &str = "certificate_block AS block CROSS JOIN certificate \
    WHERE key / 1024 = +block.number AND block.not_after >= $1 AND certificate.not_after >= $1";

static INSERT_BLOCKS: Write<2> = Write::upsert(
    "INSERT INTO certificate_block (number, not_after) VALUES",
    "ON CONFLICT (number) DO UPDATE SET not_after = excluded.not_after \
     WHERE excluded.not_after > certificate_block.not_after",
);
static INSERT: Write<11> = Write::insert(
    "INSERT INTO certificate (key, serial, authority, kind, name, lineage, delegated, not_after, log_index, der, previous) \
     VALUES",
);
