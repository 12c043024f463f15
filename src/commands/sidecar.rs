//! `chancery sidecar`: an identity in files, for programs that are not its children.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use chancery_agent::Files;
use chancery_verifier::Credentials;

use super::on_change::{OnChange, Reaction, finished};
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

    /// Run this command after files were replaced.
    #[arg(long, value_name = "COMMAND", value_parser = command)]
    on_change: Option<String>,
}

impl Sidecar {
    /// Keeps the files until a signal ends it.
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        let mut terminate = signal(SignalKind::terminate()).map_err(Failure::here)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::here)?;
        let mut files = Files::new(self.dir).map_err(Failure::here)?;
        let identity = tokio::select! {
            started = self.workload.start() => started?,
            _ = terminate.recv() => return Ok(Exit::Done),
            _ = interrupt.recv() => return Ok(Exit::Done),
        };
        let mut reaction = self.on_change.map(|command| Reaction::new(command, &files.environment()));
        let mut material = identity.material();
        material.mark_changed();
        loop {
            tokio::select! {
                Ok(()) = material.changed() => {
                    let now = Arc::clone(&material.borrow_and_update());
                    match files.update(&now) {
                        Ok(false) => {}
                        Ok(true) => if let Some(reaction) = &mut reaction { reaction.start() },
                        Err(error) => {
                            eprintln!("chancery: cannot replace files in {}: {error}", files.folder().display());
                        }
                    }
                }
                () = finished(&mut reaction) => {}
                _ = terminate.recv() => return Ok(Exit::Done),
                _ = interrupt.recv() => return Ok(Exit::Done),
            }
        }
    }
}

fn command(text: &str) -> Result<String, String> {
    match text.parse() {
        Ok(OnChange::Command(command)) => Ok(command),
        _ => Err(format!("a sidecar has no child to send {text} to: give a command, such as 'nginx -s reload'")),
    }
}
