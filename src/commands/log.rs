//! `chancery log`: what was decided, and the proof that nothing else was.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use chancery_api::LogRecord;
use chancery_identity::der::{self, Reader};
use chancery_identity::{Serial, oid};
use chancery_tlog::{Audit, Finding, Logged, Report};

use super::output::Width::{Always, Wide};
use super::output::{Column, Record};
use super::{Context, Exit, Failure};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::store::{Authority, Query, Store};

const PATH: &str = "/v1/admin/log";
/// How often to look for new entries.
const FOLLOW: Duration = Duration::from_secs(1);
/// Rows read at a time.
const PAGE: u32 = 1000;
/// The database of `serve --dev`, from the folder it was started in.
const DEV_DATABASE: &str = "chancery-dev/chancery.db";

#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Show the newest entries, oldest of them first.
    #[command(after_help = "Examples:
  chancery log tail
  chancery log tail -n 200 --follow
  chancery log tail -o jsonl --from 0 -n 500")]
    Tail(Tail),
    /// Recompute the log from the database and hold it against certificates and CRLs; the issuer need not run.
    #[command(after_help = "Examples:
  chancery log verify
  chancery log verify --config /etc/chancery/chancery.toml
  chancery log verify --database sqlite:backup.db")]
    Verify(Verify),
}

impl LogCommand {
    pub(crate) async fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        match self {
            Self::Tail(tail) => tail.run(context).await,
            Self::Verify(verify) => verify.run(context).await,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// How many entries, 1 to 500.
    #[arg(short = 'n', long = "lines", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=500))]
    lines: u16,
    /// From this position on, in place of the newest.
    #[arg(long, value_name = "POSITION")]
    from: Option<u64>,
    /// Go on with what is appended.
    #[arg(short, long)]
    follow: bool,
}

impl Tail {
    async fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        let issuer = context.issuer().await?;
        let from = self.from.map_or_else(String::new, |from| format!("&from={from}"));
        let mut page = issuer.list::<LogRecord>(&format!("{PATH}?limit={}{from}", self.lines)).await?;
        if self.from.is_none() {
            page.value.data.reverse();
            if let Some(data) = page.body.get_mut("data").and_then(serde_json::Value::as_array_mut) {
                data.reverse();
            }
        }
        let mut next = self.from.unwrap_or(0);
        loop {
            context.output.list(&page.body, &page.value.data);
            next = page.value.data.last().map_or(next, |last| last.log_index + 1);
            if !self.follow {
                return Ok(Exit::Done);
            }
            while {
                page = issuer.list::<LogRecord>(&format!("{PATH}?limit=500&from={next}")).await?;
                page.value.data.is_empty()
            } {
                tokio::time::sleep(FOLLOW).await;
            }
        }
    }
}

impl Record for LogRecord {
    const COLUMNS: &'static [Column<Self>] = &[
        Column("LOG", Always, |entry| entry.log_index.to_string()),
        Column("AT", Always, |entry| of(entry, |record| record.at.to_string())),
        Column("ACTION", Always, |entry| of(entry, |record| record.decision.action().to_string())),
        Column("BY", Always, |entry| of(entry, |record| record.actor.to_string())),
        Column("ABOUT", Always, |entry| of(entry, |record| record.subjects.join(" "))),
        Column("REQUEST", Wide, |entry| {
            of(entry, |record| record.request_id.map(|id| id.to_string()).unwrap_or_default())
        }),
        Column("COMMITMENT", Wide, |entry| entry.commitment.clone()),
    ];

    fn id(&self) -> String {
        self.log_index.to_string()
    }
}

/// A field of an entry's record; `-` once the record is deleted.
fn of(entry: &LogRecord, field: impl Fn(&chancery_tlog::Record) -> String) -> String {
    let record = entry.record.as_ref().and_then(|record| chancery_tlog::Record::parse(record.as_bytes()).ok());
    record.map_or_else(|| "-".to_owned(), |record| field(&record))
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    database: Database,
}

/// Which database.
#[derive(Debug, Args)]
pub(crate) struct Database {
    /// sqlite:FILE or postgres://…; without it the configuration's, or that of `serve --dev` in this folder.
    #[arg(long, value_name = "URL")]
    pub(crate) database: Option<String>,
}

