//! What is known of revocations: CRLs, each verified once, and the index that a request asks.

mod crl;
#[cfg_attr(not(feature = "feed"), allow(dead_code, reason = "a feed alone changes entries one by one"))]
mod entries;
#[cfg_attr(not(feature = "feed"), allow(dead_code, reason = "a feed alone changes entries one by one"))]
mod index;
mod known;
#[cfg_attr(not(feature = "feed"), allow(dead_code, reason = "a feed alone changes entries one by one"))]
mod named;

use std::sync::{Arc, Weak};
use std::time::Duration;

use chancery_identity::{KeyId, Revocation, Scope};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::CertificateRevocationListDer;

use crate::authority::Authority;
use crate::chain::Link;
use crate::freshness::Period;
use crate::{Denial, Freshness, Knowledge, Material, Moment, Peer};

pub(crate) use crl::{Crl, CrlNumber};
pub use crl::{CrlHeader, CrlRefused};
pub(crate) use entries::Entries;
use index::Index;
pub use known::Known;

/// All that is known of revocations as of one moment. Never changes: a newer one replaces it.
#[derive(Clone, Debug)]
pub(crate) struct Revocations {
    published: Vec<Arc<Published>>,
    /// The issuer's own, on its own listener.
    entries: Arc<Entries>,
    feed: Option<Arc<Known>>,
    /// The list of CRLs this was made from: to know it again. What was indexed is not held as DER.
    crls: Option<Weak<[CertificateRevocationListDer<'static>]>>,
    /// Those of them that no authority known so far could verify.
    waiting: Arc<[(CertificateRevocationListDer<'static>, CrlRefused)]>,
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
    /// How many certificates it revokes.
    pub(crate) revoked: usize,
    /// The epoch and number up to which it tells.
    pub(crate) state: Option<(u64, u64)>,
    /// Empty when the feed has told all that the CRL tells.
    index: Index,
    /// Whether the newest material holds this CRL; one that it lacks or contradicts ages by its own dates.
    current: bool,
}

impl Published {
    /// Whether the feed has told all that this tells. A root's is short, and says which authorities are over: it is
    /// kept.
    fn told_by(&self, feed: Option<&Arc<Known>>) -> bool {
        !self.period.of_root && is_told(self.state, feed)
    }
}

fn is_told(state: Option<(u64, u64)>, feed: Option<&Arc<Known>>) -> bool {
    state.zip(feed).is_some_and(|(state, feed)| state <= feed.number())
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
            feed: None,
            crls: None,
            waiting: Arc::default(),
            answered: None,
            limits,
            refused: Vec::new(),
        }
    }

    /// What newer material makes of it, and whether any verdict can differ.
    pub(crate) fn renewed(&self, material: &Material, issuers: &Issuers<'_>, now: Moment) -> (Self, bool) {
        let mut renewed = Self { answered: material.answered, limits: material.freshness, ..self.clone() };
        let mut changed = renewed.take_feed(material.feed.as_ref());
        let same = |held: &Weak<[_]>| std::ptr::addr_eq(held.as_ptr(), Arc::as_ptr(&material.crls));
        // The weak reference keeps the address from being used again.
        if self.crls.as_ref().is_some_and(same) {
            return (renewed, changed);
        }
        renewed.crls = Some(Arc::downgrade(&material.crls));
        for published in &mut renewed.published {
            if published.current {
                Arc::make_mut(published).current = false;
            }
        }
        changed |= renewed.take_all(material.crls.iter(), issuers, now);
        (renewed, changed)
    }

    /// The same, with the CRLs that further authorities can verify.
    pub(crate) fn with_issuers(&self, issuers: &Issuers<'_>, now: Moment) -> (Self, bool) {
        let mut renewed = self.clone();
        let changed = renewed.take_all(self.waiting.iter().map(|(crl, _)| crl), issuers, now);
        (renewed, changed)
    }

    /// The same, with other entries in force.
    pub(crate) fn with_entries(&self, in_force: &[Revocation]) -> Self {
        Self { entries: Arc::new(Entries::new(in_force)), ..self.clone() }
    }

    /// Takes what the feed taught, unless it is behind what it taught before.
    fn take_feed(&mut self, feed: Option<&Arc<Known>>) -> bool {
        let Some(feed) = feed else { return false };
        let before = self.feed.as_ref().map(|known| known.number());
        if before.is_some_and(|before| feed.number() < before) {
            return false;
        }
        self.feed = Some(Arc::clone(feed));
        let changed = before != Some(feed.number());
        if changed {
            for published in &mut self.published {
                if published.index.len() > 0 && published.told_by(Some(feed)) {
                    Arc::make_mut(published).index = Index::default();
                }
            }
        }
        changed
    }

    fn take_all<'a>(
        &mut self,
        crls: impl Iterator<Item = &'a CertificateRevocationListDer<'static>>,
        issuers: &Issuers<'_>,
        now: Moment,
    ) -> bool {
        let mut changed = false;
        let (mut refused, mut waiting) = (Vec::new(), Vec::new());
        for der in crls {
            match self.take(der, issuers, now) {
                Ok(news) => changed |= news,
                // Another authority of that name may be met yet.
                Err(why @ (CrlRefused::UnknownIssuer | CrlRefused::Signature | CrlRefused::NotItsToSign)) => {
                    waiting.push((der.clone(), why));
                }
                Err(why) => refused.push(why),
            }
        }
        self.refused = refused;
        self.waiting = waiting.into();
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
            let revoked = crl.check_entries()?;
            let told = !of_root && is_told(crl.state, self.feed.as_ref());
            let old = known.and_then(|at| self.published.get(at)).map(|published| &published.index);
            let published = Arc::new(Published {
                authority: issuer,
                number: crl.number,
                period: Period { this_update: crl.this_update, next_update: crl.next_update, seen: now, of_root },
                revoked,
                state: crl.state,
                index: match old {
                    _ if told => Index::default(),
                    Some(old) => old.renewed(|| crl.serials()),
                    None => Index::new(crl.serials()),
                },
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
        let hit = |entries: &Entries| entries.hit(peer.certificate());
        if hit(&self.entries) || self.feed.as_ref().is_some_and(|feed| hit(&feed.entries)) {
            return Err(Denial::Revoked(peer.serial()));
        }
        Ok(())
    }

    /// What forbids every request that needs this scope, if anything known does.
    pub(crate) fn forbid(&self, needs: &Scope) -> Result<(), Denial> {
        let feed = self.feed.as_ref().and_then(|feed| feed.entries.forbidding(needs));
        match feed.or_else(|| self.entries.forbidding(needs)) {
            None => Ok(()),
            Some(entry) => {
                let (forbidden, by) = (entry.scope.clone(), entry.id);
                Err(Denial::ScopeForbidden { needs: needs.clone(), forbidden, by })
            }
        }
    }

    /// The epoch and number up to which all is known, where a feed tells; a CRL can tell of more.
    pub(crate) fn number(&self) -> Option<(u64, u64)> {
        let feed = self.feed.as_ref()?.number();
        let issuing = self.published.iter().filter(|published| published.current && !published.period.of_root);
        Some(issuing.filter_map(|published| published.state).fold(feed, Ord::max))
    }

    /// Whether the peer's certificate was made by an issuer that knew more than is known here. Only certificates of our
    /// own authorities get this far, so nobody else can say so.
    pub(crate) fn behind(&self, peer: &Peer) -> Result<(), Denial> {
        let seen = peer.grant().map(|grant| (grant.epoch, grant.seen));
        match self.number().zip(seen) {
            Some((known, wanted)) if known < wanted => Err(Denial::Behind { wanted, known }),
            _ => Ok(()),
        }
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

    /// How recent that is which is known of the peer's path and ancestors. The feed tells all, and so do the CRLs of all
    /// authorities together: the more recent of the two counts.
    pub(crate) fn state(&self, peer: &Peer, now: Moment) -> Result<Knowledge, Denial> {
        let by_feed = self.state_of_feed(now);
        if by_feed == Some(Knowledge::Fresh) {
            return Ok(Knowledge::Fresh);
        }
        let state = match (self.state_by_crls(peer, now), by_feed) {
            (Ok(by_crls), Some(by_feed)) => by_crls.min(by_feed),
            (Ok(by_crls), None) => by_crls,
            (Err(_), Some(by_feed)) => by_feed,
            (Err(unknown), None) => return Err(unknown),
        };
        if state == Knowledge::Expired { Err(Denial::RevocationExpired) } else { Ok(state) }
    }

    fn state_by_crls(&self, peer: &Peer, now: Moment) -> Result<Knowledge, Denial> {
        let mut worst = self.state_of_path(peer.links(), now)?;
        for ancestor in peer.grant().iter().flat_map(|grant| &grant.chain) {
            let authority = ancestor.authority;
            let published = self.of_key(authority).ok_or(Denial::RevocationUnknown(Some(authority)))?;
            worst = worst.max(self.answered_state(published, now));
        }
        Ok(worst)
    }

    /// How recent that is which the feed taught, if it taught anything.
    pub(crate) fn state_of_feed(&self, now: Moment) -> Option<Knowledge> {
        self.feed.as_ref().map(|feed| feed.state(self.limits, now))
    }

    /// What the feed taught.
    pub(crate) fn feed(&self) -> Option<&Arc<Known>> {
        self.feed.as_ref()
    }

    /// How recent that is which is known of the authorities of a path.
    pub(crate) fn state_of_path(&self, path: &[Link], now: Moment) -> Result<Knowledge, Denial> {
        let mut worst = Knowledge::Fresh;
        for link in path {
            let published = self.of(&link.authority).ok_or(Denial::RevocationUnknown(link.authority.key_id()))?;
            worst = worst.max(self.answered_state(published, now));
        }
        Ok(worst)
    }

    /// How recent that is which one authority's CRL tells. Beside a feed only what the issuer answered counts: a CRL that
    /// lies around since then must not outlive it.
    pub(crate) fn answered_state(&self, published: &Published, now: Moment) -> Knowledge {
        if self.feed.is_some() && !(published.current && self.answered.is_some()) {
            return Knowledge::Expired;
        }
        self.state_of(published, now)
    }

    /// How recent one authority's CRL is.
    pub(crate) fn state_of(&self, published: &Published, now: Moment) -> Knowledge {
        published.period.state(self.answer_with(published), self.limits, now)
    }

    /// How old that is which one authority's CRL tells.
    pub(crate) fn age_of(&self, published: &Published, now: Moment) -> Duration {
        self.answer_with(published).map_or_else(|| published.period.age(now), |answered| now.since(answered))
    }

    fn answer_with(&self, published: &Published) -> Option<Moment> {
        self.answered.filter(|_| published.current)
    }

    /// The newest CRL of each authority.
    pub(crate) fn published(&self) -> &[Arc<Published>] {
        &self.published
    }

    /// Why CRLs of the material were not taken in.
    pub(crate) fn refused(&self) -> Vec<CrlRefused> {
        self.refused.iter().copied().chain(self.waiting.iter().map(|(_, why)| *why)).collect()
    }

    pub(crate) fn of(&self, authority: &Authority) -> Option<&Published> {
        self.published.iter().find(|published| published.authority.is_same(authority)).map(AsRef::as_ref)
    }

    fn of_key(&self, key_id: KeyId) -> Option<&Published> {
        self.published.iter().find(|published| published.authority.key_id() == Some(key_id)).map(AsRef::as_ref)
    }

    /// Whether a CRL waits for an authority to be met: this one.
    pub(crate) fn awaits(&self, authority: &Authority) -> bool {
        let named =
            |(der, _): &(CertificateRevocationListDer<'_>, _)| Crl::read(der).is_ok_and(|crl| crl.names(authority));
        self.of(authority).is_none() && self.waiting.iter().any(named)
    }
}
