//! What planning reads: the records, the entries in force and the positions, in memory, as of the last commit.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use chancery_api::{Admin, Agent, Service, Subject};
use chancery_identity::{
    Certificate, Effect, InForce, KeyId, Name, Revocation, RevocationId, Scope, System, Target, Timestamp,
};
use tokio::sync::watch;

use super::authorities::{self, Authority};
use super::db::{Db, DbError};
use super::head::Head;
use super::registry::{self, Registered};
use super::revocations;

/// The store's memory. Reads take a short lock and touch no database.
#[derive(Debug)]
pub struct State {
    memory: RwLock<Memory>,
    revocation: watch::Sender<u64>,
    revisions: Mutex<HashMap<Subject, watch::Sender<u64>>>,
}

/// Where the log and the revocation sequence stand: what a plan records of the moment it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a plan records all three")]
pub struct Position {
    /// The log's epoch.
    pub epoch: u64,
    /// How many entries the log has.
    pub log_size: u64,
    /// The newest number of the revocation sequence.
    pub n: u64,
}

impl State {
    /// Where log and revocation sequence stand.
    ///
    /// A plan reads this first and everything else after it, so that what it did not see is newer than what it records.
    pub fn position(&self) -> Position {
        self.read().position
    }

    /// An agent, service or administrator, with the state that the entries in force give it.
    pub fn record<R: Registered>(&self, name: &Name) -> Option<Arc<R>> {
        R::all(&self.read().records).get(name).cloned()
    }

    /// All agents, services or administrators, in no order.
    pub fn records<R: Registered>(&self) -> Vec<Arc<R>> {
        R::all(&self.read().records).values().cloned().collect()
    }

    /// The service that answers for a system.
    pub fn service_of(&self, system: &System) -> Option<Name> {
        self.read().systems.get(system).cloned()
    }

    /// The service that a DNS name belongs to.
    pub fn service_named(&self, dns_name: &str) -> Option<Name> {
        self.read().dns_names.get(dns_name).cloned()
    }

    /// All systems, each with the service that answers for it, by name.
    pub fn systems(&self) -> Vec<(System, Name)> {
        let mut systems: Vec<_> =
            self.read().systems.iter().map(|(system, service)| (system.clone(), service.clone())).collect();
        systems.sort_unstable();
        systems
    }

    /// The authorities, by key id.
    pub fn authorities(&self) -> Vec<Arc<Authority>> {
        self.read().authorities.values().cloned().collect()
    }

    /// One authority.
    pub fn authority(&self, key_id: KeyId) -> Option<Arc<Authority>> {
        self.read().authorities.get(&key_id).cloned()
    }

    /// The entry that ends a certificate, if one in force does.
    pub fn hitting(&self, certificate: &Certificate) -> Option<Revocation> {
        self.read().in_force.hitting(certificate).cloned()
    }

    /// The entry that keeps a certificate from being issued, if one in force does.
    pub fn blocking(&self, certificate: &Certificate) -> Option<Revocation> {
        self.read().in_force.blocking(certificate).cloned()
    }

    /// The entry that forbids a scope to everybody, if one in force does.
    pub fn forbidding(&self, needed: &Scope) -> Option<Revocation> {
        self.read().in_force.forbidding(needed).cloned()
    }

    /// The entries in force that name exactly this target.
    pub fn naming(&self, target: &Target) -> Vec<Revocation> {
        self.read().in_force.naming(target).cloned().collect()
    }

    /// The entry of an id, while it is in force.
    pub fn in_force(&self, id: RevocationId) -> Option<Revocation> {
        self.read().in_force.by_id(id).cloned()
    }

    /// When the entry of a number was committed, while it is in force.
    pub fn entered_at(&self, n: u64) -> Option<Timestamp> {
        self.read().in_force.by_number(n).map(|entry| entry.at)
    }

    /// All entries in force with a number above this one, by number.
    pub fn in_force_after(&self, n: u64) -> Vec<Revocation> {
        self.read()
            .in_force
            .iter()
            .rev()
            .take_while(|entry| entry.n > n)
            .cloned()
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect()
    }

    /// How many entries were resumed since this process reads: what was derived from entries is derived anew then.
    pub fn resumes(&self) -> u64 {
        self.read().resumes
    }

    /// Tells each new number of the revocation sequence.
    pub fn revocation_changes(&self) -> watch::Receiver<u64> {
        self.revocation.subscribe()
    }

    /// Tells each new revision of a record, from what it is at now; 0 while there is none.
    pub fn revision_changes(&self, subject: &Subject) -> watch::Receiver<u64> {
        let mut revisions = self.revisions();
        // Nobody listens to most of them any more: they go when the map would grow.
        if revisions.len() == revisions.capacity() {
            revisions.retain(|_, sender| sender.receiver_count() > 0);
        }
        let now = self.read().revision(subject);
        let sender = revisions.entry(subject.clone()).or_insert_with(|| watch::Sender::new(now));
        sender.subscribe()
    }

    pub(super) fn new(memory: Memory) -> Self {
        let revocation = watch::Sender::new(memory.position.n);
        Self { memory: RwLock::new(memory), revocation, revisions: Mutex::default() }
    }

    /// Replaces all: the database was written by another issuer since.
    pub(super) fn replace(&self, memory: Memory) {
        let n = memory.position.n;
        *self.memory.write().unwrap_or_else(PoisonError::into_inner) = memory;
        self.revocation.send_replace(n);
        let revisions = self.revisions();
        let memory = self.read();
        for (subject, sender) in revisions.iter() {
            sender.send_replace(memory.revision(subject));
        }
    }

