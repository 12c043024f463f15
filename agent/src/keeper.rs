//! Keeping an identity: renewal, the watch over its record, the questions about revocations.

mod follow;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chancery_api::client::{Client, ClientError, with_query};
use chancery_api::{Issued, JoinString, Retry, Whoami};
use chancery_identity::{Serial, Timestamp};
use chancery_verifier::feed::{Feed, FeedTrust};
use chancery_verifier::{ClientConfigs, Clock, Freshness, Material, ServerExpectation, Verifier};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use crate::event::{Event, How};
use crate::feed::{SHA256, Verifiers};
use crate::held::Held;
use crate::identity::Observer;
use crate::obtain::{self, on_disk};
use crate::revocations::{self, Poll, Round};
use crate::schedule::{ClockOffset, Step, refused_retry_in, rejoin_in, retry_in};
use crate::state::{Folder, StateError, TokenDigest};
use crate::{Error, first_contact, pem, tls};

/// How long the issuer may hold back an answer about our record.
const WAIT: Duration = Duration::from_secs(30);
/// How long a start waits for the first answer about revocations. Without one, what was known before serves.
const FIRST_ROUND_MAX: Duration = Duration::from_secs(5);
/// How long the issuer may take for any answer but one that it holds back.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Rounds without an answer before it is said.
const UNANSWERED_MAX: u32 = 5;
/// The least time between two certificates.
const RENEWED_REST: Duration = Duration::from_secs(1);

/// One identity with all that keeps it.
pub(crate) struct Keeper {
    folder: Arc<Folder>,
    observer: Observer,
    clock: Arc<dyn Clock>,
    rng: SystemRandom,
    offset: Mutex<ClockOffset>,
    held: watch::Sender<Arc<Held>>,
    material: watch::Sender<Arc<Material>>,
    verifier: Verifier,
    configs: watch::Sender<Configs>,
    /// For questions; each renewal has a connection of its own.
    client: Client,
    /// Held while new material is made from the present one.
    publishing: tokio::sync::Mutex<()>,
    poll: tokio::sync::Mutex<Poll>,
    verifiers: Arc<Verifiers>,
    /// Held by whoever follows the feed.
    feed: tokio::sync::Mutex<Feed>,
    record_changed: Notify,
    /// The certificate that the issuer takes no more.
    refused: watch::Sender<Option<Serial>>,
    /// The feed told of revocations that those who read CRLs do not see yet.
    news: Notify,
}

/// Made anew with each certificate: a client that is given another configuration makes another connection, which shows the
/// new certificate. The same goes for a server that is revoked.
#[derive(Clone)]
struct Configs {
    issuer: Arc<ClientConfigs>,
    services: Arc<ClientConfigs>,
}

impl Keeper {
    /// Resumes from the folder, or joins.
    pub(crate) async fn start(
        path: PathBuf,
        join: Option<JoinString>,
        observer: Observer,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let opened = tokio::task::spawn_blocking(move || {
            let folder = Folder::open(&path)?;
            let (saved, crls, feed) = (folder.load()?, folder.load_crls()?, folder.load_feed()?);
            Ok::<_, StateError>((Arc::new(folder), saved, crls, feed))
        });
        let (folder, saved, crls, taught) = opened.await.map_err(|_| Error::Ended)??;
        let begun_by = |join: &JoinString, by: &Option<TokenDigest>| *by == Some(TokenDigest::of(join.secret()));
        let resumable = saved.filter(|saved| join.as_ref().is_none_or(|join| begun_by(join, &saved.joined_by)));
        let poll = Poll::from_disk(pem::crls(&crls).unwrap_or_default().into());

        if let Some(saved) = resumable {
            let held = Held::from_saved(saved)?;
            let (feed, refused) = Feed::new(trust(&held, &provider), taught.as_ref(), clock.now());
            drop(taught);
            let keeper = Self::new(folder, held, poll, feed, provider, observer, clock)?;
            if let Some(refused) = refused {
                keeper.tell(&Event::FeedNotResumed { reason: refused.to_string() });
            }
            keeper.resume().await?;
            return Ok(keeper);
        }
        let Some(join) = join else { return Err(StateError::Nothing(folder.path().to_path_buf()).into()) };
        let issuer = first_contact::meet(join.issuer(), join.pin(), &provider, &clock).await?;
        observer(&Event::PinMatched { pin: join.pin() });
        let asked_at = clock.now().wall;
        let (held, issued) = obtain::join(&folder, &issuer.client, &issuer.trust_domain, &join).await?;
        let (feed, _) = Feed::new(trust(&held, &provider), None, clock.now());
        let keeper = Self::new(folder, held, poll, feed, provider, observer, clock)?;
        keeper.hear(&issued, asked_at);
        keeper.tell_held(How::Attested);
        keeper.first_round().await;
        Ok(keeper)
    }

