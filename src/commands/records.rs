//! Records that are listed and read: the part that all nouns have in common, and the nouns that have no other.

use clap::{Args, Subcommand};

use chancery_api::client::with_query;
use chancery_api::{CertificateView, Instance, RevocationView, SystemEntry, Whoami};
use chancery_identity::{Name, RevocationId, Scope, Serial, System, Target, Timestamp};

use super::output::Record;
use super::views::joined;
use super::watch::Watch;
use super::{Context, Exit, Failure, revocations};

/// Which page of a list.
#[derive(Debug, Args)]
pub(crate) struct Page {
    /// The most records of one page, 1 to 500.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=500), value_name = "N")]
    limit: u16,
    /// Where the page before ended.
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

/// Lists records: a page, and on stderr how to get the next.
pub(crate) async fn list<T: Record>(
    context: &Context<'_>,
    path: &str,
    page: &Page,
    filters: &[(&str, Option<String>)],
) -> Result<Exit, Failure> {
    let limit = page.limit.to_string();
    let filters = filters.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?)));
    let cursor = page.cursor.as_deref().map(|cursor| ("cursor", cursor));
    let path = with_query(path, filters.chain([("limit", limit.as_str())]).chain(cursor));
    let answer = context.issuer().await?.list::<T>(&path).await?;
    context.output.list(&answer.body, &answer.value.data);
    if let Some(cursor) = &answer.value.next_cursor {
        context.output.say(&format!("more: --cursor {cursor}"));
    }
    Ok(Exit::Done)
}

/// Reads one record.
pub(crate) async fn get<T: Record>(context: &Context<'_>, path: &str) -> Result<Exit, Failure> {
    let answer = context.issuer().await?.get::<T>(path).await?;
    context.output.record(&answer.body, &answer.value, None);
    Ok(Exit::Done)
}

/// Who the caller is.
pub(crate) async fn whoami(context: &Context<'_>) -> Result<Exit, Failure> {
    let answer = context.issuer().await?.get::<Whoami>("/v1/whoami").await?;
    let whoami = &answer.value;
    let mut text = whoami.caller.to_string();
    if let Some(id) = &whoami.spiffe_id {
        text.push_str(&format!("\n  certificate  {id}"));
    }
    if let Some(not_after) = whoami.not_after {
        text.push_str(&format!("\n  until        {}", not_after.to_seconds_text()));
    }
    if !whoami.access.is_empty() {
        text.push_str(&format!("\n  access       {}", joined(&whoami.access)));
    }
    if !whoami.scopes.is_empty() {
        text.push_str(&format!("\n  holds        {}", joined(whoami.scopes.iter())));
    }
    context.output.result(&answer.body, &text);
    Ok(Exit::Done)
}

#[derive(Debug, Subcommand)]
pub(crate) enum Systems {
    /// List systems and the services that answer for them.
    #[command(after_help = "Examples:\n  chancery systems list")]
    List(Page),
    /// Show one system.
    #[command(after_help = "Examples:\n  chancery systems get crm")]
    Get {
        /// The system.
        name: System,
    },
}

