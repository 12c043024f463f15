//! One transaction of decisions, from its first look at the database to the head row that closes it.

use std::collections::{HashMap, HashSet};

use chancery_api::FeedEntry;
use chancery_identity::{JoinTokenId, Lineage, Name, Revocation, Timestamp};
use chancery_tlog::{Chained, Decision as Logged, Entry, Frontier, Record};
use ring::rand::SecureRandom;

use super::certificates::{self, CertificateRow};
use super::db::{Db, DbError, Transaction, Value};
use super::decision::{Cause, Committed};
use super::head::Head;
use super::keys::Keys;
use super::lineages::{self, Newest, Renewed, StoredLineage};
use super::log::SHA256;
use super::registry::{Owned, Registered, document};
use super::rows::Write;
use super::state::{Change, State};
use super::tokens::{self, JoinTokenRow, Redemption};

/// What decisions have in common while they are decided: the transaction, what they found, what they leave.
#[doc(hidden)]
pub struct Batch<'a> {
    transaction: Transaction,
    touched: bool,
    lineages_are: Lineages,
    doubted: bool,
    /// Of these agents no more instances live than this: what ends is counted out when it matters, not before.
    pub(super) instances: &'a mut HashMap<Name, u64>,
    state: &'a State,
    random: &'a (dyn SecureRandom + Send + Sync),
    /// For log entries to come; each is taken once.
    salts: Vec<[u8; 16]>,
    head: Head,
    at: Timestamp,
    /// What was found at the start, with what earlier decisions of this transaction made of it.
    pub(super) found: Found,
    changes: Vec<Change>,
    certificates: Vec<CertificateRow>,
    lineages: Vec<StoredLineage>,
    renewed: Vec<Renewed>,
    /// The keys that lineages began with or went on to, and until when.
    certified: Vec<([u8; 32], Lineage, Timestamp)>,
    redemptions: Vec<Redemption>,
    entries: Vec<[Value; 6]>,
    nodes: Vec<[Value; 3]>,
    feed: Vec<[Value; 5]>,
    /// The end of the certificate that lasts longest, of those before this transaction.
    last_not_after: Option<Timestamp>,
}

/// What renewals go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lineages {
    /// The certificate that was shown: it names its lineage and is its newest, or the UPDATE does not find the row.
    Expected,
    /// Their rows.
    Read,
}

/// What decisions need to know from the database, asked for all of them at once.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct Wanted {
    pub(super) lineages: HashSet<Lineage>,
    pub(super) keys: HashSet<[u8; 32]>,
    /// Evidence that is good once.
    pub(super) evidence: HashSet<[u8; 32]>,
    pub(super) join_tokens: HashSet<JoinTokenId>,
    /// Join tokens by their digest, each with a key that it may have been spent on.
    pub(super) uses: HashSet<([u8; 32], [u8; 32])>,
    /// Agents whose live instances count: how many more are asked for, and how many may be.
    pub(super) instances: HashMap<Name, (u64, u64)>,
}

/// The answers.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) lineages: HashMap<Lineage, Newest>,
    /// The living lineages of keys.
    pub(super) keys: HashMap<[u8; 32], Lineage>,
    /// By evidence and key.
    pub(super) redemptions: HashMap<([u8; 32], [u8; 32]), Redemption>,
    /// The keys that evidence was spent on.
    pub(super) spent: HashMap<[u8; 32], [u8; 32]>,
    pub(super) join_tokens: HashMap<JoinTokenId, JoinTokenRow>,
}

impl<'a> Batch<'a> {
    /// Begins the transaction. `None` when the lease is another's: the head row carries its fence.
    pub(super) async fn begin(
        db: &Db,
        state: &'a State,
        random: &'a (dyn SecureRandom + Send + Sync),
        fence: u64,
        now: Timestamp,
        lineages_are: Lineages,
        instances: &'a mut HashMap<Name, u64>,
    ) -> Result<Option<Self>, DbError> {
        let mut transaction = db.begin().await?;
        let head = Head::read_for_update(&mut transaction).await?;
        if head.fence != fence {
            return Ok(None);
        }
        Ok(Some(Self {
            transaction,
            touched: false,
            lineages_are,
            doubted: false,
            instances,
            state,
            random,
            salts: Vec::new(),
            // A clock that steps back does not make the log's times fall.
            at: now.max(head.at),
            head,
            found: Found::default(),
            changes: Vec::new(),
            certificates: Vec::new(),
            lineages: Vec::new(),
            renewed: Vec::new(),
            certified: Vec::new(),
            redemptions: Vec::new(),
            entries: Vec::new(),
            nodes: Vec::new(),
            feed: Vec::new(),
            last_not_after: None,
        }))
    }

