//! The routes with a whole issuer behind them; only the sockets are missing.

mod world;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use chancery_api::{Access, Issued, Subject};
use chancery_verifier::Peer;
use serde_json::{Value, json};

use crate::caller::Origin;
use crate::http::Rates;
use crate::http::authorize::Class;
use crate::http::routes::routes;
use crate::refusal::Code;

use world::{LOCAL, World, anonymous, by, csr, csr_of};

#[tokio::test]
async fn every_route_refuses_every_wrong_caller_and_no_right_one() {
    let world = World::new().await;
    let mut callers = vec![
        (None, "nobody".to_owned(), anonymous()),
        (None, "an agent".into(), by(&world.agent("bot", &[]).await)),
        (None, "a service".into(), by(&world.service("crm").await)),
    ];
    for level in Access::ALL {
        callers.push((Some(level), level.to_string(), by(&world.admin(level).await)));
    }
    for route in routes() {
        for (level, name, origin) in &callers {
            let target: String = route.path.replace("{serial}", "00aa").replace(['{', '}'], "");
            let told = world.call(origin.clone(), route.method.clone(), &target, None).await;
            let what = format!("{} {} by {name}: {told:?}", route.method, route.path);
            let wanted = match (route.class, level) {
                (Class::Public | Class::Limited, _) => None,
                (Class::Holder | Class::Known, _) if name == "nobody" => Some((401, "unauthenticated")),
                (Class::Holder, _) if route.path == "/v1/feed" && name != "a service" => Some((403, "wrong-caller")),
                (Class::Holder | Class::Known, _) => None,
                (Class::Admin(_), None) if name == "nobody" => Some((401, "unauthenticated")),
                (Class::Admin(_), None) => Some((403, "wrong-caller")),
                (Class::Admin(needed), Some(held)) if needed == *held || needed == Access::Viewer => None,
                (Class::Admin(_), Some(_)) => Some((403, "access-missing")),
            };
            match wanted {
                Some((status, code)) => {
                    assert_eq!((told.status.as_u16(), told.code()), (status, code), "{what}");
                    assert_eq!(told.headers["content-type"], "application/problem+json", "{what}");
                    assert_eq!(told.headers.contains_key("www-authenticate"), status == 401, "{what}");
                }
                None => assert!(!matches!(told.status.as_u16(), 401 | 403 | 405 | 500..), "{what}"),
            }
            assert!(told.headers["request-id"].to_str().unwrap().starts_with("rq_"), "{what}");
        }
    }
}

#[tokio::test]
async fn the_local_administrator_may_do_all() {
    let world = World::new().await;
    for route in routes() {
        let told = world.call(LOCAL, route.method.clone(), &route.path.replace(['{', '}'], ""), None).await;
        let for_holders = route.class == Class::Holder;
        assert_eq!(told.status == StatusCode::UNAUTHORIZED, for_holders, "{} {}", route.method, route.path);
        assert_ne!(told.status, StatusCode::FORBIDDEN, "{} {}", route.method, route.path);
    }
    let told = world.get(LOCAL, "/v1/whoami").await;
    assert_eq!((told.status, &told.body["caller"]), (StatusCode::OK, &json!("local:0")));
}

