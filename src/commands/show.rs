//! `chancery show`: whatever was pasted, and what can be done about it.

use clap::Args;

use chancery_api::{
    Admin, Agent, ApiToken, AuthorityView, CertificateView, Denial, Denials, Instance, InstanceState, JoinToken,
    LogRecord, RevocationStanding, RevocationsAnswer, RevocationsRequest, Service,
};
use chancery_identity::{Actor, Effect, KeyId, Name, RequestId, Serial, Target};
use chancery_tlog::{Decision, Facts, Record as Logged};

use super::confirm::counted;
use super::issuer::{Answer, Issuer};
use super::output::{Form, Record, print};
use super::revocations::{applied, reached};
use super::views::joined;
use super::{Context, Exit, Failure};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  chancery show invoice-bot
  chancery show spiffe://example.org/agent/invoice-bot/01936f2a-0000-7000-8000-000000000001
  chancery show 5c0e91aa5c0e91aa5c0e91aa5c0e91aa
  chancery show rv_01936f30000070008000000000000001
  chancery show rq_01936f2c000070008000000000000001")]
pub(crate) struct Show {
    /// A name, target, SPIFFE ID, serial, instance, request id or other typed id.
    any: String,
}

impl Show {
    pub(crate) async fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        let issuer = context.issuer().await?;
        let any = self.any.trim();
        if any.starts_with("rv_") {
            return show_revocation(context, &issuer, &format!("/v1/admin/revocations/{any}")).await;
        }
        if let Some(id) = any.parse::<RequestId>().ok().filter(|_| any.starts_with("rq_")) {
            return show_request(context, &issuer, id).await;
        }
        if any.starts_with("jt_") {
            return show_listed::<JoinToken>(context, &issuer, "/v1/admin/join-tokens", any).await;
        }
        if any.starts_with("tk_") {
            return show_listed::<ApiToken>(context, &issuer, "/v1/admin/api-tokens", any).await;
        }
        match any.parse::<Target>() {
            Ok(target) => show_target(context, &issuer, &target).await,
            Err(_) => show_bare(context, &issuer, any).await,
        }
    }
}

/// What one request left in the log.
async fn show_request(context: &Context<'_>, issuer: &Issuer, id: RequestId) -> Result<Exit, Failure> {
    let page = issuer.list::<LogRecord>(&format!("/v1/admin/log?request_id={id}")).await?;
    let entries = &page.value.data;
    if entries.is_empty() {
        return Err(Failure::not_found(format!("the log has nothing of {id}: it changed nothing"))
            .fix("if it was refused, standard error of `chancery serve` has a line with its id and the code"));
    }
    if !matches!(context.output.form(), Form::Table | Form::Wide) {
        context.output.list(&page.body, entries);
        return Ok(Exit::Done);
    }
    print(&format!("request {id}"));
    for entry in entries {
        let record = entry.record.as_ref().and_then(|record| Logged::parse(record.as_bytes()).ok());
        let Some(record) = record else {
            print(&format!("  log {}  its record was deleted", entry.log_index));
            continue;
        };
        let (at, action, actor) = (record.at, record.decision.action(), &record.actor);
        print(
            format!("  log {}  {at}  {action}  by {actor}  {}", entry.log_index, record.subjects.join(" ")).trim_end(),
        );
        if let Decision::Deny(Facts(facts)) = &record.decision {
            facts.iter().for_each(|(fact, value)| print(&format!("    {fact}  {value}")));
        }
        if let Actor::Holder(spiffe_id) = actor {
            hint(context, "who", &format!("chancery show {spiffe_id}"));
        }
    }
    Ok(Exit::Done)
}

async fn show_target(context: &Context<'_>, issuer: &Issuer, target: &Target) -> Result<Exit, Failure> {
    match target {
        Target::Agent(name) => show_agent(context, issuer, name).await,
        Target::Service(name) => {
            let service: Service = show(context, issuer, &format!("/v1/admin/services/{name}")).await?;
            hint(context, "stop it", &format!("chancery suspend service:{}", service.name));
            Ok(Exit::Done)
        }
        Target::Admin(name) => {
            let admin: Admin = show(context, issuer, &format!("/v1/admin/admins/{name}")).await?;
            hint(context, "stop it", &format!("chancery suspend admin:{}", admin.name));
            Ok(Exit::Done)
        }
        Target::Instance(id) => show_instance(context, issuer, id).await,
        Target::Serial(serial) => show_certificate(context, issuer, serial).await,
        Target::Authority(key_id) => show_authority(context, issuer, key_id).await,
        other => show_reach(context, issuer, other).await,
    }
}

