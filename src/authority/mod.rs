//! Root and issuing authority: made at the first start, sealed at rest, found again at the next.

mod seal;

use std::sync::Arc;

use chancery_api::AuthorityKind;
use chancery_ca::local::{CRYPTO, LocalSigner};
use chancery_ca::{
    Authority, AuthorityCertificate, AuthorityError, CrlEntry, CrlHead, CrlNumber, CrlPlan, RootAuthority, SignError,
    SignedCrl, Signer, SignerError, StatusUrl,
};
use chancery_identity::{KeyId, Serial, Timestamp, TrustDomain};
use ring::rand::{SecureRandom, SystemRandom};

use crate::config::{CRL_VALIDITY, Ttl};
use crate::store::{self, Cause, CommitError, PutAuthority, Store};

pub use seal::{KeyLabel, Seal, SealError};

/// How long the root's CRL is valid. It is signed anew at half of it, and when an authority is revoked.
const ROOT_CRL_VALIDITY: std::time::Duration = std::time::Duration::from_secs(90 * 86_400);

/// The authorities of a trust domain. The issuing key is in memory; the root's is only while it signs.
pub struct Authorities {
    trust_domain: TrustDomain,
    root: AuthorityCertificate,
    issuing: Authority,
    seal: Seal,
}

impl Authorities {
    /// Finds the authorities, or makes them where there are none yet. An issuing authority past half of its life gets a
    /// successor, so that what the old one signed last still ends before it does.
    ///
    /// # Errors
    /// Another trust domain than the database's, a seal that does not open, a database that does not commit.
    pub async fn open(
        trust_domain: &TrustDomain,
        status: &StatusUrl,
        ttl: Ttl,
        seal: Seal,
        store: &Store,
        rng: &SystemRandom,
        now: Timestamp,
    ) -> Result<Self, OpenError> {
        let mut opening = Opening { trust_domain, status, ttl, seal: &seal, store, rng, now };
        let held = store.state().authorities();
        let root = match held.iter().find(|authority| authority.kind == AuthorityKind::Root) {
            Some(root) => AuthorityCertificate::read(root.certificate.clone())?,
            None => opening.make_root().await?,
        };
        if root.trust_domain() != trust_domain {
            return Err(OpenError::TrustDomain { wanted: trust_domain.clone(), found: root.trust_domain().clone() });
        }
        let newest =
            held.iter().filter(|authority| authority.kind == AuthorityKind::Issuing).max_by_key(|a| a.log_index);
        let issuing = match newest {
            Some(newest) => {
                Some(opening.unseal_issuing(newest)?).filter(|a| a.certificate().not_after() > now + ttl.authority / 2)
            }
            None => None,
        };
        let issuing = match issuing {
            Some(issuing) => issuing,
            None => opening.make_issuing(&root).await?,
        };
        Ok(Self { trust_domain: trust_domain.clone(), root, issuing, seal })
    }

    /// The root's certificate.
    pub const fn root(&self) -> &AuthorityCertificate {
        &self.root
    }

    /// The issuing authority.
    pub const fn issuing(&self) -> &Authority {
        &self.issuing
    }

    /// Signs the issuing authority's CRL.
    ///
    /// # Errors
    /// Entries out of order, or a key that does not sign.
    pub async fn sign_crl(&self, head: CrlHead, entries: Vec<CrlEntry>) -> Result<SignedCrl, CrlError> {
        let plan = CrlPlan::new(self.issuing.certificate(), head, entries)?;
        Ok(self.issuing.sign_crl(plan).await?)
    }

    /// Signs the root's CRL: loads its key, signs, forgets it.
    ///
    /// # Errors
    /// As [`Authorities::sign_crl`], or a seal that does not open.
    pub async fn sign_root_crl(
        &self,
        store: &Store,
        head: CrlHead,
        entries: Vec<CrlEntry>,
    ) -> Result<SignedCrl, CrlError> {
        let sealed = store.state().authority(self.root.key_id()).and_then(|root| root.sealed_key.clone());
        let signer =
            unseal(&self.seal, &self.trust_domain, AuthorityKind::Root, self.root.key_id(), sealed.as_deref())?;
        let root = RootAuthority::from_parts(self.root.der().to_vec(), signer, CRYPTO)?;
        Ok(root.sign_crl(CrlPlan::new(root.certificate(), head, entries)?).await?)
    }
}

/// The head of an authority's next CRL.
pub(crate) fn crl_head(
    kind: AuthorityKind,
    previous: Option<CrlNumber>,
    epoch: u64,
    n: u64,
    now: Timestamp,
) -> CrlHead {
    let validity = match kind {
        AuthorityKind::Root => ROOT_CRL_VALIDITY,
        AuthorityKind::Issuing => CRL_VALIDITY,
    };
    CrlHead { number: CrlNumber::after(previous, now), this_update: now, next_update: now + validity, epoch, n }
}

