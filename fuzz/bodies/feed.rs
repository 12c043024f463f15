//! What must hold of every input that a follower of the revocation feed meets.

use chancery_verifier::Moment;
use chancery_verifier::feed::{Feed, FeedTrust, Saved};

/// It does not matter how bytes come; what comes out is what a head reached, and whoever cannot show a certified key
/// teaches nothing.
pub(crate) fn feed(trust: &FeedTrust, bytes: &[u8], cut: usize, at: Moment) -> Option<(u64, u64)> {
    let heard = |chunks: &[&[u8]]| {
        let (mut feed, _) = Feed::new(trust.clone(), None, at);
        let refused = chunks.iter().find_map(|chunk| feed.push(chunk, at).err());
        (feed.known().map(|known| (known.epoch(), known.n())), refused.is_some())
    };
    let whole = heard(&[bytes]);
    let (first, rest) = bytes.split_at(cut.min(bytes.len()));
    assert_eq!(heard(&[first, rest]), whole);
    if trust.roots.is_empty() {
        assert_eq!(whole.0, None);
    }
    whole.0
}

/// What is read back from disk is what a signed head counts, or it is not used.
pub(crate) fn saved(trust: &FeedTrust, head: &str, entries: &str, at: Moment) -> Option<(u64, u64)> {
    let saved = Saved { head: head.to_owned(), entries: entries.to_owned() };
    let (feed, refused) = Feed::new(trust.clone(), Some(&saved), at);
    assert_eq!(feed.known().is_some(), refused.is_none());
    feed.known().map(|known| (known.epoch(), known.n()))
}
