//! What a caller may have: the record, the evidence and the wish, held against each other.

use std::collections::BTreeSet;
use std::time::Duration;

use chancery_api::{Admin, Agent, AttestationRule, Service, Subject};
use chancery_identity::{Name, PatternSet, Scope, ScopeSet, System, Timestamp};

use crate::attest::{Attested, Basis};
use crate::config::{LEAF_TTL_MIN, Ttl, text};
use crate::refusal::{Code, Refusal};
use crate::store::{Position, State};

use super::Wish;

/// The life of an administrator's certificate.
const ADMIN_TTL: Duration = Duration::from_secs(8 * 3600);

/// What a caller is allowed now. Only this file makes one; a certificate is planned from nothing else.
#[derive(Debug)]
pub(super) struct Granted {
    pub(super) attested: Attested,
    pub(super) scopes: ScopeSet,
    pub(super) chosen: bool,
    pub(super) revision: u64,
    pub(super) owner: Name,
    pub(super) systems: Vec<System>,
    pub(super) dns_names: Vec<String>,
    pub(super) shared: bool,
    pub(super) max_instances: Option<u32>,
    pub(super) not_after: Timestamp,
    /// Where log and revocations stood when this was decided.
    pub(super) planned: Position,
}

impl Granted {
    /// Decides from the state that the last commit published.
    ///
    /// # Errors
    /// No record, no rule for the evidence, scopes that are not held, a lifetime that cannot be, a session that is over.
    pub(super) fn decide(
        state: &State,
        attested: Attested,
        wish: &Wish,
        ttl: Ttl,
        now: Timestamp,
    ) -> Result<Self, Refusal> {
        // Read first: what is not seen below is newer than this.
        let planned = state.position();
        let record = Record::find(state, &attested.subject)?;
        if let Basis::First { .. } = attested.basis {
            record.admits(&attested)?;
        }
        let (scopes, chosen) = record.scopes(&attested, wish)?;
        let life = record.life(wish)?;
        // The last second it is valid at is inclusive (RFC 5280 §4.1.2.5).
        let wanted = now + life - Duration::from_secs(1);
        let not_after = session_end(&attested, ttl).map_or(wanted, |end| wanted.min(end)).floor_to_second();
        if not_after < now + LEAF_TTL_MIN - Duration::from_secs(2) {
            return Err(Refusal::new(Code::SessionOver, format!("the session of {} is over", attested.subject))
                .fix("attest again with fresh evidence"));
        }
        Ok(Self {
            scopes,
            chosen,
            revision: record.revision,
            owner: record.owner,
            systems: record.systems,
            dns_names: record.dns_names,
            shared: record.shared,
            max_instances: record.max_instances,
            not_after,
            planned,
            attested,
        })
    }
}

/// The end of a session, for evidence that can be shown again without anybody's help.
fn session_end(attested: &Attested, ttl: Ttl) -> Option<Timestamp> {
    match &attested.basis {
        Basis::First { session_end, .. } => *session_end,
        Basis::Next { .. } if attested.attestation.method == "x509pop" => {
            Some(attested.attestation.at + ttl.max_session)
        }
        Basis::Next { .. } => None,
    }
}

/// What the three kinds of record have in common for issuance.
struct Record {
    subject: Subject,
    revision: u64,
    owner: Name,
    scopes: ScopeSet,
    ceiling: Option<PatternSet>,
    rules: Vec<AttestationRule>,
    ttl: Duration,
    systems: Vec<System>,
    dns_names: Vec<String>,
    shared: bool,
    max_instances: Option<u32>,
}

impl Record {
    fn find(state: &State, subject: &Subject) -> Result<Self, Refusal> {
        let missing = || Refusal::new(Code::NotFound, format!("there is no {subject}"));
        Ok(match subject {
            Subject::Agent(name) => {
                let agent = state.record::<Agent>(name).ok_or_else(missing)?;
                Self {
                    subject: subject.clone(),
                    revision: agent.revision,
                    owner: agent.owner.clone(),
                    scopes: agent.scopes.clone(),
                    ceiling: agent.ceiling.clone(),
                    rules: agent.attestation.clone(),
                    ttl: Duration::from_secs(agent.ttl_s.into()),
                    systems: Vec::new(),
                    dns_names: Vec::new(),
                    shared: agent.shared,
                    max_instances: Some(agent.max_instances),
                }
            }
            Subject::Service(name) => {
                let service = state.record::<Service>(name).ok_or_else(missing)?;
                Self {
                    subject: subject.clone(),
                    revision: service.revision,
                    owner: service.owner.clone(),
                    scopes: service.scopes.clone(),
                    ceiling: None,
                    rules: service.attestation.clone(),
                    ttl: Duration::from_secs(service.ttl_s.into()),
                    systems: service.systems.iter().cloned().collect(),
                    dns_names: service.dns.iter().cloned().collect(),
                    shared: false,
                    max_instances: None,
                }
            }
            Subject::Admin(name) => {
                let admin = state.record::<Admin>(name).ok_or_else(missing)?;
                Self {
                    subject: subject.clone(),
                    revision: admin.revision,
                    // An administrator is accountable for what it does itself.
                    owner: admin.name.clone(),
                    scopes: ScopeSet::default(),
                    ceiling: None,
                    rules: vec![AttestationRule::JOIN_TOKEN],
                    ttl: ADMIN_TTL,
                    systems: Vec::new(),
                    dns_names: Vec::new(),
                    shared: false,
                    max_instances: None,
                }
            }
        })
    }

