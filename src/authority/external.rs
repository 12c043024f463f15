//! A root whose key is elsewhere: the request for it, and what comes back.
//!
//! The key of a requested certificate waits in a file of the data folder, sealed as keys in the database are, until its
//! certificate is imported. So a request needs neither a database nor a running issuer, and leaves no trace if it is
//! never answered.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use chancery_api::AuthorityKind;
use chancery_ca::local::{CRYPTO, LocalSigner};
use chancery_ca::{
    AuthorityCertificate, CrlNumber, ForeignCrl, ForeignRefused, HeadKeyCertificate, Signer, judge_head_key,
    judge_issuing, judge_root, request_head_key, request_issuing,
};
use chancery_identity::{KeyId, Timestamp, TrustDomain};
use ring::rand::SystemRandom;
use rustls_pki_types::pem::{PemObject, SectionKind};
use zeroize::Zeroizing;

use crate::config::Config;
use crate::issuance::pem;
use crate::store::{Cause, CommitError, Committed, CrlPublished, DbError, HeadKey, PutAuthority, PutHeadKey, Store};

use super::head::{head_label, signs_from};
use super::{KeyLabel, OpenError, Seal, SealError, label};

/// What the root is asked to certify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[allow(clippy::exhaustive_enums, reason = "all that a root certifies")]
pub enum Requested {
    /// An issuing authority.
    Issuing,
    /// A key that signs heads.
    HeadKey,
}

/// Draws a key, keeps it sealed in `data_dir`, and asks for its certificate: a request in PEM.
///
/// # Errors
/// A folder that cannot be written to, a seal, a key that does not sign.
pub async fn request(
    what: Requested,
    trust_domain: &TrustDomain,
    data_dir: &Path,
    seal: &Seal,
    rng: &SystemRandom,
) -> Result<String, ImportError> {
    let pkcs8 = match what {
        Requested::Issuing => LocalSigner::generate_pkcs8(rng).map(|key| key.as_ref().to_vec()),
        Requested::HeadKey => LocalSigner::generate_ed25519_pkcs8(rng).map(|key| key.as_ref().to_vec()),
    };
    let pkcs8 = Zeroizing::new(pkcs8.map_err(OpenError::from)?);
    let signer = LocalSigner::from_pkcs8(&pkcs8).map_err(OpenError::from)?;
    let der = match what {
        Requested::Issuing => request_issuing(trust_domain, &signer, CRYPTO).await,
        Requested::HeadKey => request_head_key(trust_domain, &signer, CRYPTO).await,
    };
    let der = der.map_err(OpenError::from)?;
    let name = hex(&(CRYPTO.sha256)(signer.public_key()));
    let sealed = seal.seal(requested_label(trust_domain, &name), &pkcs8, rng)?;
    let path = data_dir.join(format!("{PREFIX}{name}{SUFFIX}"));
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    file.and_then(|mut file| file.write_all(&sealed).and_then(|()| file.sync_all()))
        .map_err(|source| ImportError::File { path, source })?;
    Ok(pem("CERTIFICATE REQUEST", &der))
}

/// What was handed in: certificates of authorities and of keys that sign heads, and a CRL.
pub struct Handed {
    certificates: Vec<AuthorityCertificate>,
    head_keys: Vec<HeadKeyCertificate>,
    crl: Option<Vec<u8>>,
}

impl Handed {
    /// Reads PEM: any number of certificates and one CRL, in any order. Other sections are refused.
    ///
    /// # Errors
    /// Something else.
    pub fn read(text: &[u8]) -> Result<Self, ImportError> {
        let mut handed = Self { certificates: Vec::new(), head_keys: Vec::new(), crl: None };
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
            match section.map_err(|error| ImportError::Pem(format!("{error:?}")))? {
                (SectionKind::Certificate, der) => {
                    match (AuthorityCertificate::read(der.clone()), HeadKeyCertificate::read(der)) {
                        (Ok(authority), _) => handed.certificates.push(authority),
                        (Err(_), Ok(head_key)) => handed.head_keys.push(head_key),
                        (Err(why), Err(_)) => return Err(OpenError::from(why).into()),
                    }
                }
                (SectionKind::Crl, der) if handed.crl.is_none() => handed.crl = Some(der),
                (SectionKind::Crl, _) => return Err(ImportError::Pem("a second CRL".into())),
                (kind, _) => return Err(ImportError::Pem(format!("a section of another kind: {kind:?}"))),
            }
        }
        if handed.certificates.is_empty() && handed.head_keys.is_empty() && handed.crl.is_none() {
            return Err(ImportError::Pem("neither a certificate nor a CRL".into()));
        }
        Ok(handed)
    }
}

