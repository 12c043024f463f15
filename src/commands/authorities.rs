//! `chancery authorities`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Subcommand;
use ring::rand::SystemRandom;
use serde_json::json;

use chancery_api::{AuthorityView, HeadKeyView, ImportRequest, Imported, RotateRequest, Rotation};
use chancery_identity::{Effect, KeyId, Target};

use super::output::print;
use super::records::{Page, get, list};
use super::serve::{CONFIG_DEFAULT, chain};
use super::{Context, Exit, Failure, stop};
use crate::authority::{self, Handed, Requested, Seal, Taken};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, RootKey};
use crate::store::Store;

const PATH: &str = "/v1/admin/authorities";

#[derive(Debug, Subcommand)]
pub(crate) enum Authorities {
    /// List authorities, the root first.
    #[command(after_help = "Examples:\n  chancery authorities list -o wide")]
    List(Page),
    /// Show one authority.
    #[command(after_help = "Examples:\n  chancery authorities get 3fa20000000000000000000000000000000000aa")]
    Get {
        /// Its key id.
        key_id: KeyId,
    },
    /// Ask an external root for a certificate. The key is drawn on the issuer's host and waits there, sealed, until the
    /// certificate is imported on that host.
    #[command(after_help = "Examples:
  chancery authorities csr --out issuing.csr
  chancery authorities csr --for head-key --out head-key.csr
  chancery authorities csr --config /etc/chancery/chancery.toml > issuing.csr")]
    Csr {
        /// For an issuing authority, or for a key that signs the feed's heads.
        #[arg(long = "for", value_name = "WHAT", default_value = "issuing")]
        what: Requested,
        /// Where the request goes; stdout without it.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Take in what an external root signed: its certificate and CRL, certificates that were asked for here. PEM.
    #[command(after_help = "Examples:
  chancery authorities import --offline root.pem issuing.pem head-key.pem root-crl.pem
  chancery authorities import head-key.pem
  chancery authorities import root-crl.pem")]
    Import {
        /// The files, in any order.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Into the configured database, which no issuer serves: before the first start.
        #[arg(long)]
        offline: bool,
    },
    /// Make a successor to the issuing authority; it signs once verifiers had the time to learn of it.
    #[command(after_help = "Examples:\n  chancery authorities rotate --dry-run\n  chancery authorities rotate")]
    Rotate,
    /// End an issuing authority for good: nothing that it signed is accepted any more, and a successor signs.
    #[command(after_help = "Examples:
  chancery authorities retire 3fa20000000000000000000000000000000000aa --comment 'host was open' --reason key_compromise")]
    Retire {
        /// Its key id.
        key_id: KeyId,
        #[command(flatten)]
        why: stop::Why,
    },
}

impl Authorities {
    pub(crate) async fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        match self {
            Self::List(page) => list::<AuthorityView>(context, PATH, &page, &[]).await,
            Self::Get { key_id } => get::<AuthorityView>(context, &format!("{PATH}/{key_id}")).await,
            Self::Csr { what, out } => csr(context, what, out).await,
            Self::Import { files, offline } => import(context, &files, offline).await,
            Self::Rotate => rotate(context).await,
            Self::Retire { key_id, why } => {
                stop::stop(context, Effect::Retire, vec![Target::Authority(key_id)], why).await
            }
        }
    }
}

/// On the issuer's own host, whether it runs or not: nothing but its configuration and its seal is needed.
async fn csr(context: &Context<'_>, what: Requested, out: Option<PathBuf>) -> Result<Exit, Failure> {
    let config = configured(context)?;
    if config.root != RootKey::External {
        return Err(
            Failure::usage("keys.root is \"managed\": the root signs by itself").fix("chancery authorities rotate")
        );
    }
    if context.global.dry_run {
        context.output.say("would draw a key, and ask for its certificate");
        return Ok(Exit::Done);
    }
    std::fs::create_dir_all(&config.data_dir).map_err(Failure::here)?;
    let seal = Seal::open(&config.seal).map_err(|error| Failure::here(chain(&error)))?;
    let pem = authority::request(what, &config.trust_domain, &config.data_dir, &seal, &SystemRandom::new()).await;
    let pem = pem.map_err(|error| Failure::here(chain(&error)))?;
    match out {
        None => print(pem.trim_end()),
        Some(path) => {
            std::fs::write(&path, pem).map_err(|error| Failure::here(format!("{}: {error}", path.display())))?;
            context.output.say(&format!(
                "request in {}; its key waits, sealed, in {} of this host",
                path.display(),
                config.data_dir.display()
            ));
        }
    }
    Ok(Exit::Done)
}

