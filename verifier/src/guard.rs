//! The check of each request.

use std::fmt;
use std::sync::Arc;

use chancery_identity::normalise::Path;
use chancery_identity::{Scope, ScopeSet};

use crate::rules::Access;
use crate::{Denial, Knowledge, Moment, Peer, Rules, RulesRefused, Verifier};

/// Lets a request through if a rule lists it and its peer, now, may make it. Clones share one set of rules.
#[derive(Clone, Debug)]
pub struct Guard {
    verifier: Verifier,
    rules: Arc<Rules>,
}

impl Guard {
    pub(crate) fn new(verifier: Verifier, rules: Rules) -> Result<Self, RulesRefused> {
        let rules = rules.checked()?;
        if let Some(system) = rules.systems().find(|system| !verifier.serves(system)) {
            return Err(RulesRefused::System { came: system.into(), wanted: verifier.status().systems });
        }
        Ok(Self { verifier, rules: Arc::new(rules) })
    }

    /// Checks one request: that a rule lists it; that the peer's certificate is valid now; that neither it nor an
    /// authority or ancestor of it is revoked, and that this is known well enough; that one of its scopes covers it, and
    /// that it is not forbidden to everybody.
    ///
    /// `path` is the path of the request target as it came on the wire, without its query. What to serve is
    /// [`Allowed::path`], which is what was checked.
    ///
    /// # Errors
    /// The first of these that does not hold.
    pub fn check<'p>(
        &self,
        peer: impl Into<Option<&'p Peer>>,
        method: impl AsRef<str>,
        path: &str,
        now: Moment,
    ) -> Result<Allowed, Denial> {
        let method = method.as_ref();
        let path = Path::parse(path)?;
        let not_listed = || Denial::NotListed { method: clip(method), path: clip(&path.to_string()) };
        let needs = match self.rules.needs(method, &path).ok_or_else(not_listed)? {
            Ok(Access::Public) => return Ok(Allowed { path, scope: None, knowledge: Knowledge::Fresh }),
            Ok(Access::Scope(needs)) => needs,
            // The path is too long for any scope to name its object.
            Err(_) => return Err(not_listed()),
        };
        let peer = peer.into().ok_or(Denial::NoCertificate)?;
        let knowledge = self.check_scope(peer, &needs, now)?;
        Ok(Allowed { path, scope: Some(needs), knowledge })
    }

    /// Checks that the peer may, now, do what needs the scope; for what is no HTTP request.
    ///
    /// # Errors
    /// As [`Guard::check`], rules aside.
    pub fn check_scope(&self, peer: &Peer, needs: &Scope, now: Moment) -> Result<Knowledge, Denial> {
        let knowledge = self.verifier.check(peer, now)?;
        if !self.verifier.serves(needs.system()) {
            return Err(needs.system().parse().map_or_else(
                |_| Denial::NotListed { method: needs.action().into(), path: needs.object().into() },
                Denial::SystemNotServed,
            ));
        }
        if !peer.scopes().covers(needs) {
            let same_system = peer.scopes().iter().filter(|held| held.system() == needs.system()).cloned();
            return Err(Denial::ScopeMissing {
                needs: needs.clone(),
                holds: ScopeSet::new(same_system).unwrap_or_default(),
                spiffe_id: peer.spiffe_id().clone(),
            });
        }
        self.verifier.forbid(needs)?;
        if knowledge > Knowledge::Fresh && self.rules.of_high_risk(needs) {
            return Err(Denial::RevocationStale { needs: needs.clone() });
        }
        peer.accepted(now.wall, needs);
        #[cfg(feature = "tokio")]
        if peer.is_forwarded() {
            self.verifier.registry().remember(peer);
        }
        Ok(knowledge)
    }

    /// The verifier behind it.
    pub const fn verifier(&self) -> &Verifier {
        &self.verifier
    }
}

/// A request that was let through. Only a guard makes one.
///
/// ```compile_fail,E0451
/// # fn pretend(path: chancery_identity::normalise::Path, knowledge: chancery_verifier::Knowledge) {
/// let allowed = chancery_verifier::Allowed { path, scope: None, knowledge };
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Allowed {
    path: Path,
    scope: Option<Scope>,
    knowledge: Knowledge,
}

impl Allowed {
    /// The path that was checked, which is the one to serve.
    pub const fn path(&self) -> &Path {
        &self.path
    }

    /// The scope that the request needed; `None` for a public one.
    pub const fn scope(&self) -> Option<&Scope> {
        self.scope.as_ref()
    }

    /// Fresh, or stale: served, and flagged by this.
    pub const fn knowledge(&self) -> Knowledge {
        self.knowledge
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scope {
            Some(scope) => write!(f, "{} by {scope}, {}", self.path, self.knowledge),
            None => write!(f, "{}, public", self.path),
        }
    }
}

/// What came, cut so that a refusal stays one line.
fn clip(text: &str) -> Box<str> {
    text.chars().take(80).collect::<String>().into()
}
