//! Signed notes, [c2sp.org/signed-note](https://c2sp.org/signed-note): text that cannot be read before a signature holds.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::hash::Sha256;

/// A public key that notes are checked with. Its text, the `vkey`: `name+hex(id)+base64(0x01 ‖ public key)`.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: u32,
    public: [u8; 32],
}

impl VerifierKey {
    /// An Ed25519 key. The name should be the log's origin; it must not be empty nor contain spaces or `+`.
    pub fn ed25519(sha256: Sha256, name: &str, public: [u8; 32]) -> Result<Self, VerifierKeyError> {
        if !valid_name(name) {
            return Err(VerifierKeyError::Name);
        }
        let digest = sha256.digest(&[name.as_bytes(), b"\n", &[ED25519], &public]);
        let [a, b, c, d, ..] = digest.0;
        Ok(Self { name: name.to_owned(), id: u32::from_be_bytes([a, b, c, d]), public })
    }

    /// Reads a `vkey`. Its id must be the one that follows from name and key.
    pub fn parse(sha256: Sha256, vkey: &str) -> Result<Self, VerifierKeyError> {
        let mut parts = vkey.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(VerifierKeyError::Syntax);
        };
        let key = STANDARD.decode(key).map_err(|_| VerifierKeyError::Syntax)?;
        let (algorithm, public) = key.split_first().ok_or(VerifierKeyError::Syntax)?;
        if *algorithm != ED25519 {
            return Err(VerifierKeyError::Algorithm(*algorithm));
        }
        let public = public.try_into().map_err(|_| VerifierKeyError::Syntax)?;
        let parsed = Self::ed25519(sha256, name, public)?;
        if format!("{:08x}", parsed.id) == id { Ok(parsed) } else { Err(VerifierKeyError::Id { wanted: parsed.id }) }
    }

    /// The key's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key's id: the first four bytes of the SHA-256 of name, newline, algorithm and key.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The Ed25519 public key.
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[ED25519], self.public.as_slice()].concat();
        write!(f, "{}+{:08x}+{}", self.name, self.id, STANDARD.encode(key))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({self})")
    }
}

/// A text and its signatures. [`Note::verify`] alone gives the text.
///
/// As text: the text, an empty line, then a line for each signature, `— name base64(key id ‖ signature)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

impl Note {
    /// Signs a text with an Ed25519 key. The closure is called once, with the bytes to sign.
    ///
    /// The text must end in a newline and contain no other control character.
    pub fn sign(
        text: impl Into<String>,
        key: &VerifierKey,
        signer: impl FnOnce(&[u8]) -> [u8; 64],
    ) -> Result<Self, NoteError> {
        let text = text.into();
        if !text.ends_with('\n') || text.contains(forbidden) {
            return Err(NoteError::Text);
        }
        let bytes = signer(text.as_bytes()).to_vec();
        Ok(Self { signatures: vec![Signature { name: key.name.clone(), id: key.id, bytes }], text })
    }

    /// The text, once a signature by one of `keys` holds. `verify` takes public key, message and 64-byte signature.
    ///
    /// Signatures by other keys are ignored; one by a known key that does not hold fails the whole note.
    pub fn verify(
        &self,
        keys: &[VerifierKey],
        verify: impl Fn(&[u8; 32], &[u8], &[u8; 64]) -> bool,
    ) -> Result<&str, NoteError> {
        let mut known = 0;
        for signature in &self.signatures {
            let mut candidates =
                keys.iter().filter(|key| key.id == signature.id && key.name == signature.name).peekable();
            if candidates.peek().is_none() {
                continue;
            }
            let bytes = signature.bytes.as_slice().try_into().ok();
            let holds = |bytes| candidates.any(|key| verify(&key.public, self.text.as_bytes(), bytes));
            if !bytes.is_some_and(holds) {
                return Err(NoteError::Signature { name: signature.name.clone() });
            }
            known += 1;
        }
        if known > 0 { Ok(&self.text) } else { Err(NoteError::Unsigned { by: self.signers() }) }
    }

    /// The text's first line, not to be trusted yet: whose keys to try.
    pub(crate) fn origin(&self) -> Option<&str> {
        self.text.lines().next()
    }

    fn signers(&self) -> String {
        self.signatures.iter().map(|signature| signature.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| writeln!(f, "{signature}"))
    }
}

impl FromStr for Note {
    type Err = NoteError;

    fn from_str(note: &str) -> Result<Self, NoteError> {
        if note.len() > NOTE_LEN_MAX {
            return Err(NoteError::Length(note.len()));
        }
        if note.contains(forbidden) {
            return Err(NoteError::Text);
        }
        // "the text is separated from the signatures by the last empty line in the note"
        let (text, signatures) = note.rsplit_once("\n\n").ok_or(NoteError::Syntax)?;
        let signatures = signatures.strip_suffix('\n').ok_or(NoteError::Syntax)?;
        let signatures: Vec<Signature> = signatures.split('\n').map(str::parse).collect::<Result<_, _>>()?;
        if signatures.len() > SIGNATURES_MAX {
            return Err(NoteError::Signatures(signatures.len()));
        }
        Ok(Self { text: format!("{text}\n"), signatures })
    }
}

