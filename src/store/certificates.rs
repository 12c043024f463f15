//! Certificates: issued, renewed, replayed, found.

use std::sync::Arc;

use chancery_ca::Signed;
use chancery_identity::{Certificate, KeyId, Leaf, Lineage, Name, Serial, Timestamp};
use chancery_tlog::{Decision as Logged, Issued as IssuedRecord, Renewed as RenewedRecord};

use super::batch::{Batch, Wanted};
use super::db::{Db, DbError, Row, Transaction, Value};
use super::decision::{Cause, Committed, Decision, Holder, HolderKind, Rank, Refused, Undecided};
use super::lineages::{Renewed, StoredLineage};
use super::log::SHA256;
use super::rows::Write;
use super::tokens::Spent;

/// A certificate that was signed and is in nobody's hands yet.
#[derive(Debug)]
struct New<'a> {
    certificate: &'a Arc<Certificate>,
    der: &'a Arc<[u8]>,
    key_digest: [u8; 32],
}

impl<'a> New<'a> {
    fn of(signed: &'a Signed) -> Self {
        Self { certificate: signed.certificate(), der: signed.der(), key_digest: *signed.key().sha256() }
    }

    fn holder(&self) -> Result<Holder, Refused> {
        Holder::of(&self.certificate.spiffe_id).ok_or_else(|| Refused::NotOurs(self.certificate.spiffe_id.clone()))
    }

    fn lineage(&self) -> Result<Lineage, Refused> {
        let grant = self.certificate.grant.as_ref();
        grant.map(|grant| grant.lineage).ok_or_else(|| Refused::NotOurs(self.certificate.spiffe_id.clone()))
    }

    fn row(&self, holder: &Holder, log_index: u64) -> CertificateRow {
        CertificateRow {
            serial: self.certificate.serial,
            authority: self.certificate.authority,
            kind: holder.kind as i64,
            name: holder.name.clone(),
            lineage: self.certificate.grant.as_ref().map(|grant| grant.lineage),
            delegated: self.certificate.grant.as_ref().is_some_and(|grant| !grant.chain.is_empty()),
            not_after: self.certificate.not_after,
            log_index,
            der: self.der.clone(),
        }
    }

    fn issued(&self) -> Issued {
        Issued { certificate: self.certificate.clone(), der: self.der.clone(), replayed: false }
    }
}

/// A certificate that may leave.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "whoever answers reads all of it")]
pub struct Issued {
    /// What it says.
    pub certificate: Arc<Certificate>,
    /// The certificate.
    pub der: Arc<[u8]>,
    /// Whether it was issued before: a lost reply, asked for again with the same key.
    pub replayed: bool,
}

/// The first certificate of a lineage, for evidence that was shown.
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "whoever decides sets all of it")]
pub struct Issue {
    /// On whose behalf.
    pub cause: Cause,
    /// The certificate.
    pub signed: Signed,
    /// The evidence that it spends.
    pub spends: Option<Spent>,
    /// How many instances of the agent may live at once.
    pub max_instances: Option<u32>,
    /// When the lineage must begin anew.
    pub session_end: Option<Timestamp>,
    /// The facts that came out of the evidence.
    pub selectors: Vec<String>,
}

impl Decision for Issue {
    type Reply = Issued;

    const RANK: Rank = Rank::Certificate;

    fn wants(&self, wanted: &mut Wanted) {
        let new = New::of(&self.signed);
        wanted.keys.insert(new.key_digest);
        if let Some(spends) = &self.spends {
            spends.wants(new.key_digest, wanted);
        }
        if let (Some(max), Ok(holder)) = (self.max_instances, new.holder()) {
            let (more, lowest) = wanted.instances.entry(holder.name).or_insert((0, max.into()));
            *more += 1;
            *lowest = (*lowest).min(max.into());
        }
    }

