//! `chancery config`: reading a configuration without running it.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use super::serve::{CONFIG_DEFAULT, chain};
use super::{Context, Exit, Failure, Global};
use crate::config::{Config, SealSource, text};

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say whether a configuration could be served.
    #[command(after_help = "Examples:\n  chancery config check chancery.toml")]
    Check {
        /// The file; CHANCERY_CONFIG otherwise, or what `serve` takes by default.
        file: Option<PathBuf>,
    },
    /// Show every value, and where it comes from: a flag, the environment, the file or a default.
    #[command(after_help = "Examples:\n  chancery config show chancery.toml\n  chancery config show --json")]
    Show {
        /// The file; CHANCERY_CONFIG otherwise, or what `serve` takes by default.
        file: Option<PathBuf>,
    },
}

impl ConfigCommand {
    pub(crate) fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        match self {
            Self::Check { file } => {
                let path = file.or_else(|| context.global.config.clone()).unwrap_or_else(|| CONFIG_DEFAULT.into());
                let config = Config::load(&path).map_err(|error| Failure::usage(chain(&error)))?;
                let words = format!("{} is good: trust domain {}", path.display(), config.trust_domain);
                context.output.result(&json!({ "ok": true }), &words);
            }
            Self::Show { file } => {
                let packaged = Some(PathBuf::from(CONFIG_DEFAULT)).filter(|path| path.exists());
                let mut shown = of_the_command_line(context.global);
                if let Some(path) = file.or_else(|| context.global.config.clone()).or(packaged) {
                    shown.extend(of_the_file(&path)?);
                }
                show(context, &shown);
            }
        }
        Ok(Exit::Done)
    }
}

/// A value, and where it comes from.
struct Shown {
    key: &'static str,
    value: String,
    origin: &'static str,
}

fn show(context: &Context<'_>, shown: &[Shown]) {
    let line = |Shown { key, value, origin }: &Shown| format!("{key:24}  {value:40}  {origin}");
    let entry = |Shown { key, value, origin }: &Shown| ((*key).to_owned(), json!({ "value": value, "origin": origin }));
    let body: serde_json::Map<_, _> = shown.iter().map(entry).collect();
    context.output.result(&body.into(), &shown.iter().map(line).collect::<Vec<_>>().join("\n"));
}

/// What flags and the environment say to every command. Of secrets only that they are there.
fn of_the_command_line(global: &Global) -> Vec<Shown> {
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let given = [
        ("config", path(&global.config)),
        ("issuer", global.issuer.clone()),
        ("pin", global.pin.map(|pin| pin.to_string())),
        ("token_file", path(&global.token_file)),
        ("output", Some(global.form().word())),
        ("timeout", Some(text(global.timeout))),
    ];
    let mut shown: Vec<Shown> = given
        .into_iter()
        .map(|(key, value)| Shown { key, value: value.unwrap_or_else(|| "-".into()), origin: global.origin(key) })
        .collect();
    let variable = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    for (key, name, secret) in [
        ("token", "CHANCERY_TOKEN", true),
        ("join", "CHANCERY_JOIN", true),
        ("join_file", "CHANCERY_JOIN_FILE", false),
        ("agent", "CHANCERY_AGENT", false),
        ("state_dir", "CHANCERY_STATE_DIR", false),
        ("no_color", "NO_COLOR", false),
    ] {
        let value = match variable(name) {
            false => "-".to_owned(),
            true if secret => "(set, not shown)".to_owned(),
            true => std::env::var(name).unwrap_or_default(),
        };
        shown.push(Shown { key, value, origin: if variable(name) { "environment" } else { "default" } });
    }
    shown
}

fn of_the_file(path: &Path) -> Result<Vec<Shown>, Failure> {
    let config = Config::load(path).map_err(|error| Failure::usage(chain(&error)))?;
    let written: toml::Table = std::fs::read_to_string(path).map_err(Failure::here)?.parse().map_err(Failure::usage)?;
    let origin = |key| if stands_in(&written, key) { "file" } else { "default" };
    Ok(values(&config).into_iter().map(|(key, value)| Shown { key, value, origin: origin(key) }).collect())
}

fn values(config: &Config) -> Vec<(&'static str, String)> {
    let seal = match &config.seal {
        SealSource::File(path) => format!("file:{}", path.display()),
        SealSource::Credential(name) => format!("credential:{name}"),
    };
    let mut values = vec![
        ("trust_domain", config.trust_domain.to_string()),
        ("data_dir", config.data_dir.display().to_string()),
        ("public_url", config.public_url.to_string()),
        ("status_url", config.status_url.to_string()),
        ("dns_suffixes", config.dns_suffixes.join(" ")),
        ("listen.api", config.listen.api.to_string()),
        ("listen.status", config.listen.status.to_string()),
        ("listen.admin_socket", config.listen.admin_socket.display().to_string()),
        ("listen.metrics", config.listen.metrics.map_or_else(|| "-".into(), |address| address.to_string())),
        ("store.url", without_password(&config.store_url)),
        ("keys.root", config.root.to_string()),
        ("keys.seal", seal),
        ("ttl.leaf", text(config.ttl.leaf)),
        ("ttl.task_max", text(config.ttl.task_max)),
        ("ttl.authority", text(config.ttl.authority)),
        ("ttl.root", text(config.ttl.root)),
        ("ttl.rejoin_within", text(config.ttl.rejoin_within)),
        ("ttl.max_session", text(config.ttl.max_session)),
        ("freshness.stale_after", text(config.freshness.stale_after)),
        ("freshness.expired_after", text(config.freshness.expired_after)),
    ];
    let roots = config.x509pop_roots.as_ref().map_or_else(|| "-".into(), |roots| roots.display().to_string());
    values.push(("x509pop.roots", roots));
    values
}

fn stands_in(table: &toml::Table, key: &str) -> bool {
    match key.split_once('.') {
        None => table.contains_key(key),
        Some((section, key)) => {
            table.get(section).and_then(toml::Value::as_table).is_some_and(|section| section.contains_key(key))
        }
    }
}

/// A database URL may hold a password, which nobody needs to see.
fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rfind('@')) {
        (Some((scheme, rest)), Some(at)) => {
            let user = rest.split([':', '@']).next().unwrap_or_default();
            format!("{scheme}://{user}{}", url.get(at..).unwrap_or_default())
        }
        _ => url.into(),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn every_key_of_the_file_is_shown() {
        let free = "127.0.0.1:0".parse().unwrap();
        let config = Config::dev("chancery-dev".into(), free, free).unwrap();
        let shown: Vec<_> = values(&config).into_iter().map(|(key, _)| key).collect();
        assert_eq!(shown, crate::config::KEYS);
    }

    #[test]
    fn a_password_is_not_shown() {
        assert_eq!(without_password("postgres://u:s3cret@db/x"), "postgres://u@db/x");
        assert_eq!(without_password("postgres://u:p@ss@db/x"), "postgres://u@db/x");
        assert_eq!(without_password("postgres://u@db/x"), "postgres://u@db/x");
        assert_eq!(without_password("sqlite:chancery.db"), "sqlite:chancery.db");
    }
}
