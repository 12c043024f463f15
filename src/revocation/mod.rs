//! What must stop: targets and effects in, committed entries out, the CRLs, OCSP answers and feed that show them, and who
//! confirmed them.

mod crl;
mod feed;
mod head;
mod kept;
mod ocsp;
mod radius;
mod roster;
mod verifiers;

use std::sync::Arc;
use std::time::Duration;

use chancery_api::{
    Admin, Agent, AttestationRule, Published, Radius, ResumeRequest, RevocationStanding, RevocationView,
    RevocationsAnswer, RevocationsRequest, RevokeOwnRequest, Service,
};
use chancery_identity::{Certificate, Effect, Reason, RevocationId, Serial, Target};

use crate::caller::Caller;
use crate::clock::Clock;
use crate::refusal::{Code, Refusal};
use crate::store::{Committed, Position, Resume, Revoke, Store};

pub use crl::{Crls, PublishError, PublishedCrl, Publisher};
pub use feed::{After, Beat, Feed, HEARTBEAT};
pub use head::{Herald, Silent};
pub use kept::{Kept, KeptError, KeptHead, ShownError, open_head};
pub use ocsp::{Ocsp, OcspAnswer};
pub use verifiers::{Told, Verifiers};

/// Targets in one decision, at most.
const TARGETS_MAX: usize = 100;
/// An operator's words, in bytes, at most.
const COMMENT_LEN_MAX: usize = 1024;

/// The longest that an answer waits, in seconds.
const WAIT_MAX_S: u32 = 30;

/// Decides what stops and what goes on again.
pub struct Revocations {
    pub(crate) store: Store,
    pub(crate) crls: Arc<Crls>,
    pub(crate) verifiers: Arc<Verifiers>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// What came of a request to stop.
pub(crate) struct Stopped {
    pub(crate) answer: Committed<RevocationsAnswer>,
    /// Whether anything was entered that was not in force already.
    pub(crate) entered: bool,
}

impl Revocations {
    /// Stops what is named: one decision, one commit, an entry for each target. The answer waits for verifiers as long
    /// as the request says, if there is a `place` to wait in.
    ///
    /// # Errors
    /// A target that is not there, an effect that does not fit it or is not named, a time in the future.
    pub(crate) async fn revoke<P>(
        &self,
        request: RevocationsRequest,
        caller: &Caller,
        place: Option<P>,
    ) -> Result<Stopped, Refusal> {
        let wait = wait(request.wait_s)?;
        let mut warnings = self.warnings(&request);
        if place.is_none() && !wait.is_zero() {
            warnings.push("too many wait for answers: this one did not wait for the verifiers".into());
        }
        let wait = if place.is_some() { wait } else { Duration::ZERO };
        let revoke = self.plan(request, caller).await?;
        let position = self.store.state().position();
        // Beside the commit, which it does not hold up.
        let (answer, radius) = tokio::join!(self.commit(revoke.clone(), wait), self.radius(&revoke, position));
        let answer = answer?;
        let entered = answer.reply().revocations.iter().any(|entry| entry.n > position.n);
        warnings.extend(radius.iter().flat_map(|radius| reaching(&revoke, radius)));
        Ok(Stopped { answer: answer.map(|answer| RevocationsAnswer { radius, warnings, ..answer }), entered })
    }

    /// What [`Revocations::revoke`] would decide; nothing is committed.
    ///
    /// # Errors
    /// As [`Revocations::revoke`].
    pub(crate) async fn dry_run(
        &self,
        request: RevocationsRequest,
        caller: &Caller,
    ) -> Result<RevocationsAnswer, Refusal> {
        wait(request.wait_s)?;
        let mut warnings = self.warnings(&request);
        let revoke = self.plan(request, caller).await?;
        let radius = self.radius(&revoke, self.store.state().position()).await;
        warnings.extend(radius.iter().flat_map(|radius| reaching(&revoke, radius)));
        Ok(RevocationsAnswer { revocations: Vec::new(), radius, applied: None, published: None, warnings })
    }

