//! Join tokens: the first evidence of what has nothing else to show.

use chancery_identity::{Actor, JoinTokenId, Name, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{JoinSecret, JoinString, Subject, SubjectError};

/// A join token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct JoinToken {
    /// Its id.
    pub id: JoinTokenId,
    /// Whom it attests, and nobody else.
    #[serde(flatten)]
    pub subject: Subject,
    /// How often it may be used.
    pub uses: u32,
    /// How often it was.
    pub used: u32,
    /// Networks that it may be used from, as `10.0.0.0/8`; empty: any.
    #[serde(default)]
    pub cidrs: Vec<String>,
    /// When it ends.
    pub expires_at: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: Actor,
    /// The log position of its making.
    pub log_index: u64,
}

/// `POST /v1/admin/join-tokens`. For an administrator it needs access `administrator`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(try_from = "Fields")]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct NewJoinToken {
    /// Whom it attests: one field, `agent`, `service` or `admin`.
    #[serde(flatten)]
    pub subject: Subject,
    /// How often it may be used; 1 if absent.
    pub uses: u32,
    /// How long it lives, in seconds; absent: 15 minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u32>,
    /// Networks that it may be used from; empty: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cidrs: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    agent: Option<Name>,
    service: Option<Name>,
    admin: Option<Name>,
    #[serde(default = "once")]
    uses: u32,
    ttl_s: Option<u32>,
    #[serde(default)]
    cidrs: Vec<String>,
}

const fn once() -> u32 {
    1
}

impl TryFrom<Fields> for NewJoinToken {
    type Error = SubjectError;

    fn try_from(fields: Fields) -> Result<Self, SubjectError> {
        let Fields { agent, service, admin, uses, ttl_s, cidrs } = fields;
        Ok(Self { subject: Subject::exactly_one(agent, service, admin)?, uses, ttl_s, cidrs })
    }
}

/// The answer to making a join token: the only one that shows its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct JoinTokenCreated {
    /// Its id.
    pub id: JoinTokenId,
    /// The secret, `chj_…`.
    pub token: JoinSecret,
    /// What `CHANCERY_JOIN` takes: the issuer's address, the secret and the root's pin.
    pub join: JoinString,
    /// When it ends.
    pub expires_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_exactly_one_subject() {
        let read = |text: &str| serde_json::from_str::<NewJoinToken>(text);
        let token = read(r#"{"agent":"invoice-bot"}"#).unwrap();
        assert_eq!((token.subject.to_string().as_str(), token.uses), ("agent:invoice-bot", 1));
        assert_eq!(read(&serde_json::to_string(&token).unwrap()).unwrap(), token);
        for refused in [r#"{"uses":1}"#, r#"{"agent":"a","service":"b"}"#, r#"{"agent":"a","use":1}"#] {
            assert!(read(refused).is_err(), "{refused}");
        }
    }
}
