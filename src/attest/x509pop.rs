//! `x509pop`: an agent shows a certificate that somebody else gave it, and that it holds the key.
//!
//! Signing: the certificate's key signs the binding of a nonce of ours, the agent's name and the new key, so what a
//! listener hears is worth nothing anywhere else.

use ring::digest::{SHA256, digest};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use chancery_identity::Timestamp;

/// Certificates in one chain, at most.
const CHAIN_LEN_MAX: usize = 6;

/// The attestor with its configured roots.
pub struct X509pop {
    roots: Vec<CertificateDer<'static>>,
}

/// What a chain proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// `x509pop:ca:<SHA-256 of the root>` and what the leaf says of its holder.
    pub selectors: Vec<String>,
    /// SHA-256 of the leaf.
    pub digest: [u8; 32],
    /// The end of the leaf's validity: no session rests on it for longer.
    pub not_after: Timestamp,
}

impl X509pop {
    /// With these roots.
    pub fn new(roots: Vec<CertificateDer<'static>>) -> Self {
        Self { roots }
    }

    /// Checks the chain, leaf first, against the roots, and the leaf's signature over the binding.
    ///
    /// # Errors
    /// A chain that does not lead to a configured root now, or a signature that is not its leaf's.
    pub fn verify(
        &self,
        chain_pem: &str,
        binding: &[u8; 32],
        signature: &[u8],
        now: Timestamp,
    ) -> Result<Proven, X509popRefused> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain_pem.as_bytes())
            .take(CHAIN_LEN_MAX + 1)
            .collect::<Result<_, _>>()
            .map_err(|_| X509popRefused::Pem)?;
        if chain.len() > CHAIN_LEN_MAX {
            return Err(X509popRefused::Pem);
        }
        let (leaf_der, intermediates) = chain.split_first().ok_or(X509popRefused::Pem)?;
        let leaf = EndEntityCert::try_from(leaf_der).map_err(|e| X509popRefused::Chain(e.to_string()))?;
        verify_signature(&leaf, leaf_der, binding, signature)?;

        let root = self.anchor(&leaf, intermediates, now)?;
        let mut selectors = vec![format!("x509pop:ca:{}", hex(&sha256(root)))];
        selectors.extend(facts(leaf_der).ok_or(X509popRefused::Pem)?);
        Ok(Proven { selectors, digest: sha256(leaf_der), not_after: not_after(leaf_der).ok_or(X509popRefused::Pem)? })
    }

    /// The root that the chain leads to.
    fn anchor(
        &self,
        leaf: &EndEntityCert<'_>,
        intermediates: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<&CertificateDer<'static>, X509popRefused> {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms.all;
        let time = UnixTime::since_unix_epoch(now.since(Timestamp::from_unix_seconds(0)));
        let mut last = None;
        for root in &self.roots {
            let anchor: TrustAnchor<'_> =
                webpki::anchor_from_trusted_cert(root).map_err(|e| X509popRefused::Chain(e.to_string()))?;
            let anchors = [anchor];
            match leaf.verify_for_usage(algorithms, &anchors, intermediates, time, KeyUsage::client_auth(), None, None) {
                Ok(_) => return Ok(root),
                Err(error) => last = Some(error),
            }
        }
        Err(last.map_or(X509popRefused::NoRoots, |error| X509popRefused::Chain(error.to_string())))
    }
}

/// By the leaf's key, whichever of the algorithms that fit it was used.
fn verify_signature(
    leaf: &EndEntityCert<'_>,
    leaf_der: &[u8],
    binding: &[u8; 32],
    signature: &[u8],
) -> Result<(), X509popRefused> {
    let (_, parsed) = X509Certificate::from_der(leaf_der).map_err(|_| X509popRefused::Pem)?;
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
    let spki_algorithm = parsed.public_key().algorithm.algorithm.as_bytes();
    algorithms
        .all
        .iter()
        // The algorithm identifier's contents begin with the OID's tag and length.
        .filter(|algorithm| algorithm.public_key_alg_id().as_ref().get(2..).is_some_and(|id| id.starts_with(spki_algorithm)))
        .any(|algorithm| leaf.verify_signature(*algorithm, binding, signature).is_ok())
        .then_some(())
        .ok_or(X509popRefused::Signature)
}

/// What the leaf says of its holder, as selectors.
fn facts(leaf_der: &[u8]) -> Option<Vec<String>> {
    let (_, leaf) = X509Certificate::from_der(leaf_der).ok()?;
    let names = leaf.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    let mut selectors: Vec<String> = names.map(|name| format!("x509pop:subject:cn:{name}")).collect();
    if let Ok(Some(names)) = leaf.subject_alternative_name() {
        selectors.extend(names.value.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(dns) => Some(format!("x509pop:san:dns:{dns}")),
            GeneralName::URI(uri) => Some(format!("x509pop:san:uri:{uri}")),
            _ => None,
        }));
    }
    selectors.push(format!("x509pop:fingerprint:{}", hex(&sha256(leaf_der))));
    Some(selectors)
}

fn not_after(leaf_der: &[u8]) -> Option<Timestamp> {
    let (_, leaf) = X509Certificate::from_der(leaf_der).ok()?;
    Some(Timestamp::from_unix_seconds(leaf.validity().not_after.timestamp()))
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The evidence proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum X509popRefused {
    /// No roots are configured.
    #[error("no roots are configured for x509pop; an administrator sets [x509pop] roots")]
    NoRoots,
    /// Not a chain of 1 to 6 certificates.
    #[error("chain_pem: wanted 1 to {CHAIN_LEN_MAX} certificates in PEM, leaf first")]
    Pem,
    /// It leads to no configured root now.
    #[error("the certificate shown does not lead to a configured root: {0}")]
    Chain(String),
    /// Not the leaf's signature over the binding.
    #[error("the signature is not made by the certificate's key over this nonce, agent and new key")]
    Signature,
}
