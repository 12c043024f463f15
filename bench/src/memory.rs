//! What the issuer's process keeps in memory: with nothing registered, and with many agents.
//!
//! Resident memory as the kernel counts it, once the issuer answers; and the most it ever was.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use crate::http::Server;
use crate::issuer::Running;
use crate::report::{figure, load_average, report_in_folder, row};

/// What design asks for, with nothing registered.
const LIMIT_IDLE_MB: f64 = 50.0;
/// And with 100,000 agents.
const LIMIT_MB: f64 = 200.0;

#[derive(Args)]
pub(crate) struct Options {
    /// How many agents are registered.
    #[arg(long, default_value_t = 100_000)]
    agents: usize,
    /// Where the database stands while this runs; a folder of its own there, removed after.
    #[arg(long, default_value = ".")]
    folder: PathBuf,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    report_in_folder(&options.folder, |folder| async move { measure(options.agents, &folder).await })
}

async fn measure(agents: usize, folder: &Path) -> anyhow::Result<Value> {
    let load_before = load_average();
    let idle = memory(folder).await?;
    row("issuer, nothing registered", &[(idle.now, "MB"), (idle.peak, "MB at most"), (LIMIT_IDLE_MB, "MB limit")]);
    let running = Running::open(folder).await?;
    running.agents(agents).await?;
    running.close().await;
    let full = memory(folder).await?;
    let name = format!("issuer, {agents} agents");
    row(&name, &[(full.now, "MB"), (full.peak, "MB at most"), (LIMIT_MB, "MB limit")]);
    Ok(json!({
        "bench": "memory", "agents": agents, "idle_mb": figure(idle.now), "idle_peak_mb": figure(idle.peak),
        "agents_mb": figure(full.now), "agents_peak_mb": figure(full.peak),
        "load_average_before": load_before, "load_average_after": load_average(),
        "ratio": figure((LIMIT_IDLE_MB / idle.now).min(LIMIT_MB / full.now)),
    }))
}

/// Megabytes, of 2^20 bytes.
pub(crate) struct Memory {
    pub(crate) now: f64,
    pub(crate) peak: f64,
}

async fn memory(folder: &Path) -> anyhow::Result<Memory> {
    let server = Server::start(folder).await?;
    let memory = server.memory()?;
    server.stop().await?;
    Ok(memory)
}
