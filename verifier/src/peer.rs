//! Who is at the other end.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use chancery_identity::{Certificate, Grant, KeyId, Scope, ScopeSet, Serial, SpiffeId, Timestamp};
use rustls_pki_types::CertificateDer;

use crate::chain::{Link, Verified};

/// A peer whose certificate was verified when it connected. Only a verifier makes one; clones are the same peer.
///
/// It says who the peer is. What the peer may do now is for [`Guard::check`](crate::Guard::check) to say on each
/// request: between two requests the certificate can expire or be revoked.
///
/// ```compile_fail,E0423
/// # fn pretend<F>(facts: std::sync::Arc<F>) {
/// let anybody = chancery_verifier::Peer(facts);
/// # }
/// ```
#[derive(Clone)]
pub struct Peer(Arc<Facts>);

struct Facts {
    der: CertificateDer<'static>,
    certificate: Arc<Certificate>,
    dns_names: Vec<Box<str>>,
    links: Vec<Link>,
    /// The generation of what is known of revocations in which nothing hit this certificate.
    cleared: AtomicU64,
    /// The last request that was let through.
    accepted: Mutex<Option<(Timestamp, Scope)>>,
    /// Whether a connection of it is, or was, in the registry.
    entered: AtomicBool,
}

impl Peer {
    pub(crate) fn new(der: CertificateDer<'static>, verified: Verified) -> Self {
        let Verified { certificate, dns_names, links } = verified;
        let (cleared, accepted, entered) = Default::default();
        Self(Arc::new(Facts { der, certificate: Arc::new(certificate), dns_names, links, cleared, accepted, entered }))
    }

    /// Its SPIFFE ID.
    pub fn spiffe_id(&self) -> &SpiffeId {
        &self.0.certificate.spiffe_id
    }

    /// What its certificate allows.
    pub fn scopes(&self) -> &ScopeSet {
        &self.0.certificate.scopes
    }

    /// What stands behind the scopes; absent in the issuer's own certificate.
    pub fn grant(&self) -> Option<&Grant> {
        self.0.certificate.grant.as_ref()
    }

    /// Its certificate's serial.
    pub fn serial(&self) -> Serial {
        self.0.certificate.serial
    }

    /// The authority that signed its certificate.
    pub fn authority(&self) -> KeyId {
        self.0.certificate.authority
    }

    /// The first instant its certificate is valid at.
    pub fn not_before(&self) -> Timestamp {
        self.0.certificate.not_before
    }

    /// The last second its certificate is valid at.
    pub fn not_after(&self) -> Timestamp {
        self.0.certificate.not_after
    }

    /// All that its certificate says.
    pub fn certificate(&self) -> &Arc<Certificate> {
        &self.0.certificate
    }

    /// The DNS names of its certificate.
    pub fn dns_names(&self) -> impl Iterator<Item = &str> {
        self.0.dns_names.iter().map(AsRef::as_ref)
    }

    /// Its certificate as DER.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.0.der
    }

    pub(crate) fn links(&self) -> &[Link] {
        &self.0.links
    }

    /// Notes the request that was let through.
    pub(crate) fn accepted(&self, at: Timestamp, scope: &Scope) {
        *self.0.accepted.lock().unwrap_or_else(PoisonError::into_inner) = Some((at, scope.clone()));
    }

    /// The last request that was let through, and the scope it needed.
    #[cfg(feature = "tokio")]
    pub(crate) fn last_accepted(&self) -> Option<(Timestamp, Scope)> {
        self.0.accepted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn entered(&self) {
        self.0.entered.store(true, Ordering::Relaxed);
    }

    /// Whether no connection of it was ever known here: a proxy forwards what it asks, or a service listens by itself.
    #[cfg(feature = "tokio")]
    pub(crate) fn is_forwarded(&self) -> bool {
        !self.0.entered.load(Ordering::Relaxed)
    }

    /// Whether nothing hit the certificate in this generation.
    pub(crate) fn cleared_in(&self, generation: u64) -> bool {
        self.0.cleared.load(Ordering::Relaxed) == generation
    }

    pub(crate) fn clear_in(&self, generation: u64) {
        // Two generations can race here; either verdict was true of the generation it is stored with.
        self.0.cleared.store(generation, Ordering::Relaxed);
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("spiffe_id", &self.spiffe_id().as_str())
            .field("serial", &self.serial())
            .field("not_after", &self.not_after())
            .finish_non_exhaustive()
    }
}
