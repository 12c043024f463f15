//! `chancery run -- CMD`: an identity for one child process, in files and environment variables.

use std::ffi::OsString;
use std::io::{ErrorKind, IsTerminal};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use chancery_agent::{Files, Identity};
use chancery_verifier::{Credentials, Material};

use super::on_change::{OnChange, Reaction, step};
use super::workload::Workload;
use super::{Context, Exit, Failure};

/// We failed before the child ran.
const OURS_FAILED: u8 = 125;
/// The child's program is there and cannot be started, as shells say it.
const NOT_STARTED: u8 = 126;
/// There is no such program, as shells say it.
const NOT_FOUND: u8 = 127;

/// Signals that the child gets from us as we get them.
const FORWARDED: [(SignalKind, Signal); 5] = [
    (SignalKind::terminate(), Signal::TERM),
    (SignalKind::hangup(), Signal::HUP),
    (SignalKind::quit(), Signal::QUIT),
    (SignalKind::user_defined1(), Signal::USR1),
    (SignalKind::user_defined2(), Signal::USR2),
];

/// Obtain an identity, keep it renewed, and run a program with it.
///
/// The program finds its certificate, key, trust anchors and CRLs in the files that CHANCERY_CERT, CHANCERY_KEY,
/// CHANCERY_BUNDLE and CHANCERY_CRL name, and who it is in CHANCERY_SPIFFE_ID. Its exit code is ours: 125 if we failed
/// first, 128+n if signal n ended it.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  CHANCERY_JOIN='https://ca.internal:8443#chj_…' chancery run -- python bot.py
  chancery run --on-change HUP -- ./server
  chancery run --on-change 'nginx -s reload' -- nginx -g 'daemon off;'")]
pub(super) struct Run {
    #[command(flatten)]
    workload: Workload,

    /// After files were replaced: send the program this signal (HUP, USR1, …), or run this command.
    #[arg(long, value_name = "SIGNAL|COMMAND")]
    on_change: Option<OnChange>,

    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    command: Vec<OsString>,
}

impl Run {
    /// Runs the child to its end, and ends as it did.
    pub(super) async fn run(self, context: &Context<'_>) -> Exit {
        Exit::Child(match self.start().await {
            Ok(running) => running.wait().await,
            Err(NotRunning { failure, code }) => {
                context.output.complain(&failure);
                code
            }
        })
    }

    async fn start(self) -> Result<Running, NotRunning> {
        let identity = self.workload.start().await.map_err(Failure::from)?;
        let mut files = Files::new(identity.state_folder().join("files")).map_err(Failure::here)?;
        let material = Arc::clone(&identity.material().borrow());
        files.update(&material).map_err(Failure::here)?;

        let signals = listen().map_err(Failure::here)?;
        let (program, arguments) = self.command.split_first().ok_or_else(|| Failure::usage("no program to run"))?;
        let spawned = Command::new(program)
            .args(arguments)
            .envs(files.environment())
            .env("CHANCERY_SPIFFE_ID", identity.spiffe_id().as_str())
            .env_remove("CHANCERY_JOIN")
            .env_remove("CHANCERY_JOIN_FILE")
            .spawn();
        let child = spawned.map_err(|error| NotRunning {
            code: if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_STARTED },
            failure: Failure::here(format!("cannot run {}: {error}", program.display())),
        })?;
        let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let (on_change, reaction) = match self.on_change {
            Some(OnChange::Signal(signal)) => (Some(signal), None),
            Some(OnChange::Command(command)) => (None, Some(Reaction::new(command, &files.environment()))),
            None => (None, None),
        };
        Ok(Running { identity, files, child, pid, signals, on_change, reaction })
    }
}

/// Why the child never ran, and the exit code that says so.
struct NotRunning {
    failure: Failure,
    code: u8,
}

impl From<Failure> for NotRunning {
    fn from(failure: Failure) -> Self {
        Self { failure, code: OURS_FAILED }
    }
}

struct Running {
    identity: Identity,
    files: Files,
    child: Child,
    pid: Option<Pid>,
    signals: mpsc::Receiver<Signal>,
    on_change: Option<Signal>,
    reaction: Option<Reaction>,
}

impl Running {
    async fn wait(mut self) -> u8 {
        let mut material = self.identity.hand_on();
        loop {
            tokio::select! {
                ended = self.child.wait() => return match ended {
                    Ok(status) => code(status),
                    Err(error) => {
                        eprintln!("chancery: the program cannot be waited for: {error}");
                        OURS_FAILED
                    }
                },
                Some(signal) = self.signals.recv() => self.send(signal),
                Some(now) = material.next() => self.update(&now),
                () = step(&mut self.reaction) => {}
            }
        }
    }

    fn update(&mut self, material: &Arc<Material>) {
        match self.files.update(material) {
            Ok(false) => {}
            Ok(true) => {
                if let Some(signal) = self.on_change {
                    self.send(signal);
                }
                if let Some(reaction) = &mut self.reaction {
                    reaction.start();
                }
            }
            Err(error) => eprintln!("chancery: cannot replace files in {}: {error}", self.files.folder().display()),
        }
    }

    /// The child is waited for by nobody else, so its id is its own as long as this runs.
    fn send(&self, signal: Signal) {
        if let Some(pid) = self.pid
            && let Err(error) = kill_process(pid, signal)
        {
            eprintln!("chancery: cannot send {signal:?} to the program: {error}");
        }
    }
}

/// All signals to be forwarded, in the order they come.
fn listen() -> std::io::Result<mpsc::Receiver<Signal>> {
    let (sender, receiver) = mpsc::channel(16);
    let mut kinds = FORWARDED.to_vec();
    // A terminal gives the interrupt to the child itself; then ours is only not to die of it.
    let terminal = std::io::stdin().is_terminal();
    kinds.push((SignalKind::interrupt(), Signal::INT));
    for (kind, forwarded) in kinds {
        let mut stream = signal(kind)?;
        let sender = sender.clone();
        let by_terminal = terminal && matches!(forwarded, Signal::INT | Signal::QUIT);
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                if !by_terminal && sender.send(forwarded).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(receiver)
}

/// As shells say it: 128 and the signal's number.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(OURS_FAILED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_childs_end_is_ours() {
        assert_eq!(code(ExitStatus::from_raw(0)), 0);
        assert_eq!(code(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(code(ExitStatus::from_raw(255 << 8)), 255);
        assert_eq!(code(ExitStatus::from_raw(15)), 143);
        assert_eq!(code(ExitStatus::from_raw(9)), 137);
    }
}
