//! Who verifies, as the issuer knows: by acknowledgements, by feed connections, by CRLs asked for over mutual TLS.
//!
//! What belongs to whom is said by the TLS peer's certificate, never by a body. A verifier is a replica of a service: it
//! attested on its own, and is known by its lineage, which renewals keep.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chancery_api::{Applied, FeedAck, RevocationView, Service, VerifierView};
use chancery_ca::CrlNumber;
use chancery_identity::{Certificate, Effect, KeyId, Name, Scope, SpiffeId, TrustDomain};
use tokio::sync::watch;

use super::PublishedCrl;
use super::roster::{Census, Full, Number, Open, Replica, Roster, Span, VERIFIERS_MAX};
use crate::clock::Clock;
use crate::config::Freshness;
use crate::refusal::{Code, Refusal};
use crate::store::{DbError, ForgetVerifiers, KeepVerifier, Store};

/// Peers whose open connections one acknowledgement may tell.
const PEERS_MAX: usize = 4096;
/// A head in an acknowledgement, in bytes.
const HEAD_LEN_MAX: usize = 4096;

/// The verifiers. Shared by all who tell of them and ask for them.
pub struct Verifiers {
    store: Store,
    clock: Arc<dyn Clock>,
    trust_domain: TrustDomain,
    roster: Mutex<Roster>,
    changed: watch::Sender<u64>,
}

impl Verifiers {
    /// With those that were verifiers before this process began: they may know the present, and did not say so yet.
    ///
    /// # Errors
    /// A database that fails.
    pub async fn start(
        store: Store,
        clock: Arc<dyn Clock>,
        trust_domain: TrustDomain,
        freshness: Freshness,
    ) -> Result<Self, DbError> {
        let mut roster = Roster::new(freshness);
        let at = clock.moment();
        for (lineage, service) in store.verifiers().await? {
            roster.restore(Replica { service, lineage }, at);
        }
        Ok(Self { store, clock, trust_domain, roster: Mutex::new(roster), changed: watch::Sender::new(0) })
    }

    /// Takes over what the holder of a service's certificate says it applied.
    ///
    /// # Errors
    /// Not a service; a number that there is not; more than may be told at once.
    pub async fn acknowledge(&self, certificate: &Certificate, ack: FeedAck) -> Result<(), Refusal> {
        let replica = replica(certificate)?;
        check(&ack)?;
        let newest = self.newest();
        let number = Number { epoch: ack.epoch, n: ack.n };
        if number > newest {
            let (epoch, n) = (newest.epoch, newest.n);
            let detail =
                format!("n: {} of epoch {} is not there; the newest is {n} of epoch {epoch}", ack.n, ack.epoch);
            return Err(Refusal::new(Code::Invalid, detail).fix("send the signed head as `head`"));
        }
        let committed_at = self.store.state().entered_at(ack.n);
        let at = self.clock.moment();
        self.tell(replica, |roster, replica| roster.acknowledged(replica, ack, committed_at, at)).await
    }

    /// Takes a service's feed connection: it is a verifier from now on.
    ///
    /// # Errors
    /// Not a service; no room for another.
    pub async fn connected(self: &Arc<Self>, certificate: &Certificate) -> Result<Told, Refusal> {
        let replica = replica(certificate)?;
        let at = self.clock.moment();
        self.tell(replica.clone(), |roster, replica| roster.told(replica, at)).await?;
        Ok(Told { verifiers: Arc::clone(self), replica })
    }

    /// A CRL is served, or was said to be the newest, to the holder of a certificate. `holds` says which CRL the caller
    /// showed that it has. Callers that are no services, or ask too seldom to decide by it, are nothing to this.
    pub(crate) async fn polled(
        &self,
        certificate: &Certificate,
        authority: KeyId,
        crl: &PublishedCrl,
        holds: impl Fn(CrlNumber) -> bool,
    ) {
        let Some(replica) = Replica::of(certificate) else { return };
        let has = Number { epoch: self.newest().epoch, n: crl.n };
        let at = self.clock.moment();
        if !self.roster().decides(&replica, authority, at) {
            return;
        }
        let served = (crl.number, has);
        let told = self.tell(replica, |roster, replica| roster.polled(replica, authority, served, holds, at)).await;
        if let Err(error) = told {
            tracing::error!(%error, verifier = %certificate.spiffe_id, "a verifier is not known as one");
        }
    }

    /// Who confirmed the entries of one decision, once all did or the time is up.
    pub(crate) async fn applied(&self, entries: &[RevocationView], wait: Duration) -> Option<Applied> {
        let span = span(entries)?;
        if !wait.is_zero() {
            let mut changed = self.changed.subscribe();
            let everywhere = async {
                loop {
                    changed.borrow_and_update();
                    if self.roster().is_applied(&span, self.clock.moment()) || changed.changed().await.is_err() {
                        return;
                    }
                }
            };
            // Confirmed or not, the answer is how things stand.
            let _ = tokio::time::timeout(wait, everywhere).await;
        }
        Some(self.roster().applied(&span, |service| self.id(service), self.clock.moment()))
    }

