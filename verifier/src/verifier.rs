//! The verifier: what it works from, as one state that changes as a whole.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use chancery_identity::{KeyId, Revocation, System, Timestamp, TrustDomain};
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;

use crate::chain::{Usage, check_validity};
#[cfg(feature = "tokio")]
use crate::registry::Registry;
use crate::revocation::CrlRefused;
use crate::state::State;
use crate::{Clock, Denial, Guard, Knowledge, Material, MaterialRefused, Moment, Peer, Rules, RulesRefused};

/// Decides who is let in, and what they may do now. Clones share one state.
///
/// It knows the bundle of its own trust domain and the CRLs of its authorities, each verified once and indexed, and
/// takes newer ones while connections are open: what they revoke is cut off.
#[derive(Clone)]
pub struct Verifier(Arc<Inner>);

struct Inner {
    state: ArcSwap<State>,
    /// Held by whoever makes the next state from the present one.
    renewing: Mutex<()>,
    provider: Arc<CryptoProvider>,
    clock: Arc<dyn Clock>,
    #[cfg(feature = "tokio")]
    registry: Arc<Registry>,
    #[cfg(feature = "tokio")]
    follows: Mutex<Option<Follows>>,
}

/// What keeps a verifier up to date.
#[cfg(feature = "tokio")]
struct Follows {
    _credentials: Box<dyn crate::Credentials>,
    renewing: tokio::task::AbortHandle,
}

#[cfg(feature = "tokio")]
impl Drop for Follows {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

impl Verifier {
    /// A verifier that renews nothing by itself: [`Verifier::renew`] does. See [`Verifier::start`] for one that does.
    ///
    /// # Errors
    /// Material that no verifier can work from. CRLs that cannot be used are none: [`Verifier::status`] tells.
    pub fn new(
        material: &Material,
        provider: Arc<CryptoProvider>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, MaterialRefused> {
        let state = State::new(material, &provider, clock.now())?;
        Ok(Self(Arc::new(Inner {
            state: ArcSwap::from_pointee(state),
            renewing: Mutex::new(()),
            provider,
            clock,
            #[cfg(feature = "tokio")]
            registry: Arc::default(),
            #[cfg(feature = "tokio")]
            follows: Mutex::default(),
        })))
    }

    /// A verifier that keeps up with its credentials, with ring and the clocks of this machine.
    ///
    /// # Errors
    /// Material that no verifier can work from, or knowledge of revocations that is expired already.
    #[cfg(all(feature = "tokio", feature = "ring"))]
    pub async fn start(credentials: impl crate::Credentials) -> Result<Self, StartError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Self::start_with(credentials, provider, Arc::new(crate::SystemClock)).await
    }

    /// A verifier that keeps up with its credentials.
    ///
    /// # Errors
    /// As [`Verifier::start`].
    #[cfg(feature = "tokio")]
    pub async fn start_with(
        credentials: impl crate::Credentials,
        provider: Arc<CryptoProvider>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        let mut newest = credentials.material();
        let material = Arc::clone(&newest.borrow_and_update());
        let verifier = Self::new(&material, provider, clock).map_err(StartError::Material)?;
        let status = verifier.status();
        if status.knowledge == Knowledge::Expired {
            return Err(StartError::Knowledge(Box::new(status)));
        }
        verifier.follow(Box::new(credentials), newest);
        Ok(verifier)
    }

    /// Renews with each new material until the last clone is dropped.
    #[cfg(feature = "tokio")]
    fn follow(
        &self,
        credentials: Box<dyn crate::Credentials>,
        mut newest: tokio::sync::watch::Receiver<Arc<Material>>,
    ) {
        let weak = Arc::downgrade(&self.0);
        let renewing = tokio::spawn(async move {
            while newest.changed().await.is_ok() {
                let material = Arc::clone(&newest.borrow_and_update());
                let Some(inner) = weak.upgrade() else { return };
                // A large CRL takes a while to verify and index. What was wrong with the material is in the status.
                let _ = tokio::task::spawn_blocking(move || Self(inner).renew(&material)).await;
            }
        });
        let follows = Follows { _credentials: credentials, renewing: renewing.abort_handle() };
        *self.0.follows.lock().unwrap_or_else(PoisonError::into_inner) = Some(follows);
    }

