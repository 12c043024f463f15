//! An identity in files that are kept fresh, for programs that are not our children.

use std::path::PathBuf;
use std::sync::Arc;

use chancery_agent::Files;
use chancery_verifier::Material;
use tokio::sync::watch;

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
    pub(super) async fn keep(&mut self, mut material: watch::Receiver<Arc<Material>>) {
        material.mark_changed();
        loop {
            tokio::select! {
                Ok(()) = material.changed() => {
                    let now = Arc::clone(&material.borrow_and_update());
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
