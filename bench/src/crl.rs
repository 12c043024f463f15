//! A CRL built and signed.

use chancery_ca::{CrlEntry, CrlHead, CrlNumber, CrlPlan};
use chancery_identity::Reason;
use chancery_testkit::TestCa;
use chancery_verifier::{Clock, SystemClock};
use clap::Args;
use serde_json::json;

use crate::handshake::serials;
use crate::report::{Watch, figure, load_average, median, row};

#[derive(Args)]
pub(crate) struct Options {
    /// How many entries it has.
    #[arg(long, default_value_t = 1_000_000)]
    entries: usize,
    /// How often; figures are medians.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let load_before = load_average();
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let now = SystemClock.now();
    let ca = TestCa::at("example.org", now.wall);
    let mut serials = serials(now, options.entries)?;
    serials.sort_unstable();
    let (mut slices, mut len) = (Vec::new(), 0);
    for _ in 0..options.rounds {
        let head = CrlHead {
            number: CrlNumber::after(None, now.wall),
            this_update: now.wall,
            next_update: now.wall + std::time::Duration::from_secs(3600),
            epoch: 1,
            n: 0,
        };
        let reason = Reason::KeyCompromise;
        let entries = serials.iter().map(|&serial| CrlEntry { serial, revoked_at: now.wall, reason });
        let watch = Watch::thread();
        let plan = CrlPlan::new(ca.authority().certificate(), head, entries)?;
        let signed = runtime.block_on(ca.authority().sign_crl(plan))?;
        slices.push(watch.stop(1));
        len = signed.der().len();
    }
    let wall = median(slices.iter().map(|slice| 1.0 / slice.per_s()));
    let cpu = median(slices.iter().map(|slice| 1.0 / slice.per_cpu_s()));
    row(&format!("CRL of {} entries", options.entries), &[(wall, "s"), (cpu, "CPU s"), (len as f64, "bytes")]);
    let report = json!({
        "bench": "crl", "entries": options.entries, "bytes": len, "seconds": figure(wall), "cpu_seconds": figure(cpu),
        "load_average_before": load_before, "load_average_after": load_average(),
        // The limit is one second.
        "ratio": figure(1.0 / wall),
    });
    println!("{report}");
    Ok(())
}
