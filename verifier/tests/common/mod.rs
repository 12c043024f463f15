//! A service under test: its CA, its verifier, and the channel through which its material comes.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "shared by several tests"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use chancery_identity::{Serial, Timestamp};
use chancery_testkit::{Issued, Subject, TestCa};
use chancery_verifier::{Clock, Listener, ListenerOptions, Material, Moment, SystemClock, Verifier};
use rustls::crypto::CryptoProvider;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Longer than anything here takes: a test that waits for this has failed.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

pub struct Service {
    pub ca: TestCa,
    pub subject: Subject,
    pub material: watch::Sender<Arc<Material>>,
    pub verifier: Verifier,
}

impl Service {
    /// The service `crm` of a CA that lives now.
    pub async fn start() -> Self {
        Self::start_at(Arc::new(SystemClock), TestCa::at("example.org", SystemClock.now().wall)).await
    }

    pub async fn start_at(clock: Arc<dyn Clock>, ca: TestCa) -> Self {
        let subject = ca.service("crm").system("crm").dns("crm.test");
        let (material, newest) = watch::channel(Arc::new(ca.material(&subject, &[], clock.now())));
        let verifier = Verifier::start_with(newest, provider(), clock).await.unwrap();
        Self { ca, subject, material, verifier }
    }

    /// Newer material in which these serials are revoked.
    pub fn revoking(&self, serials: &[Serial]) -> Material {
        self.ca.material(&self.subject, serials, self.verifier.now())
    }

    /// Accepts, and sends back what comes.
    pub async fn echo(&self, options: ListenerOptions) -> Echo {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut listener = Listener::new(socket, &self.verifier, options).unwrap();
        let (address, counts) = (listener.local_addr(), listener.counter());
        let task = tokio::spawn(async move {
            while let Some(connection) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut reader, mut writer) = tokio::io::split(connection);
                    let _ = tokio::io::copy(&mut reader, &mut writer).await;
                });
            }
        });
        Echo { address, counts, task }
    }

    /// A stock client: rustls with webpki, sessions cached.
    pub fn stock_client(&self, issued: Option<Issued>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.root()).unwrap();
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match issued {
            // Not as rustls would have it: it looks at the certificate, which may be flawed.
            Some(issued) => {
                let key = provider().key_provider.load_private_key(issued.key).unwrap();
                config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(issued.chain, key))))
            }
            None => config.with_no_client_auth(),
        })
    }

    /// An agent's certificate, and a stock client that shows it.
    pub fn agent(&self) -> (Serial, Arc<ClientConfig>) {
        let issued = self.ca.agent("invoice-bot").scope("tools/call:crm/get_customer").issue();
        (issued.certificate.serial, self.stock_client(Some(issued)))
    }
}

pub struct Echo {
    pub address: std::net::SocketAddr,
    pub counts: chancery_verifier::Counter,
    pub task: tokio::task::JoinHandle<()>,
}

pub async fn connect(
    address: std::net::SocketAddr,
    config: &Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::clone(config)).connect("crm.test".try_into().unwrap(), tcp).await
}

/// With TLS 1.3 a client's handshake ends before the server has judged its certificate: only a byte that comes back says
/// that it was let in.
pub async fn round_trip(stream: &mut TlsStream<TcpStream>) -> std::io::Result<()> {
    stream.write_all(b"x").await?;
    let mut byte = [0];
    stream.read_exact(&mut byte).await?;
    assert_eq!(byte, *b"x");
    Ok(())
}

/// Connects and is served, or is not.
pub async fn visit(address: std::net::SocketAddr, config: &Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let mut stream = connect(address, config).await?;
    round_trip(&mut stream).await?;
    Ok(stream)
}

/// Waits until the other side has closed; fails when it stays open.
pub async fn closed(stream: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let mut byte = [0];
    let read = tokio::time::timeout(PATIENCE, stream.read(&mut byte)).await.expect("the connection stays open");
    assert!(matches!(read, Ok(0) | Err(_)), "something came");
}

/// The machine's clock, set to another time.
#[derive(Debug)]
pub struct SetClock {
    wall: Timestamp,
    since: Instant,
}

impl SetClock {
    pub fn to(wall: Timestamp) -> Self {
        Self { wall, since: Instant::now() }
    }
}

impl Clock for SetClock {
    fn now(&self) -> Moment {
        Moment { wall: self.wall + self.since.elapsed(), monotonic: Instant::now() }
    }
}
