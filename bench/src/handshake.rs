//! Handshakes with a verifier that knows revoked serials, against rustls without revocation and with its own check.
//!
//! Both ends on one thread, in memory, by the thread's processor time: nothing but the handshake is in it. All three
//! servers resume nothing; the client is the same.

use std::sync::Arc;

use anyhow::Context;
use chancery_identity::Serial;
use chancery_testkit::TestCa;
use chancery_verifier::{Clock, Moment, SystemClock, Verifier};
use clap::Args;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateRevocationListDer, ServerName};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use serde_json::{Value, json};

use crate::report::{Watch, figure, load_average, median, row};

/// Handshakes in a slice.
const SLICE: usize = 200;
/// The same for rustls's own check, which hashes the whole CRL each time.
const SLICE_OF_WEBPKI: usize = 2;
/// The name of the server.
const NAME: &str = "crm.internal";

#[derive(Args)]
pub(crate) struct Options {
    /// How many serials are revoked.
    #[arg(long, default_value_t = 1_000_000)]
    revoked: usize,
    /// Slices of each kind; figures are medians over them.
    #[arg(long, default_value_t = 21)]
    rounds: usize,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let load_before = load_average();
    let world = World::new(options.revoked)?;
    let mut slices = Vec::new();
    for _ in 0..options.rounds {
        let bare = world.slice(&world.bare, SLICE)?;
        let ours = world.slice(&world.ours, SLICE)?;
        let webpki = world.slice(&world.webpki, SLICE_OF_WEBPKI)?;
        slices.push([bare, ours, webpki]);
    }
    let over = |value: fn(&[f64; 3]) -> f64| median(slices.iter().map(value));
    let ratio = over(|[bare, ours, _]| ours / bare);
    let webpki_ratio = over(|[bare, _, webpki]| webpki / bare);
    let [bare, ours, webpki] = [over(|[bare, _, _]| *bare), over(|[_, ours, _]| *ours), over(|[_, _, webpki]| *webpki)];
    row("rustls, no revocation", &[(bare, "/CPU s"), (1.0, "of bare")]);
    row(&format!("verifier, {} revoked", options.revoked), &[(ours, "/CPU s"), (ratio, "of bare")]);
    row(&format!("rustls and webpki, {} revoked", options.revoked), &[(webpki, "/CPU s"), (webpki_ratio, "of bare")]);
    row("verifier's CRL taken in", &[(world.loading_ms, "CPU ms")]);
    let report: Value = json!({
        "bench": "handshake", "revoked": options.revoked, "load_average_before": load_before,
        "load_average_after": load_average(), "bare_per_cpu_s": figure(bare), "verifier_per_cpu_s": figure(ours),
        "webpki_per_cpu_s": figure(webpki), "webpki_ratio": figure(webpki_ratio),
        "verifier_load_ms": figure(world.loading_ms), "ratio": figure(ratio),
    });
    println!("{report}");
    Ok(())
}

/// One client, three servers with the same certificate.
struct World {
    client: Arc<ClientConfig>,
    bare: Arc<ServerConfig>,
    ours: Arc<ServerConfig>,
    webpki: Arc<ServerConfig>,
    loading_ms: f64,
}

impl World {
    fn new(revoked: usize) -> anyhow::Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let now: Moment = SystemClock.now();
        let ca = TestCa::at("example.org", now.wall);
        let service = ca.service("crm").system("crm").dns(NAME);
        let material = ca.material(&service, &serials(now, revoked)?, now);

        let watch = Watch::thread();
        let verifier = Verifier::new(&material, provider.clone(), Arc::new(SystemClock))?;
        let loading_ms = 1000.0 / watch.stop(1).per_cpu_s();
        let known: usize = verifier.status().authorities.iter().map(|authority| authority.revoked).sum();
        anyhow::ensure!(known > revoked, "of {revoked} revoked serials the verifier knows {known}");

        let mut roots = RootCertStore::empty();
        roots.add(ca.root())?;
        let roots = Arc::new(roots);
        let server = |crls: Vec<CertificateRevocationListDer<'static>>| {
            let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
            let mut config = builder(&provider)?
                .with_client_cert_verifier(clients.with_crls(crls).build()?)
                .with_single_cert(material.chain.clone(), material.key.clone_key())?;
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
            anyhow::Ok(Arc::new(config))
        };
        let (bare, webpki) = (server(Vec::new())?, server(material.crls.to_vec())?);

        let agent = ca.agent("invoice-bot").scope("tools/call:crm/get_customer").issue();
        let mut client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(agent.chain, agent.key)?;
        client.resumption = Resumption::disabled();
        Ok(Self { client: Arc::new(client), bare, ours: Arc::new(verifier.rustls_config()?), webpki, loading_ms })
    }

    /// Handshakes a second of processor time.
    fn slice(&self, server: &Arc<ServerConfig>, count: usize) -> anyhow::Result<f64> {
        let watch = Watch::thread();
        for _ in 0..count {
            handshake(&self.client, server)?;
        }
        Ok(watch.stop(count).per_cpu_s())
    }
}

fn builder(
    provider: &Arc<CryptoProvider>,
) -> anyhow::Result<rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>> {
    Ok(ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[&TLS13])?)
}

/// From the first byte until both ends are satisfied.
fn handshake(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> anyhow::Result<()> {
    let mut client = ClientConnection::new(client.clone(), ServerName::try_from(NAME)?)?;
    let mut server = ServerConnection::new(server.clone())?;
    let mut wire = Vec::with_capacity(8192);
    while client.is_handshaking() || server.is_handshaking() {
        while client.wants_write() {
            client.write_tls(&mut wire)?;
        }
        let mut unread = wire.as_slice();
        while !unread.is_empty() {
            server.read_tls(&mut unread)?;
            server.process_new_packets()?;
        }
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire)?;
        }
        let mut unread = wire.as_slice();
        while !unread.is_empty() {
            client.read_tls(&mut unread)?;
            client.process_new_packets()?;
        }
        wire.clear();
    }
    server.peer_certificates().context("the client showed no certificate")?;
    Ok(())
}

/// Serials as our authorities draw them.
pub(crate) fn serials(now: Moment, count: usize) -> anyhow::Result<Vec<Serial>> {
    let mut random = vec![0; count * 10];
    SystemRandom::new().fill(&mut random).map_err(|_| anyhow::anyhow!("the system gives no randomness"))?;
    random.chunks_exact(10).map(|random| Ok(Serial::compose(now.wall, random.try_into()?))).collect()
}
