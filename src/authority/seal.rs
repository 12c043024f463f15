//! The seal: what keeps the authorities' private keys at rest, and what other lasting secrets are derived from.
//!
//! ChaCha20-Poly1305 under a key derived for each kind of authority from the 32 bytes of the provider, with the identity
//! of the sealed key as associated data, so that one sealed key cannot be put in the place of another. It protects a
//! copied database; it does not protect against whoever can read the provider and the database both.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ring::aead::{self, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::SecureRandom;
use ring::{hkdf, hmac};
use zeroize::Zeroizing;

use crate::config::SealSource;

/// The sealing key, in memory.
pub struct Seal {
    secret: Zeroizing<[u8; 32]>,
}

/// Which key a sealed blob holds.
#[derive(Clone, Copy, Debug)]
pub struct KeyLabel<'a> {
    /// `root` or `issuing`.
    pub kind: &'a str,
    /// The key id in hex.
    pub key_id: &'a str,
    /// The trust domain.
    pub trust_domain: &'a str,
}

impl Seal {
    /// Reads the provider.
    ///
    /// # Errors
    /// A provider that cannot be read, that others can read too, or that does not hold 32 bytes.
    pub fn open(source: &SealSource) -> Result<Self, SealError> {
        let path = match source {
            SealSource::File(path) => {
                check_mode(path)?;
                path.clone()
            }
            SealSource::Credential(name) => {
                let folder = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or(SealError::NoCredentials)?;
                PathBuf::from(folder).join(name)
            }
        };
        let bytes =
            Zeroizing::new(std::fs::read(&path).map_err(|source| SealError::Read { path: path.clone(), source })?);
        let secret =
            <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| SealError::Length { path, len: bytes.len() })?;
        Ok(Self { secret: Zeroizing::new(secret) })
    }

    /// Makes a provider file with a fresh key, readable by its owner only.
    ///
    /// # Errors
    /// The file exists or cannot be written, or there is no randomness.
    pub fn create(path: &Path, rng: &dyn SecureRandom) -> Result<(), SealError> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let mut secret = Zeroizing::new([0; 32]);
        rng.fill(secret.as_mut()).map_err(|_| SealError::Random)?;
        let written = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        written
            .and_then(|mut file| file.write_all(secret.as_ref()).and_then(|()| file.sync_all()))
            .map_err(|source| SealError::Read { path: path.into(), source })
    }

    /// Seals a private key.
    ///
    /// # Errors
    /// No randomness.
    pub fn seal(&self, label: KeyLabel<'_>, plain: &[u8], rng: &dyn SecureRandom) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_LEN];
        rng.fill(&mut nonce).map_err(|_| SealError::Random)?;
        let mut sealed = plain.to_vec();
        self.key(label.kind)?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), label.aad(), &mut sealed)
            .map_err(|_| SealError::Random)?;
        sealed.splice(0..0, nonce);
        Ok(sealed)
    }

    /// Opens a sealed private key.
    ///
    /// # Errors
    /// Another seal, another label, or altered bytes: which of them cannot be told.
    pub fn unseal(&self, label: KeyLabel<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let wrong = || SealError::Wrong { key_id: label.key_id.into() };
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>().ok_or_else(wrong)?;
        let mut plain = Zeroizing::new(rest.to_vec());
        let len = self
            .key(label.kind)?
            .open_in_place(Nonce::assume_unique_for_key(*nonce), label.aad(), &mut plain)
            .map_err(|_| wrong())?
            .len();
        plain.truncate(len);
        Ok(plain)
    }

    /// The key of the nonces that signing evidence is over, the same after a restart.
    ///
    /// Another one for each epoch of the log: a database that was put back does not know which nonces are spent.
    ///
    /// # Errors
    /// None that a trust domain's name can bring about.
    pub fn nonce_key(&self, trust_domain: &str, epoch: u64) -> Result<hmac::Key, SealError> {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"chancery nonce v1");
        let epoch = epoch.to_be_bytes();
        let info = [epoch.as_slice(), trust_domain.as_bytes()];
        let derived = salt.extract(self.secret.as_ref());
        let okm = derived.expand(&info, hmac::HMAC_SHA256).map_err(|_| SealError::Random)?;
        Ok(hmac::Key::from(okm))
    }

    /// Root and issuing keys are sealed under different keys.
    fn key(&self, kind: &str) -> Result<LessSafeKey, SealError> {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"chancery seal v1");
        let info = [kind.as_bytes()];
        let derived = salt.extract(self.secret.as_ref());
        let okm = derived.expand(&info, &aead::CHACHA20_POLY1305).map_err(|_| SealError::Random)?;
        Ok(LessSafeKey::new(UnboundKey::from(okm)))
    }
}

