//! What a configuration file says, before anything of it is believed.

use std::path::PathBuf;

use serde::Deserialize;

use super::{ConfigError, Freshness, Ttl, duration};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) trust_domain: String,
    pub(super) data_dir: PathBuf,
    pub(super) public_url: String,
    pub(super) status_url: String,
    #[serde(default)]
    pub(super) dns_suffixes: Vec<String>,
    #[serde(default)]
    pub(super) listen: ListenFile,
    #[serde(default)]
    pub(super) store: StoreFile,
    pub(super) keys: KeysFile,
    #[serde(default)]
    pub(super) ttl: TtlFile,
    #[serde(default)]
    pub(super) freshness: FreshnessFile,
    #[serde(default)]
    pub(super) x509pop: X509popFile,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ListenFile {
    pub(super) api: String,
    pub(super) status: String,
    pub(super) admin_socket: Option<PathBuf>,
    pub(super) metrics: Option<String>,
}

impl Default for ListenFile {
    fn default() -> Self {
        Self { api: "0.0.0.0:8443".into(), status: "0.0.0.0:8080".into(), admin_socket: None, metrics: None }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoreFile {
    pub(super) url: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeysFile {
    pub(super) root: Option<String>,
    pub(super) seal: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TtlFile {
    pub(super) leaf: String,
    pub(super) task_max: String,
    pub(super) authority: String,
    pub(super) root: String,
    pub(super) rejoin_within: String,
    pub(super) max_session: String,
}

impl Default for TtlFile {
    fn default() -> Self {
        let [leaf, task_max, authority, root, rejoin_within, max_session] =
            ["1h", "15m", "90d", "3650d", "24h", "24h"].map(String::from);
        Self { leaf, task_max, authority, root, rejoin_within, max_session }
    }
}

impl TtlFile {
    pub(super) fn resolve(&self) -> Result<Ttl, ConfigError> {
        Ok(Ttl {
            leaf: duration("ttl.leaf", &self.leaf)?,
            task_max: duration("ttl.task_max", &self.task_max)?,
            authority: duration("ttl.authority", &self.authority)?,
            root: duration("ttl.root", &self.root)?,
            rejoin_within: duration("ttl.rejoin_within", &self.rejoin_within)?,
            max_session: duration("ttl.max_session", &self.max_session)?,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FreshnessFile {
    pub(super) stale_after: String,
    pub(super) expired_after: String,
}

impl Default for FreshnessFile {
    fn default() -> Self {
        Self { stale_after: "30s".into(), expired_after: "15m".into() }
    }
}

impl FreshnessFile {
    pub(super) fn resolve(&self) -> Result<Freshness, ConfigError> {
        Ok(Freshness {
            stale_after: duration("freshness.stale_after", &self.stale_after)?,
            expired_after: duration("freshness.expired_after", &self.expired_after)?,
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct X509popFile {
    pub(super) roots: Option<PathBuf>,
}