#[tokio::test]
async fn the_plain_listener_serves_crls_authority_certificates_and_ocsp_and_nothing_else() {
    let world = World::new().await;
    let well_known = world.get(anonymous(), "/.well-known/chancery").await.body;
    let plain = |target: &str| Request::get(target).body(Body::empty()).unwrap();
    for authority in well_known["authorities"].as_array().unwrap() {
        for (field, media_type) in [("crl", "application/pkix-crl"), ("certificate", "application/pkix-cert")] {
            let path = authority[field].as_str().unwrap();
            let told = world.send(&world.status, plain(path), Origin::Plain).await;
            assert_eq!((told.status, &told.headers["content-type"]), (StatusCode::OK, &media_type.parse().unwrap()));
            assert!(told.headers.contains_key("last-modified"));
            let max_age: u32 =
                told.headers["cache-control"].to_str().unwrap().strip_prefix("max-age=").unwrap().parse().unwrap();
            assert!(max_age <= 30);
            // The copy is good until the file changes.
            let again = Request::get(path).header("if-none-match", &told.headers["etag"]).body(Body::empty()).unwrap();
            let again = world.send(&world.status, again, Origin::Plain).await;
            assert_eq!((again.status, again.body), (StatusCode::NOT_MODIFIED, json!("")));
            let head = Request::head(path).body(Body::empty()).unwrap();
            let head = world.send(&world.status, head, Origin::Plain).await;
            assert_eq!((head.status, head.body), (StatusCode::OK, json!("")));
            assert_eq!(head.headers["etag"], told.headers["etag"]);
            // The TLS listener has the same.
            assert_eq!(world.get(anonymous(), path).await.body, told.body);
        }
    }
    // What is no request is told so in an OCSP response, on both.
    for (router, origin) in [(&world.status, Origin::Plain), (&world.api, anonymous())] {
        for request in [Request::post("/ocsp").body("no request".into()), Request::get("/ocsp/AA").body(Body::empty())]
        {
            let told = world.send(router, request.unwrap(), origin.clone()).await;
            assert_eq!(told.status, StatusCode::BAD_REQUEST, "{told:?}");
            assert_eq!(told.headers["content-type"], "application/ocsp-response");
            assert_eq!(told.body.as_str().unwrap().as_bytes(), chancery_ca::OcspError::MalformedRequest.der());
        }
    }
    for route in routes().iter().filter(|route| !route.on_status) {
        let path = route.path.replace(['{', '}'], "");
        let request = Request::builder().method(route.method.clone()).uri(&path).body(Body::empty()).unwrap();
        let told = world.send(&world.status, request, Origin::Plain).await;
        assert_eq!((told.status, told.code()), (StatusCode::NOT_FOUND, "not-found"), "{path}");
    }
}

#[tokio::test]
async fn what_is_unknown_or_malformed_is_told_and_changes_nothing() {
    let world = World::new().await;
    let before = world.issuer.store().state().position();
    let agents = "/v1/admin/agents";
    for (method, target, body, code) in [
        (Method::GET, "/v1/nothing", None, "not-found"),
        (Method::PUT, agents, None, "method-not-allowed"),
        (Method::GET, "/v1/admin/agents?ownr=team", None, "bad-request"),
        (Method::GET, "/v1/admin/agents?limit=0", None, "bad-request"),
        (Method::GET, "/v1/admin/agents?cursor=x", None, "bad-request"),
        (Method::GET, "/livez?x=1", None, "bad-request"),
        (Method::GET, "/v1/admin/agents/No%20Name", None, "bad-request"),
        (Method::GET, "/v1/admin/agents/nobody", None, "not-found"),
        (Method::GET, "/v1/admin/certificates/xyz", None, "bad-request"),
        (Method::GET, "/v1/admin/certificates/5c0e", None, "not-found"),
        (Method::GET, "/v1/admin/certificates?scope=all", None, "bad-request"),
        (Method::POST, agents, None, "not-json"),
        (Method::POST, agents, Some(json!({ "name": "bot", "owner": "team", "scopse": [] })), "bad-request"),
        (Method::POST, agents, Some(json!({ "name": "Bot", "owner": "team" })), "bad-request"),
        (Method::POST, agents, Some(json!({ "name": "bot", "owner": "team", "dns": ["bot.internal"] })), "invalid"),
        (Method::POST, "/v1/attest", Some(json!({ "evidence": { "method": "magic" }, "csr_pem": "" })), "bad-request"),
        // The nonce is looked at before any signature.
        (
            Method::POST,
            "/v1/attest",
            Some(json!({
                "evidence": { "method": "rejoin", "chain_pem": "", "nonce": "not ours", "signature": "" },
                "csr_pem": "",
            })),
            "nonce-refused",
        ),
        (
            Method::POST,
            "/v1/admin/revocations",
            Some(json!({ "targets": ["agent:nobody"], "effect": "suspend" })),
            "not-found",
        ),
        (Method::POST, "/v1/admin/revocations", Some(json!({ "targets": ["agent:nobody"], "wait": 5 })), "bad-request"),
        (
            Method::POST,
            "/v1/admin/revocations",
            Some(json!({ "targets": ["agent:nobody"], "effect": "suspend", "wait_s": 31 })),
            "invalid",
        ),
    ] {
        let told = world.call(LOCAL, method.clone(), target, body).await;
        assert_eq!(told.code(), code, "{method} {target}: {told:?}");
        let known = Code::ALL.iter().find(|known| known.as_str() == code).unwrap();
        assert_eq!(told.status.as_u16(), known.status());
        assert!(!told.body["detail"].as_str().unwrap().is_empty());
        assert_eq!(told.body["type"], format!("https://127.0.0.1:8443/problems/{code}"));
        assert_eq!(told.body["request_id"], told.headers["request-id"].to_str().unwrap());
    }
    let told = world.call(LOCAL, Method::PUT, agents, None).await;
    assert_eq!(told.headers["allow"], "GET,HEAD,POST");
    assert_eq!(world.issuer.store().state().position(), before);
}

