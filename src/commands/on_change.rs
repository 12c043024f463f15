//! What happens when a certificate, bundle or CRL file was replaced: a signal, or a command.

use std::convert::Infallible;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::str::FromStr;

use rustix::process::Signal;
use tokio::process::{Child, Command};

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

/// A command run after changes: one at a time, and once more if files changed while it ran.
pub(super) struct Reaction {
    command: String,
    environment: Vec<(&'static str, OsString)>,
    running: Option<Child>,
    again: bool,
}

impl Reaction {
    pub(super) fn new(command: String, environment: &[(&'static str, PathBuf)]) -> Self {
        let environment = environment.iter().map(|(name, path)| (*name, path.clone().into_os_string())).collect();
        Self { command, environment, running: None, again: false }
    }

    /// Runs the command, now or after the one that runs.
    pub(super) fn start(&mut self) {
        if self.running.is_some() {
            self.again = true;
            return;
        }
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(&self.command).envs(self.environment.iter().map(|(name, value)| (name, value)));
        match shell.spawn() {
            Ok(child) => self.running = Some(child),
            Err(error) => eprintln!("chancery: cannot run {:?}: {error}", self.command),
        }
    }

    /// Waits for the command to end; for ever, when none runs. Dropping the wait loses nothing.
    pub(super) async fn finished(&mut self) {
        let Some(child) = &mut self.running else { return std::future::pending().await };
        let ended = child.wait().await;
        self.running = None;
        self.report(ended);
        if std::mem::take(&mut self.again) {
            self.start();
        }
    }

    fn report(&self, ended: std::io::Result<ExitStatus>) {
        match ended {
            Ok(status) if status.success() => {}
            Ok(status) => eprintln!("chancery: {:?} ended with {status}", self.command),
            Err(error) => eprintln!("chancery: {:?} cannot be waited for: {error}", self.command),
        }
    }
}

/// Waits for the command to end, if there is one.
pub(super) async fn finished(reaction: &mut Option<Reaction>) {
    match reaction {
        Some(reaction) => reaction.finished().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_goes_by_its_name_and_all_else_is_a_command() {
        assert_eq!("HUP".parse(), Ok(OnChange::Signal(Signal::HUP)));
        assert_eq!("SIGUSR1".parse(), Ok(OnChange::Signal(Signal::USR1)));
        assert_eq!("nginx -s reload".parse(), Ok(OnChange::Command("nginx -s reload".to_owned())));
    }
}
