//! The two TLS configurations that the verifier does not make: one that judges nobody, and one that shows nothing.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// A connection that trusts nobody, for the one question whose answer a pin judges. Yields the leaf that was shown.
pub(crate) fn unverified(provider: &Arc<CryptoProvider>) -> Result<(ClientConfig, Shown), Error> {
    let shown = Shown::default();
    let verifier = Unverified { provider: Arc::clone(provider), shown: shown.clone() };
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok((config, shown))
}

/// The same, but without a certificate of our own: servers refuse one that ran out.
pub(crate) fn anonymous(mut config: ClientConfig) -> ClientConfig {
    config.client_auth_cert_resolver = Arc::new(Nothing);
    config
}

/// The leaf that a server showed on a connection that did not judge it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown(Arc<OnceLock<CertificateDer<'static>>>);

impl Shown {
    pub(crate) fn leaf(&self) -> Option<&CertificateDer<'static>> {
        self.0.get()
    }
}

#[derive(Debug)]
struct Unverified {
    provider: Arc<CryptoProvider>,
    shown: Shown,
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // A second connection of the same client changes nothing.
        let _ = self.shown.0.set(leaf.clone().into_owned());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[derive(Debug)]
struct Nothing;

impl ResolvesClientCert for Nothing {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}
