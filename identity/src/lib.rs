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

mod certificate;
pub mod der;
mod grant;
mod id;
mod leaf;
mod name;
pub mod normalise;
pub mod oid;
mod revocation;
mod scope;
mod spiffe;
mod target;
mod timestamp;

pub use certificate::Certificate;
pub use grant::{Ancestor, Attestation, Constraint, GRANT_VERSION, Grant, GrantError, OnBehalfOf, Task};
pub use id::{
    ApprovalId, GrantId, IdError, Instance, JoinTokenId, KeyId, Lineage, RequestId, RevocationId, Serial, TokenId,
};
pub use leaf::{LEAF_LEN_MAX, Leaf, LeafError};
pub use name::{Name, NameError, System};
pub use revocation::{Effect, Reason, Revocation, WordError};
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
