//! What an operator's Prometheus reads: what happened since the process began, and how things stand.
//!
//! What happened is counted where it happens, an atomic each time. How things stand is read when somebody asks.

use std::fmt;

use chancery_api::KnowledgeState;
use chancery_identity::{KeyId, Timestamp};
use chancery_verifier::Counter as Handshakes;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::issuer::Issuer;
use crate::refusal::Code;

/// What happened since the process began. Clones count together.
#[derive(Clone, Debug)]
pub(crate) struct Counts {
    began_at: Timestamp,
    /// Certificates, by what they were issued on.
    pub(crate) issued: Tally,
    /// Requests that were refused, by code.
    pub(crate) refused: Tally,
    /// OCSP requests, by the status of the answer.
    pub(crate) ocsp: Tally,
    /// What a cap kept out, by cap.
    pub(crate) capped: Tally,
}

impl Counts {
    pub(crate) fn new(began_at: Timestamp) -> Self {
        Self {
            began_at,
            issued: Tally::new("kind", &["attestation", "rejoin", "renewal"]),
            refused: Tally::new("code", &Code::ALL.iter().map(|code| code.as_str()).collect::<Vec<_>>()),
            ocsp: Tally::new(
                "status",
                &["successful", "malformed_request", "unauthorized", "internal_error", "try_later"],
            ),
            capped: Tally::new(
                "cap",
                &[
                    "requests_of_peer",
                    "requests",
                    "waits_of_identity",
                    "waits",
                    "feeds_of_identity",
                    "feeds",
                    "denials_logged",
                ],
            ),
        }
    }
}

/// Counts of one kind of event, by one label. All its values begin at zero, so that the first event is seen as one.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    label: &'static str,
    counts: Family<[(&'static str, &'static str); 1], Counter>,
}

impl Tally {
    fn new(label: &'static str, values: &[&'static str]) -> Self {
        let tally = Self { label, counts: Family::default() };
        values.iter().for_each(|value| drop(tally.counts.get_or_create(&[(label, value)])));
        tally
    }

    pub(crate) fn add(&self, value: &'static str) {
        self.counts.get_or_create(&[(self.label, value)]).inc();
    }
}

