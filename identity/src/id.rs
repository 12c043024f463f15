//! Identifiers that are drawn or derived: UUIDs with a type, serials, key ids.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

macro_rules! uuid_ids {
    ($($(#[$doc:meta])* $name:ident => $prefix:literal;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// From the UUID itself.
            pub const fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID itself.
            pub const fn uuid(self) -> Uuid {
                self.0
            }

            /// The UUID's 16 bytes, as grants and the database hold it.
            pub const fn bytes(self) -> [u8; 16] {
                self.0.into_bytes()
            }

            /// From 16 bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// The text form after its prefix.
            fn digits(self, buffer: &mut [u8; 36]) -> &str {
                if $prefix.is_empty() {
                    self.0.as_hyphenated().encode_lower(buffer)
                } else {
                    self.0.as_simple().encode_lower(buffer)
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                f.write_str(self.digits(&mut [0; 36]))
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let wanted = if $prefix.is_empty() { "a UUID" } else { concat!($prefix, " and 32 hex digits") };
                let refused = || IdError { wanted, came: crate::name::clip(text) };
                let digits = text.strip_prefix($prefix).ok_or_else(refused)?;
                let id = Uuid::try_parse(digits).map(Self).map_err(|_| refused())?;
                // One spelling for each identifier.
                if id.digits(&mut [0; 36]) == digits { Ok(id) } else { Err(refused()) }
            }
        }
    )+};
}

uuid_ids! {
    /// One attested running copy of an agent; a UUIDv7, hyphenated in SPIFFE IDs.
    Instance => "";
    /// The chain of certificates that began with one attestation or delegation.
    Lineage => "";
    /// A grant: `gr_` and 32 hex digits.
    GrantId => "gr_";
    /// An approval: `ap_` and 32 hex digits.
    ApprovalId => "ap_";
    /// A revocation: `rv_` and 32 hex digits.
    RevocationId => "rv_";
    /// A request: `rq_` and 32 hex digits.
    RequestId => "rq_";
    /// A join token: `jt_` and 32 hex digits. Names it; opens nothing.
    JoinTokenId => "jt_";
    /// An API token: `tk_` and 32 hex digits. Names it; opens nothing.
    TokenId => "tk_";
}

/// A certificate's serial number: positive, 1 to 20 bytes (RFC 5280 §4.1.2.2). Displays as lower hex digits, two a byte.
///
/// Ours have 16 bytes: six of milliseconds, then ten random ones, so that a database index over serials grows at its end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial {
    len: u8,
    bytes: [u8; 20],
}

impl Serial {
    /// Composes a serial for a certificate made at `now`.
    ///
    /// The top two bits are set to `01`: positive, and 16 bytes long whatever the clock says.
    pub const fn compose(now: crate::Timestamp, random: [u8; 10]) -> Self {
        let [_, _, m0, m1, m2, m3, m4, m5] = now.unix_millis().to_be_bytes();
        let [r0, r1, r2, r3, r4, r5, r6, r7, r8, r9] = random;
        let first = (m0 & 0x3f) | 0x40;
        Self { len: 16, bytes: [first, m1, m2, m3, m4, m5, r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, 0, 0, 0, 0] }
    }

    /// From a big-endian magnitude of 1 to 20 bytes, the first one not zero.
    pub fn from_bytes(magnitude: &[u8]) -> Option<Self> {
        if magnitude.first().is_none_or(|&first| first == 0) {
            return None;
        }
        let mut bytes = [0; 20];
        bytes.get_mut(..magnitude.len())?.copy_from_slice(magnitude);
        Some(Self { len: u8::try_from(magnitude.len()).ok()?, bytes })
    }

    /// The big-endian magnitude, without a sign byte.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, self.bytes())
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

impl FromStr for Serial {
    type Err = IdError;

    /// Hex digits, two a byte; colons between them and upper case are accepted, as other tools print serials so.
    fn from_str(text: &str) -> Result<Self, IdError> {
        let refused = || IdError { wanted: "a serial of 2 to 40 hex digits", came: crate::name::clip(text) };
        let hex: String = text.chars().filter(|&c| c != ':').collect();
        unhex(&hex).and_then(|bytes| Self::from_bytes(&bytes)).ok_or_else(refused)
    }
}

/// The key identifier of an authority: 20 bytes, the SubjectKeyIdentifier of its certificate. Displays as 40 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 20]);

impl KeyId {
    /// From 20 bytes.
    pub const fn from_bytes(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    /// The 20 bytes.
    pub const fn bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl FromStr for KeyId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let refused = || IdError { wanted: "a key id of 40 hex digits", came: crate::name::clip(text) };
        unhex(text).and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or_else(refused)
    }
}

/// Writes at most 20 bytes as lower hex digits, in one piece: formatting byte by byte shows in the rate of issuance.
fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' - 10 + value };
    let mut text = [0; 40];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
    let text = text.get(..2 * bytes.len()).and_then(|text| std::str::from_utf8(text).ok());
    f.write_str(text.ok_or(fmt::Error)?)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.len() % 2 != 0 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let pairs = text.as_bytes().chunks_exact(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// The text is no identifier of the kind wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdError {
    wanted: &'static str,
    came: Box<str>,
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wanted {}, got {:?}", self.wanted, self.came)
    }
}

impl std::error::Error for IdError {}
