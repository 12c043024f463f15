//! The identity of this process: one handle, always the newest certificate behind it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chancery_api::client::Client;
use chancery_api::{JoinString, JoinStringError};
use chancery_identity::{Name, Principal, ScopeSet, SpiffeId};
use chancery_verifier::{Attached, Clock, Credentials, Material, SystemClock};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::feed::HandsOn;
use crate::http::Http;
use crate::keeper::Keeper;
use crate::state::{self, StateError, TokenDigest};
use crate::{Error, Event};

/// Who this process is: a private key that never leaves it, a certificate that renews itself, trust anchors and CRLs that
/// keep up. Clones share one identity; with the last of them its renewal ends.
///
/// It is the [`Credentials`] of a [`Verifier`](chancery_verifier::Verifier), and gives clients for services.
#[derive(Clone)]
pub struct Identity {
    keeper: Arc<Keeper>,
    _tasks: Arc<Tasks>,
}

impl Identity {
    /// The identity that the environment names, told about on standard error.
    ///
    /// `CHANCERY_JOIN`, or the file `CHANCERY_JOIN_FILE`, holds the join string for the first start; later starts resume
    /// from `CHANCERY_STATE_DIR`, or without that from `$XDG_STATE_HOME/chancery`, where `CHANCERY_AGENT` picks one of
    /// several.
    ///
    /// # Errors
    /// See [`Error`]. While a certificate is valid, an issuer that does not answer is none.
    pub async fn from_env() -> Result<Self, Error> {
        Self::builder().or_env()?.observe(|event| eprintln!("chancery: {event}")).start().await
    }

    /// An identity piece by piece.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The SPIFFE ID.
    pub fn spiffe_id(&self) -> SpiffeId {
        self.keeper.held().certificate.spiffe_id.clone()
    }

    /// What the present certificate allows.
    pub fn scopes(&self) -> ScopeSet {
        self.keeper.held().certificate.scopes.clone()
    }

    /// A client for the service at `base_url`, `https://host:port`: mutual TLS with the present certificate, and a peer
    /// that must be a service of our trust domain.
    ///
    /// # Errors
    /// Another form of URL.
    pub fn http(&self, base_url: &str) -> Result<Http, Error> {
        Http::new(base_url, self.keeper.to_services())
    }

    /// A client for the issuer, with the present certificate.
    ///
    /// # Errors
    /// None in practice: the issuer's URL is the one that gave the certificate.
    pub fn issuer(&self) -> Result<Client, Error> {
        self.keeper.issuer()
    }

    /// The material for somebody who hands it on, as files for instance: CRLs are asked for each second, and where the
    /// identity is a service's, which may read the feed, as soon as that tells of a revocation.
    pub fn hand_on(&self) -> HandOn {
        let mut newest = self.keeper.material();
        newest.mark_changed();
        let may_read_feed = matches!(self.spiffe_id().principal(), Principal::Service(_));
        HandOn { newest, _feed: may_read_feed.then(|| self.keeper.verifiers().hand_on()) }
    }

    /// The folder that keeps this identity. Nothing but Chancery writes to it.
    pub fn state_folder(&self) -> &Path {
        self.keeper.folder()
    }
}

/// The material of an identity, kept as fresh as it can be for those who hand it on.
pub struct HandOn {
    newest: watch::Receiver<Arc<Material>>,
    _feed: Option<HandsOn>,
}

impl HandOn {
    /// The present material at first, then waits for what replaces it. `None` once the identity is gone.
    pub async fn next(&mut self) -> Option<Arc<Material>> {
        self.newest.changed().await.ok()?;
        Some(Arc::clone(&self.newest.borrow_and_update()))
    }
}

impl fmt::Debug for HandOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandOn").finish_non_exhaustive()
    }
}

impl Credentials for Identity {
    fn material(&self) -> watch::Receiver<Arc<Material>> {
        self.keeper.material()
    }

    /// From now on the issuer's feed is followed, until the last verifier is gone.
    fn attach(&self) -> Box<dyn Attached> {
        self.keeper.verifiers().attach()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("spiffe_id", &self.spiffe_id().as_str()).finish_non_exhaustive()
    }
}

