//! The verifier: what it works from, as one state that changes as a whole.

use std::fmt;
#[cfg(feature = "tokio")]
use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
#[cfg(feature = "tokio")]
use std::time::Instant;

use chancery_identity::{KeyId, Revocation, Scope, System, Timestamp, TrustDomain};
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;

use crate::chain::{Usage, check_validity};
use crate::gate::Gate;
#[cfg(feature = "tokio")]
use crate::registry::{Closed, Registry};
use crate::revocation::CrlRefused;
use crate::state::State;
#[cfg(feature = "tokio")]
use crate::{Applied, Attached, FeedHealth};
use crate::{Clock, Denial, Guard, Knowledge, Known, Material, MaterialRefused, Moment, Peer, Rules, RulesRefused};

/// How long a handshake may wait for news that the peer's certificate says there are.
#[cfg(feature = "tokio")]
const CATCH_UP: Duration = Duration::from_secs(2);
/// The most peers whose connections are reported one by one.
#[cfg(feature = "tokio")]
const REPORTED_MAX: usize = 4096;
/// With more connections than this, news are applied off the task that hears of them.
#[cfg(feature = "tokio")]
const SCANNED_AT_ONCE: usize = 256;

/// Decides who is let in, and what they may do now. Clones share one state.
///
/// It knows the bundle of its own trust domain and the CRLs of its authorities, each verified once and indexed, and
/// takes newer ones while connections are open: what they revoke is cut off.
#[derive(Clone)]
pub struct Verifier(Arc<Inner>);

struct Inner {
    gate: Gate<State>,
    /// Held by whoever makes the next state from the present one.
    renewing: Mutex<()>,
    provider: Arc<CryptoProvider>,
    clock: Arc<dyn Clock>,
    /// Refusals for being behind the issuer.
    behind: AtomicU64,
    /// Tells of each new state, and of each turn of the feed's health.
    #[cfg(feature = "tokio")]
    changed: tokio::sync::watch::Sender<()>,
    #[cfg(feature = "tokio")]
    closed: Mutex<Tally>,
    #[cfg(feature = "tokio")]
    follows: Mutex<Option<Follows>>,
}

/// Connections closed because of revocations.
#[cfg(feature = "tokio")]
#[derive(Default)]
struct Tally {
    ever: u64,
    unreported: Closed,
}