    async fn decide(&self, batch: &mut Batch<'_>) -> Result<Committed<Issued>, Undecided> {
        let new = New::of(&self.signed);
        let holder = new.holder()?;
        let lineage = new.lineage()?;
        let subject = holder.subject().ok_or_else(|| Refused::NotOurs(new.certificate.spiffe_id.clone()))?;
        refuse_stopped(batch, new.certificate)?;
        refuse_changed(batch, &holder, new.certificate)?;
        if let Some(spends) = &self.spends
            && let Some(serial) = spends.check(batch, new.key_digest).await?
        {
            return replay(batch, serial).await;
        }
        if let Some(other) = batch.found.keys.get(&new.key_digest) {
            return Err(Refused::KeyInUse(*other).into());
        }
        if let Some(max) = self.max_instances {
            let live = batch.instances.entry(holder.name.clone()).or_default();
            if *live >= u64::from(max) {
                return Err(Refused::Instances { live: *live, max }.into());
            }
            *live += 1;
        }
        let grant = new.certificate.grant.as_ref();
        batch.add_lineage(StoredLineage {
            id: lineage,
            holder: subject,
            instance: holder.instance,
            serial: new.certificate.serial,
            key_digest: new.key_digest,
            previous_serial: None,
            not_after: new.certificate.not_after,
            session_end: self.session_end,
            ended: false,
            created_at: batch.at(),
            method: grant.map(|grant| grant.attestation.method.clone()).unwrap_or_default(),
            evidence: grant.map(|grant| grant.attestation.digest).unwrap_or_default(),
            selectors: self.selectors.clone(),
        });
        if let Some(spends) = &self.spends {
            batch.add_redemption(spends.on(new.key_digest, new.certificate.serial, batch.at()));
        }
        record(batch, &self.cause, &new, &holder, None)
    }
}

/// The issuer's own certificate: no lineage, no grant, no evidence.
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "whoever decides sets all of it")]
pub struct IssueOwn {
    /// The certificate.
    pub signed: Signed,
}

impl Decision for IssueOwn {
    type Reply = Issued;

    const RANK: Rank = Rank::Certificate;

    async fn decide(&self, batch: &mut Batch<'_>) -> Result<Committed<Issued>, Undecided> {
        let new = New::of(&self.signed);
        let holder = new.holder()?;
        if holder.kind != HolderKind::Issuer {
            return Err(Refused::NotOurs(new.certificate.spiffe_id.clone()).into());
        }
        record(batch, &Cause::ISSUER, &new, &holder, None)
    }
}

/// The certificate that follows another of the same lineage.
///
/// A certificate is renewed once: the same key again gets the same answer, another key is a fork and suspends the lineage.
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "whoever decides sets all of it")]
pub struct Renew {
    /// On whose behalf.
    pub cause: Cause,
    /// The certificate.
    pub signed: Signed,
    /// The one that was shown.
    pub previous: Arc<Certificate>,
    /// The evidence that it spends: a nonce, where the one shown had expired.
    pub spends: Option<Spent>,
}

impl Decision for Renew {
    type Reply = Issued;

    const RANK: Rank = Rank::Certificate;

    fn wants(&self, wanted: &mut Wanted) {
        let new = New::of(&self.signed);
        wanted.keys.insert(new.key_digest);
        wanted.lineages.extend(new.lineage());
        if let Some(spends) = &self.spends {
            spends.wants(new.key_digest, wanted);
            // A certificate that had ended: its instance lives again, beside those that others of this batch begin.
            if let Ok(holder) = new.holder() {
                wanted.instances.entry(holder.name).or_insert((0, u64::MAX)).0 += 1;
            }
        }
    }

