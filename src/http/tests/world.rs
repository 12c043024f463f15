//! An issuer behind the routes, and callers as its sockets would bring them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use chancery_api::{
    Access, Evidence, Issued, JoinTokenCreated, JoinTokenEvidence, NewAdmin, NewAgent, NewJoinToken, NewService,
    Subject,
};
use chancery_identity::{Actor, RequestId};
use chancery_verifier::{Freshness, Material, Moment, Peer, Verifier};
use http_body_util::BodyExt as _;
use ring::rand::SystemRandom;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::authority::Seal;
use crate::caller::{Caller, Origin};
use crate::clock::SystemClock;
use crate::config::{Config, SealSource};
use crate::http::{Rates, api, status};
use crate::issuer::Issuer;
use crate::registry::Registration;
use crate::store::{Store, Writing};

/// An issuer in a folder of its own.
pub(super) struct World {
    pub(super) issuer: Arc<Issuer>,
    pub(super) api: Router,
    pub(super) status: Router,
    folder: PathBuf,
    _writing: Writing,
}

/// An answer, taken apart.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
}

impl Told {
    pub(super) fn code(&self) -> &str {
        self.body.get("code").and_then(Value::as_str).unwrap_or_default()
    }
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(Rates::default()).await
    }

    pub(super) async fn with(rates: Rates) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("chancery-http-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let address = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
        let config = Config::dev(folder.clone(), address(8443), address(8080)).unwrap();
        let SealSource::File(seal) = &config.seal else { panic!("--dev seals by a file") };
        Seal::create(seal, &SystemRandom::new()).unwrap();
        let url = config.database_url();
        Store::migrate(&url).await.unwrap();
        let store = Store::open(&url, Arc::new(SystemClock), Arc::new(SystemRandom::new())).await.unwrap();
        let writing = store.write("test").await.unwrap();
        let (issuer, _publisher, mut herald) = Issuer::open(config, store, Arc::new(SystemClock)).await.unwrap();
        herald.beat().await.unwrap();
        let (api, status) = (api(issuer.clone(), rates), status(issuer.clone()));
        Self { issuer, api, status, folder, _writing: writing }
    }

    /// A request that carries its origin, as the sockets make them.
    pub(super) async fn send(&self, router: &Router, request: Request<Body>, origin: Origin) -> Told {
        let mut request = request;
        request.extensions_mut().insert(origin);
        let (head, body) = router.clone().oneshot(request).await.unwrap().into_parts();
        // A feed never ends.
        let endless = head.headers.get("content-type").is_some_and(|value| value == "text/event-stream");
        let body = if endless { bytes::Bytes::new() } else { body.collect().await.unwrap().to_bytes() };
        let body = serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8_lossy(&body).into());
        Told { status: head.status, headers: head.headers, body }
    }

    pub(super) async fn call(&self, origin: Origin, method: Method, target: &str, body: Option<Value>) -> Told {
        let builder = Request::builder().method(method).uri(target);
        let request = match body {
            Some(body) => builder.header("content-type", "application/json").body(body.to_string().into()),
            None => builder.body(Body::empty()),
        };
        self.send(&self.api, request.unwrap(), origin).await
    }

    pub(super) async fn get(&self, origin: Origin, target: &str) -> Told {
        self.call(origin, Method::GET, target, None).await
    }

    pub(super) async fn post(&self, origin: Origin, target: &str, body: Value) -> Told {
        self.call(origin, Method::POST, target, Some(body)).await
    }

    pub(super) fn root(&self) -> Caller {
        Caller {
            actor: Actor::Local(0),
            access: BTreeSet::from(Access::ALL),
            request_id: RequestId::from_bytes([1; 16]),
        }
    }

    pub(super) async fn join_token(&self, subject: Subject) -> JoinTokenCreated {
        let new = NewJoinToken { subject, uses: 1, ttl_s: None, cidrs: Vec::new() };
        self.issuer.registry().create_join_token(new, &self.root(), self.issuer.now()).await.unwrap().into_reply()
    }

    /// A peer that attested over these routes and was verified as a handshake does.
    pub(super) async fn enrol(&self, subject: Subject) -> Peer {
        let token = self.join_token(subject).await.token;
        let evidence = Evidence::JoinToken(JoinTokenEvidence { token });
        let key = rcgen::KeyPair::generate().unwrap();
        let told = self.post(anonymous(), "/v1/attest", json!({ "evidence": evidence, "csr_pem": csr_of(&key) })).await;
        assert_eq!(told.status, StatusCode::CREATED, "{told:?}");
        self.peer(&serde_json::from_value(told.body).unwrap(), &key)
    }

    pub(super) fn peer(&self, issued: &Issued, key: &rcgen::KeyPair) -> Peer {
        let read = |pem: &str| CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>().unwrap();
        let chain = read(&issued.chain_pem);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let material = Material {
            chain: chain.clone(),
            key: Arc::new(PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()))),
            trust_domain: self.issuer.trust_domain().clone(),
            roots: read(&issued.bundle_pem).into(),
            crls: self.issuer.crls().all().iter().map(|crl| crl.der.clone().into()).collect(),
            answered: None,
            feed: None,
            freshness: Freshness::default(),
        };
        let now = Moment { wall: self.issuer.now(), monotonic: std::time::Instant::now() };
        let clock = Arc::new(chancery_verifier::SystemClock);
        Verifier::new(&material, provider, clock).unwrap().client(&chain, now).unwrap()
    }

    pub(super) async fn agent(&self, name: &str, scopes: &[&str]) -> Peer {
        let new: NewAgent = serde_json::from_value(json!({ "name": name, "owner": "team", "scopes": scopes })).unwrap();
        let Registration::Created(_) = self.issuer.registry().create_agent(new, &self.root()).await.unwrap() else {
            panic!("there is one")
        };
        self.enrol(Subject::Agent(name.parse().unwrap())).await
    }

    pub(super) async fn service(&self, name: &str) -> Peer {
        let new: NewService =
            serde_json::from_value(json!({ "name": name, "owner": "team", "systems": [name] })).unwrap();
        let Registration::Created(_) = self.issuer.registry().create_service(new, &self.root()).await.unwrap() else {
            panic!("there is one")
        };
        self.enrol(Subject::Service(name.parse().unwrap())).await
    }

    pub(super) async fn admin(&self, level: Access) -> Peer {
        let new: NewAdmin = serde_json::from_value(json!({ "name": level, "access": [level] })).unwrap();
        let Registration::Created(_) = self.issuer.registry().create_admin(new, &self.root()).await.unwrap() else {
            panic!("there is one")
        };
        self.enrol(Subject::Admin(level.as_str().parse().unwrap())).await
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

pub(super) fn anonymous() -> Origin {
    Origin::Tls { peer: None, address: ([192, 0, 2, 1], 1).into() }
}

pub(super) fn by(peer: &Peer) -> Origin {
    Origin::Tls { peer: Some(peer.clone()), address: ([192, 0, 2, 1], 1).into() }
}

pub(super) const LOCAL: Origin = Origin::Local { uid: 0 };

pub(super) fn csr() -> String {
    csr_of(&rcgen::KeyPair::generate().unwrap())
}

pub(super) fn csr_of(key: &rcgen::KeyPair) -> String {
    rcgen::CertificateParams::default().serialize_request(key).unwrap().pem().unwrap()
}
