//! What `run` and `sidecar` share: whose identity they obtain, and what they say about it.

use std::path::PathBuf;

use chancery_agent::{Error, Identity};
use chancery_identity::Name;

use super::Failure;

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

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        if let Some(problem) = error.problem() {
            return problem.clone().into();
        }
        match &error {
            Error::JoinString(_) | Error::JoinFile { .. } | Error::Variable { .. } => Self::usage(error.explain()),
            _ if error.is_unreachable() => Self::unreachable(error.explain()),
            _ => Self::here(error.explain()),
        }
    }
}
