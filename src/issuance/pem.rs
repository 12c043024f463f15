//! PEM (RFC 7468): certificates written, requests read.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// One section, with lines of 64 characters.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let mut pem = String::with_capacity(len(label, der));
    push(&mut pem, label, der);
    pem
}

/// Appends a section.
pub(super) fn push(text: &mut String, label: &str, der: &[u8]) {
    text.extend(["-----BEGIN ", label, "-----\n"]);
    let encoded = STANDARD.encode(der);
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, next) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = next;
    }
    text.extend(["-----END ", label, "-----\n"]);
}

/// Room for a section.
pub(super) fn len(label: &str, der: &[u8]) -> usize {
    // Four characters for three bytes and a line break for 48, each begun; 32 more around the two labels.
    4 * der.len().div_ceil(3) + der.len().div_ceil(48) + 2 * label.len() + 32
}

/// The contents of a text's one section, if it is of this label. Words before and after it are no part of it (RFC 7468 §2).
///
/// What is read is public: it need not take the same time whatever it says, as a decoder of keys must.
pub(super) fn only(label: &str, text: &str) -> Option<Vec<u8>> {
    let (_, section) = text.split_once(BEGIN)?;
    let section = section.strip_prefix(label)?.strip_prefix("-----")?;
    let (encoded, after) = section.split_once("-----END ")?;
    let after = after.strip_prefix(label)?.strip_prefix("-----")?;
    if after.contains(BEGIN) {
        return None;
    }
    let mut characters = Vec::with_capacity(encoded.len());
    encoded.split_ascii_whitespace().for_each(|line| characters.extend_from_slice(line.as_bytes()));
    STANDARD.decode(characters).ok()
}

const BEGIN: &str = "-----BEGIN ";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LABEL: &str = "CERTIFICATE REQUEST";

    proptest! {
        #[test]
        fn what_was_written_is_read(der: Vec<u8>, before in "[a-z :\n]{0,40}", after in "[a-z :\n]{0,40}") {
            let text = pem(LABEL, &der);
            prop_assert!(text.len() <= len(LABEL, &der));
            prop_assert_eq!(only(LABEL, &text.replace('\n', "\r\n")), Some(der.clone()));
            prop_assert_eq!(only(LABEL, &[before, text, after].concat()), Some(der));
        }

        #[test]
        fn any_text_is_read_or_refused(start in "(-----BEGIN CERTIFICATE REQUEST-----)?", text: String) {
            only(LABEL, &(start + &text));
        }
    }

    #[test]
    fn another_section_before_or_after_is_refused() {
        let (request, key) = (pem(LABEL, b"request"), pem("PRIVATE KEY", b"key"));
        assert_eq!(only(LABEL, &request), Some(b"request".to_vec()));
        for text in [[&*key, &request], [&request, &key], [&request, &request], [&key, ""], ["", ""]] {
            assert_eq!(only(LABEL, &text.concat()), None, "{text:?}");
        }
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        let whole = pem(LABEL, b"request");
        for (from, to) in
            [("-----END", "----END"), ("END CERT", "END NEW CERT"), ("cmVx", "cm!x"), ("==", "="), ("==", "")]
        {
            let broken = whole.replace(from, to);
            assert_ne!(broken, whole);
            assert_eq!(only(LABEL, &broken), None, "{broken}");
        }
    }
}