/// Why a `vkey` cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifierKeyError {
    /// An empty name, or one with spaces, control characters or `+`.
    #[error("wanted a key name without spaces, control characters and +, and not empty")]
    Name,
    /// Not the shape of a `vkey`.
    #[error("wanted a verifier key: name+8 hex digits+base64 of an algorithm byte and a public key")]
    Syntax,
    /// Another algorithm than Ed25519.
    #[error("wanted an Ed25519 key, algorithm 1, got algorithm {0}")]
    Algorithm(u8),
    /// The id is not that of name and key: one of the three was changed.
    #[error("wanted the key id {wanted:08x}, which name and public key give")]
    Id {
        /// The id that follows from name and key.
        wanted: u32,
    },
}

/// Why a note cannot be signed, read or trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Control characters, or no newline at the end.
    #[error("wanted a text that ends in a newline and has no other control character")]
    Text,
    /// No text, or no signature lines, or a line that is none.
    #[error("wanted a signed note: text, an empty line, then lines of the form \"— name base64\"")]
    Syntax,
    /// Too long.
    #[error("wanted a note of at most {NOTE_LEN_MAX} bytes, got {0}")]
    Length(usize),
    /// Too many signatures.
    #[error("wanted at most {SIGNATURES_MAX} signatures, got {0}")]
    Signatures(usize),
    /// The signature of a known key does not hold: text or signature was changed.
    #[error("the signature of {name} does not hold")]
    Signature {
        /// The name of the key.
        name: String,
    },
    /// No known key signed.
    #[error("wanted a signature by a known key, got signatures by {by}")]
    Unsigned {
        /// The names of the keys that did, as they call themselves.
        by: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Signature {
    name: String,
    id: u32,
    bytes: Vec<u8>,
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [self.id.to_be_bytes().as_slice(), &self.bytes].concat();
        write!(f, "— {} {}", self.name, STANDARD.encode(bytes))
    }
}

impl FromStr for Signature {
    type Err = NoteError;

    fn from_str(line: &str) -> Result<Self, NoteError> {
        let (name, bytes) = line.strip_prefix("— ").and_then(|rest| rest.split_once(' ')).ok_or(NoteError::Syntax)?;
        let bytes = STANDARD.decode(bytes).map_err(|_| NoteError::Syntax)?;
        let (id, bytes) = bytes.split_first_chunk::<4>().ok_or(NoteError::Syntax)?;
        if !valid_name(name) || bytes.is_empty() {
            return Err(NoteError::Syntax);
        }
        Ok(Self { name: name.to_owned(), id: u32::from_be_bytes(*id), bytes: bytes.to_vec() })
    }
}

/// "Key names MUST be non-empty and MUST NOT contain any Unicode spaces or plus (U+002B) characters."
fn valid_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '+' || c < ' ')
}

/// "MUST NOT contain any ASCII control characters (those below U+0020) other than newline"
fn forbidden(c: char) -> bool {
    c < ' ' && c != '\n'
}

