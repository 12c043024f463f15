//! Names of registered things, and of systems.

use std::fmt;
use std::str::FromStr;

/// The name of an agent, service, role, owner or administrator: `[a-z0-9][a-z0-9.-]{0,62}`.
///
/// Immutable once registered and never reused. `sub` and `shared` are reserved, as they are path segments of their own
/// in SPIFFE IDs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if reserved(text) {
            return Err(NameError::Reserved(text.into()));
        }
        if well_formed(text) { Ok(Self(text.into())) } else { Err(NameError::Malformed(clip(text))) }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// The audience of a scope: 1 to 63 of `a-z`, `0-9`, `-` and `.`; owned by exactly one service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct System(Box<str>);

impl System {
    /// The system as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for System {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if is_system(text) { Ok(Self(text.into())) } else { Err(NameError::System(clip(text))) }
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a text is a [`Name`], for whoever needs none of its own.
pub(crate) fn is_name(text: &str) -> bool {
    !reserved(text) && well_formed(text)
}

fn reserved(text: &str) -> bool {
    matches!(text, "sub" | "shared")
}

/// A segment of dots is no name, and `..` could never stand in a SPIFFE ID.
fn well_formed(text: &str) -> bool {
    text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) && segment(text)
}

/// Whether a text is a [`System`], for whoever needs none of its own.
pub(crate) fn is_system(text: &str) -> bool {
    segment(text)
}

/// 1 to 63 characters, none but lower-case letters, digits, `.` and `-`.
fn segment(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-'))
}

/// What came, cut so that a refusal stays one line.
pub(crate) fn clip(text: &str) -> Box<str> {
    text.chars().take(80).collect::<String>().into()
}

/// The text is no name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameError {
    /// Not of the form `[a-z0-9][a-z0-9.-]{0,62}`.
    Malformed(Box<str>),
    /// `sub` and `shared` mean something else in a SPIFFE ID.
    Reserved(Box<str>),
    /// Not 1 to 63 of `a-z0-9.-`.
    System(Box<str>),
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(came) => {
                write!(f, "{came:?} is no name: wanted 1 to 63 of a-z, 0-9, '.' and '-', a letter or digit first")
            }
            Self::Reserved(came) => write!(f, "the name {came:?} is reserved; choose another"),
            Self::System(came) => write!(f, "{came:?} is no system: wanted 1 to 63 of a-z, 0-9, '.' and '-'"),
        }
    }
}

impl std::error::Error for NameError {}