#[tokio::test]
async fn creating_what_is_there_is_no_conflict_and_changes_ask_for_the_revision() {
    let world = World::new().await;
    let agents = "/v1/admin/agents";
    let bot = json!({ "name": "bot", "owner": "team", "scopes": ["tools/call:crm/get_customer"] });
    let told = world.post(LOCAL, agents, bot.clone()).await;
    assert_eq!((told.status, &told.body["revision"]), (StatusCode::CREATED, &json!(1)), "{told:?}");
    assert_eq!(
        (&told.headers["etag"], &told.headers["location"]),
        (&"\"1\"".parse().unwrap(), &"/v1/admin/agents/bot".parse().unwrap())
    );
    let again = world.post(LOCAL, agents, bot).await;
    assert_eq!((again.status, &again.body), (StatusCode::OK, &told.body));
    let other = world.post(LOCAL, agents, json!({ "name": "bot", "owner": "others" })).await;
    assert_eq!(other.code(), "already-exists");

    let patch = |revision: &str| {
        let body = json!({ "add_scopes": ["tools/call:crm/refund"] }).to_string();
        let builder = Request::patch("/v1/admin/agents/bot").header("content-type", "application/json");
        builder.header("if-match", revision).body(Body::from(body)).unwrap()
    };
    let stale = world.send(&world.api, patch("\"7\""), LOCAL).await;
    assert_eq!((stale.status, stale.code()), (StatusCode::PRECONDITION_FAILED, "revision-mismatch"));
    let changed = world.send(&world.api, patch("\"1\""), LOCAL).await;
    assert_eq!((changed.status, &changed.headers["etag"]), (StatusCode::OK, &"\"2\"".parse().unwrap()), "{changed:?}");
    assert_eq!(changed.body["scopes"], json!(["tools/call:crm/get_customer", "tools/call:crm/refund"]));
    let listed = world.get(LOCAL, "/v1/admin/agents?owner=team&count=true").await.body;
    assert_eq!((&listed["total"], &listed["data"][0]), (&json!(1), &changed.body));
}

#[tokio::test]
async fn every_list_counts() {
    let world = World::new().await;
    world.agent("bot", &["tools/call:crm/get_customer"]).await;
    world.agent("other", &[]).await;
    world.service("crm").await;
    world.admin(Access::Viewer).await;
    world.post(LOCAL, "/v1/admin/api-tokens", json!({ "access": ["viewer"] })).await;
    world.post(LOCAL, "/v1/admin/revocations", json!({ "targets": ["agent:other"], "effect": "suspend" })).await;
    let wanted = [
        ("agents", 2),
        ("services", 1),
        ("systems", 1),
        ("instances", 2),
        ("join-tokens", 4),
        ("api-tokens", 1),
        ("certificates", 4),
        ("revocations", 1),
        ("admins", 1),
        ("authorities", 2),
    ];
    for (noun, total) in wanted {
        let path = format!("/v1/admin/{noun}?limit=1&count=true");
        let told = world.get(LOCAL, &path).await;
        assert_eq!(
            (&told.body["total"], told.body["data"].as_array().map(Vec::len)),
            (&json!(total), Some(1)),
            "{noun}"
        );
        assert!(world.get(LOCAL, &format!("/v1/admin/{noun}")).await.body["total"].is_null(), "{noun}");
    }
    for (filter, total) in
        [("agent=bot", 1), ("owner=team", 3), ("state=held", 1), ("scope=tools/call:crm/get_customer", 1)]
    {
        let told = world.get(LOCAL, &format!("/v1/admin/certificates?count=true&{filter}")).await;
        assert_eq!(told.body["total"], json!(total), "{filter}");
    }
    let lists = routes().iter().filter(|route| route.doc.takes_query() && route.path.starts_with("/v1/admin/")).count();
    // The log is counted where it is read; verifiers, of whom there is none here, twice; and one entry is waited for.
    assert_eq!(lists, wanted.len() + 4, "each list");
    for path in ["/v1/admin/verifiers?count=true", "/v1/admin/verifiers/crm?count=true"] {
        assert_eq!(world.get(LOCAL, path).await.body["total"], 0, "{path}");
    }
}

