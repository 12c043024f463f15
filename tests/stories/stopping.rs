//! Stopping, from the command line and at every way to a certificate.

use serde_json::{Value, json};

use crate::attestation::fleet;
use crate::fixture::{Held, Issuer, Key, problem};

const READ: &str = "tools/call:crm/get_customer";

async fn acknowledge(issuer: &Issuer, held: &Held, n: u64) {
    let ack = json!({"epoch": 1, "n": n, "applied_at": "2026-11-21T03:07:41.203Z"});
    issuer.client(Some(held)).post::<()>("/v1/feed/acks", &ack).await.unwrap();
}

#[tokio::test]
async fn what_reaches_far_is_stopped_by_its_number_only() {
    let issuer = Issuer::start().await;
    issuer.joined("invoice-bot", &[READ]).await;
    issuer.joined("report-bot", &[READ]).await;

    let token = issuer.token("invoice-bot", 9).await;
    for _ in 0..9 {
        issuer.attest(&token, Key::draw()).await.unwrap();
    }

    // Eleven of twelve: no longer few, and more than a tenth.
    let target = "owner:team-finance";
    let refused = issuer.chancery(&["suspend", target, "--yes"]).await;
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.err.contains("--confirm 11") && refused.err.contains("11 certificates"), "{refused:?}");
    assert!(refused.err.contains("agent:invoice-bot agent:report-bot"), "{refused:?}");
    assert_eq!(issuer.chancery(&["suspend", target, "--yes", "--confirm", "10"]).await.code, 2);
    assert_eq!(issuer.chancery(&["suspend", target, "--confirm", "11"]).await.code, 2, "nobody to ask");
    let dry = issuer.chancery(&["suspend", target, "--dry-run"]).await;
    assert_eq!(dry.code, 0, "{dry:?}");
    assert!(dry.out.contains("11 instances, 11 certificates, 0 children, 1 system (crm)"), "{dry:?}");
    assert_eq!(issuer.server.issuer().store().state().position().n, 0);

    let done = issuer.chancery(&["suspend", target, "--yes", "--confirm", "11", "--comment", "INC-2291"]).await;
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.out.contains("verifiers   none is known here"), "{done:?}");
    assert_eq!(issuer.server.issuer().store().state().position().n, 1);
    // What is stopped already is not stopped again.
    let again = issuer.chancery(&["suspend", "agent:invoice-bot", "--yes"]).await;
    assert_eq!(again.code, 0, "{again:?}");
}

#[tokio::test]
async fn a_service_the_caller_and_the_issuer_are_never_stopped_in_passing() {
    let issuer = Issuer::start().await;
    for n in 0..21 {
        issuer.joined(&format!("bot-{n}"), &[READ]).await;
    }
    issuer.service("crm").await;
    let refused = issuer.chancery(&["suspend", "service:crm", "--yes"]).await;
    assert!(refused.code == 2 && refused.err.contains("this stops 1 service"), "{refused:?}");
    let authority = issuer.server.issuer().authorities().issuing().key_id();
    let refused = issuer.chancery(&["retire", &format!("authority:{authority}"), "--yes"]).await;
    assert!(refused.code == 2 && refused.err.contains("the issuer's own certificate"), "{refused:?}");
    // One alone needs none.
    let done = issuer.chancery(&["suspend", "agent:bot-7", "--yes"]).await;
    assert_eq!(done.code, 0, "{done:?}");

    issuer.admin.post::<Value>("/v1/admin/admins", &json!({"name": "ana", "access": ["revoker"]})).await.unwrap();
    let token: Value =
        issuer.admin.post("/v1/admin/join-tokens", &json!({"admin": "ana", "uses": 1})).await.unwrap().body;
    let ana = issuer.attest(token["token"].as_str().unwrap(), Key::draw()).await.unwrap();
    let request = json!({"targets": ["admin:ana"], "effect": "suspend", "dry_run": true});
    let client = issuer.client(Some(&ana));
    let answer: Value = client.post("/v1/admin/revocations", &request).await.unwrap().body;
    assert_eq!(answer["radius"]["includes_caller"], true, "{answer}");
    let request = json!({"targets": ["agent:bot-1"], "effect": "suspend", "dry_run": true});
    let answer: Value = client.post("/v1/admin/revocations", &request).await.unwrap().body;
    assert_eq!(answer["radius"]["includes_caller"], false, "{answer}");
}

