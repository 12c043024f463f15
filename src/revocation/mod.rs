//! What must stop: targets and effects in, committed entries out, and the CRLs and OCSP answers that show them.

mod crl;
mod feed;
mod head;
mod kept;
mod ocsp;

use std::sync::Arc;

use chancery_api::{
    Admin, Agent, AttestationRule, Published, ResumeRequest, RevocationView, RevocationsAnswer, RevocationsRequest,
    RevokeOwnRequest, Service,
};
use chancery_identity::{Certificate, Effect, Reason, RevocationId, Serial, Target};

use crate::caller::Caller;
use crate::refusal::{Code, Refusal};
use crate::store::{Committed, Resume, Revoke, Store};

pub use crl::{Crls, PublishError, PublishedCrl, Publisher};
pub use feed::{After, Beat, Feed, HEARTBEAT};
pub use head::{Herald, Silent};
pub use kept::{KeptError, KeptHead, ShownError, open_head};
pub use ocsp::{Ocsp, OcspAnswer};

/// Targets in one decision, at most.
const TARGETS_MAX: usize = 100;
/// An operator's words, in bytes, at most.
const COMMENT_LEN_MAX: usize = 1024;

/// Decides what stops and what goes on again.
pub struct Revocations {
    pub(crate) store: Store,
    pub(crate) crls: Arc<Crls>,
}

impl Revocations {
    /// Stops what is named: one decision, one commit, an entry for each target.
    ///
    /// # Errors
    /// A target that is not there, an effect that does not fit it or is not named, a time in the future.
    pub async fn revoke(
        &self,
        request: RevocationsRequest,
        caller: &Caller,
    ) -> Result<Committed<RevocationsAnswer>, Refusal> {
        let warnings = self.warnings(&request);
        let plan = self.plan(request, caller)?;
        let committed = self.store.commit(plan).await?;
        let published = self.published(committed.reply()).await;
        Ok(committed.map(|revocations| RevocationsAnswer { revocations, published, warnings }))
    }

    /// What [`Revocations::revoke`] would decide; nothing is committed.
    ///
    /// # Errors
    /// As [`Revocations::revoke`].
    pub fn dry_run(&self, request: RevocationsRequest, caller: &Caller) -> Result<RevocationsAnswer, Refusal> {
        let warnings = self.warnings(&request);
        let _plan = self.plan(request, caller)?;
        Ok(RevocationsAnswer { revocations: Vec::new(), published: None, warnings })
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
        let committed = self.store.commit(revoke).await?;
        let published = self.published(committed.reply()).await;
        Ok(committed.map(|revocations| RevocationsAnswer { revocations, published, warnings: Vec::new() }))
    }

    fn plan(&self, request: RevocationsRequest, caller: &Caller) -> Result<Revoke, Refusal> {
        if request.targets.is_empty() || request.targets.len() > TARGETS_MAX {
            let detail = format!("targets: wanted 1 to {TARGETS_MAX}, got {}", request.targets.len());
            return Err(Refusal::new(Code::Invalid, detail));
        }
        let effect = effect(&request)?;
        for target in &request.targets {
            self.exists(target)?;
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
    fn exists(&self, target: &Target) -> Result<(), Refusal> {
        let state = self.store.state();
        let known = match target {
            Target::Agent(name) => state.record::<Agent>(name).is_some(),
            Target::Service(name) => state.record::<Service>(name).is_some(),
            Target::Admin(name) => state.record::<Admin>(name).is_some(),
            Target::Authority(key_id) => state.authority(*key_id).is_some(),
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
