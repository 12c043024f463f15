//! Why a connection or a request is refused.

use std::fmt;

use chancery_identity::normalise::PathRefused;
use chancery_identity::{
    Ancestor, GrantError, KeyId, LeafError, RevocationId, Scope, ScopeSet, Serial, SpiffeId, System, Timestamp,
    TrustDomain,
};

use crate::{ChainRefused, Knowledge};

/// Why a connection or a request is refused: what was wanted, what came, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Denial {
    /// The peer showed no certificate.
    NoCertificate,
    /// The certificate is no usable SVID leaf.
    Leaf(LeafError),
    /// The leaf has more bytes than any of ours.
    TooLarge(usize),
    /// The subject is empty and the SAN not critical.
    SubjectAltName,
    /// Extended key usage without both serverAuth and clientAuth.
    ExtendedKeyUsage,
    /// A constraint in the grant that nobody here knows.
    Constraint,
    /// Another trust domain than the verifier's own.
    TrustDomain {
        /// The verifier's own.
        wanted: TrustDomain,
        /// The certificate's, or an ancestor's.
        came: TrustDomain,
    },
    /// No path to a trust anchor.
    Chain(ChainRefused),
    /// Before notBefore.
    NotYetValid {
        /// The first instant it is valid at.
        not_before: Timestamp,
        /// The present.
        now: Timestamp,
    },
    /// After notAfter.
    Expired {
        /// The last second it was valid at.
        not_after: Timestamp,
        /// The present.
        now: Timestamp,
    },
    /// The certificate is revoked.
    Revoked(Serial),
    /// An authority of its chain is revoked.
    AuthorityRevoked(Serial),
    /// A certificate that it descends from is revoked.
    AncestorRevoked {
        /// Whose certificate.
        spiffe_id: SpiffeId,
        /// Which one.
        serial: Serial,
    },
    /// Nothing is known about revocations by an authority of its chain.
    RevocationUnknown(Option<KeyId>),
    /// What is known of revocations is too old.
    RevocationExpired,
    /// What is known of revocations is too old for a high-risk scope.
    RevocationStale {
        /// The scope that the request needs.
        needs: Scope,
    },
    /// The issuer knew more when it made the certificate than is known here: what was revoked between may be this.
    Behind {
        /// The epoch and number that the certificate says.
        wanted: (u64, u64),
        /// Those known here.
        known: (u64, u64),
    },
    /// Another identity than the one a client expects of its server.
    ServerIdentity {
        /// What was expected.
        wanted: Box<str>,
        /// Who answered.
        came: SpiffeId,
    },
    /// A path that two readers could read differently.
    Path(PathRefused),
    /// No rule lists the request.
    NotListed {
        /// Its method.
        method: Box<str>,
        /// Its path, normalised.
        path: Box<str>,
    },
    /// No scope of the certificate covers the request.
    ScopeMissing {
        /// The scope that the request needs.
        needs: Scope,
        /// What the certificate holds for the same system.
        holds: ScopeSet,
        /// Whose certificate it is.
        spiffe_id: SpiffeId,
    },
    /// The scope's system is not one that this service answers for.
    SystemNotServed(System),
    /// Every request that the scope covers is refused, whoever makes it.
    ScopeForbidden {
        /// The scope that the request needs.
        needs: Scope,
        /// The scope that is forbidden.
        forbidden: Scope,
        /// The entry that forbids it.
        by: RevocationId,
    },
}