async fn import(context: &Context<'_>, files: &[PathBuf], offline: bool) -> Result<Exit, Failure> {
    let mut pem = String::new();
    for file in files {
        let text = std::fs::read_to_string(file);
        pem.push_str(&text.map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?);
        pem.push('\n');
    }
    if offline {
        return import_offline(context, &pem).await;
    }
    let request = ImportRequest { pem, dry_run: context.global.dry_run };
    let answer = context.issuer().await?.ask::<Imported>(&format!("{PATH}/import"), &request).await?;
    let Imported { crl_number, issuing, head_key } = &answer.value;
    let mut lines = Vec::new();
    lines.extend(crl_number.as_ref().map(|number| format!("root CRL  {number}")));
    lines.extend(issuing.as_ref().map(|AuthorityView { key_id, state, not_after, log_index, .. }| {
        format!("authority {key_id}  {}  until {}  log {log_index}", state.as_str(), not_after.to_seconds_text())
    }));
    lines.extend(
        head_key.as_ref().map(|HeadKeyView { key_id, signs_from_at }| {
            format!("head key  {key_id}  signs heads from {signs_from_at}")
        }),
    );
    if lines.is_empty() {
        lines.push(
            if request.dry_run { "it can be imported" } else { "nothing new: all of it is there already" }.into(),
        );
    }
    context.output.result(&answer.body, &lines.join("\n"));
    Ok(Exit::Done)
}

async fn import_offline(context: &Context<'_>, pem: &str) -> Result<Exit, Failure> {
    let config = configured(context)?;
    if context.global.dry_run {
        return Err(Failure::usage("--dry-run asks a running issuer; --offline means that there is none"));
    }
    let failed = |error: &dyn std::error::Error| Failure::here(chain(error));
    let handed = Handed::read(pem.as_bytes()).map_err(|error| Failure::usage(chain(&error)))?;
    std::fs::create_dir_all(&config.data_dir).map_err(Failure::here)?;
    let seal = Seal::open(&config.seal).map_err(|error| failed(&error))?;
    let url = config.database_url();
    Store::migrate(&url).await.map_err(|error| failed(&error))?;
    let (clock, rng) = (Arc::new(SystemClock), SystemRandom::new());
    let store = Store::open(&url, clock.clone(), Arc::new(rng.clone())).await.map_err(|error| failed(&error))?;
    let writing = tokio::time::timeout(context.global.timeout, store.write("chancery authorities import")).await;
    let writing =
        writing.map_err(|_| Failure::here("an issuer serves the database").fix("import without --offline"))?;
    let writing = writing.map_err(|error| failed(&error))?;
    let taken = authority::import_offline(&config, &seal, &store, &rng, handed, clock.now()).await;
    writing.stop().await;
    store.close().await;
    let Taken { root, crl, issuing, head_key } = taken.map_err(|error| failed(&error))?;
    let text = |what: &str, id: Option<String>| id.map(|id| format!("{what}  {id}"));
    let lines = [
        text("root      ", root.map(|root| root.reply().to_string())),
        text("root CRL  ", crl.map(|crl| crl.reply().to_string())),
        text("authority ", issuing.map(|issuing| issuing.reply().to_string())),
        text("head key  ", head_key.map(|key| key.reply().key_id.to_string())),
    ];
    let lines: Vec<_> = lines.into_iter().flatten().collect();
    let words = if lines.is_empty() { "nothing new: all of it is there already".to_owned() } else { lines.join("\n") };
    context.output.result(&json!({ "imported": lines }), &words);
    Ok(Exit::Done)
}

/// The issuer's configuration, as `serve` finds it.
fn configured(context: &Context<'_>) -> Result<Config, Failure> {
    let path = context.global.config.as_deref().unwrap_or(CONFIG_DEFAULT.as_ref());
    Config::load(path).map_err(|error| Failure::usage(chain(&error)))
}

async fn rotate(context: &Context<'_>) -> Result<Exit, Failure> {
    let request = RotateRequest { dry_run: context.global.dry_run };
    let answer = context.issuer().await?.ask::<Rotation>(&format!("{PATH}/rotate"), &request).await?;
    let Rotation { present, successor, signs_from_at } = &answer.value;
    let text = match successor {
        None => format!("would make a successor to {present}, which signs from {signs_from_at}"),
        Some(successor) => {
            let AuthorityView { key_id, log_index, not_after, .. } = successor;
            let until = not_after.to_seconds_text();
            format!(
                "authority {key_id}  until {until}  log {log_index}\n  signs from  {signs_from_at}, {present} until then"
            )
        }
    };
    context.output.result(&answer.body, &text);
    Ok(Exit::Done)
}
