//! Replacing a file so that every reader, and a machine that loses power, sees the old content or the new one whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Writes `content` to `folder/name`, readable by the owner only.
pub(crate) fn replace(folder: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    replace_with(folder, name, content, 0o600)
}

/// Writes `content` to `folder/name`, readable by everybody.
pub(crate) fn replace_public(folder: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    replace_with(folder, name, content, 0o644)
}

fn replace_with(folder: &Path, name: &str, content: &[u8], mode: u32) -> io::Result<()> {
    let new = folder.join(format!(".{name}.new"));
    remove(&new)?;
    // Created anew, so neither a link laid here by somebody else nor its permissions are followed.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, folder.join(name))?;
    sync(folder)
}

/// Adds to the end of a file that is there, for good.
pub(crate) fn append(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).open(path)?;
    file.write_all(content)?;
    file.sync_data()
}

/// Removes a file for good; one that is not there is as good.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// A rename is durable once its folder is.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
