//! First certificates: evidence that holds, and evidence that does not.

use chancery_api::Problem;
use serde_json::{Value, json};

use crate::fixture::{Held, Issuer, Key, problem};

const READ: &str = "tools/call:crm/get_customer";
const REFUND: &str = "tools/call:crm/refund";

#[tokio::test]
async fn a_lost_reply_is_asked_for_again_and_a_spent_token_tells_who_used_it() {
    let issuer = Issuer::start().await;
    issuer.agent("invoice-bot", &[READ]).await;
    let token = issuer.token("invoice-bot", 1).await;

    let key = Key::draw();
    let first = issuer.attest(&token, key.clone()).await.unwrap();
    let again = issuer.attest(&token, key.clone()).await.unwrap();
    assert_eq!(first.issued.chain_pem, again.issued.chain_pem);
    assert_eq!(first.issued.log_index, again.issued.log_index);

    let other = issuer.attest(&token, Key::draw()).await.err().unwrap();
    assert_eq!((other.code.as_str(), other.status), ("token-used", 401));
    let spiffe_id = first.issued.certificate.spiffe_id.as_str();
    let (_, instance) = spiffe_id.rsplit_once('/').unwrap();
    let whom = format!(" by 127.0.0.1 as instance {instance}");
    assert!(other.detail.ends_with(&whom), "{}", other.detail);
    assert!(
        other.fix.iter().any(|fix| fix.ends_with(&format!("chancery show instance:{instance}"))),
        "{:?}",
        other.fix
    );
    // So many minutes later the reply is lost for good.
    issuer.clock.forward(9 * 60);
    assert_eq!(issuer.attest(&token, key.clone()).await.unwrap().serial(), first.serial());
    issuer.clock.forward(2 * 60);
    assert_eq!(issuer.attest(&token, key).await.err().unwrap().code, "token-used");
}

#[tokio::test]
async fn wrong_and_expired_tokens_are_refused_and_leave_nothing() {
    let issuer = Issuer::start().await;
    issuer.agent("invoice-bot", &[READ]).await;
    let token = issuer.token("invoice-bot", 1).await;
    let before = entries(&issuer).await;

    let wrong: String =
        token.chars().enumerate().map(|(at, c)| if at == 10 { if c == 'a' { 'b' } else { 'a' } } else { c }).collect();
    let refused = issuer.attest(&wrong, Key::draw()).await.err().unwrap();
    assert_eq!(refused.code, "unknown-token");
    assert_eq!(refused.detail, "unknown token");

    issuer.clock.forward(16 * 60);
    let late = issuer.attest(&token, Key::draw()).await.err().unwrap();
    assert_eq!(late.code, "token-expired");
    assert_eq!(entries(&issuer).await, before, "the unauthenticated write nothing");
}

#[tokio::test]
async fn a_deleted_token_is_unknown_however_often_it_was_shown_before() {
    let issuer = Issuer::start().await;
    issuer.agent("invoice-bot", &[READ]).await;
    let token = issuer.token("invoice-bot", 5).await;
    issuer.attest(&token, Key::draw()).await.unwrap();
    let listed = issuer.admin.get::<Value>("/v1/admin/join-tokens").await.unwrap().body;
    let id = listed["data"][0]["id"].as_str().unwrap();
    issuer.admin.delete(&format!("/v1/admin/join-tokens/{id}")).await.unwrap();
    let refused = issuer.attest(&token, Key::draw()).await.err().unwrap();
    assert_eq!((refused.code.as_str(), refused.status), ("unknown-token", 401));
}

#[tokio::test]
async fn a_request_gives_a_key_and_nothing_else() {
    let issuer = Issuer::start().await;
    issuer.agent("invoice-bot", &[READ]).await;
    let token = issuer.token("invoice-bot", 1).await;
    let mut asking = rcgen::CertificateParams::new(["admin.internal".into()]).unwrap();
    let key = Key::draw();
    let names = asking.serialize_request(key.pair()).unwrap().pem().unwrap();
    asking.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    asking.subject_alt_names.clear();
    let authority = asking.serialize_request(key.pair()).unwrap().pem().unwrap();
    let weak = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let weak = rcgen::CertificateParams::default().serialize_request(&weak).unwrap().pem().unwrap();
    let good = key.csr();

    for (csr, code) in [
        (names, "csr-refused"),
        (authority, "csr-refused"),
        (weak, "key-refused"),
        (good.replace("MII", "MIH").replace("MIH", "MIG"), "csr-refused"),
        ("nonsense".into(), "bad-request"),
    ] {
        let request = json!({"evidence": {"method": "join_token", "token": token}, "csr_pem": csr});
        let answer = issuer.client(None).post::<Value>("/v1/attest", &request).await;
        let refused = problem(answer.err().unwrap());
        assert!(refused.code == code || (code == "csr-refused" && refused.code == "bad-request"), "{refused}");
    }
    // None of that spent the token.
    issuer.attest(&token, key).await.unwrap();
}