impl Denial {
    /// The stable, kebab-case name; equal to the problem's `code`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoCertificate => "client-certificate-required",
            Self::Leaf(error) => leaf_code(error),
            Self::TooLarge(_) => "certificate-too-large",
            Self::SubjectAltName => "certificate-malformed",
            Self::ExtendedKeyUsage => "extended-key-usage",
            Self::Constraint => "constraint-unknown",
            Self::TrustDomain { .. } => "trust-domain-foreign",
            Self::Chain(_) => "chain-untrusted",
            Self::NotYetValid { .. } => "certificate-not-yet-valid",
            Self::Expired { .. } => "certificate-expired",
            Self::Revoked(_) => "certificate-revoked",
            Self::AuthorityRevoked(_) => "authority-revoked",
            Self::AncestorRevoked { .. } => "ancestor-revoked",
            Self::RevocationUnknown(_) => "revocation-unknown",
            Self::RevocationExpired => "revocation-expired",
            Self::RevocationStale { .. } => "revocation-stale",
            Self::Behind { .. } => "verifier-behind",
            Self::ServerIdentity { .. } => "server-identity",
            Self::Path(_) => "path-refused",
            Self::NotListed { .. } => "not-listed",
            Self::ScopeMissing { .. } => "scope-missing",
            Self::SystemNotServed(_) => "system-not-served",
            Self::ScopeForbidden { .. } => "scope-forbidden",
        }
    }

    /// The HTTP status that fits.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Path(_) => 400,
            Self::NoCertificate => 401,
            Self::RevocationUnknown(_)
            | Self::RevocationExpired
            | Self::RevocationStale { .. }
            | Self::Behind { .. }
            | Self::SystemNotServed(_) => 503,
            _ => 403,
        }
    }

    /// The scope that was needed.
    pub const fn needs(&self) -> Option<&Scope> {
        match self {
            Self::ScopeMissing { needs, .. } | Self::RevocationStale { needs } | Self::ScopeForbidden { needs, .. } => {
                Some(needs)
            }
            _ => None,
        }
    }

    /// What the certificate holds for the system concerned.
    pub fn holds(&self) -> &[Scope] {
        match self {
            Self::ScopeMissing { holds, .. } => holds,
            _ => &[],
        }
    }

    /// What to do about it.
    pub fn fix(&self) -> String {
        match self {
            Self::NoCertificate => "connect with a client certificate: chancery run -- CMD gives a program one".into(),
            Self::NotYetValid { .. } => "set the clocks: the issuer's and this machine's differ".into(),
            Self::Expired { .. } => "renew it: chancery run and chancery sidecar do so by themselves".into(),
            Self::Revoked(serial) => format!("an operator: chancery show {serial} says why; attest again if allowed"),
            Self::AncestorRevoked { serial, .. } => format!("an operator: chancery show {serial} says why"),
            Self::AuthorityRevoked(_) => "renew: the issuer signs with another authority now".into(),
            Self::RevocationUnknown(_) | Self::RevocationExpired | Self::RevocationStale { .. } => {
                "the service's operator: see that it reaches the issuer, or that its CRL files are renewed".into()
            }
            Self::Behind { .. } => "ask again in a moment: the service is learning of newer revocations".into(),
            Self::ScopeForbidden { by, .. } => format!("an operator, once it may be done again: chancery resume {by}"),
            Self::NotListed { .. } => "the service's operator: add a rule for it; what no rule lists is refused".into(),
            Self::ScopeMissing { needs, spiffe_id, .. } => scope_fix(needs, spiffe_id),
            Self::SystemNotServed(system) => {
                format!(
                    "an operator: chancery services update NAME --add-system {system}, for the service that serves it"
                )
            }
            Self::TrustDomain { wanted, .. } => format!("use a certificate of the trust domain {wanted}"),
            Self::ServerIdentity { .. } => "check the address, and the name the server's record has".into(),
            Self::Path(_) => "send the path in its plain form, each character encoded at most once".into(),
            Self::Constraint | Self::Leaf(LeafError::Grant(GrantError::Version(_))) => {
                "update this service: the certificate says something that it does not know".into()
            }
            _ => "attest again, for a certificate that the issuer makes today".into(),
        }
    }
}

fn scope_fix(needs: &Scope, spiffe_id: &SpiffeId) -> String {
    use chancery_identity::Principal;
    match spiffe_id.principal() {
        Principal::Agent { name, .. } | Principal::Shared(name) => {
            format!("an operator: chancery agents update {name} --add-scope {needs}")
        }
        Principal::Service(name) => format!("an operator: chancery services update {name} --add-scope {needs}"),
        _ => format!("an operator: grant {needs}"),
    }
}

