//! What is known of revocations: CRLs, each verified once, and the index that a request asks.

mod crl;
mod entries;
mod index;

use std::sync::Arc;

use chancery_identity::{KeyId, Revocation};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::CertificateRevocationListDer;

use crate::authority::Authority;
use crate::chain::Link;
use crate::freshness::Period;
use crate::{Denial, Freshness, Knowledge, Material, Moment, Peer};

pub use crl::CrlRefused;
pub(crate) use crl::{Crl, CrlNumber};
use entries::Entries;
use index::Index;

/// All that is known of revocations as of one moment. Never changes: a newer one replaces it.
#[derive(Clone, Debug)]
pub(crate) struct Revocations {
    published: Vec<Arc<Published>>,
    entries: Arc<Entries>,
    /// The CRLs this was made from.
    crls: Arc<[CertificateRevocationListDer<'static>]>,
    answered: Option<Moment>,
    limits: Freshness,
    refused: Vec<CrlRefused>,
}

/// What one authority's newest CRL says.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) authority: Arc<Authority>,
    pub(crate) number: CrlNumber,
    pub(crate) period: Period,
    index: Index,
    /// Whether the newest material holds this CRL; one that it lacks or contradicts ages by its own dates.
    current: bool,
}

impl Published {
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }
}

/// Who may have signed a CRL.
pub(crate) struct Issuers<'a> {
    pub(crate) roots: &'a [Arc<Authority>],
    pub(crate) below: &'a [Arc<Authority>],
    pub(crate) algorithms: &'a WebPkiSupportedAlgorithms,
}

impl Revocations {
    /// Before any CRL: nothing is known, and so nothing is accepted.
    pub(crate) fn none(limits: Freshness) -> Self {
        Self {
            published: Vec::new(),
            entries: Arc::default(),
            crls: Arc::default(),
            answered: None,
            limits,
            refused: Vec::new(),
        }
    }

    /// What newer material makes of it, and whether any verdict can differ.
    pub(crate) fn renewed(&self, material: &Material, issuers: &Issuers<'_>, now: Moment) -> (Self, bool) {
        let unchanged = Arc::ptr_eq(&self.crls, &material.crls);
        let mut renewed = Self {
            crls: Arc::clone(&material.crls),
            answered: material.answered,
            limits: material.freshness,
            ..self.clone()
        };
        if unchanged {
            return (renewed, false);
        }
        for published in &mut renewed.published {
            if published.current {
                Arc::make_mut(published).current = false;
            }
        }
        let changed = renewed.take_all(issuers, now);
        (renewed, changed)
    }

    /// The same, with the CRLs that further authorities can verify.
    pub(crate) fn with_issuers(&self, issuers: &Issuers<'_>, now: Moment) -> (Self, bool) {
        let mut renewed = self.clone();
        let changed = renewed.take_all(issuers, now);
        (renewed, changed)
    }

    /// The same, with other entries in force.
    pub(crate) fn with_entries(&self, in_force: &[Revocation]) -> Self {
        Self { entries: Arc::new(Entries::new(in_force)), ..self.clone() }
    }

    fn take_all(&mut self, issuers: &Issuers<'_>, now: Moment) -> bool {
        let mut changed = false;
        self.refused.clear();
        for der in Arc::clone(&self.crls).iter() {
            match self.take(der, issuers, now) {
                Ok(news) => changed |= news,
                Err(refused) => self.refused.push(refused),
            }
        }
        changed
    }

