//! Sockets: the API over TLS, the status listener in plain HTTP, the admin socket. And what runs beside them.

mod own;
mod serve;

use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chancery_api::AuthorityKind;
use chancery_identity::Timestamp;
use chancery_verifier::Verifier;
use ring::rand::SystemRandom;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::config::Config;
use crate::http::{self, Rates};
use crate::issuer::{Issuer, StartError};
use crate::refusal::Refusal;
use crate::revocation::{Kept, KeptError, KeptHead};
use crate::store::{CommitError, DbError, Forget, Purge, Stopped, Store, Writing};

use own::{IssuerClock, Own};

/// How long open requests may take to finish once the service stops.
const DRAIN: Duration = Duration::from_secs(3);

/// How often it is looked at whether the first administrator's token is void.
const LOOK: Duration = Duration::from_secs(1);

/// How often what is over is forgotten.
const FORGETTING: Duration = Duration::from_secs(3600);

/// A running service. Dropping it stops it at once; [`Server::stop`] lets open requests finish.
pub struct Server {
    issuer: Arc<Issuer>,
    writing: Writing,
    tasks: JoinSet<()>,
    draining: tokio::sync::watch::Sender<bool>,
    admin_socket: PathBuf,
    api: std::net::SocketAddr,
    status: std::net::SocketAddr,
    metrics: Option<std::net::SocketAddr>,
}

impl Server {
    /// Starts everything: database, lease, authorities, CRLs, own certificate, sockets. Answers nobody before all stand.
    ///
    /// Waits for the writer's lease as long as another issuer holds it.
    ///
    /// # Errors
    /// Whatever keeps it from starting; nothing runs then.
    pub async fn start(config: Config, clock: Arc<dyn Clock>) -> Result<Self, ServeError> {
        // The sockets first: two issuers in one place are found out before either touches the database.
        let api = bind(config.listen.api).await?;
        let status = bind(config.listen.status).await?;
        let metrics = match config.listen.metrics {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        let mut config = config;
        if config.dev {
            config.took(api.local_addr()?, status.local_addr()?)?;
        }
        let url = config.database_url();
        Store::migrate(&url).await?;
        let store = Store::open(&url, clock.clone(), Arc::new(SystemRandom::new())).await?;
        let writing = store.write(&config.public_url.to_string()).await?;

        hold_against_kept_head(&config, &store).await?;
        let (issuer, publisher, mut herald) = Issuer::open(config, store, clock).await?;
        let (api_address, status_address) = (api.local_addr()?, status.local_addr()?);
        let metrics_address = metrics.as_ref().map(TcpListener::local_addr).transpose()?;
        let admin_socket = issuer.config().listen.admin_socket.clone();
        let admin = bind_admin(&admin_socket)?;

        let (draining, drain) = tokio::sync::watch::channel(false);
        let mut tasks = JoinSet::new();
        let router = http::api(issuer.clone(), Rates::default());
        let handshakes = Arc::default();
        // Also for one that is rolled back: who watches must see it.
        if let Some(metrics) = metrics {
            tasks.spawn(serve::plain(metrics, http::metrics(issuer.clone(), Arc::clone(&handshakes)), drain.clone()));
        }
        // A database that lost something signs nothing, not even a certificate for this listener: whoever administers this
        // machine is all who is served.
        if issuer.store().rolled_back().is_none() {
            let (own, material) = Own::start(issuer.clone()).await?;
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let reading = Arc::new(IssuerClock(issuer.clock().clone()));
            let verifier = Verifier::start_with(material, provider, reading)
                .await
                .map_err(|error| ServeError::Verifier(error.to_string()))?;
            // Verifiers that come back after a restart are told at once. What keeps it silent, it says itself once it runs.
            let _silent = herald.beat().await;
            tasks.spawn(publisher.run());
            tasks.spawn(issuer.responders().clone().run());
            tasks.spawn(herald.run());
            tasks.spawn(own.run(verifier.clone()));
            tasks.spawn(forget(issuer.clone()));
            tasks.spawn(void_first_token(issuer.clone()));
            tasks.spawn(serve::tls(api, verifier, router.clone(), handshakes, drain.clone()));
            tasks.spawn(serve::plain(status, http::status(issuer.clone()), drain.clone()));
        }
        tasks.spawn(serve::local(admin, router, drain));
        let (api, status, metrics) = (api_address, status_address, metrics_address);
        Ok(Self { issuer, writing, tasks, draining, admin_socket, api, status, metrics })
    }

    /// The issuer behind the sockets.
    pub const fn issuer(&self) -> &Arc<Issuer> {
        &self.issuer
    }

    /// Where the API listens.
    pub const fn api(&self) -> std::net::SocketAddr {
        self.api
    }

    /// Where CRLs, authority certificates and OCSP answers are served.
    pub const fn status(&self) -> std::net::SocketAddr {
        self.status
    }

    /// Where metrics are served, if they are.
    pub const fn metrics(&self) -> Option<std::net::SocketAddr> {
        self.metrics
    }

    /// Serves until `stop` is done, then lets open requests finish, 3 seconds at most.
    ///
    /// # Errors
    /// Another issuer took the lease, or the database does not say what it did: this one must not go on.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), Stopped> {
        tokio::select! {
            () = stop => {
                self.stop().await;
                Ok(())
            }
            stopped = self.writing.stopped() => Err(stopped),
        }
    }

