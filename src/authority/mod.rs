//! Root and issuing authorities: made at the first start, sealed at rest, found again at the next, rotated while they serve.

mod external;
mod head;
mod responder;
mod rotation;
mod seal;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use chancery_api::{AuthorityKind, Bundle, BundleError};
use chancery_ca::local::{CRYPTO, LocalSigner};
use chancery_ca::{
    Authority, AuthorityCertificate, AuthorityError, CrlEntry, CrlHead, CrlNumber, CrlPlan, Profile, RootAuthority,
    SignError, SignedCrl, Signer, SignerError, StatusUrl,
};
use chancery_identity::{KeyId, Serial, Timestamp, TrustDomain};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::{Mutex, watch};

use crate::config::{CRL_VALIDITY, Config, RootKey, Ttl};
use crate::issuance::pem;
use crate::store::{self, Cause, CommitError, Committed, PutAuthority, Store};

pub use external::{Handed, ImportError, Requested, Taken, import_offline, request};
pub use head::HeadKeys;
pub use responder::Responders;
pub use seal::{KeyLabel, Seal, SealError};

/// How long the root's CRL is valid. It is signed anew at half of it, and when an authority is revoked.
const ROOT_CRL_VALIDITY: Duration = Duration::from_secs(90 * 86_400);

/// The authorities of a trust domain. The issuing keys are in memory; the root's is only while it signs.
pub struct Authorities {
    trust_domain: TrustDomain,
    status: StatusUrl,
    ttl: Ttl,
    /// How long a successor is known before it signs.
    announced_for: Duration,
    seal: Seal,
    store: Store,
    rng: SystemRandom,
    root: AuthorityCertificate,
    /// Oldest first: those that sign, will sign, or still publish CRLs.
    generations: ArcSwap<Vec<Arc<Issuing>>>,
    present: ArcSwap<Issuing>,
    head_keys: ArcSwap<HeadKeys>,
    /// One ceremony at a time.
    ceremony: Mutex<()>,
    changed: watch::Sender<u64>,
}

/// One generation of the issuing authority, with its key.
pub struct Issuing {
    authority: Authority,
    profile: Profile,
    pem: String,
    signs_from: Timestamp,
}

impl Authorities {
    /// Finds the authorities, or makes them where there are none yet.
    ///
    /// # Errors
    /// Another trust domain than the database's, a seal that does not open, a database that does not commit.
    pub async fn open(
        config: &Config,
        status: &StatusUrl,
        seal: Seal,
        store: &Store,
        rng: &SystemRandom,
        now: Timestamp,
    ) -> Result<Self, OpenError> {
        let ceremony = Ceremony { trust_domain: &config.trust_domain, seal: &seal, store, rng, now };
        let held = store.state().authorities();
        let held_root = held.iter().find(|authority| authority.kind == AuthorityKind::Root);
        let root = match (held_root, config.root) {
            (Some(root), kind) if root.sealed_key.is_some() != (kind == RootKey::Managed) => {
                return Err(OpenError::RootKey(kind));
            }
            (Some(root), _) => AuthorityCertificate::read(root.certificate.clone())?,
            (None, RootKey::Managed) => ceremony.make_root(config.ttl.root).await?,
            (None, RootKey::External) => return Err(OpenError::NothingImported),
        };
        if root.trust_domain() != &config.trust_domain {
            let (wanted, found) = (config.trust_domain.clone(), root.trust_domain().clone());
            return Err(OpenError::TrustDomain { wanted, found });
        }
        let mut issuing: Vec<_> = held.iter().filter(|authority| authority.kind == AuthorityKind::Issuing).collect();
        issuing.sort_unstable_by_key(|authority| authority.log_index);
        let announced_for = config.freshness.stale_after * 2;
        let mut generations = Vec::new();
        for held in issuing {
            let authority = ceremony.unseal_issuing(held)?;
            if authority.certificate().not_after() >= now {
                let made = authority.certificate().not_before() + chancery_ca::BACKDATING;
                generations.push(Arc::new(Issuing::new(authority, status, made + announced_for)));
            }
        }
        let present = match generations.last() {
            Some(newest) => newest.clone(),
            None if config.root == RootKey::External => return Err(OpenError::NothingImported),
            None => {
                let root = ceremony.unseal_root(&root)?;
                let made = ceremony.make_issuing(&root, status, config.ttl.authority, Cause::ISSUER).await?;
                let first = Arc::new(Issuing::new(made.into_reply(), status, now));
                generations.push(first.clone());
                first
            }
        };
        let authorities = Self {
            trust_domain: config.trust_domain.clone(),
            status: status.clone(),
            ttl: config.ttl,
            announced_for,
            seal,
            store: store.clone(),
            rng: rng.clone(),
            root,
            generations: ArcSwap::from_pointee(generations),
            present: ArcSwap::new(present),
            head_keys: ArcSwap::default(),
            ceremony: Mutex::default(),
            changed: watch::Sender::new(0),
        };
        authorities.load_head_keys(now).await?;
        authorities.take_over(now, |_| true);
        Ok(authorities)
    }

