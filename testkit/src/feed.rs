//! The issuer's revocation feed, made by hand: entries, heads, and whatever else a test wants to send.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chancery_api::{Bundle, FeedEntry, FeedResume, FeedRevocation, FeedSnapshot};
use chancery_identity::der::{self, Writer};
use chancery_identity::{Effect, Reason, RevocationId, Target, Timestamp, oid};
use chancery_tlog::{Chained, Hash, Head, Sha256, Tree};
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use crate::TestCa;
use crate::draft::Draft;

/// RFC 8410 §4: a SubjectPublicKeyInfo of an Ed25519 key, up to the key itself.
const ED25519_SPKI: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// commonName, RFC 5280 appendix A.1.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// What an issuer's feed says, and the key that signs its heads. Clones go on apart, as a database and its copy do.
#[derive(Clone, Debug)]
pub struct TestFeed {
    ca: TestCa,
    seed: u8,
    /// Of the key: made once, as each signature is another.
    certificate: Vec<u8>,
    epoch: u64,
    /// From the first number after the floor on.
    lines: Vec<String>,
    floor: Chained,
    standing: Vec<String>,
    at: Timestamp,
}

impl TestFeed {
    /// An empty feed of the CA, whose heads say that they were made at its time.
    pub fn new(ca: &TestCa) -> Self {
        let (lines, standing, certificate) = (Vec::new(), Vec::new(), Vec::new());
        let floor = Chained::start(0);
        Self { ca: ca.clone(), seed: 1, certificate, epoch: 1, lines, floor, standing, at: ca.now() }.with_key(1)
    }

    /// The same, with another key for its heads.
    #[must_use]
    pub fn with_key(mut self, seed: u8) -> Self {
        self.seed = seed;
        self.certificate = self.head_certificate(oid::HEAD_KEY_USAGE);
        self
    }

    /// Heads from now on say that they were made then.
    pub fn set_time(&mut self, at: Timestamp) {
        self.at = at;
    }

    /// The SHA-256 that heads are made with.
    pub const fn sha256() -> Sha256 {
        Sha256(|parts| {
            let mut context = ring::digest::Context::new(&ring::digest::SHA256);
            parts.iter().for_each(|part| context.update(part));
            let mut out = [0; 32];
            out.iter_mut().zip(context.finish().as_ref()).for_each(|(out, byte)| *out = *byte);
            out
        })
    }

    /// Adds an entry, and says its number. It hits what was planned before the 1,000th position of the log.
    ///
    /// # Panics
    /// The text is no target.
    pub fn add(&mut self, target: &str, effect: Effect) -> u64 {
        let target: Target = target.parse().expect("a target");
        let n = self.n() + 1;
        let mut id = [0; 16];
        id.iter_mut().rev().zip(n.to_le_bytes()).for_each(|(id, byte)| *id = byte);
        let (id, epoch, log_index) = (RevocationId::from_bytes(id), self.epoch, 1000 + n);
        let reason = Reason::PrivilegeWithdrawn;
        let entry = FeedRevocation {
            n,
            id,
            epoch,
            log_index,
            fence: log_index,
            created_at: self.at,
            target,
            effect,
            reason,
            cascade: true,
        };
        self.push(&FeedEntry::Revocation(entry));
        n
    }

    /// Ends the entry with this number, and says the number of that.
    pub fn resume(&mut self, resumes: u64) -> u64 {
        let n = self.n() + 1;
        let resume = FeedResume { n, epoch: self.epoch, resumes, log_index: 1000 + n, created_at: self.at };
        self.push(&FeedEntry::Resume(resume));
        n
    }

    fn push(&mut self, entry: &FeedEntry) {
        self.lines.push(serde_json::to_string(entry).expect("an entry is JSON"));
    }

    /// Adds any line in place of an entry.
    pub fn push_line(&mut self, line: &str) {
        self.lines.push(line.to_owned());
    }

    /// Takes an entry out, as a false issuer would: those after it keep their numbers in their lines.
    pub fn leave_out(&mut self, n: u64) {
        self.lines.remove(usize::try_from(n - self.floor.n - 1).expect("a number above the floor"));
    }

    /// Forgets up to this number, but for what is forbidden.
    pub fn forget(&mut self, floor: u64) {
        while self.floor.n < floor {
            let line = self.lines.remove(0);
            self.floor = self.floor.then(Self::sha256(), line.as_bytes());
            if line.contains("\"effect\":\"forbid\"") {
                self.standing.push(line);
            }
        }
    }

    /// Takes back that something below the floor stands.
    pub fn drop_standing(&mut self) {
        self.standing.clear();
    }

    /// A new epoch: what was is over, and numbers go on.
    pub fn restart(&mut self) {
        self.epoch += 1;
        self.floor = Chained::start(self.n());
        self.lines.clear();
    }

