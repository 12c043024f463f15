//! SPIFFE IDs and trust domains (SPIFFE-ID §2).

use std::fmt;
use std::str::FromStr;

use crate::name::{clip, is_name};
use crate::{Instance, Name};

/// The longest SPIFFE ID, in bytes, all of it counted (SPIFFE-ID §2.3).
const ID_LEN_MAX: usize = 2048;
/// The longest trust domain name, in bytes (SPIFFE-ID §2.3).
const TRUST_DOMAIN_LEN_MAX: usize = 255;
const SCHEME: &str = "spiffe://";

/// The authority part of a SPIFFE ID: 1 to 255 of `a-z`, `0-9`, `.`, `-` and `_`.
///
/// A name that looks like an IPv4 address or a DNS name is nothing special.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Box<str>);

impl TrustDomain {
    /// The trust domain as text, without scheme.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The SPIFFE ID of the trust domain itself, as its authorities carry it: no path.
    pub fn id(&self) -> SpiffeId {
        SpiffeId { text: format!("{SCHEME}{}", self.0).into(), path_at: SCHEME.len() + self.0.len() }
    }

    /// An agent instance's SPIFFE ID.
    pub fn agent(&self, name: &Name, instance: Instance) -> SpiffeId {
        self.with_path(&format!("/agent/{name}/{instance}"))
    }

    /// The SPIFFE ID that all instances of an agent share, for consumers that match exact IDs.
    pub fn shared(&self, name: &Name) -> SpiffeId {
        self.with_path(&format!("/shared/{name}"))
    }

    /// A service's SPIFFE ID.
    pub fn service(&self, name: &Name) -> SpiffeId {
        self.with_path(&format!("/service/{name}"))
    }

    /// An administrator's SPIFFE ID.
    pub fn admin(&self, name: &Name) -> SpiffeId {
        self.with_path(&format!("/admin/{name}"))
    }

    /// The issuer's own SPIFFE ID, `/chancery/server`.
    pub fn server(&self) -> SpiffeId {
        self.with_path("/chancery/server")
    }

    /// All callers give paths of valid segments, each at most a name long, so the whole stays below 2048 bytes.
    fn with_path(&self, path: &str) -> SpiffeId {
        SpiffeId { text: format!("{SCHEME}{}{path}", self.0).into(), path_at: SCHEME.len() + self.0.len() }
    }
}

impl FromStr for TrustDomain {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, SpiffeIdError> {
        check_trust_domain(text)?;
        Ok(Self(text.into()))
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A SPIFFE ID: `spiffe://` trust domain, then a path or nothing. At most 2048 bytes; compared byte by byte.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    text: Box<str>,
    path_at: usize,
}

impl SpiffeId {
    /// The whole ID.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> TrustDomain {
        TrustDomain(self.text.get(SCHEME.len()..self.path_at).unwrap_or_default().into())
    }

    /// Whether the ID stands in this trust domain.
    pub fn is_in(&self, trust_domain: &TrustDomain) -> bool {
        self.text.get(SCHEME.len()..self.path_at) == Some(trust_domain.as_str())
    }

    /// The path with its leading `/`; empty for the ID of a trust domain.
    pub fn path(&self) -> &str {
        self.text.get(self.path_at..).unwrap_or_default()
    }

