//! What a revocation reaches and who confirmed it, in words; and one entry, followed until all did.

use chancery_api::{Applied, Radius, RevocationStanding, RevocationView, Unconfirmed};
use chancery_identity::{RevocationId, SpiffeId, Target, Timestamp};

use super::confirm::counted;
use super::output::{Form, print};
use super::views::joined;
use super::{Context, Exit, Failure};

/// How long one question waits, in seconds.
const EACH_S: u64 = 25;
/// Holders that are named where a target names none.
const NAMED: usize = 10;

/// Shows one entry; with `watch`, until every verifier confirmed it.
pub(crate) async fn get(context: &Context<'_>, id: RevocationId, watch: bool) -> Result<Exit, Failure> {
    let path = format!("/v1/admin/revocations/{id}");
    let mut answer = context.issuer().await?.get::<RevocationStanding>(&path).await?;
    context.output.record(&answer.body, &answer.value.revocation, None);
    let table = matches!(context.output.form(), Form::Table | Form::Wide);
    let tell = |standing: &RevocationStanding| {
        if table {
            applied(&standing.applied, &standing.revocation).iter().for_each(|line| print(line));
        }
    };
    tell(&answer.value);
    if !watch {
        return Ok(Exit::Done);
    }
    let issuer = context.patient_issuer(std::time::Duration::from_secs(EACH_S)).await?;
    while answer.value.applied.confirmed < answer.value.applied.verifiers {
        let before = (answer.value.applied.confirmed, answer.value.applied.verifiers);
        answer = issuer.get::<RevocationStanding>(&format!("{path}?wait_s={EACH_S}")).await?;
        if (answer.value.applied.confirmed, answer.value.applied.verifiers) == before {
            continue;
        }
        if table {
            tell(&answer.value);
        } else {
            context.output.record(&answer.body, &answer.value.revocation, None);
        }
    }
    Ok(Exit::Done)
}

/// What would be stopped, in one line; who, where the targets do not name them.
pub(crate) fn reached(radius: &Radius, targets: &[Target]) -> String {
    let least = if radius.at_least { "at least " } else { "" };
    let mut parts = vec![
        format!("{least}{}", counted(radius.instances, "instance")),
        counted(radius.certificates, "certificate"),
        format!("{} {}", radius.descendants, if radius.descendants == 1 { "child" } else { "children" }),
    ];
    parts.push(match &radius.systems[..] {
        [] => "0 systems".into(),
        systems => format!("{} ({})", counted(systems.len() as u64, "system"), listed(systems)),
    });
    parts.push(match (radius.open_connections, &radius.open_at[..]) {
        (None, _) => "open connections unknown".into(),
        (Some(count), []) => counted(count, "open connection"),
        (Some(count), services) => format!("{} ({})", counted(count, "open connection"), listed(services)),
    });
    let you = if radius.includes_caller { "YOU" } else { "not you" };
    let services = if radius.services == 0 { "no service".into() } else { counted(radius.services, "SERVICE") };
    let issuer = if radius.includes_issuer { ", THE ISSUER" } else { "" };
    let mut text = format!("{}; {you}, {services}{issuer}", parts.join(", "));
    let named = |target: &Target| matches!(target, Target::Agent(_) | Target::Service(_) | Target::Admin(_));
    if !targets.iter().all(named) && !radius.holders.is_empty() {
        let more = radius.holders.len().saturating_sub(NAMED);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        text.push_str(&format!("\n  who            {}{more}", joined(radius.holders.iter().take(NAMED))));
    }
    text
}

