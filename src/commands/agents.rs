//! `chancery agents`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::{Args, Subcommand};
use http::Method;

use chancery_api::{Agent, AgentPatch, AttestationRule, NewAgent, Subject};
use chancery_identity::{Effect, Name, Pattern, PatternSet, Scope, ScopeSet, Target};

use super::records::{Page, get, list};
use super::tokens::{JoinOptions, join};
use super::{Context, Exit, Failure, stop};
use crate::config::parse_duration;

const PATH: &str = "/v1/admin/agents";

#[derive(Debug, Subcommand)]
pub(crate) enum Agents {
    /// List agents, newest first.
    #[command(after_help = "Examples:\n  chancery agents list\n  chancery agents list -o id")]
    List(Page),
    /// Show one agent.
    #[command(after_help = "Examples:\n  chancery agents get invoice-bot --json")]
    Get {
        /// Its name.
        name: Name,
    },
    /// Register an agent.
    #[command(after_help = "Examples:
  chancery agents create invoice-bot --owner team-finance --scope tools/call:crm/get_customer --join
  chancery agents create build-bot --owner team-ci --attest x509pop:ca:9c41 --ttl 30m --max-instances 20")]
    Create(Box<Create>),
    /// Change an agent. It takes effect at once: running instances renew.
    #[command(after_help = "Examples:
  chancery agents update invoice-bot --add-scope tools/call:crm/refund
  chancery agents update invoice-bot --add-ceiling 'tools/call:crm/*'")]
    Update(Box<Update>),
    /// End an agent for good.
    #[command(after_help = "Examples:\n  chancery agents retire invoice-bot --comment 'replaced by billing-bot'")]
    Retire {
        /// Its name.
        name: Name,
        #[command(flatten)]
        why: stop::Why,
    },
}

/// What creating and changing an agent have in common.
#[derive(Debug, Args)]
struct Fields {
    /// What it is for, in words.
    #[arg(long)]
    description: Option<String>,
    /// A key and value of your own; repeat for more.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// A way to be attested: join_token, or selectors that must all be shown, by commas; repeat for other ways.
    #[arg(long = "attest", value_name = "RULE", value_parser = rule)]
    attestation: Vec<AttestationRule>,
    /// The longest a certificate of it lives.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    ttl: Option<Duration>,
    /// The most instances at a time.
    #[arg(long, value_name = "N")]
    max_instances: Option<u32>,
    /// Let all instances share one SPIFFE ID.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    shared: Option<bool>,
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Its name: a-z, 0-9, '.' and '-'; never reused.
    name: Name,
    /// The accountable party. Others see it, so no personal name.
    #[arg(long)]
    owner: Name,
    /// A scope that stands in every certificate; repeat for more.
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<Scope>,
    /// What may ever be granted; repeat for more. Without it: what it holds.
    #[arg(long = "ceiling", value_name = "PATTERN")]
    ceiling: Vec<Pattern>,
    #[command(flatten)]
    fields: Fields,
    #[command(flatten)]
    join: JoinOptions,
}

#[derive(Debug, Args)]
pub(crate) struct Update {
    /// Its name.
    name: Name,
    /// The accountable party.
    #[arg(long)]
    owner: Option<Name>,
    /// A scope it gains; repeat for more.
    #[arg(long = "add-scope", value_name = "SCOPE")]
    add_scopes: Vec<Scope>,
    /// A scope it loses; repeat for more.
    #[arg(long = "remove-scope", value_name = "SCOPE")]
    remove_scopes: Vec<Scope>,
    /// All scopes; repeat for more.
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<Scope>,
    /// A pattern the ceiling gains; repeat for more.
    #[arg(long, value_name = "PATTERN")]
    add_ceiling: Vec<Pattern>,
    /// A pattern the ceiling loses; repeat for more.
    #[arg(long, value_name = "PATTERN")]
    remove_ceiling: Vec<Pattern>,
    /// The whole ceiling; repeat for more.
    #[arg(long, value_name = "PATTERN")]
    ceiling: Vec<Pattern>,
    /// No ceiling: what it holds.
    #[arg(long, conflicts_with_all = ["ceiling", "add_ceiling", "remove_ceiling"])]
    no_ceiling: bool,
    #[command(flatten)]
    fields: Fields,
}

impl Agents {
    pub(crate) async fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        match self {
            Self::List(page) => list::<Agent>(context, PATH, &page, &[]).await,
            Self::Get { name } => get::<Agent>(context, &format!("{PATH}/{name}")).await,
            Self::Create(create) => create.run(context).await,
            Self::Update(update) => update.run(context).await,
            Self::Retire { name, why } => stop::stop(context, Effect::Retire, vec![Target::Agent(name)], why).await,
        }
    }
}