    /// Any one rule, all of its selectors.
    fn admits(&self, attested: &Attested) -> Result<(), Refusal> {
        let method = &attested.attestation.method;
        let mut of_method = self.rules.iter().filter(|rule| rule.method.as_str() == method).peekable();
        if of_method.peek().is_none() {
            let detail = format!("no attestation rule of {} allows {method}", self.subject);
            return Err(Refusal::new(Code::NoAttestationRule, detail)
                .holds([method])
                .needs(self.rules.iter().map(|rule| rule.method)));
        }
        let missing = |rule: &AttestationRule| -> BTreeSet<_> {
            rule.selectors.difference(&attested.selectors).cloned().collect()
        };
        match of_method.map(missing).min_by_key(BTreeSet::len) {
            Some(nearest) if !nearest.is_empty() => {
                let detail = format!("the {method} evidence satisfies no rule of {}", self.subject);
                Err(Refusal::new(Code::NoAttestationRule, detail).needs(nearest).holds(&attested.selectors))
            }
            _ => Ok(()),
        }
    }

    /// The scopes to carry, and whether they are a chosen part, which renewals never grow.
    fn scopes(&self, attested: &Attested, wish: &Wish) -> Result<(ScopeSet, bool), Refusal> {
        let before = match &attested.basis {
            Basis::Next { previous, .. } if previous.grant.as_ref().is_some_and(|grant| grant.chosen) => {
                Some(&previous.scopes)
            }
            _ => None,
        };
        match (&wish.scopes, before) {
            (None, None) => Ok((self.scopes.clone(), false)),
            (None, Some(before)) => {
                let still_held = before.iter().filter(|scope| self.scopes.covers(scope)).cloned();
                Ok((ScopeSet::new(still_held).unwrap_or_default(), true))
            }
            (Some(wanted), before) => {
                let held = |scope: &Scope| self.scopes.covers(scope) && before.is_none_or(|set| set.covers(scope));
                let missing: Vec<&Scope> = wanted.iter().filter(|scope| !held(scope)).collect();
                if missing.is_empty() {
                    Ok((wanted.clone(), before.is_some() || *wanted != self.scopes))
                } else {
                    Err(self.not_held(&missing, before))
                }
            }
        }
    }

    fn not_held(&self, missing: &[&Scope], chosen: Option<&ScopeSet>) -> Refusal {
        let (kind, name) = (self.subject.kind(), self.subject.name());
        let first = missing.first().map(ToString::to_string).unwrap_or_default();
        let above = self.ceiling.as_ref().is_some_and(|ceiling| missing.iter().any(|scope| !ceiling.covers(scope)));
        if above {
            let detail = format!("{name} asked for {first}; its ceiling does not cover it");
            return Refusal::new(Code::ScopeAboveCeiling, detail)
                .needs(missing)
                .holds(&self.scopes)
                .fix(format!("an administrator: chancery {kind}s update {name} --add-ceiling {first}"));
        }
        let refusal = Refusal::new(Code::ScopeNotHeld, format!("{name} asked for {first} and does not hold it"));
        match chosen {
            Some(chosen) => refusal
                .needs(missing)
                .holds(chosen)
                .fix("attest again: this certificate chose fewer scopes, and a renewal never grows those"),
            None => refusal
                .needs(missing)
                .holds(&self.scopes)
                .fix(format!("an operator: chancery {kind}s update {name} --add-scope {first}")),
        }
    }

    fn life(&self, wish: &Wish) -> Result<Duration, Refusal> {
        let Some(wanted) = wish.ttl_s.map(|seconds| Duration::from_secs(seconds.into())) else { return Ok(self.ttl) };
        let refused = |what: String| Refusal::new(Code::TtlRefused, what).needs([text(LEAF_TTL_MIN), text(self.ttl)]);
        if wanted < LEAF_TTL_MIN {
            return Err(refused(format!("ttl_s {} is below the least of {}", text(wanted), text(LEAF_TTL_MIN))));
        }
        if wanted > self.ttl {
            return Err(refused(format!("ttl_s {} is above the {} of {}", text(wanted), text(self.ttl), self.subject)));
        }
        Ok(wanted)
    }
}