    /// An entry, and who confirmed it, once all did or the time is up.
    ///
    /// # Errors
    /// No such entry; a wait that is too long.
    pub(crate) async fn standing<P>(
        &self,
        id: RevocationId,
        wait_s: u32,
        place: Option<P>,
    ) -> Result<RevocationStanding, Refusal> {
        let wait = if place.is_some() { wait(wait_s)? } else { Duration::ZERO };
        let missing = || Refusal::new(Code::NotFound, format!("there is no revocation {id}"));
        let revocation = self.store.revocation(id).await?.ok_or_else(missing)?;
        let applied = self.verifiers.applied(std::slice::from_ref(&revocation), wait).await.ok_or_else(missing)?;
        Ok(RevocationStanding { revocation, applied })
    }

    /// Ends a suspension or a forbidding by an entry of its own.
    ///
    /// # Errors
    /// No such entry, or one that is final or was resumed.
    pub async fn resume(
        &self,
        id: RevocationId,
        request: ResumeRequest,
        caller: &Caller,
    ) -> Result<Committed<RevocationView>, Refusal> {
        let comment = check_comment(request.comment)?;
        Ok(self.store.commit(Resume { cause: caller.cause(), id, comment }).await?)
    }

    /// An agent ends its own certificate, or a descendant's.
    ///
    /// # Errors
    /// A certificate that is not there or is not the caller's to end.
    pub async fn revoke_own(
        &self,
        own: &Certificate,
        serial: Serial,
        request: RevokeOwnRequest,
        caller: &Caller,
    ) -> Result<Committed<RevocationsAnswer>, Refusal> {
        // One answer for what is not there and for what is another's: serials are not for guessing.
        let not_own = || Refusal::new(Code::NotFound, format!("you have no certificate {serial}"));
        let named = self.store.certificate(serial).await?.ok_or_else(not_own)?;
        let same_lineage = match (&named.certificate.grant, &own.grant) {
            (Some(named), Some(own)) => {
                named.lineage == own.lineage || named.chain.iter().any(|ancestor| ancestor.lineage == own.lineage)
            }
            _ => false,
        };
        if !same_lineage {
            return Err(not_own());
        }
        let revoke = Revoke {
            cause: caller.cause(),
            targets: vec![Target::Serial(serial)],
            effect: Effect::Revoke,
            reason: request.reason.unwrap_or(Reason::Unspecified),
            comment: check_comment(request.comment)?,
            cascade: true,
        };
        self.commit(revoke, Duration::ZERO).await
    }

    async fn commit(&self, revoke: Revoke, wait: Duration) -> Result<Committed<RevocationsAnswer>, Refusal> {
        let committed = self.store.commit(revoke).await?;
        let entries = committed.reply();
        let (published, applied) = tokio::join!(self.published(entries), self.verifiers.applied(entries, wait));
        Ok(committed.map(|revocations| RevocationsAnswer {
            revocations,
            radius: None,
            applied,
            published,
            warnings: Vec::new(),
        }))
    }

    /// What cannot be read does not keep anything from being stopped.
    async fn radius(&self, revoke: &Revoke, position: Position) -> Option<Radius> {
        let radius = radius::radius(&self.store, &self.verifiers, revoke, position, self.clock.now()).await;
        radius.inspect_err(|error| tracing::warn!(%error, "what a revocation reaches could not be read")).ok()
    }

    async fn plan(&self, request: RevocationsRequest, caller: &Caller) -> Result<Revoke, Refusal> {
        if request.targets.is_empty() || request.targets.len() > TARGETS_MAX {
            let detail = format!("targets: wanted 1 to {TARGETS_MAX}, got {}", request.targets.len());
            return Err(Refusal::new(Code::Invalid, detail));
        }
        let effect = effect(&request)?;
        for target in &request.targets {
            self.exists(target).await?;
        }
        let reason = match (request.reason, effect) {
            (Some(reason), _) => reason,
            (None, Effect::Suspend) => Reason::CertificateHold,
            (None, _) => Reason::Unspecified,
        };
        Ok(Revoke {
            cause: caller.cause(),
            targets: request.targets,
            effect,
            reason,
            comment: check_comment(request.comment)?,
            cascade: request.cascade,
        })
    }

