//! Authorities: the root, which signs authorities, and the issuing one, which signs leaves. Each signs its own CRL.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use chancery_identity::der::{self, DerError, Reader, Writer};
use chancery_identity::{KeyId, Serial, SpiffeId, Timestamp, TrustDomain, oid};

use crate::algorithm::PublicKey;
use crate::certificate::{self, Fields, Head, Parts, SIGNS_CERTIFICATES, extension};
use crate::lint::{Finding, Kind, lint};
use crate::profile::{BACKDATING, Issuer, Linted, Signed};
use crate::{Algorithm, CrlPlan, Crypto, SignedCrl, Signer, SignerError, StatusUrl, key};

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
        self.0.certificate.key_id
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

    pub(crate) fn issuer(&self, status: &StatusUrl) -> Issuer {
        self.0.issuer(status)
    }
}

/// The root of one trust domain: signs issuing authorities and its CRL, and nothing else.
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
        let public = public_key(&*signer)?;
        let issuer = Issuer {
            subject: distinguished_name("root", trust_domain, key::key_id(public.bits, crypto)),
            spki: public.spki.to_vec(),
            key_id: key::key_id(public.bits, crypto),
            trust_domain: trust_domain.clone(),
            algorithm: public.algorithm,
            not_before: (now - BACKDATING).floor_to_second(),
            not_after: last_second(now, validity),
            links: None,
            crypto,
        };
        let subject = issuer.subject.clone();
        let der = make(Kind::Root, &issuer, &*signer, &*signer, &subject, serial, (now, validity)).await?;
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
        let issuer = self.0.issuer(status);
        let public = public_key(&*signer)?;
        let key_id = key::key_id(public.bits, self.0.crypto);
        let subject = distinguished_name("issuing", &issuer.trust_domain, key_id);
        let own = &*self.0.signer;
        let der = make(Kind::Issuing, &issuer, own, &*signer, &subject, serial, (now, validity)).await?;
        Authority::from_parts(der, signer, self.0.crypto)
    }

    /// Its certificate.
    pub fn certificate(&self) -> &AuthorityCertificate {
        &self.0.certificate
    }

    /// Its key id.
    pub fn key_id(&self) -> KeyId {
        self.0.certificate.key_id
    }

    /// Signs the root's CRL, which lists issuing authorities.
    ///
    /// # Errors
    /// The list was planned for another authority, or the signer failed or gave a wrong signature.
    pub async fn sign_crl(&self, plan: CrlPlan) -> Result<SignedCrl, SignError> {
        self.0.sign_crl(plan).await
    }
}

