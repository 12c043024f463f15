//! The feed, read as a verifier reads it: every line chained, every head signed.

use std::sync::Arc;

use chancery_api::{FeedEntry, FeedSnapshot};
use chancery_tlog::{Chained, Head};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use crate::fixture::{Held, Issuer};

/// A reader of the feed over HTTP/1.1 that believes nothing.
struct Reader {
    lines: tokio::io::Lines<BufReader<tokio_rustls::client::TlsStream<tokio::net::TcpStream>>>,
    issuer_root: Vec<u8>,
    keys: Vec<CertificateDer<'static>>,
    chain: Option<Chained>,
    standing: Chained,
    standing_left: u64,
    entries: Vec<FeedEntry>,
    events: Vec<String>,
}

impl Reader {
    async fn open(issuer: &Issuer, held: &Held, query: &str) -> Self {
        let (status, reader) = Self::ask(issuer, held, query).await;
        assert!(status.ends_with("200 OK"), "{status}");
        reader
    }

    async fn ask(issuer: &Issuer, held: &Held, query: &str) -> (String, Self) {
        let config = issuer.tls(Some(held), b"http/1.1");
        let tcp = tokio::net::TcpStream::connect(issuer.server.api()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
        let request = format!("GET /v1/feed{query} HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n");
        tls.write_all(request.as_bytes()).await.unwrap();
        let mut lines = BufReader::new(tls).lines();
        let status = lines.next_line().await.unwrap().unwrap();
        while !lines.next_line().await.unwrap().unwrap().is_empty() {}
        let reader = Self {
            lines,
            issuer_root: issuer.server.issuer().authorities().root().der().to_vec(),
            keys: Vec::new(),
            chain: None,
            standing: Chained::start(0),
            standing_left: 0,
            entries: Vec::new(),
            events: Vec::new(),
        };
        (status, reader)
    }

    /// Goes on from what was verified before.
    fn from(mut self, chain: Chained) -> Self {
        self.chain = Some(chain);
        self
    }

    /// The next event; `None` when the stream ends.
    async fn event(&mut self) -> Option<(String, String, Option<String>)> {
        let (mut name, mut id, mut data) = (String::new(), None, Vec::new());
        loop {
            let line = self.lines.next_line().await.ok()??;
            if let Some(rest) = line.strip_prefix("event: ") {
                name = rest.to_owned();
            } else if let Some(rest) = line.strip_prefix("id: ") {
                id = Some(rest.to_owned());
            } else if let Some(rest) = line.strip_prefix("data: ") {
                data.push(rest.to_owned());
            } else if line.is_empty() && !name.is_empty() {
                self.events.push(name.clone());
                return Some((name, data.join("\n"), id));
            }
            // What is left is HTTP's chunk sizes.
        }
    }

    /// Reads on until a head, and verifies all that it signs.
    async fn head(&mut self) -> Option<Head> {
        loop {
            let (name, data, id) = self.event().await?;
            match name.as_str() {
                "head-key" => self.keys.push(CertificateDer::from_pem_slice(data.as_bytes()).unwrap()),
                "snapshot" => {
                    let snapshot: FeedSnapshot = serde_json::from_str(&data).unwrap();
                    self.standing_left = snapshot.standing;
                    assert_eq!(snapshot.floor, 0);
                    self.chain = Some(Chained::start(0));
                }
                "entry" => {
                    let entry: FeedEntry = serde_json::from_str(&data).unwrap();
                    assert_eq!(id.unwrap(), format!("1.{}", entry.n()));
                    if self.standing_left > 0 {
                        self.standing_left -= 1;
                        self.standing = self.standing.then(chancery::store::SHA256, data.as_bytes());
                    } else {
                        let chain = self.chain.unwrap().then(chancery::store::SHA256, data.as_bytes());
                        assert_eq!(chain.n, entry.n(), "a gap");
                        self.chain = Some(chain);
                    }
                    self.entries.push(entry);
                }
                "bundle" => drop(serde_json::from_str::<chancery_api::Bundle>(&data).unwrap()),
                "head" => {
                    let note = format!("{data}\n");
                    let domain = "dev.invalid".parse().unwrap();
                    let head = chancery::revocation::open_head(&note, &self.keys, &domain, &self.issuer_root).unwrap();
                    assert_eq!(Some(head.revocation), self.chain);
                    return Some(head);
                }
                other => panic!("an event {other}"),
            }
        }
    }
}

#[tokio::test]
async fn a_service_is_told_of_each_entry_under_a_signed_head() {
    let issuer = Issuer::start().await;
    let crm = issuer.service("crm").await;
    let bot = issuer.joined("invoice-bot", &[]).await;
    let suspend = issuer.revoke(json!({"targets": ["agent:invoice-bot"], "effect": "suspend"})).await;

    let mut reader = Reader::open(&issuer, &crm, "").await;
    let first = reader.head().await.unwrap();
    assert_eq!((first.epoch, first.revocation.n, first.floor.n), (1, 1, 0));
    assert_eq!(reader.events, ["head-key", "snapshot", "entry", "bundle", "head"]);
    assert_eq!(reader.entries[0].n(), suspend.revocations[0].n);

    let resume = format!("/v1/admin/revocations/{}/resume", suspend.revocations[0].id);
    issuer.admin.post::<serde_json::Value>(&resume, &json!({})).await.unwrap();
    let mut head = reader.head().await.unwrap();
    while head.revocation.n < 2 {
        head = reader.head().await.unwrap();
    }
    assert!(matches!(&reader.entries[1], FeedEntry::Resume(resume) if resume.resumes == 1));
    // A heartbeat when nothing happens.
    let next = reader.head().await.unwrap();
    assert!(next.at > head.at && !next.is_behind(&head) && next.revocation == head.revocation);

    // Another connection goes on where this one is.
    let mut again = Reader::open(&issuer, &crm, "?epoch=1&after=1").await.from(first.revocation);
    again.head().await.unwrap();
    assert_eq!(again.events, ["head-key", "entry", "bundle", "head"]);
    // An epoch that is not known is begun anew.
    let mut other = Reader::open(&issuer, &crm, "?epoch=7&after=1").await;
    other.head().await.unwrap();
    assert_eq!(other.events[1], "snapshot");

    let (status, _) = Reader::ask(&issuer, &bot, "").await;
    assert!(status.contains("403"), "{status}");
}

#[tokio::test]
async fn a_feed_ends_with_its_reader() {
    let issuer = Issuer::start().await;
    let (crm, edge) = (issuer.service("crm").await, issuer.service("edge").await);
    let (mut reader, mut other) = (Reader::open(&issuer, &crm, "").await, Reader::open(&issuer, &edge, "").await);
    reader.head().await.unwrap();
    issuer.revoke(json!({"targets": ["service:crm"], "effect": "suspend"})).await;
    // It learns of its own end, and then the connection is cut.
    while reader.head().await.is_some() {}
    while other.head().await.unwrap().revocation.n == 0 {}
    other.head().await.unwrap();
    // A stop does not wait for streams that never end.
    let stopping = std::time::Instant::now();
    issuer.stop().await;
    assert!(stopping.elapsed() < std::time::Duration::from_secs(2), "{:?}", stopping.elapsed());
    while other.head().await.is_some() {}
}

#[tokio::test]
async fn a_restart_goes_on_where_a_reader_was() {
    let issuer = Issuer::start().await;
    let crm = issuer.service("crm").await;
    issuer.revoke(json!({"targets": ["owner:team-finance"], "effect": "suspend"})).await;
    let mut reader = Reader::open(&issuer, &crm, "").await;
    let before = reader.head().await.unwrap();
    let issuer = issuer.restart(async |_| {}).await;
    assert!(reader.head().await.is_none());
    issuer.revoke(json!({"targets": ["owner:team-crew"], "effect": "suspend"})).await;
    let after = format!("?epoch={}&after={}", before.epoch, before.revocation.n);
    let mut reader = Reader::open(&issuer, &crm, &after).await.from(before.revocation);
    let mut now = reader.head().await.unwrap();
    while now.revocation.n < 2 {
        now = reader.head().await.unwrap();
    }
    assert!(!reader.events.contains(&"snapshot".to_owned()) && before.is_behind(&now), "{:?}", reader.events);
    issuer.stop().await;
}
