//! One CRL, taken apart (RFC 5280 §5), and verified once.

use std::fmt;

use chancery_identity::der::{self, DerError, Reader, context_constructed};
use chancery_identity::{KeyId, Serial, Timestamp, oid};
use rustls::crypto::WebPkiSupportedAlgorithms;

use crate::authority::{Authority, key_identifier};
use crate::signed::Signed;

/// A CRL number: up to 20 bytes, ordered as the integers they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CrlNumber([u8; 20]);

impl CrlNumber {
    fn from_magnitude(magnitude: &[u8]) -> Option<Self> {
        let mut bytes = [0; 20];
        bytes.get_mut(20_usize.checked_sub(magnitude.len())?..)?.copy_from_slice(magnitude);
        Some(Self(bytes))
    }

    /// In decimal when it fits 128 bits, as those that count nanoseconds do.
    pub(crate) fn to_text(self) -> String {
        let [high @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = self.0;
        let low = self.0.iter().fold(0_u128, |sum, &byte| (sum << 8) | u128::from(byte));
        if high == [0; 4] { low.to_string() } else { format!("0x{}", hex(&self.0)) }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a CRL says of itself, its signature not judged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CrlHeader {
    /// The key that signs it.
    pub authority: Option<KeyId>,
    /// Its number, in decimal.
    pub number: String,
    /// When it was made.
    pub this_update: Timestamp,
    /// When the next one is due at the latest.
    pub next_update: Timestamp,
}

impl CrlHeader {
    /// Reads all but the entries of a DER CRL.
    ///
    /// # Errors
    /// What is no complete CRL with a number and nextUpdate.
    pub fn read(der: &[u8]) -> Result<Self, CrlRefused> {
        let Crl { authority, number, this_update, next_update, .. } = Crl::read(der)?;
        Ok(Self { authority, number: number.to_text(), this_update, next_update })
    }
}

/// A complete CRL as it came, its signature not judged yet.
pub(crate) struct Crl<'a> {
    signed: Signed<'a>,
    pub(crate) issuer: &'a [u8],
    pub(crate) authority: Option<KeyId>,
    pub(crate) number: CrlNumber,
    /// The epoch and number of the revocation sequence up to which it tells, if it says so.
    pub(crate) state: Option<(u64, u64)>,
    pub(crate) this_update: Timestamp,
    pub(crate) next_update: Timestamp,
    entries: Reader<'a>,
}

impl<'a> Crl<'a> {
    /// Reads all but the entries.
    pub(crate) fn read(der: &'a [u8]) -> Result<Self, CrlRefused> {
        let signed = Signed::read(der)?;
        let mut outer = Reader::new(signed.tbs);
        let mut tbs = outer.nested(der::SEQUENCE)?;
        outer.finish()?;
        // RFC 5280 §5.1.2.1: extensions are used, so the version MUST be 2 (value is 1).
        if tbs.unsigned_64()? != 1 {
            return Err(CrlRefused::Form("not version 2"));
        }
        // RFC 5280 §5.1.2.2: MUST contain the same algorithm identifier as signatureAlgorithm.
        if tbs.read(der::SEQUENCE)? != signed.algorithm {
            return Err(CrlRefused::Form("two different signature algorithms"));
        }
        let issuer = tbs.read(der::SEQUENCE)?;
        let this_update = tbs.time()?;
        // RFC 5280 §5.1.2.5: nextUpdate MUST be there.
        if !matches!(tbs.peek(), Some(der::UTC_TIME | der::GENERALIZED_TIME)) {
            return Err(CrlRefused::Form("no nextUpdate"));
        }
        let next_update = tbs.time()?;
        let entries = Reader::new(tbs.read_optional(der::SEQUENCE)?.unwrap_or_default());
        let mut wrapper = tbs.nested(context_constructed(0)).map_err(|_| CrlRefused::Form("no extensions"))?;
        tbs.finish()?;
        let mut extensions = wrapper.nested(der::SEQUENCE)?;
        wrapper.finish()?;

        let (mut authority, mut number, mut state) = (None, None, None);
        while !extensions.at_end() {
            let (id, critical, value) = extension(&mut extensions)?;
            match id {
                oid::AUTHORITY_KEY_ID if !critical => authority = key_identifier(value)?,
                oid::CRL_NUMBER if !critical => {
                    let mut value = Reader::new(value);
                    let magnitude = value.unsigned()?;
                    value.finish()?;
                    // RFC 5280 §5.2.3: not longer than 20 octets, and not twice.
                    let first = number.replace(CrlNumber::from_magnitude(magnitude).ok_or(CrlRefused::Number)?);
                    if first.is_some() {
                        return Err(CrlRefused::Number);
                    }
                }
                oid::CRL_NUMBER => return Err(CrlRefused::Number),
                oid::CRL_STATE => state = sequence_state(value)?,
                // Deltas and CRLs that cover only some certificates say so critically.
                _ if critical => return Err(CrlRefused::Critical),
                _ => {}
            }
        }
        // RFC 5280 §5.2.3: MUST include this extension in all CRLs.
        let number = number.ok_or(CrlRefused::Number)?;
        Ok(Self { signed, issuer, authority, number, state, this_update, next_update, entries })
    }

    /// Whether this is an authority to have signed it: the same name, and the same key id when both say one.
    pub(crate) fn names(&self, authority: &Authority) -> bool {
        let key_ids = self.authority.zip(authority.key_id());
        self.issuer == authority.subject() && key_ids.is_none_or(|(one, other)| one == other)
    }

    /// Whether the authority signed it and may sign CRLs.
    pub(crate) fn verify(
        &self,
        authority: &Authority,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), CrlRefused> {
        // RFC 5280 §6.3.3 (f): if key usage is present, cRLSign must be set.
        if !authority.signs_crls() {
            return Err(CrlRefused::NotItsToSign);
        }
        if self.signed.verified_by(authority.spki(), algorithms) { Ok(()) } else { Err(CrlRefused::Signature) }
    }

    /// Checks each entry, so that [`Crl::serials`] yields them all, and counts them.
    pub(crate) fn check_entries(&self) -> Result<usize, CrlRefused> {
        let (mut entries, mut count) = (self.entries.clone(), 0);
        while !entries.at_end() {
            entry(&mut entries)?;
            count += 1;
        }
        Ok(count)
    }

    /// The revoked serials.
    pub(crate) fn serials(&self) -> impl Iterator<Item = Serial> + use<'a> {
        let mut entries = self.entries.clone();
        std::iter::from_fn(move || if entries.at_end() { None } else { entry(&mut entries).ok() })
    }
}

fn entry(entries: &mut Reader<'_>) -> Result<Serial, CrlRefused> {
    let mut entry = entries.nested(der::SEQUENCE)?;
    let serial = Serial::from_bytes(entry.unsigned()?).ok_or(CrlRefused::Form("a serial that is none"))?;
    entry.time()?;
    if let Some(extensions) = entry.read_optional(der::SEQUENCE)? {
        let mut extensions = Reader::new(extensions);
        while !extensions.at_end() {
            // RFC 5280 §5.3: a critical entry extension that is not understood makes the whole CRL unusable.
            if let (_, true, _) = extension(&mut extensions)? {
                return Err(CrlRefused::Critical);
            }
        }
    }
    entry.finish()?;
    Ok(serial)
}

/// Epoch and number; of another issuer's extension by the same name nothing is known.
fn sequence_state(value: &[u8]) -> Result<Option<(u64, u64)>, DerError> {
    let mut outer = Reader::new(value);
    let mut fields = outer.nested(der::SEQUENCE)?;
    outer.finish()?;
    let state = (fields.unsigned_64()?, fields.unsigned_64()?);
    Ok(fields.at_end().then_some(state))
}

fn extension<'a>(list: &mut Reader<'a>) -> Result<(&'a [u8], bool, &'a [u8]), DerError> {
    let mut extension = list.nested(der::SEQUENCE)?;
    let id = extension.read(der::OBJECT_IDENTIFIER)?;
    let critical = if extension.peek() == Some(der::BOOLEAN) { extension.boolean()? } else { false };
    let value = extension.read(der::OCTET_STRING)?;
    extension.finish()?;
    Ok((id, critical, value))
}

