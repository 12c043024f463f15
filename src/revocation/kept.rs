//! The last head, kept outside the database: what was told to others must never be unsaid by a restored backup.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chancery_identity::{TrustDomain, oid};
use chancery_tlog::{Head, HeadError, Note};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::store::SHA256;

/// A file with a signed head and the certificates of the keys that could have signed it.
#[derive(Clone, Debug)]
pub struct KeptHead {
    path: PathBuf,
}

/// What such a file holds.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "all that is in the file")]
pub struct Kept {
    /// The head.
    pub head: Head,
    /// As it was signed.
    pub note: String,
    /// The certificates of the keys, PEM.
    pub certificates: String,
}

impl KeptHead {
    /// In the data folder.
    pub fn in_folder(data_dir: &Path) -> Self {
        Self { path: data_dir.join("head") }
    }

    /// The last one of an epoch that is over.
    pub fn of_epoch(data_dir: &Path, epoch: u64) -> Self {
        Self { path: data_dir.join(format!("head-{epoch}")) }
    }

    /// A file somewhere.
    pub const fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was kept, if anything was: verified up to the root.
    ///
    /// # Errors
    /// A file that cannot be read, or holds no head that a key certified by this root signed.
    pub fn read(&self, trust_domain: &TrustDomain, root: &[u8]) -> Result<Option<Kept>, KeptError> {
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(KeptError::File { path: self.path.clone(), source }),
        };
        let unfit = |why: String| KeptError::Unfit { path: self.path.clone(), why };
        let (pem, note) = match text.rfind(CERTIFICATE_END) {
            Some(at) => text.split_at(at + CERTIFICATE_END.len()),
            None => ("", &*text),
        };
        let certificates = CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| unfit(error.to_string()))?;
        let head = open_head(note, &certificates, trust_domain, root).map_err(|error| unfit(error.to_string()))?;
        Ok(Some(Kept { head, note: note.to_owned(), certificates: pem.to_owned() }))
    }

    /// Keeps a head for good, before anybody is told of it.
    ///
    /// # Errors
    /// A folder that cannot be written to.
    pub fn write<'a>(&self, note: &str, keys: impl Iterator<Item = &'a str>) -> Result<(), KeptError> {
        let failed = |source| KeptError::File { path: self.path.clone(), source };
        let mut text: String = keys.collect();
        text.push_str(note);
        let new = self.path.with_extension("new");
        let options = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new);
        let written = options.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
        written.and_then(|()| std::fs::rename(&new, &self.path)).map_err(failed)?;
        // A bare name's parent is empty, and no folder.
        let folder = self.path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
    }
}

/// A head that a key with one of the certificates signed, whose certificate the root signed and that was valid then.
///
/// # Errors
/// Any of this that does not hold.
pub fn open_head(
    note: &str,
    certificates: &[CertificateDer<'_>],
    trust_domain: &TrustDomain,
    root: &[u8],
) -> Result<Head, ShownError> {
    let note: Note = note.parse().map_err(HeadError::from)?;
    let mut untrusted = None;
    for certificate in certificates {
        let public = public_key(certificate).ok_or(ShownError::Certificate)?;
        let Ok(head) = Head::open(&note, trust_domain, SHA256, &[public], verify) else { continue };
        match certified(certificate, root, &head) {
            Ok(()) => return Ok(head),
            Err(error) => untrusted = Some(error),
        }
    }
    // Says what is wrong with the note itself, where that is it.
    Head::open(&note, trust_domain, SHA256, &[], verify)?;
    Err(untrusted.unwrap_or(ShownError::Certificate))
}

fn certified(certificate: &CertificateDer<'_>, root: &[u8], head: &Head) -> Result<(), ShownError> {
    let root = CertificateDer::from(root);
    let anchor = webpki::anchor_from_trusted_cert(&root).map_err(ShownError::Untrusted)?;
    let at = u64::try_from(head.at.unix_seconds()).unwrap_or(0);
    let leaf = webpki::EndEntityCert::try_from(certificate).map_err(ShownError::Untrusted)?;
    let usage = webpki::KeyUsage::required(oid::HEAD_KEY_USAGE);
    let at = UnixTime::since_unix_epoch(Duration::from_secs(at));
    leaf.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &[anchor], &[], at, usage, None, None)
        .map(drop)
        .map_err(ShownError::Untrusted)
}

fn public_key(certificate: &[u8]) -> Option<[u8; 32]> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    certificate.public_key().subject_public_key.data.as_ref().try_into().ok()
}

fn verify(public: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, public).verify(message, signature).is_ok()
}

const CERTIFICATE_END: &str = "-----END CERTIFICATE-----\n";

/// The kept head cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeptError {
    /// The file.
    #[error("the kept head {} cannot be read or written", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// What it holds.
    #[error("the kept head {} is none of this issuer: {why}", path.display())]
    Unfit {
        /// Which.
        path: PathBuf,
        /// Why not.
        why: String,
    },
}

/// A head that somebody shows is not one that this issuer signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShownError {
    /// The note.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// No certificate of the key that signed it.
    #[error("no certificate is of the key that signed the head")]
    Certificate,
    /// The certificate of the key.
    #[error("the key that signed the head is not certified by this root: {0}")]
    Untrusted(webpki::Error),
}