#[tokio::test]
async fn who_lacks_access_is_told_what_to_do_for_what_it_is() {
    let world = World::new().await;
    let viewer = by(&world.admin(Access::Viewer).await);
    let new = json!({ "name": "bot", "owner": "team" });
    let told = world.post(viewer, "/v1/admin/agents", new.clone()).await;
    assert_eq!(told.body["fix"], json!(["an administrator: chancery admins update viewer --access viewer,operator"]));

    let token = world.post(LOCAL, "/v1/admin/api-tokens", json!({ "access": ["viewer"] })).await.body;
    let request = Request::post("/v1/admin/agents").header("content-type", "application/json");
    let request = request.header("authorization", format!("Bearer {}", token["token"].as_str().unwrap()));
    let told = world.send(&world.api, request.body(new.to_string().into()).unwrap(), anonymous()).await;
    let fix = "an administrator: chancery api-tokens create --access viewer,operator, for a new token";
    assert_eq!((told.code(), &told.body["fix"]), ("access-missing", &json!([fix])));
}

#[tokio::test]
async fn a_ceiling_and_an_administrators_token_need_an_administrator() {
    let world = World::new().await;
    let operator = by(&world.admin(Access::Operator).await);
    let bot = json!({ "name": "bot", "owner": "team", "ceiling": ["tools/call:crm/*"] });
    assert_eq!(world.post(operator.clone(), "/v1/admin/agents", bot).await.code(), "access-missing");
    let token = json!({ "admin": "operator" });
    assert_eq!(world.post(operator.clone(), "/v1/admin/join-tokens", token).await.code(), "access-missing");
    let viewer = by(&world.admin(Access::Viewer).await);
    let stop = |dry_run: bool| json!({ "targets": ["admin:operator"], "effect": "suspend", "dry_run": dry_run });
    let told = world.post(viewer.clone(), "/v1/admin/revocations", stop(true)).await;
    assert_eq!((told.status, &told.body["revocations"]), (StatusCode::OK, &json!([])), "{told:?}");
    assert_eq!(world.post(viewer, "/v1/admin/revocations", stop(false)).await.code(), "access-missing");
}

#[tokio::test]
async fn a_refusal_of_a_known_caller_is_in_the_log() {
    let world = World::new().await;
    let agent = by(&world.agent("bot", &[]).await);
    let told = world.get(agent.clone(), "/v1/admin/agents").await;
    let log_index = told.body["log_index"].as_u64().unwrap();
    let logged = world.get(LOCAL, &format!("/v1/admin/log?from={log_index}&limit=1")).await.body;
    let record = logged["data"][0]["record"].as_str().unwrap();
    assert!(record.contains("\"deny\"") && record.contains("wrong-caller"), "{record}");
    // Whoever is refused all the time does not fill it.
    assert_eq!(world.get(agent, "/v1/admin/agents").await.body.get("log_index"), None);
}

