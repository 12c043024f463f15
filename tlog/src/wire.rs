//! How the types of `chancery-identity` are spelled in records. Fields stand in the order of their names, as in the bytes.

use chancery_identity::{
    Ancestor, ApprovalId, Attestation, Certificate, Constraint, Grant, GrantId, KeyId, Lineage, Name, OnBehalfOf,
    Scope, ScopeSet, Serial, SpiffeId, System, Task, Timestamp,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(remote = "Certificate", deny_unknown_fields)]
pub(crate) struct CertificateWire {
    authority: KeyId,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "option_grant")]
    grant: Option<Grant>,
    not_after: Timestamp,
    not_before: Timestamp,
    #[serde(with = "scopes")]
    scopes: ScopeSet,
    serial: Serial,
    spiffe_id: SpiffeId,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Grant", deny_unknown_fields)]
struct GrantWire {
    #[serde(with = "AttestationWire")]
    attestation: Attestation,
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "chain")]
    chain: Vec<Ancestor>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    chosen: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "constraints")]
    constraints: Vec<Constraint>,
    depth_left: u8,
    #[serde(with = "decimal")]
    epoch: u64,
    id: GrantId,
    lineage: Lineage,
    name: Name,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "option_on_behalf_of")]
    on_behalf_of: Option<OnBehalfOf>,
    owner: Name,
    #[serde(with = "decimal")]
    planned_at: u64,
    #[serde(with = "decimal")]
    revision: u64,
    #[serde(with = "decimal")]
    seen: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    systems: Vec<System>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "option_task")]
    task: Option<Task>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Attestation", deny_unknown_fields)]
struct AttestationWire {
    at: Timestamp,
    #[serde(with = "hex")]
    digest: [u8; 32],
    method: String,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "OnBehalfOf", deny_unknown_fields)]
struct OnBehalfOfWire {
    issuer: String,
    subject: String,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Task", deny_unknown_fields)]
struct TaskWire {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    approval: Option<ApprovalId>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "option_hex")]
    arguments: Option<[u8; 32]>,
    id: String,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Ancestor", deny_unknown_fields)]
struct AncestorWire {
    authority: KeyId,
    grant: GrantId,
    lineage: Lineage,
    #[serde(with = "decimal")]
    planned_at: u64,
    serial: Serial,
    spiffe_id: SpiffeId,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Constraint", deny_unknown_fields)]
struct ConstraintWire {
    #[serde(with = "hex")]
    oid: Vec<u8>,
    #[serde(with = "hex")]
    value: Vec<u8>,
}

/// A module for `#[serde(with)]` that spells each element of a list by another such module.
macro_rules! list {
    ($module:ident: $type:ty as $wire:literal) => {
        mod $module {
            use super::*;

            pub(super) fn serialize<S: serde::Serializer>(values: &[$type], serializer: S) -> Result<S::Ok, S::Error> {
                #[derive(Serialize)]
                struct Borrowed<'a>(#[serde(with = $wire)] &'a $type);
                serializer.collect_seq(values.iter().map(Borrowed))
            }

            pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Vec<$type>, D::Error> {
                #[derive(Deserialize)]
                struct Owned(#[serde(with = $wire)] $type);
                let values = Vec::<Owned>::deserialize(deserializer)?;
                Ok(values.into_iter().map(|Owned(value)| value).collect())
            }
        }
    };
}

list!(chain: Ancestor as "AncestorWire");
list!(constraints: Constraint as "ConstraintWire");

/// The same for a value that may be absent.
macro_rules! optional {
    ($module:ident: $type:ty as $wire:literal) => {
        mod $module {
            use super::*;

            pub(super) fn serialize<S: serde::Serializer>(
                value: &Option<$type>,
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                #[derive(Serialize)]
                struct Borrowed<'a>(#[serde(with = $wire)] &'a $type);
                value.as_ref().map(Borrowed).serialize(serializer)
            }

            pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Option<$type>, D::Error> {
                #[derive(Deserialize)]
                struct Owned(#[serde(with = $wire)] $type);
                Ok(Option::<Owned>::deserialize(deserializer)?.map(|Owned(value)| value))
            }
        }
    };
}

optional!(option_grant: Grant as "GrantWire");
optional!(option_hex: [u8; 32] as "hex");
optional!(option_on_behalf_of: OnBehalfOf as "OnBehalfOfWire");
optional!(option_task: Task as "TaskWire");

/// 64-bit integers as decimal strings: JavaScript rounds numbers above 2^53.
pub(crate) mod decimal {
    use std::borrow::Cow;

    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(|_| D::Error::custom(format!("wanted a decimal string up to 2^64 - 1, got {text:?}")))
    }
}

/// A certificate that others hold too.
pub(crate) mod shared_certificate {
    use std::sync::Arc;

    use serde::{Deserializer, Serializer};

    use super::{Certificate, CertificateWire};

    pub(crate) fn serialize<S: Serializer>(certificate: &Certificate, serializer: S) -> Result<S::Ok, S::Error> {
        CertificateWire::serialize(certificate, serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Certificate>, D::Error> {
        CertificateWire::deserialize(deserializer).map(Arc::new)
    }
}

/// Bytes as lower hex digits.
pub(crate) mod hex {
    use std::borrow::Cow;

    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<T: AsRef<[u8]>, S: Serializer>(bytes: &T, serializer: S) -> Result<S::Ok, S::Error> {
        let digit = |value: u8| char::from(if value < 10 { b'0' + value } else { b'a' - 10 + value });
        let bytes = bytes.as_ref();
        let mut text = String::with_capacity(2 * bytes.len());
        for byte in bytes {
            text.push(digit(byte >> 4));
            text.push(digit(byte & 15));
        }
        serializer.serialize_str(&text)
    }

    pub(crate) fn deserialize<'de, T: TryFrom<Vec<u8>>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let byte = |pair: &[u8]| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
        let wanted = || D::Error::custom("wanted hex digits, two a byte, of the right number");
        bytes.ok_or_else(wanted)?.try_into().map_err(|_| wanted())
    }
}

mod scopes {
    use serde::de::Error as _;

    use super::*;

    pub(super) fn serialize<S: serde::Serializer>(scopes: &ScopeSet, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(scopes)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<ScopeSet, D::Error> {
        ScopeSet::new(Vec::<Scope>::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