/// What keeps the identity up to date, ended with its last handle.
struct Tasks([AbortHandle; 4]);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

/// Where an identity comes from, where it is kept, and who hears about it.
#[derive(Default)]
pub struct Builder {
    join: Option<JoinString>,
    state_dir: Option<PathBuf>,
    state_home: Option<PathBuf>,
    agent: Option<Name>,
    observer: Option<Observer>,
    clock: Option<Arc<dyn Clock>>,
}

/// Hears what happens to an identity.
pub(crate) type Observer = Box<dyn Fn(&Event) + Send + Sync>;

impl Builder {
    /// Joins with this, unless it did already.
    #[must_use]
    pub fn join(mut self, join: JoinString) -> Self {
        self.join = Some(join);
        self
    }

    /// Joins with the join string in this file.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else.
    pub fn join_file(self, path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path)
            .map(zeroize::Zeroizing::new)
            .map_err(|source| Error::JoinFile { path: path.to_path_buf(), source })?;
        Ok(self.join(text.parse()?))
    }

    /// Keeps key and certificate in exactly this folder.
    #[must_use]
    pub fn state_dir(mut self, path: &Path) -> Self {
        self.state_dir = Some(path.to_path_buf());
        self
    }

    /// The name of the agent or service, to find its folder among several.
    #[must_use]
    pub fn agent(mut self, name: Name) -> Self {
        self.agent = Some(name);
        self
    }

    /// Tells what happens. Without this it goes to `tracing`.
    #[must_use]
    pub fn observe(mut self, observer: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// Takes the time from here.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// What is not set yet, from the environment: see [`Identity::from_env`].
    ///
    /// # Errors
    /// A variable that is not of its form.
    pub fn or_env(mut self) -> Result<Self, Error> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        if self.join.is_none()
            && let Some(text) = variable("CHANCERY_JOIN")
        {
            let text = text.to_str().ok_or(JoinStringError::Form)?;
            self.join = Some(text.parse()?);
        }
        if self.join.is_none()
            && let Some(path) = variable("CHANCERY_JOIN_FILE")
        {
            self = self.join_file(Path::new(&path))?;
        }
        if self.agent.is_none()
            && let Some(name) = variable("CHANCERY_AGENT")
        {
            let parsed = name.to_string_lossy().parse::<Name>();
            let refused = |error: chancery_identity::NameError| Error::Variable {
                name: "CHANCERY_AGENT",
                why: error.to_string(),
            };
            self.agent = Some(parsed.map_err(refused)?);
        }
        self.state_dir = self.state_dir.or_else(|| variable("CHANCERY_STATE_DIR").map(PathBuf::from));
        // XDG Base Directory Specification: without XDG_STATE_HOME it is $HOME/.local/state; relative paths are ignored.
        let home = || variable("HOME").map(|home| Path::new(&home).join(".local/state"));
        let state_home = variable("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        self.state_home = state_home.or_else(home).map(|path| path.join("chancery"));
        Ok(self)
    }

    /// Resumes the identity from its folder; joins when there is none, or when the join string is a new one. Returns once
    /// there is a valid certificate.
    ///
    /// # Errors
    /// See [`Error`]. While a certificate is valid, an issuer that does not answer is none.
    pub async fn start(self) -> Result<Identity, Error> {
        let folder = self.folder()?;
        let observer = self.observer.unwrap_or_else(|| Box::new(|event| tracing::info!("{event}")));
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock));
        let keeper = Arc::new(Keeper::start(folder, self.join, observer, clock).await?);
        let tasks = Arc::new(Tasks(keeper.keep()));
        Ok(Identity { keeper, _tasks: tasks })
    }

    fn folder(&self) -> Result<PathBuf, Error> {
        if let Some(path) = &self.state_dir {
            return Ok(path.clone());
        }
        let base = self.state_home.as_deref().ok_or(StateError::NoHome)?;
        let token = self.join.as_ref().map(|join| TokenDigest::of(join.secret()));
        Ok(state::default_path(base, self.agent.as_ref().map(Name::as_str), token.as_ref())?)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("join", &self.join).field("state_dir", &self.state_dir).finish_non_exhaustive()
    }
}
