//! Keys that certificates are made for: which kinds, and which known to be weak.

use std::collections::HashSet;
use std::fmt;

use chancery_identity::KeyId;
use chancery_identity::der::{self, Reader};

use crate::algorithm::PublicKey;
use crate::{Algorithm, Crypto};

/// RSA keys have at least this many bits.
const RSA_BITS_MIN: usize = 2048;
/// And at most this many: the key stands in every certificate, and each verifier pays for it.
const RSA_BITS_MAX: usize = 4096;

/// A public key whose holder proved to have its private half. Only [`inspect_csr`](crate::inspect_csr) makes one.
#[derive(Clone, PartialEq, Eq)]
pub struct SubjectKey {
    spki: Box<[u8]>,
    algorithm: Algorithm,
    sha256: [u8; 32],
    key_id: KeyId,
}

impl SubjectKey {
    pub(crate) fn new(key: &PublicKey<'_>, crypto: Crypto) -> Self {
        let sha256 = (crypto.sha256)(key.spki);
        Self { spki: key.spki.into(), algorithm: key.algorithm, sha256, key_id: key_id(key.bits, crypto) }
    }

    /// The SubjectPublicKeyInfo, DER.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 of the SubjectPublicKeyInfo: what keys are compared by.
    pub const fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// Its kind.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The SubjectKeyIdentifier.
    pub(crate) const fn key_id(&self) -> KeyId {
        self.key_id
    }
}

impl fmt::Debug for SubjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SubjectKey({}, ", self.algorithm)?;
        self.sha256.iter().try_for_each(|b| write!(f, "{b:02x}"))?;
        f.write_str(")")
    }
}

/// Which keys may be certified. P-256 alone until told otherwise.
#[derive(Clone, Debug)]
pub struct KeyPolicy {
    crypto: Crypto,
    allowed: Vec<Algorithm>,
    refused: HashSet<[u8; 32]>,
}

impl KeyPolicy {
    /// P-256 alone.
    pub fn new(crypto: Crypto) -> Self {
        Self { crypto, allowed: vec![Algorithm::EcdsaP256], refused: HashSet::new() }
    }

    /// Allows a further kind of key. RSA means 2048 to 4096 bits and an odd exponent of at least 65537.
    #[must_use]
    pub fn allow(mut self, algorithm: Algorithm) -> Self {
        if !self.allowed.contains(&algorithm) {
            self.allowed.push(algorithm);
        }
        self
    }

    /// Refuses the key whose SubjectPublicKeyInfo has this SHA-256: an authority's own, or one known to be in other hands.
    #[must_use]
    pub fn refuse(mut self, spki_sha256: [u8; 32]) -> Self {
        self.refused.insert(spki_sha256);
        self
    }

    pub(crate) const fn crypto(&self) -> Crypto {
        self.crypto
    }

    pub(crate) fn admit(&self, key: &PublicKey<'_>) -> Result<(), KeyRefused> {
        if !self.allowed.contains(&key.algorithm) {
            return Err(KeyRefused::NotAllowed { came: key.algorithm, allowed: self.allowed.clone() });
        }
        match key.algorithm {
            Algorithm::Rsa => rsa(key.bits)?,
            Algorithm::Ed25519 if small_order(key.bits) => return Err(KeyRefused::SmallOrder),
            // That the point is on the curve, the verification of the signature by it decides.
            Algorithm::Ed25519 | Algorithm::EcdsaP256 | Algorithm::EcdsaP384 => {}
        }
        let blocked = !self.refused.is_empty() && self.refused.contains(&(self.crypto.sha256)(key.spki));
        if blocked { Err(KeyRefused::Blocked) } else { Ok(()) }
    }
}

/// The SubjectKeyIdentifier of a key: RFC 7093 §2 method 1, the leftmost 160 bits of the SHA-256 of the BIT STRING's bytes.
pub(crate) fn key_id(bits: &[u8], crypto: Crypto) -> KeyId {
    let digest = (crypto.sha256)(bits);
    KeyId::from_bytes(digest.first_chunk().copied().unwrap_or_default())
}

fn rsa(bits: &[u8]) -> Result<(), KeyRefused> {
    let malformed = |_| KeyRefused::Rsa("malformed");
    let mut outer = Reader::new(bits);
    let mut fields = outer.nested(der::SEQUENCE).map_err(malformed)?;
    outer.finish().map_err(malformed)?;
    let modulus = fields.unsigned().map_err(malformed)?;
    let exponent = fields.unsigned_64().map_err(|_| KeyRefused::Rsa("its exponent is larger than 64 bits"))?;
    fields.finish().map_err(malformed)?;
    let leading = modulus.first().map_or(0, |b| b.leading_zeros());
    let size = (modulus.len() * 8).saturating_sub(usize::try_from(leading).unwrap_or(8));
    if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&size) {
        return Err(KeyRefused::RsaSize(size));
    }
    if exponent < 65_537 || exponent % 2 == 0 {
        return Err(KeyRefused::Rsa("its exponent is even or below 65537"));
    }
    const SMALL_PRIMES: [u32; 12] = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37];
    if SMALL_PRIMES.iter().any(|&p| remainder(modulus, p) == 0) {
        return Err(KeyRefused::Rsa("its modulus has a small factor"));
    }
    if roca(modulus) { Err(KeyRefused::Roca) } else { Ok(()) }
}