    fn new(
        folder: Arc<Folder>,
        held: Held,
        poll: Poll,
        feed: Feed,
        provider: Arc<CryptoProvider>,
        observer: Observer,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let verifiers = Arc::<Verifiers>::default();
        if let Some(known) = feed.known() {
            verifiers.saved((known.epoch(), known.n()));
        }
        let material = Material {
            chain: held.chain.clone(),
            key: Arc::clone(&held.private_key),
            trust_domain: held.trust_domain(),
            roots: Arc::clone(&held.roots),
            crls: Arc::clone(poll.crls()),
            answered: None,
            feed: feed.known().cloned(),
            freshness: Freshness::default(),
        };
        let verifier = Verifier::new(&material, provider, Arc::clone(&clock))?;
        let configs = watch::Sender::new(Configs::new(&verifier)?);
        let client = to_issuer(&held, &configs)?.with_timeout(ANSWER_MAX);
        Ok(Self {
            folder,
            observer,
            clock,
            rng: SystemRandom::new(),
            offset: Mutex::default(),
            held: watch::Sender::new(Arc::new(held)),
            material: watch::Sender::new(Arc::new(material)),
            verifier,
            configs,
            client,
            publishing: tokio::sync::Mutex::default(),
            poll: tokio::sync::Mutex::new(poll),
            verifiers,
            feed: tokio::sync::Mutex::new(feed),
            record_changed: Notify::new(),
            refused: watch::Sender::new(None),
            news: Notify::new(),
        })
    }

    /// A certificate that is valid serves at once, whatever the issuer says; one that ran out must be replaced first.
    async fn resume(&self) -> Result<(), Error> {
        let held = self.held();
        if held.life().step(self.issuer_time()) == Step::Rejoin {
            let not_after = held.certificate.not_after;
            let rejoined = self.rejoin(&held).await;
            rejoined.map_err(|source| Error::RanOut { not_after, source: Box::new(source) })?;
        } else {
            self.tell_held(How::Resumed);
        }
        self.first_round().await;
        Ok(())
    }

    /// Keeps the identity until these are aborted.
    pub(crate) fn keep(self: &Arc<Self>) -> [AbortHandle; 4] {
        let [renewing, watching, asking, following] = std::array::from_fn(|_| Arc::clone(self));
        [
            tokio::spawn(async move { renewing.keep_renewed().await }).abort_handle(),
            tokio::spawn(async move { watching.watch_record().await }).abort_handle(),
            tokio::spawn(async move { asking.ask_for_revocations().await }).abort_handle(),
            tokio::spawn(async move { Box::pin(following.follow_feed()).await }).abort_handle(),
        ]
    }

    pub(crate) fn held(&self) -> Arc<Held> {
        Arc::clone(&self.held.borrow())
    }

    pub(crate) fn material(&self) -> watch::Receiver<Arc<Material>> {
        self.material.subscribe()
    }

    pub(crate) const fn verifiers(&self) -> &Arc<Verifiers> {
        &self.verifiers
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The newest configuration for services, at each call.
    pub(crate) fn to_services(&self) -> impl Fn() -> Arc<ClientConfig> + Send + Sync + 'static {
        let configs = self.configs.subscribe();
        move || configs.borrow().services.newest()
    }

    pub(crate) fn issuer(&self) -> Result<Client, Error> {
        to_issuer(&self.held(), &self.configs)
    }

