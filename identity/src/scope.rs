//! Scopes: what a certificate allows, and the algebra on them.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use crate::name::{clip, is_system};
use crate::normalise::{Plain, plain};

/// The longest scope, in bytes.
pub const SCOPE_LEN_MAX: usize = 256;
/// The most scopes one certificate carries.
pub const SCOPES_MAX: usize = 64;

/// One permission: `action:system/object`, at most 256 bytes, the system literal.
///
/// `*` stands for exactly one whole segment of action or object, `**` for one or more and last in the object only.
///
/// ```
/// # use chancery_identity::Scope;
/// let held: Scope = "resources/read:docs/projects/**".parse()?;
/// assert!(held.covers(&"resources/read:docs/projects/a/b".parse()?));
/// assert!(!held.covers(&"resources/read:docs/projects".parse()?));
/// # Ok::<(), chancery_identity::ScopeError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(Text);

impl Scope {
    /// The scope as text.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The action, `tools/call` of `tools/call:crm/refund`.
    pub fn action(&self) -> &str {
        self.0.action()
    }

    /// The system, `crm` of `tools/call:crm/refund`.
    pub fn system(&self) -> &str {
        self.0.system()
    }

    /// The object, `refund` of `tools/call:crm/refund`.
    pub fn object(&self) -> &str {
        self.0.object()
    }

    /// Whether it names one request: no `*` and no `**`.
    pub fn is_concrete(&self) -> bool {
        !self.as_str().contains('*')
    }

    /// Whether all that `other` allows is allowed by `self`.
    pub fn covers(&self, other: &Scope) -> bool {
        self.0.covers(&other.0)
    }

    /// Whether some request is allowed by both.
    pub fn overlaps(&self, other: &Scope) -> bool {
        self.0.overlaps(&other.0)
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let text = Text::parse(text)?;
        // A certificate names its audience: "*" belongs to ceilings.
        if text.system() == "*" { Err(ScopeError::System("*".into())) } else { Ok(Self(text)) }
    }
}

/// What a ceiling may hold: a scope whose system may be `*`, any system.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(Text);

impl Pattern {
    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// Whether all that `scope` allows is within the pattern.
    pub fn covers(&self, scope: &Scope) -> bool {
        self.0.covers(&scope.0)
    }
}

impl FromStr for Pattern {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        Text::parse(text).map(Self)
    }
}

impl From<Scope> for Pattern {
    fn from(scope: Scope) -> Self {
        Self(scope.0)
    }
}

/// Scopes in order, each once, at most 64.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ScopeSet(Vec<Scope>);

impl ScopeSet {
    /// No scope.
    pub const EMPTY: Self = Self(Vec::new());

    /// Sorts and deduplicates.
    ///
    /// # Errors
    /// More than 64 different scopes.
    pub fn new(scopes: impl IntoIterator<Item = Scope>) -> Result<Self, ScopeError> {
        let mut scopes: Vec<Scope> = scopes.into_iter().collect();
        scopes.sort_unstable();
        scopes.dedup();
        if scopes.len() > SCOPES_MAX { Err(ScopeError::TooMany(scopes.len())) } else { Ok(Self(scopes)) }
    }

    /// Whether one member covers the scope.
    ///
    /// One member, not the union: `X/*` and `X/*/**` together do not cover `X/**`. That errs on the side of refusal, and
    /// keeps the answer linear.
    pub fn covers(&self, scope: &Scope) -> bool {
        self.0.iter().any(|held| held.covers(scope))
    }

    /// The scopes of `other` that no member covers.
    pub fn missing<'a>(&'a self, other: &'a ScopeSet) -> impl Iterator<Item = &'a Scope> {
        other.iter().filter(|scope| !self.covers(scope))
    }
}

impl Deref for ScopeSet {
    type Target = [Scope];

    fn deref(&self) -> &[Scope] {
        &self.0
    }
}

impl<'a> IntoIterator for &'a ScopeSet {
    type Item = &'a Scope;
    type IntoIter = std::slice::Iter<'a, Scope>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// A ceiling's patterns in order, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PatternSet(Vec<Pattern>);

impl PatternSet {
    /// Sorts and deduplicates.
    ///
    /// # Errors
    /// More than 64 different patterns.
    pub fn new(patterns: impl IntoIterator<Item = Pattern>) -> Result<Self, ScopeError> {
        let mut patterns: Vec<Pattern> = patterns.into_iter().collect();
        patterns.sort_unstable();
        patterns.dedup();
        if patterns.len() > SCOPES_MAX { Err(ScopeError::TooMany(patterns.len())) } else { Ok(Self(patterns)) }
    }

    /// Whether one pattern covers the scope.
    pub fn covers(&self, scope: &Scope) -> bool {
        self.0.iter().any(|pattern| pattern.covers(scope))
    }
}

impl Deref for PatternSet {
    type Target = [Pattern];

