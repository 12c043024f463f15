//! The first administrator, where nobody can make one but the issuer's own user on its own machine.
//!
//! At a start without any administrator a token is written beside the data, for the issuer's user to read. It buys one
//! administrator, once, within the hour; it is void once there is any administrator, however that came about.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chancery_api::{
    Access, Admin, FirstAdministrator, JoinSecret, JoinString, JoinTokenCreated, NewAdmin, NewJoinToken, Subject,
};
use chancery_identity::{Actor, RequestId, Timestamp};
use ring::digest::{SHA256, digest};
use tokio::sync::Mutex;

use crate::caller::Caller;
use crate::random::Random;
use crate::refusal::{Code, Refusal};
use crate::store::Committed;

use super::Registry;

const FILE: &str = "first-administrator.token";
const LIFE: Duration = Duration::from_secs(3600);

/// The token for the first administrator. Of its secret only the hash is kept in memory.
#[derive(Debug)]
pub struct FirstToken {
    secret_hash: [u8; 32],
    path: PathBuf,
    expires_at: Timestamp,
    used: Mutex<bool>,
}

impl FirstToken {
    /// Where it stands.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// When it is void at the latest.
    pub const fn expires_at(&self) -> Timestamp {
        self.expires_at
    }
}

impl Registry {
    /// Writes a token where there is no administrator yet; where there is one, takes away what an earlier run left.
    ///
    /// # Errors
    /// A folder that cannot be written to, or no randomness.
    pub(crate) fn write_first_token(&self, data_dir: &Path, now: Timestamp) -> Result<Option<FirstToken>, Refusal> {
        let path = data_dir.join(FILE);
        let failed = |error: &dyn std::fmt::Display| {
            Refusal::new(Code::Internal, format!("the first administrator's token {}: {error}", path.display()))
        };
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(&error)),
            _ => {}
        }
        if self.has_administrators() {
            return Ok(None);
        }
        let secret = JoinSecret::from_bytes(self.rng.bytes()?);
        let secret_hash = hash(&secret);
        let join = JoinString::new(&self.public_url.to_string(), secret, self.root_pin).map_err(|e| failed(&e))?;
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| writeln!(file, "{join}")).map_err(|error| failed(&error))?;
        Ok(Some(FirstToken { secret_hash, path, expires_at: now + LIFE, used: Mutex::new(false) }))
    }

    /// Takes the token's file away if it is void. Returns whether it is.
    pub(crate) fn void_first_token(&self, token: &FirstToken, now: Timestamp) -> bool {
        let void = token.expires_at <= now || self.has_administrators();
        if void {
            // It buys nothing any more, whether it is there or not.
            let _ = std::fs::remove_file(&token.path);
        }
        void
    }

    /// Creates the first administrator, with every access level, and the join token that it enrols with.
    ///
    /// # Errors
    /// Another secret, one that was used or is over, or an administrator that is there.
    pub(crate) async fn create_first_admin(
        &self,
        token: Option<&FirstToken>,
        request: FirstAdministrator,
        request_id: RequestId,
        now: Timestamp,
    ) -> Result<Committed<JoinTokenCreated>, Refusal> {
        let secret_hash = hash(&request.token);
        let token = token.filter(|token| token.secret_hash == secret_hash);
        let token = token.ok_or_else(|| Refusal::new(Code::UnknownToken, "unknown token"))?;
        let mut used = token.used.lock().await;
        if *used || self.has_administrators() {
            let detail = "the token is for the first administrator, and there is one";
            return Err(Refusal::new(Code::TokenUsed, detail)
                .fix("an administrator: chancery admins create NAME --access LEVEL")
                .fix("if that was not you, on the issuer's host: chancery admins list"));
        }
        if token.expires_at <= now {
            let detail = format!("the first administrator's token ended at {}", token.expires_at);
            return Err(Refusal::new(Code::TokenExpired, detail)
                .fix("on the issuer's host, as its user: chancery admins create NAME --access administrator")
                .fix("or restart the issuer: it writes a new one"));
        }
        let caller = Caller { actor: Actor::Issuer, access: Access::ALL.into(), request_id };
        let description = Some("the first administrator, by the issuer's token file".to_owned());
        let new = NewAdmin { name: request.name.clone(), description, access: Access::ALL.into() };
        self.create_admin(new, &caller).await?;
        *used = true;
        self.void_first_token(token, now);
        let new = NewJoinToken { subject: Subject::Admin(request.name), uses: 1, ttl_s: None, cidrs: Vec::new() };
        self.create_join_token(new, &caller, now).await
    }

    fn has_administrators(&self) -> bool {
        !self.store.state().records::<Admin>().is_empty()
    }
}

fn hash(secret: &JoinSecret) -> [u8; 32] {
    digest(&SHA256, secret.bytes()).as_ref().try_into().unwrap_or_default()
}
