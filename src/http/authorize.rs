//! Who calls, and whether the route is for them. Before any handler, and before any body is read.

use std::collections::BTreeSet;
use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use chancery_api::{Access, Admin, State as RecordState, Subject};
use chancery_identity::{Actor, RequestId};
use chancery_tlog::Facts;
use chancery_verifier::Peer;

use crate::caller::{Caller, Origin};
use crate::refusal::{Code, Refusal};
use crate::registry;
use crate::store::Deny;

use super::App;
use super::answer::refusal_in;

/// Whom a route is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Anybody.
    Public,
    /// Anybody, so often.
    Limited,
    /// Whoever holds a living certificate of ours: an agent, a service, an administrator.
    Holder,
    /// A holder, an API token, or the local administrator.
    Known,
    /// Whoever has this access: an administrator, an API token, the local administrator.
    Admin(Access),
}

/// The holder of the certificate of this connection: an extension of each request on routes for holders.
#[derive(Clone, Debug)]
pub(super) struct Holder {
    pub(super) peer: Peer,
    pub(super) subject: Subject,
}

/// What the layer needs to know of its route.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) app: App,
    pub(super) class: Class,
    pub(super) takes_query: bool,
}

/// Lets a request through to its handler, or refuses it.
pub(super) async fn authorize(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let (mut head, body) = request.into_parts();
    if let Err(refusal) = gate.admit(&mut head).await {
        return refusal.into_response();
    }
    let caller = head.extensions.get::<Caller>().cloned();
    let response = next.run(Request::from_parts(head, body)).await;
    match (caller, refusal_in(&response)) {
        // What a known caller may not do is a decision too, wherever it was found out.
        (Some(caller), Some(refusal)) if refusal.code().status() == 403 => {
            gate.denied(&caller, refusal.clone()).await.into_response()
        }
        _ => response,
    }
}

impl Gate {
    async fn admit(&self, head: &mut Parts) -> Result<(), Refusal> {
        let missing = |what: &str| Refusal::new(Code::Internal, format!("the request has no {what}"));
        if !self.takes_query && head.uri.query().is_some_and(|query| !query.is_empty()) {
            return Err(Refusal::new(Code::BadRequest, "query: the route takes no query parameters"));
        }
        let origin = head.extensions.get::<Origin>().cloned().ok_or_else(|| missing("origin"))?;
        let request_id = head.extensions.get::<RequestId>().copied().ok_or_else(|| missing("id"))?;
        match self.class {
            Class::Public => {}
            Class::Limited => address(&origin).map_or(Ok(()), |address| self.app.limits.admit(address))?,
            Class::Holder | Class::Known => {
                let caller = match peer(&origin) {
                    Some(peer) => {
                        let holder = self.holder(peer)?;
                        let caller = self.caller(&holder, request_id);
                        head.extensions.insert(holder);
                        caller
                    }
                    None if self.class == Class::Known => self.without_certificate(head, &origin, request_id).await?,
                    None => return Err(no_certificate()),
                };
                head.extensions.insert(caller);
            }
            Class::Admin(level) => {
                let caller = match peer(&origin) {
                    Some(peer) => self.administrator(peer, request_id).await?,
                    None => self.without_certificate(head, &origin, request_id).await?,
                };
                if let Err(refusal) = caller.require(level) {
                    return Err(self.denied(&caller, refusal).await);
                }
                head.extensions.insert(caller);
            }
        }
        Ok(())
    }

    /// Verified at the handshake is not enough: between two requests a certificate can end.
    fn holder(&self, peer: &Peer) -> Result<Holder, Refusal> {
        self.app.admit(peer)?;
        let wrong = || Refusal::new(Code::WrongCaller, format!("{} is no registered identity", peer.spiffe_id()));
        let subject = registry::subject(peer.spiffe_id()).ok_or_else(wrong)?;
        Ok(Holder { peer: peer.clone(), subject })
    }