/// What is judged and can be recorded.
pub(crate) struct Import {
    root: AuthorityCertificate,
    root_is_new: bool,
    crl: Option<(ForeignCrl, Vec<u8>)>,
    issuing: Option<(AuthorityCertificate, Waiting)>,
    head_key: Option<(HeadKeyCertificate, Waiting, Timestamp)>,
}

/// The key that waited for its certificate.
struct Waiting {
    pkcs8: Zeroizing<Vec<u8>>,
    file: PathBuf,
}

impl Import {
    /// Judges what was handed in against the profile, against what is held, and against the clock.
    ///
    /// # Errors
    /// Each reason why it may not be relied on, and what to hand in instead.
    pub(crate) async fn judge(
        handed: Handed,
        trust_domain: &TrustDomain,
        data_dir: &Path,
        seal: &Seal,
        store: &Store,
        now: Timestamp,
    ) -> Result<Self, ImportError> {
        let held = store.state().authorities().into_iter().find(|authority| authority.kind == AuthorityKind::Root);
        if held.as_ref().is_some_and(|held| held.sealed_key.is_some()) {
            return Err(ImportError::Managed);
        }
        let (mut roots, mut issuing): (Vec<_>, Vec<_>) =
            handed.certificates.into_iter().partition(AuthorityCertificate::self_issued);
        let root = match (&held, roots.pop(), roots.is_empty()) {
            (Some(held), Some(root), true) if held.certificate != root.der() => return Err(ImportError::OtherRoot),
            (_, Some(root), true) => root,
            (Some(held), None, _) => AuthorityCertificate::read(held.certificate.clone()).map_err(OpenError::from)?,
            (None, None, _) => return Err(ImportError::Missing("the root's certificate")),
            (_, Some(_), false) => return Err(ImportError::Pem("a second root".into())),
        };
        if root.trust_domain() != trust_domain {
            let (wanted, found) = (trust_domain.clone(), root.trust_domain().clone());
            return Err(OpenError::TrustDomain { wanted, found }.into());
        }
        judge_root(&root, CRYPTO, now)?;
        let crl = match handed.crl {
            Some(der) => {
                let crl = ForeignCrl::read(&der, &root, CRYPTO)?;
                crl.judge_time(now)?;
                Some((crl, der))
            }
            None => None,
        };
        let held_crl = held.as_ref().and_then(|held| held.crl.as_ref());
        let listed = match (&crl, held_crl) {
            (Some((crl, _)), _) => crl.serials().to_vec(),
            (None, Some(der)) => ForeignCrl::read(der, &root, CRYPTO)?.serials().to_vec(),
            (None, None) => return Err(ImportError::Missing("the root's CRL")),
        };
        let held_number = held.as_ref().and_then(|held| held.crl_number);
        let new = |(crl, der): &(ForeignCrl, Vec<u8>)| match held_number {
            Some(found) if crl.number() == found && held_crl.is_some_and(|held| **held == **der) => Ok(false),
            Some(found) if crl.number() <= found => Err(ImportError::CrlNumber { came: crl.number(), found }),
            _ => Ok(true),
        };
        let crl_is_new = crl.as_ref().map_or(Ok(false), new)?;
        let issuing = match (issuing.pop(), issuing.is_empty()) {
            (Some(certificate), true) => Some(certificate),
            (None, _) => None,
            (Some(_), false) => return Err(ImportError::Pem("a second issuing certificate".into())),
        };
        let any_issuing = |store: &Store| {
            store.state().authorities().iter().any(|authority| authority.kind == AuthorityKind::Issuing)
        };
        let issuing = match issuing {
            None if any_issuing(store) => None,
            None => return Err(ImportError::Missing("the issuing certificate")),
            // Handed in again.
            Some(one) if store.state().authority(one.key_id()).is_some_and(|held| held.certificate == one.der()) => {
                None
            }
            Some(certificate) => {
                judge_issuing(&certificate, &root, CRYPTO, now)?;
                if listed.contains(&certificate.serial()) {
                    return Err(ImportError::Listed("issuing certificate"));
                }
                let waiting = Waiting::read(certificate.spki(), trust_domain, data_dir, seal)?;
                Some((certificate, waiting))
            }
        };
        let mut head_keys = handed.head_keys;
        let kept = store.head_keys().await?;
        let head_key = match (head_keys.pop(), head_keys.is_empty()) {
            (Some(_), false) => return Err(ImportError::Pem("a second certificate of a key that signs heads".into())),
            // Handed in again.
            (Some(one), _) if kept.iter().any(|kept| kept.certificate == one.der()) => None,
            (Some(certificate), _) => {
                judge_head_key(&certificate, &root, CRYPTO, now)?;
                if listed.contains(&certificate.serial()) {
                    return Err(ImportError::Listed("certificate of the key that signs heads"));
                }
                let waiting = Waiting::read(certificate.spki(), trust_domain, data_dir, seal)?;
                Some((certificate, waiting, signs_from(&kept, now)))
            }
            (None, _) => None,
        };
        let crl = crl.filter(|_| crl_is_new);
        Ok(Self { root, root_is_new: held.is_none(), crl, issuing, head_key })
    }

