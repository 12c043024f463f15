//! API tokens.

use std::time::Duration;

use chancery_api::{ApiToken, ApiTokenCreated, NewApiToken, Secret};
use chancery_identity::{Timestamp, TokenId};
use ring::digest::{SHA256, digest};

use crate::caller::Caller;
use crate::config::text;
use crate::random::Random;
use crate::refusal::{Code, Refusal};
use crate::store::{Committed, CreateApiToken, DeleteApiToken};

use super::{Registry, invalid};

const TTL_DEFAULT: Duration = Duration::from_secs(30 * 86_400);
const TTL_MAX: Duration = Duration::from_secs(365 * 86_400);

impl Registry {
    /// Makes an API token. The answer is the only place where its secret stands in clear.
    ///
    /// # Errors
    /// No access level, or a lifetime that cannot be.
    pub async fn create_api_token(
        &self,
        new: NewApiToken,
        caller: &Caller,
        now: Timestamp,
    ) -> Result<Committed<ApiTokenCreated>, Refusal> {
        if new.access.is_empty() {
            return Err(invalid("access: wanted at least one level"));
        }
        let ttl = new.ttl_s.map_or(TTL_DEFAULT, |seconds| Duration::from_secs(seconds.into()));
        if ttl.is_zero() || ttl > TTL_MAX {
            return Err(Refusal::new(
                Code::TtlRefused,
                format!("ttl_s: wanted 1s to {}, got {}", text(TTL_MAX), text(ttl)),
            ));
        }
        let secret = format!("cht_{}", hex(&self.rng.bytes::<32>()?));
        let token = ApiToken {
            id: TokenId::new(self.ids.uuid(now)?),
            description: new.description,
            access: new.access,
            expires_at: now + ttl,
            created_at: now,
            created_by: caller.actor.clone(),
            log_index: 0,
        };
        let secret_hash = secret_hash(&secret);
        let committed = self.store.commit(CreateApiToken { cause: caller.cause(), token, secret_hash }).await?;
        Ok(committed.map(|record| ApiTokenCreated { token: Secret::new(secret), record }))
    }

    /// The API token of a secret that a caller shows.
    ///
    /// # Errors
    /// No token of this secret, or one whose time is over.
    pub async fn api_token(&self, secret: &str, now: Timestamp) -> Result<ApiToken, Refusal> {
        let found = self.store.api_token_by_secret(&secret_hash(secret)).await?;
        let token = found.ok_or_else(|| Refusal::new(Code::UnknownToken, "unknown token"))?;
        if token.expires_at <= now {
            let detail = format!("the API token {} ended at {}", token.id, token.expires_at);
            return Err(Refusal::new(Code::TokenExpired, detail)
                .fix("an administrator: chancery api-tokens create --access LEVEL"));
        }
        Ok(token)
    }

    /// Takes an API token away; the next request with it is refused.
    ///
    /// # Errors
    /// No such token.
    pub async fn delete_api_token(&self, id: TokenId, caller: &Caller) -> Result<Committed<()>, Refusal> {
        Ok(self.store.commit(DeleteApiToken { cause: caller.cause(), id }).await?)
    }
}

/// How an API token is known at rest.
fn secret_hash(secret: &str) -> [u8; 32] {
    digest(&SHA256, secret.as_bytes()).as_ref().try_into().unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
