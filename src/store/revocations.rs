//! The revocation sequence: entries that stop, and resumes that end them.

use chancery_api::{
    FeedEntry, FeedResume, FeedRevocation, Resume as ResumeView, RevocationState, RevocationView, Subject,
};
use chancery_identity::{
    Certificate, Effect, KeyId, Leaf, Lineage, Name, Reason, Revocation, RevocationId, Serial, Target, Timestamp,
};
use chancery_tlog::{Decision as Logged, Resumed as ResumedRecord, Revoked as RevokedRecord};

use super::batch::Batch;
use super::certificates::{self, VALID};
use super::db::{Db, DbError, Row, Value};
use super::decision::{Cause, Committed, Decision, HolderKind, Rank, Refused, Undecided};
use super::feed;
use super::lineages;
use super::log;
use super::registry::{document, parse};
use super::state::{Change, Memory};

/// Stops what is named: an entry for each target, all in one commit.
///
/// A suspend, retire or forbid that is in force already is answered with, not entered again.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "whoever decides sets all of it")]
pub struct Revoke {
    /// On whose behalf.
    pub cause: Cause,
    /// What.
    pub targets: Vec<Target>,
    /// What happens to it.
    pub effect: Effect,
    /// Why, in the words of RFC 5280.
    pub reason: Reason,
    /// Why, in the operator's words.
    pub comment: String,
    /// Whether descendants are meant too.
    pub cascade: bool,
}

impl Decision for Revoke {
    type Reply = Vec<RevocationView>;

    const RANK: Rank = Rank::Revocation;

    async fn decide(&self, batch: &mut Batch<'_>) -> Result<Committed<Vec<RevocationView>>, Undecided> {
        let mut plans = Vec::new();
        for target in &self.targets {
            check_effect(target, self.effect)?;
            let fence = match target {
                Target::IssuedBefore(at) if *at > batch.at() => return Err(Refused::InFuture(*at).into()),
                Target::IssuedBefore(at) => match log::first_at_or_after(batch, *at).await? {
                    0 => return Err(Refused::BeforeFirst(*at).into()),
                    first => Some(first - 1),
                },
                _ => None,
            };
            plans.push((target, fence));
        }
        let mut first: Option<(u64, Timestamp)> = None;
        let mut views = Vec::new();
        for (target, fence) in plans {
            let view = match self.in_force(batch, target) {
                Some(n) => read_for_update(batch, "n = $1", n.into()).await?.ok_or(Refused::NoRevocation)?,
                None => {
                    let entry = NewEntry {
                        id: None,
                        target: target.clone(),
                        effect: self.effect,
                        reason: self.reason,
                        comment: self.comment.clone(),
                        cascade: self.cascade,
                        fence,
                    };
                    enter(batch, &self.cause, entry).await?
                }
            };
            first.get_or_insert((view.log_index, view.created_at));
            views.push(view);
        }
        let (log_index, at) = first.unwrap_or((batch.log_size(), batch.at()));
        Ok(Committed::new(views, log_index, at))
    }
}

impl Revoke {
    /// The number of the entry that does already what this would.
    fn in_force(&self, batch: &Batch<'_>, target: &Target) -> Option<u64> {
        let same = |entry: &Revocation| {
            entry.target == *target && entry.effect == self.effect && (entry.cascade || !self.cascade)
        };
        if self.effect == Effect::Revoke {
            // What exists now is more than what existed then.
            return None;
        }
        let resumed =
            |n: u64| batch.changes().iter().any(|change| matches!(change, Change::Resumed(other) if *other == n));
        let new = batch.changes().iter().find_map(|change| match change {
            Change::Entry(entry) if same(entry) => Some(entry.n),
            _ => None,
        });
        let held = || batch.state().naming(target).into_iter().find(|entry| same(entry)).map(|entry| entry.n);
        new.or_else(held).filter(|n| !resumed(*n))
    }
}

/// Ends a suspension or a forbidding. One that was resumed before is answered with.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "whoever decides sets all of it")]
pub struct Resume {
    /// On whose behalf.
    pub cause: Cause,
    /// The entry that it ends.
    pub id: RevocationId,
    /// Why, in the operator's words.
    pub comment: String,
}

impl Decision for Resume {
    type Reply = RevocationView;

    const RANK: Rank = Rank::Revocation;