#[tokio::test]
async fn an_api_token_has_its_access_until_it_is_taken_away() {
    let world = World::new().await;
    let made = world.post(LOCAL, "/v1/admin/api-tokens", json!({ "access": ["viewer"] })).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let with = |token: &str, method: Method| {
        let builder = Request::builder().method(method).uri("/v1/admin/agents");
        builder.header("authorization", format!("Bearer {token}")).body(Body::empty()).unwrap()
    };
    let token = made.body["token"].as_str().unwrap();
    let told = world.send(&world.api, with(token, Method::GET), anonymous()).await;
    assert_eq!(told.status, StatusCode::OK, "{told:?}");
    let told = world.send(&world.api, with(token, Method::POST), anonymous()).await;
    assert_eq!(told.code(), "access-missing");
    // An agent with a token is an agent.
    let agent = by(&world.agent("bot", &[]).await);
    let told = world.send(&world.api, with(token, Method::GET), agent).await;
    assert_eq!(told.code(), "wrong-caller");
    let told = world.send(&world.api, with("cht_wrong", Method::GET), anonymous()).await;
    assert_eq!((told.status, told.code()), (StatusCode::UNAUTHORIZED, "unknown-token"));
    let path = format!("/v1/admin/api-tokens/{}", made.body["id"].as_str().unwrap());
    assert_eq!(world.call(LOCAL, Method::DELETE, &path, None).await.status, StatusCode::NO_CONTENT);
    let told = world.send(&world.api, with(token, Method::GET), anonymous()).await;
    assert_eq!(told.code(), "unknown-token");
}

#[tokio::test]
async fn a_revoked_holder_is_refused_on_its_next_request() {
    let world = World::new().await;
    let agent = by(&world.agent("bot", &["tools/call:crm/get_customer"]).await);
    let told = world.get(agent.clone(), "/v1/whoami").await;
    assert_eq!((told.status, &told.body["revision"]), (StatusCode::OK, &json!(1)), "{told:?}");
    let stop = json!({ "targets": ["agent:bot"], "effect": "suspend", "comment": "INC-1" });
    let stopped = world.post(LOCAL, "/v1/admin/revocations", stop.clone()).await;
    assert_eq!(stopped.status, StatusCode::CREATED, "{stopped:?}");
    assert_eq!(world.get(agent.clone(), "/v1/whoami").await.code(), "certificate-revoked");
    assert_eq!(world.get(LOCAL, "/v1/admin/agents/bot").await.body["state"], "suspended");
    let held = world.get(LOCAL, "/v1/admin/certificates?agent=bot&state=held").await.body;
    assert_eq!(held["data"].as_array().unwrap().len(), 1, "{held}");
    let id = stopped.body["revocations"][0]["id"].as_str().unwrap();
    let resumed = world.post(LOCAL, &format!("/v1/admin/revocations/{id}/resume"), json!({})).await;
    assert!(resumed.status.is_success(), "{resumed:?}");
    assert_eq!(world.get(agent, "/v1/whoami").await.status, StatusCode::OK);
}

#[tokio::test]
async fn whoami_answers_when_the_record_changes() {
    let world = World::new().await;
    let agent = by(&world.agent("bot", &[]).await);
    let waiting = world.get(agent.clone(), "/v1/whoami?after_revision=1&wait_s=60");
    let change = async {
        // The request is polled first, so it waits already.
        let patch = json!({ "add_scopes": ["tools/call:crm/refund"] });
        world.call(LOCAL, Method::PATCH, "/v1/admin/agents/bot", Some(patch)).await
    };
    let (told, changed) = tokio::join!(biased; waiting, change);
    assert_eq!(changed.status, StatusCode::OK, "{changed:?}");
    assert_eq!((&told.body["revision"], &told.body["scopes"]), (&json!(2), &json!(["tools/call:crm/refund"])));
    assert_eq!(world.get(agent, "/v1/whoami?wait_s=61").await.code(), "bad-request");
}

#[tokio::test]
async fn a_lost_answer_can_be_asked_for_again_and_a_spent_token_cannot_be_used_again() {
    let world = World::new().await;
    world.agent("bot", &[]).await;
    let token = world.join_token(Subject::Agent("bot".parse().unwrap())).await.token;
    let body = |csr: &str| json!({ "evidence": { "method": "join_token", "token": token }, "csr_pem": csr });
    let csr_pem = csr();
    let first = world.post(anonymous(), "/v1/attest", body(&csr_pem)).await;
    assert_eq!(first.status, StatusCode::CREATED, "{first:?}");
    let again = world.post(anonymous(), "/v1/attest", body(&csr_pem)).await;
    assert_eq!(again.status, StatusCode::OK, "{again:?}");
    assert_eq!(again.body["certificate"], first.body["certificate"]);
    let other = world.post(anonymous(), "/v1/attest", body(&csr())).await;
    assert_eq!((other.status, other.code()), (StatusCode::UNAUTHORIZED, "token-used"));
}