    /// Makes room for what so many certificates leave, and draws their salts together: a draw is a call into the system.
    pub(super) fn reserve(&mut self, certificates: usize) -> Result<(), DbError> {
        self.salts.resize(certificates, [0; 16]);
        self.random.fill(self.salts.as_flattened_mut()).map_err(|_| DbError::Random)?;
        self.certificates.reserve(certificates);
        self.renewed.reserve(certificates);
        self.certified.reserve(certificates);
        self.entries.reserve(certificates);
        Ok(())
    }

    /// Asks the database for what is wanted.
    pub(super) async fn find(&mut self, wanted: Wanted, keys: &mut Keys) -> Result<(), DbError> {
        let (transaction, at) = (&mut self.transaction, self.at);
        if self.lineages_are == Lineages::Read {
            self.found.lineages = lineages::find(transaction, wanted.lineages).await?;
        }
        self.found.keys = keys.holders(transaction, wanted.keys, at).await?;
        let unsure = wanted.instances.into_iter().filter(|(agent, (more, max))| {
            let known = self.instances.get(agent);
            known.is_none_or(|live| live + more > *max)
        });
        let unsure: HashSet<Name> = unsure.map(|(agent, _)| agent).collect();
        self.instances.extend(lineages::count_live(transaction, unsure, at).await?);
        for redemption in tokens::find_redemptions(transaction, wanted.evidence, wanted.uses).await? {
            self.found.spent.insert(redemption.evidence, redemption.key_digest);
            self.found.redemptions.insert((redemption.evidence, redemption.key_digest), redemption);
        }
        self.found.join_tokens = tokens::find_join_tokens(transaction, wanted.join_tokens).await?;
        Ok(())
    }

    /// When this will have been committed.
    pub(super) const fn at(&self) -> Timestamp {
        self.at
    }

    /// The log's epoch.
    pub(super) const fn epoch(&self) -> u64 {
        self.head.epoch
    }

    /// The position of the next log entry.
    pub(super) fn log_size(&self) -> u64 {
        self.head.frontier.size()
    }

    /// How many entries the log had before this transaction.
    pub(super) fn log_size_before(&self) -> u64 {
        self.log_size() - self.entries.len() as u64
    }