    /// The root's certificate.
    pub const fn root(&self) -> &AuthorityCertificate {
        &self.root
    }

    /// The issuing authority that signs now. Whoever makes a certificate asks once and uses one answer for all of it.
    pub fn issuing(&self) -> Arc<Issuing> {
        self.present.load_full()
    }

    /// The issuing authorities that publish CRLs, oldest first: the one that signs, those before it whose leaves are not
    /// over yet, and a successor that is announced.
    pub fn all_issuing(&self) -> Arc<Vec<Arc<Issuing>>> {
        self.generations.load_full()
    }

    /// Tells each change of either.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Whether the root's key is sealed here. One that is elsewhere signs nothing unasked.
    pub fn root_is_here(&self) -> bool {
        self.store.state().authority(self.root.key_id()).is_some_and(|root| root.sealed_key.is_some())
    }

    /// The root with its key, which is forgotten with the value: sign and drop it.
    ///
    /// # Errors
    /// A seal that does not open, or a root whose key is elsewhere.
    pub(crate) fn unseal_root(&self) -> Result<RootAuthority, OpenError> {
        self.ceremony_at(Timestamp::from_unix_seconds(0)).unseal_root(&self.root)
    }

    /// Signs the root's CRL: loads its key, signs, forgets it.
    ///
    /// # Errors
    /// Entries out of order, a key that does not sign, or a seal that does not open.
    pub async fn sign_root_crl(&self, head: CrlHead, entries: Vec<CrlEntry>) -> Result<SignedCrl, CrlError> {
        let root = self.unseal_root()?;
        Ok(root.sign_crl(CrlPlan::new(root.certificate(), head, entries)?).await?)
    }

    /// The trust bundle in SPIFFE form.
    ///
    /// # Errors
    /// A root that has no such form, which a root of ours has.
    pub fn bundle(&self) -> Result<Bundle, BundleError> {
        Bundle::new(1, 300, [self.root.der()])
    }

    fn ceremony_at(&self, now: Timestamp) -> Ceremony<'_> {
        let Self { trust_domain, seal, store, rng, .. } = self;
        Ceremony { trust_domain, seal, store, rng, now }
    }
}

impl Issuing {
    fn new(authority: Authority, status: &StatusUrl, signs_from: Timestamp) -> Self {
        let profile = Profile::new(&authority, status);
        let pem = pem("CERTIFICATE", authority.certificate().der());
        Self { authority, profile, pem, signs_from }
    }

    /// What signs.
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// What its leaves look like.
    pub const fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Its certificate.
    pub fn certificate(&self) -> &AuthorityCertificate {
        self.authority.certificate()
    }

    /// Its key id.
    pub fn key_id(&self) -> KeyId {
        self.authority.key_id()
    }

    /// Its certificate in PEM, as it follows a leaf.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// When those who verify have had the time to learn of it.
    pub const fn signs_from(&self) -> Timestamp {
        self.signs_from
    }

    /// Signs its CRL.
    ///
    /// # Errors
    /// Entries out of order, or a key that does not sign.
    pub async fn sign_crl(&self, head: CrlHead, entries: Vec<CrlEntry>) -> Result<SignedCrl, CrlError> {
        let plan = CrlPlan::new(self.certificate(), head, entries)?;
        Ok(self.authority.sign_crl(plan).await?)
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

/// Keys drawn, certified, sealed and recorded, in this order.
struct Ceremony<'a> {
    trust_domain: &'a TrustDomain,
    seal: &'a Seal,
    store: &'a Store,
    rng: &'a SystemRandom,
    now: Timestamp,
}

impl Ceremony<'_> {
    async fn make_root(&self, validity: Duration) -> Result<AuthorityCertificate, OpenError> {
        let DrawnKey { signer, pkcs8 } = self.draw_key()?;
        let root = RootAuthority::create(self.trust_domain, signer, CRYPTO, validity, self.now, self.serial()?).await?;
        self.keep(AuthorityKind::Root, root.certificate(), &pkcs8, Cause::ISSUER).await?;
        Ok(root.certificate().clone())
    }