/// What opening needs from one step to the next.
struct Opening<'a> {
    trust_domain: &'a TrustDomain,
    status: &'a StatusUrl,
    ttl: Ttl,
    seal: &'a Seal,
    store: &'a Store,
    rng: &'a SystemRandom,
    now: Timestamp,
}

impl Opening<'_> {
    async fn make_root(&mut self) -> Result<AuthorityCertificate, OpenError> {
        let DrawnKey { signer, pkcs8 } = self.draw_key()?;
        let root =
            RootAuthority::create(self.trust_domain, signer, CRYPTO, self.ttl.root, self.now, self.serial()?).await?;
        self.keep(AuthorityKind::Root, root.certificate(), &pkcs8).await?;
        Ok(root.certificate().clone())
    }

    async fn make_issuing(&mut self, root: &AuthorityCertificate) -> Result<Authority, OpenError> {
        let sealed = self.store.state().authority(root.key_id()).and_then(|root| root.sealed_key.clone());
        let signer = unseal(self.seal, self.trust_domain, AuthorityKind::Root, root.key_id(), sealed.as_deref())?;
        let root = RootAuthority::from_parts(root.der().to_vec(), signer, CRYPTO)?;
        let DrawnKey { signer, pkcs8 } = self.draw_key()?;
        let issuing = root.issue(signer, self.status, self.ttl.authority, self.now, self.serial()?).await?;
        self.keep(AuthorityKind::Issuing, issuing.certificate(), &pkcs8).await?;
        Ok(issuing)
    }

    fn unseal_issuing(&self, held: &store::Authority) -> Result<Authority, OpenError> {
        let kind = AuthorityKind::Issuing;
        let signer = unseal(self.seal, self.trust_domain, kind, held.key_id, held.sealed_key.as_deref())?;
        Ok(Authority::from_parts(held.certificate.clone(), signer, CRYPTO)?)
    }

    fn draw_key(&self) -> Result<DrawnKey, OpenError> {
        let pkcs8 = LocalSigner::generate_pkcs8(self.rng)?;
        let pkcs8 = zeroize::Zeroizing::new(pkcs8.as_ref().to_vec());
        Ok(DrawnKey { signer: Arc::new(LocalSigner::from_pkcs8(&pkcs8)?), pkcs8 })
    }

    fn serial(&self) -> Result<Serial, OpenError> {
        let mut random = [0; 10];
        self.rng.fill(&mut random).map_err(|_| SealError::Random)?;
        Ok(Serial::compose(self.now, random))
    }

    /// Nothing is signed by a key that is not kept.
    async fn keep(
        &self,
        kind: AuthorityKind,
        certificate: &AuthorityCertificate,
        pkcs8: &[u8],
    ) -> Result<(), OpenError> {
        let key_id = certificate.key_id();
        let sealed_key = self.seal.seal(label(self.trust_domain, kind, &key_id.to_string()), pkcs8, self.rng)?;
        let put = PutAuthority {
            cause: Cause::ISSUER,
            key_id,
            kind,
            certificate: certificate.der().to_vec(),
            sealed_key: Some(sealed_key),
        };
        let _kept = self.store.commit(put).await?;
        Ok(())
    }
}

/// A new key, to sign with and to be sealed.
struct DrawnKey {
    signer: Arc<dyn Signer>,
    pkcs8: zeroize::Zeroizing<Vec<u8>>,
}

fn unseal(
    seal: &Seal,
    trust_domain: &TrustDomain,
    kind: AuthorityKind,
    key_id: KeyId,
    sealed: Option<&[u8]>,
) -> Result<Arc<dyn Signer>, SealError> {
    let hex = key_id.to_string();
    let wrong = || SealError::Wrong { key_id: hex.clone() };
    let pkcs8 = seal.unseal(label(trust_domain, kind, &hex), sealed.ok_or_else(wrong)?)?;
    Ok(Arc::new(LocalSigner::from_pkcs8(&pkcs8).map_err(|_| wrong())?))
}

fn label<'a>(trust_domain: &'a TrustDomain, kind: AuthorityKind, key_id: &'a str) -> KeyLabel<'a> {
    let kind = match kind {
        AuthorityKind::Root => "root",
        AuthorityKind::Issuing => "issuing",
    };
    KeyLabel { kind, key_id, trust_domain: trust_domain.as_str() }
}

/// The authorities cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The database belongs to another trust domain: it is fixed at first start.
    #[error("the configuration says trust_domain {wanted}, the database was made for {found}")]
    TrustDomain {
        /// The configuration's.
        wanted: TrustDomain,
        /// The database's.
        found: TrustDomain,
    },
    /// The seal.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A certificate of an authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A key.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// The database.
    #[error("the authorities could not be recorded")]
    Store(#[from] CommitError),
}

/// A CRL is not signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CrlError {
    /// Its plan.
    #[error(transparent)]
    Plan(#[from] chancery_ca::CrlRefused),
    /// Its signature.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The seal of the root.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The root's certificate.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}
