//! Who decided.

use std::fmt;
use std::str::FromStr;

use crate::name::clip;
use crate::{Name, SpiffeId, TokenId};

/// Who made a decision, as records and the log name it. There is no default, so that nothing is put down to nobody.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(clippy::exhaustive_enums, reason = "a new kind of actor is a new version of the log's record")]
pub enum Actor {
    /// The issuer itself, on schedule or by rule: `issuer`.
    Issuer,
    /// Whoever may use the admin socket, by its user id: `local:0`.
    Local(u32),
    /// An administrator: `admin:ana`.
    Admin(Name),
    /// Whoever holds an API token, by the token's id: `tk_…`.
    Token(TokenId),
    /// The holder of a certificate, or the one it is issued to: a SPIFFE ID.
    Holder(SpiffeId),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Issuer => f.write_str("issuer"),
            Self::Local(uid) => write!(f, "local:{uid}"),
            Self::Admin(name) => write!(f, "admin:{name}"),
            Self::Token(id) => id.fmt(f),
            Self::Holder(id) => id.fmt(f),
        }
    }
}

impl FromStr for Actor {
    type Err = ActorError;

    fn from_str(text: &str) -> Result<Self, ActorError> {
        let parsed = match text.split_once(':') {
            _ if text == "issuer" => Some(Self::Issuer),
            Some(("local", uid)) => uid.parse().ok().map(Self::Local),
            Some(("admin", name)) => name.parse().ok().map(Self::Admin),
            Some(("spiffe", _)) => text.parse().ok().map(Self::Holder),
            _ => text.parse().ok().map(Self::Token),
        };
        // One spelling for each actor: `local:01` is none.
        parsed.filter(|actor| actor.to_string() == text).ok_or_else(|| ActorError(clip(text)))
    }
}

/// The text names no actor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActorError(Box<str>);

impl fmt::Display for ActorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wanted an actor: issuer, local:<uid>, admin:<name>, tk_<id> or a SPIFFE ID, got {:?}", self.0)
    }
}

impl std::error::Error for ActorError {}