    async fn decide(&self, batch: &mut Batch<'_>) -> Result<Committed<RevocationView>, Undecided> {
        let view = read_for_update(batch, "id = $1", self.id.into()).await?.ok_or(Refused::NoRevocation)?;
        if !view.effect.resumable() {
            return Err(Refused::Final.into());
        }
        if let Some(resume) = &view.resumed_by {
            let (log_index, at) = (resume.log_index, resume.created_at);
            return Ok(Committed::new(view, log_index, at));
        }
        let n = batch.next_revocation();
        let resume = ResumeView {
            n,
            comment: self.comment.clone(),
            created_at: batch.at(),
            created_by: self.cause.actor.clone(),
            log_index: batch.log_size(),
        };
        let view = RevocationView { state: RevocationState::Resumed, resumed_by: Some(resume), ..view };
        let values = vec![n.into(), document(&view).into(), view.n.into()];
        let sql = "UPDATE revocation SET resumed_n = $1, document = $2 WHERE n = $3";
        batch.transaction().execute(sql, values).await?;
        batch.change(Change::Resumed(view.n));
        let (epoch, log_index, created_at) = (batch.epoch(), batch.log_size(), batch.at());
        let over_at = feed::over_at(batch, &view.target).await?;
        batch.feed(&FeedEntry::Resume(FeedResume { n, epoch, resumes: view.n, log_index, created_at }), over_at);
        let record = ResumedRecord { comment: said(&self.comment), id: view.id, n, resumes: view.n };
        let subjects = vec![view.target.to_string()];
        Ok(batch.log(&self.cause, subjects, Logged::Resume(record), view)?)
    }
}

/// Suspends a lineage of which somebody has a copy.
pub(super) async fn suspend_fork(
    batch: &mut Batch<'_>,
    lineage: Lineage,
    presented: Serial,
) -> Result<Revocation, Undecided> {
    let entry = NewEntry {
        id: None,
        target: Target::Lineage(lineage),
        effect: Effect::Suspend,
        reason: Reason::KeyCompromise,
        comment: format!("certificate {presented} was shown for renewal again, for another key"),
        cascade: true,
        fence: None,
    };
    Ok((&enter(batch, &Cause::ISSUER, entry).await?).into())
}

/// What is to be entered.
pub(super) struct NewEntry {
    /// `None`: a new one.
    pub(super) id: Option<RevocationId>,
    pub(super) target: Target,
    pub(super) effect: Effect,
    pub(super) reason: Reason,
    pub(super) comment: String,
    pub(super) cascade: bool,
    /// `None`: its own position.
    pub(super) fence: Option<u64>,
}

/// Enters it, as the next of the sequence.
pub(super) async fn enter(batch: &mut Batch<'_>, cause: &Cause, entry: NewEntry) -> Result<RevocationView, Undecided> {
    let NewEntry { id, target, effect, reason, comment, cascade, fence } = entry;
    let millis = u64::try_from(batch.at().unix_millis()).unwrap_or(0);
    let new = RevocationId::new(uuid::Builder::from_unix_timestamp_millis(millis, &batch.random()?).into_uuid());
    let id = id.unwrap_or(new);
    let log_index = batch.log_size();
    let view = RevocationView {
        id,
        epoch: batch.epoch(),
        n: batch.next_revocation(),
        target,
        effect,
        reason,
        comment,
        cascade,
        state: RevocationState::InForce,
        resumed_by: None,
        created_at: batch.at(),
        created_by: cause.actor.clone(),
        log_index,
        fence: fence.unwrap_or(log_index),
    };
    let values = vec![view.n.into(), id.into(), (&view.target).into(), (&effect).into(), document(&view).into()];
    let sql = "INSERT INTO revocation (n, id, target, effect, document) VALUES ($1, $2, $3, $4, $5)";
    batch.transaction().execute(sql, values).await?;
    if matches!(effect, Effect::Revoke | Effect::Retire) {
        lineages::end(batch.transaction(), &view.target).await?;
    }
    let record = RevokedRecord {
        cascade,
        comment: said(&view.comment),
        effect,
        fence: view.fence,
        id,
        n: view.n,
        reason,
        target: view.target.clone(),
    };
    let entry = Revocation::from(&view);
    let over_at = feed::over_at(batch, &view.target).await?;
    batch.feed(&FeedEntry::Revocation(FeedRevocation::from(&entry)), over_at);
    batch.change(Change::Entry(entry));
    let subjects = vec![view.target.to_string()];
    Ok(batch.log(cause, subjects, Logged::Revoke(record), view)?.into_reply())
}

fn said(comment: &str) -> Option<String> {
    (!comment.is_empty()).then(|| comment.to_owned())
}

