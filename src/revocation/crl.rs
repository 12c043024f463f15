//! CRLs: a view of the revocation sequence that every client reads.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use chancery_api::AuthorityKind;
use chancery_ca::{AuthorityCertificate, CrlEntry, CrlNumber, SignedCrl};
use chancery_identity::{KeyId, Reason, Serial, Target, Timestamp};
use tokio::sync::watch;

use crate::authority::{Authorities, CrlError, crl_head};
use crate::clock::Clock;
use crate::store::{CommitError, CrlPublished, DbError, Store};

/// The issuing CRL is signed anew this often, changed or not.
const RHYTHM: Duration = Duration::from_secs(15 * 60);
/// The root's is when half of its validity is over.
const ROOT_RHYTHM: Duration = Duration::from_secs(45 * 86_400);
/// How long an answer waits to name the CRL that shows it: a list of 100,000 is published within this.
const SOON: Duration = Duration::from_millis(200);
/// How often the clock is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// After a failure, which leaves the last CRL standing.
const RETRY: Duration = Duration::from_secs(1);

/// What is published now, by authority.
pub struct Crls {
    published: ArcSwap<HashMap<KeyId, Arc<PublishedCrl>>>,
    issuing: KeyId,
    changed: watch::Sender<u64>,
}

/// One CRL as it is served.
#[derive(Debug)]
pub struct PublishedCrl {
    /// DER.
    pub der: Vec<u8>,
    /// Its number.
    pub number: CrlNumber,
    /// The newest revocation in it.
    pub n: u64,
    /// When it was made.
    pub this_update: Timestamp,
    /// When the next one is there at the latest.
    pub next_update: Timestamp,
}

impl Crls {
    /// Nothing published yet.
    pub fn new(issuing: KeyId) -> Self {
        Self { published: ArcSwap::default(), issuing, changed: watch::Sender::new(0) }
    }

    /// An authority's CRL.
    pub fn of(&self, authority: KeyId) -> Option<Arc<PublishedCrl>> {
        self.published.load().get(&authority).cloned()
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<PublishedCrl>> {
        self.published.load().values().cloned().collect()
    }

    /// The number of the issuing CRL, if it has revocation `n` in it.
    pub fn issuing_at(&self, n: u64) -> Option<CrlNumber> {
        self.of(self.issuing).filter(|crl| crl.n >= n).map(|crl| crl.number)
    }

    /// The number of the issuing CRL that has revocation `n` in it, if it is published within moments.
    pub(crate) async fn soon_at(&self, n: u64) -> Option<CrlNumber> {
        let mut changed = self.changes();
        let published = async {
            loop {
                changed.borrow_and_update();
                match self.issuing_at(n) {
                    Some(number) => return Some(number),
                    None => changed.changed().await.ok()?,
                }
            }
        };
        tokio::time::timeout(SOON, published).await.ok().flatten()
    }

    /// Tells each publication.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn put(&self, crl: SignedCrl) {
        let authority = crl.authority();
        let head = *crl.head();
        let published = Arc::new(PublishedCrl {
            der: crl.into_der(),
            number: head.number,
            n: head.n,
            this_update: head.this_update,
            next_update: head.next_update,
        });
        self.published.rcu(|now| {
            let mut next = HashMap::clone(now);
            next.insert(authority, published.clone());
            next
        });
        self.changed.send_modify(|count| *count += 1);
    }
}

/// Signs CRLs: at once when an entry is committed, and in rhythm.
pub struct Publisher {
    store: Store,
    authorities: Arc<Authorities>,
    crls: Arc<Crls>,
    clock: Arc<dyn Clock>,
    /// What the issuing CRL lists, kept from one to the next.
    listed: BTreeMap<Serial, Listed>,
    /// The newest entry in `listed`, and how many were in force then: a resume shows as fewer.
    n: u64,
    resumed: u64,
}

struct Listed {
    at: Timestamp,
    reason: Reason,
    not_after: Timestamp,
}

impl Publisher {
    /// Nothing signed yet.
    pub fn new(store: Store, authorities: Arc<Authorities>, crls: Arc<Crls>, clock: Arc<dyn Clock>) -> Self {
        Self { store, authorities, crls, clock, listed: BTreeMap::new(), n: 0, resumed: 0 }
    }

    /// Signs and publishes both CRLs. The service answers nobody before.
    ///
    /// # Errors
    /// Whatever kept a CRL from being signed or recorded.
    pub async fn publish(&mut self) -> Result<(), PublishError> {
        self.publish_issuing().await?;
        self.publish_root().await
    }

