//! What `run` and `sidecar` share: whose identity they obtain, and what they say about it.

use std::path::PathBuf;

use chancery_agent::{Error, Identity};
use chancery_identity::Name;

/// Whose identity. Everything may come from the environment instead.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Workload {
    /// Where key and certificate are kept, for this identity alone [env: CHANCERY_STATE_DIR]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,

    /// The name of the agent, when several identities are kept on this machine [env: CHANCERY_AGENT]
    #[arg(long, value_name = "NAME")]
    agent: Option<Name>,

    /// A file that holds the join string, instead of CHANCERY_JOIN [env: CHANCERY_JOIN_FILE]
    #[arg(long, value_name = "FILE")]
    join_file: Option<PathBuf>,
}

impl Workload {
    /// Resumes the identity, or joins.
    pub(super) async fn start(&self) -> Result<Identity, Error> {
        let mut builder = Identity::builder();
        if let Some(path) = &self.join_file {
            builder = builder.join_file(path)?;
        }
        if let Some(path) = &self.state_dir {
            builder = builder.state_dir(path);
        }
        if let Some(name) = &self.agent {
            builder = builder.agent(name.clone());
        }
        builder.or_env()?.observe(|event| eprintln!("chancery: {event}")).start().await
    }
}

/// The error with all that caused it, on one line; then what to do, if it says so.
pub(super) fn narrate_error(error: &dyn std::error::Error) {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    eprintln!("chancery: {line}");
}
