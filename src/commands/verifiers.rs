//! `chancery verifiers`: who checks certificates, what each knows, and when it refuses everything.

use clap::Subcommand;

use chancery_api::{KnowledgeState, Learns, VerifierView};
use chancery_identity::Name;

use super::output::Width::{Always, Wide};
use super::output::{Column, Record};
use super::records::{Page, list};
use super::views::joined;
use super::{Context, Exit, Failure};

const PATH: &str = "/v1/admin/verifiers";

#[derive(Debug, Subcommand)]
pub(crate) enum Verifiers {
    /// List verifiers, by service.
    #[command(after_help = "Examples:\n  chancery verifiers list\n  chancery verifiers list -o wide")]
    List(Page),
    /// Show a service's verifiers: one for each replica.
    #[command(after_help = "Examples:\n  chancery verifiers get crm -o wide")]
    Get {
        /// The service.
        service: Name,
        #[command(flatten)]
        page: Page,
    },
}

impl Verifiers {
    pub(crate) async fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        match self {
            Self::List(page) => list::<VerifierView>(context, PATH, &page, &[]).await,
            Self::Get { service, page } => {
                list::<VerifierView>(context, &format!("{PATH}/{service}"), &page, &[]).await
            }
        }
    }
}

impl Record for VerifierView {
    const COLUMNS: &'static [Column<Self>] = &[
        Column("SERVICE", Always, |verifier| verifier.id()),
        Column("SYSTEMS", Always, |verifier| joined(&verifier.systems)),
        Column("HOW", Always, |verifier| {
            match verifier.how {
                Learns::Feed => "feed",
                Learns::CrlPoll => "crl poll",
                Learns::CrlFile => "crl file",
            }
            .into()
        }),
        Column("N", Always, |verifier| verifier.n.map_or_else(|| "unknown".into(), |n| n.to_string())),
        Column("STATE", Always, |verifier| {
            match verifier.state {
                KnowledgeState::Fresh => "fresh",
                KnowledgeState::Stale => "stale",
                KnowledgeState::Expired => "expired",
            }
            .into()
        }),
        Column("LAG", Always, |verifier| verifier.lag_ms.map(lag).unwrap_or_default()),
        Column("OPEN CONNS", Always, |verifier| match (verifier.open_connections, verifier.how) {
            (Some(count), _) => count.to_string(),
            (None, Learns::CrlFile) => "unknown: cannot close connections by itself".into(),
            (None, _) => "unknown".into(),
        }),
        Column("LAST HEARD", Wide, |verifier| {
            verifier.last_seen_at.map_or_else(|| "not since the issuer started".into(), |at| at.to_string())
        }),
        Column("REFUSES ALL BY", Wide, |verifier| verifier.refuses_by.to_string()),
        Column("LINEAGE", Wide, |verifier| verifier.lineage.to_string()),
    ];

    fn id(&self) -> String {
        let path = self.spiffe_id.path();
        path.strip_prefix("/service/").unwrap_or(path).to_owned()
    }
}

fn lag(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        _ => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
    }
}
