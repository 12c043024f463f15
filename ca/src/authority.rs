//! Authorities: the root, which signs authorities, and the issuing one, which signs leaves. Each signs its own CRL.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use chancery_identity::der::{self, DerError, Writer};
use chancery_identity::{KeyId, Serial, Timestamp, TrustDomain, oid};

use crate::algorithm::PublicKey;
use crate::certificate::{
    self, DIGITAL_SIGNATURE, Head, Links, OCSP_NO_CHECK, OCSP_SIGNING, SIGNS_CERTIFICATES, extension,
};
use crate::csr::EXTENSION_REQUEST;
use crate::lint::{Finding, Kind, lint};
use crate::ocsp::{RESPONDER_VALIDITY, ResponderCertificate};
use crate::profile::{BACKDATING, Issuer, Linted, Signed};
use crate::{
    Algorithm, AuthorityCertificate, CrlPlan, Crypto, Responder, SignedCrl, Signer, SignerError, StatusUrl, key,
};

/// How long the certificate of a key that signs heads is valid. Half of it over, a successor is due.
pub const HEAD_KEY_VALIDITY: Duration = Duration::from_secs(90 * 86_400);

/// The issuing authority: signs what was linted, and its CRL.
#[derive(Clone, Debug)]
pub struct Authority(Keyed);

impl Authority {
    /// From the certificate that [`RootAuthority::issue`] made, and its key.
    ///
    /// # Errors
    /// The certificate is no issuing authority's, or the key is not its.
    pub fn from_parts(certificate: Vec<u8>, signer: Arc<dyn Signer>, crypto: Crypto) -> Result<Self, AuthorityError> {
        let keyed = Keyed::new(AuthorityCertificate::read(certificate)?, signer, crypto)?;
        if keyed.certificate.self_issued() {
            return Err(AuthorityError::Unfit("it is a root; a root signs authorities only"));
        }
        Ok(Self(keyed))
    }

    /// Its certificate.
    pub fn certificate(&self) -> &AuthorityCertificate {
        &self.0.certificate
    }

    /// Its key id.
    pub fn key_id(&self) -> KeyId {
        self.0.certificate.key_id()
    }

    /// Signs a leaf: exactly the bytes that were linted.
    ///
    /// # Errors
    /// The leaf was planned for another authority, or the signer failed or gave a wrong signature.
    pub async fn sign(&self, linted: Linted) -> Result<Signed, SignError> {
        self.0.owns(linted.authority())?;
        let der = self.0.sign(linted.tbs()).await?;
        Ok(linted.signed(der))
    }

    /// Signs a CRL. Digesting a very long one takes its time on the calling thread (70 ms for a million entries).
    ///
    /// # Errors
    /// The list was planned for another authority, or the signer failed or gave a wrong signature.
    pub async fn sign_crl(&self, plan: CrlPlan) -> Result<SignedCrl, SignError> {
        self.0.sign_crl(plan).await
    }

    /// Certifies the key that answers OCSP requests for this authority: valid from a minute ago for
    /// [`RESPONDER_VALIDITY`](crate::RESPONDER_VALIDITY), at most as long as the authority.
    ///
    /// # Errors
    /// A signer failed, the key is of no known kind or the authority's own, or the authority is over.
    pub async fn certify_responder(
        &self,
        signer: Arc<dyn Signer>,
        now: Timestamp,
        serial: Serial,
    ) -> Result<Responder, AuthorityError> {
        let certificate = &self.0.certificate;
        let issuer = certificate.issuer(None, self.0.crypto);
        let holder = public_key(&*signer)?;
        let subject = distinguished_name("OCSP", &issuer.trust_domain, key::key_id(holder.bits, self.0.crypto));
        let (kind, validity) = (Kind::Responder, RESPONDER_VALIDITY);
        let planned = Planned { kind, issuer: &issuer, subject: &subject, holder, serial, validity, now };
        let not_after = planned.not_after();
        let der = planned.sign(&*self.0.signer).await?;
        Responder::new(
            certificate,
            ResponderCertificate { der, serial, certified_at: now, not_after },
            signer,
            self.0.crypto,
        )
    }

    pub(crate) fn issuer(&self, status: &StatusUrl) -> Issuer {
        self.0.issuer(status, Some(status.ocsp()))
    }
}

