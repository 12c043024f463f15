//! OCSP answers against the signing alone.
//!
//! In process: the request's bytes in, the response's bytes out, records in a real database. An answer with a nonce is looked
//! up and signed each time; one without is kept until the next revocation.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chancery::clock::SystemClock;
use chancery::revocation::Ocsp;
use chancery_ca::AuthorityCertificate;
use chancery_ca::local::{CRYPTO, LocalSigner};
use chancery_identity::Serial;
use chancery_identity::der::{self, Reader, Writer, context_constructed};
use clap::Args;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use serde_json::{Map, Value, json};

use crate::drive::{Driven, closed_loop, in_parallel, processors};
use crate::issuer::{INSTANCES, Running, attest_requests};
use crate::report::{Watch, figure, load_average, median, report_in_folder, row};

/// Requests in flight.
const IN_FLIGHT: usize = 64;

#[derive(Args)]
pub(crate) struct Options {
    /// Certificates that are asked about.
    #[arg(long, default_value_t = 1024)]
    certificates: usize,
    /// Answers in one slice.
    #[arg(long, default_value_t = 16_384)]
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
    let &Options { certificates, slice, rounds, .. } = options;
    let load_before = load_average();
    let running = Running::open(folder).await?;
    let serials = issue(&running, certificates).await?;
    let issuing = running.issuer.authorities().issuing();
    let requests = |nonce: Option<&[u8]>| -> Vec<Vec<u8>> {
        serials.iter().cycle().take(slice).map(|serial| request(issuing.certificate(), *serial, nonce)).collect()
    };
    let (plain, with_nonce) = (requests(None), requests(Some(&[7; 32])));
    let unbounded = NonZeroU32::new(1_000_000_000).unwrap_or(NonZeroU32::MAX);
    let (store, responders) = (running.issuer.store().clone(), running.issuer.responders().clone());
    let ocsp = Arc::new(Ocsp::with_budget(store, responders, Arc::new(SystemClock), unbounded));

    let _first = answer(&ocsp, plain.clone()).await?;
    let (mut kept, mut signed, mut alone) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        kept.push(answer(&ocsp, plain.clone()).await?);
        signed.push(answer(&ocsp, with_nonce.clone()).await?);
        alone.push(sign_alone(slice)?);
    }
    running.close().await;

    let per_s = |driven: &[Driven<usize>]| median(driven.iter().map(|one| one.slice.per_s()));
    let p99 = |driven: &[Driven<usize>]| median(driven.iter().map(|one| one.p99_ms));
    let bytes = signed.first().and_then(|one| one.outputs.first()).copied().unwrap_or(0);
    let (kept_per_s, signed_per_s) = (per_s(&kept), per_s(&signed));
    let alone_per_s = median(alone);
    row("answers kept, no nonce", &[(kept_per_s, "/s"), (p99(&kept), "ms p99")]);
    row("answers signed, with nonce", &[(signed_per_s, "/s"), (p99(&signed), "ms p99")]);
    row("ECDSA P-256 alone", &[(alone_per_s, "/s"), (processors() as f64, "processors")]);
    row("a response", &[(bytes as f64, "bytes")]);
    let report = json!({
        "bench": "ocsp", "processors": processors(), "certificates": certificates, "in_flight": IN_FLIGHT,
        "kept_per_s": figure(kept_per_s), "kept_ms_p99": figure(p99(&kept)),
        "nonce_per_s": figure(signed_per_s), "nonce_ms_p99": figure(p99(&signed)),
        "ecdsa_per_s": figure(alone_per_s), "bytes": bytes, "kept_ratio": figure(kept_per_s / alone_per_s),
        "load_average_before": load_before, "load_average_after": load_average(),
        "ratio": figure(signed_per_s / alone_per_s),
    });
    match report {
        Value::Object(report) => Ok(report),
        _ => Ok(Map::new()),
    }
}

async fn issue(running: &Running, count: usize) -> anyhow::Result<Vec<Serial>> {
    let requests = attest_requests(running.join_secrets(count, INSTANCES).await?)?;
    let issuer = running.issuer.clone();
    let attest = move |request| {
        let issuer = issuer.clone();
        async move {
            let id = issuer.request_id()?;
            Ok(issuer.attest(request, None, id).await?.into_reply().issued.certificate.serial)
        }
    };
    Ok(closed_loop(requests, IN_FLIGHT, attest).await?.outputs)
}

async fn answer(ocsp: &Arc<Ocsp>, requests: Vec<Vec<u8>>) -> anyhow::Result<Driven<usize>> {
    let ocsp = ocsp.clone();
    let ask = move |request: Vec<u8>| {
        let ocsp = ocsp.clone();
        async move {
            let answer = ocsp.answer(&request).await;
            answer.map(|answer| answer.der.len()).map_err(|error| anyhow::anyhow!("no answer: {error:?}"))
        }
    };
    closed_loop(requests, IN_FLIGHT, ask).await
}

/// Signatures a second, on all processors, of a message as long as what a response signs.
fn sign_alone(count: usize) -> anyhow::Result<f64> {
    let rng = SystemRandom::new();
    let pkcs8 = LocalSigner::generate_pkcs8(&rng)?;
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &rng)
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    let watch = Watch::process();
    let sign = |&(): &()| key.sign(&rng, &[7; 220]).map_err(|_| anyhow::anyhow!("no signature"));
    in_parallel(&vec![(); count], sign)?;
    Ok(watch.stop(count).per_s())
}

/// A request as clients write it: one certificate, SHA-1.
fn request(authority: &AuthorityCertificate, serial: Serial, nonce: Option<&[u8]>) -> Vec<u8> {
    let key = key_bits(authority.spki()).unwrap_or_default();
    let mut writer = Writer::new();
    writer.nested(der::SEQUENCE, |w| {
        w.nested(der::SEQUENCE, |w| {
            w.nested(der::SEQUENCE, |w| {
                w.nested(der::SEQUENCE, |w| {
                    w.nested(der::SEQUENCE, |w| {
                        w.nested(der::SEQUENCE, |w| {
                            w.oid(&[0x2b, 14, 3, 2, 26]).value(der::NULL, &[]);
                        });
                        w.octets(&(CRYPTO.sha1)(authority.subject())).octets(&(CRYPTO.sha1)(key));
                        w.unsigned(serial.bytes());
                    });
                });
            });
            if let Some(nonce) = nonce {
                w.nested(context_constructed(2), |w| {
                    w.nested(der::SEQUENCE, |w| {
                        w.nested(der::SEQUENCE, |w| {
                            w.oid(&[0x2b, 6, 1, 5, 5, 7, 48, 1, 2]).nested(der::OCTET_STRING, |w| {
                                w.octets(nonce);
                            });
                        });
                    });
                });
            }
        });
    });
    writer.finish()
}

fn key_bits(spki: &[u8]) -> Option<&[u8]> {
    let mut spki = Reader::new(spki).nested(der::SEQUENCE).ok()?;
    spki.read_any().ok()?;
    spki.read(der::BIT_STRING).ok()?.strip_prefix(&[0])
}
