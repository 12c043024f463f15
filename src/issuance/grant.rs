//! What a caller may have: the record, the evidence and the wish, held against each other.

use std::collections::BTreeSet;
use std::sync::Arc;
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
    pub(super) record: Record,
    pub(super) scopes: ScopeSet,
    pub(super) chosen: bool,
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
        let life = record.life(&attested.subject, wish)?;
        // The last second it is valid at is inclusive (RFC 5280 §4.1.2.5).
        let wanted = now + life - Duration::from_secs(1);
        let not_after = session_end(&attested, ttl).map_or(wanted, |end| wanted.min(end)).floor_to_second();
        if not_after < now + LEAF_TTL_MIN - Duration::from_secs(2) {
            return Err(Refusal::new(Code::SessionOver, format!("the session of {} is over", attested.subject))
                .fix("attest again with fresh evidence"));
        }
        Ok(Self { attested, record, scopes, chosen, not_after, planned })
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

/// A record, read for what the three kinds have in common for issuance.
#[derive(Debug)]
pub(super) enum Record {
    Agent(Arc<Agent>),
    Service(Arc<Service>),
    Admin(Arc<Admin>),
}

impl Record {
    fn find(state: &State, subject: &Subject) -> Result<Self, Refusal> {
        let found = match subject {
            Subject::Agent(name) => state.record(name).map(Self::Agent),
            Subject::Service(name) => state.record(name).map(Self::Service),
            Subject::Admin(name) => state.record(name).map(Self::Admin),
        };
        found.ok_or_else(|| Refusal::new(Code::NotFound, format!("there is no {subject}")))
    }

    pub(super) fn revision(&self) -> u64 {
        match self {
            Self::Agent(agent) => agent.revision,
            Self::Service(service) => service.revision,
            Self::Admin(admin) => admin.revision,
        }
    }

    /// An administrator is accountable for what it does itself.
    pub(super) fn owner(&self) -> &Name {
        match self {
            Self::Agent(agent) => &agent.owner,
            Self::Service(service) => &service.owner,
            Self::Admin(admin) => &admin.name,
        }
    }

    /// What a service answers for.
    pub(super) fn systems(&self) -> Vec<System> {
        match self {
            Self::Service(service) => service.systems.iter().cloned().collect(),
            Self::Agent(_) | Self::Admin(_) => Vec::new(),
        }
    }

    pub(super) fn dns_names(&self) -> Vec<String> {
        match self {
            Self::Service(service) => service.dns.iter().cloned().collect(),
            Self::Agent(_) | Self::Admin(_) => Vec::new(),
        }
    }

    /// Whether all instances have one SPIFFE ID.
    pub(super) fn shared(&self) -> bool {
        matches!(self, Self::Agent(agent) if agent.shared)
    }

    pub(super) fn max_instances(&self) -> Option<u32> {
        match self {
            Self::Agent(agent) => Some(agent.max_instances),
            Self::Service(_) | Self::Admin(_) => None,
        }
    }

    fn held(&self) -> &ScopeSet {
        static NONE: ScopeSet = ScopeSet::EMPTY;
        match self {
            Self::Agent(agent) => &agent.scopes,
            Self::Service(service) => &service.scopes,
            Self::Admin(_) => &NONE,
        }
    }

    fn ceiling(&self) -> Option<&PatternSet> {
        match self {
            Self::Agent(agent) => agent.ceiling.as_ref(),
            Self::Service(_) | Self::Admin(_) => None,
        }
    }

    fn rules(&self) -> &[AttestationRule] {
        static OF_ADMINS: [AttestationRule; 1] = [AttestationRule::JOIN_TOKEN];
        match self {
            Self::Agent(agent) => &agent.attestation,
            Self::Service(service) => &service.attestation,
            Self::Admin(_) => &OF_ADMINS,
        }
    }

    fn ttl(&self) -> Duration {
        match self {
            Self::Agent(agent) => Duration::from_secs(agent.ttl_s.into()),
            Self::Service(service) => Duration::from_secs(service.ttl_s.into()),
            Self::Admin(_) => ADMIN_TTL,
        }
    }

    /// Any one rule, all of its selectors.
    fn admits(&self, attested: &Attested) -> Result<(), Refusal> {
        let method = &attested.attestation.method;
        let mut of_method = self.rules().iter().filter(|rule| rule.method.as_str() == method).peekable();
        if of_method.peek().is_none() {
            let detail = format!("no attestation rule of {} allows {method}", attested.subject);
            return Err(Refusal::new(Code::NoAttestationRule, detail)
                .holds([method])
                .needs(self.rules().iter().map(|rule| rule.method)));
        }
        let missing = |rule: &AttestationRule| -> BTreeSet<_> {
            rule.selectors.difference(&attested.selectors).cloned().collect()
        };
        match of_method.map(missing).min_by_key(BTreeSet::len) {
            Some(nearest) if !nearest.is_empty() => {
                let detail = format!("the {method} evidence satisfies no rule of {}", attested.subject);
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
        let all = self.held();
        match (&wish.scopes, before) {
            (None, None) => Ok((all.clone(), false)),
            (None, Some(before)) => {
                let still_held = before.iter().filter(|scope| all.covers(scope)).cloned();
                Ok((ScopeSet::new(still_held).unwrap_or_default(), true))
            }
            (Some(wanted), before) => {
                let held = |scope: &Scope| all.covers(scope) && before.is_none_or(|set| set.covers(scope));
                let missing: Vec<&Scope> = wanted.iter().filter(|scope| !held(scope)).collect();
                if missing.is_empty() {
                    Ok((wanted.clone(), before.is_some() || wanted != all))
                } else {
                    Err(self.not_held(&attested.subject, &missing, before))
                }
            }
        }
    }

    fn not_held(&self, subject: &Subject, missing: &[&Scope], chosen: Option<&ScopeSet>) -> Refusal {
        let (kind, name) = (subject.kind(), subject.name());
        let first = missing.first().map(ToString::to_string).unwrap_or_default();
        let above = self.ceiling().is_some_and(|ceiling| missing.iter().any(|scope| !ceiling.covers(scope)));
        if above {
            let detail = format!("{name} asked for {first}; its ceiling does not cover it");
            return Refusal::new(Code::ScopeAboveCeiling, detail)
                .needs(missing)
                .holds(self.held())
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
                .holds(self.held())
                .fix(format!("an operator: chancery {kind}s update {name} --add-scope {first}")),
        }
    }

    fn life(&self, subject: &Subject, wish: &Wish) -> Result<Duration, Refusal> {
        let most = self.ttl();
        let Some(wanted) = wish.ttl_s.map(|seconds| Duration::from_secs(seconds.into())) else { return Ok(most) };
        let refused = |what: String| Refusal::new(Code::TtlRefused, what).needs([text(LEAF_TTL_MIN), text(most)]);
        if wanted < LEAF_TTL_MIN {
            return Err(refused(format!("ttl_s {} is below the least of {}", text(wanted), text(LEAF_TTL_MIN))));
        }
        if wanted > most {
            return Err(refused(format!("ttl_s {} is above the {} of {subject}", text(wanted), text(most))));
        }
        Ok(wanted)
    }
}
