//! `Attested` and a request in, a committed certificate out. The one room that signs leaves.

mod grant;
mod pem;

use std::sync::Arc;

use chancery_api::{Issued, IssuedCertificate, Subject};
use chancery_ca::{Claims, CsrRefused, KeyPolicy, Linted, Signed, SubjectKey, inspect_csr};
use chancery_identity::{
    Actor, Grant, GrantId, Instance, KeyId, Lineage, Principal, RequestId, ScopeSet, Serial, SpiffeId, Timestamp,
    TrustDomain,
};

use crate::attest::{Attested, Basis};
use crate::authority::{Authorities, Issuing};
use crate::config::Ttl;
use crate::random::Stock;
use crate::refusal::{Code, Refusal};
use crate::store::{self, Cause, CommitError, Committed, Issue, IssueOwn, Refused, Renew, Store};

use grant::Granted;
pub(crate) use pem::pem;

/// What a caller may ask of the certificate it is issued.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Fewer scopes than the record holds.
    pub scopes: Option<ScopeSet>,
    /// A shorter life than the record's, in seconds.
    pub ttl_s: Option<u32>,
}

/// What came of asking for a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "both matter to whoever answers")]
pub struct Outcome {
    /// The answer.
    pub issued: Issued,
    /// Whether it is the answer that was given before, to a request whose reply was lost.
    pub replayed: bool,
}

/// Makes certificates.
pub struct Issuance {
    authorities: Arc<Authorities>,
    keys: KeyPolicy,
    trust_domain: TrustDomain,
    ttl: Ttl,
    store: Store,
    ids: Arc<Stock>,
    bundle_pem: String,
}

/// What issuance is made of.
pub struct Parts {
    /// Sign.
    pub authorities: Arc<Authorities>,
    /// Which keys are certified.
    pub keys: KeyPolicy,
    /// For whom.
    pub trust_domain: TrustDomain,
    /// For how long.
    pub ttl: Ttl,
    /// Where it is recorded.
    pub store: Store,
    /// Serials and ids.
    pub(crate) ids: Arc<Stock>,
}

impl Issuance {
    /// With its authorities.
    pub fn new(parts: Parts) -> Self {
        let Parts { authorities, keys, trust_domain, ttl, store, ids } = parts;
        let bundle_pem = pem("CERTIFICATE", authorities.root().der());
        Self { authorities, keys, trust_domain, ttl, store, ids, bundle_pem }
    }

    /// Takes the key out of a request in PEM.
    ///
    /// # Errors
    /// No request, a key that is not allowed, a proof that does not hold, or a request that asks for anything.
    pub fn subject_key(&self, csr_pem: &str) -> Result<SubjectKey, Refusal> {
        let malformed = || Refusal::new(Code::BadRequest, "csr_pem: wanted one CERTIFICATE REQUEST in PEM");
        let der = pem::only("CERTIFICATE REQUEST", csr_pem).ok_or_else(malformed)?;
        inspect_csr(&der, &self.keys).map_err(|refused| match refused {
            CsrRefused::Key(why) => Refusal::new(Code::KeyRefused, why.to_string()),
            why => Refusal::new(Code::CsrRefused, why.to_string()),
        })
    }

    /// Issues to whoever was attested: decide, plan, lint, sign, commit.
    ///
    /// # Errors
    /// What is not held, not allowed, stopped, or cannot be recorded. Nothing is left of it then.
    pub async fn issue(
        &self,
        attested: Attested,
        key: SubjectKey,
        wish: &Wish,
        request_id: RequestId,
        now: Timestamp,
    ) -> Result<Committed<Outcome>, Refusal> {
        let granted = Granted::decide(self.store.state(), attested, wish, self.ttl, now)?;
        let issuing = self.authorities.issuing();
        let linted = self.plan(&issuing, &granted, key, now)?;
        let signed = sign(&issuing, linted).await?;
        let actor = Actor::Holder(signed.certificate().spiffe_id.clone());
        let cause = Cause { actor, request_id: Some(request_id) };
        let Attested { subject, selectors, basis, .. } = granted.attested;
        let committed = match basis {
            Basis::First { spends, session_end } => {
                let issue = Issue {
                    cause,
                    signed,
                    spends: Some(spends),
                    max_instances: granted.record.max_instances(),
                    session_end,
                    selectors: selectors.iter().map(ToString::to_string).collect(),
                };
                match self.store.commit(issue).await {
                    Ok(committed) => committed,
                    Err(error) => return Err(self.refused(error).await),
                }
            }
            Basis::Next { previous, spends } => self.store.commit(Renew { cause, signed, previous, spends }).await?,
        };
        self.answer(committed, subject, now)
    }