fn check_effect(target: &Target, effect: Effect) -> Result<(), Refused> {
    match (target, effect) {
        (Target::Scope(_), _) => Ok(()),
        (_, Effect::Forbid) => Err(Refused::Effect("only a scope can be forbidden; suspend or retire the rest")),
        (Target::IssuedBefore(_), Effect::Suspend | Effect::Retire) => {
            Err(Refused::Effect("issued-before can only be revoked: nothing that would be issued is before it"))
        }
        _ => Ok(()),
    }
}

async fn read_for_update(
    batch: &mut Batch<'_>,
    condition: &str,
    value: Value,
) -> Result<Option<RevocationView>, DbError> {
    let row =
        batch.transaction().row(format!("SELECT document FROM revocation WHERE {condition}"), vec![value]).await?;
    row.map(|row| view(&row)).transpose()
}

/// Which entries. Nothing set: all.
#[derive(Clone, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "whoever searches sets what it wants")]
pub struct RevocationQuery {
    /// Those that name exactly this.
    pub target: Option<Target>,
    /// Those in force, or those resumed.
    pub state: Option<RevocationState>,
    /// With a number below this one.
    pub before: Option<u64>,
}

/// The newest entries of a query, newest first, at most `limit`.
pub(super) async fn find(db: &Db, query: &RevocationQuery, limit: u32) -> Result<Vec<RevocationView>, DbError> {
    let (mut sql, mut values) = found_by("document", query);
    values.push(i64::from(limit).into());
    sql.push_str(&format!(" ORDER BY n DESC LIMIT ${}", values.len()));
    db.rows(sql, values).await?.iter().map(view).collect()
}

/// How many entries a query finds on all pages.
pub(super) async fn count(db: &Db, query: &RevocationQuery) -> Result<u64, DbError> {
    let (sql, values) = found_by("count(*)", &RevocationQuery { before: None, ..query.clone() });
    db.count(sql, values).await
}

fn found_by(what: &str, query: &RevocationQuery) -> (String, Vec<Value>) {
    let mut sql = format!("SELECT {what} FROM revocation WHERE n < $1");
    let mut values: Vec<Value> = vec![query.before.unwrap_or(u64::MAX).into()];
    if let Some(target) = &query.target {
        values.push(target.into());
        sql.push_str(" AND target = $2");
    }
    match query.state {
        Some(RevocationState::InForce) => sql.push_str(" AND resumed_n IS NULL"),
        Some(RevocationState::Resumed) => sql.push_str(" AND resumed_n IS NOT NULL"),
        None => {}
    }
    (sql, values)
}

/// One entry.
pub(super) async fn read(db: &Db, id: RevocationId) -> Result<Option<RevocationView>, DbError> {
    let row = db.row("SELECT document FROM revocation WHERE id = $1", vec![id.into()]).await?;
    row.map(|row| view(&row)).transpose()
}

/// Reads the entries in force into memory, but for those that are forgotten.
pub(super) async fn load(db: &Db, memory: &mut Memory) -> Result<(), DbError> {
    // Those of an earlier epoch are below the floor of this one, and are still held against who rejoins.
    let sql = "SELECT r.document FROM revocation r LEFT JOIN feed_entry f ON f.n = r.n CROSS JOIN head h \
               WHERE r.resumed_n IS NULL AND (r.effect <> 'revoke' OR r.n > h.floor OR f.epoch < h.epoch) ORDER BY r.n";
    for row in db.rows(sql, vec![]).await? {
        let entry = Revocation::from(&view(&row)?);
        let target = entry.target.clone();
        memory.in_force.insert(entry);
        memory.refresh(&target);
    }
    Ok(())
}

fn view(row: &Row) -> Result<RevocationView, DbError> {
    parse(&row.read::<String>(0)?)
}

/// A certificate that an entry hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(clippy::exhaustive_structs, reason = "whoever lists it reads all of it")]
pub struct Hit {
    /// Who signed it, and so lists it.
    pub authority: KeyId,
    /// Which.
    pub serial: Serial,
    /// When it is over anyhow.
    pub not_after: Timestamp,
}

/// The certificates that an entry hits and that are valid at `at` or later.
///
/// Costs what the target names; owners, scopes, authorities, tasks and times are looked for in all that is valid.
pub(super) async fn hit_by(db: &Db, entry: &Revocation, at: Timestamp) -> Result<Vec<Hit>, DbError> {
    let mut hit = Vec::new();
    let mut each = |certificate: Certificate| {
        let Certificate { authority, serial, not_after, .. } = certificate;
        hit.push(Hit { authority, serial, not_after });
    };
    reach(db, entry, at, u64::MAX, &mut each).await?;
    Ok(hit)
}

