//! How values of ours stand in columns: identifiers as blobs, times and positions as integers, words as text.

use chancery_identity::{
    Effect, Instance, JoinTokenId, KeyId, Lineage, Name, Reason, RevocationId, Serial, System, Target, Timestamp,
    TokenId,
};

use super::db::{Column, Value};

macro_rules! ids {
    ($($type:ident),+) => {$(
        impl Column for $type {
            type Raw = Vec<u8>;

            fn from_raw(raw: Vec<u8>) -> Option<Self> {
                raw.try_into().ok().map(Self::from_bytes)
            }
        }

        impl From<$type> for Value {
            fn from(id: $type) -> Self {
                id.bytes().as_slice().into()
            }
        }

        impl From<Option<$type>> for Value {
            fn from(id: Option<$type>) -> Self {
                Self::Blob(id.map(|id| id.bytes().as_slice().into()))
            }
        }
    )+};
}

ids!(Instance, JoinTokenId, KeyId, Lineage, RevocationId, TokenId);

impl Column for Serial {
    type Raw = Vec<u8>;

    fn from_raw(raw: Vec<u8>) -> Option<Self> {
        Self::from_bytes(&raw)
    }
}

impl From<Serial> for Value {
    fn from(serial: Serial) -> Self {
        serial.bytes().into()
    }
}

impl From<Option<Serial>> for Value {
    fn from(serial: Option<Serial>) -> Self {
        Self::Blob(serial.map(|serial| serial.bytes().into()))
    }
}

impl<const N: usize> Column for [u8; N] {
    type Raw = Vec<u8>;

    fn from_raw(raw: Vec<u8>) -> Option<Self> {
        raw.try_into().ok()
    }
}

macro_rules! texts {
    ($($type:ident),+) => {$(
        impl Column for $type {
            type Raw = String;

            fn from_raw(raw: String) -> Option<Self> {
                raw.parse().ok()
            }
        }

        impl From<&$type> for Value {
            fn from(word: &$type) -> Self {
                Self::Text(Some(word.to_string()))
            }
        }
    )+};
}

texts!(Effect, Name, Reason, System, Target);

impl Column for u64 {
    type Raw = i64;

    fn from_raw(raw: i64) -> Option<Self> {
        raw.try_into().ok()
    }
}

impl From<u64> for Value {
    /// Positions and numbers stay below 2^63: databases count in signed 64 bits.
    fn from(number: u64) -> Self {
        Self::Int(Some(i64::try_from(number).unwrap_or(i64::MAX)))
    }
}

impl From<Option<u64>> for Value {
    fn from(number: Option<u64>) -> Self {
        Self::Int(number.map(|number| i64::try_from(number).unwrap_or(i64::MAX)))
    }
}

impl Column for bool {
    type Raw = i64;

    fn from_raw(raw: i64) -> Option<Self> {
        match raw {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Int(Some(i64::from(value)))
    }
}

impl Column for Timestamp {
    type Raw = i64;

    fn from_raw(raw: i64) -> Option<Self> {
        Some(Self::from_unix_millis(raw))
    }
}

impl From<Timestamp> for Value {
    fn from(at: Timestamp) -> Self {
        Self::Int(Some(at.unix_millis()))
    }
}

impl From<Option<Timestamp>> for Value {
    fn from(at: Option<Timestamp>) -> Self {
        Self::Int(at.map(Timestamp::unix_millis))
    }
}
