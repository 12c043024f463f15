//! `chancery suspend`, `retire`, `revoke`, `forbid` and `resume`: the daily verbs of stopping.

use clap::Args;
use http::Method;

use chancery_api::{ResumeRequest, RevocationView, RevocationsAnswer, RevocationsRequest};
use chancery_identity::{Effect, Reason, RevocationId, Scope, Target};

use super::confirm::confirm;
use super::output::{Form, print};
use super::views::joined;
use super::{Context, Exit, Failure};

const PATH: &str = "/v1/admin/revocations";

/// What to stop.
#[derive(Debug, Args)]
struct Targets {
    /// agent:NAME service:NAME admin:NAME owner:NAME instance:ID lineage:ID serial:HEX authority:HEX
    /// issued-before:TIME, a SPIFFE ID or a typed id.
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
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  chancery suspend agent:invoice-bot --comment INC-2291
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
        let why = Why { comment: self.comment, reason: None, no_cascade: false };
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
    let Why { comment, reason, no_cascade } = why;
    let mut request =
        RevocationsRequest { targets, effect: Some(effect), reason, comment, cascade: !no_cascade, dry_run: true };
    let issuer = context.issuer().await?;
    let named = joined(&request.targets);
    if context.global.dry_run || !context.global.yes {
        let would = issuer.ask::<RevocationsAnswer>(PATH, &request).await?;
        if context.global.dry_run {
            context.output.result(&would.body, &format!("would {effect}  {named}{}", warned(&would.value.warnings)));
            return Ok(Exit::Done);
        }
        confirm(context, &format!("would {effect}  {named}{}", warned(&would.value.warnings)))?;
    }
    request.dry_run = false;
    let answer = issuer.ask::<RevocationsAnswer>(PATH, &request).await?;
    match context.output.form() {
        Form::Json | Form::Jsonl => context.output.result(&answer.body, ""),
        Form::Id => answer.value.revocations.iter().for_each(|entry| print(&entry.id.to_string())),
        Form::Table | Form::Wide => {
            for entry in &answer.value.revocations {
                let crl = answer.value.published.as_ref().map_or("pending", |published| &published.crl_number);
                print(&format!("{}  CRL {crl}", told(done(effect), entry)));
            }
            for entry in answer.value.revocations.iter().filter(|entry| entry.effect.resumable()) {
                context.output.say(&format!("  undo   chancery resume {}", entry.id));
            }
        }
    }
    for warning in &answer.value.warnings {
        context.output.say(&format!("  note   {warning}"));
    }
    Ok(Exit::Done)
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