/// Hands over each certificate that an entry hits and that is valid at `at` or later, of the first `looks` that it could
/// hit. Returns at how many it looked; at `looks` there may be more.
pub(super) async fn reach(
    db: &Db,
    entry: &Revocation,
    at: Timestamp,
    looks: u64,
    each: &mut (dyn FnMut(Certificate) + Send),
) -> Result<u64, DbError> {
    if entry.effect == Effect::Forbid {
        return Ok(0);
    }
    let holder = |kind: HolderKind, name: &Name| Some((kind as i64, name.to_string()));
    let (holder, of_holder) = match &entry.target {
        Target::Agent(name) => (holder(HolderKind::Agent, name), VALID),
        Target::Service(name) => (holder(HolderKind::Service, name), VALID),
        Target::Admin(name) => (holder(HolderKind::Admin, name), VALID),
        Target::Lineage(id) => (holder_of(db, "lineage WHERE id", (*id).into()).await?, VALID),
        Target::Instance(id) => (holder_of(db, "lineage WHERE instance", (*id).into()).await?, VALID),
        Target::Serial(serial) => {
            let one = "certificate WHERE not_after >= $1 AND serial = $2";
            hits(&select(db, one, vec![at.into(), (*serial).into()]).await?, entry, each)?;
            // Descendants have the holder of what they descend from.
            let holder =
                if entry.cascade { holder_of(db, "certificate WHERE serial", (*serial).into()).await? } else { None };
            (holder, VALID_DELEGATED)
        }
        _ => {
            let mut looked = 0;
            for block in certificates::blocks_valid_at(db, at).await? {
                let values = vec![at.into(), block.into(), i64::try_from(looks - looked).unwrap_or(i64::MAX).into()];
                let rows = select(db, &format!("{VALID} AND block.number = $2 LIMIT $3"), values).await?;
                hits(&rows, entry, each)?;
                looked += rows.len() as u64;
                if looked == looks {
                    break;
                }
            }
            return Ok(looked);
        }
    };
    let Some((kind, name)) = holder else { return Ok(0) };
    let values = vec![at.into(), kind.into(), name.into(), i64::try_from(looks).unwrap_or(i64::MAX).into()];
    let rows = select(db, &format!("{of_holder} AND kind = $2 AND name = $3 LIMIT $4"), values).await?;
    // The one that was found by its serial is not handed over again.
    let found = if let Target::Serial(serial) = &entry.target { Some(*serial) } else { None };
    let mut others = |certificate: Certificate| {
        if Some(certificate.serial) != found {
            each(certificate);
        }
    };
    hits(&rows, entry, &mut others)?;
    Ok(rows.len() as u64)
}

/// Whether an entry hits a certificate that a holder has at `at`; without one, the issuer itself.
pub(super) async fn hits_holder(
    db: &Db,
    entry: &Revocation,
    at: Timestamp,
    holder: Option<&Subject>,
) -> Result<bool, DbError> {
    let (kind, name) =
        holder.map_or((HolderKind::Issuer, "server"), |holder| (holder.kind().into(), holder.name().as_str()));
    let values = vec![at.into(), (kind as i64).into(), name.into()];
    let mut hit = false;
    let rows = select(db, &format!("{VALID} AND kind = $2 AND name = $3"), values).await?;
    hits(&rows, entry, &mut |_| hit = true)?;
    Ok(hit)
}

async fn select(db: &Db, from: &str, values: Vec<Value>) -> Result<Vec<Row>, DbError> {
    db.rows(format!("SELECT der FROM {from}"), values).await
}

fn hits(rows: &[Row], entry: &Revocation, each: &mut (dyn FnMut(Certificate) + Send)) -> Result<(), DbError> {
    for row in rows {
        let der: Vec<u8> = row.read(0)?;
        let certificate = Leaf::read(&der).map_err(DbError::Certificate)?.into_certificate();
        if entry.hits(&certificate) {
            each(certificate);
        }
    }
    Ok(())
}

async fn holder_of(db: &Db, place: &str, id: Value) -> Result<Option<(i64, String)>, DbError> {
    let row = db.row(format!("SELECT kind, name FROM {place} = $1"), vec![id]).await?;
    row.map(|row| Ok((row.read(0)?, row.read(1)?))).transpose()
}

const VALID_DELEGATED: &str = "certificate WHERE not_after >= $1 AND delegated = 1";
