//! Durable issuance against the crypto alone.
//!
//! The path measured is renewal: the evidence is a verified peer, so what is left is what every issuance does: request
//! parsed, proof verified, decided, planned, linted, signed, recorded and logged in one synchronous commit, answered. First
//! certificates for join tokens stand beside it: they look the token up before and spend it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use chancery_api::{JoinSecret, RenewRequest};
use chancery_ca::local::{CRYPTO, LocalSigner};
use chancery_ca::{KeyPolicy, Signer, inspect_csr};
use chancery_verifier::Peer;
use clap::Args;
use ring::rand::SystemRandom;
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Map, Value, json};

use crate::drive::{Driven, closed_loop, processors};
use crate::http;
use crate::issuer::{INSTANCES, Running, attest_requests, csrs};
use crate::report::{Slice, Watch, figure, load_average, median, ms, report_in_folder, row};

/// Requests in flight that are tried; `ratio` is the one at [`STANDARD`].
const IN_FLIGHT: [usize; 3] = [32, 256, 1024];
pub(crate) const STANDARD: usize = 256;
const IN_FLIGHT_FILLING: usize = 1024;

#[derive(Args)]
pub(crate) struct Options {
    /// Measure again once the database holds this many certificates; takes about N / 5,000 s to fill.
    #[arg(long, value_name = "N")]
    stored: Option<u64>,
    /// Issuances in one slice.
    #[arg(long, default_value_t = 4096)]
    slice: usize,
    /// Slices of each kind; figures are medians over them.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Where the database stands while this runs; a folder of its own there, removed after.
    #[arg(long, default_value = ".")]
    folder: PathBuf,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    report_in_folder(&options.folder, |folder| async move { Ok(Value::Object(measure(options, &folder).await?)) })
}

async fn measure(options: &Options, folder: &Path) -> anyhow::Result<Map<String, Value>> {
    let &Options { stored, slice, rounds, .. } = options;
    let mut report = Map::new();
    let mut put = |name: &str, value: Value| report.insert(name.into(), value);
    put("bench", "issue".into());
    put("processors", processors().into());
    put("load_average_before", load_average().into());
    let fsync_ms = fsync_ms(folder)?;
    row("fsync of one page", &[(fsync_ms, "ms")]);
    put("fsync_ms", figure(fsync_ms));

    let running = Running::open(folder).await?;
    let mut renewals = Renewals::begin(&running, slice).await?;
    let limit = Crypto::new(slice)?;

    let mut ratio = f64::NAN;
    for in_flight in IN_FLIGHT {
        let measured = renewals.measure(&running, &limit, in_flight, rounds).await?;
        measured.show(&format!("renewals, {in_flight} in flight"));
        put(&format!("in_flight_{in_flight}"), measured.to_json());
        if in_flight == STANDARD {
            ratio = measured.ratio;
            put("crypto_per_s", figure(measured.crypto_per_s));
            put("per_s", figure(measured.per_s));
        }
    }

    let joins = first_certificates(&running, &limit, slice, rounds).await?;
    joins.show(&format!("first certificates, {INSTANCES} a token"));
    put("join_tokens", joins.to_json());
    let many = slice.min(1000);
    let one_token = attest(&running, running.join_secrets(many, many).await?).await?.slice;
    row(&format!("first certificates, {many} a token"), &[(one_token.per_s(), "/s")]);
    put("one_join_token", json!({ "uses": many, "per_s": figure(one_token.per_s()) }));

    if let Some(stored) = stored {
        let filled = renewals.fill(&running, stored).await?;
        let measured = renewals.measure(&running, &limit, STANDARD, rounds).await?;
        measured.show(&format!("renewals, {filled} stored"));
        put("stored", filled.into());
        put("stored_ratio", figure(measured.ratio / ratio));
        put("stored_in_flight_256", measured.to_json());
    }

    let plan = http::Plan::prepare(&running, slice, rounds).await?;
    running.close().await;
    let over_http = http::measure(folder, plan, &limit).await?;
    report.extend(over_http);
    report.insert("load_average_after".into(), load_average().into());
    report.insert("ratio".into(), figure(ratio));
    Ok(report)
}

