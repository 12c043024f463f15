//! The configuration file, read once at start and turned into values that cannot contradict each other.

mod file;
mod keys;
mod url;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use chancery_identity::TrustDomain;

use file::{File, FreshnessFile, TtlFile};

#[cfg(test)]
pub(crate) use keys::KEYS;
pub use url::Url;

/// What `serve` runs with. Every field is checked, alone and against the others.
#[derive(Clone, Debug)]
pub struct Config {
    /// Fixed at first start.
    pub trust_domain: TrustDomain,
    /// Where the database and the local sockets stand.
    pub data_dir: PathBuf,
    /// What clients dial; its host becomes a DNS name or address of the issuer's own certificate.
    pub public_url: Url,
    /// Where CRLs and authority certificates are served; written into every certificate.
    pub status_url: Url,
    /// The sockets.
    pub listen: Listen,
    /// The database.
    pub store_url: String,
    /// Where the root's key is.
    pub root: RootKey,
    /// The provider of the key that seals the authorities' keys.
    pub seal: SealSource,
    /// How long things live.
    pub ttl: Ttl,
    /// How long a verifier may rely on what it knows.
    pub freshness: Freshness,
    /// DNS suffixes that services may have names under; empty for none.
    pub dns_suffixes: Vec<String>,
    /// PEM file of roots whose certificates count as `x509pop` evidence.
    pub x509pop_roots: Option<PathBuf>,
    /// Loopback only, short of every promise about the data's future.
    pub dev: bool,
}

/// Where the service listens.
#[derive(Clone, Debug)]
pub struct Listen {
    /// The API, TLS.
    pub api: SocketAddr,
    /// CRLs and authority certificates, plain HTTP.
    pub status: SocketAddr,
    /// The local administrator's socket.
    pub admin_socket: PathBuf,
    /// What Prometheus reads, plain HTTP; `None`: nowhere.
    pub metrics: Option<SocketAddr>,
}

/// Lifetimes.
#[derive(Clone, Copy, Debug)]
pub struct Ttl {
    /// A leaf's, unless its record says otherwise.
    pub leaf: Duration,
    /// A task's, at most.
    pub task_max: Duration,
    /// An issuing authority's.
    pub authority: Duration,
    /// The root's.
    pub root: Duration,
    /// How long after its end a clean lineage may be taken up again with the old key.
    pub rejoin_within: Duration,
    /// The session of an agent that can attest again by itself.
    pub max_session: Duration,
}

/// Ages of a verifier's knowledge.
#[derive(Clone, Copy, Debug)]
pub struct Freshness {
    /// Then served and flagged.
    pub stale_after: Duration,
    /// Then all refused.
    pub expired_after: Duration,
}