/// Who confirmed an entry, who did not, and what was accepted last.
pub(crate) fn applied(applied: &Applied, entry: &RevocationView) -> Vec<String> {
    let resumed = entry.resumed_by.as_ref();
    let committed_at = resumed.map_or(entry.created_at, |resume| resume.created_at);
    let n = resumed.map_or(entry.n, |resume| resume.n);
    if applied.verifiers == 0 {
        return vec!["  verifiers   none is known here: whoever reads CRLs elsewhere learns by the next one".into()];
    }
    let mut first = format!("  verifiers   {} of {} applied", applied.confirmed, applied.verifiers);
    if let Some(max_ms) = applied.max_ms {
        first.push_str(&format!(", slowest {max_ms} ms"));
    }
    first.push_str(&format!(";  {} closed", counted(applied.closed_connections, "connection")));
    let mut lines = vec![first];
    for missing in &applied.unconfirmed {
        let replicas = applied.unconfirmed.iter().filter(|other| other.verifier == missing.verifier).count();
        lines.push(unsure(missing, replicas > 1, n, committed_at));
    }
    let unnamed = (applied.verifiers - applied.confirmed).saturating_sub(applied.unconfirmed.len() as u64);
    if unnamed > 0 {
        lines.push(format!("  NOT SURE    and {unnamed} more"));
    }
    if let Some(at) = applied.last_accepted_at {
        let by = applied.last_accepted_by.as_ref().map(service).unwrap_or_default();
        let scope = applied.last_accepted.as_deref().unwrap_or_default();
        let after = if at < committed_at {
            format!("{} ms before the commit", committed_at.since(at).as_millis())
        } else {
            format!("{} ms after the commit", at.since(committed_at).as_millis())
        };
        let report = format!("{} of {} report", applied.confirmed, applied.verifiers);
        let at = time(at.to_string(), committed_at);
        lines.push(format!("  last request accepted anywhere ({report})  {at}  {by} {scope}   {after}"));
    }
    lines
}

fn unsure(missing: &Unconfirmed, tell_replica: bool, n: u64, committed_at: Timestamp) -> String {
    let seconds = |at: Timestamp| time(at.to_seconds_text(), committed_at);
    let replica = if tell_replica { format!(" (replica {})", missing.lineage) } else { String::new() };
    let heard = match (missing.last_seen_at, missing.n) {
        (None, _) => "not heard since the issuer started".to_owned(),
        (Some(at), _) if at < committed_at => format!("silent since {}", seconds(at)),
        (Some(at), Some(had)) => format!("heard {} at n {had}, which is not n {n}", seconds(at)),
        (Some(at), None) => format!("heard {}, and never said what it applied", seconds(at)),
    };
    let by = seconds(missing.refuses_by);
    format!(
        "  NOT SURE    {}{replica}: {heard}; will refuse everything by {by} at the latest",
        service(&missing.verifier)
    )
}

fn service(id: &SpiffeId) -> String {
    id.path().strip_prefix("/service/").unwrap_or(id.path()).to_owned()
}

/// The time of day, where the day is that of the commit.
fn time(text: String, committed_at: Timestamp) -> String {
    let day = committed_at.to_string();
    let same_day = day.split_once('T').and_then(|(day, _)| text.strip_prefix(day)?.strip_prefix('T'));
    same_day.map(str::to_owned).unwrap_or(text)
}

fn listed<T: std::fmt::Display>(values: &[T]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_reads_as_it_was_promised() {
        let entry: RevocationView = serde_json::from_value(serde_json::json!({
            "id": "rv_01936f30000070008000000000000001", "epoch": 1, "n": 1841, "target": "agent:invoice-bot",
            "effect": "suspend", "reason": "certificate_hold", "comment": "", "cascade": true, "state": "in_force",
            "resumed_by": null, "created_at": "2026-11-21T03:07:41.203Z", "created_by": "admin:ana",
            "log_index": 90211, "fence": 90211
        }))
        .unwrap();
        let told: Applied = serde_json::from_value(serde_json::json!({
            "verifiers": 7, "confirmed": 6, "max_ms": 38, "closed_connections": 2,
            "last_accepted_at": "2026-11-21T03:07:41.229Z", "last_accepted": "GET:crm/customers/88",
            "last_accepted_by": "spiffe://example.org/service/crm",
            "unconfirmed": [{"verifier": "spiffe://example.org/service/billing-eu",
                "lineage": "01936f2a-0000-7000-8000-000000000001", "n": 1790,
                "last_seen_at": "2026-11-21T03:06:58.000Z", "refuses_by": "2026-11-21T03:21:58.000Z"}]
        }))
        .unwrap();
        assert_eq!(
            applied(&told, &entry),
            [
                "  verifiers   6 of 7 applied, slowest 38 ms;  2 connections closed",
                "  NOT SURE    billing-eu: silent since 03:06:58Z; will refuse everything by 03:21:58Z at the latest",
                "  last request accepted anywhere (6 of 7 report)  03:07:41.229Z  crm GET:crm/customers/88   26 ms after the commit",
            ]
        );
    }
}
