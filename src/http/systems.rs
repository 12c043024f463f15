//! `/v1/admin/systems`.

use axum::extract::State;
use chancery_api::{List, Service, SystemEntry};
use chancery_identity::{Name, System};

use crate::refusal::{Code, Refusal};

use super::App;
use super::answer::Answer;
use super::extract::{Query, Segment};
use super::page::{limit_of, list_query};

list_query! {
    /// Which systems.
    SystemsQuery {
        /// Only those that this service answers for.
        #[param(value_type = Option<String>)]
        service: Name,
    }
}

/// By name, as a system has no time of its own.
pub(super) async fn list(State(app): State<App>, Query(query): Query<SystemsQuery>) -> Result<Answer, Refusal> {
    let limit = limit_of(query.limit)?;
    let systems = app.store().state().systems();
    let wanted = systems.into_iter().filter(|(_, service)| query.service.as_ref().is_none_or(|name| name == service));
    let wanted: Vec<(System, Name)> = wanted.collect();
    let total = query.counts().then(|| u64::try_from(wanted.len()).unwrap_or(u64::MAX));
    let after = query.cursor.as_deref().unwrap_or_default();
    let mut rest = wanted.into_iter().filter(|(system, _)| system.as_str() > after).peekable();
    let data: Vec<SystemEntry> = rest.by_ref().take(limit).filter_map(|(system, _)| entry(&app, system)).collect();
    let next_cursor = rest.peek().and_then(|_| data.last()).map(|last| last.name.to_string());
    Ok(Answer::read(&List { data, next_cursor, total }))
}

pub(super) async fn read(State(app): State<App>, Segment(name): Segment<System>) -> Result<Answer, Refusal> {
    let missing = || Refusal::new(Code::NotFound, format!("no service answers for {name}"));
    let entry = entry(&app, name.clone()).ok_or_else(missing)?;
    Ok(Answer::read(&entry))
}

fn entry(app: &App, system: System) -> Option<SystemEntry> {
    let state = app.store().state();
    let service = state.record::<Service>(&state.service_of(&system)?)?;
    Some(SystemEntry { name: system, service: service.name.clone(), owner: service.owner.clone() })
}