impl Create {
    async fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        let Self { name, owner, scopes, ceiling, fields, join: options } = self;
        let body = NewAgent {
            name: name.clone(),
            owner,
            description: fields.description,
            labels: given(fields.labels).map(BTreeMap::from_iter),
            scopes: ScopeSet::new(scopes).map_err(Failure::usage)?,
            ceiling: given(ceiling).map(PatternSet::new).transpose().map_err(Failure::usage)?,
            roles: None,
            attestation: given(fields.attestation),
            ttl_s: fields.ttl.map(whole_seconds).transpose()?,
            max_instances: fields.max_instances,
            dns: None,
            shared: fields.shared,
        };
        let issuer = context.issuer().await?;
        let Some(agent) = issuer.change::<Agent>(Method::POST, PATH, &body).await? else { return Ok(Exit::Done) };
        context.output.record(&agent.body, &agent.value, Some(&describe(&agent.value)));
        join(context, &issuer, Subject::Agent(name), &options, "chancery run -- python bot.py").await
    }
}

impl Update {
    async fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        let Self { name, owner, add_scopes, remove_scopes, scopes, .. } = self;
        let ceiling = given(self.ceiling).map(PatternSet::new).transpose().map_err(Failure::usage)?;
        let patch = AgentPatch {
            owner,
            description: self.fields.description,
            labels: given(self.fields.labels).map(BTreeMap::from_iter),
            scopes: given(scopes).map(ScopeSet::new).transpose().map_err(Failure::usage)?,
            add_scopes: BTreeSet::from_iter(add_scopes),
            remove_scopes: BTreeSet::from_iter(remove_scopes),
            ceiling: if self.no_ceiling { Some(None) } else { ceiling.map(Some) },
            add_ceiling: BTreeSet::from_iter(self.add_ceiling),
            remove_ceiling: BTreeSet::from_iter(self.remove_ceiling),
            roles: None,
            attestation: given(self.fields.attestation),
            ttl_s: self.fields.ttl.map(whole_seconds).transpose()?,
            max_instances: self.fields.max_instances,
            shared: self.fields.shared,
        };
        if patch == AgentPatch::default() {
            return Err(
                Failure::usage("nothing to change was named").fix("for example --add-scope tools/call:crm/refund")
            );
        }
        let path = format!("{PATH}/{name}");
        if let Some(agent) = context.issuer().await?.change::<Agent>(Method::PATCH, &path, &patch).await? {
            context.output.record(&agent.body, &agent.value, Some(&describe(&agent.value)));
        }
        Ok(Exit::Done)
    }
}

fn describe(agent: &Agent) -> String {
    let Agent { name, state, revision, log_index, .. } = agent;
    let mut text = format!("agent {name}  {}  revision {revision}  log {log_index}", state.as_str());
    lines(&mut text, "holds", agent.scopes.iter(), "nothing");
    match &agent.ceiling {
        Some(ceiling) => lines(&mut text, "ceiling", ceiling.iter(), "nothing"),
        None => text.push_str("\n  ceiling  follows what it holds"),
    }
    text
}

/// A label and its values, one a line.
pub(super) fn lines<T: std::fmt::Display>(
    text: &mut String,
    label: &str,
    values: impl IntoIterator<Item = T>,
    none: &str,
) {
    let mut label = label;
    for value in values {
        text.push_str(&format!("\n  {label:7}  {value}"));
        label = "";
    }
    if !label.is_empty() {
        text.push_str(&format!("\n  {label:7}  {none}"));
    }
}

/// What was given at least once.
pub(super) fn given<T>(values: Vec<T>) -> Option<Vec<T>> {
    (!values.is_empty()).then_some(values)
}

pub(super) fn whole_seconds(duration: Duration) -> Result<u32, Failure> {
    u32::try_from(duration.as_secs()).map_err(|_| Failure::usage("a time of more than 136 years"))
}

pub(super) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err(format!("wanted KEY=VALUE, got {text:?}")),
    }
}

/// `join_token`, `x509pop`, or selectors of one method: `x509pop:ca:9c41,x509pop:san:host-1`.
pub(super) fn rule(text: &str) -> Result<AttestationRule, String> {
    let method = text.split([':', ',']).next().unwrap_or_default();
    let selectors: Vec<&str> = if text == method { Vec::new() } else { text.split(',').collect() };
    if let Some(other) = selectors.iter().find(|selector| selector.split(':').next() != Some(method)) {
        return Err(format!("{other:?} is no selector of {method}; repeat --attest for another way"));
    }
    serde_json::from_value(serde_json::json!({ "method": method, "selectors": selectors }))
        .map_err(|error| format!("{error}; wanted join_token, or selectors like x509pop:ca:9c41"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_a_method_or_selectors_of_one() {
        assert_eq!(rule("join_token"), Ok(AttestationRule::JOIN_TOKEN));
        let rule_of_two = rule("x509pop:ca:9c41,x509pop:san:host-1").unwrap();
        assert_eq!(rule_of_two.selectors.len(), 2);
        for wrong in ["", "password", "x509pop:", "x509pop:ca:9c41,oidc:sub:a", "join_token,x509pop:ca:1"] {
            assert!(rule(wrong).is_err(), "{wrong}");
        }
    }
}
