//! rustls configurations: TLS 1.3 only, never a resumed session, never the process's default provider.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use chancery_identity::{Principal, SpiffeId, TrustDomain};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::chain::{Anchors, Usage, verify_svid};
use crate::{Clock, Denial, MaterialRefused, Moment, Peer, Verifier};

/// Which server a client means to reach. The chain always leads to the own trust domain's bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerExpectation {
    /// Any service of the trust domain.
    AnyService,
    /// The one with this SPIFFE ID.
    SpiffeId(SpiffeId),
    /// A service whose certificate holds the DNS name that is connected to.
    DnsName,
    /// The issuer. It is where knowledge of revocations comes from: what is known to be revoked is refused, but that
    /// nothing is known, or nothing recent, is no reason not to ask it.
    Issuer,
}

impl Verifier {
    /// A server configuration for other acceptors than [`Listener`](crate::Listener). **It gives no check per request
    /// and cuts no connection**: who is revoked after the handshake stays connected. A client certificate is required.
    ///
    /// Its own certificate, bundle and CRLs are always the newest ones. Whoever accepts with it must not turn session
    /// storage or tickets on: a resumed session is not verified.
    ///
    /// # Errors
    /// A provider without TLS 1.3.
    pub fn rustls_config(&self) -> Result<ServerConfig, Error> {
        server_config(Arc::new(ClientVerifier { verifier: self.clone(), required: true, outcome: Arc::default() }))
    }

    /// A client configuration that shows the own certificate and reaches only the server that is meant.
    ///
    /// Its own certificate, bundle and CRLs are always the newest ones. Sessions are not resumed. Callers set ALPN.
    /// With TLS 1.3 a client's `connect` succeeds before the server has judged the client's certificate: a refusal
    /// shows on the first read.
    ///
    /// # Errors
    /// A provider without TLS 1.3.
    pub fn client_config(&self, expectation: ServerExpectation) -> Result<ClientConfig, Error> {
        self.to_servers(ServerVerifier { verifier: self.clone(), expectation, reached: None })
    }

    /// The same for whoever keeps connections open: see [`ClientConfigs`].
    ///
    /// # Errors
    /// A provider without TLS 1.3.
    pub fn client_configs(&self, expectation: ServerExpectation) -> Result<ClientConfigs, Error> {
        let reached = Arc::new(Mutex::default());
        let judge = ServerVerifier { verifier: self.clone(), expectation, reached: Some(Arc::clone(&reached)) };
        let newest = Mutex::new(Arc::new(self.to_servers(judge.clone())?));
        Ok(ClientConfigs { judge, reached, newest })
    }

