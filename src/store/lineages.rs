//! Lineages: where each chain of renewals stands. Renew-once, forks and foreign keys are decided here.

use std::collections::{HashMap, HashSet};

use chancery_api::{Kind, Subject};
use chancery_identity::{Instance, Leaf, Lineage, Name, Serial, Target, Timestamp};

use super::batch::Batch;
use super::db::{Db, DbError, Row, Transaction, Value};
use super::decision::{Committed, Decision, HolderKind, Undecided};
use super::log::SHA256;
use super::registry::{document, parse};
use super::rows::{SelectIn, Write};
use super::tokens;

/// Where a chain of renewals stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredLineage {
    /// Its id.
    pub id: Lineage,
    /// Whose it is.
    pub holder: Subject,
    /// The attested copy, where the holder is an agent.
    pub instance: Option<Instance>,
    /// The certificate that may be renewed.
    pub serial: Serial,
    /// The end of the certificate that may be renewed.
    pub not_after: Timestamp,
    /// When the holder must attest again.
    pub session_end: Option<Timestamp>,
    /// Whether it was stopped for good by its own name, its instance's or its certificate's.
    pub ended: bool,
    /// When it began.
    pub created_at: Timestamp,
    /// The attestor.
    pub method: String,
    /// The SHA-256 of the evidence.
    pub evidence: [u8; 32],
    /// The facts that came out of the evidence.
    pub selectors: Vec<String>,
}

impl StoredLineage {
    fn from_row(row: &Row) -> Result<Self, DbError> {
        Ok(Self {
            id: row.read(0)?,
            holder: Subject::new(kind(row.read(1)?)?, row.read(2)?),
            instance: row.read_optional(3)?,
            created_at: row.read(4)?,
            method: row.read(5)?,
            evidence: row.read(6)?,
            selectors: parse(&row.read::<String>(7)?)?,
            serial: row.read(8)?,
            not_after: row.read(9)?,
            session_end: row.read_optional(10)?,
            ended: row.read(11)?,
        })
    }

    /// What a renewal changes, and what it goes by.
    fn newest(&self) -> [Value; 5] {
        [self.id.into(), self.serial.into(), self.not_after.into(), self.session_end.into(), self.ended.into()]
    }

    /// What stays as it is.
    fn into_values(self) -> [Value; 8] {
        [
            self.id.into(),
            (HolderKind::from(self.holder.kind()) as i64).into(),
            self.holder.name().into(),
            self.instance.into(),
            self.created_at.into(),
            self.method.into(),
            self.evidence.into(),
            document(&self.selectors).into(),
        ]
    }
}

/// What decides over the next certificate of a lineage.
#[derive(Clone, Debug)]
pub(super) struct Newest {
    /// The certificate that may be renewed.
    pub(super) serial: Serial,
    /// The one before, whose renewal may be asked for again, with the key of this one.
    pub(super) previous: Option<Serial>,
    /// The SHA-256 of its SPKI.
    pub(super) key_digest: [u8; 32],
    pub(super) not_after: Timestamp,
    pub(super) session_end: Option<Timestamp>,
    pub(super) ended: bool,
}

impl Newest {
    fn from_row(row: &Row) -> Result<Self, DbError> {
        Ok(Self {
            serial: row.read(1)?,
            not_after: row.read(2)?,
            session_end: row.read_optional(3)?,
            ended: row.read(4)?,
            previous: row.read_optional(5)?,
            key_digest: key_digest(&row.read::<Vec<u8>>(6)?)?,
        })
    }
}

/// The SHA-256 of the SPKI of a certificate: what keys are compared by.
pub(super) fn key_digest(der: &[u8]) -> Result<[u8; 32], DbError> {
    let leaf = Leaf::read(der).map_err(DbError::Certificate)?;
    Ok(SHA256.digest(&[leaf.spki()]).0)
}

/// Forgets lineages that are over and, with the last of them, evidence that is worth nothing. What was decided stays in
/// the log. It goes through the lineages in short commits, so that nobody waits long: the reply says from where to go on.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_structs, reason = "whoever decides sets all of it")]
pub struct Purge {
    /// Lineages whose last certificate ended before this go: long enough ago that none of them can rejoin.
    pub ended_before: Timestamp,
    /// Those up to this one were gone through.
    pub after: Option<Lineage>,
}

