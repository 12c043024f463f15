//! Agents.

use std::collections::{BTreeMap, BTreeSet};

use chancery_identity::{Actor, Name, Pattern, PatternSet, Scope, ScopeError, ScopeSet, Timestamp};
use serde::{Deserialize, Serialize};

use crate::AttestationRule;

/// A registered agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct Agent {
    /// Its name, never reused.
    pub name: Name,
    /// The accountable party. Certificates show it to others, so no personal name belongs here.
    pub owner: Name,
    /// What it is for, in words.
    #[serde(default)]
    pub description: String,
    /// Keys and values of the operator's own.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What stands in every certificate of it.
    pub scopes: ScopeSet,
    /// All that may ever be granted to it; absent: what it holds.
    pub ceiling: Option<PatternSet>,
    /// Names of roles, whose scopes it holds too.
    #[serde(default)]
    pub roles: Vec<Name>,
    /// How it proves what it is: any one rule. No rules, no attestation.
    pub attestation: Vec<AttestationRule>,
    /// The longest a certificate lives, in seconds.
    pub ttl_s: u32,
    /// The most instances at a time.
    pub max_instances: u32,
    /// Always empty: only services have DNS names.
    #[serde(default)]
    pub dns: Vec<String>,
    /// Whether all instances share one SPIFFE ID, for consumers that match exact IDs.
    #[serde(default)]
    pub shared: bool,
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

/// Whether a record may be issued certificates: what the revocation entries say, set by nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[allow(clippy::exhaustive_enums, reason = "each consumer must decide for each state")]
pub enum State {
    /// No entry holds it.
    Active,
    /// Held until resumed.
    Suspended,
    /// Ended for good.
    Retired,
}

impl State {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Retired => "retired",
        }
    }
}

/// `POST /v1/admin/agents`. What is absent takes the issuer's default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct NewAgent {
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
    /// Standing scopes.
    #[serde(default)]
    pub scopes: ScopeSet,
    /// All that may ever be granted; `null` or absent: follows the scopes. Setting it needs access `administrator`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<PatternSet>,
    /// Names of roles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<Name>>,
    /// How it proves what it is; absent: by a join token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestation: Option<Vec<AttestationRule>>,
    /// The longest a certificate lives, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u32>,
    /// The most instances at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_instances: Option<u32>,
    /// Must be empty: only services have DNS names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<Vec<String>>,
    /// Whether all instances share one SPIFFE ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<bool>,
}

impl NewAgent {
    /// Whether the agent is what is asked for: all that was sent is equal. Then creating it again is no conflict.
    pub fn agrees_with(&self, agent: &Agent) -> bool {
        self.name == agent.name
            && self.owner == agent.owner
            && agrees(&self.description, &agent.description)
            && agrees(&self.labels, &agent.labels)
            && self.scopes == agent.scopes
            && self.ceiling == agent.ceiling
            && agrees(&self.roles, &agent.roles)
            && agrees(&self.attestation, &agent.attestation)
            && agrees(&self.ttl_s, &agent.ttl_s)
            && agrees(&self.max_instances, &agent.max_instances)
            && agrees(&self.dns, &agent.dns)
            && agrees(&self.shared, &agent.shared)
    }
}

/// What was not sent agrees with everything.
pub(crate) fn agrees<T: PartialEq>(sent: &Option<T>, held: &T) -> bool {
    sent.as_ref().is_none_or(|sent| sent == held)
}

/// `PATCH /v1/admin/agents/{name}`, best with `If-Match`. What is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct AgentPatch {
    /// The accountable party.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Name>,
    /// What it is for, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// All labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// All standing scopes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<ScopeSet>,
    /// Scopes it gains.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub add_scopes: BTreeSet<Scope>,
    /// Scopes it loses; those it does not hold are no error.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub remove_scopes: BTreeSet<Scope>,
    /// The whole ceiling; `null`: follows the scopes. Needs access `administrator`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "crate::present::deserialize")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<PatternSet>))]
    pub ceiling: Option<Option<PatternSet>>,
    /// Patterns the ceiling gains. Needs access `administrator`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub add_ceiling: BTreeSet<Pattern>,
    /// Patterns the ceiling loses. Needs access `administrator`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub remove_ceiling: BTreeSet<Pattern>,
    /// All roles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<Name>>,
    /// All attestation rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestation: Option<Vec<AttestationRule>>,
    /// The longest a certificate lives, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u32>,
    /// The most instances at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_instances: Option<u32>,
    /// Whether all instances share one SPIFFE ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<bool>,
}

impl AgentPatch {
    /// Whether the ceiling is touched.
    pub fn touches_ceiling(&self) -> bool {
        self.ceiling.is_some() || !self.add_ceiling.is_empty() || !self.remove_ceiling.is_empty()
    }

    /// The agent with the changes, its state, revision and log position untouched. Adding to an absent ceiling begins
    /// one from what the agent holds, so that adding never narrows.
    ///
    /// # Errors
    /// More than 64 scopes or patterns in the end.
    pub fn apply(self, mut agent: Agent) -> Result<Agent, ScopeError> {
        let scopes = change(self.scopes.as_ref().unwrap_or(&agent.scopes), &self.add_scopes, &self.remove_scopes);
        if !self.add_ceiling.is_empty() || !self.remove_ceiling.is_empty() {
            let before = match self.ceiling.unwrap_or(agent.ceiling) {
                Some(ceiling) => ceiling.to_vec(),
                None => agent.scopes.iter().cloned().map(Pattern::from).collect(),
            };
            agent.ceiling = Some(PatternSet::new(change(&before, &self.add_ceiling, &self.remove_ceiling))?);
        } else if let Some(ceiling) = self.ceiling {
            agent.ceiling = ceiling;
        }
        agent.scopes = ScopeSet::new(scopes)?;
        replace(&mut agent.owner, self.owner);
        replace(&mut agent.description, self.description);
        replace(&mut agent.labels, self.labels);
        replace(&mut agent.roles, self.roles);
        replace(&mut agent.attestation, self.attestation);
        replace(&mut agent.ttl_s, self.ttl_s);
        replace(&mut agent.max_instances, self.max_instances);
        replace(&mut agent.shared, self.shared);
        Ok(agent)
    }
}