    async fn keep_renewed(&self) {
        let mut failures = 0;
        let mut refused = self.refused.subscribe();
        // What is due before its time: a record that changed is renewed for. A certificate that is refused ended with its
        // authority, perhaps: then its key alone is worth a new one, and whoever is stopped is told so.
        let mut due = None;
        loop {
            let held = self.held();
            let step = held.life().step(self.issuer_time());
            let step = due.filter(|due| step < *due).unwrap_or(step);
            let asked = match step {
                Step::Rest(rest) => {
                    tokio::select! {
                        () = sleep(rest) => {}
                        () = self.record_changed.notified() => due = Some(Step::Renew),
                        () = is_named(&mut refused, held.certificate.serial) => {
                            sleep(rejoin_in(self.random())).await;
                            due = Some(Step::Rejoin);
                        }
                    }
                    continue;
                }
                Step::Renew => self.renew(&held).await,
                Step::Rejoin => self.rejoin(&held).await,
            };
            let rest = match asked {
                Ok(()) => {
                    (failures, due) = (0, None);
                    RENEWED_REST
                }
                Err(Error::Issuer { source, .. }) if step == Step::Renew && is_refused(&source) => {
                    due = Some(Step::Rejoin);
                    continue;
                }
                Err(error) => {
                    failures += 1;
                    self.not_renewed(&held, &error, failures).await
                }
            };
            sleep(rest).await;
        }
    }

    /// The certificate in hand serves on. Says so, and for how long until the next attempt.
    async fn not_renewed(&self, held: &Held, error: &Error, failures: u32) -> Duration {
        let left = held.life().left(self.issuer_time());
        let problem = error.problem();
        let again_in = match problem.map(|problem| problem.retry) {
            Some(Retry::No) => refused_retry_in(self.random()),
            Some(Retry::Same | Retry::After) | None => retry_in(failures, left, self.random()),
        };
        if problem.is_some_and(|problem| problem.code == "key-reused") {
            // The next attempt takes another key. What the disk says of this is said there.
            let _ = on_disk(&self.folder, Folder::forget_next_key).await;
        }
        let fix = problem.map(|problem| problem.fix.clone()).unwrap_or_default();
        self.tell(&Event::NotRenewed { reason: error.explain(), fix, left, again_in });
        again_in
    }

    async fn renew(&self, held: &Held) -> Result<(), Error> {
        // On a connection of its own: made with this certificate, whatever became of others.
        let client = self.issuer()?;
        let asked_at = self.clock.now().wall;
        let (renewed, issued) = obtain::renew(&self.folder, &client, held).await?;
        self.adopt(renewed, &issued, asked_at, How::Renewed).await
    }

    async fn rejoin(&self, held: &Held) -> Result<(), Error> {
        let config = Arc::new(tls::anonymous(self.verifier.client_config(ServerExpectation::Issuer)?));
        let client = Client::new(&held.saved.issuer, move || Arc::clone(&config));
        let client = client.map_err(|source| Error::Issuer { doing: "connecting", source })?;
        let asked_at = self.clock.now().wall;
        let (rejoined, issued) = obtain::rejoin(&self.folder, &client, held).await?;
        self.adopt(rejoined, &issued, asked_at, How::Rejoined).await
    }

    /// From here on everything shows the new certificate.
    async fn adopt(&self, held: Held, issued: &Issued, asked_at: Timestamp, how: How) -> Result<(), Error> {
        let with_certificate = |before: &Material| Material {
            chain: held.chain.clone(),
            key: Arc::clone(&held.private_key),
            roots: Arc::clone(&held.roots),
            ..before.clone()
        };
        self.publish(with_certificate).await?;
        self.configs.send_replace(Configs::new(&self.verifier)?);
        self.held.send_replace(Arc::new(held));
        self.hear(issued, asked_at);
        self.tell_held(how);
        Ok(())
    }

