//! `rejoin`: an expired certificate of ours and a signature by its key, so that an issuer's outage ends nobody. Signing.

use std::sync::Arc;
use std::time::Duration;

use chancery_api::RejoinEvidence;
use chancery_identity::{Leaf, TrustDomain};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::config::text;
use crate::refusal::{Code, Refusal};
use crate::store::{Spent, Store};

use super::binding::{binding, check};
use super::challenge::Redeemable;
use super::{Attested, Attestor, Shown, next};

pub(super) struct Rejoin {
    pub(super) trust_domain: TrustDomain,
    pub(super) store: Store,
    pub(super) within: Duration,
}

impl Attestor for Rejoin {
    type Evidence = (RejoinEvidence, Redeemable);

    async fn attest(&self, (evidence, nonce): &Self::Evidence, shown: &Shown<'_>) -> Result<Attested, Refusal> {
        let malformed = || Refusal::new(Code::BadRequest, "chain_pem: wanted the expired certificate in PEM");
        let der = CertificateDer::from_pem_slice(evidence.chain_pem.as_bytes()).map_err(|_| malformed())?;
        let certificate = Leaf::read(&der).map_err(|_| malformed())?.into_certificate();
        let subject = crate::registry::subject(&certificate.spiffe_id).ok_or_else(malformed)?;
        let binding = binding(&self.trust_domain, subject.name(), &evidence.nonce, shown.key.sha256());
        check(&der, &binding, &evidence.signature)?;
        // Ours is what the store holds, byte for byte; its signature was checked when it was made.
        let held = self.store.certificate(certificate.serial).await?;
        if held.is_none_or(|held| held.der != *der) {
            return Err(Refusal::new(Code::EvidenceRefused, "the certificate shown was not issued here"));
        }
        let late = shown.now.since(certificate.not_after);
        if late > self.within {
            let detail =
                format!("the certificate ended {} ago; rejoining is possible within {}", text(late), text(self.within));
            return Err(Refusal::new(Code::RejoinRefused, detail).fix("attest again, with a new join token if need be"));
        }
        let spends = Spent { digest: nonce.digest, expires_at: nonce.expires_at, token: None, peer: shown.peer };
        next(Arc::new(certificate), Some(spends))
    }
}