#[tokio::test]
async fn a_certificate_is_renewed_once_and_with_a_new_key() {
    let world = World::new().await;
    world.agent("bot", &[]).await;
    let token = world.join_token(Subject::Agent("bot".parse().unwrap())).await.token;
    let key = rcgen::KeyPair::generate().unwrap();
    let body = json!({ "evidence": { "method": "join_token", "token": token }, "csr_pem": csr_of(&key) });
    let issued: Issued = serde_json::from_value(world.post(anonymous(), "/v1/attest", body).await.body).unwrap();
    let holder = by(&world.peer(&issued, &key));
    let renew = "/v1/certificates/renew";
    let same_key = world.post(holder.clone(), renew, json!({ "csr_pem": csr_of(&key) })).await;
    assert_eq!((same_key.status.as_u16(), same_key.code()), (422, "key-reused"));
    let next = json!({ "csr_pem": csr() });
    let renewed = world.post(holder.clone(), renew, next.clone()).await;
    assert_eq!(renewed.status, StatusCode::CREATED, "{renewed:?}");
    assert_eq!(renewed.body["certificate"]["spiffe_id"], issued.certificate.spiffe_id.to_string());
    let again = world.post(holder.clone(), renew, next).await;
    assert_eq!((again.status, &again.body["certificate"]), (StatusCode::OK, &renewed.body["certificate"]));
    // Somebody else has the old key: both are stopped.
    let forked = world.post(holder.clone(), renew, json!({ "csr_pem": csr() })).await;
    assert_eq!((forked.status.as_u16(), forked.code()), (403, "lineage-forked"));
    assert_eq!(world.get(holder, "/v1/whoami").await.code(), "certificate-revoked");
}

#[tokio::test]
async fn a_holder_ends_its_own_certificate_and_no_other() {
    let world = World::new().await;
    let (bot, other) = (world.agent("bot", &[]).await, world.agent("other", &[]).await);
    let revoke = |peer: &Peer| format!("/v1/certificates/{}/revoke", peer.serial());
    let told = world.call(by(&bot), Method::POST, &revoke(&other), None).await;
    assert_eq!((told.status, told.code()), (StatusCode::NOT_FOUND, "not-found"));
    let told = world.post(by(&bot), &revoke(&bot), json!({ "reason": "superseded" })).await;
    assert_eq!(
        (told.status, &told.body["revocations"][0]["reason"]),
        (StatusCode::CREATED, &json!("superseded")),
        "{told:?}"
    );
    assert_eq!(world.get(by(&bot), "/v1/whoami").await.code(), "certificate-revoked");
    assert_eq!(world.get(by(&other), "/v1/whoami").await.status, StatusCode::OK);
}