    /// Agents and services never reach administration, whatever token they show besides.
    async fn administrator(&self, peer: &Peer, request_id: RequestId) -> Result<Caller, Refusal> {
        let holder = self.holder(peer)?;
        let caller = self.caller(&holder, request_id);
        if matches!(holder.subject, Subject::Admin(_)) {
            return Ok(caller);
        }
        let detail = format!("{} is no administrator", peer.spiffe_id());
        Err(self.denied(&caller, Refusal::new(Code::WrongCaller, detail)).await)
    }

    /// Who the kernel says it is, or who holds the token.
    async fn without_certificate(
        &self,
        head: &Parts,
        origin: &Origin,
        request_id: RequestId,
    ) -> Result<Caller, Refusal> {
        let address = match origin {
            Origin::Local { uid } => {
                return Ok(Caller { actor: Actor::Local(*uid), access: BTreeSet::from(Access::ALL), request_id });
            }
            Origin::Tls { address, .. } => address.ip(),
            Origin::Plain => return Err(no_certificate()),
        };
        let token = bearer(head)?;
        // Counted before the database is asked.
        self.app.limits.admit(address)?;
        let token = self.app.registry().api_token(token, self.app.now()).await?;
        Ok(Caller { actor: Actor::Token(token.id), access: token.access, request_id })
    }

    fn caller(&self, holder: &Holder, request_id: RequestId) -> Caller {
        let actor = match &holder.subject {
            Subject::Admin(name) => Actor::Admin(name.clone()),
            Subject::Agent(_) | Subject::Service(_) => Actor::Holder(holder.peer.spiffe_id().clone()),
        };
        Caller { actor, access: self.access_of(&holder.subject), request_id }
    }

    /// What an administrator's record says now; nothing for others.
    fn access_of(&self, subject: &Subject) -> BTreeSet<Access> {
        match subject {
            Subject::Admin(name) => {
                let admin = self.app.store().state().record::<Admin>(name);
                let active = admin.filter(|admin| admin.state == RecordState::Active);
                active.map(|admin| admin.access.clone()).unwrap_or_default()
            }
            Subject::Agent(_) | Subject::Service(_) => BTreeSet::new(),
        }
    }

    /// A refusal of a known caller is a decision, and the log has it. A log that is slow or full refuses all the same.
    async fn denied(&self, caller: &Caller, refusal: Refusal) -> Refusal {
        if !self.app.limits.logs_denial(&caller.actor) {
            return refusal;
        }
        let facts = Facts::from_iter([("code", refusal.code().as_str().to_owned())]);
        let deny = Deny { cause: caller.cause(), subjects: Vec::new(), facts };
        match self.app.store().commit(deny).await {
            Ok(committed) => refusal.logged(committed.log_index()),
            Err(error) => {
                tracing::warn!(%error, actor = %caller.actor, "a refusal is not in the log");
                refusal
            }
        }
    }
}

fn peer(origin: &Origin) -> Option<&Peer> {
    match origin {
        Origin::Tls { peer, .. } => peer.as_ref(),
        Origin::Local { .. } | Origin::Plain => None,
    }
}

/// The network address, where there is one.
pub(super) fn address(origin: &Origin) -> Option<IpAddr> {
    match origin {
        Origin::Tls { address, .. } => Some(address.ip()),
        Origin::Local { .. } | Origin::Plain => None,
    }
}

fn bearer(head: &Parts) -> Result<&str, Refusal> {
    let Some(value) = head.headers.get(AUTHORIZATION) else {
        return Err(Refusal::new(Code::Unauthenticated, "the route needs an administrator; none was shown")
            .fix("chancery login, or an API token as Authorization: Bearer cht_…"));
    };
    // RFC 9110 §11.1: the scheme is case-insensitive.
    let token = value.to_str().ok().and_then(|text| text.split_once(' '));
    let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
    token.filter(|token| token.starts_with("cht_")).ok_or_else(|| {
        Refusal::new(Code::Unauthenticated, "Authorization: wanted \"Bearer\" and an API token, which begins with cht_")
    })
}

fn no_certificate() -> Refusal {
    Refusal::new(Code::Unauthenticated, "the route needs a client certificate of this issuer; none was shown")
        .fix("attest first: chancery run -- CMD, or the agent crate's Identity::from_env")
}