/// What a target means that is no record: whom it would stop.
async fn show_reach(context: &Context<'_>, issuer: &Issuer, target: &Target) -> Result<Exit, Failure> {
    let answer = would_stop(issuer, target).await?;
    let reach = answer.value.radius.as_ref().map(|radius| reached(radius, std::slice::from_ref(target)));
    context.output.result(&answer.body, &format!("{target}\n  {}", reach.unwrap_or_else(|| "unknown".into())));
    let effect = if matches!(target, Target::IssuedBefore(_)) { "revoke" } else { "suspend" };
    hint(context, "stop them", &format!("chancery {effect} {target}"));
    Ok(Exit::Done)
}

async fn show_instance(
    context: &Context<'_>,
    issuer: &Issuer,
    id: &chancery_identity::Instance,
) -> Result<Exit, Failure> {
    let answer = issuer.get::<Instance>(&format!("/v1/admin/instances/{id}")).await?;
    let instance = &answer.value;
    let this = would_stop(issuer, &Target::Instance(*id)).await?.value.radius;
    let all = would_stop(issuer, &Target::Agent(instance.agent.clone())).await?.value.radius;
    let mut text = format!(
        "instance of agent {}  owner {}  attested {} by {}  {}\n  {}  serial {}",
        instance.agent,
        instance.owner,
        instance.attested_at.to_seconds_text(),
        instance.attested_by,
        instance.state.as_str(),
        instance.spiffe_id,
        instance.serial
    );
    if let (Some(this), Some(all)) = (&this, &all) {
        let open = match (this.open_connections, &this.open_at[..]) {
            (None, _) => "unknown".into(),
            (Some(count), []) => count.to_string(),
            (Some(count), services) => format!("{count} ({})", joined(services)),
        };
        text.push_str(&format!(
            "\n  {} of {}   certificates {}   children {}   open connections {open}",
            this.instances,
            counted(all.instances, "instance"),
            this.certificates,
            this.descendants,
        ));
    }
    if let Some(Denials { within_s, count, last }) = &instance.denied {
        let minutes = within_s / 60;
        text.push_str(&format!("\n  denied by the issuer in the last {minutes} min: {count}"));
        if let Some(Denial { denied_at, code, request_id, .. }) = last {
            let request = request_id.map(|id| format!("  {id}")).unwrap_or_default();
            text.push_str(&format!("   last {denied_at}  {code}{request}"));
        }
    }
    if let Some(id) = instance.revocation_id {
        let standing = issuer.get::<RevocationStanding>(&format!("/v1/admin/revocations/{id}")).await?.value;
        let entry = &standing.revocation;
        text.push_str(&format!(
            "\n  stopped         {} of {}  {}  by {}",
            entry.effect, entry.target, entry.created_at, entry.created_by
        ));
        for line in applied(&standing.applied, entry) {
            text.push_str(&format!("\n{line}"));
        }
    }
    context.output.record(&answer.body, instance, Some(&text));
    match (instance.state, instance.revocation_id) {
        (InstanceState::Held, Some(entry)) => hint(context, "undo", &format!("chancery resume {entry}")),
        _ => {
            hint(context, "stop this one", &format!("chancery suspend instance:{id}"));
            hint(context, "stop all", &format!("chancery suspend agent:{}", instance.agent));
        }
    }
    Ok(Exit::Done)
}

/// Asks what a target reaches; stops nothing.
async fn would_stop(issuer: &Issuer, target: &Target) -> Result<Answer<RevocationsAnswer>, Failure> {
    let effect = if matches!(target, Target::IssuedBefore(_)) { Effect::Revoke } else { Effect::Suspend };
    let request = RevocationsRequest {
        targets: vec![target.clone()],
        effect: Some(effect),
        reason: None,
        comment: None,
        cascade: true,
        dry_run: true,
        wait_s: 0,
    };
    issuer.ask("/v1/admin/revocations", &request).await
}

