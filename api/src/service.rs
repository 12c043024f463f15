//! Services, and the systems they answer for.

use std::collections::{BTreeMap, BTreeSet};

use chancery_identity::{Actor, Name, Scope, ScopeError, ScopeSet, System, Timestamp};
use serde::{Deserialize, Serialize};

use crate::agent::{agrees, change, replace};
use crate::{AttestationRule, State};

/// A registered service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct Service {
    /// Its name, never reused.
    pub name: Name,
    /// The accountable party.
    pub owner: Name,
    /// What it is for, in words.
    #[serde(default)]
    pub description: String,
    /// Keys and values of the operator's own.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The systems it answers for; no other service does.
    pub systems: BTreeSet<System>,
    /// The DNS names in its certificates, without wildcards; no other service has them.
    pub dns: BTreeSet<String>,
    /// What it may do itself at other services.
    pub scopes: ScopeSet,
    /// How it proves what it is: any one rule. No rules, no attestation.
    pub attestation: Vec<AttestationRule>,
    /// The longest a certificate lives, in seconds.
    pub ttl_s: u32,
    /// What the revocation entries say of it.
    pub state: State,
    /// Counts its changes, from 1. The `ETag`.
    pub revision: u64,
    /// When it was registered.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: Actor,
    /// The log position of its newest change.
    pub log_index: u64,
}

/// `POST /v1/admin/services`. What is absent takes the issuer's default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct NewService {
    /// Its name.
    pub name: Name,
    /// The accountable party.
    pub owner: Name,
    /// What it is for, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Keys and values of the operator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// The systems it answers for.
    #[serde(default)]
    pub systems: BTreeSet<System>,
    /// Its DNS names.
    #[serde(default)]
    pub dns: BTreeSet<String>,
    /// What it may do itself at other services.
    #[serde(default)]
    pub scopes: ScopeSet,
    /// How it proves what it is; absent: by a join token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestation: Option<Vec<AttestationRule>>,
    /// The longest a certificate lives, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u32>,
}

impl NewService {
    /// Whether the service is what is asked for: all that was sent is equal.
    pub fn agrees_with(&self, service: &Service) -> bool {
        self.name == service.name
            && self.owner == service.owner
            && agrees(&self.description, &service.description)
            && agrees(&self.labels, &service.labels)
            && self.systems == service.systems
            && self.dns == service.dns
            && self.scopes == service.scopes
            && agrees(&self.attestation, &service.attestation)
            && agrees(&self.ttl_s, &service.ttl_s)
    }
}

/// `PATCH /v1/admin/services/{name}`, best with `If-Match`. What is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct ServicePatch {
    /// The accountable party.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Name>,
    /// What it is for, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// All labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// All systems.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub systems: Option<BTreeSet<System>>,
    /// All DNS names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<BTreeSet<String>>,
    /// All scopes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<ScopeSet>,
    /// Scopes it gains.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub add_scopes: BTreeSet<Scope>,
    /// Scopes it loses; those it does not hold are no error.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub remove_scopes: BTreeSet<Scope>,
    /// All attestation rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestation: Option<Vec<AttestationRule>>,
    /// The longest a certificate lives, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u32>,
}

impl ServicePatch {
    /// The service with the changes, its state, revision and log position untouched.
    ///
    /// # Errors
    /// More than 64 scopes in the end.
    pub fn apply(self, mut service: Service) -> Result<Service, ScopeError> {
        let held = self.scopes.as_ref().unwrap_or(&service.scopes);
        service.scopes = ScopeSet::new(change(held, &self.add_scopes, &self.remove_scopes))?;
        replace(&mut service.owner, self.owner);
        replace(&mut service.description, self.description);
        replace(&mut service.labels, self.labels);
        replace(&mut service.systems, self.systems);
        replace(&mut service.dns, self.dns);
        replace(&mut service.attestation, self.attestation);
        replace(&mut service.ttl_s, self.ttl_s);
        Ok(service)
    }
}

/// A system, and the one service that answers for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct SystemEntry {
    /// The system, as scopes name it.
    pub name: System,
    /// The service.
    pub service: Name,
    /// Who is accountable for the service.
    pub owner: Name,
}