/// Asks a root that signs elsewhere for an issuing certificate: a request (RFC 2986) in DER that has the subject and all
/// extensions that the certificate must have, for the signer's key.
///
/// # Errors
/// The signer failed, or its key is of no known kind.
pub async fn request_issuing(
    trust_domain: &TrustDomain,
    signer: &dyn Signer,
    crypto: Crypto,
) -> Result<Vec<u8>, AuthorityError> {
    let extensions = |w: &mut Writer, key_id| authority_extensions(w, Kind::Issuing, trust_domain, key_id);
    request("issuing", trust_domain, signer, crypto, extensions).await
}

/// Asks a root that signs elsewhere for the certificate of a key that signs heads, as [`request_issuing`] does.
///
/// # Errors
/// The signer failed, or its key is no Ed25519 key.
pub async fn request_head_key(
    trust_domain: &TrustDomain,
    signer: &dyn Signer,
    crypto: Crypto,
) -> Result<Vec<u8>, AuthorityError> {
    if signer.algorithm() != Algorithm::Ed25519 {
        return Err(AuthorityError::Unfit("heads are signed by Ed25519"));
    }
    request("head", trust_domain, signer, crypto, head_key_extensions).await
}

async fn request(
    role: &str,
    trust_domain: &TrustDomain,
    signer: &dyn Signer,
    crypto: Crypto,
    extensions: impl FnOnce(&mut Writer, KeyId),
) -> Result<Vec<u8>, AuthorityError> {
    let holder = public_key(signer)?;
    let key_id = key::key_id(holder.bits, crypto);
    let mut writer = Writer::new();
    writer.nested(der::SEQUENCE, |w| {
        w.unsigned_64(0).raw(&distinguished_name(role, trust_domain, key_id)).raw(holder.spki);
        w.nested(der::context_constructed(0), |w| {
            w.nested(der::SEQUENCE, |w| {
                w.oid(EXTENSION_REQUEST).nested(der::SET, |w| {
                    w.nested(der::SEQUENCE, |w| extensions(w, key_id));
                });
            });
        });
    });
    Ok(sign(signer, crypto, &writer.finish()).await?)
}

/// The root of one trust domain: signs issuing authorities, the keys that sign heads and its CRL, and nothing else.
#[derive(Clone, Debug)]
pub struct RootAuthority(Keyed);

impl RootAuthority {
    /// Makes a root: self-signed, valid from a minute ago for `validity`.
    ///
    /// # Errors
    /// The signer failed, or its key is of no known kind.
    pub async fn create(
        trust_domain: &TrustDomain,
        signer: Arc<dyn Signer>,
        crypto: Crypto,
        validity: Duration,
        now: Timestamp,
        serial: Serial,
    ) -> Result<Self, AuthorityError> {
        let holder = public_key(&*signer)?;
        let key_id = key::key_id(holder.bits, crypto);
        let issuer = Issuer {
            subject: distinguished_name("root", trust_domain, key_id),
            spki: holder.spki.to_vec(),
            key_id,
            trust_domain: trust_domain.clone(),
            algorithm: holder.algorithm,
            not_before: (now - BACKDATING).floor_to_second(),
            not_after: last_second(now, validity),
            links: None,
            crypto,
        };
        let kind = Kind::Root;
        let planned = Planned { kind, issuer: &issuer, subject: &issuer.subject, holder, serial, validity, now };
        let der = planned.sign(&*signer).await?;
        Self::from_parts(der, signer, crypto)
    }

    /// From the certificate that [`RootAuthority::create`] made, and its key.
    ///
    /// # Errors
    /// The certificate is no root's, or the key is not its.
    pub fn from_parts(certificate: Vec<u8>, signer: Arc<dyn Signer>, crypto: Crypto) -> Result<Self, AuthorityError> {
        let keyed = Keyed::new(AuthorityCertificate::read(certificate)?, signer, crypto)?;
        if !keyed.certificate.self_issued() || !keyed.certificate.signed_by(&keyed.certificate, crypto) {
            return Err(AuthorityError::Unfit("it is no root: it is not signed by itself"));
        }
        Ok(Self(keyed))
    }

