//! Where certificates point their readers to.

use std::fmt;
use std::str::FromStr;

use chancery_identity::KeyId;

/// The longest status URL, in bytes; it stands three times in every certificate.
const LEN_MAX: usize = 255;

/// The base of what is written into certificates as CRL distribution point, OCSP and caIssuers: `http://` or `https://`, a host,
/// maybe a port and a path, no `/` at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusUrl(Box<str>);

impl StatusUrl {
    /// Where the authority's CRL is: `{base}/crl/{key id}.crl`.
    pub fn crl(&self, authority: KeyId) -> String {
        format!("{}/crl/{authority}.crl", self.0)
    }

    /// Where the authority's certificate is: `{base}/ca/{key id}.crt`.
    pub fn certificate(&self, authority: KeyId) -> String {
        format!("{}/ca/{authority}.crt", self.0)
    }

    /// Where OCSP responders answer for every issuing authority: `{base}/ocsp`.
    pub fn ocsp(&self) -> String {
        format!("{}/ocsp", self.0)
    }

    /// The base itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host, with its port if it has one.
    pub fn authority(&self) -> &str {
        let rest = after_scheme(&self.0).unwrap_or_default();
        rest.split_once('/').map_or(rest, |(authority, _)| authority)
    }
}

impl FromStr for StatusUrl {
    type Err = StatusUrlError;

    fn from_str(text: &str) -> Result<Self, StatusUrlError> {
        let refused = |what| StatusUrlError { what, came: text.chars().take(80).collect() };
        if text.len() > LEN_MAX {
            return Err(refused("at most 255 bytes"));
        }
        let rest = after_scheme(text).ok_or_else(|| refused("http:// or https:// first"))?;
        if rest.is_empty() || rest.starts_with('/') {
            return Err(refused("a host"));
        }
        if rest.ends_with('/') {
            return Err(refused("no '/' at the end"));
        }
        if !rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~:/[]%".contains(&b)) {
            return Err(refused("a host, a port and a path only, in ASCII"));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for StatusUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn after_scheme(text: &str) -> Option<&str> {
    text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"))
}

/// The text is no status URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a status URL has {what}, got {came:?}")]
pub struct StatusUrlError {
    what: &'static str,
    came: String,
}
