//! The issuer: all rooms, opened in order, behind one face that HTTP calls.

mod authorities;

use std::net::IpAddr;
use std::sync::Arc;

use chancery_api::{
    Access, Admin, Agent, AttestRequest, AuthorityEntry, AuthorityKind, Bundle, Challenge, Evidence,
    FirstAdministrator, FreshnessLimits, JoinTokenCreated, RenewRequest, RootPin, Service, State as RecordState,
    Subject, WellKnown, Whoami,
};
use chancery_ca::local::CRYPTO;
use chancery_ca::{KeyPolicy, StatusUrl};
use chancery_identity::{Actor, KeyId, Name, RequestId, Timestamp, TrustDomain};
use chancery_verifier::Peer;
use ring::rand::SystemRandom;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::attest::{self, Attestors};
use crate::authority::{Authorities, OpenError, Responders, Seal, SealError};
use crate::caller::Caller;
use crate::clock::Clock;
use crate::config::Config;
use crate::issuance::{self, Issuance, Outcome, Wish, renew_after, spread};
use crate::metrics::Counts;
use crate::random::Stock;
use crate::refusal::{Code, Refusal};
use crate::registry::{self, FirstToken, Registry};
use crate::revocation::{
    Crls, Feed, Herald, KeptHead, Ocsp, PublishError, Publisher, Revocations, Verifiers, open_head,
};
use crate::store::{Committed, DbError, Registered, Store};

/// One running issuer, without its sockets.
pub struct Issuer {
    config: Config,
    clock: Arc<dyn Clock>,
    rng: SystemRandom,
    ids: Arc<Stock>,
    store: Store,
    authorities: Arc<Authorities>,
    attestors: Attestors,
    issuance: Issuance,
    registry: Registry,
    revocations: Revocations,
    verifiers: Arc<Verifiers>,
    crls: Arc<Crls>,
    responders: Arc<Responders>,
    ocsp: Ocsp,
    feed: Arc<Feed>,
    first_token: Option<FirstToken>,
    counts: Counts,
}

impl Issuer {
    /// Opens the rooms in order: seal, authorities, CRLs, OCSP responders, and then the ways in. `store` writes already.
    ///
    /// Returns the publisher and the herald too, which run beside the issuer.
    ///
    /// # Errors
    /// A seal that does not open, another trust domain than the database's, a CRL that is not signed, an OCSP responder that is
    /// not certified.
    pub async fn open(
        config: Config,
        store: Store,
        clock: Arc<dyn Clock>,
    ) -> Result<(Arc<Self>, Publisher, Herald), StartError> {
        let (rng, now) = (SystemRandom::new(), clock.now());
        let ids = Arc::new(Stock::new(Arc::new(rng.clone())));
        let status: StatusUrl = config.status_url.to_string().parse().map_err(StartError::Status)?;
        let seal = Seal::open(&config.seal)?;
        let nonce_key = seal.nonce_key(config.trust_domain.as_str(), store.state().position().epoch)?;
        let authorities = Arc::new(Authorities::open(&config, &status, seal, &store, &rng, now).await?);
        let crls = Arc::new(Crls::default());
        let mut publisher = Publisher::new(store.clone(), authorities.clone(), crls.clone(), clock.clone());
        // A database that lost something signs nothing.
        let stands = store.rolled_back().is_none();
        if stands {
            // Where all that could sign are retired, nothing here could be signed at all.
            authorities.succeed_in_time(now).await?;
            publisher.publish().await?;
        }
        let responders = Responders::open(authorities.clone(), store.clone(), clock.clone()).await?;
        let ocsp = Ocsp::new(store.clone(), responders.clone(), clock.clone());
        let kept = KeptHead::in_folder(&config.data_dir);
        let trust_domain = config.trust_domain.clone();
        let herald = Herald::open(trust_domain, store.clone(), authorities.clone(), kept, clock.clone()).await?;
        let feed = herald.feed().clone();

        let roots = x509pop_roots(&config)?;
        let attestors = Attestors::new(&config.trust_domain, config.ttl, roots, nonce_key, &store);
        let issuance = Issuance::new(issuance::Parts {
            authorities: authorities.clone(),
            keys: KeyPolicy::new(CRYPTO),
            trust_domain: config.trust_domain.clone(),
            ttl: config.ttl,
            store: store.clone(),
            ids: ids.clone(),
        });
        let registry = Registry {
            store: store.clone(),
            rng: Arc::new(rng.clone()),
            ids: ids.clone(),
            public_url: config.public_url.clone(),
            root_pin: root_pin(authorities.root().der()),
            dns_suffixes: config.dns_suffixes.clone(),
            ttl_default: config.ttl.leaf,
            // As long as an authority lives after its successor took over, with a margin.
            ttl_max: config.ttl.authority / 4,
        };
        let (trust_domain, freshness) = (config.trust_domain.clone(), config.freshness);
        let verifiers = Arc::new(Verifiers::start(store.clone(), clock.clone(), trust_domain, freshness).await?);
        let revocations = Revocations {
            store: store.clone(),
            crls: crls.clone(),
            verifiers: verifiers.clone(),
            clock: clock.clone(),
        };
        let first_token = registry.write_first_token(&config.data_dir, now).map_err(StartError::FirstToken)?;
        let issuer = Self {
            config,
            clock,
            rng,
            ids,
            store,
            authorities,
            attestors,
            issuance,
            registry,
            revocations,
            verifiers,
            crls,
            responders,
            ocsp,
            feed,
            first_token,
            counts: Counts::new(now),
        };
        Ok((Arc::new(issuer), publisher, herald))
    }

