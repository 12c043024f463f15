//! `chancery show`: what was pasted, and what the log knows of it.

use serde_json::{Value, json};

use crate::fixture::{Issuer, Key, problem};

const READ: &str = "tools/call:crm/get_customer";
const REFUND: &str = "tools/call:crm/refund";

#[tokio::test]
async fn a_request_is_found_by_its_id_and_an_instance_tells_what_it_was_refused() {
    let issuer = Issuer::start().await;
    let held = issuer.joined("invoice-bot", &[READ]).await;
    let instance = held.issued.certificate.spiffe_id.as_str().rsplit_once('/').unwrap().1.to_owned();
    let shown = issuer.chancery(&["show", &instance]).await;
    assert!(shown.out.contains("  denied by the issuer in the last 10 min: 0"), "{shown:?}");

    // A scope that it does not hold: refused where the request is handled, and in the log.
    let wide = json!({"csr_pem": Key::draw().csr(), "scopes": [REFUND]});
    let refused = issuer.client(Some(&held)).post::<Value>("/v1/certificates/renew", &wide).await;
    let refused = problem(refused.err().unwrap());
    assert_eq!(refused.code, "scope-not-held");
    let (request, index) = (refused.request_id.unwrap().to_string(), refused.log_index.unwrap());
    let shown = issuer.chancery(&["show", &request]).await;
    assert_eq!(shown.code, 0, "{shown:?}");
    let lines: Vec<&str> = shown.out.lines().collect();
    assert_eq!(lines[0], format!("request {request}"));
    assert!(lines[1].starts_with(&format!("  log {index}  ")), "{shown:?}");
    assert!(lines[1].contains(&format!("  deny  by {}", held.issued.certificate.spiffe_id)), "{shown:?}");
    assert_eq!(lines[2], "    code  scope-not-held");

    let shown = issuer.chancery(&["show", &instance]).await;
    assert!(shown.out.contains("denied by the issuer in the last 10 min: 1   last "), "{shown:?}");
    assert!(shown.out.contains(&format!("  scope-not-held  {request}")), "{shown:?}");
    // One that was refused long ago is history.
    issuer.forward(11 * 60).await;
    let shown = issuer.chancery(&["show", &instance]).await;
    assert!(shown.out.contains("in the last 10 min: 0"), "{shown:?}");

    // What was decided is found, too, by the id that the log itself tells.
    let log: Value = issuer.admin.get("/v1/admin/log?limit=500").await.unwrap().body;
    let mut requests = 0;
    for entry in log["data"].as_array().unwrap() {
        let record: Value = serde_json::from_str(entry["record"].as_str().unwrap()).unwrap();
        let Some(request) = record["request_id"].as_str() else { continue };
        requests += 1;
        let shown = issuer.chancery(&["show", request, "-o", "id"]).await;
        assert!(shown.out.lines().any(|index| entry["log_index"] == json!(index.parse::<u64>().unwrap())), "{shown:?}");
    }
    assert!(requests >= 3, "{log}");
    let nothing = issuer.chancery(&["show", "rq_01936f2c000070008000000000000001"]).await;
    assert_eq!(nothing.code, 4, "{nothing:?}");
    assert!(nothing.err.contains("fix "), "{nothing:?}");
    issuer.stop().await;
}