#[tokio::test]
async fn fewer_scopes_may_be_chosen_and_more_may_not() {
    let issuer = Issuer::start().await;
    issuer.agent("invoice-bot", &[READ, REFUND]).await;
    let token = issuer.token("invoice-bot", 5).await;
    let ask = async |scopes: &[&str]| -> Result<Value, Problem> {
        let evidence = json!({"method": "join_token", "token": token});
        let request = json!({"evidence": evidence, "csr_pem": Key::draw().csr(), "scopes": scopes});
        issuer.client(None).post("/v1/attest", &request).await.map(|answer| answer.body).map_err(problem)
    };
    assert_eq!(ask(&[READ]).await.unwrap()["certificate"]["scopes"], json!([READ]));
    let refused = ask(&["tools/call:crm/*"]).await.unwrap_err();
    assert_eq!(refused.code, "scope-not-held");
    assert_eq!(refused.needs, ["tools/call:crm/*"]);
    assert!(refused.fix[0].contains("--add-scope"), "{:?}", refused.fix);
}

#[tokio::test]
async fn an_existing_certificate_attests_by_its_key_once_a_nonce() {
    let (root, leaf, shown) = fleet();
    let issuer = Issuer::start_with(|config, folder| {
        let path = folder.join("fleet.pem");
        std::fs::write(&path, root.pem()).unwrap();
        config.x509pop_roots = Some(path);
    })
    .await;
    let rule = |selectors: Value| json!([{"method": "x509pop", "selectors": selectors}]);
    for (name, rule) in [
        ("invoice-bot", rule(json!(["x509pop:subject:cn:host-7"]))),
        ("other", rule(json!(["x509pop:subject:cn:host-8"]))),
    ] {
        let new = json!({"name": name, "owner": "team", "scopes": [READ], "attestation": rule});
        issuer.admin.post::<Value>("/v1/admin/agents", &new).await.unwrap();
    }

    let key = Key::draw();
    let evidence = issuer.signed("x509pop", "invoice-bot", &leaf, &shown, &key).await;
    let held = issuer.attest_by(evidence.clone(), key.clone()).await.unwrap();
    assert_eq!(held.scopes(), [READ]);
    // The same again for the same key; the nonce buys nothing for another.
    assert_eq!(issuer.attest_by(evidence.clone(), key.clone()).await.unwrap().serial(), held.serial());
    let nonce = evidence["nonce"].as_str().unwrap();
    let second = Key::draw();
    let replayed = issuer.sign("x509pop", "invoice-bot", &leaf, &shown, &second, nonce);
    assert_eq!(issuer.attest_by(replayed.clone(), second.clone()).await.err().unwrap().code, "token-used");
    let unspent = issuer.signed("x509pop", "invoice-bot", &leaf, &shown, &second).await;
    // Minutes after the nonce's own minute a lost reply can still be asked for, and nothing else.
    issuer.clock.forward(9 * 60);
    assert_eq!(issuer.attest_by(evidence.clone(), key.clone()).await.unwrap().serial(), held.serial());
    for late in [replayed, unspent] {
        assert_eq!(issuer.attest_by(late, second.clone()).await.err().unwrap().code, "nonce-refused");
    }
    issuer.clock.forward(2 * 60);
    assert_eq!(issuer.attest_by(evidence, key).await.err().unwrap().code, "nonce-refused");

    // A signature heard on the way is for its key and its name only.
    let third = Key::draw();
    let mut moved = issuer.signed("x509pop", "invoice-bot", &leaf, &shown, &third).await;
    assert_eq!(issuer.attest_by(moved.clone(), Key::draw()).await.err().unwrap().code, "evidence-refused");
    moved["agent"] = "other".into();
    assert_eq!(issuer.attest_by(moved, third.clone()).await.err().unwrap().code, "evidence-refused");

    let unfit = issuer.signed("x509pop", "other", &leaf, &shown, &third).await;
    let refused = issuer.attest_by(unfit, third.clone()).await.err().unwrap();
    assert_eq!(refused.code, "no-attestation-rule");
    assert_eq!(refused.needs, ["x509pop:subject:cn:host-8"]);

    let (_, foreign, foreign_key) = fleet();
    let foreign = issuer.signed("x509pop", "invoice-bot", &foreign, &foreign_key, &third).await;
    assert_eq!(issuer.attest_by(foreign, third).await.err().unwrap().code, "evidence-refused");
}