/// The shortest life of a leaf.
pub const LEAF_TTL_MIN: Duration = Duration::from_secs(120);
/// How long a CRL is valid.
pub const CRL_VALIDITY: Duration = Duration::from_secs(3600);

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// A file that cannot be read, is no TOML, has an unknown key, or whose values contradict each other.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
        Self::parse(&text)
    }

    /// Checks a configuration's text.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let syntax = |error: toml::de::Error| ConfigError::Syntax(error.to_string());
        if let Some((key, nearest)) = keys::first_unknown(&toml::from_str(text).map_err(syntax)?) {
            return Err(ConfigError::Unknown { key, nearest });
        }
        let file: File = toml::from_str(text).map_err(syntax)?;
        let config = Self {
            trust_domain: value("trust_domain", &file.trust_domain)?,
            listen: Listen {
                api: value("listen.api", &file.listen.api)?,
                status: value("listen.status", &file.listen.status)?,
                admin_socket: file.listen.admin_socket.unwrap_or_else(|| file.data_dir.join("admin.sock")),
                metrics: file.listen.metrics.map(|address| value("listen.metrics", &address)).transpose()?,
            },
            public_url: value("public_url", &file.public_url)?,
            status_url: value("status_url", &file.status_url)?,
            store_url: file.store.url.unwrap_or_else(|| "sqlite:chancery.db".into()),
            root: file.keys.root.as_deref().map_or(Ok(RootKey::Managed), |root| value("keys.root", root))?,
            seal: value("keys.seal", &file.keys.seal)?,
            ttl: file.ttl.resolve()?,
            freshness: file.freshness.resolve()?,
            dns_suffixes: file.dns_suffixes,
            x509pop_roots: file.x509pop.roots,
            data_dir: file.data_dir,
            dev: false,
        };
        config.check()?;
        Ok(config)
    }

    /// The configuration of `serve --dev`: everything in one folder, loopback only.
    pub fn dev(data_dir: PathBuf, api: SocketAddr, status: SocketAddr) -> Result<Self, ConfigError> {
        let config = Self {
            trust_domain: value("trust_domain", "dev.invalid")?,
            public_url: value("public_url", &format!("https://{api}"))?,
            status_url: value("status_url", &format!("http://{status}"))?,
            listen: Listen { api, status, admin_socket: data_dir.join("admin.sock"), metrics: None },
            store_url: "sqlite:chancery.db".into(),
            root: RootKey::Managed,
            seal: SealSource::File(data_dir.join("seal.key")),
            ttl: TtlFile::default().resolve()?,
            freshness: FreshnessFile::default().resolve()?,
            dns_suffixes: vec!["internal".into(), "localhost".into()],
            x509pop_roots: None,
            data_dir,
            dev: true,
        };
        config.check()?;
        Ok(config)
    }

    /// Takes over the ports that `--dev` was given by the system.
    pub(crate) fn took(&mut self, api: SocketAddr, status: SocketAddr) -> Result<(), ConfigError> {
        self.listen.api = api;
        self.listen.status = status;
        self.public_url = value("public_url", &format!("https://{api}"))?;
        self.status_url = value("status_url", &format!("http://{status}"))?;
        Ok(())
    }

    /// The database's URL, a relative SQLite file taken from the data folder.
    pub fn database_url(&self) -> String {
        match self.store_url.strip_prefix("sqlite:") {
            Some(file) => format!("sqlite:{}", self.data_dir.join(file.trim_start_matches("//")).display()),
            None => self.store_url.clone(),
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.public_url.scheme != "https" {
            return Err(ConfigError::value("public_url", "wanted an https URL"));
        }
        if self.status_url.scheme != "http" {
            return Err(ConfigError::value(
                "status_url",
                "wanted an http URL: a CRL is signed, and checked before TLS is",
            ));
        }
        // Whoever reaches it reads how many verifiers are behind, and when keys end: not for all networks by default.
        if let Some(metrics) = self.listen.metrics {
            if metrics.ip().to_canonical().is_unspecified() {
                let why =
                    "it is plain HTTP for whoever reaches it: name the address of one network, like 127.0.0.1:9464";
                return Err(ConfigError::value("listen.metrics", why));
            }
            if [self.listen.api, self.listen.status].contains(&metrics) {
                return Err(ConfigError::value("listen.metrics", "wanted a listener of its own"));
            }
        }
        if self.dev {
            for (key, address) in [("listen.api", self.listen.api), ("listen.status", self.listen.status)] {
                if !address.ip().is_loopback() {
                    return Err(ConfigError::value(key, "--dev listens on loopback only"));
                }
            }
        } else {
            if self.status_url.names_loopback() {
                return Err(ConfigError::value(
                    "status_url",
                    "it is written into every certificate and nobody else can reach loopback; name this host",
                ));
            }
            if let SealSource::File(path) = &self.seal
                && path.starts_with(&self.data_dir)
            {
                return Err(ConfigError::value(
                    "keys.seal",
                    "it stands in data_dir, so that one backup would hold both",
                ));
            }
        }
        let Ttl { leaf, task_max, authority, root, .. } = self.ttl;
        let sum = |key, what: String| Err(ConfigError::Sum { key, what });
        if leaf < LEAF_TTL_MIN {
            return sum("ttl.leaf", format!("{} is below the least of {}", text(leaf), text(LEAF_TTL_MIN)));
        }
        if task_max > leaf {
            return sum("ttl.task_max", format!("{} is above ttl.leaf of {}", text(task_max), text(leaf)));
        }
        // The next authority takes over at half of the life of the one before; what that one signed last must end before it does.
        if authority < leaf * 4 {
            return sum(
                "ttl.authority",
                format!(
                    "{} / 2 leaves {} for a last leaf of {} and its CRL of {}; wanted at least {}",
                    text(authority),
                    text(authority / 2),
                    text(leaf),
                    text(CRL_VALIDITY),
                    text(leaf * 4),
                ),
            );
        }
        if root < authority * 2 {
            return sum("ttl.root", format!("{} is below twice ttl.authority of {}", text(root), text(authority)));
        }
        let Freshness { stale_after, expired_after } = self.freshness;
        if stale_after >= expired_after {
            return sum(
                "freshness.stale_after",
                format!("{} is not below freshness.expired_after of {}", text(stale_after), text(expired_after)),
            );
        }
        if expired_after > CRL_VALIDITY {
            return sum(
                "freshness.expired_after",
                format!("{} is above a CRL's validity of {}", text(expired_after), text(CRL_VALIDITY)),
            );
        }
        Ok(())
    }
}

/// Where the root's key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "here or not")]
pub enum RootKey {
    /// Made at the first start, and sealed here.
    Managed,
    /// Elsewhere: what it signs is imported.
    External,
}

impl FromStr for RootKey {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "managed" => Ok(Self::Managed),
            "external" => Ok(Self::External),
            _ => Err("wanted \"managed\" or \"external\""),
        }
    }
}

impl fmt::Display for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Managed => "managed",
            Self::External => "external",
        })
    }
}

/// Where the sealing key comes from: `file:PATH`, or `credential:NAME` of systemd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SealSource {
    /// A file of 32 bytes, readable by its owner only.
    File(PathBuf),
    /// A systemd credential of 32 bytes.
    Credential(String),
}

impl FromStr for SealSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            Some(("credential", name)) if !name.is_empty() && !name.contains('/') => Ok(Self::Credential(name.into())),
            _ => Err("wanted file:PATH or credential:NAME".into()),
        }
    }
}

