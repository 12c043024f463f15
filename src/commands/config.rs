//! `chancery config`: reading a configuration without running it.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use super::{Context, Exit, Failure};
use crate::config::{Config, SealSource, text};

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say whether a configuration could be served.
    #[command(after_help = "Examples:\n  chancery config check chancery.toml")]
    Check {
        /// The file; CHANCERY_CONFIG otherwise.
        file: Option<PathBuf>,
    },
    /// Show every value, and whether the file or a default gave it.
    #[command(after_help = "Examples:\n  chancery config show chancery.toml")]
    Show {
        /// The file; CHANCERY_CONFIG otherwise.
        file: Option<PathBuf>,
    },
}

impl ConfigCommand {
    pub(crate) fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        let (Self::Check { file } | Self::Show { file }) = &self;
        let path = file.as_ref().or(context.global.config.as_ref()).ok_or_else(|| {
            Failure::usage("no configuration file: neither an argument, --config nor CHANCERY_CONFIG")
        })?;
        let config = Config::load(path).map_err(Failure::usage)?;
        match self {
            Self::Check { .. } => {
                let words = format!("{} is good: trust domain {}", path.display(), config.trust_domain);
                context.output.result(&json!({ "ok": true }), &words);
            }
            Self::Show { .. } => show(context, path, &config)?,
        }
        Ok(Exit::Done)
    }
}

fn show(context: &Context<'_>, path: &Path, config: &Config) -> Result<(), Failure> {
    let written: toml::Table = std::fs::read_to_string(path).map_err(Failure::here)?.parse().map_err(Failure::usage)?;
    let mut lines = Vec::new();
    let mut body = serde_json::Map::new();
    for (key, value) in values(config) {
        let origin = if stands_in(&written, key) { "file" } else { "default" };
        lines.push(format!("{key:24}  {value:40}  {origin}"));
        body.insert(key.into(), json!({ "value": value, "origin": origin }));
    }
    context.output.result(&body.into(), &lines.join("\n"));
    Ok(())
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
        ("store.url", without_password(&config.store_url)),
        ("keys.root", "managed".into()),
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
    if let Some(roots) = &config.x509pop_roots {
        values.push(("x509pop.roots", roots.display().to_string()));
    }
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
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        assert_eq!(without_password("postgres://u:s3cret@db/x"), "postgres://u@db/x");
        assert_eq!(without_password("postgres://u:p@ss@db/x"), "postgres://u@db/x");
        assert_eq!(without_password("postgres://u@db/x"), "postgres://u@db/x");
        assert_eq!(without_password("sqlite:chancery.db"), "sqlite:chancery.db");
    }
}
