//! The one place that knows there are two databases.
//!
//! SQL above is written once: `$n` placeholders, integers, text and blobs, `ON CONFLICT`, `RETURNING`.

mod error;
mod writing;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::FromSql;
use smallvec::SmallVec;
use sqlx::migrate::{Migrate, Migration, MigrationType, Migrator};
use sqlx::postgres::{PgArguments, PgConnectOptions, PgPoolOptions, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqlitePoolOptions, SqliteRow, SqliteSynchronous};
use sqlx::{Arguments, AssertSqlSafe, Pool, Postgres, Row as _, SqlSafeStr, SqlStr, Sqlite};

pub use error::DbError;

/// One database: connections that read, and those that write.
#[derive(Clone, Debug)]
pub(super) enum Db {
    /// One file; readers see the last commit while the one writer works. `copy` is for what is done beside both.
    Sqlite { read: Pool<Sqlite>, write: writing::Connection, copy: Pool<Sqlite>, path: PathBuf },
    /// A server.
    Postgres { read: Pool<Postgres>, write: Pool<Postgres> },
}

/// A value bound to a placeholder. PostgreSQL wants to know the type of a NULL too.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Int(Option<i64>),
    Text(Option<String>),
    /// Identifiers and digests stand in place.
    Blob(Option<SmallVec<[u8; 32]>>),
    /// Bytes that others hold too.
    Shared(Arc<[u8]>),
}

/// One row of an answer.
pub(super) enum Row {
    Sqlite(SqliteRow),
    /// Read where it is written.
    Writing(Vec<rusqlite::types::Value>),
    Postgres(PgRow),
}

/// A transaction that writes; rolled back when dropped.
pub(super) enum Transaction {
    Sqlite(writing::Transaction),
    Postgres(sqlx::Transaction<'static, Postgres>),
}

impl Db {
    /// Connects; neither creates nor migrates.
    pub(super) async fn open(url: &str) -> Result<Self, DbError> {
        Self::connect(url, false).await
    }

    /// Connects, and creates a SQLite file that is not there yet, readable by its owner only.
    pub(super) async fn create(url: &str) -> Result<Self, DbError> {
        Self::connect(url, true).await
    }

    async fn connect(url: &str, create: bool) -> Result<Self, DbError> {
        if url.starts_with("sqlite:") {
            let options = SqliteConnectOptions::from_str(url)?
                .foreign_keys(true)
                // Whoever copies the log into the file syncs what it copied.
                .synchronous(SqliteSynchronous::Full)
                .busy_timeout(BUSY_TIMEOUT)
                .statement_cache_capacity(STATEMENTS)
                .row_buffer_size(ROWS);
            let path = options.get_filename().to_owned();
            if create {
                create_private(&path).map_err(|error| DbError::File { path: path.clone(), error })?;
            } else if !path.exists() {
                return Err(DbError::Absent { path });
            }
            let write = writing::Connection::open(&path)?;
            let copy = SqlitePoolOptions::new().max_connections(1).connect_lazy_with(options.clone());
            let read = SqlitePoolOptions::new()
                .acquire_timeout(ACQUIRE)
                .max_connections(READERS)
                .connect_with(options.read_only(true))
                .await?;
            Ok(Self::Sqlite { read, write, copy, path })
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            let options = PgConnectOptions::from_str(url)?.statement_cache_capacity(STATEMENTS);
            // Connects where it is written from.
            let write =
                PgPoolOptions::new().acquire_timeout(ACQUIRE).max_connections(2).connect_lazy_with(options.clone());
            let read =
                PgPoolOptions::new().acquire_timeout(ACQUIRE).max_connections(READERS).connect_with(options).await?;
            Ok(Self::Postgres { read, write })
        } else {
            Err(DbError::Url(url.split(':').next().unwrap_or_default().into()))
        }
    }

