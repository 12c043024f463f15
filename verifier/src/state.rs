//! What all verdicts of one moment rest on: trust anchors, revocations, the own identity.

use std::sync::Arc;

use chancery_identity::{Certificate, Leaf, Revocation, Scope, System, TrustDomain};
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::authority::Authority;
use crate::chain::{Anchors, ChainRefused, Usage, verify_svid};
#[cfg(feature = "tokio")]
use crate::revocation::Known;
use crate::revocation::{Issuers, Revocations};
use crate::verifier::{AuthorityStatus, FeedStatus, Status};
use crate::{Denial, Knowledge, Material, MaterialRefused, Moment, Peer};

/// The state of a verifier. Never changes: a newer one replaces it.
pub(crate) struct State {
    /// Grows whenever a verdict on a peer that was let in could differ.
    generation: u64,
    trust: Arc<Trust>,
    own: Arc<Own>,
    revocations: Revocations,
    refused: Option<MaterialRefused>,
}

/// Who is trusted to sign.
#[derive(Clone)]
struct Trust {
    roots: Arc<[CertificateDer<'static>]>,
    trust_domain: TrustDomain,
    anchors: Anchors,
    /// Authorities below the anchors: of the own chain, and of peers.
    below: Vec<Arc<Authority>>,
}

/// The own identity.
struct Own {
    key: Arc<PrivateKeyDer<'static>>,
    certified: Arc<CertifiedKey>,
    certificate: Certificate,
    /// The authorities of the own chain below the anchors.
    authorities: Vec<Arc<Authority>>,
}

impl State {
    pub(crate) fn new(material: &Material, provider: &CryptoProvider, now: Moment) -> Result<Self, MaterialRefused> {
        let (trust, own) = read(material, &[], provider, now)?;
        let (revocations, _) = Revocations::none(material.freshness).renewed(material, &trust.issuers(provider), now);
        Ok(Self { generation: 1, trust, own, revocations, refused: None })
    }

    /// The state that newer material makes of this one.
    pub(crate) fn renewed(
        &self,
        material: &Material,
        provider: &CryptoProvider,
        now: Moment,
    ) -> Result<Self, MaterialRefused> {
        let same_roots = material.roots == self.trust.roots;
        let same_own = Arc::ptr_eq(&material.key, &self.own.key) && material.chain == self.own.certified.cert;
        let (trust, own) = if same_roots && same_own && material.trust_domain == self.trust.trust_domain {
            (Arc::clone(&self.trust), Arc::clone(&self.own))
        } else {
            let met: &[_] = if same_roots { &self.trust.below } else { &[] };
            read(material, met, provider, now)?
        };
        let issuers = trust.issuers(provider);
        let (mut revocations, mut changed) = self.revocations.renewed(material, &issuers, now);
        if !Arc::ptr_eq(&trust, &self.trust) {
            let more;
            (revocations, more) = revocations.with_issuers(&issuers, now);
            changed |= more;
        }
        let generation = self.generation + u64::from(changed || !same_roots);
        Ok(Self { generation, trust, own, revocations, refused: None })
    }

    /// The same, with a note of the material that could not be taken.
    pub(crate) fn with_refused(&self, refused: MaterialRefused) -> Self {
        Self { refused: Some(refused), ..self.copy() }
    }

    /// The same, with other entries in force.
    pub(crate) fn with_entries(&self, in_force: &[Revocation]) -> Self {
        let revocations = self.revocations.with_entries(in_force);
        Self { generation: self.generation + 1, revocations, ..self.copy() }
    }

    /// The same, with the CRLs that could be verified now that a peer has shown their authorities.
    pub(crate) fn having_met(&self, peer: &Peer, provider: &CryptoProvider, now: Moment) -> Self {
        let mut trust = Trust::clone(&self.trust);
        for link in peer.links() {
            trust.take(&link.authority);
        }
        let trust = Arc::new(trust);
        let (revocations, _) = self.revocations.with_issuers(&trust.issuers(provider), now);
        Self { generation: self.generation + 1, trust, revocations, ..self.copy() }
    }

    fn copy(&self) -> Self {
        Self {
            generation: self.generation,
            trust: Arc::clone(&self.trust),
            own: Arc::clone(&self.own),
            revocations: self.revocations.clone(),
            refused: self.refused.clone(),
        }
    }

    pub(crate) const fn generation(&self) -> u64 {
        self.generation
    }

    /// Verifies a presented chain; says nothing of revocation.
    pub(crate) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: Usage,
        now: Moment,
        provider: &CryptoProvider,
    ) -> Result<Peer, Denial> {
        let Trust { trust_domain, anchors, .. } = &*self.trust;
        let algorithms = &provider.signature_verification_algorithms;
        let verified = verify_svid(leaf, intermediates, trust_domain, anchors, usage, now.wall, algorithms)?;
        Ok(Peer::new(leaf.clone().into_owned(), verified))
    }

    /// Whether a CRL is here that only an authority of this peer's chain can verify.
    pub(crate) fn awaits(&self, peer: &Peer) -> bool {
        peer.links().iter().any(|link| self.revocations.awaits(&link.authority))
    }

