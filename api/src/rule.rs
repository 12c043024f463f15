//! What an agent or service must show to be attested.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One way to be attested: evidence by this method whose selectors include all those named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct AttestationRule {
    /// The attestor.
    pub method: Method,
    /// What its evidence must say, all of it. Empty: any evidence that the attestor accepts for this record.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub selectors: BTreeSet<Selector>,
}

impl AttestationRule {
    /// A join token, and nothing more.
    pub const JOIN_TOKEN: Self = Self { method: Method::JoinToken, selectors: BTreeSet::new() };
}

/// The attestors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Method {
    /// A secret made for this record.
    JoinToken,
    /// An existing certificate's key, under a configured root.
    X509pop,
}

impl Method {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::JoinToken => "join_token",
            Self::X509pop => "x509pop",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A fact that evidence shows: `x509pop:ca:9c…`, `k8s:ns:prod`. The method, a colon, and what it says; at most 512 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector(Box<str>);

impl Selector {
    /// The selector as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let well_formed = text.len() <= 512
            && !text.chars().any(char::is_control)
            && text.split_once(':').is_some_and(|(method, fact)| {
                !method.is_empty()
                    && !fact.is_empty()
                    && method.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            });
        if well_formed { Ok(Self(text.into())) } else { Err(SelectorError(text.chars().take(80).collect())) }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Selector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for Selector {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        use utoipa::openapi::schema::{ObjectBuilder, Type};
        ObjectBuilder::new().schema_type(Type::String).examples(["x509pop:ca:9c56cc51b374c3ba"]).into()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for Selector {}

/// The text is no selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectorError(Box<str>);

impl fmt::Display for SelectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a selector is its method, a colon and a fact, like x509pop:ca:9c56cc51, got {:?}", self.0)
    }
}

impl std::error::Error for SelectorError {}
