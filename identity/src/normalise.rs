//! What a service checks, brought into the one spelling that scopes have.
//!
//! A path is split, each segment decoded once, judged, and spelled anew. What two readers could read differently is
//! refused, so that the object that was checked is the object that is served.

use std::fmt;

/// How a scope spells a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plain {
    /// As itself.
    Allowed,
    /// As `%XX`.
    Encoded,
}

/// The object characters of the scope grammar: unreserved characters and `@`, `+`, `=`.
pub(crate) fn plain(byte: u8) -> Plain {
    match byte {
        b'_' | b'-' | b'.' | b'~' | b'@' | b'+' | b'=' => Plain::Allowed,
        _ if byte.is_ascii_alphanumeric() => Plain::Allowed,
        _ => Plain::Encoded,
    }
}

/// A request path: segments in the spelling of scope objects, none empty, `.` or `..`; none at all for `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path(Vec<String>);

impl Path {
    /// Reads the path of a request target, as it came on the wire, without its query.
    ///
    /// # Errors
    /// A path that two readers could read differently; the reason is in the error.
    ///
    /// ```
    /// # use chancery_identity::normalise::Path;
    /// assert_eq!(Path::parse("/customers/J%6Fe%20B")?.segments(), ["customers", "Joe%20B"]);
    /// assert!(Path::parse("/customers/%2e%2e/admin").is_err());
    /// # Ok::<(), chancery_identity::normalise::PathRefused>(())
    /// ```
    pub fn parse(raw: &str) -> Result<Self, PathRefused> {
        let rest = raw.strip_prefix('/').ok_or(PathRefused::NotAbsolute)?;
        if rest.is_empty() {
            return Ok(Self(Vec::new()));
        }
        rest.split('/')
            .map(|segment| decode(segment).and_then(|bytes| spell(&bytes)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The segments, in the spelling of scope objects.
    pub fn segments(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("/");
        }
        self.0.iter().try_for_each(|segment| write!(f, "/{segment}"))
    }
}

/// One object segment from a name that is not percent-encoded, such as an MCP tool's.
///
/// # Errors
/// A name that no object segment can stand for.
pub fn segment(name: &str) -> Result<String, PathRefused> {
    spell(name.as_bytes())
}

/// Decodes `%XX` once, in either case.
fn decode(segment: &str) -> Result<Vec<u8>, PathRefused> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else { return Err(PathRefused::Encoding) };
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| PathRefused::Encoding)?);
    }
    Ok(bytes)
}

fn spell(bytes: &[u8]) -> Result<String, PathRefused> {
    match bytes {
        b"" => return Err(PathRefused::EmptySegment),
        b"." | b".." => return Err(PathRefused::DotSegment),
        _ => {}
    }
    // An overlong `/` or `.` is a separator to a lenient reader and none to a strict one (RFC 3629 §10).
    if std::str::from_utf8(bytes).is_err() {
        return Err(PathRefused::Utf8);
    }
    let mut spelled = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'/' | b'\\' => return Err(PathRefused::Separator),
            0..=0x1f | 0x7f => return Err(PathRefused::Control),
            b'%' => return Err(PathRefused::DoubleEncoding),
            b'*' => return Err(PathRefused::Wildcard),
            b';' => return Err(PathRefused::Parameter),
            _ if plain(byte) == Plain::Allowed => spelled.push(char::from(byte)),
            _ => spelled.push_str(&format!("%{byte:02X}")),
        }
    }
    Ok(spelled)
}

/// A path that two readers could read differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathRefused {
    /// Does not begin with `/`.
    NotAbsolute,
    /// `//`, or a `/` at the end.
    EmptySegment,
    /// `.` or `..`, encoded or not.
    DotSegment,
    /// `\`, or an encoded `/` or `\`.
    Separator,
    /// NUL or another control byte.
    Control,
    /// A `%` after decoding.
    DoubleEncoding,
    /// A `%` without two hex digits.
    Encoding,
    /// A literal or encoded `*`.
    Wildcard,
    /// A `;` parameter.
    Parameter,
    /// Bytes that are no UTF-8.
    Utf8,
}

impl fmt::Display for PathRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAbsolute => "the path does not begin with '/'",
            Self::EmptySegment => "the path has an empty segment",
            Self::DotSegment => "the path has a '.' or '..' segment",
            Self::Separator => "the path has a backslash or an encoded separator",
            Self::Control => "the path has a control byte",
            Self::DoubleEncoding => "the path is percent-encoded twice",
            Self::Encoding => "the path has a '%' without two hex digits",
            Self::Wildcard => "the path has a '*'",
            Self::Parameter => "the path has a ';' parameter",
            Self::Utf8 => "the path is not UTF-8",
        })
    }
}

impl std::error::Error for PathRefused {}
