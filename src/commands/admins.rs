//! `chancery admins`.

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use http::Method;

use chancery_api::{Access, Admin, AdminPatch, NewAdmin, Subject};
use chancery_identity::{Effect, Name, Target};

use super::agents::given;
use super::records::{Page, get, list};
use super::tokens::{JoinOptions, join};
use super::views::joined;
use super::{Context, Exit, Failure, stop};

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
  chancery admins create root-ana --access administrator")]
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
    #[arg(long, required = true, value_delimiter = ',', value_name = "LEVEL")]
    access: Vec<Access>,
    /// Who or what it is, in words.
    #[arg(long)]
    description: Option<String>,
}

impl Admins {
    pub(crate) async fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        match self {
            Self::List(page) => list::<Admin>(context, PATH, &page, &[]).await,
            Self::Get { name } => get::<Admin>(context, &format!("{PATH}/{name}")).await,
            Self::Create(Create { name, access, description }) => {
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

fn describe(admin: &Admin) -> String {
    let Admin { name, state, access, revision, log_index, .. } = admin;
    format!("admin {name}  {}  revision {revision}  log {log_index}\n  access   {}", state.as_str(), joined(access))
}
