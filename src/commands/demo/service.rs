//! The service of the demo: `examples/service.rs`, started in this process.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use chancery_agent::Identity;
use chancery_verifier::{Credentials, Peer, Rules, Verifier};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::story::Untold;

/// Starts the service on a free port; answers where.
pub(super) async fn start(identity: Identity) -> Result<SocketAddr, Untold> {
    let rules = Rules::new()
        .allow("GET", "/customers/{id}", "tools/call:crm/get_customer")?
        .allow("POST", "/refunds", "tools/call:crm/refund")?
        .public("GET", "/healthz");
    let verifier = Verifier::start(identity).await?;
    let app = Router::new()
        .route("/customers/{id}", get(show))
        .route("/refunds", post(|| async { "refunded" }))
        .route("/healthz", get(|| async { "well" }));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let served = chancery_verifier::axum::serve(listener, app, verifier.guard(rules)?);
    tokio::spawn(async move { drop(served.await) });
    Ok(address)
}

async fn show(peer: Peer) -> String {
    format!("hello {}", peer.spiffe_id())
}

/// Calls as somebody who trusts the service and shows another trust domain's certificate; the error it gets.
pub(super) async fn call_as(stranger: &Identity, service: &Identity, address: SocketAddr) -> Result<String, Untold> {
    let (shown, trusted) = (stranger.material().borrow().clone(), service.material().borrow().clone());
    let mut roots = rustls::RootCertStore::empty();
    for root in trusted.roots.iter() {
        roots.add(root.clone())?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(shown.chain.clone(), shown.key.clone_key())?;
    let stream = TcpStream::connect(address).await?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    // A TLS 1.3 client is done before the server has looked at its certificate: the refusal comes with the first read.
    let called = async {
        let mut stream = connector.connect("crm.localhost".try_into().map_err(io::Error::other)?, stream).await?;
        stream.write_all(b"GET /customers/42 HTTP/1.1\r\nHost: crm.localhost\r\n\r\n").await?;
        let mut byte = [0];
        stream.read(&mut byte).await
    };
    match called.await {
        Err(error) => Ok(error.to_string()),
        Ok(0) => Ok("connection closed".into()),
        Ok(_) => Err("a caller of another trust domain was answered".into()),
    }
}
