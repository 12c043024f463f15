//! Credentials from the files that a sidecar keeps.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chancery_identity::{Leaf, LeafError};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use tokio::sync::watch;
use tokio::task::{AbortHandle, spawn_blocking};

use crate::{Credentials, Freshness, Material};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Credentials from PEM files, read again when they change. The files must be there when it starts.
///
/// With CRLs from files, knowledge of revocations ages by their own dates: fresh up to thisUpdate + 20 minutes, expired at
/// nextUpdate.
#[derive(Debug)]
pub struct FileCredentials {
    newest: watch::Receiver<Arc<Material>>,
    watching: AbortHandle,
}

/// Where the files are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "four files")]
pub struct FilePaths {
    /// The own certificate, then its intermediates.
    pub chain: PathBuf,
    /// The own private key.
    pub key: PathBuf,
    /// The trust anchors of the own trust domain.
    pub bundle: PathBuf,
    /// The CRLs of all its authorities.
    pub crls: PathBuf,
}

impl FilePaths {
    /// `cert.pem`, `key.pem`, `bundle.pem` and `crl.pem` in a folder, as the sidecar names them.
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            chain: folder.join("cert.pem"),
            key: folder.join("key.pem"),
            bundle: folder.join("bundle.pem"),
            crls: folder.join("crl.pem"),
        }
    }

    fn all(&self) -> [&Path; 4] {
        [&self.chain, &self.key, &self.bundle, &self.crls]
    }
}

impl FileCredentials {
    /// Reads the files, and again whenever one of them changes. Files that cannot be used, as when only half of them
    /// were replaced yet, leave the last good ones in force; they are read again with the next look.
    ///
    /// # Errors
    /// Files that are not there or cannot be used.
    pub async fn open(paths: FilePaths) -> Result<Self, FileError> {
        let (paths, first) = look(paths, None).await;
        let (mut seen, material) = first?.ok_or(FileError::Changing)?;
        let (sender, newest) = watch::channel(Arc::new(material));
        let watching = tokio::spawn(async move {
            let mut paths = paths;
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                let before = Before { seen, material: Arc::clone(&sender.borrow()) };
                let outcome;
                (paths, outcome) = look(paths, Some(before)).await;
                if let Ok(Some((now_seen, material))) = outcome {
                    seen = now_seen;
                    sender.send_replace(Arc::new(material));
                }
                if sender.is_closed() {
                    return;
                }
            }
        });
        Ok(Self { newest, watching: watching.abort_handle() })
    }
}

impl Credentials for FileCredentials {
    fn material(&self) -> watch::Receiver<Arc<Material>> {
        self.newest.clone()
    }
}

impl Drop for FileCredentials {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

/// What tells one version of the files from another: when each was written, and how long it is.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen([(SystemTime, u64); 4]);

struct Before {
    seen: Seen,
    material: Arc<Material>,
}

/// Reads the files unless they are as before.
async fn look(paths: FilePaths, before: Option<Before>) -> (FilePaths, Result<Option<(Seen, Material)>, FileError>) {
    let read = spawn_blocking(move || {
        let outcome = read(&paths, before.as_ref());
        (paths, outcome)
    });
    match read.await {
        Ok(read) => read,
        // Reading does not panic, and is not aborted while the runtime lives.
        Err(_) => std::future::pending().await,
    }
}

fn read(paths: &FilePaths, before: Option<&Before>) -> Result<Option<(Seen, Material)>, FileError> {
    let seen = stat(paths)?;
    if before.is_some_and(|before| before.seen == seen) {
        return Ok(None);
    }
    let chain: Vec<CertificateDer<'static>> = pem(&paths.chain)?;
    let leaf = chain.first().ok_or_else(|| FileError::Empty(paths.chain.clone()))?;
    let spiffe_id = Leaf::read(leaf).map_err(FileError::Leaf)?.into_certificate().spiffe_id;
    let key = PrivateKeyDer::from_pem_slice(&contents(&paths.key)?);
    let mut material = Material {
        trust_domain: spiffe_id.trust_domain(),
        chain,
        key: Arc::new(key.map_err(|_| FileError::Pem(paths.key.clone()))?),
        roots: pem(&paths.bundle)?.into(),
        crls: pem::<CertificateRevocationListDer<'static>>(&paths.crls)?.into(),
        answered: None,
        feed: None,
        freshness: Freshness::default(),
    };
    if stat(paths)? != seen {
        return Err(FileError::Changing);
    }
    if let Some(before) = before.map(|before| &before.material) {
        // What did not change stays the same `Arc`, so that nothing is verified twice.
        if before.key == material.key {
            material.key = Arc::clone(&before.key);
        }
        if before.crls == material.crls {
            material.crls = Arc::clone(&before.crls);
        }
    }
    Ok(Some((seen, material)))
}

fn stat(paths: &FilePaths) -> Result<Seen, FileError> {
    let mut seen = Seen([(SystemTime::UNIX_EPOCH, 0); 4]);
    for (slot, path) in seen.0.iter_mut().zip(paths.all()) {
        let refused = |error: io::Error| FileError::Io(path.into(), error.kind());
        let metadata = std::fs::metadata(path).map_err(refused)?;
        *slot = (metadata.modified().map_err(refused)?, metadata.len());
    }
    Ok(seen)
}

fn contents(path: &Path) -> Result<Vec<u8>, FileError> {
    std::fs::read(path).map_err(|error| FileError::Io(path.into(), error.kind()))
}

fn pem<T: PemObject>(path: &Path) -> Result<Vec<T>, FileError> {
    T::pem_slice_iter(&contents(path)?).collect::<Result<_, _>>().map_err(|_| FileError::Pem(path.into()))
}

/// Files that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileError {
    /// The file cannot be read.
    Io(PathBuf, io::ErrorKind),
    /// Not PEM of the kind that the file is for.
    Pem(PathBuf),
    /// Nothing in it.
    Empty(PathBuf),
    /// The own certificate is no SVID.
    Leaf(LeafError),
    /// They changed while they were read.
    Changing,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, kind) => write!(f, "cannot read {}: {kind}; chancery sidecar writes it", path.display()),
            Self::Pem(path) => write!(f, "{} is not the PEM that was wanted", path.display()),
            Self::Empty(path) => write!(f, "{} holds no certificate", path.display()),
            Self::Leaf(error) => write!(f, "the own certificate: {error}"),
            Self::Changing => f.write_str("the files changed while they were read; try again"),
        }
    }
}

impl std::error::Error for FileError {}
