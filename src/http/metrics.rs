//! `/metrics`, on a listener of its own.

use std::sync::{Arc, OnceLock};

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use chancery_verifier::Counter;

use crate::issuer::Issuer;
use crate::metrics::page;
use crate::refusal::{Code, Refusal};

/// What a scrape reads.
#[derive(Clone)]
pub(super) struct Scraped {
    pub(super) issuer: Arc<Issuer>,
    pub(super) handshakes: Arc<OnceLock<Counter>>,
}

pub(super) async fn scrape(State(scraped): State<Scraped>) -> Result<Response, Refusal> {
    let text = page(&scraped.issuer, scraped.handshakes.get());
    let text = text.map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
    Ok(([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response())
}