    async fn decide(&self, batch: &mut Batch<'_>) -> Result<Committed<Issued>, Undecided> {
        let new = New::of(&self.signed);
        let holder = new.holder()?;
        let id = new.lineage()?;
        // Who rejoins shows a certificate that the store holds byte for byte: that its authority is stopped says nothing of
        // the lineage.
        if self.spends.is_some() {
            refuse_stopped(
                batch,
                &Certificate { authority: new.certificate.authority, ..Certificate::clone(&self.previous) },
            )?;
        } else {
            refuse_stopped(batch, &self.previous)?;
        }
        refuse_stopped(batch, new.certificate)?;
        let over = || Refused::LineageOver(id);
        if self.previous.grant.as_ref().is_none_or(|grant| grant.lineage != id) {
            return Err(over().into());
        }
        let subject = holder.subject().ok_or_else(over)?;
        if !batch.reads_lineages() {
            let decided = self.follow(batch, &new, holder, id, subject).await;
            if decided.is_err() {
                batch.doubt();
            }
            return decided;
        }
        let lineage = batch.found.lineages.get(&id).cloned().ok_or_else(over)?;
        if lineage.ended || lineage.session_end.is_some_and(|end| end <= batch.at()) || lineage.holder != subject {
            return Err(over().into());
        }
        if self.previous.serial != lineage.serial {
            if lineage.previous_serial == Some(self.previous.serial) && lineage.key_digest == new.key_digest {
                return replay(batch, lineage.serial).await;
            }
            let entry = super::revocations::suspend_fork(batch, id, self.previous.serial).await?;
            return Err(Refused::Fork { presented: self.previous.serial, entry: Box::new(entry) }.into());
        }
        if lineage.key_digest == new.key_digest {
            return Err(Refused::KeyReused.into());
        }
        self.follow(batch, &new, holder, id, subject).await
    }
}

impl Renew {
    /// Queues the renewal of a lineage whose newest certificate is the one that was shown.
    async fn follow(
        &self,
        batch: &mut Batch<'_>,
        new: &New<'_>,
        holder: Holder,
        id: Lineage,
        subject: chancery_api::Subject,
    ) -> Result<Committed<Issued>, Undecided> {
        refuse_changed(batch, &holder, new.certificate)?;
        if let Some(spends) = &self.spends {
            spends.check(batch, new.key_digest).await?;
        }
        if let Some(other) = batch.found.keys.get(&new.key_digest) {
            return Err(Refused::KeyInUse(*other).into());
        }
        if self.previous.not_after < batch.at()
            && let Some(live) = batch.instances.get_mut(&holder.name)
        {
            // It had ended, and lives again.
            *live += 1;
        }
        batch.renew_lineage(Renewed {
            id,
            holder: subject,
            from: self.previous.serial,
            serial: new.certificate.serial,
            key_digest: new.key_digest,
            not_after: new.certificate.not_after,
        });
        if let Some(spends) = &self.spends {
            batch.add_redemption(spends.on(new.key_digest, new.certificate.serial, batch.at()));
        }
        record(batch, &self.cause, new, &holder, Some(self.previous.serial))
    }
}

/// What became a fact since the plan was made: the entries newer than what it saw, and those that block for good.
fn refuse_stopped(batch: &Batch<'_>, certificate: &Certificate) -> Result<(), Refused> {
    batch.blocking(certificate).map_or(Ok(()), |entry| Err(Refused::Stopped(Box::new(entry))))
}

/// A grant is within what its record allows now: one that was planned under an earlier revision is planned again.
fn refuse_changed(batch: &Batch<'_>, holder: &Holder, certificate: &Certificate) -> Result<(), Refused> {
    let found = match holder.kind {
        HolderKind::Agent => batch.revision::<chancery_api::Agent>(&holder.name),
        HolderKind::Service => batch.revision::<chancery_api::Service>(&holder.name),
        HolderKind::Admin => batch.revision::<chancery_api::Admin>(&holder.name),
        HolderKind::Issuer => return Ok(()),
    };
    let record = || format!("{}:{}", holder.kind.as_str(), holder.name);
    let wanted = certificate.grant.as_ref().map_or(0, |grant| grant.revision);
    match found {
        None => Err(Refused::NoRecord(record())),
        Some(found) if found == wanted => Ok(()),
        Some(found) => Err(Refused::Revision { record: record(), wanted, found }),
    }
}

/// Queues row and log entry.
fn record(
    batch: &mut Batch<'_>,
    cause: &Cause,
    new: &New<'_>,
    holder: &Holder,
    previous: Option<Serial>,
) -> Result<Committed<Issued>, Undecided> {
    let certificate = new.certificate.clone();
    let sha256 = SHA256.digest(&[new.der]);
    let subjects = vec![[holder.kind.as_str(), ":", holder.name.as_str()].concat()];
    let decision = match previous {
        None => Logged::Issue(IssuedRecord { certificate, sha256 }),
        Some(previous) => Logged::Renew(RenewedRecord { certificate, previous, sha256 }),
    };
    let committed = batch.log(cause, subjects, decision, new.issued())?;
    batch.add_certificate(new.row(holder, committed.log_index()));
    Ok(committed)
}

