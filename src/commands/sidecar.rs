//! `chancery sidecar`: an identity in files, for programs that are not its children.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use chancery_agent::Files;
use chancery_verifier::Credentials;

use super::Exit;
use super::on_change::{OnChange, Reaction};
use super::workload::{Workload, narrate_error};

/// Obtain an identity and keep it renewed in files.
///
/// DIR gets key.pem, cert.pem (the chain, leaf first), bundle.pem (the trust anchors) and crl.pem (of the whole chain),
/// each replaced at once and readable by its owner only. Runs until it is interrupted.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  CHANCERY_JOIN_FILE=/run/secrets/join chancery sidecar --dir /run/crm-tls --on-change 'nginx -s reload'
  chancery sidecar --agent invoice-bot --dir ./tls")]
pub struct SidecarArgs {
    #[command(flatten)]
    workload: Workload,

    /// The folder for the files; made if need be.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,

    /// Run this command after files were replaced.
    #[arg(long, value_name = "COMMAND", value_parser = command)]
    on_change: Option<String>,
}

/// Keeps the files until a signal ends it.
pub(super) async fn run(args: SidecarArgs) -> Exit {
    match keep(args).await {
        Ok(()) => Exit::Done,
        Err(error) => {
            narrate_error(&*error);
            Exit::Failed
        }
    }
}

async fn keep(args: SidecarArgs) -> Result<(), Box<dyn std::error::Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut files = Files::new(args.dir)?;
    let identity = tokio::select! {
        started = args.workload.start() => started?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let mut reaction = args.on_change.map(|command| Reaction::new(command, &files.environment()));
    let mut material = identity.material();
    material.mark_changed();
    loop {
        tokio::select! {
            Ok(()) = material.changed() => {
                let now = Arc::clone(&material.borrow_and_update());
                match files.update(&now) {
                    Ok(false) => {}
                    Ok(true) => if let Some(reaction) = &mut reaction { reaction.start() },
                    Err(error) => eprintln!("chancery: cannot replace files in {}: {error}", files.folder().display()),
                }
            }
            () = super::on_change::finished(&mut reaction) => {}
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        }
    }
}

fn command(text: &str) -> Result<String, String> {
    match text.parse() {
        Ok(OnChange::Command(command)) => Ok(command),
        _ => Err(format!("a sidecar has no child to send {text} to: give a command, such as 'nginx -s reload'")),
    }
}