    /// What it runs with.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The trust domain.
    pub const fn trust_domain(&self) -> &TrustDomain {
        &self.config.trust_domain
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The clock that it reads.
    pub(crate) const fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// A new request's id.
    ///
    /// # Errors
    /// No randomness.
    pub fn request_id(&self) -> Result<RequestId, Refusal> {
        self.ids.uuid(self.now()).map(RequestId::new)
    }

    /// The records, for reading.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Who is registered.
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// What stops.
    pub const fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// Who verifies.
    pub const fn verifiers(&self) -> &Arc<Verifiers> {
        &self.verifiers
    }

    /// What is published of it.
    pub const fn crls(&self) -> &Arc<Crls> {
        &self.crls
    }

    /// Who answers OCSP requests.
    pub const fn responders(&self) -> &Arc<Responders> {
        &self.responders
    }

    /// What is revoked, one certificate at a time.
    pub const fn ocsp(&self) -> &Ocsp {
        &self.ocsp
    }

    /// What verifiers are told.
    pub const fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// Takes a head that somebody was told, such as a verifier shows it: if it is a true one and the database is behind it,
    /// nothing is decided any more.
    ///
    /// # Errors
    /// A head that no key of this issuer signed, or a database that fails.
    pub async fn shown(&self, note: &str) -> Result<(), Refusal> {
        let keys = self.store.head_keys().await?;
        let keys: Vec<_> = keys.into_iter().map(|key| CertificateDer::from(key.certificate)).collect();
        let head = open_head(note, &keys, self.trust_domain(), self.authorities.root().der())
            .map_err(|error| Refusal::new(Code::Invalid, format!("head: {error}")))?;
        if let Some(why) = self.store.hold_against(&head).await? {
            tracing::error!(%why, "the database is rolled back: a verifier knows a later head; nothing is decided any more");
            return Err(Refusal::rolled_back(&why));
        }
        Ok(())
    }

    /// Root and issuing authority.
    pub const fn authorities(&self) -> &Arc<Authorities> {
        &self.authorities
    }

    /// The token for the first administrator, where there was none at the start.
    pub const fn first_token(&self) -> Option<&FirstToken> {
        self.first_token.as_ref()
    }

    /// Creates the first administrator, by the token that was written for it.
    ///
    /// # Errors
    /// Another token, one that was used or is over, or an administrator that is there.
    pub async fn create_first_admin(
        &self,
        request: FirstAdministrator,
        request_id: RequestId,
    ) -> Result<Committed<JoinTokenCreated>, Refusal> {
        self.registry.create_first_admin(self.first_token(), request, request_id, self.now()).await
    }

    /// What happened since it began.
    pub(crate) const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Makes certificates.
    pub const fn issuance(&self) -> &Issuance {
        &self.issuance
    }

    /// The root's pin.
    pub const fn root_pin(&self) -> RootPin {
        self.registry.root_pin
    }

    /// A nonce for signing evidence.
    ///
    /// # Errors
    /// No randomness.
    pub fn challenge(&self) -> Result<Challenge, Refusal> {
        self.attestors.challenge(self.now(), &self.rng)
    }

    /// Evidence and a key in, a committed certificate out.
    ///
    /// # Errors
    /// Evidence that does not hold, a key that is not allowed, what is not held.
    pub async fn attest(
        &self,
        request: AttestRequest,
        peer: Option<IpAddr>,
        request_id: RequestId,
    ) -> Result<Committed<Outcome>, Refusal> {
        let now = self.now();
        let AttestRequest { evidence, csr_pem, scopes, ttl_s } = request;
        self.attestors.glance(&evidence, now)?;
        let key = self.issuance.subject_key(&csr_pem)?;
        let attested = self.attestors.attest(&evidence, &key, peer, now).await?;
        let kind = if matches!(evidence, Evidence::Rejoin(_)) { "rejoin" } else { "attestation" };
        let issued = self.issuance.issue(attested, key, &Wish { scopes, ttl_s }, request_id, now).await?;
        Ok(self.counted(kind, issued))
    }

    /// The next certificate of the caller's lineage, for a new key.
    ///
    /// # Errors
    /// A key that is not new, a lineage that is stopped, forked or over.
    pub async fn renew(
        &self,
        peer: &Peer,
        request: RenewRequest,
        request_id: RequestId,
    ) -> Result<Committed<Outcome>, Refusal> {
        let now = self.now();
        let RenewRequest { csr_pem, scopes } = request;
        let attested = attest::renewal(peer)?;
        let key = self.issuance.subject_key(&csr_pem)?;
        let issued = self.issuance.issue(attested, key, &Wish { scopes, ttl_s: None }, request_id, now).await?;
        Ok(self.counted("renewal", issued))
    }

    /// An answer that is given again was counted when it was made.
    fn counted(&self, kind: &'static str, issued: Committed<Outcome>) -> Committed<Outcome> {
        if !issued.reply().replayed {
            self.counts.issued.add(kind);
        }
        issued
    }

    /// Whether a certificate that the handshake accepted may act now: every request asks, not every connection.
    ///
    /// It asks the state, not [`chancery_verifier::Verifier::check`]: the state has an entry before its commit is answered,
    /// the verifier is told just after.
    ///
    /// # Errors
    /// Its time is over, or an entry in force hits it.
    pub fn admit(&self, peer: &Peer) -> Result<(), Refusal> {
        let certificate = peer.certificate();
        let now = self.now();
        if now > certificate.not_after + std::time::Duration::from_millis(999) {
            let detail = format!("the certificate ended at {}", certificate.not_after.to_seconds_text());
            return Err(Refusal::new(Code::CertificateRefused, detail).fix("rejoin, or attest again"));
        }
        match self.store.state().hitting(certificate) {
            None => Ok(()),
            Some(entry) => Err(Refusal::new(Code::CertificateRevoked, Refusal::stopped(&entry).detail().to_owned())),
        }
    }

    /// The caller behind a client certificate; an administrator's access is what its record says now.
    ///
    /// # Errors
    /// As [`Issuer::admit`], or a certificate of no record.
    pub fn caller(&self, peer: &Peer, request_id: RequestId) -> Result<Caller, Refusal> {
        self.admit(peer)?;
        let spiffe_id = peer.spiffe_id();
        let none = || Refusal::new(Code::WrongCaller, format!("{spiffe_id} has no record here"));
        match registry::subject(spiffe_id).ok_or_else(none)? {
            Subject::Admin(name) => {
                let admin = self.store.state().record::<Admin>(&name).ok_or_else(none)?;
                Ok(Caller { actor: Actor::Admin(name), access: admin.access.clone(), request_id })
            }
            _ => Ok(Caller { actor: Actor::Holder(spiffe_id.clone()), access: Default::default(), request_id }),
        }
    }

    /// Who the caller is to the issuer, by its certificate.
    ///
    /// # Errors
    /// A certificate of no record.
    pub fn whoami(&self, peer: &Peer) -> Result<Whoami, Refusal> {
        let certificate = peer.certificate();
        let none = || Refusal::new(Code::WrongCaller, format!("{} has no record here", certificate.spiffe_id));
        let subject = registry::subject(&certificate.spiffe_id).ok_or_else(none)?;
        let record = RecordNow::of(&self.store, &subject).ok_or_else(none)?;
        Ok(Whoami {
            caller: self.caller(peer, RequestId::from_bytes([0; 16]))?.actor,
            spiffe_id: Some(certificate.spiffe_id.clone()),
            state: record.state,
            revision: record.revision,
            scopes: record.scopes,
            access: record.access,
            serial: Some(certificate.serial),
            not_after: Some(certificate.not_after),
            renew_after: Some(renew_after(certificate.not_before, certificate.not_after, spread(certificate.serial))),
            server_time: self.now(),
        })
    }

    /// The trust bundle in SPIFFE form.
    ///
    /// # Errors
    /// A root that has no such form, which a root of ours has.
    pub fn bundle(&self) -> Result<Bundle, Refusal> {
        self.authorities.bundle().map_err(|error| Refusal::new(Code::Internal, error.to_string()))
    }

    /// What the issuer says of itself.
    pub fn well_known(&self) -> WellKnown {
        let seconds = |duration: std::time::Duration| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
        let listed = |kind, key_id: KeyId| AuthorityEntry {
            key_id,
            kind,
            crl: format!("/crl/{key_id}.crl"),
            certificate: format!("/ca/{key_id}.crt"),
        };
        let issuing = self.authorities.all_issuing();
        // A new one is listed once its CRL can be had: who reads the list asks for all of them.
        let issuing = issuing.iter().map(|one| one.key_id()).filter(|key_id| self.crls.of(*key_id).is_some());
        let root = listed(AuthorityKind::Root, self.authorities.root().key_id());
        WellKnown {
            trust_domain: self.trust_domain().clone(),
            issuer_spiffe_id: self.trust_domain().server(),
            server_time: self.now(),
            freshness: FreshnessLimits {
                stale_after_s: seconds(self.config.freshness.stale_after),
                expired_after_s: seconds(self.config.freshness.expired_after),
            },
            authorities: std::iter::once(root)
                .chain(issuing.map(|key_id| listed(AuthorityKind::Issuing, key_id)))
                .collect(),
        }
    }

    /// Whether it can do its work: it writes, and what it signs now ends before its authority does.
    ///
    /// # Errors
    /// What is missing.
    pub fn ready(&self) -> Result<(), Refusal> {
        if let Some(why) = self.store.rolled_back() {
            return Err(Refusal::rolled_back(&why));
        }
        if !self.store.writes() {
            return Err(Refusal::new(Code::NotReady, "waits for the writer's lease").after(1));
        }
        let issuing = self.authorities.issuing();
        let key_id = issuing.key_id();
        if self.authorities.stopped(key_id) {
            let detail = format!("issuing authority {key_id} is stopped, and there is no successor yet");
            return Err(Refusal::new(Code::NotReady, detail).after(1));
        }
        if issuing.certificate().not_after().since(self.now()) < self.config.ttl.leaf {
            let detail = format!("issuing authority {key_id} ends before a certificate signed now would");
            let fix = "the log of `chancery serve` says why it has no successor";
            return Err(Refusal::new(Code::NotReady, detail).fix(fix));
        }
        Ok(())
    }
}

/// What `whoami` tells of a record.
struct RecordNow {
    state: RecordState,
    revision: u64,
    scopes: chancery_identity::ScopeSet,
    access: std::collections::BTreeSet<Access>,
}

impl RecordNow {
    fn of(store: &Store, subject: &Subject) -> Option<Self> {
        fn find<R: Registered>(store: &Store, name: &Name) -> Option<Arc<R>> {
            store.state().record::<R>(name)
        }
        let none = Default::default;
        Some(match subject {
            Subject::Agent(name) => find::<Agent>(store, name).map(|r| Self {
                state: r.state,
                revision: r.revision,
                scopes: r.scopes.clone(),
                access: none(),
            })?,
            Subject::Service(name) => find::<Service>(store, name).map(|r| Self {
                state: r.state,
                revision: r.revision,
                scopes: r.scopes.clone(),
                access: none(),
            })?,
            Subject::Admin(name) => find::<Admin>(store, name).map(|r| Self {
                state: r.state,
                revision: r.revision,
                scopes: Default::default(),
                access: r.access.clone(),
            })?,
        })
    }
}

fn root_pin(root: &[u8]) -> RootPin {
    RootPin::from_bytes((CRYPTO.sha256)(root))
}

fn x509pop_roots(config: &Config) -> Result<Vec<CertificateDer<'static>>, StartError> {
    let Some(path) = &config.x509pop_roots else { return Ok(Vec::new()) };
    let roots = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    roots.map_err(|error| StartError::X509popRoots { path: path.clone(), why: error.to_string() })
}

/// The issuer does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The database.
    #[error(transparent)]
    Store(#[from] DbError),
    /// The authorities.
    #[error(transparent)]
    Authorities(#[from] OpenError),
    /// The seal.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// `status_url`.
    #[error("status_url: {0}")]
    Status(chancery_ca::StatusUrlError),
    /// The roots for `x509pop`.
    #[error("[x509pop] roots {}: {why}", path.display())]
    X509popRoots {
        /// The file.
        path: std::path::PathBuf,
        /// Why not.
        why: String,
    },
    /// The token for the first administrator.
    #[error("{}", .0.detail())]
    FirstToken(Refusal),
    /// A first CRL.
    #[error(transparent)]
    Publish(#[from] PublishError),
}
