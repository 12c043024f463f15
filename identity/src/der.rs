//! DER, read strictly and written canonically: the little of X.690 that certificates, CRLs and grants need.
//!
//! The reader takes definite, minimal lengths only and one-byte tags only, and copies nothing. The writer cannot write
//! anything else.

use std::fmt;

use crate::Timestamp;
use crate::timestamp::Civil;

/// BOOLEAN.
pub const BOOLEAN: u8 = 0x01;
/// INTEGER.
pub const INTEGER: u8 = 0x02;
/// BIT STRING.
pub const BIT_STRING: u8 = 0x03;
/// OCTET STRING.
pub const OCTET_STRING: u8 = 0x04;
/// NULL.
pub const NULL: u8 = 0x05;
/// OBJECT IDENTIFIER.
pub const OBJECT_IDENTIFIER: u8 = 0x06;
/// ENUMERATED.
pub const ENUMERATED: u8 = 0x0a;
/// UTF8String.
pub const UTF8_STRING: u8 = 0x0c;
/// UTCTime.
pub const UTC_TIME: u8 = 0x17;
/// GeneralizedTime.
pub const GENERALIZED_TIME: u8 = 0x18;
/// SEQUENCE, constructed.
pub const SEQUENCE: u8 = 0x30;
/// SET, constructed.
pub const SET: u8 = 0x31;

/// The tag `[number]`, primitive. Numbers above 30 have no one-byte tag.
pub const fn context(number: u8) -> u8 {
    0x80 | (number & 0x1f)
}

/// The tag `[number]`, constructed.
pub const fn context_constructed(number: u8) -> u8 {
    0xa0 | (number & 0x1f)
}

/// Reads one DER value after another.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Over the contents of a constructed value, or over a whole document.
    pub const fn new(der: &'a [u8]) -> Self {
        Self { rest: der }
    }

    /// Whether nothing is left.
    pub const fn at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next value's tag.
    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The contents of the next value, which has this tag.
    ///
    /// # Errors
    /// Another tag, a truncated value, a length that is indefinite or not minimal.
    pub fn read(&mut self, tag: u8) -> Result<&'a [u8], DerError> {
        match self.read_any()? {
            (found, contents, _) if found == tag => Ok(contents),
            (found, ..) => Err(DerError::Tag { wanted: tag, found }),
        }
    }

    /// As [`Reader::read`] when the next value has this tag; nothing read otherwise.
    ///
    /// # Errors
    /// A truncated value, a length that is indefinite or not minimal.
    pub fn read_optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, DerError> {
        if self.peek() == Some(tag) { self.read(tag).map(Some) } else { Ok(None) }
    }

    /// The next value whatever its tag: tag, contents, and the whole encoding.
    ///
    /// # Errors
    /// A truncated value, a length that is indefinite or not minimal, a tag of several bytes.
    pub fn read_any(&mut self) -> Result<(u8, &'a [u8], &'a [u8]), DerError> {
        let [tag, first, ..] = *self.rest else { return Err(DerError::Truncated) };
        if tag & 0x1f == 0x1f {
            return Err(DerError::LongTag);
        }
        let (header, length) = match first {
            0..=0x7f => (2, usize::from(first)),
            // X.690 §10.1: the definite form, in the fewest bytes.
            0x81..=0x84 => {
                let count = usize::from(first & 0x7f);
                let bytes = self.rest.get(2..2 + count).ok_or(DerError::Truncated)?;
                let length = bytes.iter().fold(0_usize, |sum, &b| (sum << 8) | usize::from(b));
                let minimal = bytes.first().is_some_and(|&b| b != 0) && length > 0x7f;
                if !minimal {
                    return Err(DerError::Length);
                }
                (2 + count, length)
            }
            _ => return Err(DerError::Length),
        };
        let end = header.checked_add(length).ok_or(DerError::Length)?;
        let contents = self.rest.get(header..end).ok_or(DerError::Truncated)?;
        let (whole, rest) = self.rest.split_at_checked(end).ok_or(DerError::Truncated)?;
        self.rest = rest;
        Ok((tag, contents, whole))
    }

    /// A reader over the contents of the next value, which has this tag.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn nested(&mut self, tag: u8) -> Result<Reader<'a>, DerError> {
        self.read(tag).map(Reader::new)
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// Trailing bytes.
    pub const fn finish(self) -> Result<(), DerError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DerError::Trailing(self.rest.len())) }
    }

    /// A BOOLEAN; X.690 §11.1: `TRUE` is 0xff.
    ///
    /// # Errors
    /// As [`Reader::read`], or another value than 0 and 0xff.
    pub fn boolean(&mut self) -> Result<bool, DerError> {
        match self.read(BOOLEAN)? {
            [0] => Ok(false),
            [0xff] => Ok(true),
            _ => Err(DerError::Value("BOOLEAN")),
        }
    }

    /// A non-negative INTEGER's magnitude, without its sign byte.
    ///
    /// # Errors
    /// As [`Reader::read`], or a negative or not minimal integer.
    pub fn unsigned(&mut self) -> Result<&'a [u8], DerError> {
        match self.read(INTEGER)? {
            [] => Err(DerError::Value("INTEGER")),
            [0] => Ok(&[0]),
            // X.690 §8.3.2: the first nine bits are not all the same.
            [0, next, ..] if next & 0x80 == 0 => Err(DerError::Value("INTEGER")),
            [0, magnitude @ ..] => Ok(magnitude),
            [first, ..] if first & 0x80 != 0 => Err(DerError::Negative),
            magnitude => Ok(magnitude),
        }
    }

    /// A non-negative INTEGER below 2^64.
    ///
    /// # Errors
    /// As [`Reader::unsigned`], or a larger integer.
    pub fn unsigned_64(&mut self) -> Result<u64, DerError> {
        let magnitude = self.unsigned()?;
        if magnitude.len() > 8 {
            return Err(DerError::Value("INTEGER"));
        }
        Ok(magnitude.iter().fold(0, |sum, &b| (sum << 8) | u64::from(b)))
    }

    /// A UTF8String.
    ///
    /// # Errors
    /// As [`Reader::read`], or bytes that are no UTF-8.
    pub fn utf8(&mut self) -> Result<&'a str, DerError> {
        std::str::from_utf8(self.read(UTF8_STRING)?).map_err(|_| DerError::Value("UTF8String"))
    }

    /// An OCTET STRING of exactly `N` bytes.
    ///
    /// # Errors
    /// As [`Reader::read`], or another length.
    pub fn octets<const N: usize>(&mut self) -> Result<[u8; N], DerError> {
        self.read(OCTET_STRING)?.try_into().map_err(|_| DerError::Value("OCTET STRING"))
    }

    /// A UTCTime or GeneralizedTime as RFC 5280 §4.1.2.5 allows them: seconds, `Z`, no fraction, UTCTime before 2050.
    ///
    /// # Errors
    /// As [`Reader::read`], or a time in another form.
    pub fn time(&mut self) -> Result<Timestamp, DerError> {
        let (tag, contents, _) = self.read_any()?;
        match tag {
            UTC_TIME => parse_time(contents, 2),
            GENERALIZED_TIME => parse_time(contents, 4),
            found => return Err(DerError::Tag { wanted: UTC_TIME, found }),
        }
        .ok_or(DerError::Value("time"))
    }
}