/// A path against the crypto alone, slices in turn; medians.
struct Measured {
    per_s: f64,
    per_cpu_s: f64,
    p99_ms: f64,
    crypto_per_s: f64,
    ratio: f64,
    cpu_ratio: f64,
}

impl Measured {
    fn of(slices: &[(Slice, Slice, f64)]) -> Self {
        let over = |value: fn(&(Slice, Slice, f64)) -> f64| median(slices.iter().map(value));
        Self {
            per_s: over(|(path, _, _)| path.per_s()),
            per_cpu_s: over(|(path, _, _)| path.per_cpu_s()),
            p99_ms: over(|(_, _, p99_ms)| *p99_ms),
            crypto_per_s: over(|(_, crypto, _)| crypto.per_s()),
            ratio: over(|(path, crypto, _)| path.per_s() / crypto.per_s()),
            cpu_ratio: over(|(path, crypto, _)| path.per_cpu_s() / crypto.per_cpu_s()),
        }
    }

    fn show(&self, name: &str) {
        let cells = [
            (self.per_s, "/s"),
            (self.ratio, "of crypto"),
            (self.cpu_ratio, "by CPU time"),
            (self.p99_ms, "ms p99"),
            (self.crypto_per_s, "/s crypto"),
        ];
        row(name, &cells);
    }

    fn to_json(&self) -> Value {
        json!({
            "per_s": figure(self.per_s), "per_cpu_s": figure(self.per_cpu_s), "p99_ms": figure(self.p99_ms),
            "crypto_per_s": figure(self.crypto_per_s), "ratio": figure(self.ratio), "cpu_ratio": figure(self.cpu_ratio),
        })
    }
}

/// Lineages that are renewed once in each slice, each time for a new key.
struct Renewals {
    peers: Vec<Peer>,
    issued: u64,
}

impl Renewals {
    async fn begin(running: &Running, count: usize) -> anyhow::Result<Self> {
        let first = attest(running, running.join_secrets(count, INSTANCES).await?).await?;
        Ok(Self { peers: running.peers(&first.outputs)?, issued: count as u64 })
    }

    async fn measure(
        &mut self,
        running: &Running,
        limit: &Crypto,
        in_flight: usize,
        rounds: usize,
    ) -> anyhow::Result<Measured> {
        let mut slices = Vec::new();
        for _ in 0..rounds {
            let crypto = limit.run()?;
            let (path, p99_ms) = self.renew(running, in_flight).await?;
            slices.push((path, crypto, p99_ms));
        }
        Ok(Measured::of(&slices))
    }

    /// Two keys a lineage take turns: drawing new ones takes as long as renewing.
    async fn fill(&mut self, running: &Running, stored: u64) -> anyhow::Result<u64> {
        let keys = [csrs(self.peers.len())?, csrs(self.peers.len())?];
        for csrs in keys.iter().cycle() {
            if self.issued >= stored {
                break;
            }
            self.renew_for(running, IN_FLIGHT_FILLING, csrs.clone()).await?;
        }
        Ok(self.issued)
    }

    /// Keys are drawn before the watch runs, and the answers verified after.
    async fn renew(&mut self, running: &Running, in_flight: usize) -> anyhow::Result<(Slice, f64)> {
        let csrs = csrs(self.peers.len())?;
        self.renew_for(running, in_flight, csrs).await
    }

