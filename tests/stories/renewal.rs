//! The next certificate of a lineage: once, with a new key, within what the record says now.

use chancery_api::Issued;
use serde_json::{Value, json};

use crate::fixture::{Issuer, Key, problem};

const READ: &str = "tools/call:crm/get_customer";
const REFUND: &str = "tools/call:crm/refund";

#[tokio::test]
async fn a_certificate_is_renewed_once_and_a_second_key_suspends_the_lineage() {
    let issuer = Issuer::start().await;
    let first = issuer.joined("invoice-bot", &[READ]).await;

    let key = Key::draw();
    let second = issuer.renew(&first, key.clone()).await.unwrap();
    assert_eq!(second.issued.certificate.spiffe_id, first.issued.certificate.spiffe_id);
    assert_ne!(second.serial(), first.serial());
    // A lost reply: the same key gets the same answer.
    assert_eq!(issuer.renew(&first, key).await.unwrap().serial(), second.serial());

    // A thief with the first key asks too.
    let fork = issuer.renew(&first, Key::draw()).await.err().unwrap();
    assert_eq!((fork.code.as_str(), fork.status), ("lineage-forked", 403));
    let stopped = issuer.renew(&second, Key::draw()).await.err().unwrap();
    assert!(matches!(stopped.code.as_str(), "certificate-revoked" | "suspended"), "{stopped}");
}

#[tokio::test]
async fn the_key_in_use_is_not_certified_again() {
    let issuer = Issuer::start().await;
    let held = issuer.joined("invoice-bot", &[READ]).await;
    assert_eq!(issuer.renew(&held, held.key.clone()).await.err().unwrap().code, "key-reused");
    // Nor is another's.
    let other = issuer.joined("report-bot", &[READ]).await;
    assert_eq!(issuer.renew(&other, held.key.clone()).await.err().unwrap().code, "key-refused");
}

#[tokio::test]
async fn renewal_follows_the_record_but_a_chosen_part_never_grows() {
    let issuer = Issuer::start().await;
    let whole = issuer.joined("invoice-bot", &[READ]).await;
    let token = issuer.token("invoice-bot", 1).await;
    let update = async |patch: Value| {
        issuer.admin.patch::<Value>("/v1/admin/agents/invoice-bot", &patch, None).await.unwrap();
    };
    update(json!({"add_scopes": [REFUND]})).await;
    let whole = issuer.renew(&whole, Key::draw()).await.unwrap();
    assert_eq!(whole.scopes(), [READ, REFUND]);

    let key = Key::draw();
    let evidence = json!({"method": "join_token", "token": token});
    let request = json!({"evidence": evidence, "csr_pem": key.csr(), "scopes": [READ]});
    let issued = issuer.client(None).post::<Issued>("/v1/attest", &request).await.unwrap().body;
    let part = crate::fixture::Held { issued, key };
    let part = issuer.renew(&part, Key::draw()).await.unwrap();
    assert_eq!(part.scopes(), [READ]);
    let more = json!({"csr_pem": Key::draw().csr(), "scopes": [READ, REFUND]});
    let refused = issuer.client(Some(&part)).post::<Value>("/v1/certificates/renew", &more).await;
    assert_eq!(problem(refused.err().unwrap()).code, "scope-not-held");

    // What the record loses, renewals lose.
    update(json!({"remove_scopes": [READ]})).await;
    assert_eq!(issuer.renew(&whole, Key::draw()).await.unwrap().scopes(), [REFUND]);
    assert!(issuer.renew(&part, Key::draw()).await.unwrap().scopes().is_empty());
}

#[tokio::test]
async fn an_agent_never_reaches_administration() {
    let issuer = Issuer::start().await;
    let held = issuer.joined("invoice-bot", &[READ]).await;
    let client = issuer.client(Some(&held));
    for path in ["/v1/admin/agents", "/v1/admin/log", "/v1/admin/certificates", "/v1/admin/admins"] {
        let refused = problem(client.get::<Value>(path).await.err().unwrap());
        assert_eq!((refused.code.as_str(), refused.status), ("wrong-caller", 403), "{path}");
    }
    let suspend = json!({"targets": ["agent:invoice-bot"], "effect": "suspend"});
    assert_eq!(
        problem(client.post::<Value>("/v1/admin/revocations", &suspend).await.err().unwrap()).code,
        "wrong-caller"
    );
}

#[tokio::test]
async fn whoami_sheds_the_wait_that_is_one_too_many() {
    let issuer = Issuer::start().await;
    let held = issuer.joined("invoice-bot", &[READ]).await;
    let client = std::sync::Arc::new(issuer.client(Some(&held)));
    let mut waits = tokio::task::JoinSet::new();
    for _ in 0..9 {
        let client = client.clone();
        waits.spawn(async move {
            let wait = std::time::Duration::from_secs(30);
            client.get_waiting::<Value>("/v1/whoami?after_revision=1&wait_s=30", wait).await
        });
    }
    let patience = std::time::Duration::from_secs(10);
    let mut answered = async || tokio::time::timeout(patience, waits.join_next()).await.unwrap().map(Result::unwrap);
    let shed = problem(answered().await.unwrap().err().unwrap());
    assert_eq!((shed.code.as_str(), shed.status, shed.retry), ("overloaded", 503, chancery_api::Retry::After));
    // Who asks without waiting is answered, and those who wait are told.
    assert_eq!(client.get::<Value>("/v1/whoami").await.unwrap().body["revision"], 1);
    issuer.admin.patch::<Value>("/v1/admin/agents/invoice-bot", &json!({"add_scopes": [REFUND]}), None).await.unwrap();
    for _ in 0..8 {
        assert_eq!(answered().await.unwrap().unwrap().body["revision"], 2);
    }
    assert!(answered().await.is_none());
}

#[tokio::test]
async fn whoami_answers_when_the_record_changes() {
    let issuer = Issuer::start().await;
    let held = issuer.joined("invoice-bot", &[READ]).await;
    let client = issuer.client(Some(&held));
    let waiting = tokio::spawn(async move {
        let wait = std::time::Duration::from_secs(30);
        client.get_waiting::<Value>("/v1/whoami?after_revision=1&wait_s=30", wait).await.unwrap().body
    });
    issuer.admin.patch::<Value>("/v1/admin/agents/invoice-bot", &json!({"add_scopes": [REFUND]}), None).await.unwrap();
    let told = tokio::time::timeout(std::time::Duration::from_secs(10), waiting).await.unwrap().unwrap();
    assert_eq!((&told["revision"], &told["scopes"]), (&json!(2), &json!([READ, REFUND])));
}
