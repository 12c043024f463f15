//! `chancery login`: an administrator's certificate, kept for the commands that follow.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::json;

use chancery_agent::{Error, Identity, StateError};
use chancery_api::JoinString;

use super::{Context, Exit, Failure};

/// How often a login that another command holds is asked for again.
const TRY_AGAIN: Duration = Duration::from_millis(20);

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  CHANCERY_JOIN='https://ca.internal:8443#chj_…' chancery login
  chancery login --join-file ana.join")]
pub(crate) struct Login {
    /// File with the join string; without it CHANCERY_JOIN, or stdin.
    #[arg(long, env = "CHANCERY_JOIN_FILE", value_name = "FILE")]
    join_file: Option<PathBuf>,
}

impl Login {
    pub(crate) async fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        enrol(context, self.join_string()?.parse().map_err(Failure::usage)?).await
    }

    fn join_string(&self) -> Result<zeroize::Zeroizing<String>, Failure> {
        if let Some(path) = &self.join_file {
            let text = std::fs::read_to_string(path);
            return text.map(Into::into).map_err(|error| Failure::usage(format!("{}: {error}", path.display())));
        }
        if let Ok(text) = std::env::var("CHANCERY_JOIN") {
            return Ok(text.into());
        }
        let mut stdin = std::io::stdin();
        if stdin.is_terminal() {
            return Err(Failure::usage("no join string: neither CHANCERY_JOIN nor --join-file, and nothing on stdin")
                .fix("an administrator: chancery admins create NAME --access LEVEL"));
        }
        let mut text = zeroize::Zeroizing::new(String::new());
        stdin.read_to_string(&mut text).map_err(Failure::here)?;
        Ok(text)
    }
}

/// Attests as the administrator that the join token is for, and keeps its certificate.
pub(crate) async fn enrol(context: &Context<'_>, join: JoinString) -> Result<Exit, Failure> {
    let folder = folder(join.issuer())?;
    let issuer = join.issuer().to_owned();
    let output = context.output;
    let builder = Identity::builder().join(join).state_dir(&folder);
    let identity = builder.observe(move |event| output.say(&format!("chancery: {event}"))).start().await?;
    let id = identity.spiffe_id();
    let words = format!("logged in at {issuer} as {id}\n  kept in {}, renewed by itself", folder.display());
    context.output.result(&json!({ "issuer": issuer, "spiffe_id": id, "folder": folder }), &words);
    Ok(Exit::Done)
}

/// Takes up the login that a folder keeps, after another command that has it.
pub(crate) async fn resume(folder: &Path, patience: Duration) -> Result<Identity, Failure> {
    if !folder.exists() {
        return Err(Failure::usage(format!("not logged in there: no {}", folder.display()))
            .fix("chancery login, or an API token in --token-file"));
    }
    let taken_up = async {
        loop {
            match Identity::builder().state_dir(folder).observe(|_| {}).start().await {
                Err(Error::State(StateError::InUse { .. })) => tokio::time::sleep(TRY_AGAIN).await,
                outcome => return outcome,
            }
        }
    };
    let held = |_| Failure::here(format!("another command holds the login in {}", folder.display()));
    Ok(tokio::time::timeout(patience, taken_up).await.map_err(held)??)
}

/// The folder that keeps the login at one issuer.
pub(crate) fn folder(issuer: &str) -> Result<PathBuf, Failure> {
    let host = issuer.strip_prefix("https://").unwrap_or(issuer).trim_end_matches('/');
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' };
    Ok(logins()?.join(host.chars().map(plain).collect::<String>()))
}

/// All logins of this user.
pub(crate) fn folders() -> Result<Vec<PathBuf>, Failure> {
    let Ok(entries) = std::fs::read_dir(logins()?) else { return Ok(Vec::new()) };
    Ok(entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_dir()).collect())
}

fn logins() -> Result<PathBuf, Failure> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || variable("HOME").map(|home| home.join(".local/state"));
    let base = variable("XDG_STATE_HOME").or_else(home);
    Ok(base.ok_or_else(|| Failure::usage("no place for a login: set XDG_STATE_HOME or HOME"))?.join("chancery-login"))
}
