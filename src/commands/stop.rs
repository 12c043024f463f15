//! `chancery suspend`, `retire`, `revoke`, `forbid` and `resume`: the daily verbs of stopping.

use std::time::Duration;

use clap::Args;
use http::Method;

use chancery_api::{ResumeRequest, RevocationView, RevocationsAnswer, RevocationsRequest};
use chancery_identity::{Effect, Reason, RevocationId, Scope, Target};

use super::confirm::confirm_radius;
use super::output::{Form, print};
use super::revocations::{applied, reached};
use super::views::joined;
use super::{Context, Exit, Failure};
use crate::config::parse_duration;

const PATH: &str = "/v1/admin/revocations";

/// What to stop.
#[derive(Debug, Args)]
struct Targets {
    /// agent:NAME service:NAME admin:NAME owner:NAME scope:SCOPE instance:ID lineage:ID serial:HEX authority:HEX
    /// task:AGENT/ID issued-before:TIME, a SPIFFE ID or a typed id.
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<Target>,
}

/// Why it is stopped, and how far.
#[derive(Debug, Args)]
pub(crate) struct Why {
    /// Why, in words; the log keeps it.
    #[arg(long)]
    comment: Option<String>,
    /// Why, in the words of RFC 5280.
    #[arg(long, value_parser = |text: &str| text.parse::<Reason>())]
    reason: Option<Reason>,
    /// Leave what descends from it alone.
    #[arg(long)]
    no_cascade: bool,
    #[command(flatten)]
    bounds: Bounds,
}

/// How long to wait, and how much may be stopped.
#[derive(Debug, Args)]
struct Bounds {
    /// How long to wait for every verifier to confirm, 30s at most; exit code 7 if one did not.
    #[arg(long, value_parser = wait, value_name = "TIME")]
    wait: Option<Duration>,
    /// The most certificates that may be stopped: needed where it reaches far, a service, you or the issuer.
    #[arg(long, value_name = "N")]
    confirm: Option<u64>,
}

/// The longest that an answer waits.
const WAIT_MAX: Duration = Duration::from_secs(30);