    /// The memory as of the last commit, without what this transaction changes.
    pub(super) const fn state(&self) -> &'a State {
        self.state
    }

    /// The transaction, for what is only read.
    pub(super) const fn reading(&mut self) -> &mut Transaction {
        &mut self.transaction
    }

    /// The transaction, for what is written at once.
    pub(super) const fn transaction(&mut self) -> &mut Transaction {
        self.touched = true;
        &mut self.transaction
    }

    /// A record as it is, with what this transaction changes.
    pub(super) fn record<R: Registered>(&self, name: &Name) -> Option<R> {
        let changed = self.changes.iter().rev().filter_map(R::in_change).find(|record| record.name() == name);
        changed.cloned().or_else(|| self.state.record::<R>(name).as_deref().cloned())
    }

    /// The revision of a record that a certificate's holder has, with what this transaction changes.
    pub(super) fn revision<R: Registered>(&self, name: &Name) -> Option<u64> {
        let changed = self.changes.iter().rev().filter_map(R::in_change).find(|record| record.name() == name);
        changed.map(R::revision).or_else(|| self.state.record::<R>(name).map(|record| record.revision()))
    }

    /// The service that answers for a system or a DNS name, with what this transaction changes.
    pub(super) fn service_that_owns(&self, name: &Owned) -> Option<Name> {
        use chancery_api::Service;

        let changed: Vec<&Service> = self.changes.iter().filter_map(Service::in_change).collect();
        let owner = changed.iter().rev().find(|service| service.owned().contains(name));
        if let Some(owner) = owner {
            return Some(owner.name.clone());
        }
        let before = match name {
            Owned::System(system) => self.state.service_of(system),
            Owned::DnsName(name) => self.state.service_named(name),
        };
        // It may have been given up in this very transaction.
        before.filter(|service| changed.iter().all(|changed| changed.name != *service))
    }

    /// What one commit changes in memory.
    pub(super) fn change(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// The changes so far.
    pub(super) fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The head row as it will be.
    pub(super) const fn head(&self) -> &Head {
        &self.head
    }

    /// The number of the next entry of the revocation sequence.
    pub(super) const fn next_revocation(&self) -> u64 {
        self.head.revocation.n + 1
    }

    /// Queues the next entry of the revocation sequence, as the feed will send it.
    pub(super) fn feed(&mut self, entry: &FeedEntry, over_at: Timestamp) {
        let line = document(entry);
        let chain = self.head.revocation.then(SHA256, line.as_bytes());
        self.head.revocation = chain;
        let epoch = self.head.epoch;
        self.feed.push([chain.n.into(), epoch.into(), over_at.into(), line.into(), chain.hash.0.into()]);
    }

    /// Begins an epoch: an empty log, and a chain that goes on above a number.
    pub(super) fn restart(&mut self, epoch: u64, n: u64) {
        self.head.epoch = epoch;
        self.head.frontier = Frontier::empty();
        self.head.revocation = Chained::start(n);
        self.head.floor = Chained::start(n);
        self.head.standing = Chained::start(0);
    }

    /// Moves the floor.
    pub(super) const fn forget(&mut self, floor: Chained, standing: Chained) {
        self.head.floor = floor;
        self.head.standing = standing;
    }

    /// The end of the certificate that lasts longest, with what this transaction issues.
    pub(super) async fn last_not_after(&mut self) -> Result<Timestamp, DbError> {
        let before = match self.last_not_after {
            Some(before) => before,
            None => *self.last_not_after.insert(certificates::last_not_after(&mut self.transaction).await?),
        };
        Ok(self.certificates.iter().map(|row| row.not_after).fold(before, Timestamp::max))
    }

    /// The entry that keeps a certificate from being issued, with what this transaction changes.
    pub(super) fn blocking(&self, certificate: &chancery_identity::Certificate) -> Option<Revocation> {
        let blocks = |entry: &Revocation| {
            entry.hits(certificate)
                || (entry.effect.blocks_issuance() && entry.target.matches(certificate, entry.cascade))
        };
        let new = self.changes.iter().find_map(|change| match change {
            Change::Entry(entry) if blocks(entry) => Some(entry.clone()),
            _ => None,
        });
        let resumed =
            |n: u64| self.changes.iter().any(|change| matches!(change, Change::Resumed(other) if *other == n));
        new.or_else(|| self.state.blocking(certificate).filter(|entry| !resumed(entry.n)))
    }

    /// Queues a certificate's row.
    pub(super) fn add_certificate(&mut self, row: CertificateRow) {
        self.certificates.push(row);
    }

    /// Whether the rows of lineages were read.
    pub(super) fn reads_lineages(&self) -> bool {
        self.lineages_are == Lineages::Read
    }

    /// A renewal is not as expected: all is to be decided again, with the rows of lineages read.
    pub(super) const fn doubt(&mut self) {
        self.doubted = true;
    }

    /// Queues a lineage's row.
    pub(super) fn add_lineage(&mut self, row: StoredLineage, key_digest: [u8; 32]) {
        self.found.keys.insert(key_digest, row.id);
        self.certified.push((key_digest, row.id, row.not_after));
        self.lineages.push(row);
    }

    /// Queues what a renewal makes of its lineage.
    pub(super) fn renew_lineage(&mut self, renewed: Renewed) {
        self.found.keys.insert(renewed.key_digest, renewed.id);
        self.certified.push((renewed.key_digest, renewed.id, renewed.not_after));
        if let Some(lineage) = self.found.lineages.get_mut(&renewed.id) {
            lineage.previous = Some(lineage.serial);
            (lineage.serial, lineage.key_digest) = (renewed.serial, renewed.key_digest);
            lineage.not_after = renewed.not_after;
        }
        self.renewed.push(renewed);
    }

    /// Queues a redemption.
    pub(super) fn add_redemption(&mut self, redemption: Redemption) {
        if let Some(token) = redemption.token.and_then(|id| self.found.join_tokens.get_mut(&id)) {
            token.spend(redemption.key_digest);
        }
        self.found.spent.insert(redemption.evidence, redemption.key_digest);
        self.found.redemptions.insert((redemption.evidence, redemption.key_digest), redemption.clone());
        self.redemptions.push(redemption);
    }

    /// Random bytes.
    pub(super) fn random<const N: usize>(&self) -> Result<[u8; N], DbError> {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes).map_err(|_| DbError::Random)?;
        Ok(bytes)
    }

    /// Appends the record of a decision to the log, and makes what will be the proof of it.
    pub(super) fn log<T>(
        &mut self,
        cause: &Cause,
        subjects: Vec<String>,
        decision: Logged,
        reply: T,
    ) -> Result<Committed<T>, DbError> {
        let record = Record {
            at: self.at,
            epoch: self.head.epoch,
            actor: cause.actor.clone(),
            subjects,
            request_id: cause.request_id,
            decision,
        };
        let salt = self.salts.pop().map_or_else(|| self.random(), Ok)?;
        let entry = Entry::new(salt, &record);
        let commitment = entry.commitment(SHA256);
        let position = self.head.frontier.size();
        for node in self.head.frontier.append(SHA256, commitment.leaf_hash(SHA256)) {
            self.nodes.push([i64::from(node.level).into(), node.index.into(), node.hash.0.into()]);
        }
        self.entries.push([
            position.into(),
            self.at.into(),
            record.decision.action().as_str().into(),
            entry.salt.into(),
            entry.record.into(),
            commitment.0.into(),
        ]);
        Ok(Committed::new(reply, position, self.at))
    }

    /// Writes what became of lineages. `false`: not all is as expected, and nothing of this batch may be committed.
    pub(super) async fn write_lineages(&mut self) -> Result<bool, DbError> {
        if self.doubted {
            return Ok(false);
        }
        let (new, renewed) = (std::mem::take(&mut self.lineages), std::mem::take(&mut self.renewed));
        let expected = renewed.len() as u64;
        lineages::insert(&mut self.transaction, new).await?;
        let found = lineages::renew(&mut self.transaction, self.at, renewed).await?;
        match self.lineages_are {
            Lineages::Read if found != expected => Err(DbError::Lineage),
            _ => Ok(found == expected),
        }
    }

    /// Writes all else that is queued and the head row. Nothing of it is for good yet.
    pub(super) async fn close(mut self, lease_ms: i64, now: &'static str) -> Result<Closed, DbError> {
        let transaction = &mut self.transaction;
        let next = self.head.certificate + 1;
        self.head.certificate += self.certificates.len() as u64;
        certificates::insert(transaction, next, self.certificates).await?;
        let spent: HashSet<_> = self.redemptions.iter().filter_map(|redemption| redemption.token).collect();
        let row = |id: &JoinTokenId| self.found.join_tokens.get(id).map(|token| (*id, token));
        tokens::count_uses(transaction, spent.iter().filter_map(row).collect()).await?;
        tokens::insert_redemptions(transaction, self.redemptions).await?;
        ENTRIES.run(transaction, self.entries.into_iter()).await?;
        NODES.run(transaction, self.nodes.into_iter()).await?;
        FEED.run(transaction, self.feed.into_iter()).await?;
        self.head.at = self.at;
        self.head.write(transaction, lease_ms, now).await?;
        let Self { transaction, head, changes, certified, .. } = self;
        Ok(Closed { transaction, head, changes, certified })
    }

    /// Undoes all of it.
    pub(super) async fn abandon(self) -> Result<(), DbError> {
        self.transaction.rollback().await
    }

    /// Whether anything is to be committed.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && !self.touched
    }
}

/// A batch with all its rows written, that only needs to be committed.
pub(super) struct Closed {
    pub(super) transaction: Transaction,
    pub(super) head: Head,
    pub(super) changes: Vec<Change>,
    /// Keys, of which lineages, until when.
    pub(super) certified: Vec<([u8; 32], Lineage, Timestamp)>,
}

static ENTRIES: Write<6> =
    Write::insert("INSERT INTO log_entry (position, at, action, salt, record, commitment) VALUES");
static FEED: Write<5> = Write::insert("INSERT INTO feed_entry (n, epoch, over_at, line, chain) VALUES");
static NODES: Write<3> = Write::insert("INSERT INTO log_node (level, position, hash) VALUES");
