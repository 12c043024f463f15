//! The keys that sign heads follow each other: announced, then signing, and no reader refuses anything on the way.

use std::sync::Arc;
use std::time::Instant;

use chancery::clock::Clock as _;
use chancery_tlog::Head;
use chancery_verifier::Moment;
use chancery_verifier::feed::{Feed, FeedRefused, FeedTrust, Saved};
use rustls::pki_types::CertificateDer;

use crate::feed::Reader;
use crate::fixture::{Held, Issuer};

/// A verifier's feed that goes on over connections and jumps of the clock, and must never refuse.
pub(crate) struct Follower<'i> {
    issuer: &'i Issuer,
    name: String,
    feed: Feed,
    held: Held,
    last: Option<Head>,
}

impl<'i> Follower<'i> {
    pub(crate) async fn new(issuer: &'i Issuer, name: &str) -> Self {
        let held = issuer.service(name).await;
        let feed = Feed::new(trust(issuer), None, moment(issuer)).0;
        Self { issuer, name: name.to_owned(), feed, held, last: None }
    }

    /// Connects anew, with a certificate of the day, and goes on: which key signed the head that came.
    pub(crate) async fn signer(&mut self) -> Vec<u8> {
        self.next().await;
        let note = self.feed.head().unwrap();
        // The line of the signature, which begins with the key's hash.
        let line = note.lines().last().unwrap().rsplit_once(' ').unwrap().1;
        base64::Engine::decode(&base64::engine::general_purpose::STANDARD, line).unwrap()[..4].to_vec()
    }

    /// Waits until another key signs: a head of a moment ago may still be told.
    pub(crate) async fn other_than(&mut self, before: &[u8]) -> Vec<u8> {
        loop {
            let signer = self.signer().await;
            if signer != before {
                return signer;
            }
        }
    }

    /// Waits until so many keys are shown.
    pub(crate) async fn announced(&mut self, keys: usize) {
        while self.next().await.matches("event: head-key").count() < keys {}
    }

    /// What a connection says up to its first head, taken in.
    async fn next(&mut self) -> String {
        self.held = self.issuer.replica(&self.name).await;
        let query = self.feed.after().map(|(epoch, n)| format!("?epoch={epoch}&after={n}"));
        let mut reader = Reader::open(self.issuer, &self.held, query.as_deref().unwrap_or_default()).await;
        if let Some(last) = &self.last {
            reader = reader.from(last.revocation);
        }
        self.last = reader.head().await;
        self.feed.connected();
        self.feed.push(reader.captured.as_bytes(), moment(self.issuer)).unwrap();
        reader.captured
    }
}

fn trust(issuer: &Issuer) -> FeedTrust {
    let root = CertificateDer::from(issuer.server.issuer().authorities().root().der().to_vec());
    FeedTrust {
        trust_domain: issuer.server.issuer().trust_domain().clone(),
        roots: Arc::new([root]),
        algorithms: rustls::crypto::ring::default_provider().signature_verification_algorithms,
        sha256: chancery::store::SHA256,
    }
}

fn moment(issuer: &Issuer) -> Moment {
    Moment { wall: issuer.clock.now(), monotonic: Instant::now() }
}

#[tokio::test]
async fn a_successor_is_announced_and_then_signs_and_no_verifier_refuses() {
    let issuer = Issuer::start().await;
    let mut follower = Follower::new(&issuer, "crm").await;
    let first = follower.signer().await;
    follower.announced(1).await;

    // Half of its time over, there is a successor, which is told of and does not sign.
    issuer.forward(46 * 86_400).await;
    follower.announced(2).await;
    assert_eq!(follower.signer().await, first);
    issuer.forward(25 * 3600).await;
    let second = follower.other_than(&first).await;

    // Whoever was away all the time reads on from what was saved; the first key is gone by the time it is over.
    issuer.forward(30 * 86_400).await;
    let saved = follower.feed.unsaved().unwrap();
    let chancery_verifier::feed::UnsavedEntries::Whole(entries) = saved.entries else { panic!("{saved:?}") };
    let saved = Saved { head: saved.head, entries };
    let (feed, refused) = Feed::new(trust(&issuer), Some(&saved), moment(&issuer));
    assert_eq!(refused, None);
    follower.feed = feed;
    issuer.forward(15 * 86_400).await;
    assert_eq!(follower.signer().await, second);

    // A head by a key of which no certificate came does not count.
    let mut reader = Reader::open(&issuer, &follower.held, "").await;
    reader.head().await.unwrap();
    let events = reader.captured.split_inclusive("\n\n");
    let unannounced: String = events.filter(|event| !event.starts_with("event: head-key")).collect();
    assert!(reader.captured.len() > unannounced.len());
    follower.feed.connected();
    let refused = follower.feed.push(unannounced.as_bytes(), moment(&issuer)).unwrap_err();
    assert!(matches!(refused, FeedRefused::Signer { .. }), "{refused}");
    // Nor by one whose certificate is of another root.
    let (stranger, _) =
        Feed::new(FeedTrust { roots: Arc::new([other_root().await]), ..trust(&issuer) }, None, moment(&issuer));
    let mut stranger = stranger;
    let refused = stranger.push(reader.captured.as_bytes(), moment(&issuer)).unwrap_err();
    assert!(matches!(&refused, FeedRefused::Signer { key: Some(_), .. }), "{refused}");
}

async fn other_root() -> CertificateDer<'static> {
    let other = Issuer::start().await;
    CertificateDer::from(other.server.issuer().authorities().root().der().to_vec())
}
