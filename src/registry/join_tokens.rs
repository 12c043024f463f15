//! Join tokens.

use std::net::IpAddr;
use std::time::Duration;

use chancery_api::{
    Access, Admin, Agent, JoinSecret, JoinString, JoinToken, JoinTokenCreated, NewJoinToken, Service, Subject,
};
use chancery_identity::{JoinTokenId, Timestamp};
use ring::digest::{SHA256, digest};

use crate::caller::Caller;
use crate::config::text;
use crate::random::Random;
use crate::refusal::{Code, Refusal};
use crate::store::{Committed, CreateJoinToken, DeleteJoinToken};

use super::{Registry, invalid, missing};

const TTL_DEFAULT: Duration = Duration::from_secs(15 * 60);
const TTL_MAX: Duration = Duration::from_secs(30 * 86_400);
/// A secret that so many hold is one in name only; what a use costs does not depend on it.
const USES_MAX: u32 = 1_000_000;

impl Registry {
    /// Makes a join token. The answer is the only place where its secret stands in clear.
    ///
    /// # Errors
    /// No such record, values that cannot be, or an administrator's token by one who may not make it.
    pub async fn create_join_token(
        &self,
        new: NewJoinToken,
        caller: &Caller,
        now: Timestamp,
    ) -> Result<Committed<JoinTokenCreated>, Refusal> {
        let exists = match &new.subject {
            Subject::Agent(name) => self.store.state().record::<Agent>(name).is_some(),
            Subject::Service(name) => self.store.state().record::<Service>(name).is_some(),
            Subject::Admin(name) => {
                caller.require(Access::Administrator)?;
                self.store.state().record::<Admin>(name).is_some()
            }
        };
        if !exists {
            return Err(missing(&new.subject));
        }
        let ttl = new.ttl_s.map_or(TTL_DEFAULT, |seconds| Duration::from_secs(seconds.into()));
        if ttl.is_zero() || ttl > TTL_MAX {
            return Err(Refusal::new(
                Code::TtlRefused,
                format!("ttl_s: wanted 1s to {}, got {}", text(TTL_MAX), text(ttl)),
            ));
        }
        if !(1..=USES_MAX).contains(&new.uses) {
            return Err(invalid(format!("uses: wanted 1 to {USES_MAX}, got {}", new.uses)));
        }
        if let Some(bad) = new.cidrs.iter().find(|network| !is_network(network)) {
            return Err(invalid(format!("cidrs: {bad:?} is no network like 10.0.0.0/8")));
        }
        let secret = JoinSecret::from_bytes(self.rng.bytes()?);
        let token = JoinToken {
            id: JoinTokenId::new(self.ids.uuid(now)?),
            subject: new.subject,
            uses: new.uses,
            used: 0,
            cidrs: new.cidrs,
            expires_at: now + ttl,
            created_at: now,
            created_by: caller.actor.clone(),
            log_index: 0,
        };
        let secret_hash = digest(&SHA256, secret.bytes()).as_ref().try_into().unwrap_or_default();
        let join = JoinString::new(&self.public_url.to_string(), secret.clone(), self.root_pin)
            .map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
        let committed = self.store.commit(CreateJoinToken { cause: caller.cause(), token, secret_hash }).await?;
        Ok(committed.map(|token| JoinTokenCreated { id: token.id, token: secret, join, expires_at: token.expires_at }))
    }

    /// Takes a join token away. Who came in with it stays.
    ///
    /// # Errors
    /// No such token.
    pub async fn delete_join_token(&self, id: JoinTokenId, caller: &Caller) -> Result<Committed<()>, Refusal> {
        Ok(self.store.commit(DeleteJoinToken { cause: caller.cause(), id }).await?)
    }
}

fn is_network(text: &str) -> bool {
    text.split_once('/').is_some_and(|(base, prefix)| {
        let bits = base.parse::<IpAddr>().map(|ip| if ip.is_ipv4() { 32 } else { 128 });
        bits.is_ok_and(|bits| prefix.parse::<u8>().is_ok_and(|prefix| prefix <= bits))
    })
}
