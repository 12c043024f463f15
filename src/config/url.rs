//! Base URLs.

use std::fmt;
use std::str::FromStr;

/// A base URL: scheme, host and port, nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub(super) scheme: &'static str,
    host: String,
    port: Option<u16>,
}

impl Url {
    /// Its host, an address without brackets.
    pub fn host(&self) -> &str {
        self.host.trim_matches(|c| matches!(c, '[' | ']'))
    }

    pub(super) fn names_loopback(&self) -> bool {
        let host = self.host();
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || format!("wanted a URL of scheme, host and port like https://ca.internal:8443, got {text:?}");
        let (scheme, rest) = match text.split_once("://") {
            Some(("https", rest)) => ("https", rest),
            Some(("http", rest)) => ("http", rest),
            _ => return Err(wanted()),
        };
        let authority: http::uri::Authority = rest.trim_end_matches('/').parse().map_err(|_| wanted())?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(wanted());
        }
        Ok(Self { scheme, host: authority.host().into(), port: authority.port_u16() })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}
