//! The path from a leaf to a trust anchor, and the SVID rules on top of it.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chancery_identity::{LEAF_LEN_MAX, Leaf, Serial, Timestamp, TrustDomain, oid};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, VerifiedPath};

use crate::authority::{Authority, AuthorityRefused};
use crate::signed::Signed;
use crate::{Denial, MaterialRefused};

/// Which side of the connection the leaf stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    Client,
    Server,
}

/// One certificate of a verified path, by its serial under the authority that signed it.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) authority: Arc<Authority>,
    pub(crate) serial: Serial,
}

/// The trust anchors of one trust domain. Never merged with another's.
#[derive(Clone, Debug)]
pub(crate) struct Anchors {
    anchors: Vec<TrustAnchor<'static>>,
    authorities: Vec<Arc<Authority>>,
}

impl Anchors {
    /// Reads a bundle.
    pub(crate) fn read(roots: &[CertificateDer<'_>]) -> Result<Self, MaterialRefused> {
        let (mut anchors, mut authorities) = (Vec::new(), Vec::new());
        for root in roots {
            let anchor = webpki::anchor_from_trusted_cert(root).map_err(|_| MaterialRefused::Root)?;
            anchors.push(anchor.to_owned());
            authorities.push(Arc::new(Authority::read(root).map_err(|_| MaterialRefused::Root)?));
        }
        Ok(Self { anchors, authorities })
    }

    /// The anchors' certificates.
    pub(crate) fn authorities(&self) -> &[Arc<Authority>] {
        &self.authorities
    }

    fn of(&self, anchor: &TrustAnchor<'_>) -> Option<&Arc<Authority>> {
        self.authorities.iter().find(|authority| {
            authority.subject() == anchor.subject.as_ref()
                && authority.spki() == anchor.subject_public_key_info.as_ref()
        })
    }

    /// RFC 5280 §6.1 from the leaf to an anchor; yields the path, the leaf's link first.
    ///
    /// webpki builds the path and checks signatures, validity, basic and name constraints; the issuers are checked here
    /// for what it leaves out.
    pub(crate) fn verify_path(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: Usage,
        now: Timestamp,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<Vec<Link>, ChainRefused> {
        let key_usage = match usage {
            Usage::Client => webpki::KeyUsage::client_auth(),
            Usage::Server => webpki::KeyUsage::server_auth(),
        };
        let seconds = Duration::from_secs(u64::try_from(now.unix_seconds()).unwrap_or(0));
        let leaf = EndEntityCert::try_from(leaf).map_err(ChainRefused::path)?;
        let refused = RefCell::new(None);
        let verified = RefCell::new(Vec::new());
        let check = |path: &VerifiedPath<'_>| match self.check_issuers(path, now) {
            Ok(links) => {
                verified.replace(links);
                Ok(())
            }
            Err(why) => {
                refused.replace(Some(why));
                Err(webpki::Error::UnknownIssuer)
            }
        };
        let result = leaf.verify_for_usage(
            algorithms.all,
            &self.anchors,
            intermediates,
            UnixTime::since_unix_epoch(seconds),
            key_usage,
            None,
            Some(&check),
        );
        match result {
            Ok(_) => Ok(verified.take()),
            Err(error) => Err(refused.take().unwrap_or_else(|| ChainRefused::path(error))),
        }
    }

    fn check_issuers(&self, path: &VerifiedPath<'_>, now: Timestamp) -> Result<Vec<Link>, ChainRefused> {
        let serial = |bytes: &[u8]| Serial::from_bytes(bytes).ok_or(ChainRefused::Serial);
        let mut links = Vec::with_capacity(2);
        let mut below = serial(magnitude(path.end_entity().serial()))?;
        let mut depth = 0;
        for intermediate in path.intermediate_certificates() {
            let authority = Authority::read(intermediate.der().as_ref()).map_err(|_| ChainRefused::Malformed)?;
            authority.check_issuer(depth, now)?;
            let above = authority.serial().ok_or(ChainRefused::Serial)?;
            // RFC 5280 §4.2.1.9: self-issued certificates are not counted in a path length.
            depth += usize::from(authority.subject() != authority.issuer());
            links.push(Link { authority: Arc::new(authority), serial: below });
            below = above;
        }
        let anchor = self.of(path.anchor()).ok_or(ChainRefused::Malformed)?;
        anchor.check_issuer(depth, now)?;
        links.push(Link { authority: Arc::clone(anchor), serial: below });
        Ok(links)
    }

    /// Which of these certificates are authorities below the anchors. For the CRLs of one's own chain, which must be
    /// checked before a peer has shown the same authorities.
    pub(crate) fn authorities_below(
        &self,
        certificates: &[CertificateDer<'_>],
        now: Timestamp,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Vec<Arc<Authority>> {
        let mut known = self.authorities.clone();
        // From the root's end, so that each finds its issuer among those before it.
        for der in certificates.iter().rev() {
            let (Ok(authority), Ok(signed)) = (Authority::read(der), Signed::read(der)) else { continue };
            let signed_by_known = known.iter().any(|issuer| {
                issuer.subject() == authority.issuer()
                    && issuer.check_issuer(0, now).is_ok()
                    && signed.verified_by(issuer.spki(), algorithms)
            });
            if signed_by_known && authority.check_issuer(0, now).is_ok() {
                known.push(Arc::new(authority));
            }
        }
        known.split_off(self.authorities.len())
    }
}

/// webpki keeps the sign byte of a serial.
fn magnitude(serial: &[u8]) -> &[u8] {
    match serial {
        [0, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    }
}

/// A leaf that chains to its trust domain's anchors and is a usable SVID. Says nothing of revocation.
pub(crate) struct Verified {
    pub(crate) certificate: chancery_identity::Certificate,
    pub(crate) dns_names: Vec<Box<str>>,
    pub(crate) links: Vec<Link>,
}

/// Checks a presented chain against the bundle of the leaf's trust domain, and the SVID rules.
pub(crate) fn verify_svid(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    trust_domain: &TrustDomain,
    anchors: &Anchors,
    usage: Usage,
    now: Timestamp,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<Verified, Denial> {
    let read = Leaf::read(leaf)?;
    let certificate = read.certificate();
    if !certificate.spiffe_id.is_in(trust_domain) {
        return Err(Denial::TrustDomain { wanted: trust_domain.clone(), came: certificate.spiffe_id.trust_domain() });
    }
    if leaf.len() > LEAF_LEN_MAX {
        return Err(Denial::TooLarge(leaf.len()));
    }
    check_validity(certificate, now)?;
    // RFC 5280 §4.2.1.6: an empty subject makes the SAN critical.
    if read.subject_empty() && !read.san_critical() {
        return Err(Denial::SubjectAltName);
    }
    // X509-SVID §4.4: when extended key usage is present, it MUST contain both.
    if let Some(purposes) = read.extended_key_usages() {
        if !purposes.contains(&oid::SERVER_AUTH) || !purposes.contains(&oid::CLIENT_AUTH) {
            return Err(Denial::ExtendedKeyUsage);
        }
    }
    if let Some(grant) = &certificate.grant {
        // No kind of constraint is known yet, and one that is not known may forbid this very use.
        if !grant.constraints.is_empty() {
            return Err(Denial::Constraint);
        }
        if let Some(ancestor) = grant.chain.iter().find(|ancestor| !ancestor.spiffe_id.is_in(trust_domain)) {
            return Err(Denial::TrustDomain { wanted: trust_domain.clone(), came: ancestor.spiffe_id.trust_domain() });
        }
    }
    let links = anchors.verify_path(leaf, intermediates, usage, now, algorithms)?;
    for link in &links {
        link.authority.check_svid(trust_domain).map_err(ChainRefused::Authority)?;
    }
    // What revokes by authority goes by the key id that the leaf names, so it must be the true one.
    let named = read.authority_key_id().map(|_| certificate.authority);
    if named != links.first().and_then(|link| link.authority.key_id()) {
        return Err(ChainRefused::AuthorityKeyId.into());
    }
    let dns_names = read.dns_names().iter().map(|&name| name.into()).collect();
    Ok(Verified { dns_names, certificate: read.into_certificate(), links })
}

/// RFC 5280 §4.1.2.5: valid from notBefore through notAfter, both included, in whole seconds.
pub(crate) fn check_validity(certificate: &chancery_identity::Certificate, now: Timestamp) -> Result<(), Denial> {
    if now < certificate.not_before {
        return Err(Denial::NotYetValid { not_before: certificate.not_before, now });
    }
    if now.floor_to_second() > certificate.not_after {
        return Err(Denial::Expired { not_after: certificate.not_after, now });
    }
    Ok(())
}

/// Why no path leads from the leaf to a trust anchor.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChainRefused {
    /// No anchor of the trust domain stands behind it.
    UnknownIssuer,
    /// A signature, constraint or form that path validation refuses.
    Path(Box<str>),
    /// A certificate of the chain that is none.
    Malformed,
    /// A serial that is zero, negative or longer than 20 bytes.
    Serial,
    /// A certificate of the chain that may not sign the one below it.
    Authority(AuthorityRefused),
    /// The leaf names another authority key than the one that signed it.
    AuthorityKeyId,
}

impl ChainRefused {
    fn path(error: webpki::Error) -> Self {
        match error {
            webpki::Error::UnknownIssuer => Self::UnknownIssuer,
            error => Self::Path(error.to_string().into()),
        }
    }
}

impl From<AuthorityRefused> for ChainRefused {
    fn from(refused: AuthorityRefused) -> Self {
        Self::Authority(refused)
    }
}

impl fmt::Display for ChainRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownIssuer => f.write_str("no trust anchor of the trust domain stands behind the certificate"),
            Self::Path(why) => write!(f, "the certificate chain does not hold: {why}"),
            Self::Malformed => f.write_str("the chain has a malformed certificate"),
            Self::Serial => f.write_str("the chain has a serial number that is zero, negative or longer than 20 bytes"),
            Self::Authority(why) => write!(f, "an authority of the chain may not sign: {why}"),
            Self::AuthorityKeyId => f.write_str("the leaf names another authority key than the one that signed it"),
        }
    }
}

impl std::error::Error for ChainRefused {}