    /// Whoever shows evidence that was spent learns who has what it bought: if that is a thief, it is to be stopped.
    async fn refused(&self, error: CommitError) -> Refusal {
        if let CommitError::Refused(Refused::Spent { serial, .. }) = &error
            && let Ok(Some(bought)) = self.store.certificate(*serial).await
        {
            let spiffe_id = bought.certificate.spiffe_id;
            return match spiffe_id.principal() {
                Principal::Agent { instance, .. } => {
                    Refusal::spent(&format!("{error} as instance {instance}"), format_args!("instance:{instance}"))
                }
                _ => Refusal::spent(&format!("{error} as {spiffe_id}"), &spiffe_id),
            };
        }
        error.into()
    }

    /// A certificate for the issuer's own listener: no grant, no lineage. Leaf and issuing certificate, DER.
    ///
    /// # Errors
    /// As [`Issuance::issue`].
    pub async fn issue_own(
        &self,
        key: SubjectKey,
        dns_names: Vec<String>,
        now: Timestamp,
    ) -> Result<Committed<[Vec<u8>; 2]>, Refusal> {
        let issuing = self.authorities.issuing();
        let claims = Claims {
            spiffe_id: self.trust_domain.server(),
            scopes: ScopeSet::default(),
            grant: None,
            dns_names,
            not_after: now + self.ttl.leaf,
        };
        let planned = issuing.profile().plan(key, claims, self.ids.serial(now)?, now).map_err(refused_plan)?;
        let signed = sign(&issuing, planned.lint().map_err(|findings| unfit(&findings))?).await?;
        let committed = self.store.commit(IssueOwn { signed }).await?;
        Ok(committed.map(|issued| [issued.der.to_vec(), issuing.certificate().der().to_vec()]))
    }

    fn plan(&self, issuing: &Issuing, granted: &Granted, key: SubjectKey, now: Timestamp) -> Result<Linted, Refusal> {
        // An entry that comes after this look is newer than the plan: the commit holds it against the certificate.
        if self.authorities.stopped(issuing.key_id()) {
            let detail = format!("issuing authority {} is stopped; its successor is not there yet", issuing.key_id());
            return Err(Refusal::new(Code::NotReady, detail).after(1));
        }
        let (spiffe_id, lineage) = self.identity(granted, now)?;
        let grant = Grant {
            id: GrantId::new(self.ids.uuid(now)?),
            name: granted.attested.subject.name().clone(),
            revision: granted.record.revision(),
            owner: granted.record.owner().clone(),
            systems: granted.record.systems(),
            lineage,
            epoch: granted.planned.epoch,
            planned_at: granted.planned.log_size,
            seen: granted.planned.n,
            attestation: granted.attested.attestation.clone(),
            on_behalf_of: None,
            task: None,
            chain: Vec::new(),
            depth_left: 0,
            chosen: granted.chosen,
            constraints: Vec::new(),
        };
        let claims = Claims {
            spiffe_id,
            scopes: granted.scopes.clone(),
            grant: Some(grant),
            dns_names: granted.record.dns_names(),
            not_after: granted.not_after,
        };
        let planned = issuing.profile().plan(key, claims, self.ids.serial(now)?, now).map_err(refused_plan)?;
        if let Some(entry) = self.store.state().blocking(planned.certificate()) {
            return Err(Refusal::stopped(&entry));
        }
        planned.lint().map_err(|findings| unfit(&findings))
    }

