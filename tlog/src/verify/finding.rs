//! What the check of a log can find wrong.

use chancery_identity::{KeyId, Serial, Timestamp};

use crate::record::RecordError;

/// One thing that is wrong with a log, or between it and something outside.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Finding {
    /// The entries make another tree than was signed.
    #[error("the first {size} entries do not make the tree of the checkpoint of that size: an entry was changed")]
    Root {
        /// The checkpoint's size.
        size: u64,
    },
    /// There are more or fewer entries than were signed.
    #[error("wanted as many entries as the largest checkpoint says ({signed:?}), got {entries}")]
    Size {
        /// The entries there are.
        entries: u64,
        /// The size of the largest checkpoint; `None` without one.
        signed: Option<u64>,
    },
    /// An entry is no record.
    #[error("entry {index}: {error}")]
    Record {
        /// The entry.
        index: u64,
        /// Why not.
        error: RecordError,
    },
    /// A record of another epoch than the log's.
    #[error("entry {index}: wanted epoch {wanted}, got {got}")]
    Epoch {
        /// The entry.
        index: u64,
        /// The epoch of the log's first record.
        wanted: u64,
        /// The record's.
        got: u64,
    },
    /// A record from before the one in front of it: what `issued-before` means would depend on where one looks.
    #[error("entry {index}: wanted a time not before {before}, got {at}")]
    Time {
        /// The entry.
        index: u64,
        /// Its time.
        at: Timestamp,
        /// The latest time before it.
        before: Timestamp,
    },
    /// A new epoch's log does not begin with its restart, or a restart stands elsewhere.
    #[error(
        "entry {index}: wanted a log-restart as the first entry of every epoch above 1 (this is {epoch}), nowhere else"
    )]
    Restart {
        /// The entry.
        index: u64,
        /// The log's epoch.
        epoch: u64,
    },
    /// A certificate planned in another epoch, or after its entry, or with revocations that did not exist yet.
    #[error("entry {index}: certificate {serial} was not planned before it was committed")]
    Plan {
        /// The entry.
        index: u64,
        /// The certificate.
        serial: Serial,
    },
    /// A serial given twice.
    #[error("serial {serial} was issued twice: entries {first} and {second}")]
    SerialTwice {
        /// The serial.
        serial: Serial,
        /// The first entry.
        first: u64,
        /// The second entry.
        second: u64,
    },
    /// A certificate issued to a target that was stopped.
    #[error("entry {index}: certificate {serial} was issued although revocation {n} stops it")]
    Stopped {
        /// The entry.
        index: u64,
        /// The certificate.
        serial: Serial,
        /// The revocation.
        n: u64,
    },
    /// A renewal of a certificate that has no entry before.
    #[error("entry {index}: renews {previous}, which no earlier entry issued")]
    NoPrevious {
        /// The entry.
        index: u64,
        /// The certificate said to be renewed.
        previous: Serial,
    },
    /// A certificate renewed a second time: a fork of its lineage.
    #[error("entry {index}: renews {previous} a second time")]
    RenewedTwice {
        /// The entry.
        index: u64,
        /// The certificate.
        previous: Serial,
    },
    /// A renewal of a revoked certificate.
    #[error("entry {index}: renews {previous}, which revocation {n} had ended")]
    RenewedAfter {
        /// The entry.
        index: u64,
        /// The certificate.
        previous: Serial,
        /// The revocation.
        n: u64,
    },
    /// The revocation sequence has a gap, or goes back.
    #[error("entry {index}: wanted revocation number {wanted}, got {got}")]
    Number {
        /// The entry.
        index: u64,
        /// The next number.
        wanted: u64,
        /// The entry's.
        got: u64,
    },
    /// A revocation ordered by another position than it may be.
    #[error(
        "entry {index}: wanted a revocation ordered by its own position, or an earlier one if issued-before; got {fence}"
    )]
    Fence {
        /// The entry.
        index: u64,
        /// The position it claims.
        fence: u64,
    },
    /// A resume of what cannot be resumed, is not in force, or is another entry than it names.
    #[error(
        "entry {index}: resumes revocation {resumes}, which is not a suspension or forbidding in force with that id"
    )]
    Resume {
        /// The entry.
        index: u64,
        /// The number it means to end.
        resumes: u64,
    },
    /// A CRL number that does not rise.
    #[error("entry {index}: wanted a CRL number of authority {authority} above {previous}, got {got}")]
    CrlNumber {
        /// The entry.
        index: u64,
        /// The authority.
        authority: KeyId,
        /// Its CRL number before.
        previous: u64,
        /// The entry's.
        got: u64,
    },
    /// A CRL that takes fewer revocations into account than the one before.
    #[error("entry {index}: the CRL of authority {authority} goes back to revocation {n}")]
    CrlFallsBack {
        /// The entry.
        index: u64,
        /// The authority.
        authority: KeyId,
        /// The newest revocation in it.
        n: u64,
    },
    /// A CRL that takes revocations into account which do not exist yet.
    #[error("entry {index}: the CRL of authority {authority} claims revocation {n}, which is not in the log before it")]
    CrlAhead {
        /// The entry.
        index: u64,
        /// The authority.
        authority: KeyId,
        /// The newest revocation it claims.
        n: u64,
    },
    /// A certificate without an entry.
    #[error("certificate {serial} has no entry in the log")]
    NotLogged {
        /// The certificate.
        serial: Serial,
    },
    /// A certificate whose entry is of another one.
    #[error("certificate {serial} is not the one that entry {index} issued")]
    OtherBytes {
        /// The certificate.
        serial: Serial,
        /// The entry of that serial.
        index: u64,
    },
    /// A certificate on a CRL that nothing stopped.
    #[error("a CRL as of revocation {n} lists certificate {serial}, which no revocation in force then hits")]
    NotRevoked {
        /// The certificate.
        serial: Serial,
        /// The newest revocation that the CRL takes into account.
        n: u64,
    },
}
