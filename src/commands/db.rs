//! `chancery db`.

use clap::Subcommand;
use serde_json::json;

use super::log::Database;
use super::{Context, Exit, Failure};
use crate::store::Store;

#[derive(Debug, Subcommand)]
pub(crate) enum Db {
    /// Bring a database's tables to what this version needs; `serve` does so too.
    #[command(after_help = "Examples:
  chancery db migrate --config /etc/chancery/chancery.toml
  chancery db migrate --database postgres://chancery@db/chancery")]
    Migrate(Database),
}

impl Db {
    pub(crate) async fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        let Self::Migrate(database) = self;
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
