//! `x509pop`: an agent shows a certificate that somebody else gave it, and that it holds the key. Signing.

use std::collections::BTreeSet;
use std::time::Duration;

use chancery_api::{Method, Selector, X509popEvidence};
use chancery_identity::{Attestation, Timestamp, TrustDomain};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::refusal::{Code, Refusal};
use crate::store::Spent;

use super::binding::{binding, check, sha256};
use super::challenge::Redeemable;
use super::{Attested, Attestor, Basis, Shown};

/// Certificates in one chain, at most.
const CHAIN_LEN_MAX: usize = 6;

/// The attestor with its configured roots.
pub(super) struct X509pop {
    pub(super) trust_domain: TrustDomain,
    pub(super) roots: Vec<CertificateDer<'static>>,
    pub(super) max_session: Duration,
}

impl Attestor for X509pop {
    type Evidence = (X509popEvidence, Redeemable);

    async fn attest(&self, (evidence, nonce): &Self::Evidence, shown: &Shown<'_>) -> Result<Attested, Refusal> {
        let chain = chain(&evidence.chain_pem)?;
        let (leaf, intermediates) = chain.split_first().ok_or_else(malformed)?;
        let name = evidence.subject.name();
        let binding = binding(&self.trust_domain, name, &evidence.nonce, shown.key.sha256());
        check(leaf, &binding, &evidence.signature)?;
        let root = self.root(leaf, intermediates, shown.now)?;

        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| malformed())?;
        // No session outlives the certificate that it rests on.
        let shown_until = Timestamp::from_unix_seconds(parsed.validity().not_after.timestamp());
        Ok(Attested {
            subject: evidence.subject.clone(),
            attestation: Attestation { method: Method::X509pop.as_str().into(), digest: sha256(leaf), at: shown.now },
            selectors: selectors(root, leaf, &parsed),
            basis: Basis::First {
                spends: Spent { digest: nonce.digest, expires_at: nonce.expires_at, token: None, peer: shown.peer },
                session_end: Some(shown_until.min(shown.now + self.max_session)),
            },
        })
    }
}

impl X509pop {
    /// The configured root that the chain leads to now.
    fn root(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<&CertificateDer<'static>, Refusal> {
        let leaf = EndEntityCert::try_from(leaf).map_err(|_| malformed())?;
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms.all;
        let time = UnixTime::since_unix_epoch(now.since(Timestamp::from_unix_seconds(0)));
        let mut why = "no roots are configured for x509pop; an administrator sets [x509pop] roots".to_owned();
        for root in &self.roots {
            let Ok(anchor) = webpki::anchor_from_trusted_cert(root) else { continue };
            let anchors = [anchor];
            match leaf.verify_for_usage(algorithms, &anchors, intermediates, time, KeyUsage::client_auth(), None, None)
            {
                Ok(_) => return Ok(root),
                Err(error) => why = format!("the certificate shown does not lead to a configured root: {error}"),
            }
        }
        Err(Refusal::new(Code::EvidenceRefused, why))
    }
}

fn chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, Refusal> {
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).take(CHAIN_LEN_MAX + 1);
    let chain: Vec<_> = certificates.collect::<Result<_, _>>().map_err(|_| malformed())?;
    if chain.len() > CHAIN_LEN_MAX { Err(malformed()) } else { Ok(chain) }
}

fn malformed() -> Refusal {
    Refusal::new(Code::BadRequest, format!("chain_pem: wanted 1 to {CHAIN_LEN_MAX} certificates in PEM, leaf first"))
}

/// The root, and what the leaf says of its holder. What no selector can spell is no fact.
fn selectors(root: &[u8], leaf_der: &[u8], leaf: &X509Certificate<'_>) -> BTreeSet<Selector> {
    let mut facts = vec![format!("ca:{}", hex(&sha256(root))), format!("fingerprint:{}", hex(&sha256(leaf_der)))];
    let names = leaf.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    facts.extend(names.map(|name| format!("subject:cn:{name}")));
    if let Ok(Some(names)) = leaf.subject_alternative_name() {
        facts.extend(names.value.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(dns) => Some(format!("san:dns:{dns}")),
            GeneralName::URI(uri) => Some(format!("san:uri:{uri}")),
            _ => None,
        }));
    }
    facts.iter().filter_map(|fact| format!("x509pop:{fact}").parse().ok()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
