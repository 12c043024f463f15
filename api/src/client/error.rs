//! Why a request has no answer that can be used.

use std::time::Duration;

use http::StatusCode;

use crate::Problem;

/// Why a request has no answer that can be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The issuer refused, and says why.
    #[error("{0}")]
    Refused(Box<Problem>),
    /// No connection.
    #[error("cannot reach {address}: {why}")]
    Unreachable {
        /// Where to.
        address: String,
        /// What failed.
        why: String,
    },
    /// The connection ended before the answer did. Whether the request had its effect is not known.
    #[error("the connection broke before the answer came: {0}")]
    Broken(String),
    /// The handshake was refused: the certificate shown is revoked, or the authority that signed it.
    #[error("the issuer refuses the certificate shown: it is revoked, or its authority is")]
    CertificateRevoked,
    /// No answer in time. Whether the request had its effect is not known.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// A status without a problem document: something other than an issuer answered.
    #[error("answered {0} without a problem document; is this the issuer's address?")]
    Status(StatusCode),
    /// A body that is not of the form expected.
    #[error("the body is not of the form expected: {0}")]
    Json(String),
    /// An answer of more than 64 MiB.
    #[error("the answer is longer than 64 MiB")]
    TooLong,
    /// Not an address of an issuer.
    #[error("{0:?} is not an issuer's address: wanted https://host:port")]
    Url(String),
    /// A token that no header can carry.
    #[error("the API token holds characters that no token has; was it copied whole?")]
    Token,
    /// A value that no header can carry.
    #[error("a header's value holds characters that none may have")]
    Header,
}

impl ClientError {
    /// The refusal, if it is one.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused(problem) => Some(problem),
            _ => None,
        }
    }

    /// Whether the issuer could not be reached, or did not answer whole and in time.
    pub const fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Broken(_) | Self::Timeout(_))
    }
}
