//! How a certificate is decided on: issued, renewed, answered again.

use std::sync::Arc;

use chancery_ca::Signed;
use chancery_identity::{Certificate, Lineage, Serial, Timestamp};
use chancery_tlog::{Decision as Logged, Issued as IssuedRecord, Renewed as RenewedRecord};

use super::batch::{Batch, Wanted};
use super::certificates::{self, CertificateRow};
use super::db::DbError;
use super::decision::{Cause, Committed, Decision, Holder, HolderKind, Rank, Refused, Undecided};
use super::lineages::{Renewed, StoredLineage};
use super::log::SHA256;
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

    fn row(&self, holder: &Holder, previous: Option<Serial>, log_index: u64) -> CertificateRow {
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
            previous,
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
        let lineage = StoredLineage {
            id: lineage,
            holder: subject,
            instance: holder.instance,
            serial: new.certificate.serial,
            not_after: new.certificate.not_after,
            session_end: self.session_end,
            ended: false,
            created_at: batch.at(),
            method: grant.map(|grant| grant.attestation.method.clone()).unwrap_or_default(),
            evidence: grant.map(|grant| grant.attestation.digest).unwrap_or_default(),
            selectors: self.selectors.clone(),
        };
        batch.add_lineage(lineage, new.key_digest);
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
        if self.previous.grant.as_ref().is_none_or(|grant| grant.lineage != id)
            || self.previous.spiffe_id != new.certificate.spiffe_id
        {
            return Err(over().into());
        }
        if !batch.reads_lineages() {
            let decided = self.follow(batch, &new, holder, id).await;
            // The key of a certificate that had ended is in no memory.
            if decided.is_err() || self.previous.not_after < batch.at() {
                batch.doubt();
            }
            return decided;
        }
        let newest = batch.found.lineages.get(&id).cloned().ok_or_else(over)?;
        if newest.ended || newest.session_end.is_some_and(|end| end <= batch.at()) {
            return Err(over().into());
        }
        if self.previous.serial != newest.serial {
            if newest.previous == Some(self.previous.serial) && newest.key_digest == new.key_digest {
                return replay(batch, newest.serial).await;
            }
            let entry = super::revocations::suspend_fork(batch, id, self.previous.serial).await?;
            return Err(Refused::Fork { presented: self.previous.serial, entry: Box::new(entry) }.into());
        }
        if newest.key_digest == new.key_digest {
            return Err(Refused::KeyReused.into());
        }
        self.follow(batch, &new, holder, id).await
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
    batch.add_certificate(new.row(holder, previous, committed.log_index()));
    Ok(committed)
}

/// The certificate that was answered before, unless it was stopped since.
async fn replay(batch: &mut Batch<'_>, serial: Serial) -> Result<Committed<Issued>, Undecided> {
    let stored = certificates::read_in(batch.reading(), serial).await?.ok_or(DbError::Column { column: 0 })?;
    refuse_stopped(batch, &stored.certificate)?;
    let issued = Issued { certificate: Arc::new(stored.certificate), der: stored.der.into(), replayed: true };
    Ok(Committed::new(issued, stored.log_index, stored.issued_at))
}
