//! What an operator's Prometheus reads, over its own socket.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::fixture::{Issuer, Key};

const READ: &str = "tools/call:crm/get_customer";

#[tokio::test]
async fn metrics_move_by_what_happens_and_are_served_on_their_own_listener_only() {
    let issuer = Issuer::start_with(|config, _| {
        config.listen.metrics = Some("127.0.0.1:0".parse().unwrap());
    })
    .await;
    let before = scrape(&issuer).await;
    assert_eq!(before["chancery_certificates_issued_total{kind=\"attestation\"}"], 0.0);
    assert_eq!(before["chancery_lease_held"], 1.0);

    issuer.agent("invoice-bot", &[READ]).await;
    let (token, key) = (issuer.token("invoice-bot", 1).await, Key::draw());
    let held = issuer.attest(&token, key.clone()).await.unwrap();
    // An answer that is given again is no other certificate.
    issuer.attest(&token, key).await.unwrap();
    issuer.renew(&held, Key::draw()).await.unwrap();
    assert_eq!(issuer.attest(&token, Key::draw()).await.err().unwrap().code, "token-used");
    let crm = issuer.service("crm").await;
    issuer.revoke(json!({"targets": ["agent:invoice-bot"], "effect": "suspend"})).await;
    let mut published = issuer.server.issuer().crls().changes();
    while issuer.server.issuer().crls().issuing_at(1).is_none() {
        published.changed().await.unwrap();
    }
    let ack = json!({"epoch": 1, "n": 1, "applied_at": "2026-11-21T03:07:41.203Z"});
    issuer.client(Some(&crm)).post::<Value>("/v1/feed/acks", &ack).await.ok();
    let ocsp = http(issuer.server.status(), "GET /ocsp/AAAA").await;
    assert!(ocsp.starts_with("HTTP/1.1 400"), "{ocsp}");

    let after = scrape(&issuer).await;
    let moved = |name: &str| after[name] - before.get(name).copied().unwrap_or(0.0);
    for (name, wanted) in [
        ("chancery_certificates_issued_total{kind=\"attestation\"}", 2.0),
        ("chancery_certificates_issued_total{kind=\"renewal\"}", 1.0),
        ("chancery_certificates_issued_total{kind=\"rejoin\"}", 0.0),
        ("chancery_requests_refused_total{code=\"token-used\"}", 1.0),
        ("chancery_requests_refused_total{code=\"unknown-token\"}", 0.0),
        ("chancery_ocsp_answers_total{status=\"malformed_request\"}", 1.0),
        ("chancery_revocation_number", 1.0),
        ("chancery_verifiers{state=\"fresh\"}", 1.0),
        ("chancery_verifiers_confirmed_number_min", 1.0),
        ("chancery_verifiers_behind", 0.0),
        ("chancery_commit_queue_depth", 0.0),
    ] {
        assert_eq!(moved(name), wanted, "{name}");
    }
    assert!(moved("chancery_log_size") >= 6.0);
    assert!(moved("chancery_commit_batch_size_count") >= 6.0);
    assert!(moved("chancery_commit_duration_seconds_sum") > 0.0);
    assert!(moved("chancery_handshakes_total{result=\"accepted\"}") >= 4.0);

    let now = after["process_start_time_seconds"];
    let one = |start: &str| {
        let mut found = after.iter().filter(|(name, _)| name.starts_with(start));
        let (_, value) = found.next().unwrap_or_else(|| panic!("no {start}"));
        *value
    };
    for kind in ["root", "issuing", "head", "ocsp"] {
        let ends = one(&format!("chancery_certificate_expiration_timestamp_seconds{{kind=\"{kind}\""));
        assert!(ends > now + 3600.0, "{kind} ends at {ends}");
    }
    assert!((now - 60.0..now + 60.0).contains(&one("chancery_head_timestamp_seconds")));
    assert!((now - 60.0..now + 60.0).contains(&one("chancery_crl_this_update_timestamp_seconds{kind=\"issuing\"")));
    assert!(one("chancery_crl_number{kind=\"issuing\"") > 1.7e18);
    assert_eq!(one("chancery_crl_revocation_number{kind=\"issuing\""), 1.0);

    // Nowhere else, and nothing else there.
    assert_eq!(issuer.raw("/metrics").await, None);
    let metrics = issuer.server.metrics().unwrap();
    for (address, what) in [(issuer.server.status(), "GET /metrics"), (metrics, "GET /readyz")] {
        assert!(http(address, what).await.starts_with("HTTP/1.1 404"), "{what} at {address}");
    }
    issuer.stop().await;
}

/// All samples by name and labels. Names are as Prometheus has them.
async fn scrape(issuer: &Issuer) -> BTreeMap<String, f64> {
    let answer = http(issuer.server.metrics().unwrap(), "GET /metrics").await;
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"), "{head}");
    assert!(text.ends_with("# EOF\n"), "{text}");
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        assert!(name.starts_with("chancery_") || name == "process_start_time_seconds", "{name}");
        assert!(["counter", "gauge", "histogram", "info"].contains(&kind), "{line}");
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
    }
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

async fn http(address: std::net::SocketAddr, what: &str) -> String {
    let mut tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    tcp.write_all(format!("{what} HTTP/1.1\r\nhost: issuer\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    tcp.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}