    /// Makes an issuing authority of the signer's key: valid from a minute ago for `validity`, at most as long as the root.
    ///
    /// # Errors
    /// A signer failed, a key is of no known kind, or the root is over.
    pub async fn issue(
        &self,
        signer: Arc<dyn Signer>,
        status: &StatusUrl,
        validity: Duration,
        now: Timestamp,
        serial: Serial,
    ) -> Result<Authority, AuthorityError> {
        // The root's key is not loaded after signing, so no responder can be delegated under it.
        let issuer = self.0.issuer(status, None);
        let holder = public_key(&*signer)?;
        let subject = distinguished_name("issuing", &issuer.trust_domain, key::key_id(holder.bits, self.0.crypto));
        let kind = Kind::Issuing;
        let planned = Planned { kind, issuer: &issuer, subject: &subject, holder, serial, validity, now };
        let der = planned.sign(&*self.0.signer).await?;
        Authority::from_parts(der, signer, self.0.crypto)
    }

    /// Certifies the Ed25519 key that signs heads: valid from a minute ago for [`HEAD_KEY_VALIDITY`], at most as long as
    /// the root. The answer is the certificate, DER.
    ///
    /// # Errors
    /// The signer failed, or the root is over.
    pub async fn certify_head_key(
        &self,
        public_key: [u8; 32],
        status: &StatusUrl,
        now: Timestamp,
        serial: Serial,
    ) -> Result<Vec<u8>, AuthorityError> {
        let issuer = self.0.issuer(status, None);
        let mut spki = Writer::new();
        spki.nested(der::SEQUENCE, |w| {
            w.raw(Algorithm::Ed25519.key_identifier()).bits(&public_key);
        });
        let spki = spki.finish();
        let holder = PublicKey::read(&spki)?.ok_or(AuthorityError::Unfit("its key is of no known kind"))?;
        let subject = distinguished_name("head", &issuer.trust_domain, key::key_id(holder.bits, self.0.crypto));
        let (kind, validity) = (Kind::HeadKey, HEAD_KEY_VALIDITY);
        Planned { kind, issuer: &issuer, subject: &subject, holder, serial, validity, now }.sign(&*self.0.signer).await
    }

    /// Its certificate.
    pub fn certificate(&self) -> &AuthorityCertificate {
        &self.0.certificate
    }

    /// Its key id.
    pub fn key_id(&self) -> KeyId {
        self.0.certificate.key_id()
    }

    /// Signs the root's CRL, which lists issuing authorities.
    ///
    /// # Errors
    /// The list was planned for another authority, or the signer failed or gave a wrong signature.
    pub async fn sign_crl(&self, plan: CrlPlan) -> Result<SignedCrl, SignError> {
        self.0.sign_crl(plan).await
    }
}

/// A certificate and its key.
#[derive(Clone, Debug)]
struct Keyed {
    certificate: Arc<AuthorityCertificate>,
    signer: Arc<dyn Signer>,
    crypto: Crypto,
}

impl Keyed {
    fn new(certificate: AuthorityCertificate, signer: Arc<dyn Signer>, crypto: Crypto) -> Result<Self, AuthorityError> {
        if signer.public_key() != certificate.spki() || signer.algorithm() != certificate.algorithm() {
            return Err(AuthorityError::OtherKey);
        }
        Ok(Self { certificate: Arc::new(certificate), signer, crypto })
    }

    fn issuer(&self, status: &StatusUrl, ocsp: Option<String>) -> Issuer {
        let key_id = self.certificate.key_id();
        let links = Links::new(&status.crl(key_id), &status.certificate(key_id), ocsp.as_deref());
        self.certificate.issuer(Some(links), self.crypto)
    }

    fn owns(&self, planned_for: KeyId) -> Result<(), SignError> {
        let came_to = self.certificate.key_id();
        if planned_for == came_to { Ok(()) } else { Err(SignError::OtherAuthority { planned_for, came_to }) }
    }

    async fn sign_crl(&self, plan: CrlPlan) -> Result<SignedCrl, SignError> {
        self.owns(plan.authority())?;
        let der = self.sign(plan.tbs()).await?;
        Ok(plan.signed(der))
    }

    async fn sign(&self, tbs: &[u8]) -> Result<Vec<u8>, SignError> {
        sign(&*self.signer, self.crypto, tbs).await
    }
}

