//! Agents, services and administrators: each a document of its wire form, one revision at a time.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use chancery_api::{Admin, Agent, Service, State as RecordState, Subject};
use chancery_identity::{Effect, InForce, Name, Target, Timestamp};
use chancery_tlog::{Decision as Logged, Facts};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::batch::Batch;
use super::db::{Db, DbError, Transaction};
use super::decision::{Cause, Committed, Decision, Refused, Undecided};
use super::state::{Change, Memory, Records};

/// Creates a record, or changes one.
///
/// Revision, creation, log index and state of the record given are ignored: the commit sets them.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "whoever decides sets all of it")]
pub struct Put<R> {
    /// On whose behalf.
    pub cause: Cause,
    /// What it shall be.
    pub record: R,
    /// The revision that it is changed from; `None` creates it.
    pub changes: Option<u64>,
}

impl<R: Registered> Decision for Put<R> {
    type Reply = R;

    async fn decide(&self, batch: &mut Batch<'_>) -> Result<Committed<R>, Undecided> {
        let found = batch.record::<R>(self.record.name());
        let subject = self.record.subject().to_string();
        let stamp = match (&found, self.changes) {
            (None, None) => Stamp {
                revision: 1,
                created_at: batch.at(),
                created_by: self.cause.actor.clone(),
                log_index: batch.log_size(),
            },
            (Some(found), Some(wanted)) if found.revision() == wanted => {
                Stamp { revision: wanted + 1, log_index: batch.log_size(), ..found.stamp() }
            }
            (Some(found), Some(wanted)) => {
                return Err(Refused::Revision { record: subject, wanted, found: found.revision() }.into());
            }
            (Some(_), None) => return Err(Refused::Exists(subject).into()),
            (None, Some(_)) => return Err(Refused::NoRecord(subject).into()),
        };
        for name in self.record.owned() {
            if let Some(service) = batch.service_that_owns(&name).filter(|service| service != self.record.name()) {
                return Err(Refused::Owned { name: name.to_string(), service }.into());
            }
        }
        let mut record = self.record.clone().stamped(stamp);
        record.set_state(record.state_under(&batch.state().read().in_force));
        write(batch.transaction(), &record, found.is_none()).await?;
        let facts = Facts::from_iter([
            ("change", if found.is_none() { "created" } else { "updated" }.to_owned()),
            ("record", document(&record)),
        ]);
        let committed = batch.log(&self.cause, vec![subject], Logged::Registry(facts), record.clone())?;
        batch.change(record.into_change());
        Ok(committed)
    }
}

/// A record that is created once and changed by revisions: an agent, a service, an administrator.
pub trait Registered: Clone + Serialize + DeserializeOwned + Send + Sync + 'static {
    #[doc(hidden)]
    const TABLE: &'static str;

    /// Which it is.
    fn subject(&self) -> Subject;
    /// Its name.
    fn name(&self) -> &Name;
    /// What it is at.
    fn revision(&self) -> u64;

    #[doc(hidden)]
    fn target(&self) -> Target;
    #[doc(hidden)]
    fn stamp(&self) -> Stamp;
    #[doc(hidden)]
    fn stamped(self, stamp: Stamp) -> Self;
    #[doc(hidden)]
    fn set_state(&mut self, state: RecordState);
    #[doc(hidden)]
    fn all(records: &Records) -> &HashMap<Name, Arc<Self>>;
    #[doc(hidden)]
    fn all_mut(records: &mut Records) -> &mut HashMap<Name, Arc<Self>>;
    #[doc(hidden)]
    fn into_change(self) -> Change;
    #[doc(hidden)]
    fn in_change(change: &Change) -> Option<&Self>;
    /// The names that must be its alone.
    #[doc(hidden)]
    fn owned(&self) -> Vec<Owned>;

    /// The state that the entries in force give it: nothing else sets it.
    #[doc(hidden)]
    fn state_under(&self, in_force: &InForce) -> RecordState {
        let target = self.target();
        let has = |effect| in_force.naming(&target).any(|entry| entry.effect == effect);
        if has(Effect::Retire) {
            RecordState::Retired
        } else if has(Effect::Suspend) {
            RecordState::Suspended
        } else {
            RecordState::Active
        }
    }
}

/// What the store sets in a record.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct Stamp {
    revision: u64,
    created_at: Timestamp,
    created_by: chancery_identity::Actor,
    log_index: u64,
}