    /// Records it: root, CRL, issuing authority, the key that signs heads. What a failure leaves out is taken in when it is handed in again.
    ///
    /// # Errors
    /// A database that does not commit, or a seal.
    pub(crate) async fn record(
        self,
        trust_domain: &TrustDomain,
        seal: &Seal,
        store: &Store,
        rng: &SystemRandom,
        cause: &Cause,
    ) -> Result<Taken, ImportError> {
        let Self { root, root_is_new, crl, issuing, head_key } = self;
        let mut taken = Taken { root: None, crl: None, issuing: None, head_key: None };
        if root_is_new {
            let put = PutAuthority {
                cause: cause.clone(),
                key_id: root.key_id(),
                kind: AuthorityKind::Root,
                certificate: root.der().to_vec(),
                sealed_key: None,
            };
            taken.root = Some(store.commit(put).await?.map(|root| root.key_id));
        }
        if let Some((crl, der)) = crl {
            let number = crl.number();
            let entries = crl.serials().len() as u64;
            let published = CrlPublished { authority: root.key_id(), number, n: 0, entries, der };
            taken.crl = Some(store.commit(published).await?.map(|()| number));
        }
        if let Some((certificate, waiting)) = issuing {
            let key_id = certificate.key_id();
            let hex = key_id.to_string();
            let sealed = seal.seal(label(trust_domain, AuthorityKind::Issuing, &hex), &waiting.pkcs8, rng)?;
            let put = PutAuthority {
                cause: cause.clone(),
                key_id,
                kind: AuthorityKind::Issuing,
                certificate: certificate.der().to_vec(),
                sealed_key: Some(sealed),
            };
            taken.issuing = Some(store.commit(put).await?.map(|issuing| issuing.key_id));
            waiting.forget();
        }
        if let Some((certificate, waiting, signs_from)) = head_key {
            let key_id = certificate.key_id(CRYPTO);
            let hex = key_id.to_string();
            let sealed_key = seal.seal(head_label(trust_domain, &hex), &waiting.pkcs8, rng)?;
            let key = HeadKey { key_id, signs_from, certificate: certificate.der().to_vec(), sealed_key };
            taken.head_key = Some(store.commit(PutHeadKey { cause: cause.clone(), key }).await?);
            waiting.forget();
        }
        Ok(taken)
    }
}

