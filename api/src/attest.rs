//! Attestation and renewal: evidence and a key in, a certificate out.

use chancery_identity::{GrantId, Name, ScopeSet, Serial, SpiffeId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{JoinSecret, Subject, SubjectError};

/// `POST /v1/attest`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct AttestRequest {
    /// What proves who asks.
    pub evidence: Evidence,
    /// A PKCS #10 request, PEM. It gives a public key and the proof of its possession; nothing else in it counts.
    pub csr_pem: String,
    /// Fewer scopes than the record holds; absent: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<ScopeSet>,
    /// A shorter life than the record's, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u32>,
}

/// What proves who asks, by the field `method`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "method", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Evidence {
    /// A secret made for one record.
    JoinToken(JoinTokenEvidence),
    /// An existing certificate's key.
    X509pop(X509popEvidence),
    /// An expired certificate of ours, and its key.
    Rejoin(RejoinEvidence),
}

/// A join token, which itself names whom it attests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct JoinTokenEvidence {
    /// `chj_…`.
    pub token: JoinSecret,
}

/// A certificate under a root that the issuer was told of, and a signature by its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(try_from = "X509popFields")]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct X509popEvidence {
    /// Whom it attests: one field, `agent`, `service` or `admin`.
    #[serde(flatten)]
    pub subject: Subject,
    /// The certificate, then those between it and the root; PEM.
    pub chain_pem: String,
    /// From `POST /v1/attest/challenge`.
    pub nonce: String,
    /// Over the binding; base64url without padding.
    pub signature: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct X509popFields {
    agent: Option<Name>,
    service: Option<Name>,
    admin: Option<Name>,
    chain_pem: String,
    nonce: String,
    signature: String,
}

impl TryFrom<X509popFields> for X509popEvidence {
    type Error = SubjectError;

    fn try_from(fields: X509popFields) -> Result<Self, SubjectError> {
        let X509popFields { agent, service, admin, chain_pem, nonce, signature } = fields;
        Ok(Self { subject: Subject::exactly_one(agent, service, admin)?, chain_pem, nonce, signature })
    }
}

/// A certificate of ours that ran out, and a signature by its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct RejoinEvidence {
    /// The expired certificate, PEM.
    pub chain_pem: String,
    /// From `POST /v1/attest/challenge`.
    pub nonce: String,
    /// Over the binding; base64url without padding.
    pub signature: String,
}

/// The answer to `POST /v1/attest/challenge`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct Challenge {
    /// To be bound into a signature, once.
    pub nonce: String,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// `POST /v1/certificates/renew`, over mutual TLS with the certificate to renew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct RenewRequest {
    /// A PKCS #10 request with a new key, PEM.
    pub csr_pem: String,
    /// Fewer scopes; absent: what the record says now, or the subset chosen before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<ScopeSet>,
}

/// The answer to attestation and renewal. Nothing of it leaves before it is durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct Issued {
    /// What the certificate says.
    pub certificate: IssuedCertificate,
    /// The certificate, then the issuing authority's; PEM.
    pub chain_pem: String,
    /// The roots, PEM.
    pub bundle_pem: String,
    /// The issuer's clock.
    pub server_time: Timestamp,
    /// The log position of the issuance.
    pub log_index: u64,
}

/// What a certificate just issued says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct IssuedCertificate {
    /// Its serial.
    pub serial: Serial,
    /// Whose it is.
    pub spiffe_id: SpiffeId,
    /// The record behind it.
    #[serde(flatten)]
    pub subject: Subject,
    /// That record's revision.
    pub agent_revision: u64,
    /// What it allows.
    pub scopes: ScopeSet,
    /// What stands behind the scopes.
    pub grant_id: GrantId,
    /// The first instant it is valid at.
    #[serde(with = "crate::seconds")]
    pub not_before: Timestamp,
    /// The last second it is valid at.
    #[serde(with = "crate::seconds")]
    pub not_after: Timestamp,
    /// When to renew it; spread, so that a fleet does not come at once.
    #[serde(with = "crate::seconds")]
    pub renew_after: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_each_evidence_and_nothing_beside() {
        let secret = JoinSecret::from_bytes([1; 32]);
        let read = |text: &str| serde_json::from_str::<Evidence>(&text.replace("chj_x", &secret.to_string()));
        assert!(matches!(read(r#"{"method":"join_token","token":"chj_x"}"#), Ok(Evidence::JoinToken(_))));
        let x509pop = r#"{"method":"x509pop","service":"crm","chain_pem":"c","nonce":"n","signature":"s"}"#;
        let evidence = read(x509pop).unwrap();
        assert_eq!(
            serde_json::to_value(&evidence).unwrap(),
            serde_json::from_str::<serde_json::Value>(x509pop).unwrap()
        );
        assert!(matches!(
            read(r#"{"method":"rejoin","chain_pem":"c","nonce":"n","signature":"s"}"#),
            Ok(Evidence::Rejoin(_))
        ));
        for refused in [
            r#"{"method":"password","token":"chj_x"}"#,
            r#"{"method":"join_token","token":"chj_x","agent":"other"}"#,
            r#"{"method":"x509pop","chain_pem":"c","nonce":"n","signature":"s"}"#,
            r#"{"token":"chj_x"}"#,
        ] {
            assert!(read(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn writes_certificate_times_in_seconds() {
        let certificate = IssuedCertificate {
            serial: "5c0e91".parse().unwrap(),
            spiffe_id: "spiffe://example.org/service/crm".parse().unwrap(),
            subject: Subject::Service("crm".parse().unwrap()),
            agent_revision: 1,
            scopes: ScopeSet::default(),
            grant_id: GrantId::from_bytes([1; 16]),
            not_before: Timestamp::from_unix_seconds(0),
            not_after: Timestamp::from_unix_seconds(3600),
            renew_after: Timestamp::from_unix_seconds(1800),
        };
        let json = serde_json::to_value(&certificate).unwrap();
        assert_eq!(json["service"], "crm");
        assert_eq!(json["not_after"], "1970-01-01T01:00:00Z");
        assert_eq!(serde_json::from_value::<IssuedCertificate>(json).unwrap(), certificate);
    }
}