/// Signs and puts the parts together.
async fn sign(signer: &dyn Signer, crypto: Crypto, tbs: &[u8]) -> Result<Vec<u8>, SignError> {
    let signature = signature(signer, crypto, tbs).await?;
    Ok(certificate::assemble(tbs, signer.algorithm(), &signature))
}

/// The signer's signature, verified where it comes from elsewhere.
pub(crate) async fn signature(signer: &dyn Signer, crypto: Crypto, tbs: &[u8]) -> Result<Vec<u8>, SignError> {
    let signature = signer.sign(tbs).await?;
    let algorithm = signer.algorithm();
    if signer.remote() {
        let key = PublicKey::read(signer.public_key()).ok().flatten().ok_or(SignError::Signature)?;
        if !(crypto.verify)(algorithm, key.bits, tbs, &signature) {
            return Err(SignError::Signature);
        }
    }
    Ok(signature)
}

/// A certificate that is no leaf, an authority's, a responder's or of the head's key, before it is signed.
struct Planned<'a> {
    kind: Kind,
    issuer: &'a Issuer,
    subject: &'a [u8],
    holder: PublicKey<'a>,
    serial: Serial,
    validity: Duration,
    now: Timestamp,
}

impl Planned<'_> {
    fn not_after(&self) -> Timestamp {
        last_second(self.now, self.validity).min(self.issuer.not_after)
    }

    /// Writes, lints and signs it.
    async fn sign(self, signer: &dyn Signer) -> Result<Vec<u8>, AuthorityError> {
        let not_after = self.not_after();
        let Self { kind, issuer, subject, holder, serial, now, .. } = self;
        let head = Head {
            serial,
            algorithm: issuer.algorithm,
            issuer: &issuer.subject,
            not_before: (now - BACKDATING).floor_to_second().max(issuer.not_before),
            not_after,
            subject,
            spki: holder.spki,
        };
        if head.not_after <= now {
            return Err(AuthorityError::Over(head.not_after));
        }
        let key_id = key::key_id(holder.bits, issuer.crypto);
        let tbs = certificate::write_tbs(&head, |w| extensions(w, kind, issuer, key_id));
        let findings = lint(kind, &tbs, issuer, holder.spki, now);
        if !findings.is_empty() {
            return Err(AuthorityError::Lint(findings));
        }
        Ok(sign(signer, issuer.crypto, &tbs).await?)
    }
}

fn extensions(w: &mut Writer, kind: Kind, issuer: &Issuer, key_id: KeyId) {
    match kind {
        Kind::Responder => return responder_extensions(w, issuer.key_id, key_id),
        Kind::HeadKey => head_key_extensions(w, key_id),
        Kind::Leaf | Kind::Issuing | Kind::Root => authority_extensions(w, kind, &issuer.trust_domain, key_id),
    }
    if let Some(links) = &issuer.links {
        certificate::authority_extensions(w, issuer.key_id, links);
    }
}

/// What an authority is, whoever signs it.
fn authority_extensions(w: &mut Writer, kind: Kind, trust_domain: &TrustDomain, key_id: KeyId) {
    extension(w, oid::BASIC_CONSTRAINTS, true, |w| {
        w.nested(der::SEQUENCE, |w| {
            w.boolean(true);
            if kind == Kind::Issuing {
                w.unsigned_64(0);
            }
        });
    });
    extension(w, oid::KEY_USAGE, true, |w| {
        w.raw(SIGNS_CERTIFICATES);
    });
    extension(w, oid::SUBJECT_KEY_ID, false, |w| {
        w.octets(key_id.bytes());
    });
    // X509-SVID §3.2: a signing certificate's SPIFFE ID has no path.
    extension(w, oid::SUBJECT_ALT_NAME, false, |w| {
        w.nested(der::SEQUENCE, |w| {
            w.value(certificate::URI, trust_domain.id().as_str().as_bytes());
        });
    });
}

/// No SPIFFE ID: the key speaks of the log and is nobody that connects.
fn head_key_extensions(w: &mut Writer, key_id: KeyId) {
    extension(w, oid::BASIC_CONSTRAINTS, true, |w| {
        w.nested(der::SEQUENCE, |_| {});
    });
    extension(w, oid::KEY_USAGE, true, |w| {
        w.raw(DIGITAL_SIGNATURE);
    });
    extension(w, oid::EXTENDED_KEY_USAGE, false, |w| {
        w.nested(der::SEQUENCE, |w| {
            w.oid(oid::HEAD_KEY_USAGE);
        });
    });
    extension(w, oid::SUBJECT_KEY_ID, false, |w| {
        w.octets(key_id.bytes());
    });
}