    /// What the path says, by the layout of Chancery's own IDs.
    pub fn principal(&self) -> Principal<'_> {
        principal(self.path()).unwrap_or(Principal::Other)
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, SpiffeIdError> {
        if text.len() > ID_LEN_MAX {
            return Err(SpiffeIdError::TooLong(text.len()));
        }
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| SpiffeIdError::Scheme(clip(text)))?;
        let (trust_domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        check_trust_domain(trust_domain)?;
        if let Some(segments) = path.strip_prefix('/') {
            for segment in segments.split('/') {
                check_segment(segment)?;
            }
        }
        Ok(Self { text: text.into(), path_at: SCHEME.len() + trust_domain.len() })
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Who a SPIFFE ID stands for. Names are valid names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Principal<'a> {
    /// `/agent/<name>/<instance>`, and below it sub-agents.
    Agent {
        /// The agent's name.
        name: &'a str,
        /// The attested copy.
        instance: Instance,
        /// `sub/<name>-<uuid>` for a sub-agent, the whole rest of the path.
        sub: Option<&'a str>,
    },
    /// `/service/<name>`.
    Service(&'a str),
    /// `/admin/<name>`.
    Admin(&'a str),
    /// `/shared/<name>`: any instance of the agent.
    Shared(&'a str),
    /// `/chancery/server`: the issuer.
    Server,
    /// Nothing of ours: another layout, or a trust domain's own ID.
    Other,
}

fn principal(path: &str) -> Option<Principal<'_>> {
    let (kind, rest) = path.strip_prefix('/')?.split_once('/')?;
    match kind {
        "agent" => {
            let (agent, rest) = rest.split_once('/')?;
            let (instance, sub) = rest.split_once('/').map_or((rest, None), |(i, s)| (i, Some(s)));
            let sub_ok = sub.is_none_or(|s| s.strip_prefix("sub/").is_some_and(|leaf| !leaf.contains('/')));
            let instance = instance.parse().ok()?;
            (is_name(agent) && sub_ok).then_some(Principal::Agent { name: agent, instance, sub })
        }
        "service" if is_name(rest) => Some(Principal::Service(rest)),
        "admin" if is_name(rest) => Some(Principal::Admin(rest)),
        "shared" if is_name(rest) => Some(Principal::Shared(rest)),
        "chancery" if rest == "server" => Some(Principal::Server),
        _ => None,
    }
}

fn check_trust_domain(text: &str) -> Result<(), SpiffeIdError> {
    if text.is_empty() {
        return Err(SpiffeIdError::NoTrustDomain);
    }
    if text.len() > TRUST_DOMAIN_LEN_MAX {
        return Err(SpiffeIdError::TrustDomainTooLong(text.len()));
    }
    // SPIFFE-ID §2.1: no user info, no port, no percent-encoding; upper case is refused, never folded.
    match text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '.' | '-' | '_')) {
        Some(c) => Err(SpiffeIdError::TrustDomainCharacter(c)),
        None => Ok(()),
    }
}

/// SPIFFE-ID §2.2: no empty, `.` or `..` segment, no percent-encoding, no trailing `/`.
fn check_segment(segment: &str) -> Result<(), SpiffeIdError> {
    if matches!(segment, "" | "." | "..") {
        return Err(SpiffeIdError::Segment(segment.into()));
    }
    match segment.chars().find(|c| !matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' | '_')) {
        Some(c) => Err(SpiffeIdError::PathCharacter(c)),
        None => Ok(()),
    }
}

/// The text is no SPIFFE ID.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpiffeIdError {
    /// Longer than 2048 bytes.
    TooLong(usize),
    /// Does not begin with `spiffe://`.
    Scheme(Box<str>),
    /// The authority is empty.
    NoTrustDomain,
    /// The trust domain is longer than 255 bytes.
    TrustDomainTooLong(usize),
    /// Not allowed in a trust domain name.
    TrustDomainCharacter(char),
    /// An empty, `.` or `..` path segment.
    Segment(Box<str>),
    /// Not allowed in a path.
    PathCharacter(char),
}

impl fmt::Display for SpiffeIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(len) => write!(f, "a SPIFFE ID has at most {ID_LEN_MAX} bytes, got {len}"),
            Self::Scheme(came) => write!(f, "a SPIFFE ID begins with {SCHEME:?}, got {came:?}"),
            Self::NoTrustDomain => f.write_str("a SPIFFE ID names a trust domain, got none"),
            Self::TrustDomainTooLong(len) => {
                write!(f, "a trust domain has at most {TRUST_DOMAIN_LEN_MAX} bytes, got {len}")
            }
            Self::TrustDomainCharacter(c) => {
                write!(f, "a trust domain holds only a-z, 0-9, '.', '-' and '_', got {c:?}")
            }
            Self::Segment(came) => write!(f, "a SPIFFE ID has no empty, '.' or '..' path segment, got {came:?}"),
            Self::PathCharacter(c) => {
                write!(f, "a SPIFFE ID's path holds only letters, digits, '.', '-' and '_', got {c:?}")
            }
        }
    }
}

impl std::error::Error for SpiffeIdError {}