    fn deref(&self) -> &[Pattern] {
        &self.0
    }
}

/// The text that scopes and patterns share, with the places where its parts meet.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Text {
    text: Box<str>,
    system_at: usize,
    object_at: usize,
}

impl Text {
    fn parse(text: &str) -> Result<Self, ScopeError> {
        if text.len() > SCOPE_LEN_MAX {
            return Err(ScopeError::TooLong(text.len()));
        }
        let (action, rest) = text.split_once(':').ok_or_else(|| ScopeError::Shape(clip(text)))?;
        let (system, object) = rest.split_once('/').ok_or_else(|| ScopeError::Shape(clip(text)))?;
        for segment in action.split('/') {
            if segment != "*" && !action_segment(segment) {
                return Err(ScopeError::Action(clip(segment)));
            }
        }
        if system != "*" && !is_system(system) {
            return Err(ScopeError::System(clip(system)));
        }
        let mut segments = object.split('/').peekable();
        while let Some(segment) = segments.next() {
            let last = segments.peek().is_none();
            let wildcard = segment == "*" || (segment == "**" && last);
            if !wildcard && !object_segment(segment) {
                return Err(ScopeError::Object(clip(segment)));
            }
        }
        let system_at = action.len() + 1;
        Ok(Self { text: text.into(), system_at, object_at: system_at + system.len() + 1 })
    }

    fn action(&self) -> &str {
        self.text.get(..self.system_at - 1).unwrap_or_default()
    }

    fn system(&self) -> &str {
        self.text.get(self.system_at..self.object_at - 1).unwrap_or_default()
    }

    fn object(&self) -> &str {
        self.text.get(self.object_at..).unwrap_or_default()
    }

    fn covers(&self, other: &Text) -> bool {
        (self.system() == "*" || self.system() == other.system())
            && segments_cover(self.action(), other.action())
            && segments_cover(self.object(), other.object())
    }

    fn overlaps(&self, other: &Text) -> bool {
        (self.system() == other.system() || self.system() == "*" || other.system() == "*")
            && segments_overlap(self.action(), other.action())
            && segments_overlap(self.object(), other.object())
    }
}

/// Both lists are walked once. `**` stands only last, so what it meets is the whole rest.
fn segments_cover(wide: &str, narrow: &str) -> bool {
    let (mut wide, mut narrow) = (wide.split('/'), narrow.split('/'));
    loop {
        match (wide.next(), narrow.next()) {
            (None, None) => return true,
            (Some("**"), Some(_)) => return true,
            (Some("*"), Some(n)) if n != "**" => {}
            (Some(w), Some(n)) if w == n => {}
            _ => return false,
        }
    }
}

fn segments_overlap(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('/'), other.split('/'));
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (Some("**"), Some(_)) | (Some(_), Some("**")) => return true,
            (Some("*"), Some(_)) | (Some(_), Some("*")) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

fn action_segment(segment: &str) -> bool {
    !segment.is_empty() && segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

/// Percent-encoding is upper-case hex and only for bytes not otherwise allowed, so that each object has one spelling.
fn object_segment(segment: &str) -> bool {
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit =
                |b: Option<u8>| b.filter(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F')).map(char::from)?.to_digit(16);
            let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else { return false };
            if u8::try_from(high * 16 + low).is_ok_and(|encoded| plain(encoded) == Plain::Allowed) {
                return false;
            }
        } else if plain(byte) != Plain::Allowed {
            return false;
        }
    }
    !segment.is_empty()
}

macro_rules! display_as_text {
    ($($type:ident),+) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.as_str())
            }
        }
    )+};
}

display_as_text!(Scope, Pattern);

/// The text is no scope, or there are too many of them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScopeError {
    /// Longer than 256 bytes.
    TooLong(usize),
    /// More than 64.
    TooMany(usize),
    /// Not of the form `action:system/object`.
    Shape(Box<str>),
    /// A segment of the action.
    Action(Box<str>),
    /// The system.
    System(Box<str>),
    /// A segment of the object.
    Object(Box<str>),
}

impl fmt::Display for ScopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(len) => write!(f, "a scope has at most {SCOPE_LEN_MAX} bytes, got {len}"),
            Self::TooMany(count) => write!(f, "a certificate carries at most {SCOPES_MAX} scopes, got {count}"),
            Self::Shape(came) => write!(f, "a scope has the form action:system/object, got {came:?}"),
            Self::Action(came) => {
                write!(f, "an action's segments are '*' or letters, digits, '_', '-' and '.', got {came:?}")
            }
            Self::System(came) => write!(f, "a scope names its system, 1 to 63 of a-z, 0-9, '.' and '-', got {came:?}"),
            Self::Object(came) => write!(
                f,
                "an object's segments are '*', a last '**', or letters, digits and any of _-.~@+=, others as %XX in \
                 upper case; got {came:?}"
            ),
        }
    }
}

impl std::error::Error for ScopeError {}