    /// Takes over what one commit changed.
    pub(super) fn publish(&self, head: &Head, changes: Vec<Change>) {
        let mut changed = Vec::new();
        let position = head.position();
        {
            let mut memory = self.memory.write().unwrap_or_else(PoisonError::into_inner);
            memory.position = position;
            for change in changes {
                changed.extend(memory.apply(change));
            }
        }
        if *self.revocation.borrow() != position.n {
            self.revocation.send_replace(position.n);
        }
        if !changed.is_empty() {
            let revisions = self.revisions();
            for subject in changed {
                if let Some(sender) = revisions.get(&subject) {
                    sender.send_replace(self.read().revision(&subject));
                }
            }
        }
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Memory> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn revisions(&self) -> MutexGuard<'_, HashMap<Subject, watch::Sender<u64>>> {
        self.revisions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All that the state holds.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) position: Position,
    pub(super) records: Records,
    pub(super) systems: HashMap<System, Name>,
    pub(super) dns_names: HashMap<String, Name>,
    pub(super) authorities: BTreeMap<KeyId, Arc<Authority>>,
    pub(super) in_force: InForce,
    pub(super) resumes: u64,
}

/// The records, by name.
#[derive(Debug, Default)]
#[doc(hidden)]
pub struct Records {
    pub(super) agents: HashMap<Name, Arc<Agent>>,
    pub(super) services: HashMap<Name, Arc<Service>>,
    pub(super) admins: HashMap<Name, Arc<Admin>>,
}

/// What one decision changes in memory.
#[doc(hidden)]
#[derive(Debug)]
pub enum Change {
    Agent(Agent),
    Service(Service),
    Admin(Admin),
    Authority(Authority),
    Entry(Revocation),
    Resumed(u64),
    /// Entries up to this number can hit nothing any more.
    Floor(u64),
}

impl Memory {
    /// Reads all of it.
    pub(super) async fn load(db: &Db) -> Result<Self, DbError> {
        let mut memory = Self {
            position: Head::read(db).await?.position(),
            records: Records::default(),
            systems: HashMap::new(),
            dns_names: HashMap::new(),
            authorities: BTreeMap::new(),
            in_force: InForce::default(),
            resumes: 0,
        };
        registry::load(db, &mut memory).await?;
        revocations::load(db, &mut memory).await?;
        authorities::load(db, &mut memory).await?;
        Ok(memory)
    }

    /// Applies a change; returns the records whose watchers want to know.
    pub(super) fn apply(&mut self, change: Change) -> Option<Subject> {
        match change {
            Change::Agent(agent) => Some(self.put(agent)),
            Change::Service(service) => {
                self.systems.retain(|_, owner| *owner != service.name);
                self.dns_names.retain(|_, owner| *owner != service.name);
                self.systems.extend(service.systems.iter().map(|system| (system.clone(), service.name.clone())));
                self.dns_names.extend(service.dns.iter().map(|dns_name| (dns_name.clone(), service.name.clone())));
                Some(self.put(service))
            }
            Change::Admin(admin) => Some(self.put(admin)),
            Change::Authority(authority) => {
                self.authorities.insert(authority.key_id, Arc::new(authority));
                None
            }
            Change::Entry(entry) => {
                let target = entry.target.clone();
                self.in_force.insert(entry);
                self.refresh(&target)
            }
            Change::Floor(floor) => {
                // What blocks what would be issued, or forbids, stands whatever is left for it to hit.
                let gone = |entry: &&Revocation| entry.effect == Effect::Revoke;
                let up_to = self.in_force.iter().take_while(|entry| entry.n <= floor);
                let gone: Vec<u64> = up_to.filter(gone).map(|entry| entry.n).collect();
                for n in gone {
                    self.in_force.remove(n);
                }
                None
            }
            Change::Resumed(n) => {
                self.resumes += 1;
                let target = self.in_force.remove(n)?.target;
                self.refresh(&target)
            }
        }
    }

    fn put<R: Registered>(&mut self, mut record: R) -> Subject {
        record.set_state(record.state_under(&self.in_force));
        let subject = record.subject();
        R::all_mut(&mut self.records).insert(record.name().clone(), Arc::new(record));
        subject
    }

    /// Gives the record that a target names the state that the entries in force give it now.
    pub(super) fn refresh(&mut self, target: &Target) -> Option<Subject> {
        match target {
            Target::Agent(name) => self.refresh_record::<Agent>(name),
            Target::Service(name) => self.refresh_record::<Service>(name),
            Target::Admin(name) => self.refresh_record::<Admin>(name),
            _ => None,
        }
    }

    fn refresh_record<R: Registered>(&mut self, name: &Name) -> Option<Subject> {
        let record = R::all(&self.records).get(name)?;
        Some(self.put(R::clone(record)))
    }

    pub(super) fn revision(&self, subject: &Subject) -> u64 {
        fn of<R: Registered>(records: &Records, name: &Name) -> u64 {
            R::all(records).get(name).map_or(0, |record| record.revision())
        }
        match subject {
            Subject::Agent(name) => of::<Agent>(&self.records, name),
            Subject::Service(name) => of::<Service>(&self.records, name),
            Subject::Admin(name) => of::<Admin>(&self.records, name),
        }
    }
}
