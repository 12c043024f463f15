//! Why there is no identity.

use std::io;
use std::path::PathBuf;

use chancery_api::client::ClientError;
use chancery_api::{JoinStringError, Problem, RootPin};
use chancery_identity::{Timestamp, TrustDomain};
use chancery_verifier::{FirstContactRefused, MaterialRefused};

use crate::{HeldError, KeyError, StateError};

/// Why there is no identity, or no newer one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The join string.
    #[error(transparent)]
    JoinString(#[from] JoinStringError),
    /// The file that should hold the join string.
    #[error("cannot read the join string from {}", path.display())]
    JoinFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A variable of the environment that is not of its form.
    #[error("{name} is not usable: {why}")]
    Variable {
        /// Its name.
        name: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// What was issued or saved.
    #[error(transparent)]
    Held(#[from] HeldError),
    /// A certificate of another trust domain than that of the issuer that gave it.
    #[error("the issuer of {wanted} gave a certificate of {came}")]
    TrustDomain {
        /// The issuer's.
        wanted: TrustDomain,
        /// The certificate's.
        came: TrustDomain,
    },
    /// The issuer's bundle could not be fetched.
    #[error("no bundle from {url}; nothing was sent to it")]
    NoBundle {
        /// Where it was looked for.
        url: String,
        /// Why not.
        source: ClientError,
    },
    /// What answered does not have the pinned root.
    #[error(
        "{url} is not the issuer your token names: wanted root pin {wanted}, it has {}; the token was not sent. \
         Somebody may stand between, or the token is of another issuer",
        pins(came)
    )]
    OtherRoot {
        /// Where.
        url: String,
        /// The pin of the join string.
        wanted: RootPin,
        /// The pins of the roots it showed.
        came: Vec<RootPin>,
    },
    /// What answered shows the pinned root, but has no certificate of an issuer.
    #[error(
        "{url} shows the right root, but is no issuer: wanted a certificate of …/chancery/server; the token was not sent"
    )]
    NotIssuer {
        /// Where.
        url: String,
    },
    /// What answered shows the pinned root, but could not prove that it stands below it.
    #[error("{url} did not prove that it is the issuer your token names; the token was not sent")]
    Unproven {
        /// Where.
        url: String,
        /// How it failed.
        source: ClientError,
    },
    /// The issuer refused, or did not answer.
    #[error("{doing} failed")]
    Issuer {
        /// What was asked.
        doing: &'static str,
        /// The answer, or why there was none.
        source: ClientError,
    },
    /// The service's URL.
    #[error("no client for {url}")]
    Service {
        /// As given.
        url: String,
        /// What is wrong with it.
        source: ClientError,
    },
    /// The certificate ran out, and the issuer gave no other for it.
    #[error(
        "the certificate ran out at {} and no other was given for it; a new join token may help (CHANCERY_JOIN)",
        not_after.to_seconds_text()
    )]
    RanOut {
        /// When.
        not_after: Timestamp,
        /// Why no other.
        source: Box<Error>,
    },
    /// The pinned root is no CA certificate.
    #[error("the pinned root of {url} cannot be used: {refused}")]
    Root {
        /// Where.
        url: String,
        /// Why not.
        refused: FirstContactRefused,
    },
    /// What was issued or saved cannot be worked with.
    #[error("the identity cannot be used: {0}")]
    Material(#[from] MaterialRefused),
    /// TLS refuses our own key and chain, or the issuer's roots.
    #[error("the certificate cannot be used for TLS")]
    Tls(#[from] rustls::Error),
    /// A task of the runtime ended early.
    #[error("the runtime is shutting down")]
    Ended,
}

impl Error {
    /// The issuer's refusal, if that is what stopped it.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::NoBundle { source, .. } | Self::Unproven { source, .. } | Self::Issuer { source, .. } => {
                source.problem()
            }
            Self::RanOut { source, .. } => source.problem(),
            _ => None,
        }
    }

    /// The error with all that caused it, on one line.
    pub fn explain(&self) -> String {
        let mut line = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            line.push_str(": ");
            line.push_str(&error.to_string());
            cause = error.source();
        }
        line
    }

    /// Whether nothing was wrong but the way to the issuer.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::NoBundle { source, .. } | Self::Unproven { source, .. } | Self::Issuer { source, .. } => {
                source.is_unreachable()
            }
            Self::RanOut { source, .. } => source.is_unreachable(),
            _ => false,
        }
    }
}

impl From<KeyError> for Error {
    fn from(error: KeyError) -> Self {
        Self::State(error.into())
    }
}

fn pins(pins: &[RootPin]) -> String {
    match pins {
        [] => "no root".to_owned(),
        _ => pins.iter().map(RootPin::to_string).collect::<Vec<_>>().join(", "),
    }
}
