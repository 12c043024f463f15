//! The join string: one line of text that tells a workload which issuer to meet, how to know it, and what to show it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// `https://host:port#chj_<secret>_<root pin>`: where the issuer is, what to show it, and the root that proves it is the
/// right one. `Debug` hides the secret; `Display` is the whole string and prints it.
///
/// ```
/// use chancery_api::{JoinSecret, JoinString, RootPin};
///
/// let join = JoinString::new("https://ca.internal:8443", JoinSecret::from_bytes([7; 32]), RootPin::from_bytes([9; 32]))?;
/// assert_eq!(join.to_string().parse::<JoinString>()?, join);
/// assert!(!format!("{join:?}").contains(&join.secret().to_string()));
/// # Ok::<(), chancery_api::JoinStringError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinString {
    issuer: Box<str>,
    secret: JoinSecret,
    pin: RootPin,
}

impl JoinString {
    /// Puts the three parts together.
    ///
    /// # Errors
    /// When `issuer` is not `https://` host, optionally `:port`, and nothing after it but one optional `/`.
    pub fn new(issuer: &str, secret: JoinSecret, pin: RootPin) -> Result<Self, JoinStringError> {
        Ok(Self { issuer: origin(issuer)?, secret, pin })
    }

    /// The issuer's URL, `https://host:port`, without a `/` at its end.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// What proves the right to join.
    pub const fn secret(&self) -> &JoinSecret {
        &self.secret
    }

    /// What the issuer's root must be.
    pub const fn pin(&self) -> RootPin {
        self.pin
    }
}

impl FromStr for JoinString {
    type Err = JoinStringError;

    fn from_str(text: &str) -> Result<Self, JoinStringError> {
        let (issuer, rest) = text.trim().split_once('#').ok_or(JoinStringError::Form)?;
        let (secret, pin) = rest.rsplit_once('_').ok_or(JoinStringError::Form)?;
        Self::new(issuer, secret.parse()?, pin.parse()?)
    }
}

impl fmt::Display for JoinString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { issuer, secret, pin } = self;
        write!(f, "{issuer}#{secret}_")?;
        pin.write_hex(f)
    }
}

/// The secret of a join token: 32 random bytes, as text `chj_` and 52 letters of base32. `Debug` hides it, `Display`
/// prints it; its memory is cleared on drop.
#[derive(Clone)]
pub struct JoinSecret(Zeroizing<[u8; 32]>);

impl JoinSecret {
    /// From 32 random bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes; what rests in the issuer's database is their digest.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Looks at every byte, so that its time does not tell how far two secrets agree.
impl PartialEq for JoinSecret {
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0.iter()).fold(0, |differing, (a, b)| differing | (a ^ b)) == 0
    }
}

impl Eq for JoinSecret {}

impl FromStr for JoinSecret {
    type Err = JoinStringError;

    fn from_str(text: &str) -> Result<Self, JoinStringError> {
        let letters = text.strip_prefix(PREFIX).ok_or(JoinStringError::Secret)?;
        from_base32(letters.as_bytes()).map(Self).ok_or(JoinStringError::Secret)
    }
}

impl fmt::Display for JoinSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        write_base32(&self.0, f)
    }
}

impl fmt::Debug for JoinSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}…")
    }
}

/// The SHA-256 of a root certificate's DER. As text `sha256:` and 64 lower hex digits; parses with or without the prefix.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RootPin([u8; 32]);

impl RootPin {
    /// From the digest itself.
    pub const fn from_bytes(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// The digest itself.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn write_hex(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for RootPin {
    type Err = JoinStringError;

    fn from_str(text: &str) -> Result<Self, JoinStringError> {
        from_hex(text.strip_prefix("sha256:").unwrap_or(text).as_bytes()).map(Self).ok_or(JoinStringError::Pin)
    }
}

impl fmt::Display for RootPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.write_hex(f)
    }
}

impl fmt::Debug for RootPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! serde_as_text {
    ($($type:ty),+) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}

serde_as_text!(JoinString, JoinSecret, RootPin);

#[cfg(feature = "openapi")]
macro_rules! schema_as_text {
    ($($type:ident $example:literal),+ $(,)?) => {$(
        impl utoipa::PartialSchema for $type {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                use utoipa::openapi::schema::{ObjectBuilder, Type};
                ObjectBuilder::new().schema_type(Type::String).examples([$example]).into()
            }
        }

        impl utoipa::ToSchema for $type {}
    )+};
}

#[cfg(feature = "openapi")]
schema_as_text!(JoinString "https://ca.internal:8443#chj_h4oa47m…_3f1c0e7d…", JoinSecret "chj_h4oa47m…");

/// The text is no join string, or the named part of it is none. Never holds what came: it may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinStringError {
    /// Not `URL#chj_<secret>_<pin>`.
    Form,
    /// The URL is not `https://host:port`.
    Issuer,
    /// The secret is not `chj_` and 52 letters of base32.
    Secret,
    /// The pin is not 64 lower hex digits.
    Pin,
}

impl fmt::Display for JoinStringError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "not a join string: wanted https://host:port#chj_…, copied whole as the issuer printed it",
            Self::Issuer => "not an issuer's URL: wanted https://host:port and nothing after it",
            Self::Secret => "not a join token: wanted chj_ and 52 of a-z and 2-7; was it copied whole?",
            Self::Pin => "not a root pin: wanted 64 hex digits of SHA-256; was it copied whole?",
        })
    }
}