impl Database {
    pub(crate) fn url(self, context: &Context<'_>) -> Result<String, Failure> {
        if let Some(url) = self.database {
            let user = url.split_once("://").and_then(|(_, rest)| Some(rest.rsplit_once('@')?.0));
            if user.is_some_and(|user| user.contains(':')) {
                return Err(Failure::usage("a password among the arguments can be read by every user of this machine")
                    .fix("store.url in a configuration file, and --config"));
            }
            return Ok(url);
        }
        if let Some(path) = &context.global.config {
            return Ok(Config::load(path).map_err(Failure::usage)?.database_url());
        }
        if Path::new(DEV_DATABASE).exists() {
            return Ok(format!("sqlite:{DEV_DATABASE}"));
        }
        Err(Failure::usage("no database: neither --database, --config nor CHANCERY_CONFIG"))
    }
}

/// What was held against the log.
#[derive(Default)]
struct Held {
    certificates: u64,
    listed: u64,
    findings: Vec<Finding>,
}

impl Verify {
    async fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        let url = self.database.url(context)?;
        let random = Arc::new(ring::rand::SystemRandom::new());
        let store = Store::open(&url, Arc::new(SystemClock), random).await.map_err(Failure::here)?;
        let mut reports = Vec::new();
        for epoch in store.past_epochs().await.map_err(Failure::here)? {
            match past(&store, epoch).await? {
                Ok(report) => reports.push(report),
                Err(findings) => return Ok(told(context, &findings)),
            }
        }
        let tree = store.tree().await.map_err(Failure::here)?;
        let mut audit = Audit::new(crate::store::SHA256, [tree]);
        let mut size = 0;
        while size < tree.size {
            let page = store.log_from(size, PAGE).await.map_err(Failure::here)?;
            if page.is_empty() {
                break;
            }
            // What was appended since the head was read is the next run's.
            for logged in page.into_iter().take_while(|logged| logged.position < tree.size) {
                size = logged.position + 1;
                audit.append(&logged.entry.map_or(Logged::Hidden(logged.commitment), Logged::Entry));
            }
        }
        let report = match audit.finish() {
            Ok(report) => report,
            Err(findings) => return Ok(told(context, &findings)),
        };
        reports.push(report);
        let mut held = Held::default();
        hold_certificates(&store, &reports, tree.size, &mut held).await?;
        for authority in store.state().authorities() {
            hold_crl(&store, &reports, &authority, &mut held).await?;
        }
        let Some(report) = reports.last() else { return Ok(Exit::Failed) };
        if !held.findings.is_empty() {
            return Ok(told(context, &held.findings));
        }
        let words = format!(
            "the log is whole and lawful\n  entries       {}, of them {} without their records\n  root          {}\n  \
             certificates  {}, each with its entry\n  revocations   up to n {}\n  on CRLs       {} serials, each with \
             its revocation; {} CRLs published, numbers rise",
            report.entries(),
            report.hidden(),
            tree.root,
            held.certificates,
            report.newest_revocation(),
            held.listed,
            report.crls(),
        );
        let body = json!({
            "ok": true,
            "entries": report.entries(),
            "hidden": report.hidden(),
            "root": tree.root.to_string(),
            "certificates": held.certificates,
            "newest_revocation": report.newest_revocation(),
            "listed": held.listed,
            "crls": report.crls(),
        });
        context.output.result(&body, &words);
        Ok(Exit::Done)
    }
}

fn told(context: &Context<'_>, findings: &[Finding]) -> Exit {
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    let words = format!("the log does not hold, {} findings\n  {}", lines.len(), lines.join("\n  "));
    context.output.result(&json!({ "ok": false, "findings": lines }), &words);
    Exit::Failed
}

