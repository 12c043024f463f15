//! Leaves: planned by a profile, linted, then signed. Each stage is consumed by the next.

use std::sync::Arc;
use std::time::Duration;

use chancery_identity::der::{self, Writer, context_constructed};
use chancery_identity::{
    Certificate, Grant, KeyId, LEAF_LEN_MAX, Leaf, ScopeSet, Serial, SpiffeId, Timestamp, TrustDomain, oid,
};

use crate::certificate::{self, DIGITAL_SIGNATURE, Head, Links, extension};
use crate::lint::{Finding, Kind, lint};
use crate::{Algorithm, Authority, Crypto, StatusUrl, SubjectKey};

/// Certificates begin this long before they are made, for clocks that are behind.
pub const BACKDATING: Duration = Duration::from_secs(60);
/// No leaf is valid for less.
pub const TTL_MIN: Duration = Duration::from_secs(120);

/// What a leaf is to say. All of it was decided by the caller from attested identity and policy.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "callers make it")]
pub struct Claims {
    /// Whose it is.
    pub spiffe_id: SpiffeId,
    /// What it allows; needs a grant unless empty.
    pub scopes: ScopeSet,
    /// What stands behind the scopes. Its attestation time is cut to whole seconds.
    pub grant: Option<Grant>,
    /// Lower-case DNS names, no wildcards; for services and the issuer.
    pub dns_names: Vec<String>,
    /// The last second it may be valid at; cut to whole seconds, and to the authority's own end.
    pub not_after: Timestamp,
}

/// How one authority's leaves look.
#[derive(Clone, Debug)]
pub struct Profile(Arc<Issuer>);

impl Profile {
    /// The profile of the authority's leaves; `status` is where their readers find its CRL, OCSP and certificate.
    pub fn new(authority: &Authority, status: &StatusUrl) -> Self {
        Self(Arc::new(authority.issuer(status)))
    }

    /// The last second its authority is valid at: no leaf ends later.
    pub fn not_after(&self) -> Timestamp {
        self.0.not_after
    }

    /// Plans a leaf that is valid from a minute ago.
    ///
    /// # Errors
    /// The claims cannot stand in one of this authority's leaves.
    pub fn plan(&self, key: SubjectKey, claims: Claims, serial: Serial, now: Timestamp) -> Result<Planned, Refused> {
        let issuer = &*self.0;
        let Claims { spiffe_id, scopes, mut grant, mut dns_names, not_after } = claims;
        if !spiffe_id.is_in(&issuer.trust_domain) {
            return Err(Refused::TrustDomain { wanted: issuer.trust_domain.clone(), came: spiffe_id });
        }
        if spiffe_id.path().is_empty() {
            return Err(Refused::NoPath);
        }
        if grant.is_none() && !scopes.is_empty() {
            return Err(Refused::ScopesWithoutGrant);
        }
        if *key.spki() == *issuer.spki {
            return Err(Refused::AuthorityKey);
        }
        if let Some(grant) = &mut grant {
            grant.attestation.at = grant.attestation.at.floor_to_second();
        }
        dns_names.sort_unstable();
        dns_names.dedup();
        if let Some(bad) = dns_names.iter().find(|name| !dns_name(name)) {
            return Err(Refused::DnsName(bad.chars().take(80).collect()));
        }
        let not_before = (now - BACKDATING).floor_to_second().max(issuer.not_before);
        let not_after = not_after.floor_to_second().min(issuer.not_after);
        // RFC 5280 §4.1.2.5: notAfter is inclusive.
        let earliest = (now + TTL_MIN - Duration::from_secs(1)).floor_to_second();
        if not_after < earliest {
            return Err(Refused::TooShort { not_after, earliest });
        }
        let certificate =
            Certificate { spiffe_id, scopes, grant, serial, authority: issuer.key_id, not_before, not_after };
        let tbs = leaf(issuer, &key, &certificate, &dns_names);
        let len = len_max(&tbs, issuer.algorithm);
        if len > LEAF_LEN_MAX {
            return Err(Refused::TooLong(len));
        }
        Ok(Planned { tbs, certificate, key, issuer: self.0.clone(), now })
    }
}

/// A leaf as it would be signed.
#[derive(Debug)]
pub struct Planned {
    tbs: Vec<u8>,
    certificate: Certificate,
    key: SubjectKey,
    issuer: Arc<Issuer>,
    now: Timestamp,
}

impl Planned {
    /// What it says.
    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Judges the bytes that would be signed.
    ///
    /// # Errors
    /// Every finding; there is none unless the profile and the lints disagree, which is a defect of this crate.
    pub fn lint(self) -> Result<Linted, Vec<Finding>> {
        let mut findings = lint(Kind::Leaf, &self.tbs, &self.issuer, self.key.spki(), self.now);
        let algorithm = self.issuer.algorithm;
        let whole = certificate::assemble(&self.tbs, algorithm, &[]);
        match Leaf::read(&whole) {
            Ok(leaf) if *leaf.certificate() == self.certificate => {}
            Ok(_) => findings.push(Finding::new("as_planned", "reads back as another certificate than planned")),
            Err(error) => findings.push(Finding::new("as_planned", error)),
        }
        if findings.is_empty() {
            let Self { tbs, certificate, key, .. } = self;
            Ok(Linted { tbs, certificate, key })
        } else {
            Err(findings)
        }
    }
}

/// A leaf that may be signed, once.
#[derive(Debug)]
pub struct Linted {
    tbs: Vec<u8>,
    certificate: Certificate,
    key: SubjectKey,
}