    /// What services report of their open connections now.
    pub(super) fn open(&self) -> Open {
        self.roster().open(self.clock.moment())
    }

    /// All verifiers, or those of one service, by service.
    pub fn list(&self, service: Option<&Name>) -> Vec<VerifierView> {
        let at = self.clock.moment();
        let roster = self.roster();
        let wanted = roster.all(at).filter(|(replica, _)| service.is_none_or(|service| replica.service == *service));
        wanted
            .map(|(replica, seen)| {
                let record = self.store.state().record::<Service>(&replica.service);
                VerifierView {
                    spiffe_id: self.id(&replica.service),
                    lineage: replica.lineage,
                    systems: record.map(|record| record.systems.iter().cloned().collect()).unwrap_or_default(),
                    how: seen.how,
                    n: seen.n,
                    state: seen.state,
                    lag_ms: seen.lag_ms,
                    open_connections: seen.open_connections,
                    last_seen_at: seen.last_seen_at,
                    refuses_by: seen.refuses_by,
                }
            })
            .collect()
    }

    /// How many there are, and how far they are behind.
    pub(crate) fn census(&self) -> Census {
        self.roster().census(self.newest(), self.clock.moment())
    }

    /// Forgets those that refuse everything since a day.
    ///
    /// # Errors
    /// What the store says.
    pub async fn forget(&self) -> Result<(), crate::store::CommitError> {
        let lineages = self.roster().take_gone(self.clock.moment());
        if !lineages.is_empty() {
            let _committed = self.store.commit(ForgetVerifiers { lineages }).await?;
        }
        Ok(())
    }

    /// Changes what is known of a verifier. One that was not known is written down first, so that no restart forgets it.
    async fn tell(
        &self,
        replica: Replica,
        change: impl FnOnce(&mut Roster, &Replica) -> Result<(), Full>,
    ) -> Result<(), Refusal> {
        if !self.roster().knows(&replica) {
            let Replica { lineage, service } = replica.clone();
            let _committed = self.store.commit(KeepVerifier { lineage, service }).await?;
        }
        change(&mut self.roster(), &replica).map_err(|Full| {
            Refusal::new(Code::Overloaded, format!("there are {VERIFIERS_MAX} verifiers, and no room for another"))
        })?;
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
        Ok(())
    }

    fn newest(&self) -> Number {
        let position = self.store.state().position();
        Number { epoch: position.epoch, n: position.n }
    }

    fn id(&self, service: &Name) -> SpiffeId {
        self.trust_domain.service(service)
    }

    fn roster(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A feed connection of a verifier.
pub struct Told {
    verifiers: Arc<Verifiers>,
    replica: Replica,
}

impl Told {
    /// A head was written to it: the verifier may know the present as of now.
    pub fn head(&self) {
        let at = self.verifiers.clock.moment();
        // It was there when the connection began; one that was forgotten since comes back with its acknowledgement.
        let _ = self.verifiers.roster().told(&self.replica, at);
    }
}

fn replica(certificate: &Certificate) -> Result<Replica, Refusal> {
    let detail = || format!("{} is no service; only services verify", certificate.spiffe_id);
    Replica::of(certificate).ok_or_else(|| Refusal::new(Code::WrongCaller, detail()))
}

fn check(ack: &FeedAck) -> Result<(), Refusal> {
    let invalid = |detail: String| Err(Refusal::new(Code::Invalid, detail));
    if let Some(open) = ack.open_connections.as_ref().filter(|open| open.len() > PEERS_MAX) {
        return invalid(format!("open_connections: at most {PEERS_MAX}, got {}; send none instead", open.len()));
    }
    if let Some(head) = ack.head.as_ref().filter(|head| head.len() > HEAD_LEN_MAX) {
        return invalid(format!("head: at most {HEAD_LEN_MAX} bytes, got {}", head.len()));
    }
    // It is shown on terminals: nothing but a scope passes.
    if let Some(Err(error)) = ack.last_accepted.as_ref().map(|scope| scope.parse::<Scope>()) {
        return invalid(format!("last_accepted: {error}"));
    }
    Ok(())
}

/// From the oldest to the newest of one decision; a resume counts as the newest of what it ended.
fn span(entries: &[RevocationView]) -> Option<Span> {
    let number = |entry: &RevocationView| {
        let resumed = entry.resumed_by.as_ref();
        let (n, at) = resumed.map_or((entry.n, entry.created_at), |resume| (resume.n, resume.created_at));
        (Number { epoch: entry.epoch, n }, at)
    };
    let (first, _) = entries.iter().map(number).min_by_key(|(number, _)| *number)?;
    let (last, committed_at) = entries.iter().map(number).max_by_key(|(number, _)| *number)?;
    let forbids = entries.iter().any(|entry| entry.effect == Effect::Forbid && entry.resumed_by.is_none());
    Some(Span { first, last, committed_at, forbids })
}
