//! One generation after the other: a successor is made in time, is announced, and then signs.
//!
//! Verifiers refuse whom they know no CRL for, so a successor publishes its CRL and is listed for twice `stale_after`
//! before it signs: whoever counts as fresh by then has asked since. Only where the one that signs is stopped, or all but
//! over, does the successor sign at once.

use std::path::Path;
use std::sync::Arc;

use chancery_api::AuthorityKind;
use chancery_ca::ForeignCrl;
use chancery_ca::local::CRYPTO;
use chancery_identity::{KeyId, Target, Timestamp};

use crate::revocation::PublishedCrl;
use crate::store::{Cause, Committed};

use super::external::Import;
use super::{Authorities, Handed, ImportError, Issuing, OpenError, Taken};

impl Authorities {
    /// Makes a successor if it is time: the newest generation is past half of its life, or every one is stopped.
    ///
    /// # Errors
    /// A seal that does not open, a root that is over, a database that does not commit.
    pub(crate) async fn succeed_in_time(&self, now: Timestamp) -> Result<(), OpenError> {
        if self.root_is_here() && self.successor_due(now) {
            self.succeed(Cause::ISSUER, now).await?;
        }
        Ok(())
    }

    /// Makes a successor under the root, whatever the time is. It signs from [`Issuing::signs_from`].
    ///
    /// # Errors
    /// As [`Authorities::succeed_in_time`].
    pub(crate) async fn succeed(&self, cause: Cause, now: Timestamp) -> Result<Committed<Arc<Issuing>>, OpenError> {
        let _one_at_a_time = self.ceremony.lock().await;
        let ceremony = self.ceremony_at(now);
        let root = self.unseal_root()?;
        let made = ceremony.make_issuing(&root, &self.status, self.ttl.authority, cause).await?;
        let signs_from = self.would_sign_from(now);
        let committed = made.map(|authority| Arc::new(Issuing::new(authority, &self.status, signs_from)));
        self.announce(committed.reply());
        Ok(committed)
    }

    /// Takes in what an external root signed. A new issuing authority signs as any successor does.
    ///
    /// # Errors
    /// What was handed in does not hold, or is not recorded.
    pub(crate) async fn take_in(
        &self,
        handed: Handed,
        data_dir: &Path,
        cause: &Cause,
        now: Timestamp,
    ) -> Result<Taken, ImportError> {
        let _one_at_a_time = self.ceremony.lock().await;
        let Self { trust_domain, seal, store, rng, .. } = self;
        let import = Import::judge(handed, trust_domain, data_dir, seal, store, now).await?;
        let taken = import.record(trust_domain, seal, store, rng, cause).await;
        // All that is recorded, also by an import that ended halfway: handed in again, it brings nothing new.
        self.announce_recorded(now)?;
        self.load_head_keys(now).await?;
        // The root's CRL, too, is published by whoever hears of it.
        self.changed.send_modify(|count| *count += 1);
        taken
    }

    /// What [`Authorities::take_in`] would refuse.
    ///
    /// # Errors
    /// As [`Authorities::take_in`].
    pub(crate) async fn would_take_in(
        &self,
        handed: Handed,
        data_dir: &Path,
        now: Timestamp,
    ) -> Result<(), ImportError> {
        Import::judge(handed, &self.trust_domain, data_dir, &self.seal, &self.store, now).await.map(drop)
    }

    /// What an external root must sign soon, and what to do.
    pub(crate) fn warnings(&self, root_crl: Option<&PublishedCrl>, now: Timestamp) -> Vec<String> {
        if self.root_is_here() {
            return Vec::new();
        }
        let mut warnings = Vec::new();
        if let Some(crl) = root_crl {
            let life = crl.next_update.since(crl.this_update);
            if crl.next_update.since(now) < life / 4 {
                let until = crl.next_update.to_seconds_text();
                warnings.push(format!(
                    "the root's CRL ends at {until}: have the root sign the next one, then: chancery authorities import FILE"
                ));
            }
            let listed = ForeignCrl::read(&crl.der, &self.root, CRYPTO).map(|crl| crl.serials().to_vec());
            for one in self.all_issuing().iter().filter(|one| self.stopped(one.key_id())) {
                let serial = one.certificate().serial();
                if !listed.as_ref().is_ok_and(|listed| listed.contains(&serial)) {
                    warnings.push(format!(
                        "authority {} is stopped and the root's CRL does not list its serial {serial}: have the root sign one \
                         that does, then: chancery authorities import FILE",
                        one.key_id(),
                    ));
                }
            }
        }
        if self.successor_due(now) {
            let until = self.issuing().certificate().not_after().to_seconds_text();
            warnings.push(format!(
                "the issuing authority needs a successor (it ends at {until}): chancery authorities csr, have the root sign it, \
                 then: chancery authorities import FILE"
            ));
        }
        if self.head_key_due(now) {
            let why = self.head_keys().end().map_or_else(
                || "no key signs heads, and verifiers go by the CRLs alone".to_owned(),
                |end| format!("the key that signs heads needs a successor (it ends at {})", end.to_seconds_text()),
            );
            warnings.push(format!(
                "{why}: chancery authorities csr --for head-key, have the root sign it, then: chancery authorities import FILE"
            ));
        }
        warnings
    }

