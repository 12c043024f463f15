//! What can go wrong with a database.

use std::path::PathBuf;

use chancery_identity::LeafError;
use rusqlite::ErrorCode;
use rusqlite::ffi::{SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_ROWID, SQLITE_CONSTRAINT_UNIQUE};
use sqlx::migrate::MigrateError;

/// What can go wrong with a database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DbError {
    /// Neither of the two kinds.
    #[error("wanted a store of sqlite: or postgres:, got {0:?}")]
    Url(Box<str>),
    /// No file there.
    #[error("there is no database at {}; `chancery db migrate` makes one", path.display())]
    Absent {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The file cannot be made.
    #[error("cannot make the database {}", path.display())]
    File {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        error: std::io::Error,
    },
    /// Made by an earlier version, or empty.
    #[error("the database has {found} of {wanted} migrations; run `chancery db migrate` (make a backup first)")]
    Unmigrated {
        /// How many it has.
        found: usize,
        /// How many this program needs.
        wanted: usize,
    },
    /// Made by a later version.
    #[error(
        "the database was made by a later version (migration {found}, known are {known}); use that version's program"
    )]
    Newer {
        /// The migration that this program does not know.
        found: i64,
        /// How many it knows.
        known: usize,
    },
    /// Migrated by something else.
    #[error("migration {version} of the database is not the one this program has; use the program that made it")]
    Altered {
        /// Which.
        version: i64,
    },
    /// A migration failed.
    #[error("cannot migrate the database")]
    Migrate(#[from] MigrateError),
    /// A column holds what was never written there.
    #[error("column {column} of a row holds what no version wrote; restore a backup")]
    Column {
        /// Which, counted from 0.
        column: usize,
    },
    /// A lineage's row changed under the transaction that holds it.
    #[error("a lineage is not what was read of it in the same transaction; restore a backup")]
    Lineage,
    /// The head row is gone.
    #[error("the database has no head row; restore a backup")]
    NoHead,
    /// A number that no entry has.
    #[error("the revocation sequence has no entry {}; restore a backup", .after + 1)]
    Gap {
        /// The last one that is there.
        after: u64,
    },
    /// The system gives no thread.
    #[error("the system gives no thread to write on")]
    Thread(#[source] std::io::Error),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// A certificate that no version wrote.
    #[error("a certificate in the database cannot be read; restore a backup")]
    Certificate(#[source] LeafError),
    /// A document that no version wrote.
    #[error("a record in the database cannot be read; restore a backup")]
    Document(#[source] serde_json::Error),
    /// The database said no, or nothing.
    #[error("the database failed")]
    Sqlx(#[from] sqlx::Error),
    /// The same of SQLite's connection that writes.
    #[error("the database failed")]
    Sqlite(#[from] rusqlite::Error),
}

impl DbError {
    /// Whether the database is well and said no to one statement.
    pub(in crate::store) fn concerns_statement(&self) -> bool {
        match self {
            Self::Sqlx(sqlx::Error::Database(_)) | Self::Column { .. } | Self::Document(_) | Self::Certificate(_) => {
                true
            }
            // A file that is locked, full or broken says no to each alone, too, and may take its time for it.
            Self::Sqlite(error) => matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch | ErrorCode::Unknown)
            ),
            _ => false,
        }
    }

    /// Whether a row was refused because another one has its key.
    pub(in crate::store) fn unique_violation(&self) -> bool {
        match self {
            Self::Sqlx(sqlx::Error::Database(error)) => error.is_unique_violation(),
            Self::Sqlite(error) => error.sqlite_error().is_some_and(|error| {
                matches!(
                    error.extended_code,
                    SQLITE_CONSTRAINT_UNIQUE | SQLITE_CONSTRAINT_PRIMARYKEY | SQLITE_CONSTRAINT_ROWID
                )
            }),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi::{Error, SQLITE_BUSY, SQLITE_FULL, SQLITE_IOERR};

    use super::*;

    #[test]
    fn only_a_database_that_is_well_is_asked_again_for_each_alone() {
        let error = |code| DbError::from(rusqlite::Error::SqliteFailure(Error::new(code), None));
        for broken in [SQLITE_BUSY, SQLITE_FULL, SQLITE_IOERR] {
            assert!(!error(broken).concerns_statement(), "{broken}");
        }
        let twice = error(SQLITE_CONSTRAINT_UNIQUE);
        assert!(twice.concerns_statement() && twice.unique_violation());
    }
}
