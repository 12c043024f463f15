//! `chancery authorities`.

use clap::Subcommand;

use chancery_api::{AuthorityView, RotateRequest, Rotation};
use chancery_identity::{Effect, KeyId, Target};

use super::records::{Page, get, list};
use super::{Context, Exit, Failure, stop};

const PATH: &str = "/v1/admin/authorities";

#[derive(Debug, Subcommand)]
pub(crate) enum Authorities {
    /// List authorities, the root first.
    #[command(after_help = "Examples:\n  chancery authorities list -o wide")]
    List(Page),
    /// Show one authority.
    #[command(after_help = "Examples:\n  chancery authorities get 3fa20000000000000000000000000000000000aa")]
    Get {
        /// Its key id.
        key_id: KeyId,
    },
    /// Make a successor to the issuing authority; it signs once verifiers had the time to learn of it.
    #[command(after_help = "Examples:\n  chancery authorities rotate --dry-run\n  chancery authorities rotate")]
    Rotate,
    /// End an issuing authority for good: nothing that it signed is accepted any more, and a successor signs.
    #[command(after_help = "Examples:
  chancery authorities retire 3fa20000000000000000000000000000000000aa --comment 'host was open' --reason key_compromise")]
    Retire {
        /// Its key id.
        key_id: KeyId,
        #[command(flatten)]
        why: stop::Why,
    },
}

impl Authorities {
    pub(crate) async fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        match self {
            Self::List(page) => list::<AuthorityView>(context, PATH, &page, &[]).await,
            Self::Get { key_id } => get::<AuthorityView>(context, &format!("{PATH}/{key_id}")).await,
            Self::Rotate => rotate(context).await,
            Self::Retire { key_id, why } => {
                stop::stop(context, Effect::Retire, vec![Target::Authority(key_id)], why).await
            }
        }
    }
}

async fn rotate(context: &Context<'_>) -> Result<Exit, Failure> {
    let request = RotateRequest { dry_run: context.global.dry_run };
    let answer = context.issuer().await?.ask::<Rotation>(&format!("{PATH}/rotate"), &request).await?;
    let Rotation { present, successor, signs_from_at } = &answer.value;
    let text = match successor {
        None => format!("would make a successor to {present}, which signs from {signs_from_at}"),
        Some(successor) => {
            let AuthorityView { key_id, log_index, not_after, .. } = successor;
            let until = not_after.to_seconds_text();
            format!(
                "authority {key_id}  until {until}  log {log_index}\n  signs from  {signs_from_at}, {present} until then"
            )
        }
    };
    context.output.result(&answer.body, &text);
    Ok(Exit::Done)
}
