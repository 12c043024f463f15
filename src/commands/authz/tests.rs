//! What proxies ask and what they are told, on the test kit's certificates.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use chancery_api::Problem;
use chancery_identity::normalise::Path;
use chancery_testkit::{Flaw, Subject, TestCa};
use chancery_verifier::{Rules, Verifier};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use proptest::prelude::*;
use tower::ServiceExt;

use super::authorities::Authorities;
use super::decide::Decider;
use super::envoy::CHECK;
use super::http::router;
use super::protobuf::{Message, find};

const RULES: &str = r#"
    system = "crm"
    [[rule]]
    method = "GET"
    path = "/customers/{id}"
    scope = "resources/read:crm/customers/{id}"
    [[public]]
    path = "/healthz"
"#;

struct Proxy {
    ca: TestCa,
    router: Router,
}

impl Proxy {
    fn new() -> Self {
        let ca = TestCa::new("example.org");
        let guard = Verifier::guard(&ca.verifier("crm"), Rules::from_toml(RULES).unwrap()).unwrap();
        let own = ca.service("crm").issue().chain;
        let authorities = Arc::new(Authorities::new(own[1..].to_vec()));
        Self { ca, router: router(Decider::new(guard, authorities)) }
    }

    fn bot(&self) -> Subject {
        self.ca.agent("invoice-bot").scope("resources/read:crm/customers/42").scope("x:billing/y")
    }

