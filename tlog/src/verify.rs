//! The offline check of a whole log: the tree recomputed, and every record held against the others.

use std::collections::{BTreeMap, HashMap};

use chancery_identity::{Certificate, Effect, KeyId, Revocation, Serial, Target, Timestamp};

use crate::decision::{CrlPublished, Decision, LogRestarted, Resumed, Revoked};
use crate::entry::{Commitment, Entry};
use crate::frontier::Frontier;
use crate::hash::{Hash, Sha256};
use crate::proof::Tree;
use crate::record::Record;

mod finding;

pub use finding::Finding;

/// Checks a whole log, from its first entry, against checkpoints of it.
///
/// See [`Audit`], which takes the entries one by one.
///
/// # Errors
/// All that is wrong, in the order of the log; at most 1,000 findings.
pub fn verify_log(
    sha256: Sha256,
    entries: impl IntoIterator<Item = Logged>,
    checkpoints: impl IntoIterator<Item = Tree>,
) -> Result<Report, Vec<Finding>> {
    let mut audit = Audit::new(sha256, checkpoints);
    entries.into_iter().for_each(|logged| audit.append(&logged));
    audit.finish()
}

/// One position of the log, as a reader has it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "an entry is there or it is not")]
pub enum Logged {
    /// Salt and record are at hand.
    Entry(Entry),
    /// They were deleted, or are not for this reader: only the commitment is left, and counts.
    Hidden(Commitment),
}

/// The check of a log in progress.
///
/// That the log is one: every checkpoint is of the tree that the entries make, and the largest one of all of them.
/// That it is lawful: records are canonical, of one epoch, and their times never fall; no serial twice; what was planned was planned before; each
/// certificate renewed at most once, and after its own entry; revocation numbers without a gap; nothing issued to a
/// target after its revocation, nor renewed from a revoked certificate; CRL numbers rise for each authority.
///
/// Holds about 100 bytes for each certificate. The time for each is that of matching the suspensions and retirements in
/// force. Hidden entries are given the benefit of the doubt, and counted.
#[derive(Debug)]
pub struct Audit {
    sha256: Sha256,
    checkpoints: BTreeMap<u64, Vec<Hash>>,
    frontier: Frontier,
    epoch: Option<u64>,
    at: Timestamp,
    issued: HashMap<Serial, IssuedAt>,
    stops: Vec<Stop>,
    /// Positions in `stops` of suspensions and retirements that were not resumed.
    in_force: Vec<usize>,
    newest: u64,
    crls: BTreeMap<KeyId, CrlPublished>,
    crl_count: u64,
    hidden: u64,
    /// Of these, the ones since the newest revocation: each may have been one more.
    hidden_since: u64,
    findings: Vec<Finding>,
}

impl Audit {
    /// Begins the check of a log that has these checkpoints.
    pub fn new(sha256: Sha256, checkpoints: impl IntoIterator<Item = Tree>) -> Self {
        let mut by_size: BTreeMap<u64, Vec<Hash>> = BTreeMap::new();
        checkpoints.into_iter().for_each(|tree| by_size.entry(tree.size).or_default().push(tree.root));
        let mut audit = Self {
            sha256,
            checkpoints: by_size,
            frontier: Frontier::empty(),
            epoch: None,
            at: Timestamp::MIN,
            issued: HashMap::new(),
            stops: Vec::new(),
            in_force: Vec::new(),
            newest: 0,
            crls: BTreeMap::new(),
            crl_count: 0,
            hidden: 0,
            hidden_since: 0,
            findings: Vec::new(),
        };
        audit.compare();
        audit
    }

    /// Takes the next entry.
    pub fn append(&mut self, logged: &Logged) {
        let index = self.frontier.size();
        let commitment = match logged {
            Logged::Entry(entry) => {
                match entry.record() {
                    Ok(record) => self.record(index, &record),
                    Err(error) => {
                        self.find(Finding::Record { index, error });
                        self.hide();
                    }
                }
                entry.commitment(self.sha256)
            }
            Logged::Hidden(commitment) => {
                self.hide();
                *commitment
            }
        };
        self.frontier.append(self.sha256, commitment.leaf_hash(self.sha256));
        self.compare();
    }

    /// Ends the check.
    ///
    /// # Errors
    /// All that is wrong, in the order of the log; at most 1,000 findings.
    pub fn finish(mut self) -> Result<Report, Vec<Finding>> {
        let entries = self.frontier.size();
        let signed = self.checkpoints.keys().next_back().copied();
        if signed != Some(entries) {
            self.find(Finding::Size { entries, signed });
        }
        if !self.findings.is_empty() {
            return Err(self.findings);
        }
        Ok(Report {
            entries,
            hidden: self.hidden,
            newest_revocation: self.newest,
            crls: self.crl_count,
            issued: self.issued,
            stops: self.stops,
        })
    }