impl KeyLabel<'_> {
    fn aad(&self) -> Aad<Vec<u8>> {
        Aad::from(format!("{}\0{}\0{}", self.trust_domain, self.kind, self.key_id).into_bytes())
    }
}

fn check_mode(path: &Path) -> Result<(), SealError> {
    let metadata = std::fs::metadata(path).map_err(|source| SealError::Read { path: path.into(), source })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(SealError::Mode { path: path.into(), mode }) }
}

/// The seal cannot be had, or does not open what it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The provider cannot be read or made.
    #[error("cannot use the seal {}; make one with: (umask 077; head -c 32 /dev/urandom > {})", path.display(), path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Others than its owner can read it.
    #[error("the seal {} has mode {mode:03o}; others can read it: chmod 600 {}", path.display(), path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Not 32 bytes.
    #[error("the seal {} holds {len} bytes; wanted 32 random ones", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// What it holds.
        len: usize,
    },
    /// `credential:` without systemd's folder.
    #[error("CREDENTIALS_DIRECTORY is not set; start the service by systemd with LoadCredential=, or use file:")]
    NoCredentials,
    /// It opens nothing.
    #[error(
        "the seal does not open key {key_id}: it is another seal than the one that closed it, or the key was altered"
    )]
    Wrong {
        /// The key.
        key_id: String,
    },
    /// No randomness.
    #[error("the system gives no randomness")]
    Random,
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use ring::rand::SystemRandom;

    use super::*;

    const ROOT: KeyLabel<'_> = KeyLabel { kind: "root", key_id: "ab", trust_domain: "example.org" };

    #[test]
    fn only_the_same_seal_and_label_open_it() {
        let rng = SystemRandom::new();
        let seal = Seal { secret: Zeroizing::new([7; 32]) };
        let sealed = seal.seal(ROOT, b"key", &rng).unwrap();
        assert_eq!(seal.unseal(ROOT, &sealed).unwrap().as_slice(), b"key");

        assert!(Seal { secret: Zeroizing::new([8; 32]) }.unseal(ROOT, &sealed).is_err());
        for label in [
            KeyLabel { kind: "issuing", ..ROOT },
            KeyLabel { key_id: "ac", ..ROOT },
            KeyLabel { trust_domain: "example.com", ..ROOT },
        ] {
            assert!(seal.unseal(label, &sealed).is_err(), "{label:?}");
        }
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            *altered.get_mut(at).unwrap() ^= 1;
            assert!(seal.unseal(ROOT, &altered).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_key_of_nonces_is_of_one_seal_one_trust_domain_and_one_epoch() {
        let seal = |byte| Seal { secret: Zeroizing::new([byte; 32]) };
        let tag = |seal: Seal, trust_domain, epoch| {
            let key = seal.nonce_key(trust_domain, epoch).unwrap();
            hmac::sign(&key, b"nonce").as_ref().to_vec()
        };
        let ours = tag(seal(7), "example.org", 1);
        assert_eq!(tag(seal(7), "example.org", 1), ours);
        for other in [tag(seal(8), "example.org", 1), tag(seal(7), "example.com", 1), tag(seal(7), "example.org", 2)] {
            assert_ne!(other, ours);
        }
    }
}
