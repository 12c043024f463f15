//! What must hold of every input that the log's parsers meet.

use chancery_tlog::{Bundle, Frontier, Note, Record, Tile, TlogProof};

/// What is read as a note is shown as it came, and a checkpoint in it is opened by nobody without a key.
pub(crate) fn checkpoint(text: &str) {
    let Ok(note) = text.parse::<Note>() else { return };
    assert_eq!(note.to_string(), text);
    assert!(note.verify(&[], |_, _, _| true).is_err());
}

/// What is read as a proof is shown as it came.
pub(crate) fn tlog_proof(text: &str) {
    if let Ok(proof) = text.parse::<TlogProof>() {
        assert_eq!(proof.to_string().parse::<TlogProof>().as_ref(), Ok(&proof));
    }
}

/// What is read as a record is what would be written.
pub(crate) fn record(bytes: &[u8]) {
    if let Ok(record) = Record::parse(bytes) {
        assert_eq!(record.to_bytes(), bytes);
    }
}

/// Paths of tiles and bundles have one spelling each, and what is served under them comes back.
pub(crate) fn tile(path: &str, bytes: &[u8]) {
    if let Ok(tile) = path.parse::<Tile>() {
        assert_eq!(tile.to_string(), path);
        if let Ok(hashes) = tile.parse_bytes(bytes) {
            assert_eq!(tile.to_bytes(&hashes).as_deref(), Ok(bytes));
        }
    }
    if let Ok(bundle) = path.parse::<Bundle>() {
        assert_eq!(bundle.to_string(), path);
        if let Ok(entries) = bundle.parse_bytes(bytes) {
            assert_eq!(bundle.to_bytes(&entries).as_deref(), Ok(bytes));
        }
    }
}

/// The stored edge of a tree is what it was.
pub(crate) fn frontier(bytes: &[u8]) {
    if let Ok(frontier) = Frontier::from_bytes(bytes) {
        assert_eq!(frontier.to_bytes(), bytes);
    }
}
