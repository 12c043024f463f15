//! `/v1/admin/certificates`.

use axum::extract::State;
use chancery_api::{CertificateState, CertificateView, List, Subject};
use chancery_identity::{Effect, Instance, Name, Principal, Scope, Serial, Timestamp};

use crate::refusal::{Code, Refusal};
use crate::registry::subject;
use crate::store::{Query as Search, StoredCertificate};

use super::App;
use super::answer::Answer;
use super::extract::{Query, Segment};
use super::page::{cursor_of, limit_of, list_query};

/// Certificates looked at for one page, at most: a filter that leaves little must not read the whole table at once.
const LOOKED_AT_MAX: usize = 5_000;
/// Certificates looked at to count those that a filter leaves, at most.
const COUNTED_MAX: usize = 100_000;
/// Certificates read at once.
const BATCH: u32 = 500;

list_query! {
    /// Which certificates.
    CertificatesQuery {
        /// Only those of this agent.
        #[param(value_type = Option<String>)]
        agent: Name,
        /// Only those of this service.
        #[param(value_type = Option<String>)]
        service: Name,
        /// Only those of this administrator.
        #[param(value_type = Option<String>)]
        admin: Name,
        /// Only those that this party is accountable for.
        #[param(value_type = Option<String>)]
        owner: Name,
        /// Only those of this instance.
        #[param(value_type = Option<String>)]
        instance: Instance,
        /// Only those that could exercise the scope, or part of it.
        #[param(value_type = Option<String>)]
        scope: Scope,
        /// Only those that stand so.
        state: CertificateState,
        /// Only those whose time this is in.
        #[param(value_type = Option<String>)]
        valid_at: Timestamp,
        /// Only those issued then or later.
        #[param(value_type = Option<String>)]
        issued_after: Timestamp,
    }
}

pub(super) async fn list(State(app): State<App>, Query(query): Query<CertificatesQuery>) -> Result<Answer, Refusal> {
    let limit = limit_of(query.limit)?;
    let now = app.now();
    let mut search = Search {
        holder: holder(&app, &query).await?,
        unexpired_at: query.valid_at.or_else(|| (query.state == Some(CertificateState::Valid)).then_some(now)),
        issued_after: query.issued_after,
        before: cursor_of(query.cursor.as_deref())?,
    };
    let total = if query.counts() { Some(count(&app, &query, &search, now).await?) } else { None };
    let (mut data, mut looked_at) = (Vec::new(), 0);
    loop {
        let found = app.store().certificates(&search, BATCH).await?;
        let last_batch = found.len() < usize::try_from(BATCH).unwrap_or(usize::MAX);
        for stored in found {
            if data.len() == limit || looked_at == LOOKED_AT_MAX {
                let next_cursor = search.before.map(|key| key.to_string());
                return Ok(Answer::read(&List { data, next_cursor, total }));
            }
            looked_at += 1;
            search.before = Some(stored.key);
            data.extend(view(&app, stored, now).filter(|certificate| query.wants(certificate)));
        }
        if last_batch {
            return Ok(Answer::read(&List { data, next_cursor: None, total }));
        }
    }
}

/// How many there are on all pages. What the database cannot filter is looked at one by one, and so bounded.
async fn count(app: &App, query: &CertificatesQuery, search: &Search, now: Timestamp) -> Result<u64, Refusal> {
    let mut search = Search { before: None, ..search.clone() };
    if query.wants_all_found() {
        return Ok(app.store().count_certificates(&search).await?);
    }
    let (mut total, mut looked_at) = (0, 0);
    loop {
        let found = app.store().certificates(&search, BATCH).await?;
        looked_at += found.len();
        if looked_at > COUNTED_MAX {
            let detail = format!("count: more than {COUNTED_MAX} certificates would be looked at");
            return Err(Refusal::new(Code::Invalid, detail).fix("narrow it by agent, service, admin or issued_after"));
        }
        let Some(last) = found.last() else { return Ok(total) };
        search.before = Some(last.key);
        let wanted = found.into_iter().filter_map(|stored| view(app, stored, now)).filter(|seen| query.wants(seen));
        total += u64::try_from(wanted.count()).unwrap_or(u64::MAX);
    }
}

pub(super) async fn read(State(app): State<App>, Segment(serial): Segment<Serial>) -> Result<Answer, Refusal> {
    let found = app.store().certificate(serial).await?.and_then(|stored| view(&app, stored, app.now()));
    let missing = || Refusal::new(Code::NotFound, format!("there is no certificate {serial}"));
    Ok(Answer::read(&found.ok_or_else(missing)?))
}

impl CertificatesQuery {
    /// Whether the search itself leaves just what is wanted.
    fn wants_all_found(&self) -> bool {
        let Self { owner, instance, scope, state, valid_at, .. } = self;
        owner.is_none() && instance.is_none() && scope.is_none() && state.is_none() && valid_at.is_none()
    }

    /// What the search itself does not know how to look for.
    fn wants(&self, certificate: &CertificateView) -> bool {
        self.owner.as_ref().is_none_or(|owner| certificate.owner == *owner)
            && self.instance.is_none_or(|instance| certificate.instance == Some(instance))
            && self.state.is_none_or(|state| certificate.state == state)
            && self.valid_at.is_none_or(|at| (certificate.not_before..=certificate.not_after).contains(&at))
            && self.scope.as_ref().is_none_or(|scope| certificate.scopes.iter().any(|held| held.overlaps(scope)))
    }
}

/// Whose certificates are meant, if one record's. An instance tells its agent.
async fn holder(app: &App, query: &CertificatesQuery) -> Result<Option<Subject>, Refusal> {
    let CertificatesQuery { agent, service, admin, instance, .. } = query;
    Ok(match (agent, service, admin, instance) {
        (None, None, None, None) => None,
        (None, None, None, Some(instance)) => {
            app.store().lineages_of(*instance).await?.pop().map(|lineage| lineage.holder)
        }
        (Some(name), None, None, _) => Some(Subject::Agent(name.clone())),
        (None, Some(name), None, None) => Some(Subject::Service(name.clone())),
        (None, None, Some(name), None) => Some(Subject::Admin(name.clone())),
        _ => return Err(Refusal::new(Code::BadRequest, "query: wanted at most one of agent, service and admin")),
    })
}

/// What administrators see of a certificate. The issuer's own has no record behind it, and is not shown.
fn view(app: &App, stored: StoredCertificate, now: Timestamp) -> Option<CertificateView> {
    let certificate = stored.certificate;
    let entry = app.store().state().hitting(&certificate);
    let state = match &entry {
        _ if certificate.not_after < now => CertificateState::Expired,
        Some(entry) if entry.effect == Effect::Suspend => CertificateState::Held,
        Some(_) => CertificateState::Revoked,
        None => CertificateState::Valid,
    };
    let subject = subject(&certificate.spiffe_id)?;
    let instance = match certificate.spiffe_id.principal() {
        Principal::Agent { instance, .. } => Some(instance),
        _ => None,
    };
    let grant = certificate.grant?;
    Some(CertificateView {
        serial: certificate.serial,
        authority: certificate.authority,
        spiffe_id: certificate.spiffe_id,
        subject,
        owner: grant.owner,
        instance,
        lineage: grant.lineage,
        scopes: certificate.scopes,
        grant_id: grant.id,
        state,
        issued_at: stored.issued_at,
        not_before: certificate.not_before,
        not_after: certificate.not_after,
        attested_by: grant.attestation.method,
        parent_serial: grant.chain.last().map(|ancestor| ancestor.serial),
        revocation_id: entry.map(|entry| entry.id),
        log_index: stored.log_index,
    })
}
