use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::UnixListener;

use super::*;
use crate::Retry;

/// An HTTP/1.1 server on a socket in the file system, which counts its connections.
struct Server {
    path: PathBuf,
    connections: Arc<AtomicUsize>,
}

impl Server {
    fn start(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("chancery-api-{}-{name}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let serving = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(|request| async { answer(request).await }));
                tokio::spawn(serving);
            }
        });
        Self { path, connections }
    }

    fn client(&self) -> Client {
        Client::over_unix_socket(&self.path)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let build = |status: u16, body: &str| {
        let builder = Response::builder().status(status).header("request-id", format!("rq_{}", "01".repeat(16)));
        builder.header(ETAG, "\"7\"").body(Full::from(body.to_owned())).unwrap()
    };
    let (head, body) = request.into_parts();
    let sent = body.collect().await.unwrap().to_bytes();
    Ok(match head.uri.path() {
        "/echo" => build(201, std::str::from_utf8(&sent).unwrap()),
        "/if-match" => build(200, &format!("{:?}", head.headers.get(IF_MATCH).unwrap().to_str().unwrap())),
        "/token" => build(200, &format!("{:?}", head.headers.get(AUTHORIZATION).unwrap().to_str().unwrap())),
        "/file" if head.headers.get(IF_NONE_MATCH).is_some_and(|tag| tag == "\"7\"") => build(304, ""),
        "/file" => build(200, "contents"),
        "/gateway" => build(502, "<html>"),
        "/silent" => std::future::pending().await,
        "/close" => {
            let mut response = build(200, "1");
            response.headers_mut().insert("connection", HeaderValue::from_static("close"));
            response
        }
        _ => build(403, &serde_json::to_string(&problem()).unwrap()),
    })
}

fn problem() -> Problem {
    Problem {
        r#type: "https://ca/problems/access-missing".into(),
        code: "access-missing".into(),
        title: "the access level is missing".into(),
        status: 403,
        detail: "ana lacks revoker".into(),
        instance: None,
        needs: vec!["revoker".into()],
        holds: vec!["viewer".into()],
        fix: Vec::new(),
        retry: Retry::No,
        request_id: None,
        log_index: None,
    }
}

#[tokio::test]
async fn sends_and_reads_json_over_one_connection() {
    let server = Server::start("json");
    let client = server.client();
    for n in 0..3_u32 {
        let answer = client.post::<u32>("/echo", &n).await.unwrap();
        assert_eq!((answer.status, answer.body), (StatusCode::CREATED, n));
        assert_eq!(answer.request_id.unwrap().bytes(), [1; 16]);
    }
    assert_eq!(client.patch::<String>("/if-match", &1, Some(7)).await.unwrap().body, "\"7\"");
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_refusal_is_the_problem_itself() {
    let server = Server::start("refusal");
    let error = server.client().get::<u32>("/refused").await.unwrap_err();
    assert_eq!(error.problem(), Some(&problem()));
    let error = server.client().get::<u32>("/gateway").await.unwrap_err();
    assert!(matches!(error, ClientError::Status(StatusCode::BAD_GATEWAY)), "{error}");
}

#[tokio::test]
async fn a_file_is_fetched_once() {
    let server = Server::start("file");
    let client = server.client();
    let Fetched::Changed { etag, contents } = client.fetch("/file", None).await.unwrap() else { panic!("no file") };
    assert_eq!(&contents[..], b"contents");
    assert_eq!(client.fetch("/file", etag.as_deref()).await.unwrap(), Fetched::Unchanged);
}

#[tokio::test]
async fn shows_its_token_and_never_prints_it() {
    let server = Server::start("token");
    let client = server.client().with_token(&Secret::new("cht_secret".into())).unwrap();
    assert_eq!(client.get::<String>("/token").await.unwrap().body, "Bearer cht_secret");
    assert!(!format!("{client:?}").contains("secret"));
}

#[tokio::test]
async fn a_closed_connection_is_made_anew() {
    let server = Server::start("closed");
    let client = server.client();
    client.get::<u32>("/close").await.unwrap();
    client.get::<u32>("/close").await.unwrap();
    assert_eq!(server.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn silence_and_absence_are_told_apart() {
    let server = Server::start("silence");
    let client = server.client().with_timeout(Duration::from_millis(50));
    assert!(matches!(client.get::<u32>("/silent").await, Err(ClientError::Timeout(_))));
    let error = Client::over_unix_socket("/nowhere/admin.sock").get::<u32>("/").await.unwrap_err();
    assert!(matches!(&error, ClientError::Unreachable { address, .. } if address.contains("/nowhere")), "{error}");
}

#[test]
fn takes_an_origin_and_nothing_else() {
    let client = |url: &str| Client::new(url, || unreachable!("no connection is made"));
    for good in ["https://ca.internal:8443", "https://ca.internal", "https://127.0.0.1:1/", "https://[::1]:8443"] {
        assert!(client(good).is_ok(), "{good}");
    }
    for bad in ["http://ca", "ca.internal", "https://", "https://u@ca", "https://ca/v1", "https://ca?x", "https://c a"]
    {
        assert!(client(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_query_keeps_its_values_whole() {
    assert_eq!(
        with_query("/v1/admin/certificates", [("scope", "tools/call:crm/**"), ("limit", "5")]),
        "/v1/admin/certificates?scope=tools%2Fcall%3Acrm%2F%2A%2A&limit=5"
    );
}
