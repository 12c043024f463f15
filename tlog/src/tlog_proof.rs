//! Proof files, [c2sp.org/tlog-proof](https://c2sp.org/tlog-proof): an entry's inclusion, checkable offline by itself.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::hash::{Hash, Sha256};
use crate::note::{Note, NoteError, VerifierKey};
use crate::proof::{ProofError, verify_inclusion};
use crate::tile::parse_decimal;

/// The contents of a `.tlog-proof` file: an index, an inclusion proof and the checkpoint it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlogProof {
    /// Bytes that nothing vouches for; here the salt and record, where the reader may see them.
    pub extra: Option<Vec<u8>>,
    /// The entry's index in the log.
    pub index: u64,
    /// The inclusion proof, the leaf's sibling first.
    pub path: Vec<Hash>,
    /// The log's checkpoint, with whatever signatures it has.
    pub checkpoint: Note,
}

impl TlogProof {
    /// Checks the checkpoint's signature and that the leaf is in its tree; returns the checkpoint.
    pub fn verify(
        &self,
        sha256: Sha256,
        leaf: Hash,
        origin: &str,
        keys: &[VerifierKey],
        verify: impl Fn(&[u8; 32], &[u8], &[u8; 64]) -> bool,
    ) -> Result<Checkpoint, TlogProofError> {
        let checkpoint = Checkpoint::open(&self.checkpoint, origin, keys, verify)?;
        verify_inclusion(sha256, leaf, self.index, checkpoint.tree(), &self.path)?;
        Ok(checkpoint)
    }
}

impl fmt::Display for TlogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", STANDARD.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        self.path.iter().try_for_each(|hash| writeln!(f, "{hash}"))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

impl FromStr for TlogProof {
    type Err = TlogProofError;

    fn from_str(text: &str) -> Result<Self, TlogProofError> {
        let rest = text.strip_prefix(HEADER).and_then(|rest| rest.strip_prefix('\n')).ok_or(TlogProofError::Syntax)?;
        // The proof has no empty line, so the first one ends it; the checkpoint follows verbatim.
        let (proof, checkpoint) = rest.split_once("\n\n").ok_or(TlogProofError::Syntax)?;
        let mut lines = proof.split('\n').peekable();
        let extra = match lines.peek().and_then(|line| line.strip_prefix("extra ")) {
            Some(extra) => {
                lines.next();
                Some(STANDARD.decode(extra).map_err(|_| TlogProofError::Syntax)?)
            }
            None => None,
        };
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).and_then(parse_decimal);
        let path: Result<Vec<Hash>, _> = lines.take(PATH_LEN_MAX + 1).map(str::parse).collect();
        let path = path.map_err(|_| TlogProofError::Syntax)?;
        if path.len() > PATH_LEN_MAX {
            return Err(TlogProofError::Syntax);
        }
        Ok(Self { extra, index: index.ok_or(TlogProofError::Syntax)?, path, checkpoint: checkpoint.parse()? })
    }
}

/// Why a proof file cannot be read or does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlogProofError {
    /// Not the shape of a proof file.
    #[error(
        "wanted a tlog-proof: \"{HEADER}\", an index line, at most {PATH_LEN_MAX} hashes, an empty line, a checkpoint"
    )]
    Syntax,
    /// What follows is not a signed note.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The checkpoint cannot be trusted.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The entry is not in the checkpoint's tree.
    #[error(transparent)]
    Inclusion(#[from] ProofError),
}

const HEADER: &str = "c2sp.org/tlog-proof@v1";
/// A tree below 2^63 leaves is at most 63 levels high.
const PATH_LEN_MAX: usize = 63;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::naive::{self, SHA256};
    use crate::note::tests::{Signer, verify};
    use crate::proof::Tree;

    const ORIGIN: &str = "example.org/epoch/1";

    fn proof(index: usize, size: usize, extra: Option<Vec<u8>>) -> (TlogProof, VerifierKey) {
        let signer = Signer::new(1);
        let key = signer.key(ORIGIN);
        let leaves = naive::leaves(size);
        let tree = Tree { size: size as u64, root: naive::root(&leaves) };
        let checkpoint =
            Checkpoint::new(ORIGIN, tree, vec![]).unwrap().sign(&key, |message| signer.sign(message)).unwrap();
        (TlogProof { extra, index: index as u64, path: naive::path(index, &leaves), checkpoint }, key)
    }

    #[test]
    fn holds_for_its_entry_only() {
        let leaves = naive::leaves(5);
        let (proof, key) = proof(3, 5, None);
        let keys = [key];
        assert_eq!(proof.verify(SHA256, leaves[3], ORIGIN, &keys, verify).unwrap().tree().size, 5);
        let refused = Err(TlogProofError::Inclusion(ProofError::Root));
        assert_eq!(proof.verify(SHA256, leaves[2], ORIGIN, &keys, verify), refused);
        let moved = TlogProof { index: 2, ..proof.clone() };
        assert_eq!(moved.verify(SHA256, leaves[3], ORIGIN, &keys, verify), refused);
        assert!(matches!(proof.verify(SHA256, leaves[3], ORIGIN, &[], verify), Err(TlogProofError::Checkpoint(_))));
        assert!(matches!(proof.verify(SHA256, leaves[3], "other", &keys, verify), Err(TlogProofError::Checkpoint(_))));
    }

    #[test]
    fn text_that_is_no_proof() {
        let (proof, _) = proof(3, 5, Some(b"x".to_vec()));
        let text = proof.to_string();
        assert_eq!(text.lines().take(3).collect::<Vec<_>>(), ["c2sp.org/tlog-proof@v1", "extra eA==", "index 3"]);
        for wrong in [
            String::new(),
            text.replace("@v1", "@v2"),
            text.replace("index 3\n", ""),
            text.replace("index 3", "index 03"),
            text.replace("index 3", "index -3"),
            text.replace("eA==", "eA"),
            text.replace("extra eA==\nindex 3", "index 3\nextra eA=="),
            text.replace("index 3\n", &format!("index 3\n{}", format!("{}\n", proof.path[0]).repeat(61))),
        ] {
            assert_eq!(wrong.parse::<TlogProof>(), Err(TlogProofError::Syntax), "{wrong}");
        }
        assert!(matches!(text.trim_end().parse::<TlogProof>(), Err(TlogProofError::Note(_))));
    }

    proptest! {
        #[test]
        fn parses_back(size in 1usize..80, index: prop::sample::Index, extra: Option<Vec<u8>>) {
            let (proof, key) = proof(index.index(size), size, extra);
            let parsed: TlogProof = proof.to_string().parse().unwrap();
            prop_assert_eq!(&parsed, &proof);
            let leaf = naive::leaves(size)[index.index(size)];
            prop_assert!(parsed.verify(SHA256, leaf, ORIGIN, &[key], verify).is_ok());
        }

        #[test]
        fn parsing_never_panics(rest in "(extra [a-zA-Z=]{0,6}\n)?(index [0-9]{0,3}\n)?[a\n— =]{0,40}") {
            let text = format!("{HEADER}\n{rest}");
            if let Ok(proof) = text.parse::<TlogProof>() {
                prop_assert_eq!(proof.to_string(), text);
            }
            let _ = rest.parse::<TlogProof>();
        }
    }
}