/// What is held, without what is removed, with what is added.
pub(crate) fn change<T: Clone + Ord>(held: &[T], add: &BTreeSet<T>, remove: &BTreeSet<T>) -> Vec<T> {
    held.iter().filter(|member| !remove.contains(member)).chain(add).cloned().collect()
}

pub(crate) fn replace<T>(field: &mut T, sent: Option<T>) {
    if let Some(sent) = sent {
        *field = sent;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn agent() -> Agent {
        let scopes = ["tools/call:crm/get_customer", "tools/call:crm/list"].map(|scope| scope.parse().unwrap());
        Agent {
            name: "bot".parse().unwrap(),
            owner: "team".parse().unwrap(),
            description: String::new(),
            labels: BTreeMap::new(),
            scopes: ScopeSet::new(scopes).unwrap(),
            ceiling: None,
            roles: Vec::new(),
            attestation: vec![AttestationRule::JOIN_TOKEN],
            ttl_s: 3600,
            max_instances: 20,
            dns: Vec::new(),
            shared: false,
            state: State::Active,
            revision: 3,
            created_at: Timestamp::from_unix_seconds(0),
            created_by: Actor::Issuer,
            log_index: 7,
        }
    }

    fn patched(patch: Value) -> Agent {
        serde_json::from_value::<AgentPatch>(patch).unwrap().apply(agent()).unwrap()
    }

    fn texts<T: ToString>(members: &[T]) -> Vec<String> {
        members.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_patch_changes_what_it_names_and_nothing_else() {
        assert_eq!(patched(json!({})), agent());
        let owner: Name = "others".parse().unwrap();
        assert_eq!(patched(json!({ "owner": "others", "ttl_s": 600 })), Agent { owner, ttl_s: 600, ..agent() });
    }

    #[test]
    fn scopes_are_added_removed_and_replaced() {
        let changed = patched(json!({
            "add_scopes": ["tools/call:crm/refund", "tools/call:crm/list"],
            "remove_scopes": ["tools/call:crm/get_customer", "tools/call:crm/never_held"],
        }));
        assert_eq!(texts(&changed.scopes), ["tools/call:crm/list", "tools/call:crm/refund"]);
        let replaced = patched(json!({ "scopes": ["a:b/c"], "add_scopes": ["a:b/d"] }));
        assert_eq!(texts(&replaced.scopes), ["a:b/c", "a:b/d"]);
    }

    #[test]
    fn a_ceiling_begins_from_what_is_held_and_null_ends_it() {
        let begun = patched(json!({ "add_ceiling": ["tools/call:billing/*"] })).ceiling.unwrap();
        assert_eq!(
            texts(&begun),
            ["tools/call:billing/*", "tools/call:crm/get_customer", "tools/call:crm/list"],
            "adding to what was unlimited by its own scopes must not take them away"
        );
        let set = patched(json!({ "ceiling": ["tools/call:crm/*"] }));
        assert_eq!(texts(set.ceiling.as_ref().unwrap()), ["tools/call:crm/*"]);
        let ended: AgentPatch = serde_json::from_value(json!({ "ceiling": null })).unwrap();
        assert!(ended.touches_ceiling());
        assert_eq!(serde_json::to_value(&ended).unwrap(), json!({ "ceiling": null }));
        assert_eq!(ended.apply(set).unwrap().ceiling, None);
        assert!(!AgentPatch::default().touches_ceiling());
    }

    #[test]
    fn what_was_not_sent_agrees_and_what_was_sent_must_be_equal() {
        let new = |fields: Value| {
            let mut new = json!({ "name": "bot", "owner": "team", "scopes": agent().scopes });
            new.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            serde_json::from_value::<NewAgent>(new).unwrap().agrees_with(&agent())
        };
        assert!(new(json!({})));
        assert!(new(json!({ "ttl_s": 3600, "max_instances": 20, "attestation": [{ "method": "join_token" }] })));
        for other in [
            json!({ "owner": "others" }),
            json!({ "scopes": [] }),
            json!({ "ceiling": ["a:b/c"] }),
            json!({ "ttl_s": 60 }),
            json!({ "attestation": [] }),
            json!({ "labels": { "env": "prod" } }),
        ] {
            assert!(!new(other.clone()), "{other}");
        }
    }

    #[test]
    fn requests_refuse_unknown_fields_and_answers_survive_new_ones() {
        assert!(serde_json::from_value::<AgentPatch>(json!({ "add_scope": [] })).is_err());
        assert!(serde_json::from_value::<NewAgent>(json!({ "name": "a", "owner": "b", "state": "active" })).is_err());
        let mut answer = serde_json::to_value(agent()).unwrap();
        answer.as_object_mut().unwrap().insert("later".into(), json!(1));
        assert_eq!(serde_json::from_value::<Agent>(answer).unwrap(), agent());
    }
}