#[tokio::test]
async fn certificates_are_found_by_what_they_say_page_by_page() {
    let world = World::new().await;
    for (name, scopes) in [("a", &["tools/call:crm/*"][..]), ("b", &["tools/call:crm/refund"]), ("c", &[])] {
        world.agent(name, scopes).await;
    }
    world.service("crm").await;
    let found = async |query: &str| {
        let told = world.get(LOCAL, &format!("/v1/admin/certificates?{query}")).await;
        let names = told.body["data"].as_array().unwrap().iter().map(|certificate| {
            certificate.get("agent").or(certificate.get("service")).unwrap().as_str().unwrap().to_owned()
        });
        (names.collect::<Vec<_>>(), told.body["next_cursor"].clone())
    };
    assert_eq!(found("").await.0, ["crm", "c", "b", "a"]);
    assert_eq!(found("scope=tools/call:crm/refund").await.0, ["b", "a"]);
    assert_eq!(found("agent=c").await.0, ["c"]);
    assert_eq!(found("service=crm&state=valid").await.0, ["crm"]);
    assert_eq!(found("state=revoked").await.0, Vec::<String>::new());
    assert_eq!(found("owner=nobody").await.0, Vec::<String>::new());
    assert_eq!(found("valid_at=2020-01-01T00:00:00Z").await.0, Vec::<String>::new());
    let (first, cursor) = found("limit=3").await;
    assert_eq!(first, ["crm", "c", "b"]);
    let (rest, end) = found(&format!("limit=3&cursor={}", cursor.as_str().unwrap())).await;
    assert_eq!((rest, end), (vec!["a".to_owned()], Value::Null));

    let instances = world.get(LOCAL, "/v1/admin/instances?limit=2").await.body;
    assert_eq!(instances["data"].as_array().unwrap().len(), 2, "{instances}");
    let id = instances["data"][0]["id"].as_str().unwrap();
    let mut one = world.get(LOCAL, &format!("/v1/admin/instances/{id}")).await.body;
    // What a list does not tell of each.
    assert_eq!(one.as_object_mut().unwrap().remove("denied").unwrap()["count"], 0);
    assert_eq!(one, instances["data"][0]);
    let query = format!("instance={id}");
    assert_eq!(found(&query).await.0, ["c"]);
}

#[tokio::test]
async fn the_bundle_holds_the_root_that_join_strings_pin() {
    let world = World::new().await;
    world.agent("bot", &[]).await;
    let told = world.get(anonymous(), "/v1/bundle").await;
    let bundle: chancery_api::Bundle = serde_json::from_value(told.body).unwrap();
    let roots: Vec<Vec<u8>> = bundle.certificates().collect();
    let digest = ring::digest::digest(&ring::digest::SHA256, &roots[0]);
    assert_eq!((roots.len(), digest.as_ref()), (1, &world.issuer.root_pin().bytes()[..]));
    let made = world.post(LOCAL, "/v1/admin/join-tokens", json!({ "agent": "bot" })).await;
    let join: chancery_api::JoinString = made.body["join"].as_str().unwrap().parse().unwrap();
    assert_eq!((join.pin(), join.issuer()), (world.issuer.root_pin(), "https://127.0.0.1:8443"));
    // Nobody sees the secret again.
    let listed = world.get(LOCAL, "/v1/admin/join-tokens").await.body.to_string();
    assert!(!listed.contains("chj_"), "{listed}");
}

#[tokio::test]
async fn the_unauthenticated_write_nothing_and_are_limited() {
    let rates = Rates { peer_per_s: 3.try_into().unwrap(), ..Rates::default() };
    let world = World::with(rates).await;
    let before = world.issuer.store().state().position();
    let secret = chancery_api::JoinSecret::from_bytes([7; 32]);
    let guess = json!({ "evidence": { "method": "join_token", "token": secret }, "csr_pem": csr() });
    let mut codes = Vec::new();
    for _ in 0..5 {
        codes.push(world.post(anonymous(), "/v1/attest", guess.clone()).await.code().to_owned());
    }
    assert_eq!(codes.iter().filter(|code| *code == "unknown-token").count(), 3, "{codes:?}");
    assert_eq!(codes.last().unwrap(), "too-many-requests");
    let told = world.post(anonymous(), "/v1/attest/challenge", json!({})).await;
    assert!(told.headers.contains_key("retry-after"), "{told:?}");
    assert_eq!(world.issuer.store().state().position(), before);
}

#[tokio::test]
async fn every_code_has_its_page() {
    let world = World::new().await;
    for code in Code::ALL {
        let told = world.get(anonymous(), &format!("/problems/{code}")).await;
        assert!(told.body.as_str().unwrap().contains(code.title()), "{code}");
    }
    assert_eq!(world.get(anonymous(), "/problems/none").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn it_is_ready_while_it_writes() {
    let world = World::new().await;
    assert_eq!(world.get(anonymous(), "/livez").await.status, StatusCode::OK);
    let told = world.get(anonymous(), "/readyz").await;
    assert_eq!((told.status, &told.body["ready"]), (StatusCode::OK, &json!(true)), "{told:?}");
}