impl Systems {
    pub(crate) async fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        match self {
            Self::List(page) => list::<SystemEntry>(context, "/v1/admin/systems", &page, &[]).await,
            Self::Get { name } => get::<SystemEntry>(context, &format!("/v1/admin/systems/{name}")).await,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Instances {
    /// List instances, newest first.
    #[command(after_help = "Examples:\n  chancery instances list --agent invoice-bot")]
    List {
        /// Only those of this agent.
        #[arg(long)]
        agent: Option<Name>,
        #[command(flatten)]
        page: Page,
    },
    /// Show one instance.
    #[command(after_help = "Examples:\n  chancery instances get 01936f2a-0000-7000-8000-000000000001")]
    Get {
        /// The last segment of its SPIFFE ID.
        id: chancery_identity::Instance,
    },
}

impl Instances {
    pub(crate) async fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        match self {
            Self::List { agent, page } => {
                let filters = [("agent", agent.map(|name| name.to_string()))];
                list::<Instance>(context, "/v1/admin/instances", &page, &filters).await
            }
            Self::Get { id } => get::<Instance>(context, &format!("/v1/admin/instances/{id}")).await,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Certificates {
    /// List certificates, newest first.
    #[command(after_help = "Examples:
  chancery certificates list --agent invoice-bot --state valid
  chancery certificates list --scope tools/call:crm/refund -o wide")]
    List(Box<CertificateFilters>),
    /// Show one certificate.
    #[command(after_help = "Examples:\n  chancery certificates get 5c0e91aa5c0e91aa5c0e91aa5c0e91aa")]
    Get {
        /// Its serial; colons and upper case are fine.
        serial: Serial,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CertificateFilters {
    /// Only those of this agent.
    #[arg(long)]
    agent: Option<Name>,
    /// Only those of this service.
    #[arg(long)]
    service: Option<Name>,
    /// Only those of this administrator.
    #[arg(long)]
    admin: Option<Name>,
    /// Only those of this owner.
    #[arg(long)]
    owner: Option<Name>,
    /// Only those of this instance.
    #[arg(long)]
    instance: Option<chancery_identity::Instance>,
    /// Only those that could exercise the scope, or part of it.
    #[arg(long)]
    scope: Option<Scope>,
    /// Only those that stand so.
    #[arg(long, value_parser = ["valid", "expired", "revoked", "held"])]
    state: Option<String>,
    /// Only those whose time this was in.
    #[arg(long, value_name = "TIME")]
    valid_at: Option<Timestamp>,
    /// Only those issued after this.
    #[arg(long, value_name = "TIME")]
    issued_after: Option<Timestamp>,
    #[command(flatten)]
    page: Page,
}

impl Certificates {
    pub(crate) async fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        match self {
            Self::List(filters) => {
                let CertificateFilters {
                    agent,
                    service,
                    admin,
                    owner,
                    instance,
                    scope,
                    state,
                    valid_at,
                    issued_after,
                    page,
                } = *filters;
                let filters = [
                    ("agent", agent.map(|name| name.to_string())),
                    ("service", service.map(|name| name.to_string())),
                    ("admin", admin.map(|name| name.to_string())),
                    ("owner", owner.map(|name| name.to_string())),
                    ("instance", instance.map(|id| id.to_string())),
                    ("scope", scope.map(|scope| scope.to_string())),
                    ("state", state),
                    ("valid_at", valid_at.map(|at| at.to_string())),
                    ("issued_after", issued_after.map(|at| at.to_string())),
                ];
                list::<CertificateView>(context, "/v1/admin/certificates", &page, &filters).await
            }
            Self::Get { serial } => get::<CertificateView>(context, &format!("/v1/admin/certificates/{serial}")).await,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Revocations {
    /// List revocations, newest first.
    #[command(after_help = "Examples:
  chancery revocations list --state in_force
  chancery revocations list --target agent:invoice-bot")]
    List {
        /// Only those that name exactly this.
        #[arg(long)]
        target: Option<Target>,
        /// Only those that stand so.
        #[arg(long, value_parser = ["in_force", "resumed"])]
        state: Option<String>,
        #[command(flatten)]
        page: Page,
    },
    /// Show one revocation, and who confirmed it.
    #[command(after_help = "Examples:
  chancery revocations get rv_01936f30000070008000000000000001
  chancery revocations get rv_01936f30000070008000000000000001 --watch")]
    Get {
        /// Its id.
        id: RevocationId,
        /// Follow it until every verifier confirmed it.
        #[arg(long)]
        watch: bool,
    },
    Watch(Box<Watch>),
}

impl Revocations {
    pub(crate) async fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        match self {
            Self::List { target, state, page } => {
                let filters = [("target", target.map(|target| target.to_string())), ("state", state)];
                list::<RevocationView>(context, "/v1/admin/revocations", &page, &filters).await
            }
            Self::Get { id, watch } => revocations::get(context, id, watch).await,
            Self::Watch(watch) => watch.run(context).await,
        }
    }
}
