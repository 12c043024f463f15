//! What nobody may do, on every route there is: the routes are those of the document that the issuer serves.

use chancery::config::Config;
use chancery_api::client::Client;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use serde_json::{Value, json};
use sqlx::{Connection as _, Row as _, SqliteConnection};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::fixture::{Held, Issuer, Key, problem};
use crate::program;

const READ: &str = "tools/call:crm/get_customer";
/// Longer than any body may be.
const OVERSIZE: usize = 600 * 1024;

/// One route of the document, with something that is there in the place of its parameters.
struct Route {
    method: Method,
    path: String,
    /// Whether a credential is asked for.
    guarded: bool,
    takes_json: bool,
    takes_query: bool,
}

async fn routes(client: &Client, held: &Held) -> Vec<Route> {
    let document: Value = client.get("/openapi.json").await.unwrap().body;
    let key_id = client.get::<Value>("/.well-known/chancery").await.unwrap().body["authorities"][0]["key_id"].clone();
    let mut all = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, route) in methods.as_object().unwrap() {
            let id = if path.contains("instances") { held.instance() } else { format!("rv_{:032x}", 7) };
            let id = if path.contains("join-tokens") { format!("jt_{:032x}", 7) } else { id };
            let id = if path.contains("api-tokens") { format!("tk_{:032x}", 7) } else { id };
            let named = path.replace("{name}", "invoice-bot").replace("{service}", "crm").replace("{id}", &id);
            let named = named.replace("{serial}", &held.serial()).replace("{key_id}", key_id.as_str().unwrap());
            let parameters = route["parameters"].as_array().map_or(&[][..], Vec::as_slice);
            all.push(Route {
                method: method.to_uppercase().parse().unwrap(),
                path: named.replace(['{', '}'], ""),
                guarded: !route["security"].is_null(),
                takes_json: !route["requestBody"]["content"]["application/json"].is_null(),
                takes_query: parameters.iter().any(|one| one["in"] == "query"),
            });
        }
    }
    assert!(all.len() > 40 && all.iter().filter(|route| route.guarded).count() > 30, "{}", all.len());
    all
}

fn headers(authorization: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    if let Some(authorization) = authorization {
        headers.insert(AUTHORIZATION, authorization.parse().unwrap());
    }
    headers
}

/// A database, seen by somebody else.
struct Watched(SqliteConnection);

impl Watched {
    async fn open(url: &str) -> Self {
        Self(SqliteConnection::connect(url).await.unwrap())
    }

    async fn of(config: &Config) -> Self {
        Self::open(&config.database_url()).await
    }

    /// The number of the last commit of anybody else, and how many rows each table has.
    async fn look(&mut self) -> (i64, Vec<(String, i64)>) {
        let tables = sqlx::query("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name");
        let tables = tables.fetch_all(&mut self.0).await.unwrap();
        let mut rows = Vec::new();
        for table in tables.iter().map(|row| row.get::<String, _>(0)) {
            let count = sqlx::query(sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}")));
            rows.push((table, count.fetch_one(&mut self.0).await.unwrap().get(0)));
        }
        assert!(rows.len() > 8, "{rows:?}");
        let version = sqlx::query("PRAGMA data_version").fetch_one(&mut self.0).await.unwrap().get(0);
        (version, rows)
    }
}