    /// Announces the issuing authorities that were recorded after the newest that is known.
    fn announce_recorded(&self, now: Timestamp) -> Result<(), OpenError> {
        let state = self.store.state();
        let newest = self.all_issuing().last().and_then(|newest| state.authority(newest.key_id()));
        let newest = newest.map(|newest| newest.log_index);
        let mut recorded = state.authorities();
        recorded.retain(|one| one.kind == AuthorityKind::Issuing && Some(one.log_index) > newest);
        recorded.sort_unstable_by_key(|one| one.log_index);
        for held in recorded.iter().filter(|one| !self.stopped(one.key_id)) {
            let authority = self.ceremony_at(now).unseal_issuing(held)?;
            self.announce(&Arc::new(Issuing::new(authority, &self.status, self.would_sign_from(now))));
        }
        Ok(())
    }

    fn announce(&self, successor: &Arc<Issuing>) {
        self.generations.rcu(|all| {
            let mut all = Vec::clone(all);
            all.push(successor.clone());
            all
        });
        self.changed.send_modify(|count| *count += 1);
        tracing::info!(key_id = %successor.key_id(), signs_from = %successor.signs_from, "a new issuing authority");
    }

    /// When a successor made now begins to sign.
    pub(crate) fn would_sign_from(&self, now: Timestamp) -> Timestamp {
        now + self.announced_for
    }

    /// Lets the generation sign whose time has come; `published` says whether one's CRL can be had.
    pub(crate) fn take_over(&self, now: Timestamp, published: impl Fn(KeyId) -> bool) {
        let generations = self.all_issuing();
        let lasting = |one: &Issuing| one.certificate().not_after() >= now + self.ttl.leaf;
        let fit: Vec<_> =
            generations.iter().rev().filter(|one| !self.stopped(one.key_id()) && published(one.key_id())).collect();
        let announced = fit.iter().find(|one| lasting(one) && one.signs_from <= now);
        // Where none was known long enough, the one that is known longest.
        let oldest = || fit.iter().rfind(|one| lasting(one));
        let Some(chosen) = announced.or_else(oldest).or_else(|| fit.first()) else { return };
        if self.present.load().key_id() != chosen.key_id() {
            self.present.store(Arc::clone(chosen));
            self.changed.send_modify(|count| *count += 1);
            tracing::info!(key_id = %chosen.key_id(), "this issuing authority signs from now on");
        }
    }

    /// Drops a generation whose leaves are over: it publishes no more. The one that signs and those after it stay.
    pub(crate) fn drop_over(&self, key_id: KeyId) {
        self.generations.rcu(|all| all.iter().filter(|one| one.key_id() != key_id).cloned().collect::<Vec<_>>());
        self.changed.send_modify(|count| *count += 1);
    }

    /// The generations that signed before, or never will: what is left for them is their CRLs.
    pub(crate) fn superseded(&self) -> Vec<Arc<Issuing>> {
        let present = self.issuing().key_id();
        let mut before = true;
        let all = self.all_issuing();
        let superseded = all.iter().filter(|one| {
            before &= one.key_id() != present;
            before || (one.key_id() != present && self.stopped(one.key_id()))
        });
        superseded.cloned().collect()
    }

    /// Whether an entry in force names the authority: it signs no leaf any more.
    pub(crate) fn stopped(&self, key_id: KeyId) -> bool {
        !self.store.state().naming(&Target::Authority(key_id)).is_empty()
    }

    fn successor_due(&self, now: Timestamp) -> bool {
        let generations = self.all_issuing();
        let Some(newest) = generations.iter().rev().find(|one| !self.stopped(one.key_id())) else { return true };
        let (from, to) = (newest.certificate().not_before(), newest.certificate().not_after());
        // A successor that would end with it, as the root does, gains nothing.
        now >= from + to.since(from) / 2 && self.root.not_after() > to
    }
}