/// A CRL that this code may not rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CrlRefused {
    /// Not DER.
    Der(DerError),
    /// Not the form of a complete CRL.
    Form(&'static str),
    /// No CRL number, two, a critical one or one that is too long.
    Number,
    /// A critical extension that nobody here knows: a delta, a shard or an indirect CRL.
    Critical,
    /// The authority's key usage does not allow it to sign CRLs.
    NotItsToSign,
    /// The signature is not the authority's.
    Signature,
    /// No authority that is known here issued it.
    UnknownIssuer,
}

impl From<DerError> for CrlRefused {
    fn from(error: DerError) -> Self {
        Self::Der(error)
    }
}

impl fmt::Display for CrlRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Der(error) => write!(f, "malformed CRL: {error}"),
            Self::Form(what) => write!(f, "wanted a complete version 2 CRL with nextUpdate; it has {what}"),
            Self::Number => f.write_str("wanted one CRL number of at most 20 bytes, not critical"),
            Self::Critical => f.write_str("the CRL has an unknown critical extension; wanted a complete CRL"),
            Self::NotItsToSign => f.write_str("the authority's key usage does not let it sign CRLs"),
            Self::Signature => f.write_str("the CRL's signature is not its issuer's"),
            Self::UnknownIssuer => f.write_str("no authority that is known here issued the CRL"),
        }
    }
}

impl std::error::Error for CrlRefused {}
