//! Authorities as administrators see them.

use chancery_identity::{KeyId, RevocationId, Serial, Timestamp};
use serde::{Deserialize, Serialize};

use crate::AuthorityKind;

/// One generation of an authority's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct AuthorityView {
    /// Its key.
    pub key_id: KeyId,
    /// What it signs.
    pub kind: AuthorityKind,
    /// How it stands.
    pub state: AuthorityState,
    /// Whether its key is sealed in the issuer's database; an external root's is not.
    pub key_here: bool,
    /// The serial of its certificate.
    pub serial: Serial,
    /// The first instant it is valid at.
    #[serde(with = "crate::seconds")]
    pub not_before: Timestamp,
    /// The last second it is valid at.
    #[serde(with = "crate::seconds")]
    pub not_after: Timestamp,
    /// When a successor that is announced begins to sign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signs_from_at: Option<Timestamp>,
    /// The number of its CRL that stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crl_number: Option<String>,
    /// When that CRL is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crl_next_update_at: Option<Timestamp>,
    /// The path of its CRL, on both listeners.
    pub crl: String,
    /// The path of its certificate, on both listeners.
    pub certificate: String,
    /// The entry that stopped it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation_id: Option<RevocationId>,
    /// The log position of its ceremony.
    pub log_index: u64,
}

/// How an authority stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[allow(clippy::exhaustive_enums, reason = "a wire type: both sides build it")]
pub enum AuthorityState {
    /// It publishes its CRL and will sign.
    Announced,
    /// It signs.
    Signing,
    /// Another signs; its CRL is published until the last of its leaves is over.
    Superseded,
    /// An entry in force names it.
    Stopped,
    /// Nothing that it signed is valid any more, and it publishes no CRL.
    Over,
}

impl AuthorityState {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Announced => "announced",
            Self::Signing => "signing",
            Self::Superseded => "superseded",
            Self::Stopped => "stopped",
            Self::Over => "over",
        }
    }
}

/// `POST /v1/admin/authorities/rotate`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct RotateRequest {
    /// Make nothing; say what would be made.
    #[serde(default)]
    pub dry_run: bool,
}

/// `POST /v1/admin/authorities/import`: what an external root signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct ImportRequest {
    /// PEM, in any order: the root's certificate, the root's CRL, the certificates of an issuing authority and of a key
    /// that signs heads that were asked for here. What is there already may be left out.
    pub pem: String,
    /// Import nothing; say whether it could be.
    #[serde(default)]
    pub dry_run: bool,
}

/// What of an import was new.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct Imported {
    /// The number of the root's CRL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crl_number: Option<String>,
    /// The issuing authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuing: Option<AuthorityView>,
    /// The key that signs heads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_key: Option<HeadKeyView>,
}

/// A key that signs heads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct HeadKeyView {
    /// The key.
    pub key_id: KeyId,
    /// When it begins to sign.
    pub signs_from_at: Timestamp,
}

/// What a rotation does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct Rotation {
    /// The authority that signs until then.
    pub present: KeyId,
    /// The one that was made; absent in a dry run.
    pub successor: Option<AuthorityView>,
    /// When it begins to sign.
    pub signs_from_at: Timestamp,
}
