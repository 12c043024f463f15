//! What the answer to a revocation proves: whom it reaches, who confirmed it, and until when the others may not know.

use std::time::Duration;

use chancery::clock::Clock as _;
use chancery_api::client::Client;
use chancery_api::{KnowledgeState, Learns, List, RevocationStanding, RevocationsAnswer, VerifierView};
use chancery_identity::Timestamp;
use serde_json::{Value, json};

use crate::fixture::{Held, Issuer, problem};
use crate::rotation::{join, serve};

const READ: &str = "tools/call:crm/get_customer";
const ACKS: &str = "/v1/feed/acks";

async fn acknowledge(client: &Client, n: u64) {
    client.post::<()>(ACKS, &ack(n)).await.unwrap();
}

fn ack(n: u64) -> Value {
    json!({"epoch": 1, "n": n, "applied_at": "2026-11-21T03:07:41.203Z"})
}

async fn verifiers(issuer: &Issuer) -> Vec<VerifierView> {
    issuer.admin.get::<List<VerifierView>>("/v1/admin/verifiers").await.unwrap().body.data
}

fn suspend(wait_s: u32) -> Value {
    json!({"targets": ["agent:invoice-bot"], "effect": "suspend", "wait_s": wait_s})
}

#[tokio::test]
async fn the_answer_waits_until_every_verifier_confirmed() {
    let issuer = Issuer::start().await;
    let agent = issuer.joined("invoice-bot", &[READ]).await;
    let (crm, billing) = (issuer.service("crm").await, issuer.service("billing").await);
    let (crm, billing) = (issuer.client(Some(&crm)), issuer.client(Some(&billing)));
    let mut open = ack(0);
    open["open_connections"] = json!([{"serial": agent.serial(), "count": 2}]);
    crm.post::<()>(ACKS, &open).await.unwrap();
    acknowledge(&billing, 0).await;

    let mut entries = issuer.server.issuer().store().state().revocation_changes();
    let committed = async {
        entries.changed().await.unwrap();
        let mut done = ack(1);
        done["closed_connections"] = 2.into();
        done["last_accepted_at"] = "2026-11-21T03:07:41.229Z".into();
        done["last_accepted"] = "GET:crm/customers/88".into();
        crm.post::<()>(ACKS, &done).await.unwrap();
        acknowledge(&billing, 1).await;
    };
    let (answer, ()) = tokio::join!(issuer.revoke(suspend(30)), committed);
    let applied = answer.applied.unwrap();
    assert_eq!((applied.verifiers, applied.confirmed, applied.closed_connections), (2, 2, 2));
    assert!(applied.unconfirmed.is_empty() && applied.max_ms.is_some());
    assert_eq!(applied.last_accepted.as_deref(), Some("GET:crm/customers/88"));
    assert_eq!(applied.last_accepted_by.unwrap().path(), "/service/crm");
    let radius = answer.radius.unwrap();
    assert_eq!((radius.instances, radius.certificates, radius.open_connections), (1, 1, Some(2)));
    assert_eq!((radius.systems.len(), radius.open_at.len(), radius.includes_caller), (1, 1, false));
}

#[tokio::test]
async fn a_verifier_that_does_not_confirm_is_named_with_the_time_it_refuses_by() {
    let issuer = Issuer::start().await;
    issuer.joined("invoice-bot", &[READ]).await;
    let (crm, billing) = (issuer.service("crm").await, issuer.service("billing").await);
    acknowledge(&issuer.client(Some(&crm)), 0).await;
    acknowledge(&issuer.client(Some(&billing)), 0).await;

    // Without a wait: what is known at once.
    let answer = issuer.revoke(suspend(0)).await;
    let entry = answer.revocations[0].clone();
    assert_eq!(answer.applied.unwrap().unconfirmed.len(), 2);
    acknowledge(&issuer.client(Some(&crm)), entry.n).await;
    let path = format!("/v1/admin/revocations/{}", entry.id);
    let standing: RevocationStanding = issuer.admin.get(&path).await.unwrap().body;
    assert_eq!(standing.revocation, entry);
    let [missing] = &standing.applied.unconfirmed[..] else { panic!("{standing:?}") };
    assert_eq!((missing.verifier.path(), missing.n), ("/service/billing", Some(0)));
    let expired_after = issuer.server.issuer().config().freshness.expired_after;
    assert_eq!(missing.refuses_by, missing.last_seen_at.unwrap() + expired_after);

    // Another wait for the same: it ends when the last one confirms.
    let waiting = async { issuer.admin.get::<RevocationStanding>(&format!("{path}?wait_s=30")).await.unwrap().body };
    let client = issuer.client(Some(&billing));
    let (standing, ()) = tokio::join!(waiting, acknowledge(&client, entry.n));
    assert_eq!((standing.applied.confirmed, standing.applied.unconfirmed.len()), (2, 0));
    let refused = issuer.admin.get::<Value>(&format!("{path}?wait_s=31")).await.err().unwrap();
    assert_eq!(problem(refused).code, "invalid");
}

