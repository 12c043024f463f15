//! The issuing authority is followed by another while everybody works, and one that is stopped signs nothing more.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chancery_agent::{CallError, Identity};
use chancery_api::client::{Client, Fetched};
use chancery_api::{AuthorityState, AuthorityView, JoinTokenCreated, List, Rotation, WellKnown};
use chancery_identity::{KeyId, Leaf};
use chancery_verifier::{Credentials, Peer, Rules, Verifier};
use serde_json::{Value, json};

use crate::fixture::{Issuer, Key, problem};

const READ: &str = "tools/call:crm/get_customer";

async fn authorities(issuer: &Issuer) -> Vec<AuthorityView> {
    issuer.admin.get::<List<AuthorityView>>("/v1/admin/authorities").await.unwrap().body.data
}

async fn state_of(issuer: &Issuer, key_id: KeyId) -> AuthorityState {
    issuer.admin.get::<AuthorityView>(&format!("/v1/admin/authorities/{key_id}")).await.unwrap().body.state
}

/// The issuing authority that signs.
async fn signing(issuer: &Issuer) -> AuthorityView {
    let all = authorities(issuer).await;
    all.into_iter().rfind(|one| one.state == AuthorityState::Signing).unwrap()
}

async fn until(issuer: &Issuer, key_id: KeyId, wanted: AuthorityState) {
    while state_of(issuer, key_id).await != wanted {}
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(der))
}

async fn file(client: &Client, path: &str) -> Vec<u8> {
    match client.fetch(path, None).await.unwrap() {
        Fetched::Changed { contents, .. } => contents.to_vec(),
        Fetched::Unchanged => panic!("nothing was held of {path}"),
    }
}

/// Whether a CRL lists it: a serial's 16 bytes are in no list by accident.
async fn lists(issuer: &Issuer, crl: &str, serial: &str) -> bool {
    let serial: Vec<u8> =
        (0..serial.len()).step_by(2).map(|at| u8::from_str_radix(&serial[at..at + 2], 16).unwrap()).collect();
    file(&issuer.client(None), crl).await.windows(serial.len()).any(|window| window == serial)
}

pub(crate) async fn join(issuer: &Issuer, folder: &Path, kind: &str, name: &str) -> Identity {
    let token: JoinTokenCreated =
        issuer.admin.post("/v1/admin/join-tokens", &json!({ kind: name })).await.unwrap().body;
    let state = folder.join("state").join(name);
    std::fs::create_dir_all(&state).unwrap();
    Identity::builder().join(token.join).state_dir(&state).start().await.unwrap()
}

