//! Checkpoints, [c2sp.org/tlog-checkpoint](https://c2sp.org/tlog-checkpoint): a log's signed statement of its tree.

use std::fmt;

use crate::hash::Hash;
use crate::note::{Note, NoteError, VerifierKey};
use crate::proof::Tree;
use crate::tile::parse_decimal;

/// Which log, how many entries, what they hash to, and lines of the log's own.
///
/// As text: origin, size and base64 root on a line each, then the extension lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    origin: String,
    tree: Tree,
    extensions: Vec<String>,
}

impl Checkpoint {
    /// Origin and extension lines must not be empty nor contain control characters.
    pub fn new(origin: impl Into<String>, tree: Tree, extensions: Vec<String>) -> Result<Self, CheckpointError> {
        let origin = origin.into();
        if !valid_line(&origin) {
            return Err(CheckpointError::Origin(origin));
        }
        if let Some(line) = extensions.iter().find(|line| !valid_line(line)) {
            return Err(CheckpointError::Extension(line.clone()));
        }
        Ok(Self { origin, tree, extensions })
    }

    /// Signs it. The key's name should be the origin.
    ///
    /// A log must never sign two checkpoints of which one does not continue the other: that is the caller's to keep.
    pub fn sign(&self, key: &VerifierKey, signer: impl FnOnce(&[u8]) -> [u8; 64]) -> Result<Note, NoteError> {
        Note::sign(self.to_string(), key, signer)
    }

    /// Reads a note signed by one of `keys`, by the log `origin`: a key may sign for more than one log.
    pub fn open(
        note: &Note,
        origin: &str,
        keys: &[VerifierKey],
        verify: impl Fn(&[u8; 32], &[u8], &[u8; 64]) -> bool,
    ) -> Result<Self, CheckpointError> {
        let checkpoint = Self::parse(note.verify(keys, verify)?)?;
        if checkpoint.origin == origin {
            Ok(checkpoint)
        } else {
            Err(CheckpointError::OtherLog { wanted: origin.to_owned(), got: checkpoint.origin })
        }
    }

    /// The log.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Its tree: size and root.
    pub fn tree(&self) -> Tree {
        self.tree
    }

    /// The lines after the third.
    pub fn extensions(&self) -> &[String] {
        &self.extensions
    }

    fn parse(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text.strip_suffix('\n').ok_or(CheckpointError::Syntax)?.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(CheckpointError::Syntax);
        };
        let size = parse_decimal(size).ok_or(CheckpointError::Syntax)?;
        let root: Hash = root.parse().map_err(|_| CheckpointError::Syntax)?;
        Self::new(origin, Tree { size, root }, lines.map(str::to_owned).collect())
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.tree.size, self.tree.root)?;
        self.extensions.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// Why a checkpoint cannot be made, read or trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The note is not signed by a known key.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Fewer than three lines, a size with leading zeroes or above 2^63 − 1, a root that is no hash.
    #[error("wanted a checkpoint: origin, decimal tree size and base64 root hash on a line each")]
    Syntax,
    /// The origin is empty or has control characters.
    #[error("wanted an origin that is not empty and has no control characters, got {0:?}")]
    Origin(String),
    /// An extension line is empty or has control characters.
    #[error("wanted extension lines that are not empty and have no control characters, got {0:?}")]
    Extension(String),
    /// The checkpoint is another log's.
    #[error("wanted a checkpoint of {wanted}, got one of {got}")]
    OtherLog {
        /// The log that was asked about.
        wanted: String,
        /// The log that the checkpoint names.
        got: String,
    },
}