/// What one commit of a purge came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Purged {
    /// How many lineages went.
    pub gone: u64,
    /// Where to go on; `None`: that was all.
    pub next: Option<Lineage>,
}

impl Decision for Purge {
    type Reply = Purged;

    async fn decide(&self, batch: &mut Batch<'_>) -> Result<Committed<Purged>, Undecided> {
        let (at, position) = (batch.at(), batch.log_size());
        let transaction = batch.transaction();
        let after = self.after.unwrap_or(Lineage::from_bytes([0; 16]));
        let last = "SELECT lineage FROM newest WHERE lineage > $1 ORDER BY lineage LIMIT 1 OFFSET $2";
        let last = transaction.row(last, vec![after.into(), (PURGED_AT_ONCE - 1).into()]).await?;
        let next: Option<Lineage> = last.map(|row| row.read(0)).transpose()?;
        let mut over = "not_after < $1 AND lineage > $2".to_owned();
        let mut values: Vec<Value> = vec![self.ended_before.into(), after.into()];
        match next {
            Some(next) => {
                over.push_str(" AND lineage <= $3");
                values.push(next.into());
            }
            None => drop(tokens::purge(transaction, at).await?),
        }
        let lineages = format!("DELETE FROM lineage WHERE id IN (SELECT lineage FROM newest WHERE {over})");
        transaction.execute(lineages, values.clone()).await?;
        let gone = transaction.execute(format!("DELETE FROM newest WHERE {over}"), values).await?;
        Ok(Committed::new(Purged { gone, next }, position, at))
    }
}

fn kind(number: i64) -> Result<Kind, DbError> {
    match number {
        1 => Ok(Kind::Agent),
        2 => Ok(Kind::Service),
        3 => Ok(Kind::Admin),
        _ => Err(DbError::Column { column: 1 }),
    }
}

/// One lineage as of the last commit.
pub(super) async fn read(db: &Db, id: Lineage) -> Result<Option<StoredLineage>, DbError> {
    let row = db.row(format!("{SELECT} WHERE id = $1"), vec![id.into()]).await?;
    row.map(|row| StoredLineage::from_row(&row)).transpose()
}

/// The lineages of an instance, the newest last.
pub(super) async fn of_instance(db: &Db, instance: Instance) -> Result<Vec<StoredLineage>, DbError> {
    let sql = format!("{SELECT} WHERE instance = $1 ORDER BY id");
    db.rows(sql, vec![instance.into()]).await?.iter().map(StoredLineage::from_row).collect()
}

/// Agents' lineages, newest first: those below `before`, of one agent or all, at most `limit`.
pub(super) async fn page(
    db: &Db,
    agent: Option<&Name>,
    before: Option<Lineage>,
    limit: u32,
) -> Result<Vec<StoredLineage>, DbError> {
    let mut sql = format!("{SELECT} WHERE kind = $1 AND instance IS NOT NULL");
    let mut values: Vec<Value> = vec![(HolderKind::Agent as i64).into()];
    if let Some(agent) = agent {
        values.push(agent.into());
        sql.push_str(&format!(" AND name = ${}", values.len()));
    }
    if let Some(before) = before {
        values.push(before.into());
        sql.push_str(&format!(" AND id < ${}", values.len()));
    }
    values.push(i64::from(limit).into());
    sql.push_str(&format!(" ORDER BY id DESC LIMIT ${}", values.len()));
    db.rows(sql, values).await?.iter().map(StoredLineage::from_row).collect()
}

/// How many lineages [`page`] has on all pages.
pub(super) async fn count(db: &Db, agent: Option<&Name>) -> Result<u64, DbError> {
    let sql = "SELECT count(*) FROM lineage WHERE kind = $1 AND instance IS NOT NULL";
    let kind = (HolderKind::Agent as i64).into();
    match agent {
        None => db.count(sql, vec![kind]).await,
        Some(agent) => db.count(format!("{sql} AND name = $2"), vec![kind, agent.into()]).await,
    }
}

/// Where these lineages stand.
pub(super) async fn find(
    transaction: &mut Transaction,
    ids: HashSet<Lineage>,
) -> Result<HashMap<Lineage, Newest>, DbError> {
    let rows = NEWEST.run(transaction, &[], ids.into_iter().map(|id| [id.into()]).collect()).await?;
    rows.iter().map(|row| Ok((row.read(0)?, Newest::from_row(row)?))).collect()
}

