//! The feed: each connection first catches up, then gets what all get, the same bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chancery_api::{FeedPace, FeedSnapshot};
use chancery_tlog::Head;
use futures_util::Stream;
use tokio::sync::{broadcast, watch};

use crate::refusal::{Code, Refusal};
use crate::store::{DbError, FeedLine, Store};

/// A head is sent at least this often.
pub const HEARTBEAT: Duration = Duration::from_secs(1);
/// A head this old is sent to nobody who asks now: it would be taken for news.
const YOUNG: Duration = Duration::from_secs(2);
/// Frames that a connection may be behind before it is shed.
const FRAMES: usize = 64;
/// From so many listeners on acknowledgements are spread.
const PACED_FROM: u32 = 50;
/// Entries read at once for a connection that catches up.
const PAGE: u32 = 512;

/// What the issuer says of the newest state, once a second and at each change.
pub struct Feed {
    store: Store,
    newest: watch::Sender<Option<Arc<Beat>>>,
    frames: broadcast::Sender<Frame>,
    closed: AtomicBool,
    shed: AtomicU64,
}

/// One signed head, and what a connection that begins at it must be told besides.
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "the herald makes it")]
pub struct Beat {
    /// Rises by one with each.
    pub sequence: u64,
    /// What was signed.
    pub head: Head,
    /// The signed note.
    pub note: String,
    /// When the state that it tells of was read.
    pub read_at: Instant,
    pub(super) keys: Bytes,
    pub(super) bundle: Bytes,
}

/// From where a consumer can go on: what it has verified last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a number in an epoch")]
pub struct After {
    /// The log's epoch.
    pub epoch: u64,
    /// The number.
    pub n: u64,
}

/// What all connections get: serialised once.
#[derive(Clone)]
enum Frame {
    Beat { sequence: u64, bytes: Bytes },
    End,
}

impl Feed {
    pub(super) fn new(store: Store) -> Self {
        let frames = broadcast::Sender::new(FRAMES);
        Self { store, newest: watch::Sender::new(None), frames, closed: false.into(), shed: 0.into() }
    }

    /// The newest signed head; `None` while none was signed.
    pub fn newest(&self) -> Option<Arc<Beat>> {
        self.newest.borrow().clone()
    }

    /// Tells each signed head.
    pub fn heads(&self) -> watch::Receiver<Option<Arc<Beat>>> {
        self.newest.subscribe()
    }

    /// How many connections listen.
    pub fn listeners(&self) -> usize {
        self.frames.receiver_count()
    }

    /// How many connections were ended because they were too slow.
    pub fn shed(&self) -> u64 {
        self.shed.load(Ordering::Relaxed)
    }

    /// Ends all connections; there will be no others.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        let _nobody = self.frames.send(Frame::End);
    }

    /// The events for one connection: what it lacks, then each new group as it is signed. The stream ends when the
    /// consumer is too slow, or the feed is closed.
    ///
    /// # Errors
    /// No head was signed lately, so that nothing can be told.
    pub fn connect(
        self: &Arc<Self>,
        after: Option<After>,
    ) -> Result<impl Stream<Item = Result<Bytes, DbError>> + Send + use<>, Refusal> {
        // Listening begins first, so that nothing falls between what is caught up with and what comes.
        let frames = self.frames.subscribe();
        let silent = || Refusal::new(Code::NotReady, "the issuer signs no head now").after(1);
        if self.closed.load(Ordering::SeqCst) {
            return Err(silent());
        }
        let begin = self.newest().ok_or_else(silent)?;
        let head = &begin.head;
        let goes_on =
            |after: &After| after.epoch == head.epoch && (head.floor.n..=head.revocation.n).contains(&after.n);
        let stage = match after.filter(goes_on) {
            Some(after) => Stage::Greet { then: after.n, snapshot: false },
            None => Stage::Greet { then: head.floor.n, snapshot: true },
        };
        let connection = Connection { feed: self.clone(), frames, begin, stage };
        Ok(futures_util::stream::unfold(connection, Connection::next))
    }

    /// Tells all of a new head and of what came before it.
    pub(super) fn publish(&self, beat: Beat, news: Vec<u8>) {
        let (sequence, bytes) = (beat.sequence, Bytes::from(news));
        // Who begins to listen between the two sees the beat and skips the frame.
        self.newest.send_replace(Some(Arc::new(beat)));
        let _nobody = self.frames.send(Frame::Beat { sequence, bytes });
    }
}

/// One connection's way through the feed.
struct Connection {
    feed: Arc<Feed>,
    frames: broadcast::Receiver<Frame>,
    begin: Arc<Beat>,
    stage: Stage,
}

enum Stage {
    Greet { then: u64, snapshot: bool },
    Entries { after: u64 },
    Live,
}

