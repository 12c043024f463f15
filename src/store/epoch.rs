//! A database behind what was told of it: found out, and gone on from in a new epoch.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use chancery_api::{AuthorityKind, RevocationState, RevocationView};
use chancery_identity::{Effect, KeyId, Reason, Revocation, RevocationId, Target};
use chancery_tlog::{
    Chained, Decision as Logged, Hash, Head as Told, LastHead, LogRestarted, ProveError, root_from_tiles,
};

use super::batch::Batch;
use super::db::{Db, DbError};
use super::decision::{Cause, Committed, Decision, Rank, Undecided};
use super::head::Head;
use super::log::{self, SHA256};
use super::registry::parse;
use super::revocations::{NewEntry, enter};
use super::state::Position;

/// The database is behind what was told of it, or contradicts it. Nothing is decided on it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "two positions")]
pub struct RolledBack {
    /// What was told.
    pub told: Position,
    /// What the database has.
    pub found: Position,
}

impl fmt::Display for RolledBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { told, found } = self;
        let same = told == found;
        let but = if same { ", with other contents" } else { "" };
        write!(
            f,
            "epoch {}, revocation {} and {} log entries were signed; the database has epoch {}, revocation {} and {} log \
             entries{but}",
            told.epoch, told.n, told.log_size, found.epoch, found.n, found.log_size
        )
    }
}

/// Whether the database is behind a head that was signed, or contradicts it.
pub(super) async fn lost(db: &Db, told: &Told) -> Result<Option<RolledBack>, DbError> {
    let head = Head::read(db).await?;
    let found = head.position();
    let position = Position { epoch: told.epoch, log_size: told.tree.size, n: told.revocation.n };
    if found.epoch > told.epoch {
        return Ok(None);
    }
    let behind = found.epoch < told.epoch || found.log_size < told.tree.size || found.n < told.revocation.n;
    let lost = behind || !chain_agrees(db, told.revocation).await? || !root_agrees(db, told).await?;
    Ok(lost.then_some(RolledBack { told: position, found }))
}

async fn chain_agrees(db: &Db, told: Chained) -> Result<bool, DbError> {
    let row = db.row("SELECT chain FROM feed_entry WHERE n = $1", vec![told.n.into()]).await?;
    // An epoch begins its chain anew, after a number that may have no entry here.
    let begins = told == Chained::start(told.n);
    Ok(match row {
        Some(row) => begins || Hash(row.read(0)?) == told.hash,
        None => begins,
    })
}

/// The root of as many entries as were told of, from the tiles at its right edge.
async fn root_agrees(db: &Db, told: &Told) -> Result<bool, DbError> {
    let mut tiles = HashMap::new();
    loop {
        let read = |tile| tiles.get(&tile).cloned().ok_or(());
        match root_from_tiles(SHA256, told.tree.size, read) {
            Ok(root) => return Ok(root == told.tree.root),
            Err(ProveError::Read { tile, .. }) => {
                tiles.insert(tile, log::tile(db, tile).await?);
            }
            Err(_) => return Ok(false),
        }
    }
}

/// Goes on from a database that lost something: a new epoch with a log of its own.
///
/// What holds up issuance or requests is entered again, under the id it had; the issuing authorities are retired, as they
/// signed certificates that this database knows nothing of; join and API tokens are void, as some may have been spent or
/// deleted.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "whoever decides sets all of it")]
pub struct NewEpoch {
    /// On whose behalf.
    pub cause: Cause,
    /// The newest head that was told.
    pub kept: LastHead,
    /// Entries in force that others kept and the database may lack.
    pub import: Vec<Revocation>,
}

/// How a new epoch begins.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "whoever reports it reads all of it")]
pub struct Restarted {
    /// The epoch.
    pub epoch: u64,
    /// The newest number: those of all earlier epochs are below the first of it.
    pub n: u64,
    /// The entries that hold on.
    pub entered: Vec<RevocationView>,
    /// The issuing authorities that were retired.
    pub authorities: Vec<KeyId>,
}