#[tokio::test]
async fn the_command_line_names_who_is_not_sure_and_follows_them() {
    let issuer = Issuer::start().await;
    issuer.joined("invoice-bot", &[READ]).await;
    let (crm, billing) = (issuer.service("crm").await, issuer.service("billing").await);
    acknowledge(&issuer, &crm, 0).await;
    acknowledge(&issuer, &billing, 0).await;
    let listed = issuer.chancery(&["verifiers", "list"]).await;
    let rows: Vec<&str> = listed.out.lines().collect();
    assert!(rows[0].starts_with("SERVICE  SYSTEMS  HOW   N  STATE  LAG  OPEN CONNS"), "{listed:?}");
    assert!(rows[1].starts_with("billing  billing  feed  0  fresh"), "{listed:?}");
    assert_eq!(rows.len(), 3);

    // As surface and README have it: few are stopped without a number.
    let words = ["suspend", "agent:invoice-bot", "--yes", "--wait", "1s"];
    let stop = issuer.chancery(&words);
    let mut entries = issuer.server.issuer().store().state().revocation_changes();
    let confirm = async {
        entries.changed().await.unwrap();
        acknowledge(&issuer, &crm, 1).await;
    };
    let (stopped, ()) = tokio::join!(stop, confirm);
    assert_eq!(stopped.code, 7, "{stopped:?}");
    assert!(stopped.out.contains("  verifiers   1 of 2 applied, slowest "), "{stopped:?}");
    assert!(stopped.out.contains("  NOT SURE    billing: silent since "), "{stopped:?}");
    assert!(stopped.out.contains("will refuse everything by "), "{stopped:?}");

    let id = stopped.out.split_whitespace().nth(1).unwrap().to_owned();
    let follow = ["revocations", "get", &id, "--watch"];
    let (followed, ()) = tokio::join!(issuer.chancery(&follow), acknowledge(&issuer, &billing, 1));
    assert_eq!(followed.code, 0, "{followed:?}");
    assert!(
        followed.out.trim_end().lines().last().unwrap().starts_with("  verifiers   2 of 2 applied"),
        "{followed:?}"
    );
    // All did already: the same again ends with 0.
    assert_eq!(issuer.chancery(&["suspend", "agent:invoice-bot", "--yes", "--wait", "1s"]).await.code, 0);
    assert_eq!(issuer.chancery(&["suspend", "agent:invoice-bot", "--yes", "--wait", "31s"]).await.code, 2);
}

#[tokio::test]
async fn what_was_pasted_is_shown_with_what_stops_it() {
    let issuer = Issuer::start().await;
    let agent = issuer.joined("invoice-bot", &[READ]).await;
    let crm = issuer.service("crm").await;
    let open = json!([{"serial": agent.serial(), "count": 2}]);
    let ack = json!({"epoch": 1, "n": 0, "applied_at": "2026-11-21T03:07:41.203Z", "open_connections": open});
    issuer.client(Some(&crm)).post::<()>("/v1/feed/acks", &ack).await.unwrap();
    let shown = issuer.chancery(&["show", &agent.issued.certificate.spiffe_id.to_string()]).await;
    assert_eq!(shown.code, 0, "{shown:?}");
    assert!(shown.out.starts_with("instance of agent invoice-bot  owner team-finance  attested "), "{shown:?}");
    let line = "  1 of 1 instance   certificates 1   children 0   open connections 2 (crm)";
    assert!(shown.out.contains(line), "{shown:?}");
    assert!(shown.err.contains("chancery suspend instance:") && shown.err.contains("suspend agent:invoice-bot"));
    let shown = issuer.chancery(&["show", "owner:team-finance"]).await;
    assert!(shown.out.contains("1 instance, 1 certificate") && shown.out.contains("agent:invoice-bot"), "{shown:?}");
}

#[tokio::test]
async fn part_of_a_scope_stops_whoever_could_exercise_it() {
    let issuer = Issuer::start().await;
    let wide = issuer.joined("invoice-bot", &["tools/call:crm/*"]).await;
    let narrow = issuer.joined("report-bot", &[READ]).await;
    let request = json!({"targets": ["scope:tools/call:crm/refund"], "effect": "revoke"});
    let answer = issuer.revoke(request).await;
    let radius = answer.radius.unwrap();
    assert_eq!((radius.certificates, radius.holders), (1, vec!["agent:invoice-bot".parse().unwrap()]));
    assert_eq!(issuer.renew(&wide, Key::draw()).await.err().unwrap().code, "certificate-revoked");
    issuer.renew(&narrow, Key::draw()).await.unwrap();
    // What exists is ended; what is issued after is new.
    let token = issuer.token("invoice-bot", 2).await;
    issuer.attest(&token, Key::draw()).await.unwrap();
    issuer.revoke(json!({"targets": ["scope:tools/call:crm/refund"], "effect": "suspend"})).await;
    assert_eq!(issuer.attest(&token, Key::draw()).await.err().unwrap().code, "suspended");
}

