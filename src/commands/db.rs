//! `chancery db`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::json;

use super::log::Database;
use super::restore::Restore;
use super::{Context, Exit, Failure};
use crate::clock::SystemClock;
use crate::store::Store;

#[derive(Debug, Subcommand)]
pub(crate) enum Db {
    /// Bring a database's tables to what this version needs; `serve` does so too.
    #[command(after_help = "Examples:
  chancery db migrate --config /etc/chancery/chancery.toml
  chancery db migrate --database postgres://chancery@db/chancery")]
    Migrate(Database),
    /// Copy a SQLite database into a file, while an issuer writes to it. The seal's key is not in it.
    #[command(after_help = "Examples:
  chancery db backup /backup/chancery.db --config /etc/chancery/chancery.toml")]
    Backup(Backup),
    /// Go on from a restored backup: a new epoch, with a log and issuing authorities of its own.
    #[command(after_help = "Examples:
  chancery db restore --new-epoch --dry-run --config /etc/chancery/chancery.toml
  chancery db restore --new-epoch --import feed.txt --yes --config /etc/chancery/chancery.toml")]
    Restore(Restore),
}

#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// The file to make.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    database: Database,
}

impl Db {
    pub(crate) async fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        let database = match self {
            Self::Migrate(database) => database,
            Self::Backup(backup) => return backup.run(context).await,
            Self::Restore(restore) => return restore.run(context).await,
        };
        let url = database.url(context)?;
        if context.global.dry_run {
            context.output.say("would migrate the database");
            return Ok(Exit::Done);
        }
        let applied = Store::migrate(&url).await.map_err(Failure::here)?;
        let words = match applied {
            0 => "nothing to do".to_owned(),
            1 => "1 migration applied".to_owned(),
            more => format!("{more} migrations applied"),
        };
        context.output.result(&json!({ "applied": applied }), &words);
        Ok(Exit::Done)
    }
}

impl Backup {
    async fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        let url = self.database.url(context)?;
        let postgres = || {
            Failure::here("the database is PostgreSQL's: its own tools copy it")
                .fix("pg_dump --format=custom --file=FILE URL")
        };
        if !url.starts_with("sqlite:") {
            return Err(postgres());
        }
        let file = self.file.display();
        if self.file.exists() {
            return Err(Failure::here(format!("{file} is there already; a backup replaces nothing")));
        }
        if context.global.dry_run {
            context.output.say(&format!("would copy the database into {file}"));
            return Ok(Exit::Done);
        }
        let random = Arc::new(ring::rand::SystemRandom::new());
        let store = Store::open(&url, Arc::new(SystemClock), random).await.map_err(Failure::here)?;
        if !store.copy_to(&self.file).await.map_err(Failure::here)? {
            return Err(postgres());
        }
        let position = store.state().position();
        let words = format!("{file}  revocations up to n {}  log {} entries", position.n, position.log_size);
        context.output.result(&json!({ "file": self.file, "n": position.n, "log_size": position.log_size }), &words);
        Ok(Exit::Done)
    }
}
