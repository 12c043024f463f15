//! From the start of an agent's process to its first certificate, the issuer running.
//!
//! The child links what agents link: it reads its join string, makes a key and keeps it, checks the root pin, attests, and
//! prints its SPIFFE ID. The issuer is the whole service on its sockets. Beside it the same child that prints at once: what
//! the system takes to start a process at all.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use chancery::authority::Seal;
use chancery::clock::SystemClock;
use chancery::config::{Config, SealSource};
use chancery::server::Server;
use chancery_agent::Identity;
use clap::Args;
use ring::rand::SystemRandom;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::issuer::join_token;
use crate::report::{figure, load_average, median, ms, quantile, report_in_folder, row};

/// What design asks for.
const LIMIT_MS: f64 = 50.0;

#[derive(Args)]
pub(crate) struct Options {
    /// How many processes, one after the other; figures are medians over them.
    #[arg(long, default_value_t = 41)]
    rounds: usize,
    /// Where issuer and agents keep their state while this runs; a folder of its own there, removed after.
    #[arg(long, default_value = ".")]
    folder: PathBuf,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    report_in_folder(&options.folder, |folder| async move { measure(options, &folder).await })
}

async fn measure(options: &Options, folder: &Path) -> anyhow::Result<Value> {
    let load_before = load_average();
    let anywhere = ([127, 0, 0, 1], 0).into();
    let config = Config::dev(folder.join("issuer"), anywhere, anywhere)?;
    std::fs::create_dir_all(&config.data_dir)?;
    if let SealSource::File(path) = &config.seal {
        Seal::create(path, &SystemRandom::new())?;
    }
    let server = Server::start(config, Arc::new(SystemClock)).await?;
    let (mut bare, mut whole) = (Vec::new(), Vec::new());
    for round in 0..options.rounds {
        let join = join_token(server.issuer(), 1).await?.join.to_string();
        let mut command = Command::new(std::env::current_exe()?);
        bare.push(first_line(command.arg("start-child").arg("--bare")).await?);
        let mut command = Command::new(std::env::current_exe()?);
        let state = folder.join(format!("agent-{round}"));
        command.arg("start-child").env("CHANCERY_JOIN", join).env("CHANCERY_STATE_DIR", state);
        whole.push(first_line(&mut command).await?);
    }
    server.stop().await;
    let (p50, p99) = (median(whole.iter().copied()), quantile(whole.iter().copied(), 0.99));
    let bare = median(bare);
    row("a process that prints a line", &[(bare, "ms")]);
    row("process start to certificate", &[(p50, "ms"), (p99, "ms p99"), (LIMIT_MS, "ms limit")]);
    Ok(json!({
        "bench": "start", "ms": figure(p50), "p99_ms": figure(p99), "bare_ms": figure(bare), "rounds": options.rounds,
        "load_average_before": load_before, "load_average_after": load_average(), "ratio": figure(LIMIT_MS / p50),
    }))
}

/// Milliseconds from before the process is there to its first line.
async fn first_line(command: &mut Command) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn()?;
    let stdout = child.stdout.take().context("a pipe was asked for")?;
    BufReader::new(stdout).lines().next_line().await?.context("the child ended without a line")?;
    let took = ms(begun.elapsed());
    child.wait().await?;
    Ok(took)
}

/// `start-child`: prints who it is as soon as it has a certificate, or at once.
pub(crate) fn child(bare: bool) -> anyhow::Result<()> {
    if bare {
        println!("here");
        return Ok(());
    }
    tokio::runtime::Runtime::new()?.block_on(async {
        println!("{}", Identity::from_env().await?.spiffe_id());
        Ok(())
    })
}
