//! One request as a proxy tells it, decided as the verifier decides its own.

use std::sync::Arc;

use chancery_api::{Problem, Retry};
use chancery_verifier::{Allowed, ChainRefused, Denial, Guard, Knowledge, Peer, Verifier};

use super::authorities::Authorities;
use super::certificate;

/// Decides requests that arrive elsewhere.
pub(super) struct Decider {
    guard: Guard,
    authorities: Arc<Authorities>,
}

/// One request as a proxy tells it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) method: &'a str,
    /// The request target as it came, its query included.
    pub(super) target: &'a str,
    /// The certificate that the client proved in its handshake with the proxy to hold the key of.
    pub(super) certificate: Option<&'a str>,
}

/// Leave for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leave {
    spiffe_id: String,
    scopes: String,
    knowledge: Knowledge,
}

impl Decider {
    pub(super) fn new(guard: Guard, authorities: Arc<Authorities>) -> Self {
        Self { guard, authorities }
    }

    pub(super) fn verifier(&self) -> &Verifier {
        self.guard.verifier()
    }

    pub(super) fn decide(&self, asked: Asked<'_>) -> Result<Leave, Box<Problem>> {
        let path = path(asked.target)?;
        let now = self.verifier().now();
        match self.guard.check(None, asked.method, path, now) {
            Ok(public) => Ok(Leave { spiffe_id: String::new(), scopes: String::new(), knowledge: public.knowledge() }),
            Err(Denial::NoCertificate) => {
                let peer = self.peer(asked.certificate)?;
                let allowed = self.guard.check(&peer, asked.method, path, now).map_err(problem)?;
                Ok(Leave::of(&peer, &allowed))
            }
            Err(denial) => Err(problem(denial)),
        }
    }

    /// Verifies the forwarded certificate anew, each time: what was true of it a request ago may not be now.
    fn peer(&self, forwarded: Option<&str>) -> Result<Peer, Box<Problem>> {
        let forwarded = forwarded.ok_or_else(|| problem(Denial::NoCertificate))?;
        let leaf = certificate::leaf(forwarded)
            .map_err(|_| malformed("the certificate that the proxy forwards is neither PEM nor DER in base64"))?;
        let peer = self.verifier().client(&self.authorities.chain_of(leaf), self.verifier().now());
        peer.map_err(|denial| {
            if denial == Denial::Chain(ChainRefused::UnknownIssuer) {
                self.authorities.missed();
            }
            problem(denial)
        })
    }
}

impl Leave {
    /// Scopes of other systems are none of this service's business.
    fn of(peer: &Peer, allowed: &Allowed) -> Self {
        let system = allowed.scope().map(|scope| scope.system());
        let scopes = peer.scopes().iter().filter(|scope| Some(scope.system()) == system);
        Self {
            spiffe_id: peer.spiffe_id().to_string(),
            scopes: scopes.map(ToString::to_string).collect::<Vec<_>>().join(" "),
            knowledge: allowed.knowledge(),
        }
    }

    /// What the service behind the proxy learns, by header. Each is always there, empty where nobody is known, so that
    /// nothing that a client sent under these names is left.
    pub(super) fn headers(&self) -> [(&'static str, &str); 3] {
        [
            ("chancery-spiffe-id", &self.spiffe_id),
            ("chancery-scopes", &self.scopes),
            ("chancery-knowledge", self.knowledge.as_str()),
        ]
    }
}

/// The path of an origin-form target (RFC 9112 §3.2.1). A fragment is no part of one, and readers differ on what to do with it.
fn path(target: &str) -> Result<&str, Box<Problem>> {
    if target.contains('#') {
        return Err(malformed("the request target has a fragment"));
    }
    Ok(target.split_once('?').map_or(target, |(path, _)| path))
}

fn problem(denial: Denial) -> Box<Problem> {
    Box::new(Problem::from(&denial))
}

/// What the proxy told cannot be understood, so it is no question about a client.
pub(super) fn malformed(detail: &str) -> Box<Problem> {
    Box::new(Problem {
        r#type: "about:blank".into(),
        code: "forwarded-malformed".into(),
        title: "forwarded malformed".into(),
        status: 400,
        detail: detail.into(),
        instance: None,
        needs: Vec::new(),
        holds: Vec::new(),
        fix: vec![
            "the service's operator: see that the proxy sets each header of chancery authz serve --help, once".into(),
        ],
        retry: Retry::No,
        request_id: None,
        log_index: None,
    })
}
