//! The canonical spelling of JSON: compact and ASCII. The order of keys is that of the fields, which tests keep sorted.

use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// Writes a value of ours: one whose map keys are strings, and which has no fallible serialisation.
pub(crate) fn to_bytes<T: Serialize>(value: &T) -> Vec<u8> {
    // Most records have 500 to 1,200 bytes.
    let mut bytes = Vec::with_capacity(1536);
    #[expect(clippy::expect_used, reason = "writing to a Vec does not fail, nor does any type of a record")]
    value.serialize(&mut Serializer::with_formatter(&mut bytes, Ascii)).expect("records serialise");
    bytes
}

/// Compact, with every character above U+007F as `\u` and four lower hex digits a UTF-16 unit.
struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W: io::Write + ?Sized>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if fragment.is_ascii() {
            return writer.write_all(fragment.as_bytes());
        }
        for character in fragment.chars() {
            if character.is_ascii() {
                write!(writer, "{character}")?;
            } else {
                character.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(writer, "\\u{unit:04x}"))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_what_is_not_ascii() {
        assert_eq!(to_bytes(&"é𝄞\n\"\u{1}\u{7f}"), b"\"\\u00e9\\ud834\\udd1e\\n\\\"\\u0001\x7f\"");
        assert_eq!(to_bytes(&serde_json::json!({"b": [1, null], "a": {}})), br#"{"a":{},"b":[1,null]}"#);
    }

    proptest! {
        #[test]
        fn any_text_survives(text: String) {
            let bytes = to_bytes(&text);
            prop_assert!(bytes.is_ascii());
            prop_assert_eq!(serde_json::from_slice::<String>(&bytes).unwrap(), text);
        }
    }
}