    /// The file, where the database is one.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::Sqlite { path, .. } => Some(path),
            Self::Postgres { .. } => None,
        }
    }

    /// Applies the migrations that are missing; returns how many there were.
    pub(super) async fn migrate(&self) -> Result<usize, DbError> {
        let before = self.migrations_applied().await?.unwrap_or_default().len();
        let migrator = Migrator::with_migrations(self.migrations());
        match self {
            Self::Sqlite { copy, .. } => migrator.run(copy).await?,
            Self::Postgres { write, .. } => migrator.run(write).await?,
        }
        Ok(self.migrations().len() - before)
    }

    /// Whether the database's tables are those that this program knows.
    pub(super) async fn check_migrations(&self) -> Result<(), DbError> {
        let wanted = self.migrations();
        let applied = self.migrations_applied().await?.unwrap_or_default();
        for (version, checksum) in &applied {
            match wanted.iter().find(|known| known.version == *version) {
                None => return Err(DbError::Newer { found: *version, known: wanted.len() }),
                Some(known) if *known.checksum != **checksum => return Err(DbError::Altered { version: *version }),
                Some(_) => {}
            }
        }
        if applied.len() < wanted.len() {
            return Err(DbError::Unmigrated { found: applied.len(), wanted: wanted.len() });
        }
        Ok(())
    }

    async fn migrations_applied(&self) -> Result<Option<Vec<(i64, Vec<u8>)>>, DbError> {
        let exists = match self {
            Self::Sqlite { .. } => {
                "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations'"
            }
            Self::Postgres { .. } => {
                "SELECT count(*) FROM information_schema.tables \
                 WHERE table_schema = current_schema() AND table_name = '_sqlx_migrations'"
            }
        };
        if self.row(exists, vec![]).await?.map_or(Ok(0), |row| row.read::<i64>(0))? == 0 {
            return Ok(None);
        }
        let applied = match self {
            Self::Sqlite { copy, .. } => copy.acquire().await?.list_applied_migrations(MIGRATIONS_TABLE).await?,
            Self::Postgres { read, .. } => read.acquire().await?.list_applied_migrations(MIGRATIONS_TABLE).await?,
        };
        Ok(Some(applied.into_iter().map(|one| (one.version, one.checksum.into_owned())).collect()))
    }

    fn migrations(&self) -> Vec<Migration> {
        let texts = match self {
            Self::Sqlite { .. } => SQLITE_MIGRATIONS,
            Self::Postgres { .. } => POSTGRES_MIGRATIONS,
        };
        (1..)
            .zip(texts)
            .map(|(version, (description, sql))| {
                Migration::new(version, (*description).into(), MigrationType::Simple, sql.into_sql_str(), false)
            })
            .collect()
    }

    /// All rows of a query, as of the last commit.
    pub(super) async fn rows(&self, sql: impl Into<Sql>, values: Vec<Value>) -> Result<Vec<Row>, DbError> {
        let sql = sql.into().0;
        match self {
            Self::Sqlite { read, .. } => {
                let rows = sqlx::query_with(sql, sqlite_arguments(&values)?).fetch_all(read).await?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
            Self::Postgres { read, .. } => {
                let rows = sqlx::query_with(sql, postgres_arguments(&values)?).fetch_all(read).await?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// The first row of a query, as of the last commit.
    pub(super) async fn row(&self, sql: impl Into<Sql>, values: Vec<Value>) -> Result<Option<Row>, DbError> {
        Ok(self.rows(sql, values).await?.into_iter().next())
    }

    /// What a query that counts says, as of the last commit.
    pub(super) async fn count(&self, sql: impl Into<Sql>, values: Vec<Value>) -> Result<u64, DbError> {
        self.row(sql, values).await?.map_or(Ok(0), |row| row.read(0))
    }

    /// Begins a transaction that no other writer can be inside of until it ends.
    ///
    /// PostgreSQL locks the head row, as read committed would let two writers pass the same check.
    pub(super) async fn begin(&self) -> Result<Transaction, DbError> {
        match self {
            Self::Sqlite { write, .. } => Ok(Transaction::Sqlite(write.begin().await?)),
            Self::Postgres { write, .. } => {
                let mut transaction = write.begin().await?;
                sqlx::query("SELECT one FROM head FOR UPDATE").execute(&mut *transaction).await?;
                Ok(Transaction::Postgres(transaction))
            }
        }
    }

    /// Copies what SQLite's log has more than its file into the file, beside whoever reads and writes. Whoever commits does so
    /// too once the log is long, and waits for the disk meanwhile: little is left to do then.
    pub(super) async fn copy_log(&self) -> Result<(), DbError> {
        if let Self::Sqlite { copy, .. } = self {
            sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(copy).await?;
        }
        Ok(())
    }

    /// Copies a file's contents, as of the last commit, into a new one; `false` where the database is no file.
    pub(super) async fn copy_to(&self, file: &Path) -> Result<bool, DbError> {
        let Self::Sqlite { copy, .. } = self else { return Ok(false) };
        // Readable by its owner only, as the original is.
        create_private(file).map_err(|error| DbError::File { path: file.to_owned(), error })?;
        let file = file.to_str().ok_or_else(|| DbError::Absent { path: file.to_owned() })?.to_owned();
        let mut arguments = SqliteArguments::default();
        arguments.add(file).map_err(sqlx::Error::Encode)?;
        sqlx::query_with("VACUUM INTO $1", arguments).execute(copy).await?;
        Ok(true)
    }

    /// SQL for the database's own clock, in Unix milliseconds.
    pub(super) fn now(&self) -> &'static str {
        match self {
            Self::Sqlite { .. } => "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
            Self::Postgres { .. } => "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
        }
    }

    /// Ends all connections; what they were doing is finished first.
    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite { read, write, copy, .. } => {
                read.close().await;
                copy.close().await;
                write.close().await;
            }
            Self::Postgres { read, write } => {
                read.close().await;
                write.close().await;
            }
        }
    }
}