    /// Renews at once when the record behind the certificate changes.
    async fn watch_record(&self) {
        let mut held = self.held.subscribe();
        let (mut failures, mut shed) = (0, false);
        let mut seen = 0;
        loop {
            let (revision, serial) = {
                let held = held.borrow_and_update();
                (held.saved.revision, held.certificate.serial)
            };
            seen = seen.max(revision);
            let asked = tokio::select! {
                asked = whoami(&self.client, seen, if shed { Duration::ZERO } else { WAIT }) => asked,
                // The next question goes by the new certificate's connection.
                changed = held.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
            };
            let rest = match asked {
                Ok(whoami) => {
                    (failures, shed) = (0, false);
                    if whoami.revision > seen {
                        seen = whoami.revision;
                        self.record_changed.notify_one();
                    }
                    RENEWED_REST
                }
                // Waits are the first thing an issuer under load drops: ask each minute, without waiting.
                Err(error) if is_shed(&error) => {
                    shed = true;
                    refused_retry_in(self.random())
                }
                Err(error) => {
                    if is_refused(&error) {
                        self.refused.send_replace(Some(serial));
                    }
                    failures += 1;
                    retry_in(failures, Duration::ZERO, self.random())
                }
            };
            sleep(rest).await;
        }
    }

    async fn ask_for_revocations(&self) {
        let mut unanswered = 0_u32;
        let mut asked = self.clock.now();
        loop {
            let told = tokio::select! {
                () = sleep(revocations::EACH) => false,
                () = self.news.notified() => true,
            };
            let now = self.clock.now();
            if !told && self.asks_each().is_none_or(|each| now.since(asked) < each) {
                continue;
            }
            asked = now;
            match if told { self.catch_up().await } else { self.round().await } {
                Ok(()) => {
                    if unanswered >= UNANSWERED_MAX {
                        self.tell(&Event::RevocationsAnswered);
                    }
                    unanswered = 0;
                }
                Err(error) => {
                    unanswered = unanswered.saturating_add(1);
                    if unanswered == UNANSWERED_MAX {
                        self.tell(&Event::RevocationsUnanswered { reason: error.explain() });
                    }
                }
            }
        }
    }

    /// How often CRLs are asked for: not at all where the feed tells all that they tell.
    fn asks_each(&self) -> Option<Duration> {
        let read = self.crls_are_read();
        match self.verifiers.count() {
            0 if !read => Some(revocations::EACH_FOR_CALLS),
            1.. if !read && self.verifiers.is_connected() => None,
            _ => Some(revocations::EACH),
        }
    }

    /// Whether there is somebody besides verifiers: who writes files, for instance.
    fn crls_are_read(&self) -> bool {
        self.material.receiver_count() > self.verifiers.count()
    }

    /// Asks until the CRLs tell what the feed told: the issuer signs them a moment after the head. What takes longer comes
    /// with the rounds that come anyway.
    async fn catch_up(&self) -> Result<(), Error> {
        for pause in revocations::CATCH_UP_MS {
            sleep(Duration::from_millis(pause)).await;
            self.round().await?;
            let told = self.verifier.status().authorities.iter().filter_map(|authority| authority.number).max();
            if told >= self.known_number() {
                break;
            }
        }
        Ok(())
    }

    /// What is known of revocations when the identity is handed out. Nothing, if the issuer does not answer.
    async fn first_round(&self) {
        let _ = timeout(FIRST_ROUND_MAX, self.round()).await;
    }

    async fn round(&self) -> Result<(), Error> {
        let mut poll = self.poll.lock().await;
        let round = poll.round(&self.client, &*self.clock).await;
        let Round { crls, answered, freshness, well_known } =
            round.map_err(|source| Error::Issuer { doing: "asking for revocations", source })?;
        if let Some((asked, well_known)) = well_known {
            self.compare_clocks(asked.wall, well_known.server_time);
        }
        let changed = !Arc::ptr_eq(&crls, &self.material.borrow().crls);
        let with_crls = |before: &Material| Material {
            crls: Arc::clone(&crls),
            answered: Some(answered),
            freshness,
            ..before.clone()
        };
        self.publish(with_crls).await?;
        if changed {
            on_disk(&self.folder, move |folder| folder.save_crls(&pem::encode_crls(&crls))).await?;
        }
        Ok(())
    }