/// Parses `30s`, `15m`, `1h`, `90d`.
///
/// # Errors
/// Another form, or nothing at all of it.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wanted = || format!("wanted a duration like 30s, 15m, 1h or 90d, got {text:?}");
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        _ => return Err(wanted()),
    };
    let count: u64 = text.get(..text.len() - 1).and_then(|digits| digits.parse().ok()).ok_or_else(wanted)?;
    count.checked_mul(unit).filter(|&seconds| seconds > 0).map(Duration::from_secs).ok_or_else(wanted)
}

/// A duration in the largest unit that divides it.
pub fn text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (unit, name) = [(86_400, 'd'), (3600, 'h'), (60, 'm')]
        .into_iter()
        .find(|(unit, _)| seconds.is_multiple_of(*unit) && seconds > 0)
        .unwrap_or((1, 's'));
    format!("{}{name}", seconds / unit)
}

fn value<T: FromStr<Err: fmt::Display>>(key: &'static str, text: &str) -> Result<T, ConfigError> {
    text.parse().map_err(|error: T::Err| ConfigError::value(key, &error.to_string()))
}

fn duration(key: &'static str, text: &str) -> Result<Duration, ConfigError> {
    parse_duration(text).map_err(|why| ConfigError::value(key, &why))
}

/// A configuration that `serve` does not start with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A key that there is not.
    #[error("unknown key {key}; the nearest is {nearest}")]
    Unknown {
        /// What came.
        key: String,
        /// The known key that is most like it.
        nearest: &'static str,
    },
    /// Not TOML, or a value of another type.
    #[error("malformed configuration: {0}")]
    Syntax(String),
    /// A value that its key does not allow.
    #[error("{key}: {why}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong, and what to write instead.
        why: String,
    },
    /// Values that contradict each other.
    #[error("{key} does not add up: {what}")]
    Sum {
        /// The key.
        key: &'static str,
        /// The sum.
        what: String,
    },
}

impl ConfigError {
    fn value(key: &'static str, why: &str) -> Self {
        Self::Value { key, why: why.into() }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const GOOD: &str = r#"
        trust_domain = "example.org"
        data_dir = "/var/lib/chancery"
        public_url = "https://ca.internal:8443"
        status_url = "http://status.internal"
        [keys]
        seal = "file:/etc/chancery/seal.key"
    "#;

    #[test]
    fn the_least_configuration_gets_the_documented_defaults() {
        let config = Config::parse(GOOD).unwrap();
        assert_eq!(config.ttl.leaf, Duration::from_secs(3600));
        assert_eq!(config.public_url.to_string(), "https://ca.internal:8443");
        assert_eq!(config.database_url(), "sqlite:/var/lib/chancery/chancery.db");
    }

    #[test]
    fn what_contradicts_itself_is_refused_with_its_key() {
        let cases = [
            ("[ttl]\nleaf = \"1m\"", "ttl.leaf"),
            ("[ttl]\ntask_max = \"2h\"", "ttl.task_max"),
            ("[ttl]\nauthority = \"3h\"", "ttl.authority"),
            ("[ttl]\nroot = \"91d\"", "ttl.root"),
            ("[freshness]\nstale_after = \"15m\"", "freshness.stale_after"),
            ("[freshness]\nexpired_after = \"2h\"", "freshness.expired_after"),
            ("[ttl]\nleaf = \"soon\"", "ttl.leaf"),
        ];
        for (extra, key) in cases {
            let error = Config::parse(&format!("{GOOD}\n{extra}")).unwrap_err().to_string();
            assert!(error.starts_with(key), "{extra}: {error}");
        }
    }

    #[test]
    fn a_seal_beside_the_data_and_a_status_url_nobody_reaches_are_refused() {
        let beside = GOOD.replace("/etc/chancery/seal.key", "/var/lib/chancery/seal.key");
        assert!(Config::parse(&beside).unwrap_err().to_string().starts_with("keys.seal"));
        for host in ["127.0.0.1", "localhost", "[::1]"] {
            let loopback = GOOD.replace("status.internal", host);
            assert!(Config::parse(&loopback).unwrap_err().to_string().starts_with("status_url"), "{host}");
        }
    }

    #[test]
    fn metrics_are_for_one_network_and_nowhere_by_default() {
        assert_eq!(Config::parse(GOOD).unwrap().listen.metrics, None);
        let listening = |metrics: &str| Config::parse(&format!("{GOOD}\n[listen]\nmetrics = \"{metrics}\""));
        assert!(listening("127.0.0.1:9464").unwrap().listen.metrics.is_some());
        for refused in ["0.0.0.0:9464", "[::]:9464", "localhost", "0.0.0.0:8443"] {
            assert!(listening(refused).unwrap_err().to_string().starts_with("listen.metrics"), "{refused}");
        }
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = Config::parse(&format!("{GOOD}\n[ttl]\nleave = \"1h\"")).unwrap_err().to_string();
        assert_eq!(error, "unknown key ttl.leave; the nearest is ttl.leaf");
    }
}
