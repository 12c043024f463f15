//! What happens when a certificate, bundle or CRL file was replaced: a signal, or a command.

use std::convert::Infallible;
use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use rustix::process::Signal;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep_until, timeout_at};

/// How long a command may run.
const RUNS_MAX: Duration = Duration::from_secs(30);
/// How long after a first failure it is tried again. Each further one doubles it.
const RETRY_FIRST: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 1000 });
/// The longest between two tries.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// What to do after files were replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OnChange {
    /// Send the child this signal.
    Signal(Signal),
    /// Run this in a shell.
    Command(String),
}

/// A signal by its name, with or without `SIG`; all else is a command.
impl FromStr for OnChange {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text.strip_prefix("SIG").unwrap_or(text) {
            "HUP" => Self::Signal(Signal::HUP),
            "INT" => Self::Signal(Signal::INT),
            "TERM" => Self::Signal(Signal::TERM),
            "USR1" => Self::Signal(Signal::USR1),
            "USR2" => Self::Signal(Signal::USR2),
            "WINCH" => Self::Signal(Signal::WINCH),
            _ => Self::Command(text.to_owned()),
        })
    }
}

/// A command where there is no child to send a signal to.
pub(super) fn command(text: &str) -> Result<String, String> {
    match text.parse() {
        Ok(OnChange::Command(command)) => Ok(command),
        _ => Err(format!("there is no child to send {text} to: give a command, such as 'nginx -s reload'")),
    }
}

/// A command run after changes: one at a time, within [`RUNS_MAX`], once more if files changed while it ran, and again
/// after a while if it failed.
pub(super) struct Reaction {
    command: String,
    environment: Vec<(&'static str, OsString)>,
    state: State,
    failures: u32,
}

enum State {
    Idle,
    Running {
        child: Child,
        until: Instant,
        again: bool,
    },
    /// It failed, and will be run again.
    Resting {
        until: Instant,
    },
}

impl Reaction {
    pub(super) fn new(command: String, environment: &[(&'static str, PathBuf)]) -> Self {
        let environment = environment.iter().map(|(name, path)| (*name, path.clone().into_os_string())).collect();
        Self { command, environment, state: State::Idle, failures: 0 }
    }

    /// Runs the command, now or after the one that runs.
    pub(super) fn start(&mut self) {
        if let State::Running { again, .. } = &mut self.state {
            *again = true;
            return;
        }
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(&self.command).envs(self.environment.iter().map(|(name, value)| (name, value)));
        // A process group of its own, so that what the shell started ends with it.
        shell.process_group(0);
        match shell.spawn() {
            Ok(child) => self.state = State::Running { child, until: Instant::now() + RUNS_MAX, again: false },
            Err(error) => self.failed(&error.to_string()),
        }
    }

    /// Goes on by one step: waits for the command to end, or for the time to try again; for ever, when there is nothing to
    /// do. Dropping the wait loses nothing.
    pub(super) async fn step(&mut self) {
        match &mut self.state {
            State::Idle => std::future::pending().await,
            State::Resting { until } => {
                sleep_until(*until).await;
                self.start();
            }
            State::Running { child, until, again } => {
                let ended = timeout_at(*until, child.wait()).await;
                let again = *again;
                match ended {
                    Ok(Ok(status)) if status.success() => {
                        if self.failures > 0 {
                            eprintln!("chancery: {:?} succeeded at last", self.command);
                        }
                        (self.failures, self.state) = (0, State::Idle);
                        if again {
                            self.start();
                        }
                    }
                    Ok(Ok(status)) => self.failed(&format!("it ended with {status}")),
                    Ok(Err(error)) => self.failed(&format!("it cannot be waited for: {error}")),
                    Err(_) => {
                        end(child);
                        self.failed(&format!("it did not end within {} s, and was killed", RUNS_MAX.as_secs()));
                    }
                }
            }
        }
    }

    /// Whether the last run failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failures > 0
    }

    fn failed(&mut self, why: &str) {
        let rest = RETRY_FIRST.saturating_mul(1 << self.failures.min(16)).min(RETRY_MAX);
        self.failures = self.failures.saturating_add(1);
        self.state = State::Resting { until: Instant::now() + rest };
        eprintln!("chancery: {:?} failed: {why}; it is tried again in {} s", self.command, rest.as_secs());
    }
}

/// Ends the command and what it started.
fn end(child: &mut Child) {
    let group = child.id().and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?));
    if let Some(group) = group {
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
}

/// Goes on with the command by one step, if there is one.
pub(super) async fn step(reaction: &mut Option<Reaction>) {
    match reaction {
        Some(reaction) => reaction.step().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_signal_goes_by_its_name_and_all_else_is_a_command() {
        assert_eq!("HUP".parse(), Ok(OnChange::Signal(Signal::HUP)));
        assert_eq!("SIGUSR1".parse(), Ok(OnChange::Signal(Signal::USR1)));
        assert_eq!("nginx -s reload".parse(), Ok(OnChange::Command("nginx -s reload".to_owned())));
        assert!(command("HUP").is_err());
    }

    /// Fails twice, then succeeds; a change in between asks for one more run and not for a second one at a time.
    #[tokio::test]
    async fn a_failed_command_is_tried_again_until_it_succeeds() {
        let file = std::env::temp_dir().join(format!("chancery-reaction-{}", std::process::id()));
        let path = file.display();
        let command = format!("echo run >> {path}; test $(wc -l < {path}) -ge 3");
        let mut reaction = Reaction::new(command, &[]);
        reaction.start();
        reaction.step().await;
        assert!(reaction.has_failed());
        while reaction.has_failed() {
            reaction.step().await;
        }
        reaction.start();
        reaction.start();
        reaction.step().await;
        reaction.step().await;
        let runs = std::fs::read_to_string(&file).unwrap().lines().count();
        std::fs::remove_file(file).unwrap();
        assert_eq!(runs, 5);
    }
}
