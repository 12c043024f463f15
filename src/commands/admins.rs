//! `chancery admins`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use http::Method;

use chancery_agent::pinned_issuer;
use chancery_api::{Access, Admin, AdminPatch, FirstAdministrator, JoinString, JoinTokenCreated, NewAdmin, Subject};
use chancery_identity::{Effect, Name, Target};

use super::agents::given;
use super::records::{Page, get, list};
use super::tokens::{JoinOptions, join};
use super::views::joined;
use super::{Context, Exit, Failure, login, stop};

const PATH: &str = "/v1/admin/admins";

#[derive(Debug, Subcommand)]
pub(crate) enum Admins {
    /// List administrators, newest first.
    #[command(after_help = "Examples:\n  chancery admins list")]
    List(Page),
    /// Show one administrator.
    #[command(after_help = "Examples:\n  chancery admins get ana")]
    Get {
        /// Its name.
        name: Name,
    },
    /// Register an administrator, who then enrols with `chancery login`.
    #[command(after_help = "Examples:
  chancery admins create ana --access operator,revoker
  chancery admins create root-ana --access administrator
  chancery admins create ana --first-token-file /var/lib/chancery/first-administrator.token")]
    Create(Create),
    /// Change an administrator.
    #[command(after_help = "Examples:\n  chancery admins update ana --access operator,revoker,auditor")]
    Update {
        /// Its name.
        name: Name,
        /// All levels, by commas.
        #[arg(long, value_delimiter = ',', value_name = "LEVEL")]
        access: Vec<Access>,
        /// Who or what it is, in words.
        #[arg(long)]
        description: Option<String>,
    },
    /// End an administrator for good.
    #[command(after_help = "Examples:\n  chancery admins retire ana --comment 'left the company'")]
    Retire {
        /// Its name.
        name: Name,
        #[command(flatten)]
        why: stop::Why,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Its name: a-z, 0-9, '.' and '-'; never reused.
    name: Name,
    /// What it may do, by commas: viewer, operator, revoker, approver, auditor, administrator.
    #[arg(long, required_unless_present = "first_token_file", value_delimiter = ',', value_name = "LEVEL")]
    access: Vec<Access>,
    /// Who or what it is, in words.
    #[arg(long)]
    description: Option<String>,
    /// The file that `chancery serve` wrote: makes the first administrator, who may do all, and logs it in here.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["access", "description"])]
    first_token_file: Option<PathBuf>,
}

impl Admins {
    pub(crate) async fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        match self {
            Self::List(page) => list::<Admin>(context, PATH, &page, &[]).await,
            Self::Get { name } => get::<Admin>(context, &format!("{PATH}/{name}")).await,
            Self::Create(Create { name, first_token_file: Some(file), .. }) => create_first(context, name, &file).await,
            Self::Create(Create { name, access, description, first_token_file: None }) => {
                let body = NewAdmin { name: name.clone(), description, access: BTreeSet::from_iter(access) };
                let issuer = context.issuer().await?;
                let Some(admin) = issuer.change::<Admin>(Method::POST, PATH, &body).await? else {
                    return Ok(Exit::Done);
                };
                context.output.record(&admin.body, &admin.value, Some(&describe(&admin.value)));
                join(context, &issuer, Subject::Admin(name), &JoinOptions::once(), "chancery login").await
            }
            Self::Update { name, access, description } => {
                let patch = AdminPatch { description, access: given(access).map(BTreeSet::from_iter) };
                if patch == AdminPatch::default() {
                    return Err(Failure::usage("nothing to change was named").fix("for example --access operator"));
                }
                let path = format!("{PATH}/{name}");
                if let Some(admin) = context.issuer().await?.change::<Admin>(Method::PATCH, &path, &patch).await? {
                    context.output.record(&admin.body, &admin.value, Some(&describe(&admin.value)));
                }
                Ok(Exit::Done)
            }
            Self::Retire { name, why } => stop::stop(context, Effect::Retire, vec![Target::Admin(name)], why).await,
        }
    }
}

/// No administrator is there to ask, and no login: the token of the file does it, and this is where the first one works.
async fn create_first(context: &Context<'_>, name: Name, file: &Path) -> Result<Exit, Failure> {
    let text = std::fs::read_to_string(file).map(zeroize::Zeroizing::new);
    let text = text.map_err(|error| Failure::usage(format!("cannot read {}: {error}", file.display())))?;
    let token: JoinString =
        text.parse().map_err(|error| Failure::usage(format!("{} holds no token: {error}", file.display())))?;
    if context.global.dry_run {
        context.output.say(&format!("would create admin {name} at {} and log in as it", token.issuer()));
        return Ok(Exit::Done);
    }
    let client = pinned_issuer(token.issuer(), token.pin()).await?.with_timeout(context.global.timeout);
    let request = FirstAdministrator { token: token.secret().clone(), name: name.clone() };
    let created = client.post::<JoinTokenCreated>("/v1/first-administrator", &request).await?.body;
    context.output.say(&format!("admin {name}  created, with every access level"));
    login::enrol(context, created.join).await
}

fn describe(admin: &Admin) -> String {
    let Admin { name, state, access, revision, log_index, .. } = admin;
    format!("admin {name}  {}  revision {revision}  log {log_index}\n  access   {}", state.as_str(), joined(access))
}