#[tokio::test]
async fn each_replica_is_asked_for_on_its_own_and_a_renewal_is_no_new_one() {
    let issuer = Issuer::start().await;
    issuer.joined("invoice-bot", &[READ]).await;
    let (first, second) = (issuer.service("crm").await, issuer.replica("crm").await);
    acknowledge(&issuer.client(Some(&first)), 0).await;
    acknowledge(&issuer.client(Some(&second)), 0).await;
    let renewed = issuer.renew(&first, crate::fixture::Key::draw()).await.unwrap();
    acknowledge(&issuer.client(Some(&renewed)), 0).await;
    assert_eq!(verifiers(&issuer).await.len(), 2);
    issuer.revoke(suspend(0)).await;
    acknowledge(&issuer.client(Some(&renewed)), 1).await;
    let numbers: Vec<_> = verifiers(&issuer).await.iter().map(|verifier| verifier.n).collect();
    assert!(numbers.contains(&Some(0)) && numbers.contains(&Some(1)), "{numbers:?}");
    let mut pages = Vec::new();
    let mut path = "/v1/admin/verifiers/crm?limit=1".to_owned();
    loop {
        let page: List<VerifierView> = issuer.admin.get(&path).await.unwrap().body;
        pages.extend(page.data.iter().map(|verifier| verifier.lineage));
        let Some(cursor) = page.next_cursor else { break };
        path = format!("/v1/admin/verifiers/crm?limit=1&cursor={cursor}");
    }
    pages.dedup();
    assert_eq!(pages.len(), 2);
}

#[tokio::test]
async fn an_acknowledgement_belongs_to_the_certificate_that_brings_it() {
    let issuer = Issuer::start().await;
    let agent = issuer.joined("invoice-bot", &[READ]).await;
    let crm = issuer.service("crm").await;
    let post = async |held: Option<&Held>, body: Value| {
        problem(issuer.client(held).post::<Value>(ACKS, &body).await.err().unwrap()).code
    };
    assert_eq!(post(Some(&agent), ack(0)).await, "wrong-caller");
    assert_eq!(post(None, ack(0)).await, "unauthenticated");
    let mut claims = ack(0);
    claims["spiffe_id"] = "spiffe://dev.invalid/service/billing".into();
    assert_eq!(post(Some(&crm), claims).await, "bad-request");
    // A number that there is not confirms nothing, now or later.
    assert_eq!(post(Some(&crm), ack(7)).await, "invalid");
    let mut claims = ack(0);
    claims["last_accepted"] = "\u{1b}[2J".into();
    assert_eq!(post(Some(&crm), claims).await, "invalid");
    let mut claims = ack(0);
    claims["open_connections"] = (0..4097).map(|_| json!({"serial": crm.serial(), "count": 1})).collect();
    assert_eq!(post(Some(&crm), claims.clone()).await, "invalid");
    assert!(verifiers(&issuer).await.is_empty());
    claims["open_connections"].as_array_mut().unwrap().pop();
    issuer.client(Some(&crm)).post::<()>(ACKS, &claims).await.unwrap();
    assert_eq!(verifiers(&issuer).await[0].open_connections, Some(4096));
    // One that is stopped itself confirms nothing any more.
    issuer.revoke(json!({"targets": ["service:crm"], "effect": "suspend"})).await;
    assert_eq!(post(Some(&crm), ack(1)).await, "certificate-revoked");
}

#[tokio::test]
async fn a_service_that_asks_for_crls_confirms_by_the_copy_it_holds() {
    let issuer = Issuer::start().await;
    let agent = issuer.joined("invoice-bot", &[READ]).await;
    let edge = issuer.service("edge").await;
    let client = issuer.client(Some(&edge));
    let authority = issuer.server.issuer().authorities().issuing().key_id();
    let crl = format!("/crl/{authority}.crl");
    let first = tag(&client, &crl, None).await;
    issuer.client(Some(&agent)).fetch(&crl, None).await.unwrap();
    issuer.client(None).fetch(&crl, None).await.unwrap();
    // One question does not make a verifier: nobody waits for who asks now and then.
    assert!(verifiers(&issuer).await.is_empty());

    tag(&client, &crl, Some(&first)).await;
    let [seen] = &verifiers(&issuer).await[..] else { panic!("one polls that serves") };
    assert_eq!((seen.how, seen.state, seen.n), (Learns::CrlPoll, KnowledgeState::Fresh, Some(0)));
    assert_eq!(seen.open_connections, None);
    let entry = issuer.revoke(suspend(0)).await.revocations.remove(0);
    while issuer.server.issuer().crls().issuing_at(entry.n).is_none() {
        tokio::task::yield_now().await;
    }
    let second = tag(&client, &crl, Some(&first)).await;
    assert_eq!(verifiers(&issuer).await[0].n, Some(0));
    // It asks again, with the tag of what it got.
    tag(&client, &crl, Some(&second)).await;
    let path = format!("/v1/admin/revocations/{}", entry.id);
    let standing: RevocationStanding = issuer.admin.get(&path).await.unwrap().body;
    assert_eq!((standing.applied.verifiers, standing.applied.confirmed), (1, 1));
}