    /// Hands out new material: first to the verifier behind our own connections, then to everybody else.
    async fn publish(&self, change: impl FnOnce(&Material) -> Material) -> Result<(), Error> {
        let _publishing = self.publishing.lock().await;
        let next = Arc::new(change(&self.material.borrow()));
        let same_crls = Arc::ptr_eq(&next.crls, &self.material.borrow().crls);
        if same_crls {
            self.verifier.renew(&next)?;
        } else {
            let (verifier, material) = (self.verifier.clone(), Arc::clone(&next));
            // A large CRL takes a while to verify and index.
            let renewed = tokio::task::spawn_blocking(move || verifier.renew(&material));
            renewed.await.map_err(|_| Error::Ended)??;
        }
        self.material.send_replace(next);
        Ok(())
    }

    fn issuer_time(&self) -> Timestamp {
        let offset = *self.offset.lock().unwrap_or_else(PoisonError::into_inner);
        offset.apply(self.clock.now().wall)
    }

    fn hear(&self, issued: &Issued, asked_at: Timestamp) {
        self.compare_clocks(asked_at, issued.server_time);
    }

    /// A difference that matters is said when it begins, not each time it is seen.
    fn compare_clocks(&self, asked_at: Timestamp, server_time: Timestamp) {
        let now = ClockOffset::new(asked_at, self.clock.now().wall, server_time);
        let before = std::mem::replace(&mut *self.offset.lock().unwrap_or_else(PoisonError::into_inner), now);
        if let (None, Some(seconds)) = (before.notable_seconds(), now.notable_seconds()) {
            self.tell(&Event::ClockOff { seconds });
        }
    }

    fn tell_held(&self, how: How) {
        self.tell(&Event::Held { certificate: self.held().holding(self.issuer_time()), how });
    }

    fn tell(&self, event: &Event) {
        (self.observer)(event);
    }

    /// Half of the range, when the system has no random numbers: only the spread of retries depends on it.
    fn random(&self) -> u32 {
        let mut bytes = [0; 4];
        self.rng.fill(&mut bytes).map_or(u32::MAX / 2, |()| u32::from_be_bytes(bytes))
    }
}

impl Configs {
    fn new(verifier: &Verifier) -> Result<Self, Error> {
        Ok(Self {
            issuer: Arc::new(verifier.client_configs(ServerExpectation::Issuer)?),
            services: Arc::new(verifier.client_configs(ServerExpectation::AnyService)?),
        })
    }
}

fn to_issuer(held: &Held, configs: &watch::Sender<Configs>) -> Result<Client, Error> {
    let configs = configs.subscribe();
    let client = Client::new(&held.saved.issuer, move || configs.borrow().issuer.newest());
    client.map_err(|source| Error::Issuer { doing: "connecting", source })
}

fn trust(held: &Held, provider: &CryptoProvider) -> FeedTrust {
    FeedTrust {
        trust_domain: held.trust_domain(),
        roots: Arc::clone(&held.roots),
        algorithms: provider.signature_verification_algorithms,
        sha256: SHA256,
    }
}

async fn whoami(client: &Client, after_revision: u64, wait: Duration) -> Result<Whoami, ClientError> {
    let (revision, seconds) = (after_revision.to_string(), wait.as_secs().to_string());
    let path = with_query("/v1/whoami", [("after_revision", revision.as_str()), ("wait_s", seconds.as_str())]);
    Ok(client.get_waiting(&path, wait).await?.body)
}

/// Waits until this serial is.
async fn is_named(refused: &mut watch::Receiver<Option<Serial>>, serial: Serial) {
    // The sender is beside whoever waits.
    let _ = refused.wait_for(|named| *named == Some(serial)).await.map(drop);
}

/// Whether it is the certificate that is refused, in the handshake or after it.
fn is_refused(error: &ClientError) -> bool {
    matches!(error, ClientError::CertificateRevoked)
        || error.problem().is_some_and(|problem| problem.code == "certificate-revoked")
}

/// RFC 6585 §4 and RFC 9110 §15.6.4: too much at the moment.
fn is_shed(error: &ClientError) -> bool {
    match error {
        ClientError::Refused(problem) => matches!(problem.status, 429 | 503),
        ClientError::Status(status) => matches!(status.as_u16(), 429 | 503),
        _ => false,
    }
}
