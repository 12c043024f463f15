//! `chancery demo`: the whole of it on real sockets, told step by step.

mod service;
mod story;

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde::Serialize;

use super::{Context, Exit, Failure};

/// Attest, issue, call, refuse, revoke: the whole of it on this machine, told step by step.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  chancery demo
  chancery demo --json
  chancery demo --folder ./demo")]
pub(super) struct Demo {
    /// Where certificates and database stay; a new temporary folder if absent.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

impl Demo {
    pub(super) async fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        let folder =
            self.folder.unwrap_or_else(|| std::env::temp_dir().join(format!("chancery-demo-{}", std::process::id())));
        std::fs::create_dir_all(&folder).map_err(|error| Failure::here(format!("{}: {error}", folder.display())))?;
        let folder = folder.canonicalize().unwrap_or(folder);
        let mut told = Told { steps: Vec::new(), begun: Instant::now() };
        let outcome = Box::pin(story::tell(&folder, &mut told)).await;
        if let Err(error) = &outcome {
            let name = told.steps.last().map_or("start", |step| step.name);
            eprintln!("\nnot as told, after step {name:?}: {error}");
        }
        let found = outcome.as_ref().ok();
        let report = Report {
            ok: outcome.is_ok(),
            folder: folder.display().to_string(),
            spiffe_id: found.map(|found| found.spiffe_id.clone()),
            serial: found.map(|found| found.serial.clone()),
            scopes: found.map(|found| found.scopes.clone()).unwrap_or_default(),
            revoke_to_refusal_ms: found.map(|found| found.revoke_to_refusal_ms),
            log_entries: found.map(|found| found.log_entries),
            steps: told.steps,
        };
        if context.global.json {
            let line = serde_json::to_string(&report).map_err(Failure::here)?;
            println!("{line}");
        }
        Ok(if report.ok { Exit::Done } else { Exit::Failed })
    }
}

/// The last line with `--json`.
#[derive(Serialize)]
struct Report {
    ok: bool,
    folder: String,
    steps: Vec<Step>,
    spiffe_id: Option<String>,
    serial: Option<String>,
    scopes: Vec<String>,
    revoke_to_refusal_ms: Option<f64>,
    log_entries: Option<u64>,
}

#[derive(Serialize)]
struct Step {
    name: &'static str,
    ok: bool,
    ms: f64,
}

/// What has been told so far.
struct Told {
    steps: Vec<Step>,
    begun: Instant,
}

impl Told {
    /// Begins a step: a heading, and the time.
    fn begin(&mut self, name: &'static str, heading: &str) {
        eprintln!("\n{}. {heading}", self.steps.len() + 1);
        self.steps.push(Step { name, ok: false, ms: 0.0 });
        self.begun = Instant::now();
    }

    /// The step went as told.
    fn done(&mut self) {
        let ms = milliseconds(self.begun);
        if let Some(step) = self.steps.last_mut() {
            step.ok = true;
            step.ms = ms;
        }
    }

    /// A line of the present step.
    fn say(&self, line: &str) {
        eprintln!("   {line}");
    }
}

fn milliseconds(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 1_000_000.0).round() / 1000.0
}
