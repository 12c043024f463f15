//! `chancery serve`: the issuer.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use ring::rand::SystemRandom;
use tokio::signal::unix::{SignalKind, signal};

use super::{Context, Exit, Failure};
use crate::authority::Seal;
use crate::clock::SystemClock;
use crate::config::{Config, SealSource};
use crate::server::Server;

/// Where the packaged configuration stands.
pub(super) const CONFIG_DEFAULT: &str = "/etc/chancery/chancery.toml";
const DEV_FOLDER: &str = "chancery-dev";

/// Run the issuer.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  chancery serve --dev
  chancery serve --dev --keep
  chancery serve --config /etc/chancery/chancery.toml")]
pub(super) struct Serve {
    /// On loopback, with its data in ./chancery-dev, removed on exit.
    #[arg(long)]
    dev: bool,
    /// With --dev: leave the data, and go on with what an earlier run left.
    #[arg(long, requires = "dev")]
    keep: bool,
    /// With --dev: where the API listens; port 0 takes a free one.
    #[arg(long, requires = "dev", default_value = "127.0.0.1:8443", value_name = "ADDRESS")]
    api: SocketAddr,
    /// With --dev: where CRLs are served; port 0 takes a free one.
    #[arg(long, requires = "dev", default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    status: SocketAddr,
}

impl Serve {
    pub(super) async fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        log_to_stderr(context.global.verbose);
        let started = Instant::now();
        let dev = if self.dev { Some(DevFolder::open(DEV_FOLDER.into(), self.keep)?) } else { None };
        let config = match &dev {
            Some(folder) => Config::dev(folder.path.clone(), self.api, self.status),
            None => Config::load(context.global.config.as_deref().unwrap_or(CONFIG_DEFAULT.as_ref())),
        };
        let config = config.map_err(|error| Failure::usage(chain(&error)))?;
        std::fs::create_dir_all(&config.data_dir)
            .map_err(|error| Failure::here(format!("{}: {error}", config.data_dir.display())))?;
        if let (true, SealSource::File(path)) = (config.dev, &config.seal)
            && !path.exists()
        {
            Seal::create(path, &SystemRandom::new()).map_err(|error| Failure::here(chain(&error)))?;
        }
        let stop = stop_signal()?;
        let server =
            Server::start(config, Arc::new(SystemClock)).await.map_err(|error| Failure::here(chain(&error)))?;
        announce(&server, &dev, started);
        let ended = server.run(stop).await;
        drop(dev);
        ended.map(|()| Exit::Done).map_err(|stopped| Failure::here(chain(&stopped)))
    }
}

/// The folder of `--dev`, removed when it goes out of use unless it is kept.
struct DevFolder {
    path: PathBuf,
    keep: bool,
}

impl DevFolder {
    fn open(path: PathBuf, keep: bool) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::here(format!("{}: {error}", path.display()));
        // What an earlier run left, killed or kept, is nobody's unless it is asked for.
        if !keep && path.join("chancery.db").exists() {
            let socket = path.join("admin.sock");
            if std::os::unix::net::UnixStream::connect(socket).is_ok() {
                return Err(Failure::here(format!("an issuer runs on {} already", path.display())));
            }
            std::fs::remove_dir_all(&path).map_err(failed)?;
        }
        std::fs::create_dir_all(&path).map_err(failed)?;
        Ok(Self { path, keep })
    }
}

impl Drop for DevFolder {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            tracing::warn!(%error, "{} is not removed", self.path.display());
        }
    }
}

fn announce(server: &Server, dev: &Option<DevFolder>, started: Instant) {
    let issuer = server.issuer();
    let config = issuer.config();
    let version = env!("CARGO_PKG_VERSION");
    match dev {
        Some(DevFolder { path, keep }) => {
            let fate = if *keep { "kept" } else { "removed on exit unless --keep" };
            eprintln!("chancery {version}  DEV: data in ./{} ({fate}), loopback only", path.display());
        }
        None => eprintln!("chancery {version}  data in {}", config.data_dir.display()),
    }
    eprintln!("  trust domain  {}", issuer.trust_domain());
    eprintln!("  root pin      {}     the one value every client checks first", issuer.root_pin());
    eprintln!("  api           {}         status (CRL, OCSP)  {}", config.public_url, config.status_url);
    eprintln!("  you           local administrator by {} (same uid)", config.listen.admin_socket.display());
    if let Some(token) = issuer.first_token() {
        let until = token.expires_at().to_seconds_text();
        eprintln!("  first admin   chancery admins create NAME --first-token-file {}", token.path().display());
        eprintln!("                one use, until {until}; no administrator is registered yet");
    }
    if let Some(why) = issuer.store().rolled_back() {
        eprintln!("ROLLED BACK: {why}");
        eprintln!("  nothing is issued, revoked or signed; reading works over the admin socket");
        eprintln!("  stop this, and look: chancery db restore --new-epoch --dry-run");
        return;
    }
    eprintln!("ready in {} ms", started.elapsed().as_millis());
}

fn stop_signal() -> Result<impl Future<Output = ()>, Failure> {
    let failed = |error: std::io::Error| Failure::here(format!("signals cannot be waited for: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn log_to_stderr(verbose: u8) {
    let default = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| default.into());
    // Another subscriber stands already: a test's.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}

/// An error and what is behind it, on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = error.source();
    }
    text
}