    async fn make_issuing(
        &self,
        root: &RootAuthority,
        status: &StatusUrl,
        validity: Duration,
        cause: Cause,
    ) -> Result<Committed<Authority>, OpenError> {
        let DrawnKey { signer, pkcs8 } = self.draw_key()?;
        let issuing = root.issue(signer, status, validity, self.now, self.serial()?).await?;
        let kept = self.keep(AuthorityKind::Issuing, issuing.certificate(), &pkcs8, cause).await?;
        Ok(kept.map(|()| issuing))
    }

    fn unseal_root(&self, root: &AuthorityCertificate) -> Result<RootAuthority, OpenError> {
        let sealed = self.store.state().authority(root.key_id()).and_then(|root| root.sealed_key.clone());
        let sealed = sealed.ok_or(OpenError::External)?;
        let signer = self.unseal(AuthorityKind::Root, root.key_id(), Some(&sealed))?;
        Ok(RootAuthority::from_parts(root.der().to_vec(), signer, CRYPTO)?)
    }

    fn unseal_issuing(&self, held: &store::Authority) -> Result<Authority, OpenError> {
        let signer = self.unseal(AuthorityKind::Issuing, held.key_id, held.sealed_key.as_deref())?;
        Ok(Authority::from_parts(held.certificate.clone(), signer, CRYPTO)?)
    }

    fn unseal(&self, kind: AuthorityKind, key_id: KeyId, sealed: Option<&[u8]>) -> Result<Arc<dyn Signer>, SealError> {
        let hex = key_id.to_string();
        let wrong = || SealError::Wrong { key_id: hex.clone() };
        let pkcs8 = self.seal.unseal(label(self.trust_domain, kind, &hex), sealed.ok_or_else(wrong)?)?;
        Ok(Arc::new(LocalSigner::from_pkcs8(&pkcs8).map_err(|_| wrong())?))
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
        cause: Cause,
    ) -> Result<Committed<()>, OpenError> {
        let key_id = certificate.key_id();
        let sealed_key = self.seal.seal(label(self.trust_domain, kind, &key_id.to_string()), pkcs8, self.rng)?;
        let put =
            PutAuthority { cause, key_id, kind, certificate: certificate.der().to_vec(), sealed_key: Some(sealed_key) };
        Ok(self.store.commit(put).await?.map(drop))
    }
}

/// A new key, to sign with and to be sealed.
struct DrawnKey {
    signer: Arc<dyn Signer>,
    pkcs8: zeroize::Zeroizing<Vec<u8>>,
}

fn label<'a>(trust_domain: &'a TrustDomain, kind: AuthorityKind, key_id: &'a str) -> KeyLabel<'a> {
    KeyLabel { kind: kind.as_str(), key_id, trust_domain: trust_domain.as_str() }
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
    /// The root's key is elsewhere, and signs nothing unasked.
    #[error(
        "the root's key is not here: make a request with chancery authorities csr, have it signed, and import what comes back"
    )]
    External,
    /// An external root, and nothing imported that is valid.
    #[error(
        "keys.root is \"external\", and no root with a valid issuing authority is imported\n\
         \x20 1. chancery authorities csr --out issuing.csr                  on this host, with this configuration\n\
         \x20    chancery authorities csr --for head-key --out head-key.csr  for the feed\n\
         \x20 2. have the root sign both, with every extension that the requests ask for, and sign a CRL\n\
         \x20 3. chancery authorities import --offline root.pem issuing.pem head-key.pem root-crl.pem\n\
         \x20 4. chancery serve\n\
         docs/operations.md has the commands for a root in OpenSSL"
    )]
    NothingImported,
    /// The configuration means another kind of root than the database has.
    #[error(
        "the configuration says keys.root = \"{0}\", and the database has the other kind; it is fixed at first start"
    )]
    RootKey(RootKey),
    /// The seal.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A certificate of an authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A key.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// The database, at a commit.
    #[error("the authorities could not be recorded")]
    Store(#[from] CommitError),
    /// The database.
    #[error(transparent)]
    Read(#[from] store::DbError),
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
    /// The root's key.
    #[error(transparent)]
    Root(#[from] OpenError),
}