    /// What ends the peer, if anything known does: its anchor left the bundle, or a revocation hit it.
    pub(crate) fn hit(&self, peer: &Peer) -> Result<(), Denial> {
        let anchored = peer
            .links()
            .last()
            .is_some_and(|link| self.trust.anchors.authorities().iter().any(|anchor| anchor.is_same(&link.authority)));
        if !anchored {
            return Err(ChainRefused::UnknownIssuer.into());
        }
        self.revocations.hit(peer)
    }

    /// Whether the issuer knew more when it made the peer's certificate than is known here.
    pub(crate) fn behind(&self, peer: &Peer) -> Result<(), Denial> {
        self.revocations.behind(peer)
    }

    /// What forbids every request that needs this scope, if anything known does.
    pub(crate) fn forbid(&self, needs: &Scope) -> Result<(), Denial> {
        self.revocations.forbid(needs)
    }

    /// What the feed taught.
    #[cfg(feature = "tokio")]
    pub(crate) fn feed(&self) -> Option<&Arc<Known>> {
        self.revocations.feed()
    }

    /// How well the peer's state is known.
    pub(crate) fn knowledge(&self, peer: &Peer, now: Moment) -> Result<Knowledge, Denial> {
        self.revocations.state(peer, now)
    }

    pub(crate) fn trust_domain(&self) -> &TrustDomain {
        &self.trust.trust_domain
    }

    /// What the own certificate says this service answers for.
    pub(crate) fn systems(&self) -> &[System] {
        self.own.certificate.grant.as_ref().map_or(&[], |grant| &grant.systems)
    }

    pub(crate) fn certified(&self) -> &Arc<CertifiedKey> {
        &self.own.certified
    }

    pub(crate) fn status(&self, now: Moment) -> Status {
        let revocations = &self.revocations;
        let own = self.own.authorities.iter().chain(self.trust.anchors.authorities());
        let worst = own.map(|authority| {
            revocations.of(authority).map_or(Knowledge::Expired, |published| revocations.answered_state(published, now))
        });
        let by_crls = worst.max().unwrap_or(Knowledge::Expired);
        let authorities = revocations.published().iter();
        let by_feed = revocations.state_of_feed(now);
        Status {
            knowledge: by_feed.map_or(by_crls, |by_feed| by_feed.min(by_crls)),
            trust_domain: self.trust.trust_domain.clone(),
            systems: self.systems().to_vec(),
            not_after: self.own.certificate.not_after,
            authorities: authorities
                .map(|published| {
                    let (knowledge, age) = (revocations.state_of(published, now), revocations.age_of(published, now));
                    AuthorityStatus::new(published, knowledge, age)
                })
                .collect(),
            feed: revocations.feed().zip(by_feed).map(|(known, knowledge)| FeedStatus::new(known, knowledge, now)),
            crls_refused: revocations.refused(),
            material_refused: self.refused.clone(),
            behind: 0,
            #[cfg(feature = "tokio")]
            health: None,
            #[cfg(feature = "tokio")]
            closed_connections: 0,
            #[cfg(feature = "tokio")]
            connections: 0,
        }
    }
}

#[cfg(feature = "tokio")]
impl crate::gate::Verdicts for State {
    fn hit(&self, peer: &Peer) -> Result<(), Denial> {
        Self::hit(self, peer)
    }
}

impl Trust {
    fn take(&mut self, authority: &Arc<Authority>) {
        let known = self.anchors.authorities().iter().chain(&self.below).any(|known| known.is_same(authority));
        if !known {
            self.below.push(Arc::clone(authority));
        }
    }

    fn issuers<'a>(&'a self, provider: &'a CryptoProvider) -> Issuers<'a> {
        Issuers {
            roots: self.anchors.authorities(),
            below: &self.below,
            algorithms: &provider.signature_verification_algorithms,
        }
    }
}

fn read(
    material: &Material,
    met: &[Arc<Authority>],
    provider: &CryptoProvider,
    now: Moment,
) -> Result<(Arc<Trust>, Arc<Own>), MaterialRefused> {
    let (leaf, intermediates) = material.chain.split_first().ok_or(MaterialRefused::NoCertificate)?;
    let certificate = Leaf::read(leaf)?.into_certificate();
    let trust_domain = material.trust_domain.clone();
    if !certificate.spiffe_id.is_in(&trust_domain) {
        return Err(MaterialRefused::TrustDomain { wanted: trust_domain, came: certificate.spiffe_id.trust_domain() });
    }
    let anchors = Anchors::read(&material.roots)?;
    let algorithms = &provider.signature_verification_algorithms;
    let authorities = anchors.authorities_below(intermediates, now.wall, algorithms);
    let mut trust = Trust { roots: Arc::clone(&material.roots), trust_domain, anchors, below: met.to_vec() };
    for authority in &authorities {
        trust.take(authority);
    }
    let key = provider.key_provider.load_private_key(material.key.clone_key()).map_err(|_| MaterialRefused::Key)?;
    let certified = CertifiedKey::new(material.chain.clone(), key);
    match certified.keys_match() {
        // A key that does not tell its public half, as of hardware, cannot be compared.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(_) => return Err(MaterialRefused::Key),
    }
    let own = Own { key: Arc::clone(&material.key), certified: Arc::new(certified), certificate, authorities };
    Ok((Arc::new(trust), Arc::new(own)))
}
