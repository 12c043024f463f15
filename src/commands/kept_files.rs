//! An identity in files that are kept fresh, for programs that are not our children.

use std::path::PathBuf;

use chancery_agent::{Files, HandOn};

use super::Failure;
use super::on_change::{Reaction, step};

/// Files of an identity, and what happens after they were replaced.
pub(super) struct KeptFiles {
    files: Files,
    reaction: Option<Reaction>,
}

impl KeptFiles {
    pub(super) fn new(dir: PathBuf, on_change: Option<String>) -> Result<Self, Failure> {
        let files = Files::new(dir).map_err(Failure::here)?;
        let reaction = on_change.map(|command| Reaction::new(command, &files.environment()));
        Ok(Self { files, reaction })
    }

    /// Writes them, and keeps them until this is dropped.
    pub(super) async fn keep(&mut self, mut material: HandOn) {
        loop {
            tokio::select! {
                Some(now) = material.next() => {
                    match self.files.update(&now) {
                        Ok(false) => {}
                        Ok(true) => if let Some(reaction) = &mut self.reaction { reaction.start() },
                        Err(error) => {
                            eprintln!("chancery: cannot replace files in {}: {error}", self.files.folder().display());
                        }
                    }
                }
                () = step(&mut self.reaction) => {}
            }
        }
    }
}