/// A name that one service answers for.
#[doc(hidden)]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Owned {
    System(chancery_identity::System),
    DnsName(String),
}

impl fmt::Display for Owned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(system) => write!(f, "system {system}"),
            Self::DnsName(name) => write!(f, "DNS name {name}"),
        }
    }
}

macro_rules! registered {
    ($($type:ident in $table:literal, $field:ident, |$record:ident| $owned:expr;)+) => {$(
        impl Registered for $type {
            const TABLE: &'static str = $table;

            fn subject(&self) -> Subject {
                Subject::$type(self.name.clone())
            }

            fn name(&self) -> &Name {
                &self.name
            }

            fn revision(&self) -> u64 {
                self.revision
            }

            fn target(&self) -> Target {
                Target::$type(self.name.clone())
            }

            fn stamp(&self) -> Stamp {
                Stamp {
                    revision: self.revision,
                    created_at: self.created_at,
                    created_by: self.created_by.clone(),
                    log_index: self.log_index,
                }
            }

            fn stamped(self, stamp: Stamp) -> Self {
                let Stamp { revision, created_at, created_by, log_index } = stamp;
                Self { revision, created_at, created_by, log_index, ..self }
            }

            fn set_state(&mut self, state: RecordState) {
                self.state = state;
            }

            fn all(records: &Records) -> &HashMap<Name, Arc<Self>> {
                &records.$field
            }

            fn all_mut(records: &mut Records) -> &mut HashMap<Name, Arc<Self>> {
                &mut records.$field
            }

            fn into_change(self) -> Change {
                Change::$type(self)
            }

            fn in_change(change: &Change) -> Option<&Self> {
                match change {
                    Change::$type(record) => Some(record),
                    _ => None,
                }
            }

            fn owned(&self) -> Vec<Owned> {
                let $record = self;
                $owned
            }
        }
    )+};
}

registered! {
    Agent in "agent", agents, |_agent| Vec::new();
    Service in "service", services, |service| {
        let systems = service.systems.iter().cloned().map(Owned::System);
        systems.chain(service.dns.iter().cloned().map(Owned::DnsName)).collect()
    };
    Admin in "admin", admins, |_admin| Vec::new();
}

/// Reads all records into memory.
pub(super) async fn load(db: &Db, memory: &mut Memory) -> Result<(), DbError> {
    for agent in read_all::<Agent>(db).await? {
        memory.apply(Change::Agent(agent));
    }
    for service in read_all::<Service>(db).await? {
        memory.apply(Change::Service(service));
    }
    for admin in read_all::<Admin>(db).await? {
        memory.apply(Change::Admin(admin));
    }
    Ok(())
}

async fn read_all<R: Registered>(db: &Db) -> Result<Vec<R>, DbError> {
    let rows = db.rows(format!("SELECT document FROM {}", R::TABLE), vec![]).await?;
    rows.iter().map(|row| parse(&row.read::<String>(0)?)).collect()
}

async fn write<R: Registered>(transaction: &mut Transaction, record: &R, new: bool) -> Result<(), DbError> {
    let sql = if new {
        format!("INSERT INTO {} (document, name) VALUES ($1, $2)", R::TABLE)
    } else {
        format!("UPDATE {} SET document = $1 WHERE name = $2", R::TABLE)
    };
    transaction.execute(sql, vec![document(record).into(), record.name().into()]).await?;
    let owned = record.owned();
    if !new && R::TABLE == Service::TABLE {
        for table in ["system", "dns_name"] {
            transaction.execute(format!("DELETE FROM {table} WHERE service = $1"), vec![record.name().into()]).await?;
        }
    }
    for name in owned {
        let (table, name) = match &name {
            Owned::System(system) => ("system", system.as_str()),
            Owned::DnsName(name) => ("dns_name", name.as_str()),
        };
        let values = vec![name.into(), record.name().into()];
        transaction.execute(format!("INSERT INTO {table} (name, service) VALUES ($1, $2)"), values).await?;
    }
    Ok(())
}

/// The document of a record.
pub(crate) fn document(record: &impl Serialize) -> String {
    #[expect(clippy::expect_used, reason = "wire types have string keys and no fallible serialisation")]
    serde_json::to_string(record).expect("a wire type serialises")
}

/// A record from its document.
pub(super) fn parse<T: DeserializeOwned>(document: &str) -> Result<T, DbError> {
    serde_json::from_str(document).map_err(DbError::Document)
}
