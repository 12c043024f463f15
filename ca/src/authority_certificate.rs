//! The certificates of authorities, read.

use chancery_identity::der::{self, Reader};
use chancery_identity::{KeyId, Serial, SpiffeId, Timestamp, TrustDomain, oid};

use crate::algorithm::PublicKey;
use crate::certificate::{self, Fields, Links, Parts};
use crate::profile::Issuer;
use crate::{Algorithm, AuthorityError, Crypto};

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
        let fields = Fields::of_certificate(&der)?;
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
        let (not_before, not_after) = fields.validity()?;
        Ok(Self {
            serial: fields.serial_number()?,
            issuer: fields.issuer.to_vec(),
            subject: fields.subject.to_vec(),
            spki: fields.spki.to_vec(),
            algorithm: public.algorithm,
            key_id: KeyId::from_bytes(key_id),
            trust_domain: trust_domain(value(oid::SUBJECT_ALT_NAME, "it has no SPIFFE ID")?)?,
            not_before,
            not_after,
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

    /// What it gives to what it signs.
    pub(crate) fn issuer(&self, links: Option<Links>, crypto: Crypto) -> Issuer {
        Issuer {
            subject: self.subject.clone(),
            spki: self.spki.clone(),
            key_id: self.key_id,
            trust_domain: self.trust_domain.clone(),
            algorithm: self.algorithm,
            not_before: self.not_before,
            not_after: self.not_after,
            links,
            crypto,
        }
    }

    /// Whether it names itself as its issuer, as roots do.
    pub fn self_issued(&self) -> bool {
        self.issuer == self.subject
    }

    /// Whether the issuer's name and key stand behind it. Says nothing of time or revocation.
    pub fn signed_by(&self, issuer: &Self, crypto: Crypto) -> bool {
        issuer.signed(&self.der, &self.issuer, crypto)
    }

    /// Whether its name and key stand behind a certificate, which names this issuer.
    pub(crate) fn signed(&self, certificate: &[u8], issuer: &[u8], crypto: Crypto) -> bool {
        let key = PublicKey::read(&self.spki).ok().flatten();
        let (Some(key), Ok(parts)) = (key, Parts::read(certificate)) else { return false };
        issuer == self.subject
            && parts.algorithm == key.algorithm.signature_identifier()
            && (crypto.verify)(key.algorithm, key.bits, parts.tbs, parts.signature)
    }
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
