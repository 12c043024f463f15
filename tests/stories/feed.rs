//! The feed, read as a verifier reads it: every line chained, every head signed.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use chancery::config::Config;
use chancery::store::{Cause, Revoke};
use chancery_api::{FeedEntry, FeedPace, FeedSnapshot};
use chancery_identity::{Effect, Reason, Target};
use chancery_tlog::{Chained, Head};
use futures_util::StreamExt as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::json;
use sqlx::Connection as _;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use crate::fixture::{Held, Issuer, Key, problem};
use crate::taught::Service;

/// A reader of the feed over HTTP/1.1 that believes nothing.
pub(crate) struct Reader {
    lines: tokio::io::Lines<BufReader<tokio_rustls::client::TlsStream<tokio::net::TcpStream>>>,
    issuer_root: Vec<u8>,
    keys: Vec<CertificateDer<'static>>,
    chain: Option<Chained>,
    standing: Chained,
    standing_left: u64,
    entries: Vec<FeedEntry>,
    events: Vec<String>,
    /// All that was read, as `curl` would have written it.
    pub(crate) captured: String,
    epoch: u64,
    pace: Option<FeedPace>,
}

impl Reader {
    pub(crate) async fn open(issuer: &Issuer, held: &Held, query: &str) -> Self {
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
            captured: String::new(),
            epoch: 1,
            pace: None,
        };
        (status, reader)
    }

    /// Goes on from what was verified before.
    pub(crate) fn from(mut self, chain: Chained) -> Self {
        self.chain = Some(chain);
        self
    }

    /// The next event; `None` when the stream ends.
    async fn event(&mut self) -> Option<(String, String, Option<String>)> {
        let (mut name, mut id, mut data) = (String::new(), None, Vec::new());
        loop {
            let line = self.lines.next_line().await.ok()??;
            let of_http = line.bytes().all(|byte| byte.is_ascii_hexdigit());
            if !of_http {
                self.captured.push_str(&format!("{line}\n"));
            }
            if let Some(rest) = line.strip_prefix("event: ") {
                name = rest.to_owned();
            } else if let Some(rest) = line.strip_prefix("id: ") {
                id = Some(rest.to_owned());
            } else if let Some(rest) = line.strip_prefix("data: ") {
                data.push(rest.to_owned());
            } else if line.is_empty() && !name.is_empty() {
                self.events.push(name.clone());
                self.captured.push('\n');
                return Some((name, data.join("\n"), id));
            }
            // What is left is HTTP's chunk sizes.
        }
    }

    /// Reads on until a head, and verifies all that it signs.
    pub(crate) async fn head(&mut self) -> Option<Head> {
        loop {
            let (name, data, id) = self.event().await?;
            match name.as_str() {
                "head-key" => self.keys.push(CertificateDer::from_pem_slice(data.as_bytes()).unwrap()),
                "snapshot" => {
                    let snapshot: FeedSnapshot = serde_json::from_str(&data).unwrap();
                    self.standing_left = snapshot.standing;
                    self.epoch = snapshot.epoch;
                    // Nothing is forgotten in a story: an epoch begins here.
                    self.chain = Some(Chained::start(snapshot.floor));
                }
                "entry" => {
                    let entry: FeedEntry = serde_json::from_str(&data).unwrap();
                    assert_eq!(id.unwrap(), format!("{}.{}", self.epoch, entry.n()));
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
                "pace" => self.pace = Some(serde_json::from_str(&data).unwrap()),
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
async fn a_head_is_signed_before_anybody_can_ask() {
    let issuer = Issuer::start().await;
    assert!(issuer.server.issuer().feed().newest().is_some());
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
    assert!(stopping.elapsed() < Duration::from_secs(2), "{:?}", stopping.elapsed());
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

#[tokio::test]
async fn ten_thousand_entries_at_once_reach_whoever_reads_and_shed_whoever_does_not() {
    let issuer = Issuer::start().await;
    let crm = issuer.service("crm").await;
    let mut reader = Reader::open(&issuer, &crm, "").await;
    reader.head().await.unwrap();
    let feed = issuer.server.issuer().feed().clone();
    let mut idle = Box::pin(feed.connect(None).unwrap());
    idle.next().await.unwrap().unwrap();
    // Its connection lives, and it takes nothing of the stream.
    let edge = issuer.client(Some(&issuer.service("edge").await));
    let mut stalled = edge.stream("/v1/feed").await.unwrap();
    assert_eq!(feed.listeners(), 3);

    let began = std::time::Instant::now();
    let bursts = (0..100).map(|burst| {
        let targets = (0..100).map(|one| Target::Serial(format!("41{:030x}", burst * 100 + one).parse().unwrap()));
        let (effect, reason, comment) = (Effect::Revoke, Reason::Unspecified, String::new());
        let targets = targets.collect();
        let revoke = Revoke { cause: Cause::ISSUER, targets, effect, reason, comment, cascade: true };
        issuer.server.issuer().store().commit(revoke)
    });
    futures_util::future::join_all(bursts).await;
    while reader.head().await.unwrap().revocation.n < 10_000 {}
    assert_eq!(reader.entries.len(), 10_000);
    println!("10,000 entries told in {:?}", began.elapsed());
    // One head each, so that many are missed by whoever takes none.
    let mut heads = feed.heads();
    for n in 10_001..10_080 {
        let target = Target::Serial(format!("42{n:030x}").parse().unwrap());
        let (effect, reason, comment) = (Effect::Revoke, Reason::Unspecified, String::new());
        let revoke = Revoke { cause: Cause::ISSUER, targets: vec![target], effect, reason, comment, cascade: true };
        issuer.server.issuer().store().commit(revoke).await.unwrap();
        heads.wait_for(|beat| beat.as_ref().is_some_and(|beat| beat.head.revocation.n >= n)).await.unwrap();
    }
    while reader.head().await.unwrap().revocation.n < 10_079 {}
    // The other one took nothing meanwhile: what was begun is finished, and then it ends.
    let mut rest = 0;
    while let Some(bytes) = idle.next().await {
        bytes.unwrap();
        rest += 1;
    }
    assert!(rest < 70, "{rest}");
    drop(idle);
    while feed.listeners() > 1 {
        reader.head().await.unwrap();
    }
    while stalled.chunk().await.unwrap().is_some() {}
}

#[tokio::test]
async fn one_service_does_not_use_up_the_feeds_of_others() {
    let issuer = Issuer::start().await;
    let (crm, edge) = (issuer.service("crm").await, issuer.service("edge").await);
    // An HTTP/2 connection has 256 streams.
    let clients = [issuer.client(Some(&crm)), issuer.client(Some(&crm))];
    let mut open = Vec::new();
    for n in 0..256 {
        open.push(clients[n % 2].stream("/v1/feed").await.unwrap());
    }
    let refused = problem(clients[0].stream("/v1/feed").await.err().unwrap());
    assert_eq!((refused.code.as_str(), refused.status), ("too-many-requests", 429), "{}", refused.detail);
    // From 50 listeners on acknowledgements are spread; nobody else is hurt.
    let mut reader = Reader::open(&issuer, &edge, "").await;
    reader.head().await.unwrap();
    issuer.revoke(json!({"targets": ["owner:team-finance"], "effect": "suspend"})).await;
    while reader.head().await.unwrap().revocation.n == 0 {}
    assert_eq!(reader.pace, Some(FeedPace { after_ms: 25, within_ms: 77 }));
    for stream in &mut open {
        while !String::from_utf8_lossy(&stream.chunk().await.unwrap().unwrap()).contains("event: entry") {}
    }
}

#[tokio::test]
async fn an_issuer_that_lost_its_database_to_another_says_nothing() {
    let issuer = Issuer::start().await;
    let crm = issuer.service("crm").await;
    let mut reader = Reader::open(&issuer, &crm, "").await;
    reader.head().await.unwrap();
    tamper(issuer.config(), "UPDATE head SET lease_fence = lease_fence + 1").await;
    // One may be on its way.
    let mut heads = 0;
    while tokio::time::timeout(Duration::from_secs(3), reader.head()).await.is_ok() {
        heads += 1;
        assert!(heads < 3);
    }
    // Nor is anybody who comes now told an old head as if it were new.
    let mut late = Reader::open(&issuer, &crm, "").await;
    assert!(tokio::time::timeout(Duration::from_secs(2), late.head()).await.is_err());
    tamper(issuer.config(), "UPDATE head SET lease_fence = lease_fence - 1").await;
    reader.head().await.unwrap();
    late.head().await.unwrap();
}

#[tokio::test]
async fn a_restored_backup_is_found_out_and_gone_on_from_in_a_new_epoch() {
    let issuer = Issuer::start().await;
    let (crm, bot) = (issuer.service("crm").await, issuer.joined("invoice-bot", &[]).await);
    let backup = issuer.config().data_dir.join("backup.db");
    let done = chancery(issuer.config(), &["db", "backup", backup.to_str().unwrap()]);
    assert!(done.contains("backup.db"), "{done}");
    // What the backup does not have: an instance, and a suspension.
    let late = issuer.joined("late-bot", &[]).await;
    issuer.revoke(json!({"targets": ["agent:invoice-bot"], "effect": "suspend"})).await;
    let mut reader = Reader::open(&issuer, &crm, "").await;
    let told = reader.head().await.unwrap();
    let capture = issuer.config().data_dir.join("feed.txt");
    std::fs::write(&capture, &reader.captured).unwrap();

    let issuer = issuer.restart(async |config| put_back(config, &backup)).await;
    let refused = |error| problem(error).code;
    assert_eq!(refused(issuer.admin.get::<serde_json::Value>("/readyz").await.err().unwrap()), "rolled-back");
    issuer.admin.get::<serde_json::Value>("/v1/admin/agents/invoice-bot").await.unwrap();
    let stop = json!({"targets": ["agent:invoice-bot"], "effect": "suspend"});
    let stopped = issuer.admin.post::<serde_json::Value>("/v1/admin/revocations", &stop).await;
    assert_eq!(refused(stopped.err().unwrap()), "rolled-back");
    assert!(issuer.server.issuer().feed().newest().is_none());
    // Nobody else is served: there is no certificate to serve by.
    assert!(tokio::net::TcpStream::connect(issuer.server.api()).await.is_err());

    let told_note = std::fs::read_to_string(issuer.config().data_dir.join("head")).unwrap();
    let issuer = issuer
        .restart(async |config| {
            // A number that comes twice is not believed, though a head counts the first.
            let entry = reader.captured.split_inclusive("\n\n").find(|event| event.contains("invoice-bot")).unwrap();
            let twice =
                reader.captured.replace(entry, &(entry.to_owned() + &entry.replace("invoice-bot", "another-bot")));
            let bent = config.data_dir.join("bent.txt");
            std::fs::write(&bent, twice).unwrap();
            let said =
                attempt(config, &["db", "restore", "--new-epoch", "--import", bent.to_str().unwrap(), "--dry-run"]);
            let said = String::from_utf8_lossy(&said.stderr);
            assert!(said.contains("an entry is missing or changed"), "{said}");
            let capture = capture.to_str().unwrap();
            let look = chancery(config, &["db", "restore", "--new-epoch", "--import", capture, "--dry-run"]);
            assert!(look.contains("would restore") && look.contains("1 entries"), "{look}");
            let done = chancery(config, &["db", "restore", "--new-epoch", "--import", capture, "--yes"]);
            assert!(done.starts_with("epoch 2 begins above revocation 1"), "{done}");
        })
        .await;
    issuer.client(None).get::<serde_json::Value>("/readyz").await.unwrap();
    // Certificates of before are refused, and the old authority is on the root's CRL.
    assert_eq!(
        refused(issuer.client(Some(&crm)).get::<serde_json::Value>("/v1/whoami").await.err().unwrap()),
        "certificate-revoked"
    );
    // Who is known rejoins; who was suspended since stays out; who is not known attests anew.
    let key = Key::draw();
    let evidence = issuer.signed("rejoin", "crm", &crm.issued.chain_pem, &crm.key, &key).await;
    let crm = issuer.attest_by(evidence, key).await.unwrap();
    let key = Key::draw();
    let evidence = issuer.signed("rejoin", "invoice-bot", &bot.issued.chain_pem, &bot.key, &key).await;
    let refused = issuer.attest_by(evidence, key).await.err().unwrap();
    assert_eq!(refused.code, "suspended", "{}", refused.detail);
    let key = Key::draw();
    let evidence = issuer.signed("rejoin", "late-bot", &late.issued.chain_pem, &late.key, &key).await;
    assert_eq!(issuer.attest_by(evidence, key).await.err().unwrap().code, "evidence-refused");

    let after = format!("?epoch={}&after={}", told.epoch, told.revocation.n);
    let mut reader = Reader::open(&issuer, &crm, &after).await;
    let head = reader.head().await.unwrap();
    assert!(told.is_behind(&head) && head.epoch == 2 && head.floor.n == told.revocation.n, "{head:?}");
    assert_eq!(reader.events[1], "snapshot");
    let verified = chancery(issuer.config(), &["log", "verify"]);
    assert!(verified.starts_with("the log is whole and lawful"), "{verified}");

    // The log that is over is still read: its last head, and as much of it as the backup had.
    let text = async |path: &str| String::from_utf8(issuer.raw(path).await.unwrap()).unwrap();
    let checkpoint = text("/log/1/checkpoint").await;
    assert!(told_note.ends_with(&checkpoint) && checkpoint.starts_with("dev.invalid/log/1\n"), "{checkpoint}");
    assert!(told_note.starts_with(&text("/log/1/keys").await));
    let restored = issuer.server.issuer().store().past_log_from(1, 0, 500).await.unwrap();
    let size = restored.len();
    let leaves: Vec<u8> =
        restored.iter().flat_map(|entry| entry.commitment.leaf_hash(chancery::store::SHA256).0).collect();
    assert_eq!(issuer.raw(&format!("/log/1/tile/0/000.p/{size}")).await.unwrap(), leaves);
    assert_eq!(issuer.raw(&format!("/log/1/tile/entries/000.p/{size}")).await.unwrap().len(), size * 34);
    for none in [&*format!("1/tile/0/000.p/{}", size + 1), "1/tile/1/000.p/1", "3/tile/0/000.p/1", "3/checkpoint"] {
        assert!(issuer.raw(&format!("/log/{none}")).await.is_none(), "{none}");
    }
    // The present epoch has two names.
    assert!(text("/log/2/checkpoint").await.starts_with("dev.invalid/log/2\n"));
    assert_eq!(issuer.raw("/log/2/tile/0/000.p/1").await, issuer.raw("/log/tile/0/000.p/1").await);
    assert_eq!(text("/log/2/keys").await, text("/log/keys").await);
}

#[tokio::test]
async fn what_a_verifier_saved_brings_back_what_a_backup_lacks() {
    let issuer = Issuer::start().await;
    let service = Service::start(&issuer, "ledger").await;
    let bot = issuer.joined("invoice-bot", &[]).await;
    let backup = issuer.config().data_dir.join("backup.db");
    chancery(issuer.config(), &["db", "backup", backup.to_str().unwrap()]);
    let gone = issuer.revoke(json!({"targets": ["owner:team-gone"], "effect": "suspend"})).await;
    let resume = format!("/v1/admin/revocations/{}/resume", gone.revocations[0].id);
    issuer.admin.post::<serde_json::Value>(&resume, &json!({})).await.unwrap();
    // Confirmed is what is saved.
    let stop = json!({"targets": ["agent:invoice-bot"], "effect": "suspend", "wait_s": 10});
    assert_eq!(issuer.revoke(stop).await.applied.unwrap().confirmed, 1);

    let issuer = issuer
        .restart(async |config| {
            put_back(config, &backup);
            std::fs::remove_file(config.data_dir.join("head")).unwrap();
            let restore = |folder: &Path, last| {
                let mut command = crate::program::chancery();
                command.args(["db", "restore", "--new-epoch", "--import"]).arg(folder).arg(last);
                let database = format!("sqlite:{}", config.data_dir.join("chancery.db").display());
                command.args(["--database", &database, "--head"]).arg(config.data_dir.join("head"));
                let output = command.output().unwrap();
                String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
            };
            // A line that is not what heads count is not believed.
            let bent = config.data_dir.join("bent");
            std::fs::create_dir(&bent).unwrap();
            std::fs::copy(service.folder.join("feed-head"), bent.join("feed-head")).unwrap();
            let entries = std::fs::read_to_string(service.folder.join("feed-entries")).unwrap();
            assert!(entries.contains("invoice-bot"), "{entries}");
            std::fs::write(bent.join("feed-entries"), entries.replace("invoice-bot", "another-bot")).unwrap();
            let said = restore(&bent, "--dry-run");
            assert!(said.contains("an entry is missing or changed"), "{said}");
            // Nor is a floor that the folder puts above the head's, as if all that is in force had stood below it.
            let line = entries.lines().last().unwrap().replace("invoice-bot", "another-bot");
            let standing = Chained::start(0).then(chancery::store::SHA256, line.as_bytes());
            let head = std::fs::read_to_string(bent.join("feed-head")).unwrap();
            let mut newest = head.lines().find_map(|line| line.strip_prefix("revocation ")).unwrap().split(' ');
            let (n, hash) = (newest.next().unwrap(), newest.next().unwrap());
            let first = json!({"epoch": "1", "floor": {"n": n, "hash": hash}, "standing": {"n": "1", "hash": standing.hash.to_string()}});
            std::fs::write(bent.join("feed-entries"), format!("{first}\n{line}\n")).unwrap();
            let said = restore(&bent, "--dry-run");
            assert!(said.contains("begin above the head's floor"), "{said}");
            let said = restore(&config.data_dir, "--dry-run");
            assert!(said.contains("it has no feed-head"), "{said}");
            let said = restore(&service.folder, "--dry-run");
            assert!(said.contains("would restore") && said.contains("1 entries"), "{said}");
            // With a configuration the last head goes into its data folder, wherever the kept one is read from.
            let (file, data) = (bent.join("chancery.toml"), config.data_dir.display());
            let text = format!(
                "trust_domain = \"dev.invalid\"\ndata_dir = \"{data}\"\npublic_url = \"https://localhost\"\n\
                 status_url = \"http://status.internal\"\n[listen]\napi = \"127.0.0.1:0\"\nstatus = \"127.0.0.1:0\"\n\
                 [keys]\nseal = \"file:/nowhere/seal.key\"\n"
            );
            std::fs::write(&file, text).unwrap();
            let mut command = crate::program::chancery();
            command.args(["db", "restore", "--new-epoch", "--yes", "--head", "none", "--import"]).arg(&service.folder);
            let output = command.arg("--config").arg(file).current_dir(&bent).output().unwrap();
            let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert!(said.contains("epoch 2 begins above revocation 3"), "{said}");
            assert!(config.data_dir.join("head-1").exists() && !bent.join("head-1").exists());
        })
        .await;
    let key = Key::draw();
    let evidence = issuer.signed("rejoin", "invoice-bot", &bot.issued.chain_pem, &bot.key, &key).await;
    assert_eq!(issuer.attest_by(evidence, key).await.err().unwrap().code, "suspended");
}

#[tokio::test]
async fn a_head_that_a_verifier_shows_finds_out_a_restored_backup() {
    let issuer = Issuer::start().await;
    let backup = issuer.config().data_dir.join("backup.db");
    chancery(issuer.config(), &["db", "backup", backup.to_str().unwrap()]);
    issuer.agent("late-bot", &[]).await;
    let mut heads = issuer.server.issuer().feed().heads();
    let size = issuer.server.issuer().store().state().position().log_size;
    let told =
        heads.wait_for(|beat| beat.as_ref().is_some_and(|beat| beat.head.tree.size >= size)).await.unwrap().clone();
    let note = told.unwrap().note.clone();
    issuer.server.issuer().shown(&note).await.unwrap();
    // The head beside the database is lost as well.
    let issuer = issuer
        .restart(async |config| {
            put_back(config, &backup);
            std::fs::remove_file(config.data_dir.join("head")).unwrap();
        })
        .await;
    let mut forged = note.clone();
    forged = forged.replacen("revocation 0", "revocation 9", 1);
    assert_eq!(issuer.server.issuer().shown(&forged).await.err().unwrap().code().as_str(), "invalid");
    issuer.client(None).get::<serde_json::Value>("/readyz").await.unwrap();
    assert_eq!(issuer.server.issuer().shown(&note).await.err().unwrap().code().as_str(), "rolled-back");
    let refused = issuer.client(None).get::<serde_json::Value>("/readyz").await.err().unwrap();
    assert_eq!(problem(refused).code, "rolled-back");
}

#[tokio::test]
async fn the_log_is_read_by_its_tiles() {
    let issuer = Issuer::start().await;
    issuer.agent("invoice-bot", &[]).await;
    let size = issuer.server.issuer().store().state().position().log_size;
    let mut heads = issuer.server.issuer().feed().heads();
    heads.wait_for(|beat| beat.as_ref().is_some_and(|beat| beat.head.tree.size >= size)).await.unwrap();
    let checkpoint = String::from_utf8(issuer.raw("/log/checkpoint").await.unwrap()).unwrap();
    let lines: Vec<&str> = checkpoint.lines().collect();
    assert_eq!(lines[0], "dev.invalid/log/1");
    let size: u64 = lines[1].parse().unwrap();
    let tile = issuer.raw(&format!("/log/tile/0/000.p/{size}")).await.unwrap();
    let hashes: Vec<_> = tile.chunks(32).map(|hash| chancery_tlog::Hash(hash.try_into().unwrap())).collect();
    let root = chancery_tlog::root_from_tiles(chancery::store::SHA256, size, |_| Ok::<_, ()>(hashes.clone())).unwrap();
    assert_eq!(root.to_string(), lines[2]);
    let entries = issuer.raw(&format!("/log/tile/entries/000.p/{size}")).await.unwrap();
    assert_eq!(entries.len() as u64, size * 34);
    for none in ["0/000", "0/x001/000", "9/000", "0/000.p/0", "../head"] {
        assert!(issuer.raw(&format!("/log/tile/{none}")).await.is_none(), "{none}");
    }
}

/// Puts a backup in the place of the database.
fn put_back(config: &Config, backup: &Path) {
    let database = config.data_dir.join("chancery.db");
    // A file of its own: the old one may still be open.
    for file in ["chancery.db", "chancery.db-wal", "chancery.db-shm"] {
        let _ = std::fs::remove_file(config.data_dir.join(file));
    }
    std::fs::copy(backup, database).unwrap();
}

/// Runs SQL behind the issuer's back.
async fn tamper(config: &Config, sql: &'static str) {
    let mut connection = sqlx::SqliteConnection::connect(&config.database_url()).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// What the command line says about the issuer's database.
fn chancery(config: &Config, words: &[&str]) -> String {
    let output = attempt(config, words);
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// How it ends, in the data folder.
fn attempt(config: &Config, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chancery"));
    command.args(words).args(["--database", &config.database_url()]).current_dir(&config.data_dir);
    if words.contains(&"restore") {
        command.args(["--head", "head"]);
    }
    command.output().unwrap()
}
