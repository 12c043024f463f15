//! What certificates and revocations say: SPIFFE IDs, scopes, grants, targets, time.
//!
//! Nothing here does I/O, reads a clock or draws randomness. Everything that enters is parsed once into a type that can
//! only hold what is valid; everything that leaves is text or DER that parses back to the same value.
//!
//! ```
//! use chancery_identity::{Scope, SpiffeId};
//!
//! let id: SpiffeId = "spiffe://example.org/service/crm".parse()?;
//! assert_eq!(id.trust_domain().as_str(), "example.org");
//!
//! let held: Scope = "tools/call:crm/*".parse()?;
//! let needed: Scope = "tools/call:crm/refund".parse()?;
//! assert!(held.covers(&needed));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod actor;
mod certificate;
pub mod der;
mod grant;
mod id;
mod in_force;
mod leaf;
mod name;
pub mod normalise;
pub mod oid;
mod revocation;
mod scope;
mod spiffe;
mod target;
mod timestamp;

pub use actor::{Actor, ActorError};
pub use certificate::Certificate;
pub use grant::{Ancestor, Attestation, Constraint, GRANT_VERSION, Grant, GrantError, OnBehalfOf, Task};
pub use id::{
    ApprovalId, GrantId, IdError, Instance, JoinTokenId, KeyId, Lineage, RequestId, RevocationId, Serial, TokenId,
};
pub use in_force::InForce;
pub use leaf::{LEAF_LEN_MAX, Leaf, LeafError};
pub use name::{Name, NameError, System};
pub use revocation::{Effect, Reach, Reason, Revocation, WordError};
pub use scope::{Pattern, PatternSet, SCOPE_LEN_MAX, SCOPES_MAX, Scope, ScopeError, ScopeSet};
pub use spiffe::{Principal, SpiffeId, SpiffeIdError, TrustDomain};
pub use target::{Target, TargetError};
pub use timestamp::{Civil, Timestamp, TimestampError};

/// Serde as text, for every type of this crate that has a `Display` and a `FromStr`.
#[cfg(feature = "serde")]
macro_rules! serde_as_text {
    ($($type:ty),+ $(,)?) => {$(
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}

#[cfg(feature = "serde")]
serde_as_text!(
    Actor,
    ApprovalId,
    Effect,
    GrantId,
    Instance,
    JoinTokenId,
    KeyId,
    Lineage,
    Name,
    Pattern,
    Reason,
    RequestId,
    RevocationId,
    Scope,
    Serial,
    SpiffeId,
    System,
    Target,
    Timestamp,
    TokenId,
    TrustDomain,
);

/// Serde as a list, for the sets of this crate.
#[cfg(feature = "serde")]
macro_rules! serde_as_list {
    ($($set:ty),+ $(,)?) => {$(
        impl serde::Serialize for $set {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_seq(self.iter())
            }
        }

        impl<'de> serde::Deserialize<'de> for $set {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(Vec::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }
    )+};
}

#[cfg(feature = "serde")]
serde_as_list!(PatternSet, ScopeSet);

/// JSON schemas: a string for what serde writes as text, a list of strings for the sets.
#[cfg(feature = "openapi")]
macro_rules! schema_as_text {
    ($($type:ident $example:literal),+ $(,)?) => {$(
        impl utoipa::PartialSchema for $type {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                use utoipa::openapi::schema::{ObjectBuilder, Type};
                ObjectBuilder::new().schema_type(Type::String).examples([$example]).into()
            }
        }

        impl utoipa::ToSchema for $type {}
    )+};
}

#[cfg(feature = "openapi")]
schema_as_text!(
    Actor "admin:ana",
    ApprovalId "ap_01936f2a0e9b7c4d8a5b6c7d8e9f0a1b",
    Effect "suspend",
    GrantId "gr_01936f2a0e9b7c4d8a5b6c7d8e9f0a1b",
    Instance "01936f2a-0e9b-7c4d-8a5b-6c7d8e9f0a1b",
    JoinTokenId "jt_01936f2a0e9b7c4d8a5b6c7d8e9f0a1b",
    KeyId "3fa2c1d0e9b8a7968574635241302f1e0d0c0b0a",
    Lineage "01936f2a-0e9b-7c4d-8a5b-6c7d8e9f0a1b",
    Name "invoice-bot",
    Pattern "tools/call:crm/*",
    Reason "key_compromise",
    RequestId "rq_01936f2a0e9b7c4d8a5b6c7d8e9f0a1b",
    RevocationId "rv_01936f2a0e9b7c4d8a5b6c7d8e9f0a1b",
    Scope "tools/call:crm/get_customer",
    Serial "41936f2a0e9b7c4d8a5b6c7d8e9f0a1b",
    SpiffeId "spiffe://example.org/agent/invoice-bot/01936f2a-0e9b-7c4d-8a5b-6c7d8e9f0a1b",
    System "crm",
    Target "agent:invoice-bot",
    Timestamp "2026-11-21T14:00:00.012Z",
    TokenId "tk_01936f2a0e9b7c4d8a5b6c7d8e9f0a1b",
    TrustDomain "example.org",
);

#[cfg(feature = "openapi")]
macro_rules! schema_as_list {
    ($($set:ident of $member:ident),+ $(,)?) => {$(
        impl utoipa::PartialSchema for $set {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                use utoipa::openapi::schema::ArrayBuilder;
                let builder = ArrayBuilder::new().items(<$member as utoipa::PartialSchema>::schema());
                builder.max_items(Some(SCOPES_MAX)).unique_items(true).into()
            }
        }

        impl utoipa::ToSchema for $set {}
    )+};
}

#[cfg(feature = "openapi")]
schema_as_list!(PatternSet of Pattern, ScopeSet of Scope);
