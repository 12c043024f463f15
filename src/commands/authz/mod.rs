//! `chancery authz`: decisions for services that are not in Rust, by the same guard.

mod address;
mod authorities;
mod certificate;
mod decide;
mod envoy;
mod http;
mod protobuf;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use chancery_agent::Identity;
use chancery_verifier::{Credentials, Rules, StartError, Verifier};
use clap::{Args, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::address::{Address, Bound};
use self::authorities::Authorities;
use self::decide::Decider;
use super::kept_files::KeptFiles;
use super::on_change::command;
use super::workload::Workload;
use super::{Context, Exit, Failure};
use crate::config::text;

/// How long answers under way may take once we are told to stop.
const DRAIN: Duration = Duration::from_secs(3);

#[derive(Debug, Subcommand)]
pub(super) enum Authz {
    Serve(Box<Serve>),
}

/// Tell a proxy or a service, request by request, who may pass.
///
/// The proxy ends TLS and forwards the client's certificate; each request is decided as the Rust verifier decides it, by one
/// file of rules: chain, validity, revocation and scope. On every address:
///
///   /auth-request   nginx: Client-Cert, X-Original-Method, X-Original-URI; answers 200, 401 or 403
///   /forward-auth   Caddy, Traefik, your own: X-Forwarded-Tls-Client-Cert, -Method, -Uri; the refusal's own status
///   gRPC            Envoy ext_authz v3, include_peer_certificate: true
///   /readyz         200 while what is known of revocations serves
///
/// What is allowed has the headers Chancery-Spiffe-Id, Chancery-Scopes and Chancery-Knowledge for the service; a refusal is a
/// problem document. The proxy must set every header named here itself: what a client sends under these names is not to get
/// through. The certificate's systems are those of the identity, which is the service's.
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:
  CHANCERY_JOIN_FILE=/run/secrets/join chancery authz serve --rules rules.toml --listen unix:/run/crm/authz.sock --socket-mode 660
  chancery authz serve --rules rules.toml --listen 127.0.0.1:9191 --dir /run/crm-tls --on-change 'nginx -s reload'
  chancery authz serve --rules rules.toml --listen 10.0.0.7:9191 --trust-network"
)]
pub(super) struct Serve {
    #[command(flatten)]
    workload: Workload,

    /// Which requests need which scope: system, [[rule]] method path scope, [[public]] path.
    #[arg(long, value_name = "FILE")]
    rules: PathBuf,

    /// Where to answer: HOST:PORT of loopback, or unix:PATH; repeat for more.
    #[arg(long, required = true, value_name = "ADDRESS")]
    listen: Vec<Address>,

    /// The mode of Unix sockets: 660 lets a proxy of the same group ask.
    #[arg(long, default_value = "600", value_name = "MODE", value_parser = mode)]
    socket_mode: u32,

    /// Answer on other addresses than loopback, in plain HTTP. Whoever stands between can turn a refusal into leave, and whoever
    /// can connect learns what a certificate may do.
    #[arg(long)]
    trust_network: bool,

    /// Keep the identity in files here too, as `chancery sidecar` does: for the proxy's own certificate.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// Run this command after those files were replaced; one that fails is run again.
    #[arg(long, requires = "dir", value_name = "COMMAND", value_parser = command)]
    on_change: Option<String>,
}

impl Authz {
    pub(super) async fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        let Self::Serve(serve) = self;
        let mut terminate = signal(SignalKind::terminate()).map_err(Failure::here)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::here)?;
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        Box::pin(serve.run(context, stop)).await
    }
}

impl Serve {
    async fn run(self, context: &Context<'_>, stop: impl Future<Output = ()>) -> Result<Exit, Failure> {
        let rules = read(&self.rules)?;
        let summary = rules.to_string();
        for address in &self.listen {
            address.check(self.trust_network)?;
        }
        let mut files = self.dir.map(|dir| KeptFiles::new(dir, self.on_change)).transpose()?;
        tokio::pin!(stop);
        let starting = async {
            let identity = self.workload.start().await?;
            // Before the verifier: one that hears the feed needs no CRLs, and would have the identity forget them.
            let material = files.is_some().then(|| identity.hand_on());
            Ok::<_, Failure>((verifier(&identity).await?, material, identity))
        };
        let (verifier, material, identity) = tokio::select! {
            started = starting => started?,
            () = stop.as_mut() => return Ok(Exit::Done),
        };
        let guard = verifier.guard(rules).map_err(|refused| at(&self.rules, &refused))?;
        let authorities = Arc::new(Authorities::of(&identity));
        let router = http::router(Decider::new(guard, Arc::clone(&authorities)));

        let mut tasks = JoinSet::new();
        let (stopping, stopped) = watch::channel(false);
        let mut listening = Vec::new();
        for address in &self.listen {
            let bound = address.bind(self.socket_mode).await?;
            listening.push(bound.to_string());
            tasks.spawn(answer(bound, router.clone(), stopped.clone()));
        }
        announce(context, &identity, &verifier, &summary, &listening);

        let kept = async {
            match (&mut files, material) {
                (Some(files), Some(material)) => files.keep(material).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.as_mut() => {}
            Some(ended) = tasks.join_next() => return Err(match ended {
                Ok(Err(error)) => Failure::here(format!("answers nothing any more: {error}")),
                _ => Failure::here("answers nothing any more"),
            }),
            () = authorities.keep(&identity) => {}
            () = kept => {}
        }
        stopping.send_replace(true);
        let drained = async { while tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(DRAIN, drained).await;
        Ok(Exit::Done)
    }
}

fn read(path: &Path) -> Result<Rules, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| at(path, &error))?;
    Rules::from_toml(&text).map_err(|refused| at(path, &refused))
}

fn at(path: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::usage(format!("{}: {why}", path.display()))
}

async fn verifier(identity: &Identity) -> Result<Verifier, Failure> {
    match Verifier::start(identity.clone()).await {
        Ok(verifier) => Ok(verifier),
        Err(expired @ StartError::Knowledge(_)) => Err(Failure::unreachable(expired)),
        Err(refused) => Err(Failure::here(refused)),
    }
}

async fn answer(bound: Bound, router: Router, mut stopped: watch::Receiver<bool>) -> std::io::Result<()> {
    let stop = async move {
        // The sender is gone only with the program.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    match bound {
        Bound::Tcp(listener) => axum::serve(listener, router).with_graceful_shutdown(stop).await,
        Bound::Unix(listener) => axum::serve(listener.socket, router).with_graceful_shutdown(stop).await,
    }
}

fn announce(context: &Context<'_>, identity: &Identity, verifier: &Verifier, rules: &str, listening: &[String]) {
    let status = verifier.status();
    let systems: Vec<String> = status.systems.iter().map(ToString::to_string).collect();
    let limits = identity.material().borrow().freshness;
    let say = |line: String| context.output.say(&format!("chancery: {line}"));
    say(format!("decides for {}  serves system {}", identity.spiffe_id(), systems.join(", ")));
    say(format!("{rules}, everything else refused"));
    say(format!(
        "revocations {}  |  stale after {}: served and flagged; expired after {}: refused",
        status.knowledge,
        text(limits.stale_after),
        text(limits.expired_after),
    ));
    say(format!("answers on {}", listening.join(", ")));
}

fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| format!("wanted an octal mode like 660, got {text:?}"))
}