/// Imports into a database that no issuer serves, as before the first start.
///
/// # Errors
/// What was handed in does not hold, or is not recorded.
pub async fn import_offline(
    config: &Config,
    seal: &Seal,
    store: &Store,
    rng: &SystemRandom,
    handed: Handed,
    now: Timestamp,
) -> Result<Taken, ImportError> {
    let import = Import::judge(handed, &config.trust_domain, &config.data_dir, seal, store, now).await?;
    import.record(&config.trust_domain, seal, store, rng, &Cause::ISSUER).await
}

/// What of an import was new, and is recorded.
pub struct Taken {
    /// The root.
    pub root: Option<Committed<KeyId>>,
    /// The root's CRL.
    pub crl: Option<Committed<CrlNumber>>,
    /// The issuing authority.
    pub issuing: Option<Committed<KeyId>>,
    /// The key that signs heads.
    pub head_key: Option<Committed<HeadKey>>,
}

const PREFIX: &str = "requested-";
const SUFFIX: &str = ".key";

impl Waiting {
    /// The key that waits for the certificate of this public key.
    fn read(spki: &[u8], trust_domain: &TrustDomain, data_dir: &Path, seal: &Seal) -> Result<Self, ImportError> {
        let name = hex(&(CRYPTO.sha256)(spki));
        let file = data_dir.join(format!("{PREFIX}{name}{SUFFIX}"));
        let sealed = match std::fs::read(&file) {
            Ok(sealed) => sealed,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(ImportError::NoKey(file)),
            Err(source) => return Err(ImportError::File { path: file, source }),
        };
        let pkcs8 = seal.unseal(requested_label(trust_domain, &name), &sealed)?;
        let signer = LocalSigner::from_pkcs8(&pkcs8).map_err(OpenError::from)?;
        if signer.public_key() != spki {
            return Err(ImportError::NoKey(file));
        }
        Ok(Self { pkcs8, file })
    }

    /// The key is in the database now; a second copy would do nothing but lie there.
    fn forget(self) {
        let _ = std::fs::remove_file(self.file);
    }
}

fn requested_label<'a>(trust_domain: &'a TrustDomain, name: &'a str) -> KeyLabel<'a> {
    KeyLabel { kind: "requested", key_id: name, trust_domain: trust_domain.as_str() }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Nothing was imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// Not what can be imported.
    #[error("wanted certificates and a CRL in PEM, got {0}")]
    Pem(String),
    /// The root's key is in the database: it signs by itself.
    #[error(
        "the root of this database is a managed one: nothing is imported; rotate with: chancery authorities rotate"
    )]
    Managed,
    /// Another root than the one held.
    #[error(
        "the trust domain has another root, which every client's pin names; it is not replaced: a new root is a new issuer, \
         see \"Replacing the root\" in docs/operations.md"
    )]
    OtherRoot,
    /// Something without which the rest cannot be used.
    #[error("{0} is missing: hand it in with the rest")]
    Missing(&'static str),
    /// What was handed in does not hold.
    #[error(transparent)]
    Refused(#[from] ForeignRefused),
    /// The root's CRL revokes what was handed in with it.
    #[error("the root's CRL lists the {0}: it is revoked")]
    Listed(&'static str),
    /// An older CRL than the one held.
    #[error("the root's CRL has number {came}; one with {found} is here already, and the next is above it")]
    CrlNumber {
        /// The number that came.
        came: CrlNumber,
        /// The number that is held.
        found: CrlNumber,
    },
    /// No key waits for the certificate.
    #[error(
        "no key waits here for the certificate: the key that chancery authorities csr draws stays on the host that ran it. \
         Import there, or bring {}, which has the same seal, from there; or make a request on this host and have that one \
         signed",
        .0.display()
    )]
    NoKey(PathBuf),
    /// A file of the data folder.
    #[error("{}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// The seal.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// An authority's certificate, or key.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database, at a commit.
    #[error("what was imported could not be recorded")]
    Store(#[from] CommitError),
    /// The database.
    #[error(transparent)]
    Read(#[from] DbError),
}