/// No SPIFFE ID: whoever answers for certificates is no workload, and authenticates as nobody.
fn responder_extensions(w: &mut Writer, authority: KeyId, key_id: KeyId) {
    certificate::authority_key_id(w, authority);
    extension(w, oid::SUBJECT_KEY_ID, false, |w| {
        w.octets(key_id.bytes());
    });
    extension(w, oid::BASIC_CONSTRAINTS, true, |w| {
        w.nested(der::SEQUENCE, |_| {});
    });
    extension(w, oid::KEY_USAGE, true, |w| {
        w.raw(DIGITAL_SIGNATURE);
    });
    // RFC 6960 §4.2.2.2: the authority delegates by this, in a certificate that it issues directly.
    extension(w, oid::EXTENDED_KEY_USAGE, false, |w| {
        w.nested(der::SEQUENCE, |w| {
            w.oid(OCSP_SIGNING);
        });
    });
    // RFC 6960 §4.2.2.2.1: trusted for its lifetime, which therefore is short; SHOULD be non-critical.
    extension(w, OCSP_NO_CHECK, false, |w| {
        w.value(der::NULL, &[]);
    });
}

fn public_key(signer: &dyn Signer) -> Result<PublicKey<'_>, AuthorityError> {
    match PublicKey::read(signer.public_key())? {
        Some(key) if key.algorithm == signer.algorithm() => Ok(key),
        _ => Err(AuthorityError::Unfit("its key is of no known kind")),
    }
}

fn last_second(now: Timestamp, validity: Duration) -> Timestamp {
    // RFC 5280 §4.1.2.5: notAfter is inclusive.
    (now + validity - Duration::from_secs(1)).floor_to_second()
}

/// CN for people, serialNumber so that no two keys share a name: verifiers pick CRLs by it.
fn distinguished_name(role: &str, trust_domain: &TrustDomain, key_id: KeyId) -> Vec<u8> {
    const COMMON_NAME: &[u8] = &[0x55, 4, 3];
    const SERIAL_NUMBER: &[u8] = &[0x55, 4, 5];
    const PRINTABLE_STRING: u8 = 0x13;
    // RFC 5280 appendix A: ub-common-name is 64 characters.
    let mut common_name = format!("Chancery {role} ");
    let room = 64 - common_name.len();
    let _ = write!(common_name, "{:.room$}", trust_domain.as_str());
    let mut writer = Writer::new();
    writer.nested(der::SEQUENCE, |w| {
        w.nested(der::SET, |w| {
            w.nested(der::SEQUENCE, |w| {
                w.oid(COMMON_NAME).utf8(&common_name);
            });
        });
        w.nested(der::SET, |w| {
            w.nested(der::SEQUENCE, |w| {
                w.oid(SERIAL_NUMBER).value(PRINTABLE_STRING, key_id.to_string().as_bytes());
            });
        });
    });
    writer.finish()
}

/// The certificate or key is none that an authority can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// Not the DER of a certificate.
    #[error("malformed authority certificate: {0}")]
    Malformed(#[from] DerError),
    /// It is something else than wanted.
    #[error("the certificate cannot be this authority's: {0}")]
    Unfit(&'static str),
    /// The key is another one.
    #[error("the key is not the authority certificate's")]
    OtherKey,
    /// There is nothing left of the time it could be valid for.
    #[error("the new authority would be over at {0}, before it begins")]
    Over(Timestamp),
    /// What would have been signed breaks the profile.
    #[error("the authority certificate breaks the profile: {}", crate::lint::list(.0))]
    Lint(Vec<Finding>),
    /// It could not be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// What was planned and linted could not be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The signer failed.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// It was planned for another authority.
    #[error("planned for authority {planned_for}, came to {came_to}: plan anew")]
    OtherAuthority {
        /// Whose profile planned it.
        planned_for: KeyId,
        /// Who was to sign it.
        came_to: KeyId,
    },
    /// A remote signer's signature does not verify.
    #[error("the signer's answer is no signature by the authority's key")]
    Signature,
}
