//! Certificate revocation lists (RFC 5280 §5): complete, without IDP, so that every client reads them.

use std::fmt;
use std::str::FromStr;

use chancery_identity::der::{self, Writer, context_constructed};
use chancery_identity::{KeyId, Reason, Serial, Timestamp, oid};

use crate::AuthorityCertificate;
use crate::certificate::{authority_key_id, extension};

/// A CRL's number: grows with each list of an authority, whatever happens to the database behind it.
///
/// Displays as decimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CrlNumber(u128);

impl CrlNumber {
    /// From the number itself, as it was stored or read.
    pub const fn new(number: u128) -> Self {
        Self(number)
    }

    /// The number after `previous`: one more, or the nanoseconds since the Unix epoch if that is more.
    ///
    /// So it grows although clocks step back, and although a restored database forgets some numbers.
    pub fn after(previous: Option<Self>, now: Timestamp) -> Self {
        let nanoseconds = u128::try_from(now.unix_millis()).unwrap_or(0) * 1_000_000;
        Self(previous.map_or(0, |Self(number)| number.saturating_add(1)).max(nanoseconds))
    }

    /// The number itself.
    pub const fn get(self) -> u128 {
        self.0
    }
}

impl fmt::Display for CrlNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for CrlNumber {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// One revoked certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "callers make it")]
pub struct CrlEntry {
    /// Which.
    pub serial: Serial,
    /// Since when; cut to whole seconds, and to `this_update` where clocks disagree.
    pub revoked_at: Timestamp,
    /// Why.
    pub reason: Reason,
}

/// What a CRL says besides its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "callers make it")]
pub struct CrlHead {
    /// Its number.
    pub number: CrlNumber,
    /// When it is made; cut to whole seconds.
    pub this_update: Timestamp,
    /// When the next one is there at the latest; cut to whole seconds.
    pub next_update: Timestamp,
    /// The log's epoch that the list is a view of.
    pub epoch: u64,
    /// The newest revocation that the list contains.
    pub n: u64,
}

/// A CRL as it would be signed.
#[derive(Debug)]
pub struct CrlPlan {
    tbs: Vec<u8>,
    head: CrlHead,
    authority: KeyId,
}

impl CrlPlan {
    /// Plans the complete CRL of an authority. Entries come in ascending order of their serials, as a database gives them.
    ///
    /// Takes about 0.1 µs an entry on the calling thread.
    ///
    /// # Errors
    /// `next_update` is not after `this_update`, or the entries are out of order or one is there twice.
    pub fn new(
        authority: &AuthorityCertificate,
        head: CrlHead,
        entries: impl IntoIterator<Item = CrlEntry>,
    ) -> Result<Self, CrlRefused> {
        let (this_update, next_update) = (head.this_update.floor_to_second(), head.next_update.floor_to_second());
        if next_update <= this_update {
            return Err(CrlRefused::Over { this_update, next_update });
        }
        let head = CrlHead { this_update, next_update, ..head };
        let mut refused = None;
        let mut writer = Writer::new();
        writer.nested(der::SEQUENCE, |w| {
            // RFC 5280 §5.1.2.1: extensions are used, so the version MUST be 2 (value is 1).
            w.unsigned_64(1).raw(authority.algorithm().signature_identifier()).raw(authority.subject());
            w.time(this_update).time(next_update);
            let mut entries = entries.into_iter().peekable();
            // RFC 5280 §5.1.2.6: when there are no revoked certificates, the list MUST be absent.
            if entries.peek().is_some() {
                w.nested(der::SEQUENCE, |w| refused = write_entries(w, entries, this_update).err());
            }
            w.nested(context_constructed(0), |w| {
                w.nested(der::SEQUENCE, |w| extensions(w, authority.key_id(), &head));
            });
        });
        match refused {
            None => Ok(Self { tbs: writer.finish(), head, authority: authority.key_id() }),
            Some(refused) => Err(refused),
        }
    }

    pub(crate) fn tbs(&self) -> &[u8] {
        &self.tbs
    }

    pub(crate) const fn authority(&self) -> KeyId {
        self.authority
    }

    pub(crate) fn signed(self, der: Vec<u8>) -> SignedCrl {
        SignedCrl { der, head: self.head, authority: self.authority }
    }
}

/// A signed CRL.
#[derive(Debug)]
pub struct SignedCrl {
    der: Vec<u8>,
    head: CrlHead,
    authority: KeyId,
}

impl SignedCrl {
    /// The whole list.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The whole list.
    pub fn into_der(self) -> Vec<u8> {
        self.der
    }

    /// Whose list it is.
    pub const fn authority(&self) -> KeyId {
        self.authority
    }

    /// What it says besides its entries, as signed.
    pub const fn head(&self) -> &CrlHead {
        &self.head
    }
}

fn write_entries(
    w: &mut Writer,
    entries: impl Iterator<Item = CrlEntry>,
    this_update: Timestamp,
) -> Result<(), CrlRefused> {
    let mut before: Option<Serial> = None;
    for CrlEntry { serial, revoked_at, reason } in entries {
        let order = |serial: Serial| (serial.bytes().len(), serial);
        if before.is_some_and(|before| order(before) >= order(serial)) {
            return Err(CrlRefused::Order(serial));
        }
        before = Some(serial);
        w.nested(der::SEQUENCE, |w| {
            w.unsigned(serial.bytes()).time(revoked_at.min(this_update));
            // RFC 5280 §5.3.1: SHOULD be absent instead of using the unspecified (0) value.
            if reason != Reason::Unspecified {
                w.nested(der::SEQUENCE, |w| {
                    extension(w, oid::REASON_CODE, false, |w| {
                        w.value(der::ENUMERATED, &[reason.code()]);
                    });
                });
            }
        });
    }
    Ok(())
}

fn extensions(w: &mut Writer, authority: KeyId, head: &CrlHead) {
    authority_key_id(w, authority);
    // RFC 5280 §5.2.3: non-critical, at most 20 octets.
    extension(w, oid::CRL_NUMBER, false, |w| {
        w.unsigned(&head.number.0.to_be_bytes());
    });
    extension(w, oid::CRL_STATE, false, |w| {
        w.nested(der::SEQUENCE, |w| {
            w.unsigned_64(head.epoch).unsigned_64(head.n);
        });
    });
}

/// The list cannot be made so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CrlRefused {
    /// It would be over when it begins.
    #[error("nextUpdate {next_update} is not after thisUpdate {this_update}")]
    Over {
        /// When it would be made.
        this_update: Timestamp,
        /// When it would be over.
        next_update: Timestamp,
    },
    /// Entries are in no ascending order.
    #[error("entries come in ascending order, each once; serial {0} is out of order")]
    Order(Serial),
}
