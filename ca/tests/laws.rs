//! No bytes upset the reading of certificate requests, and every one that is cut or bent is refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests panic")]

use proptest::prelude::*;

use chancery_ca::local::CRYPTO;
use chancery_ca::{KeyPolicy, inspect_csr};

#[path = "../../fuzz/bodies/ca.rs"]
mod bodies;

fn request() -> Vec<u8> {
    let key = rcgen::KeyPair::generate().unwrap();
    rcgen::CertificateParams::default().serialize_request(&key).unwrap().der().to_vec()
}

proptest! {
    #[test]
    fn no_bytes_upset_it(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        bodies::csr(&bytes);
    }

    #[test]
    fn no_splice_upsets_it(at in any::<prop::sample::Index>(), cut in 0..12_usize, piece in prop::collection::vec(any::<u8>(), 0..12)) {
        let mut der = request();
        let at = at.index(der.len());
        let end = (at + cut).min(der.len());
        der.splice(at..end, piece);
        bodies::csr(&der);
    }
}

/// Every bit of a request counts: all of it is structure, or signed, or the signature.
#[test]
fn every_flipped_bit_is_refused() {
    let keys = KeyPolicy::new(CRYPTO);
    let mut der = request();
    assert!(inspect_csr(&der, &keys).is_ok());
    for at in 0..der.len() {
        for bit in 0..8 {
            der[at] ^= 1 << bit;
            assert!(inspect_csr(&der, &keys).is_err(), "bit {bit} of byte {at}");
            der[at] ^= 1 << bit;
        }
    }
}

#[test]
fn every_truncation_is_refused() {
    let keys = KeyPolicy::new(CRYPTO);
    let der = request();
    for len in 0..der.len() {
        assert!(inspect_csr(&der[..len], &keys).is_err(), "{len} bytes");
    }
}
