//! Key, certificate, trust anchors and CRLs as files, for programs that read files.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chancery_verifier::Material;
use zeroize::Zeroizing;

use crate::pem;
use crate::replace::replace;

/// A folder that holds `key.pem`, `cert.pem` (the chain, leaf first), `bundle.pem` (the roots) and `crl.pem` (of the whole
/// chain), each replaced at once and readable by its owner only.
#[derive(Debug)]
pub struct Files {
    folder: PathBuf,
    written: [Zeroizing<String>; 4],
    last: Option<Arc<Material>>,
}

const NAMES: [&str; 4] = ["key.pem", "cert.pem", "bundle.pem", "crl.pem"];

impl Files {
    /// Files in this folder, which is made if need be.
    ///
    /// # Errors
    /// What the file system says.
    pub fn new(folder: PathBuf) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(Self { folder, written: Default::default(), last: None })
    }

    /// Writes what differs from what was written last, and says whether anything did.
    ///
    /// # Errors
    /// What the file system says; what is not written yet will be with the next call.
    pub fn update(&mut self, material: &Arc<Material>) -> io::Result<bool> {
        if self.last.as_ref().is_some_and(|last| same(last, material)) {
            return Ok(false);
        }
        let now = [
            Zeroizing::new(pem::encode("PRIVATE KEY", material.key.secret_der())),
            Zeroizing::new(pem::encode_certificates(&material.chain)),
            Zeroizing::new(pem::encode_certificates(&material.roots)),
            Zeroizing::new(pem::encode_crls(&material.crls)),
        ];
        let mut changed = false;
        for ((name, content), written) in NAMES.iter().zip(now).zip(&mut self.written) {
            if *written != content {
                replace(&self.folder, name, content.as_bytes())?;
                *written = content;
                changed = true;
            }
        }
        self.last = Some(Arc::clone(material));
        Ok(changed)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The environment that tells a program where the files are: `CHANCERY_CERT`, `_KEY`, `_BUNDLE` and `_CRL`.
    pub fn environment(&self) -> [(&'static str, PathBuf); 4] {
        let [key, certificate, bundle, crl] = NAMES.map(|name| self.folder.join(name));
        [("CHANCERY_KEY", key), ("CHANCERY_CERT", certificate), ("CHANCERY_BUNDLE", bundle), ("CHANCERY_CRL", crl)]
    }
}

/// Material changes with each answer about revocations; what is in the files changes rarely, and can be large.
fn same(a: &Material, b: &Material) -> bool {
    Arc::ptr_eq(&a.key, &b.key) && Arc::ptr_eq(&a.roots, &b.roots) && Arc::ptr_eq(&a.crls, &b.crls)
}
