//! `chancery join-tokens` and `chancery api-tokens`.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::{Args, Subcommand};
use http::Method;

use chancery_api::{
    Access, ApiToken, ApiTokenCreated, JoinToken, JoinTokenCreated, NewApiToken, NewJoinToken, Subject,
};
use chancery_identity::{JoinTokenId, Name, TokenId};

use super::agents::whole_seconds;
use super::confirm::confirm;
use super::issuer::Issuer;
use super::output::{Form, print};
use super::records::{Page, list};
use super::views::joined;
use super::{Context, Exit, Failure};
use crate::config::{parse_duration, text};

const JOIN_TOKENS: &str = "/v1/admin/join-tokens";
const API_TOKENS: &str = "/v1/admin/api-tokens";

#[derive(Debug, Subcommand)]
pub(crate) enum JoinTokens {
    /// List join tokens, without their secrets.
    #[command(after_help = "Examples:\n  chancery join-tokens list")]
    List(Page),
    /// Make a join token for one agent, service or administrator.
    #[command(after_help = "Examples:
  chancery join-tokens create --agent invoice-bot
  chancery join-tokens create --agent invoice-bot --uses 20 --ttl 1h --cidr 10.0.0.0/8")]
    Create(CreateJoinToken),
    /// Delete a join token; what it attested stays.
    #[command(after_help = "Examples:\n  chancery join-tokens delete jt_01936f2a000070008000000000000001")]
    Delete {
        /// Its id.
        id: JoinTokenId,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CreateJoinToken {
    #[command(flatten)]
    whom: Whom,
    /// How often it may be used.
    #[arg(long, default_value_t = 1, value_name = "N")]
    uses: u32,
    /// How long it lives.
    #[arg(long, default_value = "15m", value_name = "TIME", value_parser = parse_duration)]
    ttl: Duration,
    /// A network it may be used from; repeat for more.
    #[arg(long = "cidr", value_name = "CIDR")]
    cidrs: Vec<String>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Whom {
    /// The agent it attests.
    #[arg(long)]
    agent: Option<Name>,
    /// The service it attests.
    #[arg(long)]
    service: Option<Name>,
    /// The administrator it attests.
    #[arg(long)]
    admin: Option<Name>,
}

/// The join token that comes with a new record.
#[derive(Debug, Args)]
pub(crate) struct JoinOptions {
    /// Make a join token too, and say how to start the program with it.
    #[arg(long)]
    join: bool,
    /// How often that token may be used.
    #[arg(long, default_value_t = 1, requires = "join", value_name = "N")]
    join_uses: u32,
    /// How long that token lives.
    #[arg(long, default_value = "15m", requires = "join", value_name = "TIME", value_parser = parse_duration)]
    join_ttl: Duration,
}

impl JoinOptions {
    /// A token for one use, as administrators get it.
    pub(crate) const fn once() -> Self {
        Self { join: true, join_uses: 1, join_ttl: Duration::from_secs(900) }
    }
}

/// Makes the join token that was asked for with a new record, and says how to start the program with it.
pub(crate) async fn join(
    context: &Context<'_>,
    issuer: &Issuer,
    subject: Subject,
    options: &JoinOptions,
    start: &str,
) -> Result<Exit, Failure> {
    if options.join {
        let ttl_s = Some(whole_seconds(options.join_ttl)?);
        let body = NewJoinToken { subject, uses: options.join_uses, ttl_s, cidrs: Vec::new() };
        make_join_token(context, issuer, &body, start).await?;
    }
    Ok(Exit::Done)
}

async fn make_join_token(
    context: &Context<'_>,
    issuer: &Issuer,
    body: &NewJoinToken,
    start: &str,
) -> Result<(), Failure> {
    let Some(token) = issuer.change::<JoinTokenCreated>(Method::POST, JOIN_TOKENS, body).await? else { return Ok(()) };
    let uses = if body.uses == 1 { "one use".into() } else { format!("{} uses", body.uses) };
    let life = body.ttl_s.map_or_else(
        || format!("until {}", token.value.expires_at.to_seconds_text()),
        |seconds| format!("expires in {}", text(Duration::from_secs(seconds.into()))),
    );
    let verb = if matches!(body.subject, Subject::Admin(_)) { "enrol" } else { "start it" };
    let (name, join) = (body.subject.name(), &token.value.join);
    match context.output.form() {
        Form::Json | Form::Jsonl => context.output.result(&token.body, ""),
        Form::Id => print(&token.value.id.to_string()),
        Form::Table | Form::Wide => {
            print(&format!("  {verb} ({uses}, only {name}, {life}, shown once):\n    CHANCERY_JOIN='{join}' {start}"))
        }
    }
    Ok(())
}

impl JoinTokens {
    pub(crate) async fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        match self {
            Self::List(page) => list::<JoinToken>(context, JOIN_TOKENS, &page, &[]).await,
            Self::Create(CreateJoinToken { whom, uses, ttl, cidrs }) => {
                let start = match &whom {
                    Whom { admin: Some(_), .. } => "chancery login".to_owned(),
                    Whom { service: Some(name), .. } => format!("./{name}"),
                    Whom { .. } => "chancery run -- python bot.py".to_owned(),
                };
                let subject = Subject::exactly_one(whom.agent, whom.service, whom.admin).map_err(Failure::usage)?;
                let body = NewJoinToken { subject, uses, ttl_s: Some(whole_seconds(ttl)?), cidrs };
                make_join_token(context, &context.issuer().await?, &body, &start).await?;
                Ok(Exit::Done)
            }
            Self::Delete { id } => {
                confirm(context, &format!("delete join token {id}"))?;
                if context.issuer().await?.delete(&format!("{JOIN_TOKENS}/{id}")).await? {
                    context.output.say(&format!("deleted  {id}"));
                }
                Ok(Exit::Done)
            }
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum ApiTokens {
    /// List API tokens, without their secrets.
    #[command(after_help = "Examples:\n  chancery api-tokens list")]
    List(Page),
    /// Make an API token.
    #[command(after_help = "Examples:
  chancery api-tokens create --access viewer --description 'dashboard' --ttl 30d")]
    Create {
        /// What it may do, by commas: viewer, operator, revoker, approver, auditor, administrator.
        #[arg(long, required = true, value_delimiter = ',', value_name = "LEVEL")]
        access: Vec<Access>,
        /// What it is for, in words.
        #[arg(long, default_value = "")]
        description: String,
        /// How long it lives.
        #[arg(long, default_value = "30d", value_name = "TIME", value_parser = parse_duration)]
        ttl: Duration,
    },
    /// Delete an API token.
    #[command(after_help = "Examples:\n  chancery api-tokens delete tk_01936f2a000070008000000000000001 --yes")]
    Delete {
        /// Its id.
        id: TokenId,
    },
}

impl ApiTokens {
    pub(crate) async fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        match self {
            Self::List(page) => list::<ApiToken>(context, API_TOKENS, &page, &[]).await,
            Self::Create { access, description, ttl } => {
                let body =
                    NewApiToken { description, access: BTreeSet::from_iter(access), ttl_s: Some(whole_seconds(ttl)?) };
                let created =
                    context.issuer().await?.change::<ApiTokenCreated>(Method::POST, API_TOKENS, &body).await?;
                if let Some(token) = created {
                    let ApiTokenCreated { token: secret, record } = &token.value;
                    let text = format!(
                        "API token {}  {}  until {}\n  shown once; keep it in a file for --token-file:\n    {}",
                        record.id,
                        joined(&record.access),
                        record.expires_at.to_seconds_text(),
                        secret.expose(),
                    );
                    context.output.record(&token.body, record, Some(&text));
                }
                Ok(Exit::Done)
            }
            Self::Delete { id } => {
                confirm(context, &format!("delete API token {id}: what uses it stops working"))?;
                if context.issuer().await?.delete(&format!("{API_TOKENS}/{id}")).await? {
                    context.output.say(&format!("deleted  {id}"));
                }
                Ok(Exit::Done)
            }
        }
    }
}
