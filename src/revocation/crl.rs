//! CRLs: a view of the revocation sequence that every client reads.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use chancery_api::AuthorityKind;
use chancery_ca::local::CRYPTO;
use chancery_ca::{AuthorityCertificate, CrlEntry, CrlNumber, ForeignCrl, ForeignRefused, SignedCrl};
use chancery_identity::{KeyId, Reason, Serial, Target, Timestamp};
use chancery_verifier::CrlHeader;
use tokio::sync::watch;

use crate::authority::{Authorities, CrlError, Issuing, crl_head};
use crate::clock::Clock;
use crate::store::{Authority, CommitError, CrlPublished, DbError, Hit, Position, Store};

/// The issuing CRL is signed anew this often, changed or not.
const RHYTHM: Duration = Duration::from_secs(15 * 60);
/// The root's is when half of its validity is over.
const ROOT_RHYTHM: Duration = Duration::from_secs(45 * 86_400);
/// How long an answer waits to name the CRL that shows it: a list of 100,000 is published within this.
const SOON: Duration = Duration::from_millis(200);
/// After a successor could not be made: there are weeks to make it in, and one that is stopped signs nothing meanwhile.
const SUCCEED_AGAIN: Duration = Duration::from_secs(10);
/// How often it is said again what an external root must sign.
const WARN_AGAIN: Duration = Duration::from_secs(3600);
/// How often the clock is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// After a failure, which leaves the last CRL standing.
const RETRY: Duration = Duration::from_secs(1);

/// What is published now, by authority.
#[derive(Default)]
pub struct Crls {
    published: ArcSwap<HashMap<KeyId, Arc<PublishedCrl>>>,
    changed: watch::Sender<u64>,
}

/// One CRL as it is served.
#[derive(Debug)]
pub struct PublishedCrl {
    /// Whose.
    pub authority: KeyId,
    /// What that one signs.
    pub kind: AuthorityKind,
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

impl PublishedCrl {
    fn signed(kind: AuthorityKind, crl: SignedCrl) -> Self {
        let (authority, head) = (crl.authority(), *crl.head());
        Self {
            authority,
            kind,
            der: crl.into_der(),
            number: head.number,
            n: head.n,
            this_update: head.this_update,
            next_update: head.next_update,
        }
    }
}

impl Crls {
    /// An authority's CRL.
    pub fn of(&self, authority: KeyId) -> Option<Arc<PublishedCrl>> {
        self.published.load().get(&authority).cloned()
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<PublishedCrl>> {
        self.published.load().values().cloned().collect()
    }

    /// The number of the newest issuing CRL, once revocation `n` is in each of them.
    pub fn issuing_at(&self, n: u64) -> Option<CrlNumber> {
        let published = self.published.load();
        let mut issuing = published.values().filter(|crl| crl.kind == AuthorityKind::Issuing);
        issuing.try_fold(None, |newest, crl| (crl.n >= n).then(|| newest.max(Some(crl.number)))).flatten()
    }

    /// The number of the newest issuing CRL, if revocation `n` is in each of them within moments.
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

    fn put(&self, crl: PublishedCrl) {
        let published = Arc::new(crl);
        self.change(|all| {
            all.insert(published.authority, published.clone());
        });
    }

    fn change(&self, change: impl Fn(&mut HashMap<KeyId, Arc<PublishedCrl>>)) {
        self.published.rcu(|now| {
            let mut next = HashMap::clone(now);
            change(&mut next);
            next
        });
        self.changed.send_modify(|count| *count += 1);
    }
}

/// Signs CRLs: at once when an entry is committed, and in rhythm. And sees to it that there is always an authority to
/// sign: one takes over only when its CRL is there.
pub struct Publisher {
    store: Store,
    authorities: Arc<Authorities>,
    crls: Arc<Crls>,
    clock: Arc<dyn Clock>,
    /// What the CRL of each issuing authority lists, kept from one to the next.
    listed: HashMap<KeyId, BTreeMap<Serial, Listed>>,
    /// The newest entry in `listed`, and how many were in force then: a resume shows as fewer.
    n: u64,
    resumed: u64,
    /// Since when an authority is known to sign no more.
    superseded: HashMap<KeyId, Timestamp>,
    /// What the root's CRL lists.
    revoked_authorities: Vec<CrlEntry>,
}

struct Listed {
    at: Timestamp,
    reason: Reason,
    resumable: bool,
    not_after: Timestamp,
}

impl Publisher {
    /// Nothing signed yet.
    pub fn new(store: Store, authorities: Arc<Authorities>, crls: Arc<Crls>, clock: Arc<dyn Clock>) -> Self {
        Self {
            store,
            authorities,
            crls,
            clock,
            listed: HashMap::new(),
            n: 0,
            resumed: 0,
            superseded: HashMap::new(),
            revoked_authorities: Vec::new(),
        }
    }

