//! Agents.

use chancery_api::{Access, Agent, AgentPatch, AttestationRule, NewAgent, State, Subject};
use chancery_identity::{Name, Timestamp};

use crate::caller::Caller;
use crate::refusal::{Code, Refusal};
use crate::store::{Committed, Put};

use super::{Registration, Registry, check_words, existing, invalid, missing, revision};

/// Unless the operator says otherwise.
const MAX_INSTANCES_DEFAULT: u32 = 20;

impl Registry {
    /// Registers an agent.
    ///
    /// # Errors
    /// One of this name that differs, values that cannot be, or a ceiling by one who may not set it.
    pub async fn create_agent(&self, new: NewAgent, caller: &Caller) -> Result<Registration<Agent>, Refusal> {
        if let Some(found) = self.store.state().record::<Agent>(&new.name) {
            let agrees = new.agrees_with(&found);
            return existing(found, agrees);
        }
        if new.ceiling.is_some() {
            caller.require(Access::Administrator)?;
        }
        let agent = Agent {
            ttl_s: self.ttl_s(new.ttl_s)?,
            name: new.name,
            owner: new.owner,
            description: new.description.unwrap_or_default(),
            labels: new.labels.unwrap_or_default(),
            scopes: new.scopes,
            ceiling: new.ceiling,
            roles: new.roles.unwrap_or_default(),
            attestation: new.attestation.unwrap_or_else(|| vec![AttestationRule::JOIN_TOKEN]),
            max_instances: new.max_instances.unwrap_or(MAX_INSTANCES_DEFAULT),
            dns: new.dns.unwrap_or_default(),
            shared: new.shared.unwrap_or(false),
            state: State::Active,
            revision: 0,
            created_at: Timestamp::default(),
            created_by: caller.actor.clone(),
            log_index: 0,
        };
        check(&agent)?;
        let put = Put { cause: caller.cause(), record: agent, changes: None };
        Ok(Registration::Created(self.store.commit(put).await?))
    }

    /// Changes an agent. Instances learn of it at once, by their open `whoami`.
    ///
    /// # Errors
    /// No such agent, another revision than the one named, values that cannot be.
    pub async fn update_agent(
        &self,
        name: &Name,
        patch: AgentPatch,
        if_match: Option<u64>,
        caller: &Caller,
    ) -> Result<Committed<Agent>, Refusal> {
        let found = self.store.state().record::<Agent>(name).ok_or_else(|| missing(&Subject::Agent(name.clone())))?;
        if patch.ceiling.is_some() || !patch.add_ceiling.is_empty() || !patch.remove_ceiling.is_empty() {
            caller.require(Access::Administrator)?;
        }
        let changes = Some(revision(&*found, if_match)?);
        let ttl_s = self.ttl_s(Some(patch.ttl_s.unwrap_or(found.ttl_s)))?;
        let agent = patch.apply(Agent::clone(&found)).map_err(|error| invalid(error.to_string()))?;
        let agent = Agent { ttl_s, ..agent };
        check(&agent)?;
        Ok(self.store.commit(Put { cause: caller.cause(), record: agent, changes }).await?)
    }
}

fn check(agent: &Agent) -> Result<(), Refusal> {
    check_words(&agent.description, &agent.labels)?;
    if !agent.roles.is_empty() {
        return Err(invalid("roles: there are none in this version; list the scopes"));
    }
    if !agent.dns.is_empty() {
        return Err(
            invalid("dns: only services have DNS names").fix("register it as a service: chancery services create")
        );
    }
    if agent.max_instances == 0 {
        return Err(
            invalid("max_instances is 0; wanted at least 1").fix("to stop an agent: chancery suspend agent:NAME")
        );
    }
    if let Some(ceiling) = &agent.ceiling {
        let above: Vec<_> = agent.scopes.iter().filter(|scope| !ceiling.covers(scope)).collect();
        if let Some(first) = above.first() {
            let detail = format!("{} would hold {first}; its ceiling does not cover it", agent.name);
            let fix = format!("an administrator: chancery agents update {} --add-ceiling {first}", agent.name);
            return Err(Refusal::new(Code::ScopeAboveCeiling, detail).needs(above).holds(ceiling.iter()).fix(fix));
        }
    }
    Ok(())
}