fn parse_time(contents: &[u8], year_width: usize) -> Option<Timestamp> {
    let (digits, zone) = contents.split_last_chunk::<1>()?;
    if digits.len() != year_width + 10 || zone != b"Z" || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |bytes: &[u8]| bytes.iter().fold(0_i64, |sum, b| sum * 10 + i64::from(b - b'0'));
    let (year, rest) = digits.split_at_checked(year_width)?;
    let mut pairs = rest.chunks_exact(2).map(number);
    let year = match number(year) {
        // RFC 5280 §4.1.2.5.1: 50 to 99 are 19YY.
        short if year_width == 2 && short >= 50 => 1900 + short,
        short if year_width == 2 => 2000 + short,
        // RFC 5280 §4.1.2.5: dates through 2049 MUST be UTCTime; before 1950 they can only be GeneralizedTime.
        long if (1950..2050).contains(&long) => return None,
        long => long,
    };
    Timestamp::from_civil(Civil {
        year,
        month: pairs.next()?,
        day: pairs.next()?,
        hour: pairs.next()?,
        minute: pairs.next()?,
        second: pairs.next()?,
    })
}

/// Writes DER values one after another.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Nothing written yet, with room for a value as they mostly are.
    pub fn new() -> Self {
        Self::with_capacity(64)
    }

    /// Nothing written yet, with room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes) }
    }

    /// What was written.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// A value of this tag with these contents.
    pub fn value(&mut self, tag: u8, contents: &[u8]) -> &mut Self {
        self.bytes.push(tag);
        self.length(contents.len());
        self.bytes.extend_from_slice(contents);
        self
    }

    /// A constructed value whose contents `write` writes.
    pub fn nested(&mut self, tag: u8, write: impl FnOnce(&mut Writer)) -> &mut Self {
        self.bytes.extend([tag, 0]);
        let start = self.bytes.len();
        write(self);
        // The length stands before the contents and is known after them: its first byte has its place, what else it may have
        // is written last and turned to the front.
        let contents = self.bytes.len() - start;
        let first = self.rest_of_length(contents);
        if let Some(place) = self.bytes.get_mut(start - 1) {
            *place = first;
        }
        if let Some(value) = self.bytes.get_mut(start..) {
            value.rotate_left(contents);
        }
        self
    }

    /// Bytes that are DER already.
    pub fn raw(&mut self, der: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(der);
        self
    }

    /// BOOLEAN.
    pub fn boolean(&mut self, value: bool) -> &mut Self {
        self.value(BOOLEAN, &[if value { 0xff } else { 0 }])
    }

    /// INTEGER from a big-endian magnitude; leading zeros are dropped.
    pub fn unsigned(&mut self, magnitude: &[u8]) -> &mut Self {
        let zeros = magnitude.iter().take_while(|&&b| b == 0).count();
        let significant = magnitude.get(zeros..).unwrap_or_default();
        let sign = significant.first().is_none_or(|first| first & 0x80 != 0);
        self.bytes.push(INTEGER);
        self.length(significant.len() + usize::from(sign));
        self.bytes.extend(sign.then_some(0));
        self.bytes.extend_from_slice(significant);
        self
    }

    /// INTEGER.
    pub fn unsigned_64(&mut self, value: u64) -> &mut Self {
        self.unsigned(&value.to_be_bytes())
    }

    /// UTF8String.
    pub fn utf8(&mut self, text: &str) -> &mut Self {
        self.value(UTF8_STRING, text.as_bytes())
    }

    /// OCTET STRING.
    pub fn octets(&mut self, bytes: &[u8]) -> &mut Self {
        self.value(OCTET_STRING, bytes)
    }

    /// OBJECT IDENTIFIER from its DER contents.
    pub fn oid(&mut self, contents: &[u8]) -> &mut Self {
        self.value(OBJECT_IDENTIFIER, contents)
    }

    /// BIT STRING of whole bytes.
    pub fn bits(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.push(BIT_STRING);
        self.length(bytes.len() + 1);
        self.bytes.push(0);
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// A time in whole seconds, UTCTime from 1950 through 2049 and GeneralizedTime else (RFC 5280 §4.1.2.5).
    pub fn time(&mut self, at: Timestamp) -> &mut Self {
        if (1950..2050).contains(&at.civil().year) {
            self.bytes.extend([UTC_TIME, 13]);
            self.digits(at, false);
            self
        } else {
            self.generalized_time(at)
        }
    }

    /// A GeneralizedTime in whole seconds, whatever the year: OCSP knows no other (RFC 6960 §4.2.1).
    pub fn generalized_time(&mut self, at: Timestamp) -> &mut Self {
        self.bytes.extend([GENERALIZED_TIME, 15]);
        self.digits(at, true);
        self
    }

    fn digits(&mut self, at: Timestamp, century: bool) {
        let c = at.civil();
        let century = century.then_some(c.year / 100);
        for pair in century.into_iter().chain([c.year % 100, c.month, c.day, c.hour, c.minute, c.second]) {
            // Calendar fields have two digits.
            let pair = u8::try_from(pair).unwrap_or_default();
            self.bytes.extend([b'0' + pair / 10 % 10, b'0' + pair % 10]);
        }
        self.bytes.push(b'Z');
    }

    fn length(&mut self, length: usize) {
        let place = self.bytes.len();
        self.bytes.push(0);
        let first = self.rest_of_length(length);
        if let Some(place) = self.bytes.get_mut(place) {
            *place = first;
        }
    }

    /// Writes the bytes of a length but the first, which is answered.
    fn rest_of_length(&mut self, length: usize) -> u8 {
        match u8::try_from(length) {
            Ok(short @ 0..=0x7f) => short,
            _ => {
                // X.690 §8.1.3.5: the count of the length's bytes, then these, the fewest possible.
                let bytes = length.to_be_bytes();
                let significant = bytes.get(length.leading_zeros() as usize / 8..).unwrap_or_default();
                self.bytes.extend_from_slice(significant);
                0x80 | u8::try_from(significant.len()).unwrap_or_default()
            }
        }
    }
}

/// The bytes are not the DER that was wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DerError {
    /// The value ends too early.
    Truncated,
    /// This many bytes after the end.
    Trailing(usize),
    /// Another tag than the one wanted.
    Tag {
        /// The tag that was wanted.
        wanted: u8,
        /// The tag that came.
        found: u8,
    },
    /// A tag of several bytes.
    LongTag,
    /// An indefinite, not minimal or too large length.
    Length,
    /// A negative integer where none can be.
    Negative,
    /// Contents that the named type does not allow here.
    Value(&'static str),
}

impl fmt::Display for DerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("DER value ends too early"),
            Self::Trailing(count) => write!(f, "{count} bytes after the end of the DER value"),
            Self::Tag { wanted, found } => write!(f, "wanted DER tag {wanted:#04x}, found {found:#04x}"),
            Self::LongTag => f.write_str("DER tag of several bytes"),
            Self::Length => f.write_str("DER length is indefinite, not minimal or too large"),
            Self::Negative => f.write_str("negative DER INTEGER"),
            Self::Value(kind) => write!(f, "malformed DER {kind}"),
        }
    }
}

impl std::error::Error for DerError {}