    /// Compares the tree as it stands with the checkpoints of its size.
    fn compare(&mut self) {
        let size = self.frontier.size();
        let forked = self.checkpoints.get(&size).is_some_and(|roots| {
            let root = self.frontier.root(self.sha256);
            roots.iter().any(|signed| *signed != root)
        });
        if forked {
            self.find(Finding::Root { size });
        }
    }

    /// Counts an entry whose record is not known: it may have been a revocation, or a resume.
    fn hide(&mut self) {
        self.hidden += 1;
        self.hidden_since += 1;
        let stops = &self.stops;
        self.in_force.retain(|at| stops.get(*at).is_some_and(|stop| !stop.revocation.effect.resumable()));
    }

    fn record(&mut self, index: u64, record: &Record) {
        let epoch = *self.epoch.get_or_insert(record.epoch);
        if record.epoch != epoch {
            self.find(Finding::Epoch { index, wanted: epoch, got: record.epoch });
        }
        if record.at < self.at {
            self.find(Finding::Time { index, at: record.at, before: self.at });
        }
        self.at = self.at.max(record.at);
        let restarts = matches!(record.decision, Decision::LogRestart(_));
        if restarts != (index == 0 && epoch > 1) && (restarts || index == 0) {
            self.find(Finding::Restart { index, epoch });
        }
        match &record.decision {
            Decision::Issue(issued) => self.certificate(index, record, &issued.certificate, issued.sha256),
            Decision::Renew(renewed) => {
                self.renewal(index, renewed.previous, &renewed.certificate);
                self.certificate(index, record, &renewed.certificate, renewed.sha256);
            }
            Decision::Revoke(revoked) => self.revoked(index, record, revoked),
            Decision::Resume(resumed) => self.resumed(index, resumed),
            Decision::Crl(crl) => self.crl(index, crl),
            Decision::LogRestart(LogRestarted { kept, .. }) => self.newest = kept.n,
            Decision::Grant(_)
            | Decision::Delegate(_)
            | Decision::Approve(_)
            | Decision::Deny(_)
            | Decision::Registry(_)
            | Decision::Policy(_)
            | Decision::Ceremony(_) => {}
        }
    }

    fn certificate(&mut self, index: u64, record: &Record, certificate: &Certificate, sha256: Hash) {
        let serial = certificate.serial;
        let planned_at = certificate.grant.as_ref().map_or(index, |grant| grant.planned_at);
        if let Some(grant) = &certificate.grant {
            // What planning read cannot be newer than what was committed before this entry.
            let known = self.newest.saturating_add(self.hidden_since);
            if grant.epoch != record.epoch || grant.planned_at > index || grant.seen > known {
                self.find(Finding::Plan { index, serial });
            }
        }
        if let Some(n) = self.stopping(certificate, planned_at) {
            self.find(Finding::Stopped { index, serial, n });
        }
        let issued = IssuedAt { index, planned_at, sha256, renewed: false };
        match self.issued.get(&serial) {
            Some(first) => self.find(Finding::SerialTwice { serial, first: first.index, second: index }),
            None => drop(self.issued.insert(serial, issued)),
        }
    }

    /// The revocation that should have kept a certificate from being issued here.
    fn stopping(&self, certificate: &Certificate, planned_at: u64) -> Option<u64> {
        let blocks = |stop: &&Stop| stop.revocation.target.matches(certificate, stop.revocation.cascade);
        let held = self.in_force.iter().filter_map(|at| self.stops.get(*at)).find(blocks);
        // One that ends what exists: it came between the plan and the commit.
        let mut since = self.stops_since(planned_at).filter(|stop| stop.revocation.effect == Effect::Revoke);
        held.or_else(|| since.find(|stop| stop.revocation.hits(certificate))).map(|stop| stop.revocation.n)
    }

    fn renewal(&mut self, index: u64, previous: Serial, certificate: &Certificate) {
        // An epoch above the first renews what an earlier one issued, too.
        let complete = self.hidden == 0 && self.epoch.is_none_or(|epoch| epoch == 1);
        let Some(earlier) = self.issued.get_mut(&previous) else {
            if complete {
                self.find(Finding::NoPrevious { index, previous });
            }
            return;
        };
        let (forked, planned_at) = (earlier.renewed, earlier.planned_at);
        earlier.renewed = true;
        if forked {
            self.find(Finding::RenewedTwice { index, previous });
        }
        let ended = self.stops_since(planned_at).find(|stop| {
            let Revocation { effect, target, .. } = &stop.revocation;
            *effect == Effect::Revoke
                && match target {
                    Target::Serial(serial) => *serial == previous,
                    // What a whole lineage shares, the previous certificate had as well.
                    Target::Lineage(_)
                    | Target::Instance(_)
                    | Target::Agent(_)
                    | Target::Service(_)
                    | Target::Admin(_) => target.matches(certificate, false),
                    _ => false,
                }
        });
        if let Some(n) = ended.map(|stop| stop.revocation.n) {
            self.find(Finding::RenewedAfter { index, previous, n });
        }
    }