/// CVE-2017-15361: primes of the affected library are powers of 65537 modulo every small prime, and so are their products.
/// A sound modulus passes for one of them at all these primes about once in 2^28.
fn roca(modulus: &[u8]) -> bool {
    const PRIMES: [u32; 17] = [11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157];
    PRIMES.iter().all(|&p| {
        let wanted = remainder(modulus, p);
        let powers = std::iter::successors(Some(1), |power| Some(power * 65_537 % u64::from(p)));
        powers.take(usize::try_from(p).unwrap_or(0)).any(|power| power == u64::from(wanted))
    })
}

fn remainder(big_endian: &[u8], divisor: u32) -> u32 {
    big_endian.iter().fold(0, |rest, &byte| ((rest << 8) | u32::from(byte)) % divisor)
}

/// The points whose order divides 8, in each of their encodings (the sign bit aside): everyone can sign for them.
fn small_order(point: &[u8]) -> bool {
    const ORDER_8: [[u8; 32]; 2] = [
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
            0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
        ],
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
            0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
        ],
    ];
    let Some((first, [middle @ .., last])) = point.split_first() else { return false };
    let last = last & 0x7f;
    // y is 0 or 1, or p-1, p or p+1 with p = 2^255 - 19.
    let near_zero = *first <= 1 && middle.iter().all(|&b| b == 0) && last == 0;
    let near_p = (0xec..=0xee).contains(first) && middle.iter().all(|&b| b == 0xff) && last == 0x7f;
    let order_8 = |known: &[u8; 32]| {
        let [start @ .., end] = known;
        point.strip_prefix(start.as_slice()).is_some_and(|_| last == *end)
    };
    near_zero || near_p || ORDER_8.iter().any(order_8)
}

/// The key is none that may be certified.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyRefused {
    /// The policy does not allow the kind.
    #[error("{came} keys are not allowed here; make one of: {}", list(allowed))]
    NotAllowed {
        /// The key's kind.
        came: Algorithm,
        /// What the policy allows.
        allowed: Vec<Algorithm>,
    },
    /// None of the kinds that exist here.
    #[error("the key's algorithm is none of ECDSA P-256, ECDSA P-384, Ed25519 and RSA")]
    Unknown,
    /// Too few or too many bits.
    #[error("an RSA key has 2048 to 4096 bits, this one {0}")]
    RsaSize(usize),
    /// An RSA key that is weak for another reason.
    #[error("weak RSA key: {0}; make a new key")]
    Rsa(&'static str),
    /// CVE-2017-15361.
    #[error("weak RSA key: made by a library whose keys can be factored (CVE-2017-15361); make a new key elsewhere")]
    Roca,
    /// An Ed25519 point that everyone can sign for.
    #[error("weak Ed25519 key: a point of small order; make a new key")]
    SmallOrder,
    /// An authority's own key, or one known to be in other hands.
    #[error("this key may not be certified: it is an authority's or known to be in other hands; make a new key")]
    Blocked,
}

fn list(allowed: &[Algorithm]) -> String {
    allowed.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 65537^128, which is a power of 65537 modulo everything.
    fn power_of_65537() -> Vec<u8> {
        (0..128).fold(vec![1], |number, _| {
            // n * 65537 = (n << 16) + n
            let mut sum = number.clone();
            sum.extend([0, 0]);
            let mut carry = 0_u16;
            for (i, digit) in sum.iter_mut().rev().enumerate() {
                let other = number.iter().rev().nth(i).copied().unwrap_or(0);
                let total = u16::from(*digit) + u16::from(other) + carry;
                *digit = total.to_be_bytes()[1];
                carry = total >> 8;
            }
            assert_eq!(carry, 0, "the top never overflows");
            sum
        })
    }

    #[test]
    fn the_roca_fingerprint_is_seen_and_one_more_is_none() {
        let mut modulus = power_of_65537();
        assert!(roca(&modulus));
        let last = modulus.pop();
        modulus.extend(last.map(|last| last + 2));
        assert!(!roca(&modulus));
    }

    #[test]
    fn weak_rsa_keys_are_refused_for_what_they_are() {
        let key = |modulus: &[u8], exponent| {
            let mut writer = der::Writer::new();
            writer.nested(der::SEQUENCE, |w| {
                w.unsigned(modulus).unsigned_64(exponent);
            });
            rsa(&writer.finish())
        };
        let roca = power_of_65537();
        assert_eq!(key(&roca, 65_537), Err(KeyRefused::Roca));
        assert!(matches!(key(&roca, 65_538), Err(KeyRefused::Rsa(_))));
        assert!(matches!(key(&roca, 17), Err(KeyRefused::Rsa(_))));
        let even = [roca.as_slice(), &[0]].concat();
        assert!(matches!(key(&even, 65_537), Err(KeyRefused::Rsa(_))));
        assert_eq!(key(&[0x7f; 256], 65_537), Err(KeyRefused::RsaSize(2047)));
        assert_eq!(key(&[], 65_537), Err(KeyRefused::RsaSize(0)));
    }

    #[test]
    fn points_of_small_order_are_seen_with_either_sign() {
        for start in [0x00, 0x01] {
            let mut point = [0; 32];
            point[0] = start;
            assert!(small_order(&point));
            point[31] = 0x80;
            assert!(small_order(&point));
            point[7] = 1;
            assert!(!small_order(&point));
        }
        let mut p = [0xff; 32];
        for start in [0xec, 0xed, 0xee] {
            p[0] = start;
            assert!(small_order(&p));
        }
        p[0] = 0xeb;
        assert!(!small_order(&p));
    }
}
