//! `chancery revocations watch`: the CRLs of the whole chain in files, for programs that check certificates themselves.

use std::path::PathBuf;
use std::sync::Arc;

use chancery_agent::CrlFiles;
use chancery_verifier::{Credentials, CrlHeader, Material};
use tokio::signal::unix::{SignalKind, signal};

use super::on_change::{Reaction, command, step};
use super::workload::Workload;
use super::{Context, Exit, Failure};

/// Keep CRL files of the whole chain fresh, and reload what reads them.
///
/// DIR gets crl.pem, the CRLs of all authorities one after another, as nginx' ssl_crl wants them, and KEYID.crl.pem for each
/// authority. Each is replaced at once. The command runs after files changed and only then: one at a time, for 30 s at most, and
/// again if it fails. Runs until it is interrupted. It has an identity, as `chancery sidecar` has, since the issuer is asked over
/// mutual TLS: whose does not matter.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  chancery revocations watch --out /run/crl --reload 'nginx -s reload'
  CHANCERY_JOIN_FILE=/run/secrets/join chancery revocations watch --state-dir /var/lib/crl-watch --out /run/crl
  chancery revocations watch --out ./crl --once")]
pub(crate) struct Watch {
    #[command(flatten)]
    workload: Workload,

    /// The folder for the files; made if need be.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Run this command after files changed.
    #[arg(long, value_name = "COMMAND", value_parser = command)]
    reload: Option<String>,

    /// Write the files once, reload if that changed them, and end.
    #[arg(long)]
    once: bool,
}

impl Watch {
    pub(crate) async fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        let mut terminate = signal(SignalKind::terminate()).map_err(Failure::here)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::here)?;
        tokio::select! {
            ended = Box::pin(self.watch(context)) => ended,
            _ = terminate.recv() => Ok(Exit::Done),
            _ = interrupt.recv() => Ok(Exit::Done),
        }
    }

    async fn watch(self, context: &Context<'_>) -> Result<Exit, Failure> {
        let Self { workload, out, reload, once } = self;
        let identity = workload.start().await?;
        let files = CrlFiles::new(out).map_err(Failure::here)?;
        let mut reaction = reload.map(|command| Reaction::new(command, &[]));
        if once {
            let now = Arc::clone(&identity.material().borrow());
            if now.answered.is_none() {
                return Err(Failure::unreachable("the issuer did not say which certificates are revoked"));
            }
            let written = update(&files, &now, context).map_err(Failure::here)?;
            return match (&mut reaction, written) {
                (Some(reaction), true) => run_once(reaction).await,
                _ => Ok(Exit::Done),
            };
        }
        let mut material = identity.hand_on();
        // Material changes with each answer of the issuer, most of which say that nothing changed.
        let mut seen = None;
        loop {
            tokio::select! {
                Some(now) = material.next() => {
                    if now.crls.is_empty() || seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &now.crls)) {
                        continue;
                    }
                    match update(&files, &now, context) {
                        Ok(changed) => {
                            seen = Some(Arc::clone(&now.crls));
                            if let (true, Some(reaction)) = (changed, &mut reaction) {
                                reaction.start();
                            }
                        }
                        // Tried again with the next answer, a second from now.
                        Err(error) => {
                            eprintln!("chancery: cannot replace CRLs in {}: {error}", files.folder().display());
                        }
                    }
                }
                () = step(&mut reaction) => {}
            }
        }
    }
}

fn update(files: &CrlFiles, material: &Material, context: &Context<'_>) -> Result<bool, chancery_agent::CrlFilesError> {
    let changed = files.update(&material.crls)?;
    if changed {
        context.output.say(&format!("chancery: CRLs in {} are new", files.folder().display()));
        for crl in material.crls.iter() {
            let CrlHeader { authority, number, this_update, next_update, .. } = CrlHeader::read(crl)?;
            let authority = authority.map(|key| key.to_string()).unwrap_or_default();
            let (made, next) = (this_update.to_seconds_text(), next_update.to_seconds_text());
            context.output.say(&format!("  authority {authority}  CRL {number}  made {made}  next by {next}"));
        }
    }
    Ok(changed)
}

/// The command's first run decides: with nobody to watch there is nobody to try again.
async fn run_once(reaction: &mut Reaction) -> Result<Exit, Failure> {
    reaction.start();
    if !reaction.has_failed() {
        reaction.step().await;
    }
    Ok(if reaction.has_failed() { Exit::Failed } else { Exit::Done })
}