    /// Revocations committed at or after a position, in the order of the log.
    fn stops_since(&self, position: u64) -> impl Iterator<Item = &Stop> {
        let first = self.stops.partition_point(|stop| stop.revocation.log_index < position);
        self.stops.get(first..).unwrap_or_default().iter()
    }

    fn revoked(&mut self, index: u64, record: &Record, revoked: &Revoked) {
        self.number(index, revoked.n);
        let fence_holds = match revoked.target {
            Target::IssuedBefore(_) => revoked.fence <= index,
            _ => revoked.fence == index,
        };
        if !fence_holds {
            self.find(Finding::Fence { index, fence: revoked.fence });
        }
        if revoked.effect.blocks_issuance() {
            self.in_force.push(self.stops.len());
        }
        self.stops.push(Stop { revocation: revoked.revocation(record, index), resumed_by: None });
    }

    fn resumed(&mut self, index: u64, resumed: &Resumed) {
        self.number(index, resumed.n);
        let ended = self.stops.iter_mut().enumerate().rev().find(|(_, stop)| stop.revocation.n == resumed.resumes);
        let lawful = match ended {
            Some((at, stop)) => {
                let Revocation { id, effect, .. } = stop.revocation;
                let lawful = effect.resumable() && stop.resumed_by.is_none() && id == resumed.id;
                if lawful {
                    stop.resumed_by = Some(resumed.n);
                    self.in_force.retain(|blocking| *blocking != at);
                }
                lawful
            }
            None => self.hidden > 0,
        };
        if !lawful {
            self.find(Finding::Resume { index, resumes: resumed.resumes });
        }
    }

    /// Takes the number of an entry of the revocation sequence.
    fn number(&mut self, index: u64, n: u64) {
        let next = self.newest.saturating_add(1);
        if n < next || n - next > self.hidden_since {
            self.find(Finding::Number { index, wanted: next, got: n });
        }
        self.newest = self.newest.max(n);
        self.hidden_since = 0;
    }

    fn crl(&mut self, index: u64, crl: &CrlPublished) {
        let authority = crl.authority;
        if let Some(previous) = self.crls.get(&authority) {
            let (number, n) = (previous.number, previous.n);
            if crl.number <= number {
                self.find(Finding::CrlNumber { index, authority, previous: number, got: crl.number });
            }
            if crl.n < n {
                self.find(Finding::CrlFallsBack { index, authority, n: crl.n });
            }
        }
        if crl.n > self.newest.saturating_add(self.hidden_since) {
            self.find(Finding::CrlAhead { index, authority, n: crl.n });
        }
        self.crl_count += 1;
        self.crls.insert(authority, crl.clone());
    }

    fn find(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }
}

/// A log that is whole and lawful, and what it says about things outside it.
#[derive(Debug)]
pub struct Report {
    entries: u64,
    hidden: u64,
    newest_revocation: u64,
    crls: u64,
    issued: HashMap<Serial, IssuedAt>,
    stops: Vec<Stop>,
}

impl Report {
    /// How many entries there are.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// How many of them only count: their records were not seen.
    pub fn hidden(&self) -> u64 {
        self.hidden
    }

    /// How many certificates were issued or renewed.
    pub fn certificates(&self) -> usize {
        self.issued.len()
    }

    /// The number of the newest revocation or resume; 0 without any.
    pub fn newest_revocation(&self) -> u64 {
        self.newest_revocation
    }

    /// How many CRLs were published.
    pub fn crls(&self) -> u64 {
        self.crls
    }

    /// Checks that a certificate found elsewhere has its entry; returns the entry's index.
    ///
    /// # Errors
    /// No entry has its serial, or the one that does is of other bytes.
    pub fn certificate(&self, serial: Serial, sha256: Hash) -> Result<u64, Finding> {
        match self.issued.get(&serial) {
            None => Err(Finding::NotLogged { serial }),
            Some(issued) if issued.sha256 != sha256 => Err(Finding::OtherBytes { serial, index: issued.index }),
            Some(issued) => Ok(issued.index),
        }
    }

    /// Checks that a certificate which a CRL lists was stopped by a revocation that the CRL, as of number `n`, knew.
    ///
    /// # Errors
    /// None in force hits it.
    pub fn revocation(&self, certificate: &Certificate, n: u64) -> Result<&Revocation, Finding> {
        let in_force = |stop: &&Stop| stop.revocation.n <= n && stop.resumed_by.is_none_or(|resume| resume > n);
        let mut hitting = self.stops.iter().filter(in_force).map(|stop| &stop.revocation);
        hitting
            .find(|revocation| revocation.hits(certificate))
            .ok_or(Finding::NotRevoked { serial: certificate.serial, n })
    }
}

#[derive(Clone, Copy, Debug)]
struct IssuedAt {
    index: u64,
    planned_at: u64,
    sha256: Hash,
    renewed: bool,
}

#[derive(Debug)]
struct Stop {
    revocation: Revocation,
    resumed_by: Option<u64>,
}

/// A log with more wrong than this needs no longer list.
const FINDINGS_MAX: usize = 1_000;

#[cfg(test)]
mod tests;