const fn leaf_code(error: &LeafError) -> &'static str {
    match error {
        LeafError::UnknownCritical => "unknown-critical-extension",
        LeafError::ManyUris(_) => "spiffe-id-not-unique",
        LeafError::NoSpiffeId | LeafError::SpiffeId(_) | LeafError::NoPath => "spiffe-id-invalid",
        LeafError::Authority => "certificate-is-authority",
        LeafError::KeyUsage(_) => "key-usage",
        LeafError::Scope(_) => "scope-malformed",
        LeafError::ScopesWithoutGrant => "scopes-without-grant",
        LeafError::TwoGrants => "grant-not-unique",
        LeafError::Grant(GrantError::Version(_)) => "grant-version-unknown",
        LeafError::Grant(_) => "grant-malformed",
        _ => "certificate-malformed",
    }
}

impl From<LeafError> for Denial {
    fn from(error: LeafError) -> Self {
        Self::Leaf(error)
    }
}

impl From<ChainRefused> for Denial {
    fn from(refused: ChainRefused) -> Self {
        Self::Chain(refused)
    }
}

impl From<PathRefused> for Denial {
    fn from(refused: PathRefused) -> Self {
        Self::Path(refused)
    }
}

impl From<&Ancestor> for Denial {
    fn from(ancestor: &Ancestor) -> Self {
        Self::AncestorRevoked { spiffe_id: ancestor.spiffe_id.clone(), serial: ancestor.serial }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCertificate => f.write_str("wanted a client certificate, got none"),
            Self::Leaf(error) => write!(f, "{error}"),
            Self::TooLarge(len) => {
                write!(f, "a leaf has at most {} bytes, got {len}", chancery_identity::LEAF_LEN_MAX)
            }
            Self::SubjectAltName => f.write_str("the subject is empty and the subject alternative name not critical"),
            Self::ExtendedKeyUsage => f.write_str("extended key usage must hold both serverAuth and clientAuth"),
            Self::Constraint => f.write_str("the grant has a constraint of an unknown kind"),
            Self::TrustDomain { wanted, came } => write!(f, "wanted trust domain {wanted}, got {came}"),
            Self::Chain(refused) => write!(f, "{refused}"),
            Self::NotYetValid { not_before, now } => {
                write!(f, "the certificate is valid from {}, it is {now}", not_before.to_seconds_text())
            }
            Self::Expired { not_after, now } => {
                write!(f, "the certificate was valid to {}, it is {now}", not_after.to_seconds_text())
            }
            Self::Revoked(serial) => write!(f, "certificate {serial} is revoked"),
            Self::AuthorityRevoked(serial) => write!(f, "authority certificate {serial} is revoked"),
            Self::AncestorRevoked { spiffe_id, serial } => {
                write!(f, "certificate {serial} of {spiffe_id}, which it descends from, is revoked")
            }
            Self::RevocationUnknown(Some(authority)) => {
                write!(f, "there is no CRL of authority {authority} here, so nothing it signed is accepted")
            }
            Self::RevocationUnknown(None) => {
                f.write_str("there is no CRL of the certificate's authority here, so nothing it signed is accepted")
            }
            Self::RevocationExpired => {
                write!(f, "what is known of revocations is {}", Knowledge::Expired)
            }
            Self::RevocationStale { needs } => {
                write!(f, "what is known of revocations is {}, and {needs} is of high risk", Knowledge::Stale)
            }
            Self::Behind { wanted: (epoch, n), known: (known_epoch, known_n) } => {
                write!(f, "the certificate was made after revocation {n} of epoch {epoch}; ")?;
                write!(f, "known here is what comes up to {known_n} of epoch {known_epoch}")
            }
            Self::ServerIdentity { wanted, came } => write!(f, "wanted {wanted}, got {came}"),
            Self::Path(refused) => write!(f, "{refused}"),
            Self::NotListed { method, path } => write!(f, "no rule lists {method} {path}"),
            Self::ScopeMissing { needs, spiffe_id, .. } => {
                write!(f, "no scope that {spiffe_id} holds covers {needs}")
            }
            Self::SystemNotServed(system) => {
                write!(f, "this service's certificate does not let it answer for {system}")
            }
            Self::ScopeForbidden { needs, forbidden, by } => {
                write!(f, "{needs} is refused whoever asks: {by} forbids {forbidden}")
            }
        }
    }
}

impl std::error::Error for Denial {}