    fn to_servers(&self, judge: ServerVerifier) -> Result<ClientConfig, Error> {
        let mut config = client_builder(self.provider(), Arc::new(judge))?
            .with_client_cert_resolver(Arc::new(Resolver(self.clone())));
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

/// Client configurations for one kind of server, for a client that keeps connections: it asks for [`Self::newest`] before
/// each request, and connects anew when that is another than its connection was made with. Another it becomes when a server
/// that was reached is revoked, over or not known well enough any more; the new handshake refuses that server.
#[derive(Debug)]
pub struct ClientConfigs {
    judge: ServerVerifier,
    reached: Arc<Mutex<Vec<Peer>>>,
    newest: Mutex<Arc<ClientConfig>>,
}

impl ClientConfigs {
    /// The configuration to use now.
    pub fn newest(&self) -> Arc<ClientConfig> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.judge.verifier.now();
        if reached.iter().any(|server| self.judge.admits(server, now).is_err()) {
            reached.clear();
            *newest = Arc::new(ClientConfig::clone(&newest));
        }
        Arc::clone(&newest)
    }
}

/// A client configuration for the first contact with an issuer, when nothing but a trust anchor is at hand: expects
/// `/chancery/server` under it, shows no certificate, and knows of no revocation.
///
/// # Errors
/// A root that is no certificate.
pub fn first_contact(
    root: &CertificateDer<'_>,
    trust_domain: TrustDomain,
    provider: &Arc<CryptoProvider>,
    clock: Arc<dyn Clock>,
) -> Result<ClientConfig, FirstContactRefused> {
    let anchors = Anchors::read(std::slice::from_ref(root)).map_err(FirstContactRefused::Root)?;
    let verifier = FirstContact { anchors, trust_domain, provider: Arc::clone(provider), clock };
    let mut config =
        client_builder(provider, Arc::new(verifier)).map_err(FirstContactRefused::Provider)?.with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// No configuration for a first contact.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FirstContactRefused {
    /// The root is no CA certificate.
    Root(MaterialRefused),
    /// The provider has no TLS 1.3.
    Provider(Error),
}

impl fmt::Display for FirstContactRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(refused) => write!(f, "{refused}"),
            Self::Provider(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for FirstContactRefused {}

fn client_builder(
    provider: &Arc<CryptoProvider>,
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, Error> {
    Ok(ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier))
}

/// A server configuration whose handshakes report to the verifier's `outcome`.
pub(crate) fn server_config(client_verifier: Arc<ClientVerifier>) -> Result<ServerConfig, Error> {
    let verifier = client_verifier.verifier.clone();
    let mut config = ServerConfig::builder_with_provider(Arc::clone(verifier.provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(client_verifier)
        .with_cert_resolver(Arc::new(Resolver(verifier)));
    // A resumed session skips the client verifier, and with it revocation.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Shows the newest own certificate.
#[derive(Debug)]
struct Resolver(Verifier);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.certified())
    }
}

impl rustls::client::ResolvesClientCert for Resolver {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.certified())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Judges client certificates, and keeps what came out for the connection it serves.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    pub(crate) verifier: Verifier,
    pub(crate) required: bool,
    pub(crate) outcome: Arc<Outcome>,
}

/// What one handshake found out about its client; empty when it showed no certificate.
#[derive(Debug, Default)]
pub(crate) struct Outcome(OnceLock<Result<Peer, Denial>>);

#[cfg(feature = "tokio")]
impl Outcome {
    pub(crate) fn peer(&self) -> Result<Option<&Peer>, Denial> {
        self.0.get().map_or(Ok(None), |outcome| outcome.as_ref().map(Some).map_err(Clone::clone))
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    /// None: any client has at most one certificate of ours, and bundles change under open configurations.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let now = self.verifier.now();
        let outcome = self.verifier.verify(end_entity, intermediates, Usage::Client, now).and_then(|peer| {
            self.verifier.check_handshake(&peer, now)?;
            Ok(peer)
        });
        let verdict =
            outcome.as_ref().map(|_| ClientCertVerified::assertion()).map_err(|denial| to_tls(denial.clone()));
        // A configuration that serves many connections keeps the first outcome, and nobody reads it.
        let _ = self.outcome.0.set(outcome);
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.verifier.provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.verifier.provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Judges server certificates.
#[derive(Clone, Debug)]
struct ServerVerifier {
    verifier: Verifier,
    expectation: ServerExpectation,
    /// Whom it let through, where somebody asks.
    reached: Option<Arc<Mutex<Vec<Peer>>>>,
}

impl ServerVerifier {
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
    ) -> Result<(), Denial> {
        let now = self.verifier.now();
        let peer = self.verifier.verify(leaf, intermediates, Usage::Server, now)?;
        let service = matches!(peer.spiffe_id().principal(), Principal::Service(_));
        let (meant, wanted) = match &self.expectation {
            ServerExpectation::AnyService => (service, Box::from("a service")),
            ServerExpectation::SpiffeId(id) => (peer.spiffe_id() == id, id.as_str().into()),
            ServerExpectation::Issuer => {
                let id = self.verifier.trust_domain().server();
                (*peer.spiffe_id() == id, id.as_str().into())
            }
            ServerExpectation::DnsName => {
                let named = |name: &str| peer.dns_names().any(|own| own.eq_ignore_ascii_case(name));
                let meant = matches!(server_name, ServerName::DnsName(name) if service && named(name.as_ref()));
                (meant, format!("a service with the DNS name {}", server_name.to_str()).into())
            }
        };
        if !meant {
            return Err(Denial::ServerIdentity { wanted, came: peer.spiffe_id().clone() });
        }
        self.admits(&peer, now)?;
        if let Some(reached) = &self.reached {
            let mut reached = reached.lock().unwrap_or_else(PoisonError::into_inner);
            if reached.iter().all(|server| server.serial() != peer.serial()) {
                reached.push(peer);
            }
        }
        Ok(())
    }

    fn admits(&self, peer: &Peer, now: Moment) -> Result<(), Denial> {
        match self.expectation {
            ServerExpectation::Issuer => self.verifier.hit(peer),
            _ => self.verifier.check(peer, now).map(drop),
        }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge(end_entity, intermediates, server_name).map_err(to_tls)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.verifier.provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.verifier.provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Judges the issuer's certificate under one pinned root.
#[derive(Debug)]
struct FirstContact {
    anchors: Anchors,
    trust_domain: TrustDomain,
    provider: Arc<CryptoProvider>,
    clock: Arc<dyn Clock>,
}

impl ServerCertVerifier for FirstContact {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        let now = self.clock.now().wall;
        let domain = &self.trust_domain;
        let verified = verify_svid(end_entity, intermediates, domain, &self.anchors, Usage::Server, now, algorithms)
            .map_err(to_tls)?;
        let (wanted, came) = (domain.server(), verified.certificate.spiffe_id);
        if came != wanted {
            return Err(to_tls(Denial::ServerIdentity { wanted: wanted.as_str().into(), came }));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The alert that says most. A client that runs this crate finds the denial itself behind the error.
fn to_tls(denial: Denial) -> Error {
    Error::InvalidCertificate(match denial {
        Denial::Revoked(_) | Denial::AuthorityRevoked(_) | Denial::AncestorRevoked { .. } => CertificateError::Revoked,
        Denial::Expired { .. } => CertificateError::Expired,
        Denial::NotYetValid { .. } => CertificateError::NotValidYet,
        Denial::RevocationExpired => CertificateError::ExpiredRevocationList,
        Denial::RevocationUnknown(_) => CertificateError::UnknownRevocationStatus,
        denial => CertificateError::Other(OtherError(Arc::new(denial))),
    })
}