    /// Signs and publishes the CRL of every authority. The service answers nobody before.
    ///
    /// # Errors
    /// Whatever kept a CRL from being signed or recorded.
    pub async fn publish(&mut self) -> Result<(), PublishError> {
        self.publish_issuing().await?;
        self.publish_root().await?;
        self.take_over();
        Ok(())
    }

    /// Publishes for as long as the service runs.
    pub async fn run(mut self) {
        let mut entries = self.store.state().revocation_changes();
        let mut generations = self.authorities.changes();
        let mut succeed_at = self.clock.now();
        let mut warn_at = succeed_at;
        loop {
            let news = tokio::select! {
                changed = entries.changed() => changed.is_ok(),
                changed = generations.changed() => changed.is_ok(),
                () = tokio::time::sleep(LOOK) => false,
            };
            entries.borrow_and_update();
            generations.borrow_and_update();
            let now = self.clock.now();
            if now >= succeed_at
                && let Err(error) = self.authorities.succeed_in_time(now).await
            {
                tracing::error!(%error, "there is no successor to the issuing authority; tried again");
                succeed_at = now + SUCCEED_AGAIN;
            }
            if news || self.issuing_due(now) {
                while let Err(error) = self.publish_issuing().await {
                    tracing::error!(%error, "the CRL is not published; the last one stands");
                    tokio::time::sleep(RETRY).await;
                }
            }
            if self.root_due(now)
                && let Err(error) = self.publish_root().await
            {
                tracing::error!(%error, "the root's CRL is not published; the last one stands");
            }
            self.take_over();
            if now >= warn_at {
                warn_at = now + WARN_AGAIN;
                let root_crl = self.crls.of(self.authorities.root().key_id());
                for warning in self.authorities.warnings(root_crl.as_deref(), now) {
                    tracing::warn!("{warning}");
                }
            }
        }
    }

    /// The wall clock decides what is due: a machine that slept is late when it wakes. What was never published is due too.
    fn issuing_due(&self, now: Timestamp) -> bool {
        self.authorities.all_issuing().iter().any(|one| self.due(one.key_id(), RHYTHM, now))
    }

    fn root_due(&self, now: Timestamp) -> bool {
        let key_id = self.authorities.root().key_id();
        match self.imported() {
            Some(root) => self.crls.of(key_id).map(|crl| crl.number) != root.crl_number,
            None => self.due(key_id, ROOT_RHYTHM, now) || self.revoked_authorities() != self.revoked_authorities,
        }
    }

    fn due(&self, authority: KeyId, rhythm: Duration, now: Timestamp) -> bool {
        self.crls.of(authority).is_none_or(|crl| now >= crl.this_update + rhythm)
    }

    fn take_over(&self) {
        self.authorities.take_over(self.clock.now(), |key_id| self.crls.of(key_id).is_some());
    }

    async fn publish_issuing(&mut self) -> Result<(), PublishError> {
        let now = self.clock.now();
        let position = self.store.state().position();
        self.take_up(position.n, now).await?;
        for issuing in self.authorities.all_issuing().iter() {
            self.publish_one(issuing, position, now).await?;
        }
        self.drop_over(now).await
    }

