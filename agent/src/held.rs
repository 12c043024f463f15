//! The certificate in hand: what is saved, taken apart and found to fit together.

use std::sync::Arc;

use chancery_api::Issued;
use chancery_identity::{Certificate, Leaf, LeafError, Timestamp, TrustDomain};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::event::Holding;
use crate::key::{Key, KeyError};
use crate::pem;
use crate::schedule::Life;
use crate::state::{Saved, TokenDigest};

/// A certificate with its key, its chain and the roots of its trust domain.
pub(crate) struct Held {
    pub(crate) saved: Saved,
    pub(crate) key: Key,
    pub(crate) private_key: Arc<PrivateKeyDer<'static>>,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) roots: Arc<[CertificateDer<'static>]>,
    pub(crate) certificate: Certificate,
    dns_names: Vec<String>,
}

impl Held {
    /// From an answer to a request that `key` signed.
    pub(crate) fn from_answer(
        issuer: &str,
        joined_by: Option<TokenDigest>,
        key: &Key,
        issued: Issued,
    ) -> Result<Self, HeldError> {
        Self::from_saved(Saved {
            issuer: issuer.to_owned(),
            joined_by,
            key_pem: key.to_pem(),
            chain_pem: issued.chain_pem,
            bundle_pem: issued.bundle_pem,
            renew_after: issued.certificate.renew_after,
            revision: issued.certificate.agent_revision,
        })
    }

    /// From what was saved.
    pub(crate) fn from_saved(saved: Saved) -> Result<Self, HeldError> {
        let key = Key::from_pem(&saved.key_pem)?;
        let chain = pem::certificates(&saved.chain_pem).ok_or(HeldError::Chain)?;
        let roots = pem::certificates(&saved.bundle_pem).ok_or(HeldError::Bundle)?;
        let leaf = Leaf::read(chain.first().ok_or(HeldError::Chain)?)?;
        if leaf.spki() != key.spki() {
            return Err(HeldError::OtherKey);
        }
        let dns_names = leaf.dns_names().iter().map(|&name| name.to_owned()).collect();
        let certificate = leaf.into_certificate();
        let private_key = Arc::new(key.to_private_key_der());
        Ok(Self { saved, key, private_key, chain, roots: roots.into(), certificate, dns_names })
    }

    pub(crate) fn trust_domain(&self) -> TrustDomain {
        self.certificate.spiffe_id.trust_domain()
    }

    pub(crate) fn life(&self) -> Life {
        Life { renew_after: self.saved.renew_after, not_after: self.certificate.not_after }
    }

    pub(crate) fn holding(&self, now: Timestamp) -> Holding {
        Holding {
            spiffe_id: self.certificate.spiffe_id.clone(),
            scopes: self.certificate.scopes.clone(),
            systems: self.certificate.grant.as_ref().map(|grant| grant.systems.clone()).unwrap_or_default(),
            dns_names: self.dns_names.clone(),
            left: self.life().left(now),
            renew_after: self.saved.renew_after,
        }
    }
}

/// What was issued or saved is no usable identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeldError {
    /// The private key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Not a chain in PEM.
    #[error("the certificate chain is not PEM, or is empty")]
    Chain,
    /// Not a bundle in PEM.
    #[error("the bundle is not PEM, or is empty")]
    Bundle,
    /// The leaf.
    #[error("the certificate cannot be used: {0}")]
    Leaf(#[from] LeafError),
    /// The certificate is for another key.
    #[error("the certificate is for another key than the one that asked for it")]
    OtherKey,
}