    /// A misspelt name must not answer "stopped". What is not registered by name may be stopped unseen.
    async fn exists(&self, target: &Target) -> Result<(), Refusal> {
        let state = self.store.state();
        let known = match target {
            Target::Agent(name) => state.record::<Agent>(name).is_some(),
            Target::Service(name) => state.record::<Service>(name).is_some(),
            Target::Admin(name) => state.record::<Admin>(name).is_some(),
            Target::Authority(key_id) => state.authority(*key_id).is_some(),
            Target::Serial(serial) => self.store.certificate(*serial).await?.is_some(),
            _ => true,
        };
        if known { Ok(()) } else { Err(Refusal::new(Code::NotFound, format!("there is no {target}"))) }
    }

    fn warnings(&self, request: &RevocationsRequest) -> Vec<String> {
        if request.effect != Some(Effect::Revoke) {
            return Vec::new();
        }
        let can_return = |rules: &[AttestationRule]| !rules.is_empty();
        let state = self.store.state();
        let names = request.targets.iter().filter_map(|target| match target {
            Target::Agent(name) => state.record::<Agent>(name).filter(|a| can_return(&a.attestation)).map(|_| name),
            Target::Service(name) => state.record::<Service>(name).filter(|s| can_return(&s.attestation)).map(|_| name),
            _ => None,
        });
        names.map(|name| format!("{name} can attest again; to keep it out: effect suspend")).collect()
    }

    /// Where the entries can be seen.
    async fn published(&self, revocations: &[RevocationView]) -> Option<Published> {
        let newest = revocations.iter().map(|entry| entry.n).max().unwrap_or(0);
        let number = self.crls.soon_at(newest).await;
        Some(Published { crl_number: number.map_or_else(|| "pending".into(), |number| number.to_string()) })
    }
}

/// What the caller may not have meant, seen from what it reaches.
fn reaching(revoke: &Revoke, radius: &Radius) -> Vec<String> {
    let mut warnings = Vec::new();
    if revoke.effect == Effect::Revoke && radius.certificates == 0 && !radius.at_least {
        warnings.push("no certificate that is valid now is reached; the entry is recorded all the same".into());
    }
    if revoke.effect == Effect::Forbid {
        warnings.push("forbid ends no certificate: CRL and OCSP do not show it; verifiers refuse by the feed".into());
    }
    if radius.includes_caller {
        warnings.push("your own certificate is among them".into());
    }
    if radius.includes_issuer {
        warnings.push("the issuer's own certificate is among them".into());
    }
    warnings
}

/// # Errors
/// Longer than an answer may wait.
fn wait(wait_s: u32) -> Result<Duration, Refusal> {
    if wait_s > WAIT_MAX_S {
        return Err(Refusal::new(Code::Invalid, format!("wait_s: wanted at most {WAIT_MAX_S}, got {wait_s}")));
    }
    Ok(Duration::from_secs(wait_s.into()))
}

/// Named by the caller, but where only one is meant.
fn effect(request: &RevocationsRequest) -> Result<Effect, Refusal> {
    let single = |target: &Target| matches!(target, Target::Serial(_) | Target::IssuedBefore(_));
    let effect = match request.effect {
        Some(effect) => effect,
        None if request.targets.iter().all(single) => Effect::Revoke,
        None => {
            let detail = "effect: name what is meant for these targets";
            return Err(Refusal::new(Code::EffectNeeded, detail).needs(["suspend", "retire", "revoke"]));
        }
    };
    let scopes_only = request.targets.iter().all(|target| matches!(target, Target::Scope(_)));
    if effect == Effect::Forbid && !scopes_only {
        return Err(Refusal::new(Code::Invalid, "effect: forbid is for scope targets only"));
    }
    Ok(effect)
}

fn check_comment(comment: Option<String>) -> Result<String, Refusal> {
    match comment {
        Some(long) if long.len() > COMMENT_LEN_MAX => {
            let detail = format!("comment has {} bytes; at most {COMMENT_LEN_MAX}", long.len());
            Err(Refusal::new(Code::Invalid, detail))
        }
        comment => Ok(comment.unwrap_or_default()),
    }
}