/// What keeps a verifier up to date.
#[cfg(feature = "tokio")]
struct Follows {
    _credentials: Box<dyn crate::Credentials>,
    attached: Arc<dyn Attached>,
    health: Option<tokio::sync::watch::Receiver<FeedHealth>>,
    _tasks: tokio::task::JoinSet<()>,
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
            gate: Gate::new(state),
            renewing: Mutex::new(()),
            provider,
            clock,
            behind: AtomicU64::new(0),
            #[cfg(feature = "tokio")]
            changed: tokio::sync::watch::Sender::new(()),
            #[cfg(feature = "tokio")]
            closed: Mutex::default(),
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
        let attached: Arc<dyn Attached> = credentials.attach().into();
        self.report(&attached);
        let listening = Arc::downgrade(&attached);
        let mut crls = Arc::downgrade(&newest.borrow().crls);
        let mut tasks = tokio::task::JoinSet::new();
        let health = attached.health();
        if let Some(mut health) = health.clone() {
            let weak = Weak::clone(&weak);
            tasks.spawn(async move {
                while health.changed().await.is_ok() {
                    let Some(inner) = weak.upgrade() else { return };
                    inner.changed.send_replace(());
                }
            });
        }
        tasks.spawn(async move {
            while newest.changed().await.is_ok() {
                let material = Arc::clone(&newest.borrow_and_update());
                let (Some(inner), Some(attached)) = (weak.upgrade(), listening.upgrade()) else { return };
                let verifier = Self(inner);
                let same_crls = std::ptr::addr_eq(crls.as_ptr(), Arc::as_ptr(&material.crls));
                crls = Arc::downgrade(&material.crls);
                // What was wrong with the material is in the status.
                if same_crls && verifier.registry().scanned() <= SCANNED_AT_ONCE {
                    let _ = verifier.renew(&material);
                    verifier.report(&attached);
                } else {
                    // A large CRL takes a while to verify and index.
                    let applied = tokio::task::spawn_blocking(move || {
                        let _ = verifier.renew(&material);
                        verifier.report(&attached);
                    });
                    let _ = applied.await;
                }
            }
        });
        let follows = Follows { _credentials: credentials, attached, health, _tasks: tasks };
        *self.follows() = Some(follows);
    }

    /// Tells what is in force now of what the feed taught, once all connections are closed that anything hit so far.
    #[cfg(feature = "tokio")]
    fn report(&self, attached: &Arc<dyn Attached>) {
        // A state that is being published is in force before its connections are counted: not under this lock.
        let renewing = self.0.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(number) = self.0.gate.state().feed().map(|known| known.number()) else { return };
        let by = self.tally().unreported.by;
        drop(renewing);
        let at = self.now().wall;
        let Some(by) = by else { return self.report_closed(&**attached, number, at, None) };
        let (weak, attached) = (Arc::downgrade(&self.0), Arc::downgrade(attached));
        tokio::spawn(async move {
            tokio::time::sleep_until(by.into()).await;
            let (Some(inner), Some(attached)) = (weak.upgrade(), attached.upgrade()) else { return };
            let verifier = Self(inner);
            verifier.registry().cut_over(by);
            // What was learned since, and whose connections have longer, is not for this one to tell.
            verifier.report_closed(&*attached, number, at, Some(by));
        });
    }

    /// Tells of a number, all of whose connections are closed; those that had until `over` to say goodbye among them.
    #[cfg(feature = "tokio")]
    fn report_closed(&self, attached: &dyn Attached, (epoch, n): (u64, u64), at: Timestamp, over: Option<Instant>) {
        let mut tally = self.tally();
        let by = tally.unreported.by.filter(|by| Some(*by) > over);
        let closed = std::mem::replace(&mut tally.unreported, Closed { by, ..Closed::default() });
        drop(tally);
        attached.applied(Applied {
            epoch,
            n,
            at,
            closed_connections: closed.connections,
            last_accepted: closed.last_accepted,
            open_connections: self.registry().by_serial(REPORTED_MAX),
        });
    }

    #[cfg(feature = "tokio")]
    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.0.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes newer material. Connections of peers that it revokes are cut before this returns.
    ///
    /// # Errors
    /// Material that no verifier can work from: the present one stays, and grows old.
    pub fn renew(&self, material: &Material) -> Result<(), MaterialRefused> {
        let _renewing = self.0.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        let present = Arc::clone(&self.0.gate.state());
        match present.renewed(material, &self.0.provider, self.0.clock.now()) {
            Ok(next) => {
                self.publish(&present, next);
                Ok(())
            }
            Err(refused) => {
                self.replace(present.with_refused(refused.clone()));
                Err(refused)
            }
        }
    }

    /// Replaces the revocation entries in force that stand beside the CRLs: the issuer's own, ahead of the next CRL.
    /// Connections of peers that they hit are cut before this returns.
    pub fn set_entries(&self, in_force: &[Revocation]) {
        let _renewing = self.0.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        let present = Arc::clone(&self.0.gate.state());
        self.publish(&present, present.with_entries(in_force));
    }

    fn publish(&self, present: &State, next: State) {
        #[cfg(feature = "tokio")]
        if next.generation() != present.generation() {
            let closed = self.0.gate.publish(Arc::new(next), self.0.clock.now().monotonic);
            let mut tally = self.tally();
            tally.ever += closed.connections;
            tally.unreported.add(closed);
            drop(tally);
            self.0.changed.send_replace(());
            return;
        }
        let _ = present;
        self.replace(next);
    }

    /// The next state, in which nothing ends that did not end before.
    fn replace(&self, next: State) {
        self.0.gate.replace(Arc::new(next));
        #[cfg(feature = "tokio")]
        self.0.changed.send_replace(());
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
            behind: self.0.behind.load(Ordering::Relaxed),
            #[cfg(feature = "tokio")]
            health: self.follows().as_ref().and_then(|follows| Some(follows.health.as_ref()?.borrow().clone())),
            #[cfg(feature = "tokio")]
            closed_connections: self.tally().ever,
            #[cfg(feature = "tokio")]
            connections: self.registry().len(),
            ..self.0.gate.state().status(now)
        }
    }

    /// Tells when [`Verifier::status`] says something else: news are in force, connections were cut, the feed was lost or
    /// is heard again. Whoever subscribes before asking for the status misses nothing. What changes by time alone, or with
    /// each peer, it does not tell: that knowledge grows old, how many connections are open, who met news unknown here.
    #[cfg(feature = "tokio")]
    pub fn changes(&self) -> tokio::sync::watch::Receiver<()> {
        self.0.changed.subscribe()
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
        let state = self.0.gate.state();
        let peer = state.verify(leaf, intermediates, usage, now, &self.0.provider)?;
        if state.awaits(&peer) {
            self.meet(&peer);
        }
        Ok(peer)
    }

    /// A peer has shown authorities whose CRLs were here already, but could not be verified yet.
    fn meet(&self, peer: &Peer) {
        let _renewing = self.0.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        let present = Arc::clone(&self.0.gate.state());
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
        let state = self.0.gate.state();
        if !peer.cleared_in(state.generation()) {
            state.hit(peer)?;
            if let Err(behind) = state.behind(peer) {
                self.0.behind.fetch_add(1, Ordering::Relaxed);
                #[cfg(feature = "tokio")]
                self.ask_for_news(&behind);
                return Err(behind);
            }
            peer.clear_in(state.generation());
        }
        state.knowledge(peer, now)
    }

    /// As [`Verifier::check`], for a handshake: that news are missing here is for [`Verifier::caught_up_with`] to mend, once
    /// it is over.
    pub(crate) fn check_handshake(&self, peer: &Peer, now: Moment) -> Result<(), Denial> {
        match self.check(peer, now) {
            Ok(_) | Err(Denial::Behind { .. }) => Ok(()),
            Err(denial) => Err(denial),
        }
    }

    /// Waits, not for long, until all is known that the issuer knew when it made the peer's certificate.
    #[cfg(feature = "tokio")]
    pub(crate) async fn caught_up_with(&self, peer: &Peer) -> Result<(), Denial> {
        if self.0.gate.state().behind(peer).is_ok() {
            return Ok(());
        }
        let mut changes = self.changes();
        let waiting = async {
            while self.0.gate.state().behind(peer).is_err() {
                // The sender lives as long as the verifier.
                let _ = changes.changed().await;
            }
        };
        match tokio::time::timeout(CATCH_UP, waiting).await {
            Ok(()) => Ok(()),
            Err(_) => self.0.gate.state().behind(peer),
        }
    }

    #[cfg(feature = "tokio")]
    fn ask_for_news(&self, denial: &Denial) {
        if let (Denial::Behind { wanted, .. }, Some(attached)) = (denial, self.attached()) {
            attached.behind(*wanted);
        }
    }

    #[cfg(feature = "tokio")]
    fn attached(&self) -> Option<Arc<dyn Attached>> {
        self.follows().as_ref().map(|follows| Arc::clone(&follows.attached))
    }

    #[cfg(feature = "tokio")]
    fn follows(&self) -> std::sync::MutexGuard<'_, Option<Follows>> {
        self.0.follows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What forbids every request that needs this scope, if anything known does.
    pub(crate) fn forbid(&self, needs: &Scope) -> Result<(), Denial> {
        self.0.gate.state().forbid(needs)
    }

    /// Whether anything known ends the peer, however old or incomplete the knowledge is.
    pub(crate) fn hit(&self, peer: &Peer) -> Result<(), Denial> {
        self.0.gate.state().hit(peer)
    }

    pub(crate) fn serves(&self, system: &str) -> bool {
        self.0.gate.state().systems().iter().any(|served| served.as_str() == system)
    }

    pub(crate) fn trust_domain(&self) -> TrustDomain {
        self.0.gate.state().trust_domain().clone()
    }

    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(self.0.gate.state().certified())
    }

    pub(crate) fn provider(&self) -> &Arc<CryptoProvider> {
        &self.0.provider
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn registry(&self) -> &Arc<Registry> {
        self.0.gate.registry()
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn gate(&self) -> &Gate<State> {
        &self.0.gate
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
    /// The worst of what is known of the own chain's authorities, or what the feed taught if that is more recent.
    pub knowledge: Knowledge,
    /// The own trust domain.
    pub trust_domain: TrustDomain,
    /// What the own certificate says it answers for.
    pub systems: Vec<System>,
    /// The last second the own certificate is valid at.
    pub not_after: Timestamp,
    /// Each authority whose CRL is known.
    pub authorities: Vec<AuthorityStatus>,
    /// What the issuer's feed taught, if it ever did.
    pub feed: Option<FeedStatus>,
    /// How the connection to the feed does, where one is kept.
    #[cfg(feature = "tokio")]
    pub health: Option<FeedHealth>,
    /// Requests and handshakes that met a certificate made after revocations that were not known here.
    pub behind: u64,
    /// Connections closed so far because of revocations.
    #[cfg(feature = "tokio")]
    pub closed_connections: u64,
    /// CRLs of the newest material that could not be used, and why.
    pub crls_refused: Vec<CrlRefused>,
    /// Why the newest material was not taken; the material before it is in use.
    pub material_refused: Option<MaterialRefused>,
    /// Open connections whose peer showed a certificate.
    #[cfg(feature = "tokio")]
    pub connections: usize,
}

/// What the issuer's feed taught.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FeedStatus {
    /// The log's epoch.
    pub epoch: u64,
    /// Every entry up to this number is in force.
    pub n: u64,
    /// How recent that is.
    pub knowledge: Knowledge,
    /// When the issuer signed it, by its clock.
    pub head_at: Timestamp,
    /// How old it is.
    pub age: Duration,
    /// How old it was when it came: the time it took, if both clocks are right.
    pub lag: Duration,
    /// Whether it was saved by an earlier process, and no head has come since.
    pub from_disk: bool,
}

impl FeedStatus {
    pub(crate) fn new(known: &Known, knowledge: Knowledge, now: Moment) -> Self {
        Self {
            epoch: known.epoch(),
            n: known.n(),
            knowledge,
            head_at: known.head_at(),
            age: known.age(now),
            lag: known.seen().wall.since(known.head_at()),
            from_disk: known.is_from_disk(),
        }
    }
}

/// What is known of one authority's revocations.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuthorityStatus {
    /// The authority.
    pub key_id: Option<KeyId>,
    /// How recent it is.
    pub knowledge: Knowledge,
    /// How old it is: since the question that was last answered with it, or since it was made where nobody was asked.
    pub age: Duration,
    /// The epoch and number of the revocation sequence up to which it tells, if it says so.
    pub number: Option<(u64, u64)>,
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
    pub(crate) fn new(published: &crate::revocation::Published, knowledge: Knowledge, age: Duration) -> Self {
        Self {
            key_id: published.authority.key_id(),
            knowledge,
            age,
            number: published.state,
            crl_number: published.number.to_text(),
            this_update: published.period.this_update,
            next_update: published.period.next_update,
            revoked: published.revoked,
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
                f.write_str("wanted a recent head of the feed, or recent CRLs of all own authorities; ")?;
                if let Some(feed) = &status.feed {
                    write!(f, "the feed's newest head, of n {}, is {}; ", feed.n, feed.knowledge)?;
                }
                match status.authorities.as_slice() {
                    [] => f.write_str("there is no CRL;")?,
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
