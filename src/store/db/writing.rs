//! SQLite's one connection that writes, used on the thread of whoever decides.
//!
//! Statements run where they are called, looked for once for all their rows: a row costs a bind and a step, and no turn between
//! two threads.

use std::path::Path;
use std::sync::Arc;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{OpenFlags, Statement, ToSql};
use tokio::sync::{Mutex, OwnedMappedMutexGuard, OwnedMutexGuard};

use super::{BUSY_TIMEOUT, DbError, Value};

/// The connection, for one transaction at a time; none once it is closed.
#[derive(Clone, Debug)]
pub(in crate::store) struct Connection(Arc<Mutex<Option<rusqlite::Connection>>>);

impl Connection {
    /// Opens a file that is there, and turns it to WAL.
    pub(super) fn open(file: &Path) -> Result<Self, DbError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = rusqlite::Connection::open_with_flags(file, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(KEPT);
        for (pragma, value) in PRAGMAS {
            // Some answer with a row, of what they are now.
            connection.pragma(None, pragma, value, |_| Ok(()))?;
        }
        Ok(Self(Arc::new(Mutex::new(Some(connection)))))
    }

    /// Begins a transaction. A deferred one that reads and then writes would fail with BUSY: this takes the lock at once.
    pub(super) async fn begin(&self) -> Result<Transaction, DbError> {
        let held = OwnedMutexGuard::try_map(self.0.clone().lock_owned().await, Option::as_mut);
        let transaction = Transaction(held.map_err(|_| sqlx::Error::PoolClosed)?);
        transaction.0.prepare_cached("BEGIN IMMEDIATE")?.raw_execute()?;
        Ok(transaction)
    }

    /// Closes it, once nobody is inside a transaction.
    pub(super) async fn close(&self) {
        self.0.lock().await.take();
    }
}

/// A transaction; undone when dropped.
pub(in crate::store) struct Transaction(OwnedMappedMutexGuard<Option<rusqlite::Connection>, rusqlite::Connection>);

impl Transaction {
    /// All rows of a query.
    pub(super) fn rows(&self, sql: &str, values: &[Value]) -> Result<Vec<Vec<rusqlite::types::Value>>, DbError> {
        let mut statement = self.0.prepare_cached(&numbered(sql))?;
        bind(&mut statement, values)?;
        let columns = statement.column_count();
        let mut found = Vec::new();
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next()? {
            found.push((0..columns).map(|column| row.get(column)).collect::<Result<_, _>>()?);
        }
        tracing::trace!(target: "chancery::sql", sql, returned = found.len());
        Ok(found)
    }

    /// Runs a statement for the values of each; returns how many rows all of them changed.
    pub(super) fn execute_each(
        &self,
        sql: &str,
        each: impl Iterator<Item = impl AsRef<[Value]>>,
    ) -> Result<u64, DbError> {
        let mut statement = self.0.prepare_cached(&numbered(sql))?;
        let mut changed = 0;
        for values in each {
            bind(&mut statement, values.as_ref())?;
            changed += statement.raw_execute()? as u64;
        }
        tracing::trace!(target: "chancery::sql", sql, changed);
        Ok(changed)
    }

    pub(super) fn commit(self) -> Result<(), DbError> {
        Ok(self.0.prepare_cached("COMMIT")?.raw_execute().map(drop)?)
    }

    pub(super) fn rollback(self) -> Result<(), DbError> {
        Ok(self.0.prepare_cached("ROLLBACK")?.raw_execute().map(drop)?)
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if !self.0.is_autocommit()
            && let Err(error) = self.0.execute_batch("ROLLBACK")
        {
            tracing::warn!(%error, "a transaction was not undone; the next one will fail");
        }
    }
}

/// `$1` is a name to SQLite, `?1` a number.
fn numbered(sql: &str) -> String {
    sql.replace('$', "?")
}

fn bind(statement: &mut Statement<'_>, values: &[Value]) -> Result<(), DbError> {
    for (index, value) in (1..).zip(values) {
        statement.raw_bind_parameter(index, value)?;
    }
    Ok(())
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Int(value) => value.map_or(ValueRef::Null, ValueRef::Integer),
            Self::Text(value) => value.as_ref().map_or(ValueRef::Null, |text| ValueRef::Text(text.as_bytes())),
            Self::Blob(value) => value.as_deref().map_or(ValueRef::Null, ValueRef::Blob),
            Self::Shared(value) => ValueRef::Blob(value),
        }))
    }
}

/// Prepared statements that are kept: all that there are.
const KEPT: usize = 256;

const PRAGMAS: [(&str, &str); 6] = [
    ("journal_mode", "wal"),
    ("synchronous", "full"),
    ("foreign_keys", "on"),
    ("temp_store", "memory"),
    // What is kept of the file in memory, in KiB; SQLite writes it with a minus. It looks through all of it at a commit that put
    // pages in order, and the system keeps the file too.
    ("cache_size", "-8192"),
    // Pages in the log before a commit copies them into the file, 64 MiB: a page that many commits change is copied once, and
    // little is left to do then, as a task copies meanwhile.
    ("wal_autocheckpoint", "16384"),
];