/// The certificate of an authority, taken apart; no signature judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityCertificate {
    der: Vec<u8>,
    serial: Serial,
    issuer: Vec<u8>,
    subject: Vec<u8>,
    spki: Vec<u8>,
    algorithm: Algorithm,
    key_id: KeyId,
    trust_domain: TrustDomain,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl AuthorityCertificate {
    /// Takes it apart.
    ///
    /// # Errors
    /// It is malformed, or no authority's of one trust domain: a CA that signs certificates and CRLs, with a subject, a key
    /// id of 20 bytes and one SPIFFE ID without a path.
    pub fn read(der: Vec<u8>) -> Result<Self, AuthorityError> {
        let parts = Parts::read(&der)?;
        let fields = Fields::read(parts.tbs)?;
        // RFC 5280 §4.1.1.2: MUST contain the same algorithm identifier as the signature field.
        if parts.algorithm != fields.algorithm {
            return Err(AuthorityError::Unfit("it names two different signature algorithms"));
        }
        let public = PublicKey::read(fields.spki)?.ok_or(AuthorityError::Unfit("its key is of no known kind"))?;
        let value = |id, missing| fields.extension(id).map(|e| e.value).ok_or(AuthorityError::Unfit(missing));
        let mut constraints = Reader::new(value(oid::BASIC_CONSTRAINTS, "it has no basicConstraints")?);
        let mut constraints = constraints.nested(der::SEQUENCE)?;
        if constraints.at_end() || !constraints.boolean()? {
            return Err(AuthorityError::Unfit("it is no CA"));
        }
        const KEY_CERT_SIGN_AND_CRL_SIGN: u8 = 0x06;
        match Reader::new(value(oid::KEY_USAGE, "it has no key usage")?).read(der::BIT_STRING)? {
            [_, bits, ..] if bits & KEY_CERT_SIGN_AND_CRL_SIGN == KEY_CERT_SIGN_AND_CRL_SIGN => {}
            _ => return Err(AuthorityError::Unfit("its key may not sign certificates and CRLs")),
        }
        if fields.subject.len() <= 2 {
            return Err(AuthorityError::Unfit("its subject is empty"));
        }
        let key_id = Reader::new(value(oid::SUBJECT_KEY_ID, "it has no subjectKeyIdentifier")?)
            .octets()
            .map_err(|_| AuthorityError::Unfit("its subjectKeyIdentifier has other than 20 bytes"))?;
        let time = |time: certificate::Time<'_>| time.at().ok_or(AuthorityError::Unfit("its validity is malformed"));
        let serial = fields.serial.strip_prefix(&[0]).unwrap_or(fields.serial);
        Ok(Self {
            serial: Serial::from_bytes(serial).ok_or(AuthorityError::Unfit("its serial is zero or too long"))?,
            issuer: fields.issuer.to_vec(),
            subject: fields.subject.to_vec(),
            spki: fields.spki.to_vec(),
            algorithm: public.algorithm,
            key_id: KeyId::from_bytes(key_id),
            trust_domain: trust_domain(value(oid::SUBJECT_ALT_NAME, "it has no SPIFFE ID")?)?,
            not_before: time(fields.not_before)?,
            not_after: time(fields.not_after)?,
            der,
        })
    }

    /// The whole certificate.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Its serial.
    pub const fn serial(&self) -> Serial {
        self.serial
    }

    /// Its subject, a Name in DER; distinct for each key.
    pub fn subject(&self) -> &[u8] {
        &self.subject
    }

    /// Its SubjectPublicKeyInfo, DER.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// What kind of key it has, and so what signatures it makes.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its SubjectKeyIdentifier.
    pub const fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// The trust domain it is dedicated to.
    pub const fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The first instant it is valid at.
    pub const fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// The last second it is valid at.
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whether it names itself as its issuer, as roots do.
    pub fn self_issued(&self) -> bool {
        self.issuer == self.subject
    }

    /// Whether the issuer's name and key stand behind it. Says nothing of time or revocation.
    pub fn signed_by(&self, issuer: &Self, crypto: Crypto) -> bool {
        let key = PublicKey::read(&issuer.spki).ok().flatten();
        let (Some(key), Ok(parts)) = (key, Parts::read(&self.der)) else { return false };
        self.issuer == issuer.subject
            && parts.algorithm == key.algorithm.signature_identifier()
            && (crypto.verify)(key.algorithm, key.bits, parts.tbs, parts.signature)
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
        if signer.public_key() != certificate.spki || signer.algorithm() != certificate.algorithm {
            return Err(AuthorityError::OtherKey);
        }
        Ok(Self { certificate: Arc::new(certificate), signer, crypto })
    }

    fn issuer(&self, status: &StatusUrl) -> Issuer {
        let certificate = &*self.certificate;
        Issuer {
            subject: certificate.subject.clone(),
            spki: certificate.spki.clone(),
            key_id: certificate.key_id,
            trust_domain: certificate.trust_domain.clone(),
            algorithm: certificate.algorithm,
            not_before: certificate.not_before,
            not_after: certificate.not_after,
            links: Some((status.crl(certificate.key_id), status.certificate(certificate.key_id))),
            crypto: self.crypto,
        }
    }

    fn owns(&self, planned_for: KeyId) -> Result<(), SignError> {
        let came_to = self.certificate.key_id;
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
    let signature = signer.sign(tbs).await?;
    let algorithm = signer.algorithm();
    if signer.remote() {
        let key = PublicKey::read(signer.public_key()).ok().flatten().ok_or(SignError::Signature)?;
        if !(crypto.verify)(algorithm, key.bits, tbs, &signature) {
            return Err(SignError::Signature);
        }
    }
    Ok(certificate::assemble(tbs, algorithm, &signature))
}

/// An authority's certificate: planned, linted and signed in one go.
async fn make(
    kind: Kind,
    issuer: &Issuer,
    signer: &dyn Signer,
    holder: &dyn Signer,
    subject: &[u8],
    serial: Serial,
    (now, validity): (Timestamp, Duration),
) -> Result<Vec<u8>, AuthorityError> {
    let spki = holder.public_key();
    let head = Head {
        serial,
        algorithm: issuer.algorithm,
        issuer: &issuer.subject,
        not_before: (now - BACKDATING).floor_to_second().max(issuer.not_before),
        not_after: last_second(now, validity).min(issuer.not_after),
        subject,
        spki,
    };
    if head.not_after <= now {
        return Err(AuthorityError::Over(head.not_after));
    }
    let key_id = key::key_id(public_key(holder)?.bits, issuer.crypto);
    let tbs = certificate::write_tbs(&head, |w| {
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
                w.value(certificate::URI, issuer.trust_domain.id().as_str().as_bytes());
            });
        });
        if let Some((crl, certificate)) = &issuer.links {
            certificate::authority_extensions(w, issuer.key_id, crl, certificate);
        }
    });
    let findings = lint(kind, &tbs, issuer, spki, now);
    if !findings.is_empty() {
        return Err(AuthorityError::Lint(findings));
    }
    Ok(sign(signer, issuer.crypto, &tbs).await?)
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

fn trust_domain(subject_alt_name: &[u8]) -> Result<TrustDomain, AuthorityError> {
    let mut names = Reader::new(subject_alt_name).nested(der::SEQUENCE)?;
    let mut uris = Vec::new();
    while !names.at_end() {
        let (tag, contents, _) = names.read_any()?;
        if tag == certificate::URI {
            uris.push(contents);
        }
    }
    let [uri] = *uris else { return Err(AuthorityError::Unfit("it has other than one URI")) };
    let id = std::str::from_utf8(uri).ok().and_then(|uri| uri.parse::<SpiffeId>().ok());
    match id {
        Some(id) if id.path().is_empty() => Ok(id.trust_domain()),
        _ => Err(AuthorityError::Unfit("its URI is no SPIFFE ID without a path")),
    }
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
