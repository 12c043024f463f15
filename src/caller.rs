//! Who asks, once they are known.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use chancery_api::Access;
use chancery_identity::{Actor, RequestId};
use chancery_verifier::Peer;

use crate::refusal::{Code, Refusal};
use crate::store::Cause;

/// Where a request comes from, as its socket knows. The server puts one into the extensions of every request.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_enums, reason = "each route decides for each")]
pub enum Origin {
    /// Over TLS; the peer is who its certificate says, if it showed one. What it may do is asked per request.
    Tls {
        /// Whom the handshake accepted.
        peer: Option<Peer>,
        /// From where.
        address: SocketAddr,
    },
    /// Over the admin socket, by a process of this user.
    Local {
        /// The user id, the issuer's own.
        uid: u32,
    },
    /// Over the plain listener.
    Plain,
}

/// A known caller of an administration route, and which request it is.
#[derive(Clone, Debug)]
pub struct Caller {
    /// As the log names it.
    pub actor: Actor,
    /// What it may do; nothing for agents and services.
    pub access: BTreeSet<Access>,
    /// The request.
    pub request_id: RequestId,
}

impl Caller {
    /// Who and why, for the log.
    pub fn cause(&self) -> Cause {
        Cause { actor: self.actor.clone(), request_id: Some(self.request_id) }
    }

    /// The caller must have this level.
    ///
    /// # Errors
    /// It does not; the refusal names what it has.
    pub fn require(&self, level: Access) -> Result<(), Refusal> {
        if level.is_met_by(&self.access) {
            return Ok(());
        }
        let detail = format!("{} may not do this: it needs access {level}", self.actor);
        let refusal = Refusal::new(Code::AccessMissing, detail).needs([level]).holds(&self.access);
        let levels: Vec<_> = self.access.iter().chain([&level]).map(ToString::to_string).collect();
        let levels = levels.join(",");
        Err(match &self.actor {
            Actor::Admin(name) => {
                refusal.fix(format!("an administrator: chancery admins update {name} --access {levels}"))
            }
            // What a token may do is fixed when it is made.
            Actor::Token(_) => {
                refusal.fix(format!("an administrator: chancery api-tokens create --access {levels}, for a new token"))
            }
            _ => refusal,
        })
    }
}
