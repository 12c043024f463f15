//! Services.

use chancery_api::{AttestationRule, NewService, Service, ServicePatch, State, Subject};
use chancery_identity::{Name, Timestamp};

use crate::caller::Caller;
use crate::refusal::{Code, Refusal};
use crate::store::{Committed, Put};

use super::{Registration, Registry, check_words, existing, invalid, missing, revision};

impl Registry {
    /// Registers a service.
    ///
    /// # Errors
    /// One of this name that differs, a system or DNS name of another's, a DNS name outside the configured suffixes.
    pub async fn create_service(&self, new: NewService, caller: &Caller) -> Result<Registration<Service>, Refusal> {
        if let Some(found) = self.store.state().record::<Service>(&new.name) {
            let agrees = new.agrees_with(&found);
            return existing(found, agrees);
        }
        let service = Service {
            ttl_s: self.ttl_s(new.ttl_s)?,
            name: new.name,
            owner: new.owner,
            description: new.description.unwrap_or_default(),
            labels: new.labels.unwrap_or_default(),
            systems: new.systems,
            dns: new.dns,
            scopes: new.scopes,
            attestation: new.attestation.unwrap_or_else(|| vec![AttestationRule::JOIN_TOKEN]),
            state: State::Active,
            revision: 0,
            created_at: Timestamp::default(),
            created_by: caller.actor.clone(),
            log_index: 0,
        };
        self.check_service(&service)?;
        let put = Put { cause: caller.cause(), record: service, changes: None };
        Ok(Registration::Created(self.store.commit(put).await?))
    }

    /// Changes a service.
    ///
    /// # Errors
    /// No such service, another revision than the one named, values that cannot be.
    pub async fn update_service(
        &self,
        name: &Name,
        patch: ServicePatch,
        if_match: Option<u64>,
        caller: &Caller,
    ) -> Result<Committed<Service>, Refusal> {
        let found =
            self.store.state().record::<Service>(name).ok_or_else(|| missing(&Subject::Service(name.clone())))?;
        let changes = Some(revision(&*found, if_match)?);
        let ttl_s = self.ttl_s(Some(patch.ttl_s.unwrap_or(found.ttl_s)))?;
        let service = patch.apply(Service::clone(&found)).map_err(|error| invalid(error.to_string()))?;
        let service = Service { ttl_s, ..service };
        self.check_service(&service)?;
        Ok(self.store.commit(Put { cause: caller.cause(), record: service, changes }).await?)
    }

    fn check_service(&self, service: &Service) -> Result<(), Refusal> {
        check_words(&service.description, &service.labels)?;
        for name in &service.dns {
            if name.contains('*') {
                return Err(invalid(format!("dns: {name} is a wildcard; list each name")));
            }
            if name == self.public_url.host() {
                return Err(Refusal::new(Code::Taken, format!("dns: {name} is the issuer's own name")));
            }
            let within = |suffix: &String| {
                name == suffix || name.strip_suffix(suffix.as_str()).is_some_and(|rest| rest.ends_with('.'))
            };
            if !self.dns_suffixes.iter().any(within) {
                return Err(invalid(format!("dns: {name} is outside the configured suffixes"))
                    .needs(&self.dns_suffixes)
                    .fix("whoever runs the issuer: dns_suffixes in chancery.toml"));
            }
        }
        Ok(())
    }
}