/// All metrics as text, OpenMetrics 1.0.
///
/// # Errors
/// None that memory has room for.
pub(crate) fn page(issuer: &Issuer, handshakes: Option<&Handshakes>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    let began = issuer.counts().began_at;
    registry.register("process_start_time_seconds", "When the process began", ConstGauge::new(seconds(began)));
    let registry_of_ours = registry.sub_registry_with_prefix("chancery");
    happened(registry_of_ours, issuer, handshakes);
    stands(registry_of_ours, issuer);
    ends(registry_of_ours, issuer);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

fn happened(registry: &mut Registry, issuer: &Issuer, handshakes: Option<&Handshakes>) {
    let Counts { issued, refused, ocsp, capped, .. } = issuer.counts();
    registry.register("certificates_issued", "Certificates issued, by what they rest on", issued.counts.clone());
    registry.register("requests_refused", "Requests refused, by the code of the problem", refused.counts.clone());
    registry.register("ocsp_answers", "Answers to OCSP requests, by status", ocsp.counts.clone());
    registry.register("cap_hits", "Times a cap kept something out, by cap", capped.counts.clone());
    let shed = ConstCounter::new(issuer.feed().shed());
    registry.register("feed_consumers_shed", "Consumers of the feed that were too slow", shed);
    let commits = issuer.store().commits();
    registry.register("commit_batch_size", "Decisions in one transaction", commits.size.clone());
    registry.register("commit_duration_seconds", "From the begin of a transaction to its end", commits.seconds.clone());
    let Some(counts) = handshakes.map(Handshakes::read) else { return };
    let results = Family::<[(&str, &str); 1], Counter>::default();
    for (result, count) in [
        ("accepted", counts.accepted),
        ("denied", counts.denied),
        ("failed", counts.failed),
        ("timed_out", counts.timed_out),
        ("displaced", counts.displaced),
        ("turned_away", counts.turned_away),
    ] {
        results.get_or_create(&[("result", result)]).inc_by(count);
    }
    registry.register("handshakes", "TLS handshakes of the API, by how they ended", results);
    registry.register("handshakes_half_open", "TLS handshakes under way", ConstGauge::new(counts.half_open));
}

fn stands(registry: &mut Registry, issuer: &Issuer) {
    let mut gauge = |name: &str, help: &str, value: u64| registry.register(name, help, ConstGauge::new(value));
    let (store, position) = (issuer.store(), issuer.store().state().position());
    gauge("lease_held", "Whether this process may write to the database", store.writes().into());
    gauge("rolled_back", "Whether the database is behind what was told of it", store.rolled_back().is_some().into());
    gauge("commit_queue_depth", "Decisions that wait for the writer", store.waiting());
    gauge("log_epoch", "The epoch of the log", position.epoch);
    gauge("log_size", "Entries in the log", position.log_size);
    gauge("revocation_number", "The newest number of the revocation sequence", position.n);
    gauge("feed_consumers", "Open connections of the feed", issuer.feed().listeners() as u64);
    let census = issuer.verifiers().census();
    gauge("verifiers_behind", "Verifiers that may accept and did not confirm the newest revocation", census.behind);
    if let Some(slowest) = census.slowest {
        let help = "The lowest revocation number that a verifier which may accept has confirmed";
        gauge("verifiers_confirmed_number_min", help, slowest);
    }
    let states = Family::<[(&str, &str); 1], Gauge<u64, std::sync::atomic::AtomicU64>>::default();
    for (state, count) in census.states {
        let word = match state {
            KnowledgeState::Fresh => "fresh",
            KnowledgeState::Stale => "stale",
            KnowledgeState::Expired => "expired",
        };
        states.get_or_create(&[("state", word)]).set(count);
    }
    registry.register("verifiers", "Verifiers, by how well they know the present", states);
    if let Some(beat) = issuer.feed().newest() {
        let help = "When the newest head was signed";
        registry.register("head_timestamp_seconds", help, ConstGauge::new(seconds(beat.head.at)));
    }
    let [numbers, revocations, made, next] = [(); 4].map(|()| Keyed::default());
    for crl in issuer.crls().all() {
        let kind = crl.kind.as_str();
        // As a double, which has the seconds of it exactly.
        numbers.set(kind, crl.authority, crl.number.get() as f64);
        revocations.set(kind, crl.authority, crl.n as f64);
        made.set(kind, crl.authority, seconds(crl.this_update));
        next.set(kind, crl.authority, seconds(crl.next_update));
    }
    registry.register("crl_number", "The number of an authority's CRL", numbers.0);
    registry.register("crl_revocation_number", "The newest revocation that an authority's CRL knows", revocations.0);
    registry.register("crl_this_update_timestamp_seconds", "When an authority's CRL was signed", made.0);
    registry.register("crl_next_update_timestamp_seconds", "When an authority's CRL is over", next.0);
    let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "What runs", version);
}

fn ends(registry: &mut Registry, issuer: &Issuer) {
    let ends = Keyed::default();
    let root = issuer.authorities().root();
    ends.set("root", root.key_id(), seconds(root.not_after()));
    for issuing in issuer.authorities().all_issuing().iter() {
        ends.set("issuing", issuing.key_id(), seconds(issuing.certificate().not_after()));
    }
    for responder in issuer.responders().all().iter() {
        ends.set("ocsp", responder.authority(), seconds(responder.not_after()));
    }
    for (key_id, end) in issuer.authorities().head_keys().ends() {
        ends.set("head", key_id, seconds(end));
    }
    let help = "When a certificate of the issuer ends; an OCSP responder goes by the key of its authority";
    registry.register("certificate_expiration_timestamp_seconds", help, ends.0);
}

/// Values by authority or key.
#[derive(Default)]
struct Keyed(Family<[(&'static str, String); 2], Gauge<f64, std::sync::atomic::AtomicU64>>);

impl Keyed {
    fn set(&self, kind: &str, key_id: KeyId, value: f64) {
        self.0.get_or_create(&[("kind", kind.to_owned()), ("key_id", key_id.to_string())]).set(value);
    }
}

/// Since the Unix epoch, as Prometheus counts.
fn seconds(at: Timestamp) -> f64 {
    at.unix_millis() as f64 / 1000.0
}