#[tokio::test]
async fn a_suspension_bars_every_way_to_a_certificate() {
    let (root, leaf, shown) = fleet();
    let issuer = Issuer::start_with(|config, folder| {
        let path = folder.join("fleet.pem");
        std::fs::write(&path, root.pem()).unwrap();
        config.x509pop_roots = Some(path);
    })
    .await;
    let rules = json!([{"method": "x509pop", "selectors": ["x509pop:subject:cn:host-7"]}, {"method": "join_token"}]);
    let new = json!({"name": "invoice-bot", "owner": "team", "scopes": [READ], "attestation": rules});
    issuer.admin.post::<Value>("/v1/admin/agents", &new).await.unwrap();
    let service = json!({"name": "crm", "owner": "team", "systems": ["crm"], "scopes": [READ]});
    issuer.admin.post::<Value>("/v1/admin/services", &service).await.unwrap();
    let token = issuer.token("invoice-bot", 8).await;
    let old = issuer.attest(&token, Key::draw()).await.unwrap();
    issuer.forward(2 * 3600).await;
    let token = issuer.token("invoice-bot", 8).await;
    let service: Value =
        issuer.admin.post("/v1/admin/join-tokens", &json!({"service": "crm", "uses": 8})).await.unwrap().body;
    let service = service["token"].as_str().unwrap();

    for target in ["owner:team", "scope:tools/call:crm/**", "agent:invoice-bot"] {
        let held = issuer.attest(&token, Key::draw()).await.unwrap();
        let request = json!({"targets": [target], "effect": "suspend"});
        let entry = issuer.revoke(request).await.revocations.remove(0);
        let barred = |refused: Option<chancery_api::Problem>, way: &str| {
            let code = refused.map(|refused| refused.code).unwrap_or_default();
            assert!(matches!(code.as_str(), "suspended" | "certificate-revoked"), "{target} by {way}: {code:?}");
        };
        barred(issuer.attest(&token, Key::draw()).await.err(), "join token");
        barred(issuer.renew(&held, Key::draw()).await.err(), "renewal");
        let key = Key::draw();
        let evidence = issuer.signed("x509pop", "invoice-bot", &leaf, &shown, &key).await;
        barred(issuer.attest_by(evidence, key).await.err(), "x509pop");
        let key = Key::draw();
        let evidence = issuer.signed("rejoin", "invoice-bot", &old.issued.chain_pem, &old.key, &key).await;
        barred(issuer.attest_by(evidence, key).await.err(), "rejoin");
        if target != "agent:invoice-bot" {
            barred(issuer.attest(service, Key::draw()).await.err(), "a service's join token");
        }
        let resume = format!("/v1/admin/revocations/{}/resume", entry.id);
        issuer.admin.post::<Value>(&resume, &json!({})).await.unwrap();
        issuer.attest(&token, Key::draw()).await.unwrap();
        issuer.attest(service, Key::draw()).await.unwrap();
    }
}

#[tokio::test]
async fn several_targets_are_one_decision_and_a_time_is_one_of_them() {
    let issuer = Issuer::start().await;
    let first = issuer.joined("invoice-bot", &[READ]).await;
    let second = issuer.joined("report-bot", &[READ]).await;
    let serials = [format!("serial:{}", first.serial()), format!("serial:{}", second.serial())];
    // No effect is named: for serials it can only be one.
    let answer = issuer.revoke(json!({"targets": serials})).await;
    let [one, two] = &answer.revocations[..] else { panic!("{answer:?}") };
    assert_eq!((one.n, two.n, two.log_index), (1, 2, one.log_index + 1));
    assert_eq!(one.created_at, two.created_at);
    assert_eq!(answer.radius.unwrap().certificates, 2);
    for held in [&first, &second] {
        assert_eq!(issuer.renew(held, Key::draw()).await.err().unwrap().code, "certificate-revoked");
    }

    let before = issuer.attest(&issuer.token("invoice-bot", 1).await, Key::draw()).await.unwrap();
    issuer.forward(1).await;
    let at = issuer.server.issuer().now();
    issuer.forward(1).await;
    let after = issuer.attest(&issuer.token("invoice-bot", 1).await, Key::draw()).await.unwrap();
    let answer = issuer.revoke(json!({"targets": [format!("issued-before:{at}")]})).await;
    let radius = answer.radius.unwrap();
    assert_eq!((radius.certificates >= 1, radius.includes_issuer), (true, true));
    assert_eq!(issuer.renew(&before, Key::draw()).await.err().unwrap().code, "certificate-revoked");
    issuer.renew(&after, Key::draw()).await.unwrap();
    let future = json!({"targets": ["issued-before:2100-01-01T00:00:00Z"]});
    assert_eq!(problem(issuer.admin.post::<Value>("/v1/admin/revocations", &future).await.err().unwrap()).status, 422);
}

#[tokio::test]
async fn a_serial_that_was_never_issued_is_refused_and_what_reaches_nothing_says_so() {
    let issuer = Issuer::start().await;
    let unknown = json!({"targets": ["serial:5c0e91aa5c0e91aa5c0e91aa5c0e91aa"]});
    let refused = problem(issuer.admin.post::<Value>("/v1/admin/revocations", &unknown).await.err().unwrap());
    assert_eq!((refused.code.as_str(), refused.status), ("not-found", 404));
    let nobody = json!({"targets": ["owner:team-nobody"], "effect": "revoke"});
    let answer = issuer.revoke(nobody).await;
    assert!(answer.warnings[0].contains("no certificate that is valid now is reached"), "{:?}", answer.warnings);
    let forbidden = issuer.revoke(json!({"targets": ["scope:tools/call:crm/refund"], "effect": "forbid"})).await;
    assert!(forbidden.warnings[0].contains("CRL and OCSP do not show it"), "{:?}", forbidden.warnings);
}