/// The certificate that was answered before, unless it was stopped since.
async fn replay(batch: &mut Batch<'_>, serial: Serial) -> Result<Committed<Issued>, Undecided> {
    let row = batch.reading().row(BY_SERIAL, vec![serial.into()]).await?;
    let stored = row.map(|row| StoredCertificate::from_row(&row)).transpose()?.ok_or(DbError::Column { column: 0 })?;
    refuse_stopped(batch, &stored.certificate)?;
    Ok(stored.replayed())
}

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

    /// The answer that it was, again.
    pub(super) fn replayed(self) -> Committed<Issued> {
        let issued = Issued { certificate: Arc::new(self.certificate), der: self.der.into(), replayed: true };
        Committed::new(issued, self.log_index, self.issued_at)
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

/// One certificate.
pub(super) async fn read(db: &Db, serial: Serial) -> Result<Option<StoredCertificate>, DbError> {
    db.row(BY_SERIAL, vec![serial.into()]).await?.map(|row| StoredCertificate::from_row(&row)).transpose()
}

/// Whether an authority signed a certificate that is valid at `at` or later. What ends soonest is looked at first: an
/// authority that no longer signs is found out by it.
pub(super) async fn any_valid_at(db: &Db, authority: KeyId, at: Timestamp) -> Result<bool, DbError> {
    let sql = "SELECT key FROM certificate WHERE not_after >= $1 AND authority = $2 ORDER BY not_after LIMIT 1";
    Ok(db.row(sql, vec![at.into(), authority.into()]).await?.is_some())
}

/// The newest certificates of a query, newest first, at most `limit`.
pub(super) async fn find(db: &Db, query: &Query, limit: u32) -> Result<Vec<StoredCertificate>, DbError> {
    let (mut sql, mut values) = found_by(SELECT, query);
    values.push(i64::from(limit).into());
    sql.push_str(&format!(" ORDER BY key DESC LIMIT ${}", values.len()));
    db.rows(sql, values).await?.iter().map(StoredCertificate::from_row).collect()
}

/// How many certificates a query finds on all pages; the issuer's own are nobody's to list.
pub(super) async fn count(db: &Db, query: &Query) -> Result<u64, DbError> {
    let select = "SELECT count(*) FROM certificate";
    let (mut sql, mut values) = found_by(select, &Query { before: None, ..query.clone() });
    values.push((HolderKind::Issuer as i64).into());
    sql.push_str(&format!(" AND kind <> ${}", values.len()));
    db.count(sql, values).await
}

fn found_by(select: &str, query: &Query) -> (String, Vec<Value>) {
    let mut sql = format!("{select} WHERE 1 = 1");
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
        and(" AND not_after >= $$", at.into());
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
    let rows = rows.into_iter().enumerate().map(|(after, row)| row.into_values(first + after as u64));
    INSERT.run(transaction, rows).await.map(drop)
}

/// The row of a certificate. All else that it says is in its DER.
pub(super) struct CertificateRow {
    serial: Serial,
    authority: KeyId,
    kind: i64,
    name: Name,
    lineage: Option<Lineage>,
    delegated: bool,
    pub(super) not_after: Timestamp,
    log_index: u64,
    der: Arc<[u8]>,
}

impl CertificateRow {
    fn into_values(self, key: u64) -> [Value; 10] {
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
        ]
    }
}

const SELECT: &str = "SELECT key, der, log_index, log_entry.at, (SELECT epoch FROM head) FROM certificate \
                      LEFT JOIN log_entry ON position = log_index";
const BY_SERIAL: &str = "SELECT key, der, log_index, log_entry.at, (SELECT epoch FROM head) FROM certificate \
                         LEFT JOIN log_entry ON position = log_index WHERE serial = $1";

static INSERT: Write<10> = Write::insert(
    "INSERT INTO certificate (key, serial, authority, kind, name, lineage, delegated, not_after, log_index, der) VALUES",
);