#[tokio::test]
async fn a_reply_lost_in_a_restart_is_asked_for_again_and_its_nonce_stays_spent() {
    let (root, leaf, shown) = fleet();
    let issuer = Issuer::start_with(|config, folder| {
        let path = folder.join("fleet.pem");
        std::fs::write(&path, root.pem()).unwrap();
        config.x509pop_roots = Some(path);
    })
    .await;
    let new = json!({"name": "invoice-bot", "owner": "team", "scopes": [READ],
        "attestation": [{"method": "x509pop", "selectors": ["x509pop:subject:cn:host-7"]}, {"method": "join_token"}]});
    issuer.admin.post::<Value>("/v1/admin/agents", &new).await.unwrap();
    let token = issuer.token("invoice-bot", 1).await;
    let over = issuer.attest(&token, Key::draw()).await.unwrap();
    issuer.forward(2 * 3600).await;

    let (pop_key, rejoin_key, waiting_key, other) = (Key::draw(), Key::draw(), Key::draw(), Key::draw());
    let pop = issuer.signed("x509pop", "invoice-bot", &leaf, &shown, &pop_key).await;
    let rejoin = issuer.signed("rejoin", "invoice-bot", &over.issued.chain_pem, &over.key, &rejoin_key).await;
    let waiting = issuer.signed("x509pop", "invoice-bot", &leaf, &shown, &waiting_key).await;
    let popped = issuer.attest_by(pop.clone(), pop_key.clone()).await.unwrap();
    let rejoined = issuer.attest_by(rejoin.clone(), rejoin_key.clone()).await.unwrap();

    let issuer = issuer.restart(async |_| ()).await;
    assert_eq!(issuer.attest_by(pop.clone(), pop_key).await.unwrap().issued.chain_pem, popped.issued.chain_pem);
    assert_eq!(issuer.attest_by(rejoin, rejoin_key).await.unwrap().issued.chain_pem, rejoined.issued.chain_pem);
    let nonce = pop["nonce"].as_str().unwrap();
    let replayed = issuer.sign("x509pop", "invoice-bot", &leaf, &shown, &other, nonce);
    assert_eq!(issuer.attest_by(replayed, other).await.err().unwrap().code, "token-used");
    // What was asked for before, and not used, is good for the rest of its minute.
    issuer.attest_by(waiting, waiting_key).await.unwrap();
}

#[tokio::test]
async fn an_expired_certificate_rejoins_while_its_lineage_is_clean() {
    let issuer = Issuer::start().await;
    let held = issuer.joined("invoice-bot", &[READ]).await;
    issuer.forward(2 * 3600).await;

    let rejoin = async |held: &Held| {
        let key = Key::draw();
        let evidence = issuer.signed("rejoin", "invoice-bot", &held.issued.chain_pem, &held.key, &key).await;
        issuer.attest_by(evidence, key).await
    };
    let key = Key::draw();
    let evidence = issuer.signed("rejoin", "invoice-bot", &held.issued.chain_pem, &held.key, &key).await;
    let back = issuer.attest_by(evidence.clone(), key.clone()).await.unwrap();
    issuer.clock.forward(9 * 60);
    assert_eq!(issuer.attest_by(evidence, key).await.unwrap().serial(), back.serial(), "a lost reply");
    assert_eq!(back.issued.certificate.spiffe_id, held.issued.certificate.spiffe_id);
    assert_ne!(back.serial(), held.serial());
    // The old one was taken up already: another key for it is a fork.
    assert_eq!(rejoin(&held).await.err().unwrap().code, "lineage-forked");
    assert_eq!(rejoin(&back).await.err().unwrap().code, "suspended");

    let late = issuer.joined("report-bot", &[READ]).await;
    issuer.forward(26 * 3600).await;
    let key = Key::draw();
    let evidence = issuer.signed("rejoin", "report-bot", &late.issued.chain_pem, &late.key, &key).await;
    assert_eq!(issuer.attest_by(evidence, key).await.err().unwrap().code, "rejoin-refused");
}

/// A root of somebody else's, a leaf of it for `host-7`, and the leaf's key.
pub(crate) fn fleet() -> (rcgen::Certificate, String, Key) {
    let root_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "fleet");
    let root = params.self_signed(&root_key).unwrap();
    let signing = rcgen::Issuer::new(params, root_key);
    let key = Key::draw();
    let mut leaf = rcgen::CertificateParams::new(["host-7.internal".into()]).unwrap();
    leaf.distinguished_name = rcgen::DistinguishedName::new();
    leaf.distinguished_name.push(rcgen::DnType::CommonName, "host-7");
    let leaf = leaf.signed_by(key.pair(), &signing).unwrap().pem();
    (root, leaf, key)
}

async fn entries(issuer: &Issuer) -> usize {
    let log: Value = issuer.admin.get("/v1/admin/log?limit=500").await.unwrap().body;
    log["data"].as_array().unwrap().len()
}