impl Linted {
    /// What it says.
    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    pub(crate) fn tbs(&self) -> &[u8] {
        &self.tbs
    }

    pub(crate) const fn authority(&self) -> KeyId {
        self.certificate.authority
    }

    pub(crate) fn signed(self, der: Vec<u8>) -> Signed {
        Signed { der: der.into(), certificate: Arc::new(self.certificate), key: self.key }
    }
}

/// A signed leaf. It was made for one reply and is no one's before its commit.
#[derive(Debug)]
pub struct Signed {
    der: Arc<[u8]>,
    certificate: Arc<Certificate>,
    key: SubjectKey,
}

impl Signed {
    /// The whole certificate.
    pub const fn der(&self) -> &Arc<[u8]> {
        &self.der
    }

    /// What it says.
    pub const fn certificate(&self) -> &Arc<Certificate> {
        &self.certificate
    }

    /// The key it is for.
    pub const fn key(&self) -> &SubjectKey {
        &self.key
    }
}

/// What an authority gives to everything it signs.
#[derive(Clone, Debug)]
pub(crate) struct Issuer {
    /// Name, whole.
    pub(crate) subject: Vec<u8>,
    pub(crate) spki: Vec<u8>,
    pub(crate) key_id: KeyId,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) algorithm: Algorithm,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    /// What it signs points there; a root's own certificate and a responder's point nowhere.
    pub(crate) links: Option<Links>,
    pub(crate) crypto: Crypto,
}

fn leaf(issuer: &Issuer, key: &SubjectKey, certificate: &Certificate, dns_names: &[String]) -> Vec<u8> {
    let head = Head {
        serial: certificate.serial,
        algorithm: issuer.algorithm,
        issuer: &issuer.subject,
        not_before: certificate.not_before,
        not_after: certificate.not_after,
        subject: &[der::SEQUENCE, 0],
        spki: key.spki(),
    };
    certificate::write_tbs(&head, |w| {
        if let Some(links) = &issuer.links {
            certificate::authority_extensions(w, issuer.key_id, links);
        }
        extension(w, oid::SUBJECT_KEY_ID, false, |w| {
            w.octets(key.key_id().bytes());
        });
        extension(w, oid::BASIC_CONSTRAINTS, true, |w| {
            w.nested(der::SEQUENCE, |_| {});
        });
        extension(w, oid::KEY_USAGE, true, |w| {
            w.raw(DIGITAL_SIGNATURE);
        });
        extension(w, oid::EXTENDED_KEY_USAGE, false, |w| {
            w.nested(der::SEQUENCE, |w| {
                w.oid(oid::SERVER_AUTH).oid(oid::CLIENT_AUTH);
            });
        });
        // RFC 5280 §4.2.1.6: with an empty subject, subjectAltName MUST be critical.
        extension(w, oid::SUBJECT_ALT_NAME, true, |w| names(w, certificate, dns_names));
        if let Some(grant) = &certificate.grant {
            extension(w, oid::GRANT, false, |w| {
                grant.write(w);
            });
        }
    })
}

fn names(w: &mut Writer, certificate: &Certificate, dns_names: &[String]) {
    w.nested(der::SEQUENCE, |w| {
        w.value(certificate::URI, certificate.spiffe_id.as_str().as_bytes());
        for name in dns_names {
            w.value(certificate::DNS_NAME, name.as_bytes());
        }
        for scope in &certificate.scopes {
            w.nested(certificate::OTHER_NAME, |w| {
                w.oid(oid::SCOPE).nested(context_constructed(0), |w| {
                    w.utf8(scope.as_str());
                });
            });
        }
    });
}

/// The longest that the certificate can become.
pub(crate) fn len_max(tbs: &[u8], algorithm: Algorithm) -> usize {
    // Two lengths of at most four bytes with their tags, and the unused bits.
    const FRAME: usize = 4 + 4 + 1;
    tbs.len() + algorithm.signature_identifier().len() + algorithm.signature_len_max() + FRAME
}

/// RFC 5890 §2.3.1 in lower case, RFC 1035 §2.3.4 for the lengths.
pub(crate) fn dns_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// The claims cannot stand in a leaf.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// Another trust domain's identity.
    #[error("this authority signs for {wanted} only, not for {came}")]
    TrustDomain {
        /// The authority's.
        wanted: TrustDomain,
        /// What came.
        came: SpiffeId,
    },
    /// The ID of the trust domain itself, which only authorities carry.
    #[error("a leaf's SPIFFE ID has a path")]
    NoPath,
    /// Scopes and nothing behind them.
    #[error("scopes need a grant behind them")]
    ScopesWithoutGrant,
    /// The authority's own key.
    #[error("the authority's own key cannot be certified; make a new key")]
    AuthorityKey,
    /// Not a lower-case DNS name without wildcard.
    #[error("wanted a lower-case DNS name without wildcard, got {0:?}")]
    DnsName(String),
    /// Less than [`TTL_MIN`] is left of what bounds it.
    #[error("the certificate would end at {not_after}; it must last until {earliest} at least")]
    TooShort {
        /// When it would end.
        not_after: Timestamp,
        /// The earliest end.
        earliest: Timestamp,
    },
    /// It would be longer than a leaf may be.
    #[error("the certificate would have {0} bytes; at most {LEAF_LEN_MAX}: ask for fewer or shorter scopes")]
    TooLong(usize),
}
