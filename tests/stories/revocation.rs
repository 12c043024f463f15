//! What is stopped is stopped: no renewal, no return, in the CRL.

use serde_json::{Value, json};

use crate::fixture::{Issuer, Key, problem};

const READ: &str = "tools/call:crm/get_customer";

#[tokio::test]
async fn a_suspended_agent_gets_nothing_until_it_is_resumed() {
    let issuer = Issuer::start().await;
    let held = issuer.joined("invoice-bot", &[READ]).await;
    let token = issuer.token("invoice-bot", 2).await;

    let answer = issuer.revoke(json!({"targets": ["agent:invoice-bot"], "effect": "suspend"})).await;
    let entry = &answer.revocations[0];
    assert_eq!((entry.n, entry.reason.as_str()), (1, "certificate_hold"));
    // Again is no second entry.
    assert_eq!(
        issuer.revoke(json!({"targets": ["agent:invoice-bot"], "effect": "suspend"})).await.revocations[0].id,
        entry.id
    );

    assert_eq!(issuer.attest(&token, Key::draw()).await.err().unwrap().code, "suspended");
    let refused = issuer.renew(&held, Key::draw()).await.err().unwrap();
    assert_eq!(refused.code, "certificate-revoked");

    let resume = format!("/v1/admin/revocations/{}/resume", entry.id);
    issuer.admin.post::<Value>(&resume, &json!({"comment": "false alarm"})).await.unwrap();
    issuer.attest(&token, Key::draw()).await.unwrap();
    // Those who know it from the CRL know it until the next one.
    let key = Key::draw();
    while let Err(refused) = issuer.renew(&held, key.clone()).await {
        assert_eq!(refused.code, "certificate-revoked");
    }
    // Asked again, it answers what it did.
    let again: Value = issuer.admin.post(&resume, &json!({})).await.unwrap().body;
    assert_eq!(again["resumed_by"]["n"], 2);
    let ended = issuer.revoke(json!({"targets": ["agent:invoice-bot"], "effect": "retire"})).await;
    let resume = format!("/v1/admin/revocations/{}/resume", ended.revocations[0].id);
    let refused = problem(issuer.admin.post::<Value>(&resume, &json!({})).await.err().unwrap());
    assert_eq!(refused.code, "not-resumable");
}

#[tokio::test]
async fn revoking_lets_it_attest_again_and_says_so() {
    let issuer = Issuer::start().await;
    let held = issuer.joined("invoice-bot", &[READ]).await;
    let answer = issuer.revoke(json!({"targets": ["agent:invoice-bot"], "effect": "revoke"})).await;
    assert_eq!(answer.warnings, ["invoice-bot can attest again; to keep it out: effect suspend"]);
    assert_eq!(issuer.renew(&held, Key::draw()).await.err().unwrap().code, "certificate-revoked");
    let token = issuer.token("invoice-bot", 1).await;
    let back = issuer.attest(&token, Key::draw()).await.unwrap();
    issuer.renew(&back, Key::draw()).await.unwrap();
}

#[tokio::test]
async fn every_kind_of_target_stops_a_renewal() {
    let issuer = Issuer::start().await;
    for (count, kind) in ["serial", "instance", "lineage", "owner", "scope", "grant"].into_iter().enumerate() {
        let name = format!("bot-{count}");
        let scope = format!("tools/call:crm/job-{count}");
        let owner = format!("team-{count}");
        let new = json!({"name": name, "owner": owner, "scopes": [scope]});
        issuer.admin.post::<Value>("/v1/admin/agents", &new).await.unwrap();
        let token = issuer.token(&name, 1).await;
        let held = issuer.attest(&token, Key::draw()).await.unwrap();
        let seen: Value = issuer.admin.get(&format!("/v1/admin/certificates/{}", held.serial())).await.unwrap().body;
        let target = match kind {
            "serial" => format!("serial:{}", held.serial()),
            "instance" => format!("instance:{}", seen["instance"].as_str().unwrap()),
            "lineage" => format!("lineage:{}", seen["lineage"].as_str().unwrap()),
            "owner" => format!("owner:{owner}"),
            // Overlap, not equality: what could exercise part of it.
            "scope" => format!("scope:tools/*:crm/job-{count}"),
            _ => seen["grant_id"].as_str().unwrap().to_owned(),
        };
        issuer.revoke(json!({"targets": [target], "effect": "revoke"})).await;
        let refused = issuer.renew(&held, Key::draw()).await.err();
        assert_eq!(refused.map(|problem| problem.code), Some("certificate-revoked".into()), "{target}");
    }
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_a_missing_target_is_named() {
    let issuer = Issuer::start().await;
    let held = issuer.joined("invoice-bot", &[READ]).await;
    let dry = issuer.revoke(json!({"targets": ["agent:invoice-bot"], "effect": "retire", "dry_run": true})).await;
    assert!(dry.revocations.is_empty());
    issuer.renew(&held, Key::draw()).await.unwrap();

    let unnamed = json!({"targets": ["agent:invoice-bot"]});
    let refused = problem(issuer.admin.post::<Value>("/v1/admin/revocations", &unnamed).await.err().unwrap());
    assert_eq!(refused.code, "effect-needed");
    let misspelt = json!({"targets": ["agent:invoice-bto"], "effect": "suspend"});
    let refused = problem(issuer.admin.post::<Value>("/v1/admin/revocations", &misspelt).await.err().unwrap());
    assert_eq!((refused.code.as_str(), refused.status), ("not-found", 404));
}

#[tokio::test]
async fn an_agent_ends_its_own_certificate_and_no_other() {
    let issuer = Issuer::start().await;
    let held = issuer.joined("invoice-bot", &[READ]).await;
    let other = issuer.joined("report-bot", &[READ]).await;
    let client = issuer.client(Some(&held));
    let path = |serial: &str| format!("/v1/certificates/{serial}/revoke");
    let refused = problem(client.post::<Value>(&path(&other.serial()), &json!({})).await.err().unwrap());
    assert_eq!(refused.status, 404);
    client.post::<Value>(&path(&held.serial()), &json!({"reason": "key_compromise"})).await.unwrap();
    assert_eq!(issuer.renew(&held, Key::draw()).await.err().unwrap().code, "certificate-revoked");
    issuer.renew(&other, Key::draw()).await.unwrap();
}