    async fn ask(&self, uri: &str, headers: &[(&str, &str)]) -> Response<Body> {
        let mut request = Request::get(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    /// As nginx asks.
    async fn auth_request(&self, target: &str, certificate: &str) -> Response<Body> {
        let headers = [("x-original-method", "GET"), ("x-original-uri", target), ("client-cert", certificate)];
        self.ask("/auth-request", &headers).await
    }

    /// As Envoy asks; the gRPC status, and the answer.
    async fn check(&self, question: &[u8]) -> (u64, Vec<u8>) {
        let mut framed = vec![0];
        framed.extend(u32::try_from(question.len()).unwrap().to_be_bytes());
        framed.extend(question);
        self.call(framed).await
    }

    async fn call(&self, framed: Vec<u8>) -> (u64, Vec<u8>) {
        let request = Request::post(CHECK).header("content-type", "application/grpc").body(Body::from(framed)).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let head = response.headers().clone();
        let body = response.into_body().collect().await.unwrap();
        let trailers = body.trailers().cloned().unwrap_or_default();
        let code = |headers: &HeaderMap| headers.get("grpc-status").map(|code| code.to_str().unwrap().parse().unwrap());
        let code = code(&head).or_else(|| code(&trailers)).unwrap();
        let bytes: Bytes = body.to_bytes();
        if bytes.is_empty() {
            return (code, Vec::new());
        }
        assert_eq!(u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize, bytes.len() - 5);
        (code, bytes[5..].to_vec())
    }
}

fn leaf(subject: &Subject) -> String {
    BASE64_STANDARD.encode(&subject.issue().chain[0])
}

fn question(method: &str, path: &str, certificate: &str) -> Vec<u8> {
    let http = Message::default().bytes(1, "id").bytes(2, method).bytes(4, path).number(9, 7);
    let request = Message::default().bytes(1, Message::default().number(1, 1_795_269_600)).bytes(2, http);
    let source = Message::default().bytes(5, certificate);
    Message::default().bytes(1, Message::default().bytes(1, source).bytes(4, request)).into_bytes()
}

fn header(response: &Response<Body>, name: &str) -> String {
    response.headers()[name].to_str().unwrap().to_owned()
}

async fn problem(response: Response<Body>) -> Problem {
    assert_eq!(header(&response, "content-type"), "application/problem+json");
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

#[tokio::test]
async fn the_right_one_passes_and_the_service_learns_who_it_is() {
    let proxy = Proxy::new();
    let bot = proxy.bot();
    let response = proxy.auth_request("/customers/42?full=1", &leaf(&bot)).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(header(&response, "chancery-spiffe-id").starts_with("spiffe://example.org/agent/invoice-bot/"));
    assert_eq!(header(&response, "chancery-scopes"), "resources/read:crm/customers/42");
    assert_eq!(header(&response, "chancery-knowledge"), "fresh");
    // A public request is nobody's, whatever it brought.
    for certificate in ["", "nonsense", &leaf(&bot)] {
        let response = proxy.auth_request("/healthz", certificate).await;
        assert_eq!((response.status(), header(&response, "chancery-spiffe-id")), (StatusCode::OK, String::new()));
        assert_eq!(header(&response, "chancery-scopes"), "");
    }
}

#[tokio::test]
async fn nginx_is_told_401_or_403_and_why() {
    let proxy = Proxy::new();
    let good = leaf(&proxy.bot());
    let cases = [
        ("/customers/42", "", 401, "client-certificate-required"),
        ("/customers/43", &good, 403, "scope-missing"),
        ("/customers", &good, 403, "not-listed"),
        ("/customers/%2e%2e/admin", &good, 403, "path-refused"),
        ("/customers/42#/x", &good, 403, "forwarded-malformed"),
        ("https://crm/customers/42", &good, 403, "path-refused"),
        ("/customers/42", "no base64", 403, "forwarded-malformed"),
        ("/customers/42", "nonsense", 403, "certificate-malformed"),
        ("", &good, 403, "forwarded-malformed"),
    ];
    for (target, certificate, status, code) in cases {
        let response = proxy.auth_request(target, certificate).await;
        assert_eq!(response.status().as_u16(), status, "{target}");
        let told: Problem = serde_json::from_str(&header(&response, "chancery-problem")).unwrap();
        assert_eq!((told.status, &*told.code), (status, code), "{target}");
        assert_eq!(problem(response).await, told);
    }
}

#[tokio::test]
async fn forward_auth_answers_what_the_client_is_to_see() {
    let proxy = Proxy::new();
    let ask = async |target: &str, certificate: &str| {
        let names = ["x-forwarded-method", "x-forwarded-uri", "x-forwarded-tls-client-cert"];
        proxy.ask("/forward-auth", &[(names[0], "GET"), (names[1], target), (names[2], certificate)]).await
    };
    let good = leaf(&proxy.bot());
    assert_eq!(ask("/customers/42", &good).await.status(), StatusCode::OK);
    let refused = problem(ask("/customers/43", &good).await).await;
    assert_eq!(refused.needs, ["resources/read:crm/customers/43"]);
    assert_eq!(refused.holds, ["resources/read:crm/customers/42"]);
    assert!(refused.fix[0].contains("chancery agents update invoice-bot --add-scope"), "{refused:?}");
    assert_eq!(ask("/customers/%2e%2e", &good).await.status(), StatusCode::BAD_REQUEST);
    for none in ["", "{http.request.tls.client.certificate_der_base64}"] {
        assert_eq!(ask("/customers/42", none).await.status(), StatusCode::UNAUTHORIZED);
    }
}

/// A certificate with anything wrong about it, forwarded by a proxy that let it in.
#[tokio::test]
async fn each_flaw_is_refused_in_a_forwarded_certificate() {
    let proxy = Proxy::new();
    let bot = proxy.bot();
    // A leaf without its chain is how it is forwarded; the rest of the chain is ours.
    for flaw in Flaw::ALL.into_iter().filter(|flaw| !matches!(flaw, Flaw::IncompleteChain)) {
        let response = proxy.auth_request("/customers/42", &leaf(&bot.with(flaw))).await;
        assert_ne!(response.status(), StatusCode::OK, "{flaw:?}");
        let (code, answer) = proxy.check(&question("GET", "/customers/42", &leaf(&bot.with(flaw)))).await;
        assert_eq!(code, 0);
        assert_ne!(find(&answer, &[2]).unwrap(), b"", "{flaw:?}");
        assert_eq!(find(&answer, &[3]).unwrap(), b"", "{flaw:?}");
    }
    let revoked: Problem = problem(proxy.auth_request("/customers/42", &leaf(&bot.with(Flaw::Revoked))).await).await;
    assert_eq!(revoked.code, "certificate-revoked");
    let foreign = proxy.ca.impostor().agent("invoice-bot").scope("resources/read:crm/customers/42");
    assert_eq!(problem(proxy.auth_request("/customers/42", &leaf(&foreign)).await).await.code, "chain-untrusted");
}

/// Each way of asking reads its own headers, each once: what a client adds is another way's, or a second one.
#[tokio::test]
async fn a_client_s_own_headers_are_never_believed() {
    let proxy = Proxy::new();
    let good = leaf(&proxy.bot());
    let asked = [("x-original-method", "GET"), ("x-original-uri", "/customers/42")];
    for spoofed in
        ["x-forwarded-tls-client-cert", "x-client-cert", "ssl-client-cert", "x-forwarded-client-cert", "client_cert"]
    {
        let response = proxy.ask("/auth-request", &[asked[0], asked[1], (spoofed, &good)]).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{spoofed}");
    }
    // nginx sets nothing where there was no certificate: the client's own would be the only one, had nginx let it through.
    for (name, value) in [("client-cert", &*good), ("x-original-uri", "/healthz"), ("x-original-method", "HEAD")] {
        let headers = [asked[0], asked[1], ("client-cert", &good), (name, value)];
        let response = proxy.ask("/auth-request", &headers).await;
        assert_eq!(problem(response).await.code, "forwarded-malformed", "{name}");
    }
    // The names of what we tell the service are not read at all.
    let told = [asked[0], asked[1], ("chancery-spiffe-id", "spiffe://example.org/admin/ana")];
    assert_eq!(proxy.ask("/auth-request", &told).await.status(), StatusCode::UNAUTHORIZED);
    for incomplete in [&asked[..1], &asked[1..]] {
        let with_certificate = [incomplete, &[("client-cert", &*good)]].concat();
        assert_eq!(proxy.ask("/auth-request", &with_certificate).await.status(), StatusCode::FORBIDDEN);
    }
}

#[tokio::test]
async fn envoy_is_told_with_body_and_headers() {
    let proxy = Proxy::new();
    let good = leaf(&proxy.bot());
    let (code, answer) = proxy.check(&question("GET", "/customers/42?full=1", &good)).await;
    assert_eq!(code, 0);
    assert_eq!(find(&answer, &[2]), Ok(&b""[..]));
    let set = String::from_utf8_lossy(find(&answer, &[3]).unwrap()).into_owned();
    assert!(set.contains("chancery-spiffe-id") && set.contains("/agent/invoice-bot/"), "{set}");
    assert!(set.contains("resources/read:crm/customers/42") && !set.contains("billing"), "{set}");

    let (code, answer) = proxy.check(&question("GET", "/customers/43", &good)).await;
    assert_eq!(code, 0);
    assert_eq!(find(&answer, &[3]), Ok(&b""[..]));
    let told: Problem = serde_json::from_slice(find(&answer, &[2, 3]).unwrap()).unwrap();
    assert_eq!((told.status, &*told.code), (403, "scope-missing"));

    let (_, answer) = proxy.check(&question("GET", "/customers/42", "")).await;
    let told: Problem = serde_json::from_slice(find(&answer, &[2, 3]).unwrap()).unwrap();
    assert_eq!(told.code, "client-certificate-required");
    // Public: what the client called itself is taken away.
    let (_, answer) = proxy.check(&question("GET", "/healthz", "")).await;
    assert_eq!(find(&answer, &[2]), Ok(&b""[..]));
    assert!(String::from_utf8_lossy(&answer).contains("chancery-spiffe-id"));
}

/// What is no question is no leave: Envoy refuses when the call fails.
#[tokio::test]
async fn a_broken_question_fails_the_call() {
    let proxy = Proxy::new();
    let good = question("GET", "/healthz", "");
    assert_eq!(proxy.check(&good).await.0, 0);
    assert_eq!(proxy.check(&good[..good.len() - 1]).await, (3, Vec::new()));
    assert_eq!(proxy.check(&[good.clone(), good.clone()].concat()).await.0, 3);
    assert_eq!(proxy.check(&question("", "/healthz", "")).await.0, 3);
    assert_eq!(proxy.check(&[]).await.0, 3);
    assert_eq!(proxy.call(Vec::new()).await.0, 3);
    assert_eq!(proxy.call(vec![0, 0, 0, 0, 9, 1]).await.0, 3);
    assert_eq!(proxy.call(vec![1, 0, 0, 0, 0]).await.0, 12);
    assert_eq!(proxy.ask("/envoy.service.auth.v3.Authorization/Other", &[]).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn readiness_says_how_well_revocations_are_known() {
    let response = Proxy::new().ask("/readyz", &[]).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(&response.into_body().collect().await.unwrap().to_bytes()[..], b"revocations fresh\n");
}

/// Whatever a client makes a proxy say, without a certificate there is no way to what a rule guards.
#[test]
fn no_target_gets_past_without_a_certificate() {
    let (proxy, runtime) = (Proxy::new(), tokio::runtime::Builder::new_current_thread().build().unwrap());
    proptest!(|(target in "(/[a-z%./;]{0,12}|/healthz|/%68ealthz|/customers)[ -~]{0,12}")| {
        let (_, answer) = runtime.block_on(proxy.check(&question("GET", &target, "")));
        if !find(&answer, &[3]).unwrap().is_empty() {
            let path = Path::parse(target.split('?').next().unwrap()).unwrap();
            prop_assert_eq!(path.segments(), ["healthz"]);
        }
    });
}
