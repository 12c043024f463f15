//! What one leaf certificate says, owned.

use crate::{Grant, KeyId, ScopeSet, Serial, SpiffeId, Timestamp};

/// What one leaf certificate says: who, what for, from which authority, how long.
///
/// Says nothing of whether its signature, its time or its scopes hold: that is the verifier's to judge.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "the issuer plans it and the leaf reader reads it; both set every field")]
pub struct Certificate {
    /// Whose it is.
    pub spiffe_id: SpiffeId,
    /// What it allows. Empty without a grant.
    pub scopes: ScopeSet,
    /// What stands behind the scopes. Absent in the issuer's own certificate and in those of other issuers.
    pub grant: Option<Grant>,
    /// Its serial.
    pub serial: Serial,
    /// The authority that signed it.
    pub authority: KeyId,
    /// The first instant it is valid at.
    pub not_before: Timestamp,
    /// The last second it is valid at.
    pub not_after: Timestamp,
}