    /// Takes no more requests, lets those that are open finish, and gives the lease back.
    pub async fn stop(mut self) {
        self.draining.send_replace(true);
        // What never ends by itself.
        self.issuer.feed().close();
        let drained = async {
            while self.draining.receiver_count() > 0 {
                self.draining.closed().await;
            }
        };
        let _ = tokio::time::timeout(DRAIN, drained).await;
        self.tasks.shutdown().await;
        self.writing.stop().await;
        // A database that is a file may be replaced now.
        let _ = tokio::time::timeout(DRAIN, self.issuer.store().clone().close()).await;
        let _ = std::fs::remove_file(&self.admin_socket);
    }
}

/// Finds out whether the database is behind the head that was kept outside of it.
async fn hold_against_kept_head(config: &Config, store: &Store) -> Result<(), ServeError> {
    let authorities = store.state().authorities();
    let root = authorities.iter().find(|authority| authority.kind == AuthorityKind::Root);
    let root = root.map(|root| root.certificate.clone()).unwrap_or_default();
    if let Some(Kept { head, .. }) = KeptHead::in_folder(&config.data_dir).read(&config.trust_domain, &root)?
        && let Some(why) = store.hold_against(&head).await?
    {
        tracing::error!(%why, "the database is rolled back: nothing is issued until `chancery db restore`");
    }
    Ok(())
}

/// Forgets in rhythm what can buy nothing any more: lineages too old to rejoin, evidence that is spent and over, entries
/// that can hit nothing.
async fn forget(issuer: Arc<Issuer>) {
    loop {
        tokio::time::sleep(FORGETTING).await;
        let ended_before = issuer.now() - issuer.config().ttl.rejoin_within;
        let purged = purge(issuer.store(), ended_before).await;
        // An entry is held against who rejoins, too.
        let forgotten = issuer.store().commit(Forget { at: ended_before }).await.map(drop);
        if let Err(error) = purged.and(forgotten) {
            tracing::warn!(%error, "what is over was not forgotten; in an hour it is tried again");
        }
        if let Err(error) = issuer.verifiers().forget().await {
            tracing::warn!(%error, "verifiers that are gone were not forgotten in the database");
        }
    }
}

/// Takes the first administrator's token away once it is void.
async fn void_first_token(issuer: Arc<Issuer>) {
    let Some(token) = issuer.first_token() else { return };
    while !issuer.registry().void_first_token(token, issuer.now()) {
        tokio::time::sleep(LOOK).await;
    }
}

/// In short commits, so that nobody waits long for the writer.
async fn purge(store: &Store, ended_before: Timestamp) -> Result<(), CommitError> {
    let mut after = None;
    loop {
        after = store.commit(Purge { ended_before, after }).await?.into_reply().next;
        if after.is_none() {
            return Ok(());
        }
    }
}

async fn bind(address: std::net::SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Bind { what: address.to_string(), source })
}

/// For the issuer's own user only, by mode and by the peer's credentials.
fn bind_admin(path: &std::path::Path) -> Result<UnixListener, ServeError> {
    let failed = |source| ServeError::Bind { what: path.display().to_string(), source };
    // One that is left over from a process that was killed; a living one would hold the TCP ports, too.
    if path.exists() {
        std::fs::remove_file(path).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// The service does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A socket.
    #[error("cannot listen on {what}")]
    Bind {
        /// The address or path.
        what: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] DbError),
    /// The head that was kept.
    #[error(transparent)]
    Kept(#[from] KeptError),
    /// The issuer's rooms.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The issuer's own certificate.
    #[error("the issuer gets no certificate for itself: {0}")]
    Own(#[from] Refusal),
    /// The verifier of its own listener.
    #[error("the issuer's own verifier does not start: {0}")]
    Verifier(String),
    /// The configuration, once the ports are known.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// Anything else of the system.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}