    /// Takes newer material. Connections of peers that it revokes are cut before this returns.
    ///
    /// # Errors
    /// Material that no verifier can work from: the present one stays, and grows old.
    pub fn renew(&self, material: &Material) -> Result<(), MaterialRefused> {
        let _renewing = self.0.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        let present = self.0.state.load_full();
        match present.renewed(material, &self.0.provider, self.0.clock.now()) {
            Ok(next) => {
                self.publish(&present, next);
                Ok(())
            }
            Err(refused) => {
                self.0.state.store(Arc::new(present.with_refused(refused.clone())));
                Err(refused)
            }
        }
    }

    /// Replaces the revocation entries in force that stand beside the CRLs: the issuer's own, ahead of the next CRL.
    /// Connections of peers that they hit are cut before this returns.
    pub fn set_entries(&self, in_force: &[Revocation]) {
        let _renewing = self.0.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        let present = self.0.state.load_full();
        self.publish(&present, present.with_entries(in_force));
    }

    /// First the state, then the connections. A connection enters the registry before its peer is looked up, so one of
    /// the two sees the other: see [`crate::Listener`].
    fn publish(&self, present: &State, next: State) {
        let next = Arc::new(next);
        self.0.state.store(Arc::clone(&next));
        #[cfg(feature = "tokio")]
        if next.generation() != present.generation() {
            self.0.registry.cut_where(|peer| next.hit(peer).is_err(), self.0.clock.now().monotonic);
        }
        #[cfg(not(feature = "tokio"))]
        let _ = present;
    }

    /// Verifies the chain that a client presents, leaf first, as a TLS handshake does.
    ///
    /// # Errors
    /// Whatever makes it no peer to be let in.
    pub fn client(&self, chain: &[CertificateDer<'_>], now: Moment) -> Result<Peer, Denial> {
        let (leaf, intermediates) = chain.split_first().ok_or(Denial::NoCertificate)?;
        let peer = self.verify(leaf, intermediates, Usage::Client, now)?;
        self.check(&peer, now)?;
        Ok(peer)
    }

    /// A guard that lets through what the rules list, for peers that hold the scope.
    ///
    /// # Errors
    /// Rules that contradict each other, or need scopes of a system that this service does not answer for.
    pub fn guard(&self, rules: Rules) -> Result<Guard, RulesRefused> {
        Guard::new(self.clone(), rules)
    }

    /// What it knows and how well.
    pub fn status(&self) -> Status {
        let now = self.now();
        Status {
            #[cfg(feature = "tokio")]
            connections: self.0.registry.len(),
            ..self.0.state.load().status(now)
        }
    }

    /// The present moment, by the verifier's clock.
    pub fn now(&self) -> Moment {
        self.0.clock.now()
    }

    pub(crate) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: Usage,
        now: Moment,
    ) -> Result<Peer, Denial> {
        let state = self.0.state.load();
        let peer = state.verify(leaf, intermediates, usage, now, &self.0.provider)?;
        if state.awaits(&peer) {
            self.meet(&peer);
        }
        Ok(peer)
    }

    /// A peer has shown authorities whose CRLs were here already, but could not be verified yet.
    fn meet(&self, peer: &Peer) {
        let _renewing = self.0.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        let present = self.0.state.load_full();
        let next = present.having_met(peer, &self.0.provider, self.0.clock.now());
        self.publish(&present, next);
    }