    /// The newest number.
    pub fn n(&self) -> u64 {
        self.floor.n + u64::try_from(self.lines.len()).expect("as many as numbers")
    }

    /// The epoch.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// All of it, as a new connection without `after` sees it.
    pub fn whole(&self) -> String {
        let standing = u64::try_from(self.standing.len()).expect("as many as numbers");
        let snapshot = FeedSnapshot { epoch: self.epoch, floor: self.floor.n, standing };
        let snapshot = serde_json::to_string(&snapshot).expect("a snapshot is JSON");
        let entries: String = self.standing.iter().chain(&self.lines).map(|line| event("entry", line)).collect();
        let snapshot = event("snapshot", &snapshot);
        format!("{}{snapshot}{entries}{}{}", self.head_key(), self.bundle(), self.head())
    }

    /// What a new connection after this number sees.
    pub fn resumed(&self, after: u64) -> String {
        format!("{}{}{}", self.head_key(), self.bundle(), self.since(after))
    }

    /// What an open connection sees next.
    pub fn since(&self, after: u64) -> String {
        let known = usize::try_from(after - self.floor.n).expect("a number above the floor");
        let entries: String = self.lines.iter().skip(known).map(|line| event("entry", line)).collect();
        format!("{entries}{}", self.head())
    }

    /// The certificate of the head key.
    pub fn head_key(&self) -> String {
        event("head-key", &pem(&self.certificate))
    }

    /// A certificate of the same key by the same root, for another purpose.
    pub fn other_key(&self) -> String {
        event("head-key", &pem(&self.head_certificate(oid::SERVER_AUTH)))
    }

    /// The bundle.
    pub fn bundle(&self) -> String {
        event("bundle", &self.bundle_document())
    }

    /// A head that tells of all that there is.
    pub fn head(&self) -> String {
        event("head", &self.note())
    }

    /// The head itself.
    ///
    /// # Panics
    /// Never: the kit's numbers make a head.
    pub fn note(&self) -> String {
        let key = self.key();
        let public: [u8; 32] = key.public_key().as_ref().try_into().expect("32 bytes");
        let sha256 = Self::sha256();
        let chain = |from: Chained, lines: &[String]| {
            lines.iter().fold(from, |chained, line| chained.then(sha256, line.as_bytes()))
        };
        let size = 1000 + self.n();
        let root: Hash = sha256.digest(&[&size.to_be_bytes()]);
        let head = Head {
            epoch: self.epoch,
            tree: Tree { size, root },
            revocation: chain(self.floor, &self.lines),
            floor: self.floor,
            standing: chain(Chained::start(0), &self.standing),
            bundle: Chained { n: 1, hash: sha256.digest(&[self.bundle_document().as_bytes()]) },
            at: self.at,
        };
        let sign = |message: &[u8]| key.sign(message).as_ref().try_into().expect("64 bytes");
        head.sign(self.ca.trust_domain(), sha256, public, sign).expect("a head").to_string()
    }

    fn bundle_document(&self) -> String {
        let bundle = Bundle::new(1, 300, [self.ca.root().as_ref()]).expect("a root");
        serde_json::to_string(&bundle).expect("a bundle is JSON")
    }

    fn key(&self) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[self.seed; 32]).expect("any seed is one")
    }

    fn head_certificate(&self, usage: &[u8]) -> Vec<u8> {
        // An authority's, made another.
        let mut draft = Draft::read(self.ca.authority().certificate().der());
        let mut subject = Writer::new();
        subject.nested(der::SEQUENCE, |w| {
            w.nested(der::SET, |w| {
                w.nested(der::SEQUENCE, |w| {
                    w.oid(COMMON_NAME).utf8("head key");
                });
            });
        });
        draft.subject = subject.finish();
        draft.spki = [ED25519_SPKI, self.key().public_key().as_ref()].concat();
        draft.extensions.retain(|extension| extension.id == oid::AUTHORITY_KEY_ID);
        draft.push(oid::KEY_USAGE, true, |w| {
            // digitalSignature, RFC 5280 §4.2.1.3.
            w.value(der::BIT_STRING, &[7, 0x80]);
        });
        draft.push(oid::BASIC_CONSTRAINTS, true, |w| {
            w.nested(der::SEQUENCE, |_| {});
        });
        draft.push(oid::EXTENDED_KEY_USAGE, false, |w| {
            w.nested(der::SEQUENCE, |w| {
                w.oid(usage);
            });
        });
        draft.sign(self.ca.root_signer())
    }
}

/// One server-sent event.
fn event(kind: &str, data: &str) -> String {
    let data: String = data.lines().map(|line| format!("data: {line}\n")).collect();
    format!("event: {kind}\n{data}\n")
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----", BASE64_STANDARD.encode(der))
}