/// Fetches, and answers with the tag of what the client has then.
async fn tag(client: &Client, path: &str, held: Option<&str>) -> String {
    match client.fetch(path, held).await.unwrap() {
        chancery_api::client::Fetched::Changed { etag, .. } => etag.unwrap(),
        chancery_api::client::Fetched::Unchanged => held.unwrap().to_owned(),
    }
}

#[tokio::test]
async fn a_restarted_issuer_remembers_whom_it_has_to_ask() {
    let issuer = Issuer::start().await;
    issuer.joined("invoice-bot", &[READ]).await;
    let crm = issuer.service("crm").await;
    acknowledge(&issuer.client(Some(&crm)), 0).await;

    let issuer = issuer.restart(async |_| {}).await;
    let started: Timestamp = issuer.server.issuer().now();
    let [seen] = &verifiers(&issuer).await[..] else { panic!("the verifier is forgotten") };
    assert_eq!((seen.n, seen.last_seen_at), (None, None));
    let expired_after = issuer.server.issuer().config().freshness.expired_after;
    assert!(
        seen.refuses_by <= started + expired_after
            && seen.refuses_by + Duration::from_secs(60) > started + expired_after
    );
    let answer = issuer.revoke(suspend(0)).await;
    assert_eq!(answer.applied.unwrap().unconfirmed.len(), 1);
    let client = issuer.client(Some(&crm));
    acknowledge(&client, answer.revocations[0].n).await;
    assert_eq!(issuer.revoke(suspend(30)).await.applied.unwrap().confirmed, 1);
}

/// With the crates that services and agents link: the answer is read when it has stopped.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_follows_the_feed_has_stopped_it_before_the_answer_is_read() {
    let mut folder = None;
    let issuer = Issuer::start_with(|_, path| folder = Some(path.to_path_buf())).await;
    let folder = folder.unwrap();
    let new = json!({"name": "crm", "owner": "team-crm", "systems": ["crm"], "dns": ["crm.localhost"]});
    issuer.admin.post::<Value>("/v1/admin/services", &new).await.unwrap();
    issuer.agent("invoice-bot", &[READ]).await;
    let url = serve(join(&issuer, &folder, "service", "crm").await).await;
    let agent = join(&issuer, &folder, "agent", "invoice-bot").await;
    let calls = agent.http(&url).unwrap();
    calls.get("/customers/42").await.unwrap();
    while verifiers(&issuer).await.first().is_none_or(|crm| crm.how != Learns::Feed || crm.n != Some(0)) {
        tokio::task::yield_now().await;
    }

    let answer = issuer.revoke(suspend(30)).await;
    assert!(calls.get("/customers/42").await.is_err());
    let applied = answer.applied.unwrap();
    assert_eq!((applied.verifiers, applied.confirmed, applied.unconfirmed.len()), (1, 1, 0), "{applied:?}");
    assert_eq!(applied.closed_connections, 1, "{applied:?}");
    assert!(applied.max_ms.is_some_and(|ms| ms < 5_000), "{applied:?}");
    assert_eq!(applied.last_accepted.as_deref(), Some(READ), "{applied:?}");

    // Who has hung up by then is told of as well: it may have asked a moment ago.
    issuer.agent("brief-bot", &[READ]).await;
    let brief = join(&issuer, &folder, "agent", "brief-bot").await;
    for _ in 0..3 {
        brief.http(&url).unwrap().get("/customers/42").await.unwrap();
    }
    let asked_at = issuer.clock.now();
    let other = json!({"targets": ["owner:team-gone"], "effect": "suspend", "wait_s": 30});
    assert_eq!(issuer.revoke(other).await.applied.unwrap().last_accepted, None);
    let stop = json!({"targets": ["agent:brief-bot"], "effect": "suspend", "wait_s": 30});
    let applied = issuer.revoke(stop).await.applied.unwrap();
    assert_eq!(applied.last_accepted.as_deref(), Some(READ), "{applied:?}");
    assert!(applied.last_accepted_at.is_some_and(|at| at <= asked_at), "{applied:?}");
}

#[tokio::test]
async fn what_is_in_force_already_is_answered_with_200() {
    let issuer = Issuer::start().await;
    issuer.joined("invoice-bot", &[READ]).await;
    let first = issuer.admin.post::<RevocationsAnswer>("/v1/admin/revocations", &suspend(0)).await.unwrap();
    let again = issuer.admin.post::<RevocationsAnswer>("/v1/admin/revocations", &suspend(0)).await.unwrap();
    assert_eq!((first.status.as_u16(), again.status.as_u16()), (201, 200));
    assert_eq!(first.body.revocations, again.body.revocations);
}