fn valid_line(line: &str) -> bool {
    !line.is_empty() && !line.contains(|c: char| c < ' ')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::naive::{self, SHA256};
    use crate::note::tests::{Signer, verify};

    const ORIGIN: &str = "example.org/epoch/1";

    fn tree() -> Tree {
        Tree { size: 3, root: naive::root(&naive::leaves(3)) }
    }

    fn open(text: &str) -> Result<Checkpoint, CheckpointError> {
        let signer = Signer::new(1);
        let key = signer.key("k");
        let note = Note::sign(text, &key, |message| signer.sign(message)).unwrap();
        Checkpoint::open(&note, ORIGIN, &[key], verify)
    }

    #[test]
    fn reads_what_it_signs() {
        let signer = Signer::new(1);
        let key = signer.key(ORIGIN);
        let checkpoint = Checkpoint::new(ORIGIN, tree(), vec!["epoch 1".into(), "n 1841".into()]).unwrap();
        let note = checkpoint.sign(&key, |message| signer.sign(message)).unwrap().to_string();
        assert_eq!(
            Checkpoint::open(&note.parse().unwrap(), ORIGIN, std::slice::from_ref(&key), verify),
            Ok(checkpoint)
        );

        let grown: Note = note.replacen("\n3\n", "\n4\n", 1).parse().unwrap();
        let failed = CheckpointError::Note(NoteError::Signature { name: ORIGIN.into() });
        assert_eq!(Checkpoint::open(&grown, ORIGIN, std::slice::from_ref(&key), verify), Err(failed));
        let other = CheckpointError::OtherLog { wanted: "example.org/epoch/2".into(), got: ORIGIN.into() };
        assert_eq!(Checkpoint::open(&note.parse().unwrap(), "example.org/epoch/2", &[key], verify), Err(other));
    }

    #[test]
    fn reads_what_go_signed() {
        // Made with golang.org/x/mod/sumdb/note: the empty tree, signed by the log and by a stranger.
        let key = VerifierKey::parse(SHA256, "go.example/log+d9bebb21+Af0XJDhaoMdbZPt4zWAvodmR/ev3axPFjtcC6sg16fYY");
        let note = "go.example/log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\nextension\n\n\
            — go.example/log 2b67IWd0GiLzHuyan8ZTvKFC7Kg+yWShzzCEGnuj5uAxJwuVlbXXWQJGQzKey50yIGCbiVlN3PfRpTaxrba1JVGJxQE=\n\
            — stranger.example lSUBWJxMo+FXUZATOIFF6oOqdbr4oV2OndcEOUiAA09eWI2TwP4b0xnN1cWMAK8bJUpmsyTYCBOPN9YaTuucZU0cSw4=\n";
        let checkpoint = Checkpoint::open(&note.parse().unwrap(), "go.example/log", &[key.unwrap()], verify).unwrap();
        assert_eq!(checkpoint.tree(), Tree { size: 0, root: naive::root(&[]) });
        assert_eq!(checkpoint.extensions(), ["extension"]);
    }

    #[test]
    fn lines_that_are_no_checkpoint() {
        let root = tree().root;
        assert!(open(&format!("{ORIGIN}\n3\n{root}\n")).is_ok());
        for text in [
            format!("{ORIGIN}\n"),
            format!("{ORIGIN}\n3\n"),
            format!("{ORIGIN}\n03\n{root}\n"),
            format!("{ORIGIN}\n+3\n{root}\n"),
            format!("{ORIGIN}\n-3\n{root}\n"),
            format!("{ORIGIN}\n\n{root}\n"),
            format!("{ORIGIN}\n9223372036854775808\n{root}\n"),
            format!("{ORIGIN}\n3\n{root}=\n"),
            format!("{ORIGIN}\n3\nabc\n"),
        ] {
            assert_eq!(open(&text), Err(CheckpointError::Syntax), "{text}");
        }
        assert_eq!(open(&format!("\n3\n{root}\n")), Err(CheckpointError::Origin(String::new())));
        assert_eq!(open(&format!("{ORIGIN}\n3\n{root}\n\nx\n")), Err(CheckpointError::Extension(String::new())));
        assert_eq!(Checkpoint::new("a\nb", tree(), vec![]), Err(CheckpointError::Origin("a\nb".into())));
        assert_eq!(Checkpoint::new("a", tree(), vec!["\n".into()]), Err(CheckpointError::Extension("\n".into())));
    }

    proptest! {
        #[test]
        fn one_spelling_for_each_checkpoint(text in "[a\n]{0,3}\n[0-9]{0,3}\n([A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=\n)?[a\n]{0,4}") {
            if let Ok(checkpoint) = Checkpoint::parse(&text) {
                prop_assert_eq!(checkpoint.to_string(), text);
            }
        }
    }
}
