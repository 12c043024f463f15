//! `chancery sidecar`: an identity in files, for programs that are not its children.

use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};

use super::kept_files::KeptFiles;
use super::on_change::command;
use super::workload::Workload;
use super::{Exit, Failure};

/// Obtain an identity and keep it renewed in files.
///
/// DIR gets key.pem, cert.pem (the chain, leaf first), bundle.pem (the trust anchors) and crl.pem (of the whole chain),
/// each replaced at once and readable by its owner only. Runs until it is interrupted.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  CHANCERY_JOIN_FILE=/run/secrets/join chancery sidecar --dir /run/crm-tls --on-change 'nginx -s reload'
  chancery sidecar --agent invoice-bot --dir ./tls")]
pub(super) struct Sidecar {
    #[command(flatten)]
    workload: Workload,

    /// The folder for the files; made if need be.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,

    /// Run this command after files were replaced; one that fails is run again.
    #[arg(long, value_name = "COMMAND", value_parser = command)]
    on_change: Option<String>,
}

impl Sidecar {
    /// Keeps the files until a signal ends it.
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        let mut terminate = signal(SignalKind::terminate()).map_err(Failure::here)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::here)?;
        let mut files = KeptFiles::new(self.dir, self.on_change)?;
        let keeping = async {
            let identity = self.workload.start().await?;
            files.keep(identity.hand_on()).await;
            Ok(Exit::Done)
        };
        tokio::select! {
            ended = keeping => ended,
            _ = terminate.recv() => Ok(Exit::Done),
            _ = interrupt.recv() => Ok(Exit::Done),
        }
    }
}
