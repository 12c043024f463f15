//! Evidence in, `Attested` out: what a caller proved, before anybody asks what it may have.

mod binding;
mod challenge;
mod join_token;
mod rejoin;
mod x509pop;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use chancery_api::{Challenge, Evidence, RejoinEvidence, Selector, Subject, X509popEvidence};
use chancery_ca::SubjectKey;
use chancery_identity::{Attestation, Certificate, Timestamp, TrustDomain};
use chancery_verifier::Peer;
use ring::hmac;
use ring::rand::SecureRandom;
use rustls_pki_types::CertificateDer;

use crate::config::Ttl;
use crate::refusal::{Code, Refusal};
use crate::store::{Spent, Store};

use challenge::{Challenges, Redeemable};
use x509pop::X509pop;

/// Who a caller is, and on what evidence. Only this room makes one.
#[derive(Debug)]
pub struct Attested {
    pub(crate) subject: Subject,
    pub(crate) attestation: Attestation,
    pub(crate) selectors: BTreeSet<Selector>,
    pub(crate) basis: Basis,
}

/// What the evidence buys.
#[derive(Debug)]
pub(crate) enum Basis {
    /// A new lineage.
    First {
        /// What this uses up, in the transaction that issues.
        spends: Spent,
        /// The end of the session, where the agent can attest again by itself.
        session_end: Option<Timestamp>,
    },
    /// The next certificate of a lineage.
    Next {
        /// The certificate that it follows.
        previous: Arc<Certificate>,
        /// The nonce that a rejoin uses up.
        spends: Option<Spent>,
    },
}

/// One way to prove who one is. A file each.
///
/// Bearer evidence is worth as much to whoever reads it, so it is spent and short-lived; signing evidence is a signature
/// over a binding, worth nothing with another key.
trait Attestor {
    /// What it is shown.
    type Evidence;

    /// Judges the evidence for a new key.
    async fn attest(&self, evidence: &Self::Evidence, shown: &Shown<'_>) -> Result<Attested, Refusal>;
}

/// What stands around the evidence.
struct Shown<'a> {
    key: &'a SubjectKey,
    peer: Option<IpAddr>,
    now: Timestamp,
}

/// All attestors of the service.
pub struct Attestors {
    store: Store,
    challenges: Challenges,
    join_token: join_token::JoinTokens,
    x509pop: X509pop,
    rejoin: rejoin::Rejoin,
}

impl Attestors {
    /// With the roots that `x509pop` evidence must lead to, and the key of its nonces.
    pub fn new(
        trust_domain: &TrustDomain,
        ttl: Ttl,
        x509pop_roots: Vec<CertificateDer<'static>>,
        nonce_key: hmac::Key,
        store: &Store,
    ) -> Self {
        Self {
            store: store.clone(),
            challenges: Challenges::new(nonce_key),
            join_token: join_token::JoinTokens::new(store.clone()),
            x509pop: X509pop { trust_domain: trust_domain.clone(), roots: x509pop_roots, max_session: ttl.max_session },
            rejoin: rejoin::Rejoin {
                trust_domain: trust_domain.clone(),
                store: store.clone(),
                within: ttl.rejoin_within,
            },
        }
    }

    /// A nonce for signing evidence.
    ///
    /// # Errors
    /// No randomness.
    pub fn challenge(&self, now: Timestamp, rng: &dyn SecureRandom) -> Result<Challenge, Refusal> {
        let drawn = self.challenges.draw(now, rng);
        let (nonce, expires_at) = drawn.map_err(|_| Refusal::new(Code::Internal, "the system gives no randomness"))?;
        Ok(Challenge { nonce, expires_at })
    }

    /// Judges evidence shown for a new key.
    ///
    /// # Errors
    /// Evidence that proves nothing, was spent, or is too old.
    pub async fn attest(
        &self,
        evidence: &Evidence,
        key: &SubjectKey,
        peer: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Attested, Refusal> {
        let shown = Shown { key, peer, now };
        match evidence {
            Evidence::JoinToken(evidence) => self.join_token.attest(evidence, &shown).await,
            Evidence::X509pop(evidence) => {
                let nonce = self.redeem(&evidence.nonce, key, now).await?;
                self.x509pop.attest(&(evidence.clone(), nonce), &shown).await
            }
            Evidence::Rejoin(evidence) => {
                let nonce = self.redeem(&evidence.nonce, key, now).await?;
                self.rejoin.attest(&(evidence.clone(), nonce), &shown).await
            }
            _ => Err(Refusal::new(Code::BadRequest, "there is no such attestor")),
        }
    }

    /// Refuses what a hash can tell is worth nothing, before any signature is looked at.
    ///
    /// # Errors
    /// A nonce that is not ours, or whose time is over.
    pub fn glance(&self, evidence: &Evidence, now: Timestamp) -> Result<(), Refusal> {
        match evidence {
            Evidence::X509pop(X509popEvidence { nonce, .. }) | Evidence::Rejoin(RejoinEvidence { nonce, .. }) => {
                self.known(nonce, now).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// A nonce whose minute is over is good only for the key that it was spent on, whose answer may have been lost.
    async fn redeem(&self, nonce: &str, key: &SubjectKey, now: Timestamp) -> Result<Redeemable, Refusal> {
        let nonce = self.known(nonce, now)?;
        if nonce.expires_at <= now && !self.store.replayable(&nonce.digest, key.sha256(), now).await? {
            return Err(refused_nonce());
        }
        Ok(nonce)
    }

    fn known(&self, nonce: &str, now: Timestamp) -> Result<Redeemable, Refusal> {
        self.challenges.redeem(nonce, now).ok_or_else(refused_nonce)
    }
}

fn refused_nonce() -> Refusal {
    Refusal::new(Code::NonceRefused, "the nonce is not one of this issuer's, or its minute is over")
        .fix("ask for a new one: POST /v1/attest/challenge")
}

/// A renewal's evidence is the connection: the verifier accepted the certificate, the handshake proved its key.
///
/// # Errors
/// A certificate without a grant, as the issuer's own.
pub fn renewal(peer: &Peer) -> Result<Attested, Refusal> {
    next(peer.certificate().clone(), None)
}

/// The next of a lineage rests on what its first was attested by.
fn next(previous: Arc<Certificate>, spends: Option<Spent>) -> Result<Attested, Refusal> {
    let wrong = || Refusal::new(Code::WrongCaller, format!("{} has nothing to renew", previous.spiffe_id));
    let subject = crate::registry::subject(&previous.spiffe_id).ok_or_else(wrong)?;
    let attestation = previous.grant.as_ref().ok_or_else(wrong)?.attestation.clone();
    let basis = Basis::Next { previous, spends };
    Ok(Attested { subject, attestation, selectors: BTreeSet::new(), basis })
}