/// What has no prefix: a serial, an instance, a key id, or a name of something registered.
async fn show_bare(context: &Context<'_>, issuer: &Issuer, any: &str) -> Result<Exit, Failure> {
    if let Ok(id) = any.parse::<chancery_identity::Instance>() {
        return show_target(context, issuer, &Target::Instance(id)).await;
    }
    if any.len() == 40
        && let Ok(key_id) = any.parse::<KeyId>()
    {
        return show_authority(context, issuer, &key_id).await;
    }
    if any.len() >= 32
        && let Ok(serial) = any.parse::<Serial>()
    {
        return show_certificate(context, issuer, &serial).await;
    }
    let name: Name = any.parse().map_err(|_| {
        Failure::usage(format!("{any:?} is nothing that can be looked up"))
            .fix("wanted a name, target, SPIFFE ID, serial, instance, request id or other typed id")
    })?;
    for target in [Target::Agent(name.clone()), Target::Service(name.clone()), Target::Admin(name.clone())] {
        match show_target(context, issuer, &target).await {
            Err(failure) if failure.exit() == Exit::NotFound => {}
            outcome => return outcome,
        }
    }
    Err(Failure::not_found(format!("no agent, service or administrator is named {name}")))
}

async fn show_agent(context: &Context<'_>, issuer: &Issuer, name: &Name) -> Result<Exit, Failure> {
    let agent: Agent = show(context, issuer, &format!("/v1/admin/agents/{name}")).await?;
    hint(context, "instances", &format!("chancery instances list --agent {}", agent.name));
    hint(context, "stop it", &format!("chancery suspend agent:{}", agent.name));
    Ok(Exit::Done)
}

async fn show_certificate(context: &Context<'_>, issuer: &Issuer, serial: &Serial) -> Result<Exit, Failure> {
    let certificate: CertificateView = show(context, issuer, &format!("/v1/admin/certificates/{serial}")).await?;
    hint(context, "stop this one", &format!("chancery revoke serial:{serial}"));
    hint(context, "stop all", &format!("chancery suspend {}", certificate.subject));
    Ok(Exit::Done)
}

async fn show_authority(context: &Context<'_>, issuer: &Issuer, key_id: &KeyId) -> Result<Exit, Failure> {
    show::<AuthorityView>(context, issuer, &format!("/v1/admin/authorities/{key_id}")).await?;
    Ok(Exit::Done)
}

async fn show_revocation(context: &Context<'_>, issuer: &Issuer, path: &str) -> Result<Exit, Failure> {
    let answer = issuer.get::<RevocationStanding>(path).await?;
    let entry = &answer.value.revocation;
    context.output.record(&answer.body, entry, None);
    if matches!(context.output.form(), Form::Table | Form::Wide) {
        applied(&answer.value.applied, entry).iter().for_each(|line| print(line));
    }
    if entry.effect.resumable() && entry.resumed_by.is_none() {
        hint(context, "undo", &format!("chancery resume {}", entry.id));
    }
    Ok(Exit::Done)
}

async fn show<T: Record>(context: &Context<'_>, issuer: &Issuer, path: &str) -> Result<T, Failure> {
    let answer = issuer.get::<T>(path).await?;
    context.output.record(&answer.body, &answer.value, None);
    Ok(answer.value)
}

/// What has no place of its own is looked up in its list.
async fn show_listed<T: Record>(context: &Context<'_>, issuer: &Issuer, path: &str, id: &str) -> Result<Exit, Failure> {
    let mut cursor = String::new();
    loop {
        let page = issuer.list::<T>(&format!("{path}?limit=500{cursor}")).await?;
        if let Some(at) = page.value.data.iter().position(|record| record.id() == id) {
            let body = page.body.get("data").and_then(|data| data.get(at)).cloned().unwrap_or_default();
            page.value.data.iter().skip(at).take(1).for_each(|record| context.output.record(&body, record, None));
            return Ok(Exit::Done);
        }
        let Some(next) = page.value.next_cursor else {
            return Err(Failure::not_found(format!("there is no {id}")));
        };
        cursor = format!("&cursor={next}");
    }
}

fn hint(context: &Context<'_>, what: &str, command: &str) {
    context.output.say(&format!("  {what:13}  {command}"));
}
