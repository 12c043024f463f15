//! OCSP responders: one for each issuing authority, with a key of its own in memory only, certified anew before its
//! certificate ends.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use chancery_ca::local::LocalSigner;
use chancery_ca::{CertId, Responder};
use chancery_identity::{KeyId, Timestamp};
use tokio::sync::Mutex;

use super::{Authorities, Issuing, OpenError};
use crate::clock::Clock;
use crate::store::{ResponderCertified, Store};

/// How often the clock is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// After a failure, which leaves the responders that there are.
const RETRY: Duration = Duration::from_secs(10);

/// Who answers for which authority.
pub struct Responders {
    authorities: Arc<Authorities>,
    store: Store,
    clock: Arc<dyn Clock>,
    present: ArcSwap<Vec<Arc<Responder>>>,
    /// One renewal at a time.
    renewal: Mutex<()>,
}

impl Responders {
    /// Certifies a responder for each issuing authority. The service does not start without.
    ///
    /// # Errors
    /// A key that cannot be drawn or does not sign, a database that does not commit.
    pub async fn open(
        authorities: Arc<Authorities>,
        store: Store,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, OpenError> {
        let responders = Self { authorities, store, clock, present: ArcSwap::default(), renewal: Mutex::default() };
        if responders.store.rolled_back().is_none() {
            responders.renew().await?;
        }
        Ok(Arc::new(responders))
    }

    /// Who answers for the certificate's authority; nobody where the authority is none of ours, the root, or over.
    pub fn of(&self, id: &CertId) -> Option<Arc<Responder>> {
        self.present.load().iter().find(|responder| responder.answers_for(id)).cloned()
    }

    /// All of them.
    pub fn all(&self) -> Arc<Vec<Arc<Responder>>> {
        self.present.load_full()
    }

    /// An issuing authority that signs, or signed before, and for whose certificates nobody answers now.
    pub fn missing(&self) -> Option<KeyId> {
        let (now, present) = (self.clock.now(), self.present.load());
        let in_time = |one: &Responder| one.certified_at() <= now + chancery_ca::BACKDATING && one.not_after() > now;
        let answered = |key_id| present.iter().any(|one| one.authority() == key_id && in_time(one));
        let all = self.authorities.all_issuing();
        let mut signed = all.iter().filter(|one| one.signs_from() <= now && one.certificate().not_after() > now);
        signed.find(|one| !answered(one.key_id())).map(|one| one.key_id())
    }

    /// Certifies anew in time, and whom a new authority needs at once, for as long as the service runs.
    pub async fn run(self: Arc<Self>) {
        let mut generations = self.authorities.changes();
        loop {
            // The wall clock decides what is due: a machine that slept is late when it wakes.
            let _ = tokio::time::timeout(LOOK, generations.changed()).await;
            generations.borrow_and_update();
            if let Err(error) = self.renew().await {
                tracing::error!(%error, "an OCSP responder is not certified; tried again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    /// Certifies whoever is missing or past half of its life; keeps the others; drops those whose authority is gone.
    async fn renew(&self) -> Result<(), OpenError> {
        let _one_at_a_time = self.renewal.lock().await;
        let (now, present) = (self.clock.now(), self.present.load_full());
        let (mut next, mut failed) = (Vec::new(), None);
        for issuing in self.authorities.all_issuing().iter().filter(|one| one.certificate().not_after() > now) {
            let held = present.iter().find(|responder| responder.authority() == issuing.key_id());
            match held.filter(|responder| !is_due(responder, issuing, now)) {
                Some(responder) => next.push(responder.clone()),
                None => match self.certify(issuing, now).await {
                    Ok(responder) => next.push(Arc::new(responder)),
                    Err(error) => {
                        next.extend(held.cloned());
                        failed = Some(error);
                    }
                },
            }
        }
        if !same(&next, &present) {
            self.present.store(Arc::new(next));
        }
        failed.map_or(Ok(()), Err)
    }

    /// Recorded before it answers: whoever holds a signed response finds in the log who signed it.
    async fn certify(&self, issuing: &Issuing, now: Timestamp) -> Result<Responder, OpenError> {
        let ceremony = self.authorities.ceremony_at(now);
        let pkcs8 = zeroize::Zeroizing::new(LocalSigner::generate_pkcs8(ceremony.rng)?.as_ref().to_vec());
        let signer = Arc::new(LocalSigner::from_pkcs8(&pkcs8)?);
        let responder = issuing.authority().certify_responder(signer, now, ceremony.serial()?).await?;
        let certified = ResponderCertified {
            authority: responder.authority(),
            serial: responder.serial(),
            not_after: responder.not_after(),
            certificate: responder.certificate().to_vec(),
        };
        let _recorded = self.store.commit(certified).await?;
        Ok(responder)
    }
}

/// Past half of its life, or not begun since the clock went back; one that ends with its authority cannot be bettered.
fn is_due(responder: &Responder, issuing: &Issuing, now: Timestamp) -> bool {
    let (from, to) = (responder.certified_at(), responder.not_after());
    let begun = now + chancery_ca::BACKDATING >= from;
    let past_half = now >= from + to.since(from) / 2;
    !begun || (past_half && to < issuing.certificate().not_after())
}

fn same(one: &[Arc<Responder>], other: &[Arc<Responder>]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| Arc::ptr_eq(one, other))
}
