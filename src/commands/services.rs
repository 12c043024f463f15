//! `chancery services`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::{Args, Subcommand};
use http::Method;

use chancery_api::{AttestationRule, NewService, Service, ServicePatch, Subject};
use chancery_identity::{Effect, Name, Scope, ScopeSet, System, Target};

use super::agents::{given, label, lines, rule, whole_seconds};
use super::records::{Page, get, list};
use super::tokens::{JoinOptions, join};
use super::{Context, Exit, Failure, stop};
use crate::config::parse_duration;

const PATH: &str = "/v1/admin/services";

#[derive(Debug, Subcommand)]
pub(crate) enum Services {
    /// List services, newest first.
    #[command(after_help = "Examples:\n  chancery services list -o wide")]
    List(Page),
    /// Show one service.
    #[command(after_help = "Examples:\n  chancery services get crm")]
    Get {
        /// Its name.
        name: Name,
    },
    /// Register a service.
    #[command(after_help = "Examples:
  chancery services create crm --owner team-crm --system crm --dns crm.internal --join")]
    Create(Box<Create>),
    /// Change a service. It takes effect at once: the running one renews.
    #[command(after_help = "Examples:\n  chancery services update crm --dns crm.internal --dns crm2.internal")]
    Update(Box<Update>),
    /// End a service for good.
    #[command(after_help = "Examples:\n  chancery services retire crm --comment 'moved to crm2'")]
    Retire {
        /// Its name.
        name: Name,
        #[command(flatten)]
        why: stop::Why,
    },
}

/// What creating and changing a service have in common.
#[derive(Debug, Args)]
struct Fields {
    /// A system it answers for, and nobody else; repeat for more.
    #[arg(long = "system", value_name = "SYSTEM")]
    systems: Vec<System>,
    /// A DNS name of it; repeat for more.
    #[arg(long, value_name = "NAME")]
    dns: Vec<String>,
    /// A scope it holds itself at other services; repeat for more.
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<Scope>,
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
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Its name: a-z, 0-9, '.' and '-'; never reused.
    name: Name,
    /// The accountable party. Others see it, so no personal name.
    #[arg(long)]
    owner: Name,
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
    #[command(flatten)]
    fields: Fields,
}

impl Services {
    pub(crate) async fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        match self {
            Self::List(page) => list::<Service>(context, PATH, &page, &[]).await,
            Self::Get { name } => get::<Service>(context, &format!("{PATH}/{name}")).await,
            Self::Create(create) => create.run(context).await,
            Self::Update(update) => update.run(context).await,
            Self::Retire { name, why } => stop::stop(context, Effect::Retire, vec![Target::Service(name)], why).await,
        }
    }
}

impl Create {
    async fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        let Self { name, owner, fields, join: options } = self;
        let body = NewService {
            name: name.clone(),
            owner,
            description: fields.description,
            labels: given(fields.labels).map(BTreeMap::from_iter),
            systems: BTreeSet::from_iter(fields.systems),
            dns: BTreeSet::from_iter(fields.dns),
            scopes: ScopeSet::new(fields.scopes).map_err(Failure::usage)?,
            attestation: given(fields.attestation),
            ttl_s: fields.ttl.map(whole_seconds).transpose()?,
        };
        let issuer = context.issuer().await?;
        let Some(service) = issuer.change::<Service>(Method::POST, PATH, &body).await? else { return Ok(Exit::Done) };
        context.output.record(&service.body, &service.value, Some(&describe(&service.value)));
        let start = format!("./{name}");
        join(context, &issuer, Subject::Service(name), &options, &start).await
    }
}

impl Update {
    async fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        let Self { name, owner, add_scopes, remove_scopes, fields } = self;
        let patch = ServicePatch {
            owner,
            description: fields.description,
            labels: given(fields.labels).map(BTreeMap::from_iter),
            systems: given(fields.systems).map(BTreeSet::from_iter),
            dns: given(fields.dns).map(BTreeSet::from_iter),
            scopes: given(fields.scopes).map(ScopeSet::new).transpose().map_err(Failure::usage)?,
            add_scopes: BTreeSet::from_iter(add_scopes),
            remove_scopes: BTreeSet::from_iter(remove_scopes),
            attestation: given(fields.attestation),
            ttl_s: fields.ttl.map(whole_seconds).transpose()?,
        };
        if patch == ServicePatch::default() {
            return Err(Failure::usage("nothing to change was named").fix("for example --dns crm.internal"));
        }
        let path = format!("{PATH}/{name}");
        if let Some(service) = context.issuer().await?.change::<Service>(Method::PATCH, &path, &patch).await? {
            context.output.record(&service.body, &service.value, Some(&describe(&service.value)));
        }
        Ok(Exit::Done)
    }
}

fn describe(service: &Service) -> String {
    let Service { name, state, revision, log_index, .. } = service;
    let mut text = format!("service {name}  {}  revision {revision}  log {log_index}", state.as_str());
    lines(&mut text, "systems", &service.systems, "none");
    lines(&mut text, "dns", &service.dns, "none");
    if !service.scopes.is_empty() {
        lines(&mut text, "holds", service.scopes.iter(), "nothing");
    }
    text
}