    /// Checks whether the peer is still to be let in: its certificate is valid now, neither it nor an authority or
    /// ancestor of it is revoked, and this is known well enough. For what decides by itself who may do what;
    /// [`Guard::check`] checks the scope too.
    ///
    /// # Errors
    /// The first of these that does not hold.
    pub fn check(&self, peer: &Peer, now: Moment) -> Result<Knowledge, Denial> {
        check_validity(peer.certificate(), now.wall)?;
        let state = self.0.state.load();
        if !peer.cleared_in(state.generation()) {
            state.hit(peer)?;
            peer.clear_in(state.generation());
        }
        state.knowledge(peer, now)
    }

    /// Whether anything known ends the peer, however old or incomplete the knowledge is.
    pub(crate) fn hit(&self, peer: &Peer) -> Result<(), Denial> {
        self.0.state.load().hit(peer)
    }

    pub(crate) fn serves(&self, system: &str) -> bool {
        self.0.state.load().systems().iter().any(|served| served.as_str() == system)
    }

    pub(crate) fn trust_domain(&self) -> TrustDomain {
        self.0.state.load().trust_domain().clone()
    }

    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(self.0.state.load().certified())
    }

    pub(crate) fn provider(&self) -> &Arc<CryptoProvider> {
        &self.0.provider
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.0.registry
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("trust_domain", &self.trust_domain().as_str()).finish_non_exhaustive()
    }
}

/// What a verifier knows, and how well.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The worst of what is known of the own chain's authorities.
    pub knowledge: Knowledge,
    /// The own trust domain.
    pub trust_domain: TrustDomain,
    /// What the own certificate says it answers for.
    pub systems: Vec<System>,
    /// The last second the own certificate is valid at.
    pub not_after: Timestamp,
    /// Each authority whose CRL is known.
    pub authorities: Vec<AuthorityStatus>,
    /// CRLs of the newest material that could not be used, and why.
    pub crls_refused: Vec<CrlRefused>,
    /// Why the newest material was not taken; the material before it is in use.
    pub material_refused: Option<MaterialRefused>,
    /// Open connections whose peer showed a certificate.
    #[cfg(feature = "tokio")]
    pub connections: usize,
}

/// What is known of one authority's revocations.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuthorityStatus {
    /// The authority.
    pub key_id: Option<KeyId>,
    /// How recent it is.
    pub knowledge: Knowledge,
    /// The CRL's number, in decimal.
    pub crl_number: String,
    /// When the CRL was made.
    pub this_update: Timestamp,
    /// When the next one is due at the latest.
    pub next_update: Timestamp,
    /// How many certificates it revokes.
    pub revoked: usize,
}

impl AuthorityStatus {
    pub(crate) fn new(published: &crate::revocation::Published, knowledge: Knowledge) -> Self {
        Self {
            key_id: published.authority.key_id(),
            knowledge,
            crl_number: published.number.to_text(),
            this_update: published.period.this_update,
            next_update: published.period.next_update,
            revoked: published.len(),
        }
    }
}

/// A verifier that cannot start.
#[cfg(feature = "tokio")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartError {
    /// Material that no verifier can work from.
    Material(MaterialRefused),
    /// What is known of the revocations of the own authorities is expired, or there is no CRL of one of them.
    Knowledge(Box<Status>),
}

#[cfg(feature = "tokio")]
impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Material(refused) => write!(f, "{refused}"),
            Self::Knowledge(status) => {
                f.write_str("wanted recent CRLs of all own authorities; ")?;
                match status.authorities.as_slice() {
                    [] => f.write_str("there is none")?,
                    some => some.iter().try_for_each(|authority| {
                        write!(
                            f,
                            "CRL {} of {} is {}; ",
                            authority.crl_number, authority.this_update, authority.knowledge
                        )
                    })?,
                }
                status.crls_refused.iter().try_for_each(|refused| write!(f, " (one was refused: {refused})"))?;
                f.write_str(" see that the issuer can be reached")
            }
        }
    }
}

#[cfg(feature = "tokio")]
impl std::error::Error for StartError {}