pub(crate) async fn serve(identity: Identity) -> String {
    let rules = Rules::new().allow("GET", "/customers/{id}", READ).unwrap();
    let verifier = Verifier::start(identity).await.unwrap();
    let app = Router::new().route("/customers/{id}", get(|peer: Peer| async move { peer.spiffe_id().to_string() }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let served = chancery_verifier::axum::serve(listener, app, verifier.guard(rules).unwrap());
    tokio::spawn(async move { drop(served.await) });
    url
}

fn authority_of(identity: &Identity) -> KeyId {
    let material = identity.material().borrow().clone();
    Leaf::read(&material.chain[0]).unwrap().into_certificate().authority
}

#[tokio::test(flavor = "multi_thread")]
async fn services_and_agents_do_not_notice_a_rotation() {
    let mut state = None;
    let issuer = Issuer::start_with(|config, folder| {
        // A successor is announced for twice this.
        config.freshness.stale_after = Duration::from_secs(2);
        state = Some(folder.to_path_buf());
    })
    .await;
    let folder = state.unwrap();
    let new = json!({"name": "crm", "owner": "team-crm", "systems": ["crm"], "dns": ["crm.localhost"]});
    issuer.admin.post::<Value>("/v1/admin/services", &new).await.unwrap();
    issuer.agent("invoice-bot", &[READ]).await;
    issuer.agent("report-bot", &[READ]).await;
    let url = serve(join(&issuer, &folder, "service", "crm").await).await;
    let (renews, stays) =
        (join(&issuer, &folder, "agent", "invoice-bot").await, join(&issuer, &folder, "agent", "report-bot").await);
    let old = signing(&issuer).await;

    // Somebody calls all the while.
    let done = Arc::new(AtomicBool::new(false));
    let calling = tokio::spawn({
        let (done, calls) = (done.clone(), stays.http(&url).unwrap());
        async move {
            let mut count = 0_u32;
            while !done.load(Ordering::SeqCst) {
                calls.get("/customers/42").await.unwrap();
                count += 1;
            }
            count
        }
    });

    let path = "/v1/admin/authorities/rotate";
    let would: Rotation = issuer.admin.post(path, &json!({"dry_run": true})).await.unwrap().body;
    assert_eq!((would.present, would.successor, authorities(&issuer).await.len()), (old.key_id, None, 2));
    let rotation: Rotation = issuer.admin.post(path, &json!({})).await.unwrap().body;
    let new = rotation.successor.unwrap();
    assert_eq!((rotation.present, new.state), (old.key_id, AuthorityState::Announced));
    // It is announced, and the old one signs.
    assert_eq!(issuer.joined("early-bot", &[READ]).await.issued.chain_pem.matches("BEGIN").count(), 2);
    assert_eq!(state_of(&issuer, old.key_id).await, AuthorityState::Signing);

    until(&issuer, new.key_id, AuthorityState::Signing).await;
    assert_eq!(state_of(&issuer, old.key_id).await, AuthorityState::Superseded);
    let patch = json!({"add_scopes": ["tools/call:crm/refund"]});
    issuer.admin.patch::<Value>("/v1/admin/agents/invoice-bot", &patch, None).await.unwrap();
    let mut material = renews.material();
    while renews.scopes().len() < 2 {
        material.changed().await.unwrap();
    }
    assert_eq!((authority_of(&renews), authority_of(&stays)), (new.key_id, old.key_id));
    let calls = renews.http(&url).unwrap();
    assert_eq!(calls.get("/customers/42").await.unwrap().text(), renews.spiffe_id().to_string());
    done.store(true, Ordering::SeqCst);
    assert!(calling.await.unwrap() > 0);

    // Both publish, and the list says so.
    let client = issuer.client(None);
    let known: WellKnown = client.get("/.well-known/chancery").await.unwrap().body;
    let listed: Vec<_> = known.authorities.iter().skip(1).map(|one| one.key_id).collect();
    assert_eq!(listed, [old.key_id, new.key_id]);
    for authority in &known.authorities {
        assert!(
            !file(&client, &authority.crl).await.is_empty() && !file(&client, &authority.certificate).await.is_empty()
        );
    }

    // What the old one signed is revoked on the old one's list, and refused.
    let serial = Leaf::read(&stays.material().borrow().chain[0]).unwrap().into_certificate().serial.to_string();
    issuer.revoke(json!({"targets": [format!("serial:{serial}")], "reason": "key_compromise"})).await;
    while !lists(&issuer, &old.crl, &serial).await {}
    assert!(!lists(&issuer, &new.crl, &serial).await);
    let refused = stays.http(&url).unwrap();
    while let Ok(_) | Err(CallError::Refused { .. }) = refused.get("/customers/42").await {}
    calls.get("/customers/42").await.unwrap();
}

#[tokio::test]
async fn at_half_of_its_life_an_authority_gets_a_successor_and_in_the_end_publishes_no_more() {
    let issuer = Issuer::start().await;
    let old = signing(&issuer).await;
    let held = issuer.joined("invoice-bot", &[READ]).await;
    issuer.forward(46 * 86_400).await;
    let new = loop {
        if let Some(new) = authorities(&issuer).await.into_iter().find(|one| one.state == AuthorityState::Announced) {
            break new;
        }
    };
    assert_eq!(signing(&issuer).await.key_id, old.key_id);
    let signs_from = new.signs_from_at.unwrap();
    issuer.forward(61).await;
    until(&issuer, new.key_id, AuthorityState::Signing).await;
    assert!(signs_from <= issuer.server.issuer().now());
    // It signs, also what the issuer itself shows.
    let token = issuer.token("invoice-bot", 1).await;
    let chain = issuer.attest(&token, Key::draw()).await.unwrap().chain();
    assert_eq!(Leaf::read(&chain[0]).unwrap().into_certificate().authority, new.key_id);
    assert_ne!(held.chain()[1], chain[1]);

    // The last leaf of the old one is over after an hour, and is then in one more list.
    for _ in 0..6 {
        let number = |one: &AuthorityView| one.crl_number.clone().unwrap();
        let before = number(&signing(&issuer).await);
        issuer.forward(16 * 60).await;
        while number(&signing(&issuer).await) == before {}
    }
    assert_eq!(state_of(&issuer, old.key_id).await, AuthorityState::Over);
    let gone = issuer.client(None).fetch(&old.crl, None).await.err().unwrap();
    assert_eq!(problem(gone).code, "not-found");
    issuer.client(None).get::<Value>("/readyz").await.unwrap();
}

#[tokio::test]
async fn an_authority_that_is_revoked_signs_nothing_more_and_is_on_the_roots_crl() {
    let issuer = Issuer::start().await;
    let all = authorities(&issuer).await;
    let (root, old) = (&all[0], &all[1]);
    let held = issuer.joined("invoice-bot", &[READ]).await;
    let token = issuer.token("invoice-bot", 1).await;
    assert!(!lists(&issuer, &root.crl, &old.serial.to_string()).await);
    let target = format!("authority:{}", old.key_id);
    issuer.revoke(json!({"targets": [target], "effect": "revoke", "reason": "key_compromise"})).await;
    until(&issuer, old.key_id, AuthorityState::Stopped).await;

    // Its successor signs at once: whoever asks meanwhile is told to come again.
    let key = Key::draw();
    let issued = loop {
        match issuer.attest(&token, key.clone()).await {
            Ok(issued) => break issued,
            Err(refused) => assert_eq!(refused.code, "not-ready"),
        }
    };
    let authority = Leaf::read(&issued.chain()[0]).unwrap().into_certificate().authority;
    assert_ne!(authority, old.key_id);
    assert_eq!(signing(&issuer).await.key_id, authority);

    // Both the authority and what it signed are listed, each where clients look for it.
    while !lists(&issuer, &root.crl, &old.serial.to_string()).await {}
    assert!(lists(&issuer, &old.crl, &held.serial()).await);
    assert_eq!(issuer.renew(&held, Key::draw()).await.err().unwrap().code, "certificate-revoked");
    issuer.client(None).get::<Value>("/readyz").await.unwrap();

    // Who has the authority's key has none of those that it certified: whoever proves to have one comes back, by the
    // certificate that is on record. One that is not is worth nothing, whoever signed it.
    let key = Key::draw();
    let mut forged = held.chain()[0].to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let forged = pem(&forged);
    let evidence = issuer.signed("rejoin", "invoice-bot", &forged, &held.key, &key).await;
    let refused = issuer.attest_by(evidence, key.clone()).await.err().unwrap();
    assert_eq!((&*refused.code, &*refused.detail), ("evidence-refused", "the certificate shown was not issued here"));
    let evidence = issuer.signed("rejoin", "invoice-bot", &held.issued.chain_pem, &Key::draw(), &key).await;
    assert_eq!(issuer.attest_by(evidence, key.clone()).await.err().unwrap().code, "evidence-refused");
    let evidence = issuer.signed("rejoin", "invoice-bot", &held.issued.chain_pem, &held.key, &key).await;
    let back = issuer.attest_by(evidence, key).await.unwrap();
    let authority = Leaf::read(&back.chain()[0]).unwrap().into_certificate().authority;
    assert_eq!(authority, signing(&issuer).await.key_id);
    // What names the holder still holds.
    issuer.revoke(json!({"targets": ["agent:invoice-bot"], "effect": "suspend"})).await;
    let key = Key::draw();
    let evidence = issuer.signed("rejoin", "invoice-bot", &back.issued.chain_pem, &back.key, &key).await;
    assert_eq!(issuer.attest_by(evidence, key).await.err().unwrap().code, "suspended");
}