fn wait(text: &str) -> Result<Duration, String> {
    let wait = parse_duration(text)?;
    if wait > WAIT_MAX {
        return Err("30s at most; follow it with chancery revocations get ID --watch".into());
    }
    Ok(wait)
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  chancery suspend agent:invoice-bot --comment INC-2291 --wait 5s
  chancery suspend owner:team-finance --dry-run
  chancery suspend instance:01936f2a-0000-7000-8000-000000000001 --yes")]
pub(crate) struct Suspend {
    #[command(flatten)]
    targets: Targets,
    #[command(flatten)]
    why: Why,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  chancery retire agent:invoice-bot --comment 'replaced by billing-bot'")]
pub(crate) struct Retire {
    #[command(flatten)]
    targets: Targets,
    #[command(flatten)]
    why: Why,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  chancery revoke serial:5c0e91aa5c0e91aa5c0e91aa5c0e91aa --reason key_compromise
  chancery revoke issued-before:2026-11-21T02:00:00Z --comment 'build host was open'")]
pub(crate) struct Revoke {
    #[command(flatten)]
    targets: Targets,
    #[command(flatten)]
    why: Why,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  chancery forbid 'tools/call:crm/refund' --comment 'refunds are wrong since 02:00'
  chancery forbid 'tools/*:crm/**' --dry-run")]
pub(crate) struct Forbid {
    /// The scopes: action:system/object; what one covers is refused.
    #[arg(required = true, value_name = "SCOPE", value_parser = scope)]
    scopes: Vec<Scope>,
    /// Why, in words; the log keeps it.
    #[arg(long)]
    comment: Option<String>,
    #[command(flatten)]
    bounds: Bounds,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  chancery resume rv_01936f30000070008000000000000001 --comment 'false alarm'")]
pub(crate) struct ResumeId {
    /// The suspension or forbidding to end.
    id: RevocationId,
    /// Why, in words; the log keeps it.
    #[arg(long)]
    comment: Option<String>,
}

impl Suspend {
    pub(crate) async fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        stop(context, Effect::Suspend, self.targets.targets, self.why).await
    }
}

impl Retire {
    pub(crate) async fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        stop(context, Effect::Retire, self.targets.targets, self.why).await
    }
}

impl Revoke {
    pub(crate) async fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        stop(context, Effect::Revoke, self.targets.targets, self.why).await
    }
}

impl Forbid {
    pub(crate) async fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        let targets = self.scopes.into_iter().map(Target::Scope).collect();
        let why = Why { comment: self.comment, reason: None, no_cascade: false, bounds: self.bounds };
        stop(context, Effect::Forbid, targets, why).await
    }
}

/// With the prefix that targets have, or without it.
fn scope(text: &str) -> Result<Scope, String> {
    text.strip_prefix("scope:").unwrap_or(text).parse().map_err(|error| format!("{error}"))
}

/// Asks the issuer what it would mean, then the terminal, then does it.
pub(crate) async fn stop(
    context: &Context<'_>,
    effect: Effect,
    targets: Vec<Target>,
    why: Why,
) -> Result<Exit, Failure> {
    let Why { comment, reason, no_cascade, bounds: Bounds { wait, confirm } } = why;
    let mut request = RevocationsRequest {
        targets,
        effect: Some(effect),
        reason,
        comment,
        cascade: !no_cascade,
        dry_run: true,
        wait_s: 0,
    };
    let issuer = context.patient_issuer(wait.unwrap_or_default()).await?;
    let would = issuer.ask::<RevocationsAnswer>(PATH, &request).await?;
    let radius = would.value.radius.as_ref();
    let mut text = format!("would {effect}  {}", joined(&request.targets));
    if let Some(radius) = radius {
        let verb = if effect == Effect::Forbid { "would touch" } else { "would stop" };
        text.push_str(&format!("\n  {verb:13}  {}", reached(radius, &request.targets)));
    }
    text.push_str(&format!("\n  {}{}", meaning(effect), warned(&would.value.warnings)));
    if context.global.dry_run {
        context.output.result(&would.body, &text);
        return Ok(Exit::Done);
    }
    confirm_radius(context, &text, radius, confirm)?;
    request.dry_run = false;
    request.wait_s = wait.map_or(0, |wait| u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX));
    let answer = issuer.ask::<RevocationsAnswer>(PATH, &request).await?;
    let RevocationsAnswer { revocations, applied: confirmed, published, warnings, .. } = &answer.value;
    match context.output.form() {
        Form::Json | Form::Jsonl => context.output.result(&answer.body, ""),
        Form::Id => revocations.iter().for_each(|entry| print(&entry.id.to_string())),
        Form::Table | Form::Wide => {
            let crl = published.as_ref().map_or("pending", |published| &published.crl_number);
            revocations.iter().for_each(|entry| print(&format!("{}  CRL {crl}", told(done(effect), entry))));
            if let (Some(confirmed), Some(newest)) = (confirmed, revocations.iter().max_by_key(|entry| entry.n)) {
                applied(confirmed, newest).iter().for_each(|line| print(line));
            }
            for entry in revocations {
                let undo = format!("  undo        chancery resume {}", entry.id);
                let follow = format!("  follow      chancery revocations get {} --watch", entry.id);
                if entry.effect.resumable() {
                    context.output.say(&undo);
                }
                context.output.say(&follow);
            }
        }
    }
    for warning in warnings {
        context.output.say(&format!("  note        {warning}"));
    }
    let all = confirmed.as_ref().is_none_or(|applied| applied.confirmed == applied.verifiers);
    Ok(if wait.is_some() && !all { Exit::Unconfirmed } else { Exit::Done })
}

impl ResumeId {
    pub(crate) async fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        let path = format!("{PATH}/{}/resume", self.id);
        let body = ResumeRequest { comment: self.comment };
        if let Some(answer) = context.issuer().await?.change::<RevocationView>(Method::POST, &path, &body).await? {
            let entry = &answer.value;
            let resume = entry.resumed_by.as_ref();
            let (n, at, log) = resume.map_or((entry.n, entry.created_at, entry.log_index), |resume| {
                (resume.n, resume.created_at, resume.log_index)
            });
            let text = format!("resumed  {}  {}  n {n}  {at}  log {log}", entry.id, entry.target);
            context.output.record(&answer.body, entry, Some(&text));
        }
        Ok(Exit::Done)
    }
}

/// What it means for what would come.
const fn meaning(effect: Effect) -> &'static str {
    match effect {
        Effect::Suspend => "new certificates: blocked until resumed.",
        Effect::Retire => "new certificates: blocked for good.",
        Effect::Forbid => "requests: refused until resumed, whoever makes them; no certificate ends.",
        _ => "new certificates: as before.",
    }
}

const fn done(effect: Effect) -> &'static str {
    match effect {
        Effect::Suspend => "suspended",
        Effect::Retire => "retired",
        Effect::Revoke => "revoked",
        Effect::Forbid => "forbidden",
        _ => "stopped",
    }
}

fn told(what: &str, entry: &RevocationView) -> String {
    let RevocationView { id, target, n, created_at, log_index, .. } = entry;
    format!("{what}  {id}  {target}  n {n}  {created_at}  log {log_index}")
}

fn warned(warnings: &[String]) -> String {
    warnings.iter().map(|warning| format!("\n  note   {warning}")).collect()
}
