//! `/v1/admin/instances`.

use std::time::Duration;

use axum::extract::State;
use chancery_api::{Denial, Denials, Instance, InstanceState};
use chancery_identity::{Effect, Lineage, Name, SpiffeId, Timestamp};
use chancery_tlog::{Decision, Facts};

use crate::refusal::{Code, Refusal};
use crate::store::StoredLineage;

use super::App;
use super::answer::Answer;
use super::extract::{Query, Segment};
use super::page::{cursor_of, limit_of, list_query, one_more};

/// How far back refusals are counted.
const LATELY: Duration = Duration::from_secs(600);

list_query! {
    /// Which instances.
    InstancesQuery {
        /// Only those of this agent.
        #[param(value_type = Option<String>)]
        agent: Name,
    }
}

pub(super) async fn list(State(app): State<App>, Query(query): Query<InstancesQuery>) -> Result<Answer, Refusal> {
    let limit = limit_of(query.limit)?;
    let before: Option<Lineage> = cursor_of(query.cursor.as_deref())?;
    let mut found = app.store().instances(query.agent.as_ref(), before, one_more(limit)).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    let next_cursor = found.last().filter(|_| more).map(|last| last.id.to_string());
    let mut data = Vec::new();
    for lineage in found {
        data.extend(view(&app, lineage, app.now()).await?);
    }
    let total = if query.counts() { Some(app.store().count_instances(query.agent.as_ref()).await?) } else { None };
    Ok(Answer::read(&chancery_api::List { data, next_cursor, total }))
}

pub(super) async fn read(
    State(app): State<App>,
    Segment(id): Segment<chancery_identity::Instance>,
) -> Result<Answer, Refusal> {
    let missing = || Refusal::new(Code::NotFound, format!("there is no instance {id}"));
    // An instance that attested again by the same identity has a lineage for each time; the newest counts.
    let newest = app.store().lineages_of(id).await?.pop().ok_or_else(missing)?;
    let mut instance = view(&app, newest, app.now()).await?.ok_or_else(missing)?;
    instance.denied = Some(denied(&app, &instance.spiffe_id).await?);
    Ok(Answer::read(&instance))
}

/// What was refused it lately, as the log has it: code, request and position, which whoever may see the instance may see.
async fn denied(app: &App, spiffe_id: &SpiffeId) -> Result<Denials, Refusal> {
    let logged = app.store().denials(app.now() - LATELY, spiffe_id).await?;
    let denials = logged.iter().filter_map(|entry| {
        let record = entry.record()?;
        let Decision::Deny(Facts(facts)) = record.decision else { return None };
        Some(Denial {
            denied_at: record.at,
            code: facts.get("code").cloned().unwrap_or_default(),
            request_id: record.request_id,
            log_index: entry.position,
        })
    });
    let denials: Vec<Denial> = denials.collect();
    let within_s = u32::try_from(LATELY.as_secs()).unwrap_or(u32::MAX);
    Ok(Denials { within_s, count: denials.len() as u64, last: denials.into_iter().next() })
}

/// The instance of a lineage; what has none is no agent's.
async fn view(app: &App, lineage: StoredLineage, now: Timestamp) -> Result<Option<Instance>, Refusal> {
    let Some(id) = lineage.instance else { return Ok(None) };
    let Some(stored) = app.store().certificate(lineage.serial).await? else { return Ok(None) };
    let Some(grant) = &stored.certificate.grant else { return Ok(None) };
    let entry = app.store().state().hitting(&stored.certificate);
    let state = match &entry {
        Some(entry) if entry.effect == Effect::Suspend => InstanceState::Held,
        Some(_) => InstanceState::Revoked,
        None if lineage.ended => InstanceState::Revoked,
        None if stored.certificate.not_after < now => InstanceState::Expired,
        None => InstanceState::Live,
    };
    Ok(Some(Instance {
        id,
        agent: grant.name.clone(),
        owner: grant.owner.clone(),
        state,
        lineage: lineage.id,
        attested_by: lineage.method,
        attested_at: lineage.created_at,
        serial: stored.certificate.serial,
        issued_at: stored.issued_at,
        not_after: stored.certificate.not_after,
        revocation_id: entry.map(|entry| entry.id),
        spiffe_id: stored.certificate.spiffe_id,
        denied: None,
    }))
}