/// The signature type byte of Ed25519.
const ED25519: u8 = 0x01;
const NOTE_LEN_MAX: usize = 1_000_000;
const SIGNATURES_MAX: usize = 100;

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use ring::signature::{ED25519 as RING_ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

    use super::*;
    use crate::naive::SHA256;

    pub(crate) struct Signer(Ed25519KeyPair);

    impl Signer {
        pub(crate) fn new(seed: u8) -> Self {
            Self(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap())
        }

        pub(crate) fn public(&self) -> [u8; 32] {
            self.0.public_key().as_ref().try_into().unwrap()
        }

        pub(crate) fn key(&self, name: &str) -> VerifierKey {
            VerifierKey::ed25519(SHA256, name, self.public()).unwrap()
        }

        pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
            self.0.sign(message).as_ref().try_into().unwrap()
        }
    }

    pub(crate) fn verify(public: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
        UnparsedPublicKey::new(&RING_ED25519, public).verify(message, signature).is_ok()
    }

    fn signed(text: &str) -> (Note, VerifierKey) {
        let signer = Signer::new(1);
        let key = signer.key("example.org/log");
        (Note::sign(text, &key, |message| signer.sign(message)).unwrap(), key)
    }

    #[test]
    fn a_key_that_others_made() {
        // The key of the Go checksum database.
        let vkey = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";
        let key = VerifierKey::parse(SHA256, vkey).unwrap();
        assert_eq!((key.name(), key.id()), ("sum.golang.org", 0x033d_e0ae));
        assert_eq!(key.to_string(), vkey);
    }

    #[test]
    fn a_key_in_disguise() {
        let parse = |vkey: &str| VerifierKey::parse(SHA256, vkey);
        let good = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";
        let id = VerifierKeyError::Id { wanted: 0x033d_e0ae };
        assert_eq!(parse(&good.replace("033de0ae", "033de0af")), Err(id));
        assert_eq!(parse(&good.replace("033de0ae", "033DE0AE")), Err(id));
        assert!(matches!(parse(&good.replace("golang", "goland")), Err(VerifierKeyError::Id { .. })));
        assert!(matches!(parse(&good.replace("Ac4z", "Ac5z")), Err(VerifierKeyError::Id { .. })));
        assert_eq!(parse(&good.replace("Ac4z", "As4z")), Err(VerifierKeyError::Algorithm(2)));
        assert_eq!(parse(&good.replace("sum.", "sum. ")), Err(VerifierKeyError::Name));
        for wrong in ["", "a", "a+b", "a+00000000+", "a+00000000+AQ==", "a+00000000+!"] {
            assert_eq!(parse(wrong), Err(VerifierKeyError::Syntax), "{wrong}");
        }
    }

    #[test]
    fn a_note_that_others_signed() {
        // The example of the specification; its key is not given there, so it is only read.
        let note = "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n\n\
            — quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n";
        let parsed: Note = note.parse().unwrap();
        assert_eq!(parsed.to_string(), note);
        assert!(parsed.text.ends_with("\n\ned è subito sera.\n"));
        assert_eq!(
            parsed.verify(&[Signer::new(1).key("quasimodo.example/salvatore")], verify),
            Err(NoteError::Unsigned { by: "quasimodo.example/salvatore".into() })
        );
    }

    #[test]
    fn strangers_are_ignored_and_known_keys_must_hold() {
        let (note, key) = signed("hello\n");
        assert_eq!(note.verify(std::slice::from_ref(&key), verify), Ok("hello\n"));

        // The name of a known key with another id, the id with another name: strangers both.
        let mut stranger = note.clone();
        stranger.signatures.insert(0, Signature { id: key.id ^ 1, ..note.signatures[0].clone() });
        stranger.signatures.push(Signature { name: "someone".into(), ..note.signatures[0].clone() });
        let stranger: Note = stranger.to_string().parse().unwrap();
        assert_eq!(stranger.verify(std::slice::from_ref(&key), verify), Ok("hello\n"));

        let failed = Err(NoteError::Signature { name: "example.org/log".into() });
        let mut forged = note.clone();
        forged.signatures.push(Signature { bytes: vec![0; 64], ..note.signatures[0].clone() });
        assert_eq!(forged.verify(std::slice::from_ref(&key), verify), failed);
        forged.signatures[1].bytes = vec![0; 63];
        assert_eq!(forged.verify(std::slice::from_ref(&key), verify), failed);

        let other = Signer::new(2).key("example.org/log");
        assert_eq!(note.verify(&[other], verify), Err(NoteError::Unsigned { by: "example.org/log".into() }));
        assert!(note.verify(&[], verify).is_err());
    }

    #[test]
    fn texts_that_would_read_differently() {
        let signer = Signer::new(1);
        let key = signer.key("k");
        for text in ["", "no newline", "tab\t\n", "return\r\n", "nul\0\n"] {
            assert_eq!(Note::sign(text, &key, |message| signer.sign(message)), Err(NoteError::Text), "{text:?}");
        }
        let (note, _) = signed("a\n");
        let note = note.to_string();
        let line = note.rsplit_once("\n\n").unwrap().1;
        for wrong in [
            "a\n".to_owned(),
            "a\n\n".to_owned(),
            format!("a\n{line}"),
            note.trim_end().to_owned(),
            format!("{note}\n"),
            format!("{note}x\n"),
            note.replace('—', "-"),
            note.replace("— ", "—  "),
            format!("a\n\n— k {}\n", STANDARD.encode([1, 2, 3, 4])),
        ] {
            assert_eq!(wrong.parse::<Note>(), Err(NoteError::Syntax), "{wrong:?}");
        }
        assert_eq!(note.replace("a\n", "a\r\n").parse::<Note>(), Err(NoteError::Text));
        assert_eq!(format!("a\n\n{}", line.repeat(101)).parse::<Note>(), Err(NoteError::Signatures(101)));
        assert!(format!("a\n\n{}", line.repeat(16)).parse::<Note>().is_ok());
        assert_eq!("a".repeat(1_000_001).parse::<Note>(), Err(NoteError::Length(1_000_001)));
    }

    proptest! {
        #[test]
        fn notes_parse_back(text in "([a-zé—+ ]{0,10}\n){1,5}") {
            let (note, key) = signed(&text);
            let parsed: Note = note.to_string().parse().unwrap();
            prop_assert_eq!(parsed.verify(&[key], verify), Ok(text.as_str()));
        }

        #[test]
        fn a_changed_note_is_refused(at: prop::sample::Index, bit in 0u8..7) {
            let (note, key) = signed("example.org/log\n42\n");
            let mut bytes = note.to_string().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            if let Ok(parsed) = std::str::from_utf8(&bytes).map_err(drop).and_then(|text| text.parse::<Note>().map_err(drop)) {
                prop_assert!(parsed.verify(&[key], verify).is_err());
            }
        }

        #[test]
        fn parsing_never_panics(text in "[a— \n=+/]{0,60}|\\PC{0,40}") {
            if let Ok(note) = text.parse::<Note>() {
                prop_assert_eq!(note.to_string(), text.as_str());
            }
            let _ = VerifierKey::parse(SHA256, &text);
        }
    }
}
