//! The CRLs of all authorities as files, for programs that check certificates by themselves.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use chancery_verifier::{CrlHeader, CrlRefused};
use rustls_pki_types::CertificateRevocationListDer;

use crate::pem;
use crate::replace::{remove, replace_public};

/// The file with the CRLs of all authorities.
const BUNDLE: &str = "crl.pem";
/// What follows an authority's key id in the name of its own file.
const SUFFIX: &str = ".crl.pem";

/// A folder that holds `crl.pem`, the CRLs of the whole chain one after another, and `KEYID.crl.pem` for each authority,
/// KEYID being its key in 40 hex digits. Each is replaced at once, and readable by everybody: CRLs are public.
#[derive(Debug)]
pub struct CrlFiles {
    folder: PathBuf,
}

impl CrlFiles {
    /// Files in this folder, which is made if need be.
    ///
    /// # Errors
    /// What the file system says.
    pub fn new(folder: PathBuf) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o755).create(&folder)?;
        Ok(Self { folder })
    }

    /// Writes what differs from what is there, removes the files of authorities that publish no more, and says whether
    /// anything changed. The bundle comes last: who sees it new sees the others new.
    ///
    /// # Errors
    /// A CRL that names no authority; what the file system says. What is not written yet will be with the next call.
    pub fn update(&self, crls: &[CertificateRevocationListDer<'_>]) -> Result<bool, CrlFilesError> {
        let mut wanted = BTreeMap::new();
        for crl in crls {
            let authority = CrlHeader::read(crl)?.authority.ok_or(CrlFilesError::Nameless)?;
            wanted.insert(format!("{authority}{SUFFIX}"), pem::encode_crls(std::slice::from_ref(crl)));
        }
        let mut changed = false;
        for (name, content) in &wanted {
            changed |= self.write(name, content)?;
        }
        for name in self.own()? {
            if !wanted.contains_key(&name) {
                remove(&self.folder.join(name))?;
                changed = true;
            }
        }
        let bundle: String = wanted.into_values().collect();
        Ok(self.write(BUNDLE, &bundle)? || changed)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn write(&self, name: &str, content: &str) -> io::Result<bool> {
        match fs::read(self.folder.join(name)) {
            Ok(held) if held == content.as_bytes() => return Ok(false),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        replace_public(&self.folder, name, content.as_bytes())?;
        Ok(true)
    }

    /// The files of single authorities that are there. Nothing else in the folder is ours.
    fn own(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let key_id = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
            if key_id.is_some_and(|id| id.len() == 40 && id.bytes().all(|byte| byte.is_ascii_hexdigit())) {
                names.extend(name.to_str().map(str::to_owned));
            }
        }
        Ok(names)
    }
}

/// CRL files that could not be brought up to date.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CrlFilesError {
    /// Not a CRL that can be used.
    #[error(transparent)]
    Crl(#[from] CrlRefused),
    /// A CRL that does not say whose it is.
    #[error("wanted CRLs with an authority key identifier, got one without")]
    Nameless,
    /// The file system.
    #[error(transparent)]
    Io(#[from] io::Error),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

    use std::os::unix::fs::PermissionsExt;

    use chancery_testkit::TestCa;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn files_follow_the_crls_and_say_when_they_changed() {
        let folder = std::env::temp_dir().join(format!("chancery-crl-files-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let (ca, files) = (TestCa::new("example.org"), CrlFiles::new(folder.clone()).unwrap());
        let crls = ca.crls(&[]);
        assert!(files.update(&crls).unwrap());
        assert_eq!(names(&folder).len(), crls.len() + 1);
        let bundle = fs::read_to_string(folder.join(BUNDLE)).unwrap();
        assert_eq!(pem::crls(&bundle).unwrap().len(), crls.len());
        let own = CrlHeader::read(&crls[0]).unwrap().authority.unwrap();
        let single = fs::read_to_string(folder.join(format!("{own}.crl.pem"))).unwrap();
        assert_eq!(pem::crls(&single).unwrap(), [crls[0].clone()]);
        assert_eq!(fs::metadata(folder.join(BUNDLE)).unwrap().permissions().mode() & 0o777, 0o644);

        // A restart on the same files changes nothing, so nobody reloads.
        assert!(!CrlFiles::new(folder.clone()).unwrap().update(&crls).unwrap());
        // What others keep in the folder stays; the file of an authority that is gone goes.
        fs::write(folder.join("notes.pem"), "").unwrap();
        assert!(files.update(&crls[1..]).unwrap());
        assert!(!names(&folder).contains(&format!("{own}.crl.pem")));
        assert!(names(&folder).contains(&"notes.pem".to_owned()));
        assert!(files.update(&ca.crls(&[])).unwrap());
        fs::remove_dir_all(folder).unwrap();
    }
}