    /// A new identity for what attests first; the same one for what goes on.
    fn identity(&self, granted: &Granted, now: Timestamp) -> Result<(SpiffeId, Lineage), Refusal> {
        if let Basis::Next { previous, .. } = &granted.attested.basis {
            let lineage = previous.grant.as_ref().map(|grant| grant.lineage);
            let none = || Refusal::new(Code::WrongCaller, "a certificate without a grant is not renewed");
            return Ok((previous.spiffe_id.clone(), lineage.ok_or_else(none)?));
        }
        let id = self.ids.uuid(now)?;
        let spiffe_id = match &granted.attested.subject {
            Subject::Agent(name) if granted.record.shared() => self.trust_domain.shared(name),
            Subject::Agent(name) => self.trust_domain.agent(name, Instance::new(id)),
            Subject::Service(name) => self.trust_domain.service(name),
            Subject::Admin(name) => self.trust_domain.admin(name),
        };
        Ok((spiffe_id, Lineage::new(self.ids.uuid(now)?)))
    }

    /// The authority that signed what is answered: not the one of now where an answer is given again.
    fn authority_of(&self, authority: KeyId) -> Result<Arc<Issuing>, Refusal> {
        let generations = self.authorities.all_issuing();
        let over = || Refusal::new(Code::Internal, "the authority of the recorded certificate is over");
        let found = generations.iter().rev().find(|one| one.key_id() == authority);
        found.cloned().ok_or_else(over)
    }

    /// What the caller reads of a certificate that is recorded, be it new or asked for again.
    fn answer(
        &self,
        committed: Committed<store::Issued>,
        subject: Subject,
        now: Timestamp,
    ) -> Result<Committed<Outcome>, Refusal> {
        let log_index = committed.log_index();
        committed.try_map(|store::Issued { certificate, der, replayed, .. }| {
            let ungranted = || Refusal::new(Code::Internal, "the recorded certificate has no grant");
            let grant = certificate.grant.as_ref().ok_or_else(ungranted)?;
            let issuing = self.authority_of(certificate.authority)?;
            let mut chain_pem = String::with_capacity(pem::len("CERTIFICATE", &der) + issuing.pem().len());
            pem::push(&mut chain_pem, "CERTIFICATE", &der);
            chain_pem.push_str(issuing.pem());
            let (not_before, not_after) = (certificate.not_before, certificate.not_after);
            let issued = Issued {
                certificate: IssuedCertificate {
                    serial: certificate.serial,
                    spiffe_id: certificate.spiffe_id.clone(),
                    subject,
                    agent_revision: grant.revision,
                    scopes: certificate.scopes.clone(),
                    grant_id: grant.id,
                    not_before,
                    not_after,
                    renew_after: renew_after(not_before, not_after, spread(certificate.serial)),
                },
                chain_pem,
                bundle_pem: self.bundle_pem.clone(),
                server_time: now,
                log_index,
            };
            Ok(Outcome { issued, replayed })
        })
    }
}

async fn sign(issuing: &Issuing, linted: Linted) -> Result<Signed, Refusal> {
    issuing.authority().sign(linted).await.map_err(|error| {
        tracing::error!(%error, "the issuing authority does not sign");
        Refusal::new(Code::Internal, "the issuing authority does not sign just now")
    })
}

/// Spread over the third sixth of the life and the fourth, so that a fleet does not come at once and a failure leaves time.
pub(crate) fn renew_after(not_before: Timestamp, not_after: Timestamp, fraction: f64) -> Timestamp {
    let life = not_after.since(not_before);
    (not_before + life.mul_f64(0.5 + fraction / 6.0)).floor_to_second()
}

/// Where in the spread a certificate's renewal lies, 0 to below 1: drawn with its serial, the same whenever it is asked.
pub(crate) fn spread(serial: Serial) -> f64 {
    let random = serial.bytes().last_chunk().copied().unwrap_or_default();
    f64::from(u32::from_be_bytes(random)) / 4_294_967_296.0
}

fn refused_plan(refused: chancery_ca::Refused) -> Refusal {
    let code = match refused {
        chancery_ca::Refused::TooShort { .. } => Code::TtlRefused,
        chancery_ca::Refused::TooLong(_) => Code::CertificateTooLarge,
        chancery_ca::Refused::AuthorityKey => Code::KeyRefused,
        _ => Code::Invalid,
    };
    Refusal::new(code, refused.to_string())
}

fn unfit(findings: &[chancery_ca::Finding]) -> Refusal {
    tracing::error!(?findings, "a planned certificate does not pass its lint; nothing was signed");
    Refusal::new(Code::Internal, "the certificate planned does not pass its lint; nothing was signed")
}