impl Transaction {
    /// All rows of a query, with what this transaction wrote.
    pub(super) async fn rows(&mut self, sql: impl Into<Sql>, values: Vec<Value>) -> Result<Vec<Row>, DbError> {
        let sql = sql.into().0;
        match self {
            Self::Sqlite(inner) => Ok(inner.rows(sql.as_str(), &values)?.into_iter().map(Row::Writing).collect()),
            Self::Postgres(inner) => {
                let rows = sqlx::query_with(sql, postgres_arguments(&values)?).fetch_all(&mut **inner).await?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// The first row of a query, with what this transaction wrote.
    pub(super) async fn row(&mut self, sql: impl Into<Sql>, values: Vec<Value>) -> Result<Option<Row>, DbError> {
        Ok(self.rows(sql, values).await?.into_iter().next())
    }

    /// Runs a statement; returns how many rows it changed.
    pub(super) async fn execute(&mut self, sql: impl Into<Sql>, values: Vec<Value>) -> Result<u64, DbError> {
        self.execute_each(sql, std::iter::once(values)).await
    }

    /// Runs a statement for the values of each; returns how many rows all of them changed.
    pub(super) async fn execute_each(
        &mut self,
        sql: impl Into<Sql>,
        each: impl Iterator<Item = impl AsRef<[Value]>>,
    ) -> Result<u64, DbError> {
        let sql = sql.into().0;
        match self {
            Self::Sqlite(inner) => inner.execute_each(sql.as_str(), each),
            Self::Postgres(inner) => {
                let mut changed = 0;
                for values in each {
                    let query = sqlx::query_with(sql.clone(), postgres_arguments(values.as_ref())?);
                    changed += query.execute(&mut **inner).await?.rows_affected();
                }
                Ok(changed)
            }
        }
    }

    /// How many rows one statement may have. A statement is a message to PostgreSQL and its answer; to SQLite, which needs
    /// neither, one with a single row costs the least for each.
    pub(super) const fn rows_at_once(&self) -> usize {
        match self {
            Self::Sqlite(_) => 1,
            Self::Postgres(_) => usize::MAX,
        }
    }

    /// Makes it durable. An error says nothing of whether it is.
    pub(super) async fn commit(self) -> Result<(), DbError> {
        match self {
            Self::Sqlite(inner) => inner.commit(),
            Self::Postgres(inner) => Ok(inner.commit().await?),
        }
    }

    /// Undoes it, at once.
    pub(super) async fn rollback(self) -> Result<(), DbError> {
        match self {
            Self::Sqlite(inner) => inner.rollback(),
            Self::Postgres(inner) => Ok(inner.rollback().await?),
        }
    }
}

/// The text of a statement: fixed, or composed of fixed parts.
pub(super) struct Sql(SqlStr);

impl From<&'static str> for Sql {
    fn from(text: &'static str) -> Self {
        Self(text.into_sql_str())
    }
}

impl From<&Arc<str>> for Sql {
    /// Composed from fixed parts by [`super::rows`]; values never enter the text.
    fn from(text: &Arc<str>) -> Self {
        Self(AssertSqlSafe(Arc::clone(text)).into_sql_str())
    }
}

impl From<String> for Sql {
    /// Composed from fixed parts; values never enter the text.
    fn from(text: String) -> Self {
        Self(AssertSqlSafe(text).into_sql_str())
    }
}

/// A type that a column holds.
pub(super) trait Column: Sized {
    /// What the column is bound and read as.
    type Raw: RawColumn;

    /// From what stands in the column; `None` when it is nothing that was ever written there.
    fn from_raw(raw: Self::Raw) -> Option<Self>;
}

/// What both databases can read.
pub(super) trait RawColumn: Sized {
    fn read(row: &Row, column: usize) -> Result<Option<Self>, DbError>;
}

macro_rules! raw_columns {
    ($($type:ty),+) => {$(
        impl RawColumn for $type {
            fn read(row: &Row, column: usize) -> Result<Option<Self>, DbError> {
                match row {
                    Row::Sqlite(row) => Ok(row.try_get(column)?),
                    Row::Postgres(row) => Ok(row.try_get(column)?),
                    Row::Writing(row) => {
                        let value = row.get(column).ok_or(DbError::Column { column })?;
                        Option::column_result(value.into()).map_err(|_| DbError::Column { column })
                    }
                }
            }
        }

        impl Column for $type {
            type Raw = Self;

            fn from_raw(raw: Self) -> Option<Self> {
                Some(raw)
            }
        }
    )+};
}

raw_columns!(i64, String, Vec<u8>);

impl Row {
    /// The value of a column, counted from 0.
    pub(super) fn read<T: Column>(&self, column: usize) -> Result<T, DbError> {
        self.read_optional(column)?.ok_or(DbError::Column { column })
    }

    /// The value of a column that may be NULL.
    pub(super) fn read_optional<T: Column>(&self, column: usize) -> Result<Option<T>, DbError> {
        let raw = T::Raw::read(self, column)?;
        raw.map(|raw| T::from_raw(raw).ok_or(DbError::Column { column })).transpose()
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}

impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Self {
        Self::Int(value)
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(Some(value))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(Some(value.into()))
    }
}

impl From<Option<String>> for Value {
    fn from(value: Option<String>) -> Self {
        Self::Text(value)
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Blob(Some(value.into()))
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Blob(Some(value.into()))
    }
}

impl<const N: usize> From<[u8; N]> for Value {
    fn from(value: [u8; N]) -> Self {
        value.as_slice().into()
    }
}

impl From<Option<Vec<u8>>> for Value {
    fn from(value: Option<Vec<u8>>) -> Self {
        Self::Blob(value.map(SmallVec::from_vec))
    }
}

impl From<Arc<[u8]>> for Value {
    fn from(value: Arc<[u8]>) -> Self {
        Self::Shared(value)
    }
}

fn sqlite_arguments(values: &[Value]) -> Result<SqliteArguments, DbError> {
    let mut arguments = SqliteArguments::default();
    bind(&mut arguments, values)?;
    Ok(arguments)
}

fn postgres_arguments(values: &[Value]) -> Result<PgArguments, DbError> {
    let mut arguments = PgArguments::default();
    bind(&mut arguments, values)?;
    Ok(arguments)
}

fn bind<A>(arguments: &mut A, values: &[Value]) -> Result<(), DbError>
where
    A: Arguments,
    for<'t> Option<i64>: sqlx::Encode<'t, A::Database> + sqlx::Type<A::Database>,
    for<'t> Option<&'t str>: sqlx::Encode<'t, A::Database> + sqlx::Type<A::Database>,
    for<'t> Option<&'t [u8]>: sqlx::Encode<'t, A::Database> + sqlx::Type<A::Database>,
{
    arguments.reserve(values.len(), 0);
    for value in values {
        match value {
            Value::Int(value) => arguments.add(*value),
            Value::Text(value) => arguments.add(value.as_deref()),
            Value::Blob(value) => arguments.add(value.as_deref()),
            Value::Shared(value) => arguments.add(Some(&**value)),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(())
}

/// The database holds sealed keys: it is its owner's only.
fn create_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;

    let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match opened {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map(drop),
    }
}

/// Append-only: a migration that was ever released is never edited.
const SQLITE_MIGRATIONS: &[(&str, &str)] = &[
    ("first", include_str!("../../migrations/sqlite/0001_first.sql")),
    ("feed", include_str!("../../migrations/sqlite/0002_feed.sql")),
    ("verifiers", include_str!("../../migrations/sqlite/0003_verifiers.sql")),
    ("uses", include_str!("../../migrations/sqlite/0004_uses.sql")),
    ("keys", include_str!("../../migrations/sqlite/0005_keys.sql")),
    ("newest", include_str!("../../migrations/sqlite/0006_newest.sql")),
    ("blocks", include_str!("../../migrations/sqlite/0007_blocks.sql")),
];
const POSTGRES_MIGRATIONS: &[(&str, &str)] = &[
    ("first", include_str!("../../migrations/postgres/0001_first.sql")),
    ("feed", include_str!("../../migrations/postgres/0002_feed.sql")),
    ("verifiers", include_str!("../../migrations/postgres/0003_verifiers.sql")),
    ("uses", include_str!("../../migrations/postgres/0004_uses.sql")),
    ("keys", include_str!("../../migrations/postgres/0005_keys.sql")),
    ("newest", include_str!("../../migrations/postgres/0006_newest.sql")),
    ("blocks", include_str!("../../migrations/postgres/0007_blocks.sql")),
];
const MIGRATIONS_TABLE: &str = "_sqlx_migrations";

/// A connection is waited for this long.
const ACQUIRE: Duration = Duration::from_secs(10);
/// Reading connections.
const READERS: u32 = 8;
/// Prepared statements kept by a connection that reads, or one to PostgreSQL.
const STATEMENTS: usize = 512;
/// Rows that SQLite's thread may be ahead of whoever reads them.
const ROWS: usize = 1024;
/// A second program on the same file, such as a backup, is waited for this long.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    /// No kill of a process shows it, as the system keeps what was written: only the loss of power would.
    #[tokio::test]
    async fn whoever_writes_to_a_file_syncs() {
        let file = std::env::temp_dir().join(format!("chancery-synced-{}.db", std::process::id()));
        let db = Db::create(&format!("sqlite:{}", file.display())).await.unwrap();
        let mut transaction = db.begin().await.unwrap();
        let mut said = Vec::new();
        for pragma in ["synchronous", "journal_mode"] {
            let row = transaction.row(format!("PRAGMA {pragma}"), vec![]).await.unwrap().unwrap();
            said.push(row.read::<i64>(0).map_or_else(|_| row.read::<String>(0).unwrap(), |number| number.to_string()));
        }
        // 2 is FULL.
        assert_eq!(said, ["2", "wal"]);
        drop(transaction);
        let Db::Sqlite { copy, .. } = &db else { panic!("a file") };
        let synchronous: i64 = sqlx::query("PRAGMA synchronous").fetch_one(copy).await.unwrap().get(0);
        assert_eq!(synchronous, 2);
        db.close().await;
        std::fs::remove_file(file).unwrap();
    }

    #[tokio::test]
    async fn the_log_is_copied_into_the_file_while_all_stay_connected() {
        let file = std::env::temp_dir().join(format!("chancery-copied-{}.db", std::process::id()));
        let db = Db::create(&format!("sqlite:{}", file.display())).await.unwrap();
        let len = || std::fs::metadata(&file).unwrap().len();
        db.migrate().await.unwrap();
        let before = len();
        db.copy_log().await.unwrap();
        assert!(len() > before, "{before} bytes before, {} after", len());
        db.close().await;
        std::fs::remove_file(file).unwrap();
    }
}