    /// Publishes for as long as the service runs.
    pub async fn run(mut self) {
        let mut changes = self.store.state().revocation_changes();
        let mut root_due = self.clock.now() + ROOT_RHYTHM;
        let mut due = self.clock.now() + RHYTHM;
        loop {
            match tokio::time::timeout(LOOK, changes.changed()).await {
                Ok(Err(_)) => return,
                Ok(Ok(())) => {}
                // The wall clock decides what is due: a machine that slept is late when it wakes.
                Err(_) if self.clock.now() < due => continue,
                Err(_) => {}
            }
            due = self.clock.now() + RHYTHM;
            while let Err(error) = self.publish_issuing().await {
                tracing::error!(%error, "the CRL is not published; the last one stands");
                tokio::time::sleep(RETRY).await;
            }
            if self.clock.now() >= root_due {
                match self.publish_root().await {
                    Ok(()) => root_due = self.clock.now() + ROOT_RHYTHM,
                    Err(error) => tracing::error!(%error, "the root's CRL is not published; the last one stands"),
                }
            }
        }
    }

    async fn publish_issuing(&mut self) -> Result<(), PublishError> {
        let now = self.clock.now();
        let position = self.store.state().position();
        self.take_up(position.n, now).await?;
        let key_id = self.authorities.issuing().key_id();
        let previous = self.previous(key_id);
        let head = crl_head(AuthorityKind::Issuing, previous, position.epoch, position.n, now);
        let entries = self.listed.iter().map(|(&serial, listed)| CrlEntry {
            serial,
            revoked_at: listed.at,
            reason: listed.reason,
        });
        let crl = self.authorities.sign_crl(head, entries.collect()).await?;
        let count = self.listed.len();
        self.record(&crl, count).await?;
        self.crls.put(crl);
        // RFC 5280 §3.3: an entry stays until it has been in one CRL after the certificate's end.
        self.listed.retain(|_, listed| listed.not_after >= now);
        Ok(())
    }

    async fn publish_root(&mut self) -> Result<(), PublishError> {
        let (now, position) = (self.clock.now(), self.store.state().position());
        let key_id = self.authorities.root().key_id();
        let head = crl_head(AuthorityKind::Root, self.previous(key_id), position.epoch, position.n, now);
        let entries = self.revoked_authorities();
        let count = entries.len();
        let crl = self.authorities.sign_root_crl(&self.store, head, entries).await?;
        self.record(&crl, count).await?;
        self.crls.put(crl);
        Ok(())
    }

    /// The issuing authorities that an entry in force names, as the root's CRL lists them.
    fn revoked_authorities(&self) -> Vec<CrlEntry> {
        let state = self.store.state();
        let issuing = state.authorities().into_iter().filter(|authority| authority.kind == AuthorityKind::Issuing);
        let mut entries: Vec<CrlEntry> = issuing
            .filter_map(|authority| {
                let entry = state.naming(&Target::Authority(authority.key_id)).into_iter().next()?;
                let serial = AuthorityCertificate::read(authority.certificate.clone()).ok()?.serial();
                Some(CrlEntry { serial, revoked_at: entry.at, reason: entry.reason })
            })
            .collect();
        entries.sort_unstable_by_key(|entry| entry.serial);
        entries
    }

    fn previous(&self, authority: KeyId) -> Option<CrlNumber> {
        let recorded = self.store.state().authority(authority).and_then(|authority| authority.crl_number);
        self.crls.of(authority).map(|crl| crl.number).max(recorded)
    }

    /// Recorded before it is shown: numbers rise over restarts, and the log knows each CRL.
    async fn record(&self, crl: &SignedCrl, count: usize) -> Result<(), PublishError> {
        let published = CrlPublished {
            authority: crl.authority(),
            number: crl.head().number,
            n: crl.head().n,
            der: crl.der().to_vec(),
            entries: count as u64,
        };
        let _committed = self.store.commit(published).await?;
        Ok(())
    }

    /// Adds what entries since the last CRL hit; after a resume, begins anew.
    async fn take_up(&mut self, n: u64, now: Timestamp) -> Result<(), PublishError> {
        let resumed = self.store.state().resumes();
        if resumed != self.resumed {
            self.listed.clear();
            self.n = 0;
            self.resumed = resumed;
        }
        for entry in self.store.state().in_force_after(self.n) {
            for (serial, not_after) in self.store.hit_by(&entry, now).await? {
                let listed = Listed { at: entry.at, reason: entry.reason, not_after };
                // Reasons for good win over a hold.
                let held = |old: &Listed| old.reason == Reason::CertificateHold;
                if self.listed.get(&serial).is_none_or(held) {
                    self.listed.insert(serial, listed);
                }
            }
        }
        self.n = n;
        Ok(())
    }
}

/// A CRL is not published; the last one stands.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// It was not signed.
    #[error(transparent)]
    Crl(#[from] CrlError),
    /// It was not recorded.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// What it lists could not be read.
    #[error(transparent)]
    Read(#[from] DbError),
}