impl Decision for NewEpoch {
    type Reply = Restarted;

    const RANK: Rank = Rank::Revocation;

    async fn decide(&self, batch: &mut Batch<'_>) -> Result<Committed<Restarted>, Undecided> {
        let restored = batch.head().last();
        let imported = self.import.iter().map(|entry| entry.n).max().unwrap_or(0);
        let epoch = self.kept.epoch.max(restored.epoch) + 1;
        let n = self.kept.n.max(restored.n).max(imported);
        let held = holding(batch, &self.import).await?;
        for sql in ARCHIVE {
            let values = if sql.contains("$1") { vec![restored.epoch.into()] } else { Vec::new() };
            batch.transaction().execute(*sql, values).await?;
        }
        batch.restart(epoch, n);
        let restarted = LogRestarted { kept: self.kept, restored };
        let begun = batch.log(&self.cause, Vec::new(), Logged::LogRestart(restarted), ())?;
        let mut authorities = Vec::new();
        for authority in batch.state().authorities() {
            let target = Target::Authority(authority.key_id);
            let stopped = held.iter().any(|entry| entry.target == target && entry.effect == Effect::Retire);
            if authority.kind == AuthorityKind::Issuing && !stopped {
                let comment = "the database was restored: what it signed since is not known".to_owned();
                let (effect, reason) = (Effect::Retire, Reason::Superseded);
                let entry = NewEntry { id: None, target, effect, reason, comment, cascade: true, fence: None };
                enter(batch, &self.cause, entry).await?;
                authorities.push(authority.key_id);
            }
        }
        let mut entered = Vec::new();
        for entry in held {
            let sql = "DELETE FROM revocation WHERE id = $1";
            batch.transaction().execute(sql, vec![entry.id.unwrap_or(NONE).into()]).await?;
            entered.push(enter(batch, &self.cause, entry).await?);
        }
        let n = batch.next_revocation() - 1;
        Ok(Committed::new(Restarted { epoch, n, entered, authorities }, begun.log_index(), begun.at()))
    }
}

const NONE: RevocationId = RevocationId::from_bytes([0; 16]);

const ARCHIVE: &[&str] = &[
    "INSERT INTO past_log_entry (epoch, position, at, action, salt, record, commitment) \
     SELECT CAST($1 AS BIGINT), position, at, action, salt, record, commitment FROM log_entry",
    "DELETE FROM log_entry",
    "DELETE FROM log_node",
    "DELETE FROM join_token",
    "DELETE FROM api_token",
];

/// What is in force and holds something up, in the database or as others kept it, in the order of its numbers.
async fn holding(batch: &mut Batch<'_>, import: &[Revocation]) -> Result<Vec<NewEntry>, DbError> {
    let mut held = BTreeMap::new();
    let sql = "SELECT document FROM revocation WHERE effect <> 'revoke' ORDER BY n";
    let mut known = HashMap::new();
    for row in batch.transaction().rows(sql, vec![]).await? {
        let view: RevocationView = parse(&row.read::<String>(0)?)?;
        known.insert(view.id, view.clone());
        if view.state == RevocationState::InForce {
            held.insert(view.n, again(&Revocation::from(&view), view.comment));
        }
    }
    for entry in import.iter().filter(|entry| entry.effect != Effect::Revoke && !known.contains_key(&entry.id)) {
        let comment = format!("imported: revocation {} of epoch {}", entry.n, entry.epoch);
        held.insert(entry.n, again(entry, comment));
    }
    // Two epochs may have used one number; what the database itself holds by id is never replaced.
    Ok(held.into_values().collect())
}

fn again(entry: &Revocation, comment: String) -> NewEntry {
    let Revocation { id, target, effect, reason, cascade, .. } = entry.clone();
    NewEntry { id: Some(id), target, effect, reason, comment, cascade, fence: None }
}
