//! Who is registered: agents, services, administrators, and the tokens that let them in.

mod admins;
mod agents;
mod api_tokens;
mod first_administrator;
mod join_tokens;
mod services;

use std::sync::Arc;
use std::time::Duration;

use chancery_api::{RootPin, Subject};
use chancery_identity::{Principal, SpiffeId};
use ring::rand::SecureRandom;

use crate::config::{LEAF_TTL_MIN, Url, text};
use crate::random::Stock;
use crate::refusal::{Code, Refusal};
use crate::store::{Committed, Registered, Store};

pub use first_administrator::FirstToken;

/// Registers and changes. Reading needs nobody: see [`crate::store::State`].
pub struct Registry {
    pub(crate) store: Store,
    pub(crate) rng: Arc<dyn SecureRandom + Send + Sync>,
    pub(crate) ids: Arc<Stock>,
    pub(crate) public_url: Url,
    pub(crate) root_pin: RootPin,
    pub(crate) dns_suffixes: Vec<String>,
    pub(crate) ttl_default: Duration,
    pub(crate) ttl_max: Duration,
}

/// What came of registering: creating what exists is no conflict if all that was sent is equal.
#[derive(Debug)]
#[allow(clippy::exhaustive_enums, reason = "201 or 200")]
pub enum Registration<T> {
    /// It is there now.
    Created(Committed<T>),
    /// It was there, and is what was asked for.
    Existing(Arc<T>),
}

/// The record behind a SPIFFE ID of ours.
pub(crate) fn subject(spiffe_id: &SpiffeId) -> Option<Subject> {
    match spiffe_id.principal() {
        Principal::Agent { name, .. } | Principal::Shared(name) => name.parse().ok().map(Subject::Agent),
        Principal::Service(name) => name.parse().ok().map(Subject::Service),
        Principal::Admin(name) => name.parse().ok().map(Subject::Admin),
        _ => None,
    }
}

/// Answers 200 for an equal record, 409 for another.
fn existing<R: Registered>(found: Arc<R>, agrees: bool) -> Result<Registration<R>, Refusal> {
    if agrees {
        return Ok(Registration::Existing(found));
    }
    let subject = found.subject();
    let (kind, name) = (subject.kind(), subject.name());
    Err(Refusal::new(Code::AlreadyExists, format!("{subject} exists and differs from what was sent"))
        .fix(format!("compare: chancery {kind}s get {name}, then: chancery {kind}s update {name}")))
}

/// The revision that a change starts from: the one that was named, else the one found.
fn revision<R: Registered>(found: &R, if_match: Option<u64>) -> Result<u64, Refusal> {
    match if_match {
        Some(wanted) if wanted != found.revision() => {
            let detail = format!("{} is at revision {}, not {wanted}", found.subject(), found.revision());
            Err(Refusal::new(Code::RevisionMismatch, detail).needs([wanted]).holds([found.revision()]))
        }
        _ => Ok(found.revision()),
    }
}

/// There is no such record.
pub(crate) fn missing(subject: &Subject) -> Refusal {
    Refusal::new(Code::NotFound, format!("there is no {subject}")).fix(format!("chancery {}s list", subject.kind()))
}

fn invalid(detail: impl Into<String>) -> Refusal {
    Refusal::new(Code::Invalid, detail)
}

impl Registry {
    /// A record's lifetime, within what the issuer can keep.
    fn ttl_s(&self, wanted: Option<u32>) -> Result<u32, Refusal> {
        let Some(seconds) = wanted else {
            return Ok(u32::try_from(self.ttl_default.as_secs()).unwrap_or(u32::MAX));
        };
        let ttl = Duration::from_secs(seconds.into());
        if (LEAF_TTL_MIN..=self.ttl_max).contains(&ttl) {
            return Ok(seconds);
        }
        let bounds = [text(LEAF_TTL_MIN), text(self.ttl_max)];
        Err(Refusal::new(Code::TtlRefused, format!("ttl_s is {}; wanted {} to {}", text(ttl), bounds[0], bounds[1]))
            .needs(bounds))
    }
}

/// Words for people and keys for machines stay small: they are read whole with every record.
fn check_words(description: &str, labels: &std::collections::BTreeMap<String, String>) -> Result<(), Refusal> {
    if description.len() > 1024 {
        return Err(invalid(format!("description has {} bytes; at most 1024", description.len())));
    }
    if labels.len() > 32 || labels.iter().any(|(key, value)| key.is_empty() || key.len() > 63 || value.len() > 255) {
        return Err(invalid("labels: at most 32, keys of 1 to 63 bytes, values of at most 255"));
    }
    Ok(())
}