impl std::error::Error for JoinStringError {}

const PREFIX: &str = "chj_";
/// RFC 4648 §6, in lower case and without padding.
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const BASE32_LEN: usize = 52;

fn origin(url: &str) -> Result<Box<str>, JoinStringError> {
    let url = url.strip_suffix('/').unwrap_or(url);
    let authority = url.strip_prefix("https://").ok_or(JoinStringError::Issuer)?;
    let (host, port) = match authority.rsplit_once(':') {
        // The colons of an IPv6 address stand in brackets.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let host_ok = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok()),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)),
    };
    let port_ok = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|n| n > 0 && n.to_string() == port));
    if host_ok && port_ok { Ok(url.into()) } else { Err(JoinStringError::Issuer) }
}

fn write_base32(bytes: &[u8; 32], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    use fmt::Write;

    let (mut pending, mut width) = (0_u16, 0);
    // A last zero byte fills up the last letter; 32 bytes are 51 letters and one bit.
    for byte in bytes.iter().chain([&0]) {
        pending = pending << 8 | u16::from(*byte);
        width += 8;
        while width >= 5 {
            width -= 5;
            let index = usize::from(pending >> width & 0x1f);
            f.write_char(char::from(*BASE32.get(index).unwrap_or(&b'?')))?;
        }
    }
    Ok(())
}

/// One spelling for each secret: the unused bits of the last letter must be zero.
fn from_base32(letters: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    if letters.len() != BASE32_LEN {
        return None;
    }
    let mut bytes = Zeroizing::new([0; 32]);
    let mut free = bytes.iter_mut();
    let (mut pending, mut width) = (0_u16, 0);
    for letter in letters {
        let value = match letter {
            b'a'..=b'z' => letter - b'a',
            b'2'..=b'7' => letter - b'2' + 26,
            _ => return None,
        };
        pending = pending << 5 | u16::from(value);
        width += 5;
        if width >= 8 {
            width -= 8;
            *free.next()? = u8::try_from(pending >> width & 0xff).ok()?;
            pending &= (1 << width) - 1;
        }
    }
    (pending == 0).then_some(bytes)
}

fn from_hex(digits: &[u8]) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let (pairs, rest) = digits.as_chunks::<2>();
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        let digit = |c: u8| match c {
            b'0'..=b'9' => Some(c - b'0'),
            b'a'..=b'f' => Some(c - b'a' + 10),
            _ => None,
        };
        let [high, low] = *pair;
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_join_string_parses_back(secret: [u8; 32], pin: [u8; 32], port in 1_u16..) {
            let join = JoinString::new(
                &format!("https://ca.internal:{port}"), JoinSecret::from_bytes(secret), RootPin::from_bytes(pin),
            ).unwrap();
            let text = join.to_string();
            let parsed: JoinString = text.parse().unwrap();
            prop_assert_eq!(parsed.secret().bytes(), &secret);
            prop_assert_eq!(parsed.pin(), RootPin::from_bytes(pin));
            prop_assert_eq!(parsed.to_string(), text);
        }

        #[test]
        fn whatever_parses_is_the_one_spelling(text in "https://[a-z0-9:/\\[\\].@?-]{1,20}#chj_[a-z2-7]{52}_[0-9a-f]{64}") {
            if let Ok(join) = text.parse::<JoinString>() {
                prop_assert_eq!(join.to_string(), text.replacen("/#", "#", 1));
            }
        }
    }

    const SECRET: &str = "chj_aeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaq";

    #[test]
    fn base32_is_that_of_rfc_4648() {
        assert_eq!(JoinSecret::from_bytes([1; 32]).to_string(), SECRET);
        assert_eq!(SECRET.parse::<JoinSecret>().unwrap().bytes(), &[1; 32]);
    }

    #[test]
    fn each_part_is_refused_by_its_name() {
        let pin = "0".repeat(64);
        let parse = |text: String| text.parse::<JoinString>().unwrap_err();
        assert_eq!(parse(format!("https://ca:1{SECRET}_{pin}")), JoinStringError::Form);
        for issuer in [
            "http://ca:1",
            "https://",
            "https://ca:0",
            "https://ca:01",
            "https://ca/x",
            "https://u@ca",
            "https://[::g]",
        ] {
            assert_eq!(parse(format!("{issuer}#{SECRET}_{pin}")), JoinStringError::Issuer, "{issuer}");
        }
        let uneven = format!("{}b", &SECRET[..SECRET.len() - 1]);
        assert_eq!(parse(format!("https://ca:1#{uneven}_{pin}")), JoinStringError::Secret);
        assert_eq!(parse(format!("https://ca:1#{}_{pin}", &SECRET[1..])), JoinStringError::Secret);
        assert_eq!(parse(format!("https://ca:1#{SECRET}_{}", &pin[1..])), JoinStringError::Pin);
        assert_eq!(parse(format!("https://[::1]:1#{SECRET}_{}", pin.replace('0', "A"))), JoinStringError::Pin);
    }

    #[test]
    fn nothing_but_display_shows_the_secret() {
        let join: JoinString = format!("https://ca:1#{SECRET}_{}", "0".repeat(64)).parse().unwrap();
        assert!(!format!("{join:?}").contains(&SECRET[4..]));
    }
}
