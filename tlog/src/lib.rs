//! The transparency log: an append-only Merkle tree that standard tools verify.
//!
//! One module a specification: RFC 6962 hashes, trees and proofs ([`Frontier`], [`ProofPlan`], [`verify_inclusion`],
//! [`verify_consistency`]); C2SP tiles ([`Tile`], [`Bundle`]), signed notes ([`Note`]), checkpoints ([`Checkpoint`]; with the issuer's own lines: [`Head`]) and
//! proof files ([`TlogProof`]). And what the leaves of this log commit to: [`Record`]s of decisions, salted
//! ([`Entry`]), and the check of a whole log ([`verify_log`]).
//!
//! Nothing here does I/O, reads a clock, draws randomness or names a cryptographic library: SHA-256, signing and
//! verifying come in as arguments.
#![cfg_attr(
    test,
    allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test that meets the unexpected shall panic")
)]

mod canonical;
mod checkpoint;
mod decision;
mod entry;
mod frontier;
mod hash;
mod head;
#[cfg(test)]
mod naive;
mod note;
mod proof;
mod record;
mod tile;
mod tlog_proof;
mod verify;
mod wire;

pub use chancery_identity::{Actor, ActorError};
pub use checkpoint::{Checkpoint, CheckpointError};
pub use decision::{
    Action, ActionError, CrlPublished, Decision, Facts, Issued, LastHead, LogRestarted, Renewed, Resumed, Revoked,
};
pub use entry::{Commitment, Entry};
pub use frontier::{Frontier, FrontierError};
pub use hash::{Hash, HashError, Sha256, empty_root, leaf_hash, node_hash};
pub use head::{Chained, Head, HeadError};
pub use note::{Note, NoteError, VerifierKey, VerifierKeyError};
pub use proof::{ProofError, ProofPlan, ProveError, Tree, root_from_tiles, verify_consistency, verify_inclusion};
pub use record::{Record, RecordError};
pub use tile::{Bundle, Tile, TileError, TileNode};
pub use tlog_proof::{TlogProof, TlogProofError};
pub use verify::{Audit, Finding, Logged, Report, verify_log};