    async fn renew_for(
        &mut self,
        running: &Running,
        in_flight: usize,
        csrs: Vec<String>,
    ) -> anyhow::Result<(Slice, f64)> {
        let requests = csrs.into_iter().map(|csr_pem| RenewRequest { csr_pem, scopes: None });
        let inputs: Vec<_> = self.peers.drain(..).zip(requests).collect();
        let issuer = running.issuer.clone();
        let renew = move |(peer, request): (Peer, RenewRequest)| {
            let issuer = issuer.clone();
            async move {
                let chain_pem = issuer.renew(&peer, request, issuer.request_id()?).await?.into_reply().issued.chain_pem;
                // A peer lives as long as its connection: it is not what renewing frees.
                Ok((chain_pem, peer))
            }
        };
        let driven = closed_loop(inputs, in_flight, renew).await?;
        self.issued += driven.outputs.len() as u64;
        let chains: Vec<String> = driven.outputs.into_iter().map(|(chain_pem, _)| chain_pem).collect();
        self.peers = running.peers(&chains)?;
        Ok((driven.slice, driven.p99_ms))
    }
}

async fn first_certificates(
    running: &Running,
    limit: &Crypto,
    count: usize,
    rounds: usize,
) -> anyhow::Result<Measured> {
    let mut slices = Vec::new();
    for _ in 0..rounds {
        let secrets = running.join_secrets(count, INSTANCES).await?;
        let crypto = limit.run()?;
        let driven = attest(running, secrets).await?;
        slices.push((driven.slice, crypto, driven.p99_ms));
    }
    Ok(Measured::of(&slices))
}

/// First certificates in process; answers their chains.
async fn attest(running: &Running, secrets: Vec<JoinSecret>) -> anyhow::Result<Driven<String>> {
    let issuer = running.issuer.clone();
    let attest = move |request| {
        let issuer = issuer.clone();
        async move { Ok(issuer.attest(request, None, issuer.request_id()?).await?.into_reply().issued.chain_pem) }
    };
    closed_loop(attest_requests(secrets)?, STANDARD, attest).await
}

/// The limit: requests parsed, proofs verified, signatures made, on all processors; nothing else.
pub(crate) struct Crypto {
    requests: Vec<Vec<u8>>,
    keys: KeyPolicy,
    pkcs8: Vec<u8>,
}

/// As long as what is signed of one of our leaves.
const TBS_LEN: usize = 800;

impl Crypto {
    fn new(count: usize) -> anyhow::Result<Self> {
        let der = |pem: &String| Ok(CertificateSigningRequestDer::from_pem_slice(pem.as_bytes())?.to_vec());
        let requests = csrs(count)?.iter().map(der).collect::<anyhow::Result<_>>()?;
        let pkcs8 = LocalSigner::generate_pkcs8(&SystemRandom::new())?.as_ref().to_vec();
        Ok(Self { requests, keys: KeyPolicy::new(CRYPTO), pkcs8 })
    }

    pub(crate) fn run(&self) -> anyhow::Result<Slice> {
        let watch = Watch::process();
        std::thread::scope(|scope| {
            let share = self.requests.len().div_ceil(processors()).max(1);
            let threads: Vec<_> =
                self.requests.chunks(share).map(|share| scope.spawn(|| self.run_share(share))).collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
        })?;
        Ok(watch.stop(self.requests.len()))
    }

    fn run_share(&self, requests: &[Vec<u8>]) -> anyhow::Result<()> {
        let signer = LocalSigner::from_pkcs8(&self.pkcs8)?;
        // A key in memory signs without waiting.
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        for request in requests {
            std::hint::black_box(inspect_csr(request, &self.keys)?);
            std::hint::black_box(runtime.block_on(signer.sign(&[0x5a; TBS_LEN]))?);
        }
        Ok(())
    }
}

/// What the disk under the database takes for one small synchronous write; the median.
fn fsync_ms(folder: &Path) -> anyhow::Result<f64> {
    use std::io::Write;
    let path = folder.join("fsync");
    let mut file = std::fs::File::create(&path)?;
    let mut took: Vec<Duration> = Vec::new();
    for _ in 0..50 {
        let begun = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        took.push(begun.elapsed());
    }
    std::fs::remove_file(&path).context("the file just written")?;
    Ok(median(took.into_iter().map(ms)))
}
