//! `/v1/admin/agents`.

use std::sync::Arc;

use axum::extract::State;
use chancery_api::{Agent, AgentPatch, NewAgent, State as RecordState, Subject};
use chancery_identity::Name;

use crate::caller::Caller;
use crate::refusal::Refusal;
use crate::registry::missing;

use super::App;
use super::answer::Answer;
use super::extract::{IfMatch, Json, Query, Segment};
use super::page::{Page, list_query};

list_query! {
    /// Which agents.
    AgentsQuery {
        /// Only those of this owner.
        #[param(value_type = Option<String>)]
        owner: Name,
        /// Only those in this state.
        state: RecordState,
    }
}

pub(super) async fn list(State(app): State<App>, Query(query): Query<AgentsQuery>) -> Result<Answer, Refusal> {
    let mut agents: Vec<Arc<Agent>> = app.store().state().records();
    agents.retain(|agent| {
        query.owner.as_ref().is_none_or(|owner| agent.owner == *owner)
            && query.state.is_none_or(|state| agent.state == state)
    });
    Ok(Answer::read(&Page::new(query.limit, query.cursor, query.count)?.of(agents)?))
}

pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Json(new): Json<NewAgent>,
) -> Result<Answer, Refusal> {
    Ok(Answer::registered(app.registry().create_agent(new, &caller).await?, "/v1/admin/agents"))
}

pub(super) async fn read(State(app): State<App>, Segment(name): Segment<Name>) -> Result<Answer, Refusal> {
    let agent = app.store().state().record::<Agent>(&name);
    Ok(Answer::record(&*agent.ok_or_else(|| missing(&Subject::Agent(name)))?))
}

pub(super) async fn update(
    State(app): State<App>,
    caller: Caller,
    Segment(name): Segment<Name>,
    IfMatch(revision): IfMatch,
    Json(patch): Json<AgentPatch>,
) -> Result<Answer, Refusal> {
    Ok(Answer::changed(app.registry().update_agent(&name, patch, revision, &caller).await?))
}