/// The log of an earlier epoch, up to where the next one says that it found it.
async fn past(store: &Store, epoch: u64) -> Result<Result<Report, Vec<Finding>>, Failure> {
    let mut frontier = chancery_tlog::Frontier::empty();
    let mut entries = Vec::new();
    loop {
        let page = store.past_log_from(epoch, frontier.size(), PAGE).await.map_err(Failure::here)?;
        if page.is_empty() {
            break;
        }
        for logged in page {
            frontier.append(crate::store::SHA256, logged.commitment.leaf_hash(crate::store::SHA256));
            entries.push(logged.entry.map_or(Logged::Hidden(logged.commitment), Logged::Entry));
        }
    }
    let found = frontier.tree(crate::store::SHA256);
    let restarted = restarted(store, epoch).await?;
    if restarted.is_some_and(|restored| restored.size != found.size || restored.root != found.root) {
        let why = "the log of an earlier epoch is not the one that the next epoch commits to";
        return Err(Failure::here(format!("epoch {epoch}: {why}")));
    }
    Ok(chancery_tlog::verify_log(crate::store::SHA256, entries, [found]))
}

/// What the epoch after this one says that it found of it.
async fn restarted(store: &Store, epoch: u64) -> Result<Option<chancery_tlog::LastHead>, Failure> {
    let later = store.past_epochs().await.map_err(Failure::here)?.into_iter().find(|later| *later > epoch);
    let first = match later {
        Some(later) => store.past_log_from(later, 0, 1).await,
        None => store.log_from(0, 1).await,
    };
    let first = first.map_err(Failure::here)?.into_iter().next().and_then(|first| first.entry);
    let record = first.and_then(|first| first.record().ok());
    Ok(record.and_then(|record| match record.decision {
        chancery_tlog::Decision::LogRestart(restart) => Some(restart.restored),
        _ => None,
    }))
}

/// Every certificate has its entry.
async fn hold_certificates(store: &Store, reports: &[Report], size: u64, held: &mut Held) -> Result<(), Failure> {
    let mut query = Query::default();
    loop {
        let page = store.certificates(&query, PAGE).await.map_err(Failure::here)?;
        let Some(last) = page.last() else { return Ok(()) };
        query.before = Some(last.key);
        for stored in page.iter().filter(|stored| reports.len() > 1 || stored.log_index < size) {
            held.certificates += 1;
            let sha256 = crate::store::SHA256.digest(&[&stored.der]);
            let serial = stored.certificate.serial;
            held.findings.extend(in_any(reports, |report| report.certificate(serial, sha256).map(drop)));
        }
    }
}

/// Every leaf that a CRL lists has its revocation.
async fn hold_crl(store: &Store, reports: &[Report], authority: &Authority, held: &mut Held) -> Result<(), Failure> {
    let Some(crl) = &authority.crl else { return Ok(()) };
    let unreadable = || Failure::here(format!("the CRL of authority {} cannot be read", authority.key_id));
    let (_, crl) = x509_parser::parse_x509_crl(crl).map_err(|_| unreadable())?;
    let state = crl.extensions().iter().find(|extension| extension.oid.as_bytes() == oid::CRL_STATE);
    // A root elsewhere knows nothing of our numbers; it lists authorities, and no leaves.
    let Some(state) = state else { return Ok(()) };
    let n = number(state.value).ok_or_else(unreadable)?;
    // Newer than what was read of the log.
    if reports.iter().all(|report| n > report.newest_revocation()) {
        return Ok(());
    }
    for revoked in crl.iter_revoked_certificates() {
        let magnitude: Vec<u8> = revoked.raw_serial().iter().copied().skip_while(|&byte| byte == 0).collect();
        let serial = Serial::from_bytes(&magnitude).ok_or_else(unreadable)?;
        // An authority's own certificate is none of the leaves.
        if let Some(stored) = store.certificate(serial).await.map_err(Failure::here)? {
            held.listed += 1;
            held.findings.extend(in_any(reports, |report| report.revocation(&stored.certificate, n).map(drop)));
        }
    }
    Ok(())
}

/// What no epoch's log answers for, as the newest says it.
fn in_any(reports: &[Report], held: impl Fn(&Report) -> Result<(), Finding>) -> Option<Finding> {
    let mut finding = None;
    for report in reports {
        match held(report) {
            Ok(()) => return None,
            Err(error) => finding = Some(error),
        }
    }
    finding
}

/// The revocation number in a CRL's `{epoch, n}`.
fn number(state: &[u8]) -> Option<u64> {
    let mut fields = Reader::new(state).nested(der::SEQUENCE).ok()?;
    fields.unsigned_64().ok()?;
    fields.unsigned_64().ok()
}