impl Connection {
    async fn next(mut self) -> Option<(Result<Bytes, DbError>, Self)> {
        match self.step().await {
            Ok(Some(bytes)) => Some((Ok(bytes), self)),
            Ok(None) => None,
            Err(error) => Some((Err(error), self)),
        }
    }

    /// The next bytes to send; `None` at the end.
    async fn step(&mut self) -> Result<Option<Bytes>, DbError> {
        let head = &self.begin.head;
        loop {
            match self.stage {
                Stage::Greet { then, snapshot } => {
                    let mut bytes = self.begin.keys.to_vec();
                    if snapshot {
                        let standing = self.feed.store.feed_standing(head.floor.n).await?;
                        let (epoch, floor) = (head.epoch, head.floor.n);
                        snapshot_event(&mut bytes, &FeedSnapshot { epoch, floor, standing: standing.len() as u64 });
                        entry_events(&mut bytes, epoch, &standing);
                    }
                    self.stage = Stage::Entries { after: then };
                    return Ok(Some(bytes.into()));
                }
                Stage::Entries { after } => {
                    if after < head.revocation.n {
                        let lines = self.feed.store.feed_lines(after, head.revocation.n, PAGE).await?;
                        let last = lines.last().ok_or(DbError::Gap { after })?.n;
                        let mut bytes = Vec::new();
                        entry_events(&mut bytes, head.epoch, &lines);
                        self.stage = Stage::Entries { after: last };
                        return Ok(Some(bytes.into()));
                    }
                    self.stage = Stage::Live;
                    let mut bytes = self.begin.bundle.to_vec();
                    if self.begin.read_at.elapsed() <= YOUNG {
                        head_event(&mut bytes, head, &self.begin.note);
                    }
                    return Ok(Some(bytes.into()));
                }
                Stage::Live => match self.frames.recv().await {
                    Ok(Frame::Beat { sequence, .. }) if sequence <= self.begin.sequence => {}
                    Ok(Frame::Beat { bytes, .. }) => return Ok(Some(bytes)),
                    Ok(Frame::End) | Err(broadcast::error::RecvError::Closed) => return Ok(None),
                    Err(broadcast::error::RecvError::Lagged(behind)) => {
                        tracing::warn!(behind, "a consumer of the feed is too slow, and is shed");
                        self.feed.shed.fetch_add(1, Ordering::Relaxed);
                        return Ok(None);
                    }
                },
            }
        }
    }
}

/// A certificate of a key that signs heads.
pub(super) fn key_event(out: &mut Vec<u8>, pem: &str) {
    event(out, "head-key", None, pem);
}

/// When so many listeners are to acknowledge the entries that follow. The issuer takes some 0.2 ms of processor time for each,
/// to tell it and to read its answer: all are told before the first answers, and the answers leave a processor's third to
/// others. Few may answer at once.
pub(super) fn pace_event(out: &mut Vec<u8>, listeners: usize) {
    let listeners = u32::try_from(listeners).unwrap_or(u32::MAX);
    let pace = FeedPace { after_ms: listeners / 10, within_ms: listeners.saturating_mul(3) / 10 };
    if listeners >= PACED_FROM {
        event(out, "pace", None, &crate::store::document(&pace));
    }
}

/// The bundle, as one line of JSON.
pub(super) fn bundle_event(out: &mut Vec<u8>, bundle: &str) {
    event(out, "bundle", None, bundle);
}

/// A signed head.
pub(super) fn head_event(out: &mut Vec<u8>, head: &Head, note: &str) {
    event(out, "head", Some((head.epoch, head.revocation.n)), note);
}

/// Entries, in order.
pub(super) fn entry_events(out: &mut Vec<u8>, epoch: u64, lines: &[FeedLine]) {
    for FeedLine { n, line } in lines {
        event(out, "entry", Some((epoch, *n)), line);
    }
}

fn snapshot_event(out: &mut Vec<u8>, snapshot: &FeedSnapshot) {
    event(out, "snapshot", None, &crate::store::document(snapshot));
}

/// One server-sent event: a `data` line for each line of the text.
fn event(out: &mut Vec<u8>, name: &str, id: Option<(u64, u64)>, data: &str) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    if let Some((epoch, n)) = id {
        out.extend_from_slice(format!("\nid: {epoch}.{n}").as_bytes());
    }
    for line in data.lines() {
        out.extend_from_slice(b"\ndata: ");
        out.extend_from_slice(line.as_bytes());
    }
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn an_event_has_a_data_line_for_each_line() {
        let mut out = Vec::new();
        event(&mut out, "head", Some((1, 7)), "a\nb\n\nc\n");
        assert_eq!(String::from_utf8(out).unwrap(), "event: head\nid: 1.7\ndata: a\ndata: b\ndata: \ndata: c\n\n");
    }
}