/// How many instances of these agents live.
pub(super) async fn count_live(
    transaction: &mut Transaction,
    agents: HashSet<Name>,
    now: Timestamp,
) -> Result<HashMap<Name, u64>, DbError> {
    let leading = [(HolderKind::Agent as i64).into(), now.into()];
    let rows = LIVE.run(transaction, &leading, agents.iter().map(|agent| [agent.into()]).collect()).await?;
    let mut live: HashMap<Name, u64> = agents.into_iter().map(|agent| (agent, 0)).collect();
    for row in &rows {
        live.insert(row.read(0)?, row.read(1)?);
    }
    Ok(live)
}

/// Writes new rows.
pub(super) async fn insert(transaction: &mut Transaction, rows: Vec<StoredLineage>) -> Result<(), DbError> {
    INSERT_NEWEST.run(transaction, rows.iter().map(StoredLineage::newest)).await?;
    INSERT.run(transaction, rows.into_iter().map(StoredLineage::into_values)).await.map(drop)
}

/// Moves lineages on; returns how many stood as they were expected to.
pub(super) async fn renew(transaction: &mut Transaction, at: Timestamp, renewed: Vec<Renewed>) -> Result<u64, DbError> {
    RENEW.run(transaction, renewed.into_iter().map(|one| one.into_values(at))).await
}

/// A lineage moved on from the certificate that was shown to the one that follows it.
pub(super) struct Renewed {
    pub(super) id: Lineage,
    pub(super) from: Serial,
    pub(super) serial: Serial,
    pub(super) key_digest: [u8; 32],
    pub(super) not_after: Timestamp,
}

impl Renewed {
    fn into_values(self, at: Timestamp) -> [Value; 5] {
        [self.id.into(), self.from.into(), self.serial.into(), self.not_after.into(), at.into()]
    }
}

/// Marks what a final entry names as over, so that it counts no longer among the live instances.
pub(super) async fn end(transaction: &mut Transaction, target: &Target) -> Result<(), DbError> {
    let (sql, value) = match target {
        Target::Lineage(id) => ("UPDATE newest SET ended = 1 WHERE lineage = $1", (*id).into()),
        Target::Instance(id) => {
            ("UPDATE newest SET ended = 1 WHERE lineage IN (SELECT id FROM lineage WHERE instance = $1)", (*id).into())
        }
        Target::Serial(serial) => (
            "UPDATE newest SET ended = 1 \
             WHERE serial = $1 AND lineage = (SELECT lineage FROM certificate WHERE certificate.serial = $1)",
            (*serial).into(),
        ),
        _ => return Ok(()),
    };
    transaction.execute(sql, vec![value]).await.map(drop)
}

/// Lineages that one commit of a purge goes through.
const PURGED_AT_ONCE: u64 = 1024;

const SELECT: &str = "SELECT id, kind, name, instance, created_at, method, evidence, selectors, serial, not_after, \
                      session_end, ended FROM lineage JOIN newest ON newest.lineage = id";

pub(super) static NEWEST: SelectIn = SelectIn::new(
    "SELECT newest.lineage, newest.serial, newest.not_after, session_end, ended, previous, der \
     FROM newest JOIN certificate ON certificate.serial = newest.serial WHERE newest.lineage IN",
    "",
);
pub(super) static LIVE: SelectIn = SelectIn::new(
    "SELECT name, count(*) FROM lineage JOIN newest ON newest.lineage = id \
     WHERE kind = $1 AND not_after >= $2 AND ended = 0 AND name IN",
    "GROUP BY name",
);
static INSERT: Write<8> =
    Write::insert("INSERT INTO lineage (id, kind, name, instance, created_at, method, evidence, selectors) VALUES");
static INSERT_NEWEST: Write<5> =
    Write::insert("INSERT INTO newest (lineage, serial, not_after, session_end, ended) VALUES");
/// All that `Renew` asks of a lineage whose certificate is valid stands in the condition.
pub(super) static RENEW: Write<5> = Write::update(
    "UPDATE newest SET serial = $3, not_after = $4 \
     WHERE lineage = $1 AND serial = $2 AND ended = 0 AND (session_end IS NULL OR session_end > $5)",
    "UPDATE newest SET serial = column3, not_after = column4 FROM (VALUES",
    ") AS renewed WHERE lineage = column1 AND serial = column2 AND ended = 0 \
     AND (session_end IS NULL OR session_end > column5)",
);