#[tokio::test]
async fn nothing_unauthenticated_writes_to_the_database() {
    let issuer = Issuer::start().await;
    let bot = issuer.joined("invoice-bot", &[READ]).await;
    issuer.service("crm").await;
    let spent = issuer.token("invoice-bot", 1).await;
    issuer.attest(&spent, Key::draw()).await.unwrap();
    let key = Key::draw();
    let evidence = issuer.signed("rejoin", "invoice-bot", &bot.issued.chain_pem, &bot.key, &Key::draw()).await;
    let nonce = evidence["nonce"].as_str().unwrap().to_owned();
    let anybody = issuer.client(None);
    let routes = routes(&anybody, &bot).await;

    let mut database = Watched::of(issuer.config()).await;
    let before = database.look().await;
    // Every route, by nobody and by whoever has no real token, with nothing, with noise, with too much.
    let token = format!("Bearer cht_{}", "A".repeat(43));
    for route in &routes {
        for authorization in [None, Some(token.as_str()), Some("Bearer nothing"), Some("Basic YTpi"), Some("cht_")] {
            for body in [b"".to_vec(), b"{\"".to_vec(), json!({"no_such_field": 1}).to_string().into_bytes()] {
                let told = anybody.call(route.method.clone(), &route.path, headers(authorization), body.into()).await;
                let told = told.unwrap();
                let what = format!("{} {} by {authorization:?}: {told:?}", route.method, route.path);
                assert!(told.status().as_u16() < 500, "{what}");
                if route.guarded {
                    assert!(matches!(told.status().as_u16(), 401 | 429), "{what}");
                }
            }
        }
    }
    // Well made, and not theirs to ask.
    let foreign = Issuer::start().await;
    let stranger = foreign.joined("invoice-bot", &[READ]).await;
    let elsewhere = foreign.token("invoice-bot", 1).await;
    let secret = chancery_api::JoinSecret::from_bytes([7; 32]).to_string();
    let by_token = |token: &str| json!({"method": "join_token", "token": token});
    let signed = |held: &Held, by: &Key, nonce: &str| {
        issuer.sign("rejoin", "invoice-bot", &held.issued.chain_pem, by, &key, nonce)
    };
    let refused = [
        (by_token(&secret), "unknown-token"),
        (by_token(&elsewhere), "unknown-token"),
        (by_token(&spent), "token-used"),
        (signed(&bot, &Key::draw(), &nonce), "evidence-refused"),
        (signed(&stranger, &stranger.key, &nonce), "evidence-refused"),
        (signed(&bot, &bot.key, "AAAA"), "nonce-refused"),
    ];
    for (evidence, code) in refused {
        // Those of before count against the rate.
        let told = loop {
            let told = issuer.attest_by(evidence.clone(), key.clone()).await.err().unwrap();
            if told.code != "too-many-requests" {
                break told;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(told.code, code, "{evidence}: {}", told.detail);
    }
    let first = json!({"token": format!("cha_{}", "A".repeat(43)), "name": "eve"});
    assert!(anybody.post::<Value>("/v1/first-administrator", &first).await.is_err());
    // A certificate of somebody else's, and handshakes that do not end.
    let other = issuer.client(Some(&stranger)).get::<Value>("/v1/whoami").await;
    assert!(other.is_err(), "{other:?}");
    let open: Vec<_> = futures_util::future::join_all((0..300).map(|_| half_open(issuer.server.api()))).await;
    for noise in [&b"\0"[..], b"GET / HTTP/1.1\r\n\r\n", b"POST /ocsp HTTP/1.1\r\ncontent-length: 4\r\n\r\n\0\0\0\0"] {
        for address in [issuer.server.api(), issuer.server.status()] {
            TcpStream::connect(address).await.unwrap().write_all(noise).await.unwrap();
        }
    }
    // Whoever was before them in the queues is answered.
    anybody.get::<Value>("/readyz").await.unwrap();
    assert_eq!(database.look().await, before);
    drop(open);

    // What is watched would show it: a refusal of somebody known is written down.
    assert_eq!(
        problem(issuer.client(Some(&bot)).get::<Value>("/v1/admin/agents").await.unwrap_err()).code,
        "wrong-caller"
    );
    assert_ne!(database.look().await, before);
}

#[tokio::test]
async fn every_route_refuses_what_it_does_not_know() {
    let issuer = Issuer::start().await;
    let bot = issuer.joined("invoice-bot", &[READ]).await;
    let crm = issuer.service("crm").await;
    let (agent, service) = (issuer.client(Some(&bot)), issuer.client(Some(&crm)));
    let routes = routes(&agent, &bot).await;
    let before = issuer.server.issuer().store().state().position();
    let mut bodies = 0;
    for route in &routes {
        let client = match route.path.as_str() {
            path if path.starts_with("/v1/admin/") => &issuer.admin,
            path if path.starts_with("/v1/feed") => &service,
            _ => &agent,
        };
        let refused = async |query: &str, body: Vec<u8>| {
            let path = format!("{}{query}", route.path);
            let told = client.call(route.method.clone(), &path, headers(None), body.into()).await.unwrap();
            let document: Value = serde_json::from_slice(told.body()).unwrap_or_default();
            let detail = document["detail"].as_str().unwrap_or_default().to_owned();
            (told.status().as_u16(), document["code"].as_str().unwrap_or_default().to_owned(), detail)
        };
        let what = format!("{} {}", route.method, route.path);
        // OCSP says so in its own words.
        if !route.path.starts_with("/ocsp") {
            let (status, code, detail) = refused("?no_such_parameter=1", b"{}".to_vec()).await;
            assert_eq!((status, code.as_str()), (400, "bad-request"), "{what}: {detail}");
            assert!(!route.takes_query || detail.contains("no_such_parameter"), "{what}: {detail}");
        }
        if !route.takes_json {
            continue;
        }
        bodies += 1;
        let (_, code, detail) = refused("", json!({"no_such_field": 1}).to_string().into_bytes()).await;
        assert_eq!(code, "bad-request", "{what}: {detail}");
        assert!(detail.contains("no_such_field"), "{what}: {detail}");
        for noise in ["{", "", "[", "nul", "{\"a\":", "\u{fffd}"] {
            let (status, code, detail) = refused("", noise.as_bytes().to_vec()).await;
            assert_eq!((status, code.as_str()), (400, "bad-request"), "{what}: {noise:?}: {detail}");
        }
        for other in ["[]", "1", "\"text\"", "null"] {
            let (status, code, detail) = refused("", other.as_bytes().to_vec()).await;
            assert_eq!((status, code.as_str()), (400, "bad-request"), "{what}: {other}: {detail}");
        }
        let (status, code, detail) = refused("", vec![b' '; OVERSIZE]).await;
        assert_eq!((status, code.as_str()), (413, "body-too-large"), "{what}: {detail}");
    }
    assert!(bodies > 12, "{bodies}");
    assert_eq!(issuer.server.issuer().store().state().position(), before);
}

/// The real process: its memory is its own.
#[tokio::test(flavor = "multi_thread")]
async fn half_open_connections_and_bodies_without_end_leave_memory_where_it_was() {
    let issuer = tokio::task::spawn_blocking(program::Issuer::start).await.unwrap();
    let mut database =
        Watched::open(&format!("sqlite:{}", issuer.path().join("chancery-dev/chancery.db").display())).await;
    let (api, status) = (issuer.address("api"), issuer.address("status"));
    let before = database.look().await;
    let mut after_each = Vec::new();
    for _ in 0..4 {
        let begun: Vec<_> = futures_util::future::join_all((0..2_000).map(|_| half_open(api))).await;
        let slow =
            futures_util::future::join_all((0..500).map(|_| begin(status, b"POST /ocsp HTTP/1.1\r\nhost: a\r\n")))
                .await;
        let endless = (0..50).map(|_| async {
            let head = b"POST /ocsp HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\n";
            let mut stream = begin(status, head).await;
            // Until it is not read any more.
            while stream.write_all(&[0x30; 64 * 1024]).await.is_ok() {}
        });
        futures_util::future::join_all(endless).await;
        // Somebody honest gets an answer meanwhile.
        let mut honest = begin(status, b"GET /nothing HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        let mut answer = Vec::new();
        honest.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 404"), "{}", String::from_utf8_lossy(&answer));
        drop((begun, slow));
        after_each.push(issuer.memory_kib());
    }
    // The first round fills what allocators and pools keep; no later one adds to it.
    let [first, .., last] = after_each[..] else { unreachable!() };
    assert!(last < first + 8 * 1024 && last < 256 * 1024, "KiB after each round: {after_each:?}");
    assert_eq!(database.look().await, before);
}

/// A handshake that does not go on: the first half of a record.
async fn half_open(address: std::net::SocketAddr) -> TcpStream {
    begin(address, &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).await
}

async fn begin(address: std::net::SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // It may be displaced at once.
    let _ = stream.write_all(bytes).await;
    stream
}
