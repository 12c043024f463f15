//! No story waits for ever for what does not come.

use std::io::Write;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// The slowest story takes a minute on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// Ends all stories, by name of the one that hangs, unless it is dropped in time.
pub(crate) struct Patience(#[expect(dead_code, reason = "its end tells")] Sender<()>);

impl Patience {
    pub(crate) fn new() -> Self {
        let (alive, told) = channel();
        let story = std::thread::current().name().unwrap_or("a story").to_owned();
        std::thread::spawn(move || {
            if told.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                // What a test prints is kept until it ends.
                let _ = writeln!(
                    std::io::stderr(),
                    "{story}: waits for what does not come, {PATIENCE:?} after its issuer started"
                );
                std::process::abort();
            }
        });
        Self(alive)
    }
}