    async fn publish_one(&mut self, issuing: &Issuing, position: Position, now: Timestamp) -> Result<(), PublishError> {
        let key_id = issuing.key_id();
        let previous = self.previous(key_id);
        let head = crl_head(AuthorityKind::Issuing, previous, position.epoch, position.n, now);
        let listed = self.listed.entry(key_id).or_default();
        let entries =
            listed.iter().map(|(&serial, listed)| CrlEntry { serial, revoked_at: listed.at, reason: listed.reason });
        let crl = issuing.sign_crl(head, entries.collect()).await?;
        let count = listed.len();
        // RFC 5280 §3.3: an entry stays until it has been in one CRL after the certificate's end.
        listed.retain(|_, listed| listed.not_after >= now);
        self.record(&crl, count).await?;
        self.crls.put(PublishedCrl::signed(AuthorityKind::Issuing, crl));
        Ok(())
    }

    /// Lets those publish no more whose last leaf is over and has been in one CRL since.
    async fn drop_over(&mut self, now: Timestamp) -> Result<(), PublishError> {
        let superseded = self.authorities.superseded();
        self.superseded.retain(|key_id, _| superseded.iter().any(|one| one.key_id() == *key_id));
        for key_id in superseded.iter().map(|one| one.key_id()) {
            // What was being signed when it was superseded is recorded by the next round.
            let since = *self.superseded.entry(key_id).or_insert(now);
            if now >= since + RHYTHM && !self.store.signed_any_valid_at(key_id, now).await? {
                self.authorities.drop_over(key_id);
                self.listed.remove(&key_id);
                self.crls.change(|all| {
                    all.remove(&key_id);
                });
            }
        }
        Ok(())
    }

    async fn publish_root(&mut self) -> Result<(), PublishError> {
        if !self.authorities.root_is_here() {
            return self.publish_imported();
        }
        let (now, position) = (self.clock.now(), self.store.state().position());
        let key_id = self.authorities.root().key_id();
        let head = crl_head(AuthorityKind::Root, self.previous(key_id), position.epoch, position.n, now);
        let entries = self.revoked_authorities();
        let crl = self.authorities.sign_root_crl(head, entries.clone()).await?;
        self.record(&crl, entries.len()).await?;
        self.revoked_authorities = entries;
        self.crls.put(PublishedCrl::signed(AuthorityKind::Root, crl));
        Ok(())
    }

    /// The CRL that a root elsewhere signed; it was recorded when it was imported.
    fn publish_imported(&self) -> Result<(), PublishError> {
        let root = self.authorities.root();
        let Some(der) = self.imported().and_then(|root| root.crl.clone()) else { return Ok(()) };
        let crl = ForeignCrl::read(&der, root, CRYPTO)?;
        self.crls.put(PublishedCrl {
            authority: root.key_id(),
            kind: AuthorityKind::Root,
            der: der.to_vec(),
            number: crl.number(),
            n: 0,
            this_update: crl.this_update(),
            next_update: crl.next_update(),
        });
        Ok(())
    }

    /// The root, if its key is elsewhere.
    fn imported(&self) -> Option<Arc<Authority>> {
        let root = self.store.state().authority(self.authorities.root().key_id());
        root.filter(|root| root.sealed_key.is_none())
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

    /// Since when CRLs stand, wherever they were signed. RFC 5280 §3.3: what has ended since then is listed once more.
    fn stands_since(&self, now: Timestamp) -> Timestamp {
        let issuing = self.authorities.all_issuing();
        let standing = issuing.iter().filter_map(|one| self.store.state().authority(one.key_id())?.crl.clone());
        let made = standing.filter_map(|crl| CrlHeader::read(&crl).ok()).map(|header| header.this_update);
        made.fold(now, Timestamp::min)
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
        let valid_at = if self.n == 0 { self.stands_since(now) } else { now };
        for entry in self.store.state().in_force_after(self.n) {
            for Hit { authority, serial, not_after } in self.store.hit_by(&entry, valid_at).await? {
                let resumable = entry.effect.resumable();
                let listed = Listed { at: entry.at, reason: entry.reason, resumable, not_after };
                let by_serial = self.listed.entry(authority).or_default();
                // Entries come by number. As everywhere else the first one for good counts, else the first.
                let outdone = |old: &Listed| old.resumable && !resumable;
                if by_serial.get(&serial).is_none_or(outdone) {
                    by_serial.insert(serial, listed);
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
    /// What was imported of the root is no CRL of its.
    #[error(transparent)]
    Foreign(#[from] ForeignRefused),
    /// It was not recorded.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// What it lists could not be read.
    #[error(transparent)]
    Read(#[from] DbError),
}
