//! The routes: who may call each, and what it calls.
//!
//! One table, in `routes`, names every route with its caller class and access level; the routers are built from
//! it, and so is the OpenAPI document. A file a resource below: extract, call, render.

mod admins;
mod agents;
mod answer;
mod api_tokens;
mod attest;
mod authorities;
mod authorize;
mod bundle;
mod certificates;
mod extract;
mod feed;
mod first_administrator;
mod health;
mod instances;
mod join_tokens;
mod limits;
mod log;
mod metrics;
mod ocsp;
mod openapi;
mod page;
mod problems;
mod published;
mod request;
mod revocations;
mod routes;
mod services;
mod systems;
mod tiles;
mod verifiers;
mod whoami;

#[cfg(test)]
mod tests;

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::routing::get;
use chancery_verifier::Counter;

use crate::issuer::Issuer;

use self::limits::Limits;

pub use limits::Rates;
pub use openapi::document;

/// The routes of the API, for the TLS listener and the admin socket. Each request must carry its
/// [`Origin`](crate::caller::Origin) as an extension.
pub fn api(issuer: Arc<Issuer>, rates: Rates) -> Router {
    routes::router(&App::new(issuer, rates), |_| true)
}

/// The routes of the plain listener, CRLs, authority certificates and OCSP, for requests that carry their origin too.
pub fn status(issuer: Arc<Issuer>) -> Router {
    routes::router(&App::new(issuer, Rates::default()), |route| route.on_status)
}

/// What operators measure, for a listener that only they reach. `handshakes` are those of the API, once it listens.
pub fn metrics(issuer: Arc<Issuer>, handshakes: Arc<OnceLock<Counter>>) -> Router {
    Router::new().route("/metrics", get(metrics::scrape)).with_state(metrics::Scraped { issuer, handshakes })
}

/// What handlers share. Clones are the same.
#[derive(Clone)]
struct App {
    issuer: Arc<Issuer>,
    limits: Arc<Limits>,
}

impl App {
    fn new(issuer: Arc<Issuer>, rates: Rates) -> Self {
        let limits = Limits::new(rates, issuer.counts().capped.clone());
        Self { issuer, limits: Arc::new(limits) }
    }
}

impl Deref for App {
    type Target = Issuer;

    fn deref(&self) -> &Issuer {
        &self.issuer
    }
}