    /// Verifies a CRL, once, and takes it in if it is newer than what is known of its authority.
    fn take(&mut self, der: &[u8], issuers: &Issuers<'_>, now: Moment) -> Result<bool, CrlRefused> {
        let crl = Crl::read(der)?;
        let of_root = issuers.roots.iter().any(|root| crl.names(root));
        let met = self.published.iter().map(|published| &published.authority);
        let candidates: Vec<Arc<Authority>> =
            issuers.roots.iter().chain(issuers.below).chain(met).filter(|issuer| crl.names(issuer)).cloned().collect();
        let mut outcome = Err(CrlRefused::UnknownIssuer);
        for issuer in candidates {
            let known = self.published.iter().position(|published| published.authority.is_same(&issuer));
            if let Some(published) = known.and_then(|at| self.published.get_mut(at)) {
                // A CRL with a lower number than the known one never replaces it.
                if crl.number <= published.number {
                    Arc::make_mut(published).current |= crl.number == published.number;
                    return Ok(false);
                }
            }
            outcome = crl.verify(&issuer, issuers.algorithms);
            if outcome.is_err() {
                continue;
            }
            crl.check_entries()?;
            let old = known.and_then(|at| self.published.get(at)).map(|published| &published.index);
            let published = Arc::new(Published {
                authority: issuer,
                number: crl.number,
                period: Period { this_update: crl.this_update, next_update: crl.next_update, seen: now, of_root },
                index: old.map_or_else(|| Index::new(crl.serials()), |old| old.renewed(|| crl.serials())),
                current: true,
            });
            match known.and_then(|at| self.published.get_mut(at)) {
                Some(slot) => *slot = published,
                None => self.published.push(published),
            }
            return Ok(true);
        }
        outcome.map(|()| false)
    }

    /// What revokes the peer, if anything known does.
    pub(crate) fn hit(&self, peer: &Peer) -> Result<(), Denial> {
        self.hit_path(peer.links())?;
        for ancestor in peer.grant().iter().flat_map(|grant| &grant.chain) {
            if self.of_key(ancestor.authority).is_some_and(|published| published.index.contains(&ancestor.serial)) {
                return Err(ancestor.into());
            }
        }
        if self.entries.hit(peer.certificate()) {
            return Err(Denial::Revoked(peer.serial()));
        }
        Ok(())
    }

    /// What revokes a certificate of the path, the leaf's first.
    pub(crate) fn hit_path(&self, path: &[Link]) -> Result<(), Denial> {
        for (depth, link) in path.iter().enumerate() {
            if self.of(&link.authority).is_some_and(|published| published.index.contains(&link.serial)) {
                return Err(if depth == 0 {
                    Denial::Revoked(link.serial)
                } else {
                    Denial::AuthorityRevoked(link.serial)
                });
            }
        }
        Ok(())
    }

    /// How recent that is which is known of the peer's path and ancestors: the worst of it.
    pub(crate) fn state(&self, peer: &Peer, now: Moment) -> Result<Knowledge, Denial> {
        let mut worst = self.state_of_path(peer.links(), now)?;
        for ancestor in peer.grant().iter().flat_map(|grant| &grant.chain) {
            let authority = ancestor.authority;
            let published = self.of_key(authority).ok_or(Denial::RevocationUnknown(Some(authority)))?;
            worst = worst.max(self.state_of(published, now));
        }
        if worst == Knowledge::Expired { Err(Denial::RevocationExpired) } else { Ok(worst) }
    }

    /// How recent that is which is known of the authorities of a path.
    pub(crate) fn state_of_path(&self, path: &[Link], now: Moment) -> Result<Knowledge, Denial> {
        let mut worst = Knowledge::Fresh;
        for link in path {
            let published = self.of(&link.authority).ok_or(Denial::RevocationUnknown(link.authority.key_id()))?;
            worst = worst.max(self.state_of(published, now));
        }
        Ok(worst)
    }

    /// How recent one authority's CRL is.
    pub(crate) fn state_of(&self, published: &Published, now: Moment) -> Knowledge {
        published.period.state(self.answered.filter(|_| published.current), self.limits, now)
    }

    /// The newest CRL of each authority.
    pub(crate) fn published(&self) -> &[Arc<Published>] {
        &self.published
    }

    /// Why CRLs of the material were not taken in.
    pub(crate) fn refused(&self) -> &[CrlRefused] {
        &self.refused
    }

    pub(crate) fn of(&self, authority: &Authority) -> Option<&Published> {
        self.published.iter().find(|published| published.authority.is_same(authority)).map(AsRef::as_ref)
    }

    fn of_key(&self, key_id: KeyId) -> Option<&Published> {
        self.published.iter().find(|published| published.authority.key_id() == Some(key_id)).map(AsRef::as_ref)
    }

    /// Whether a CRL waits for an authority to be met: this one.
    pub(crate) fn awaits(&self, authority: &Authority) -> bool {
        let named = |der: &CertificateRevocationListDer<'_>| Crl::read(der).is_ok_and(|crl| crl.names(authority));
        self.of(authority).is_none() && self.crls.iter().any(named)
    }
}
