//! No bytes upset the reading of certificate requests and OCSP requests, and every one of the former that is cut or bent is
//! refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests panic")]

use proptest::prelude::*;

use chancery_ca::local::CRYPTO;
use chancery_ca::{KeyPolicy, OcspRequest, inspect_csr};
use chancery_identity::der::{self, Writer, context_constructed};

#[path = "../../fuzz/bodies/ca.rs"]
mod bodies;

fn request() -> Vec<u8> {
    let key = rcgen::KeyPair::generate().unwrap();
    rcgen::CertificateParams::default().serialize_request(&key).unwrap().der().to_vec()
}

/// An OCSP request as a client writes it: two certificates, one by SHA-1 and one by SHA-256, and a nonce.
fn ocsp_request() -> Vec<u8> {
    let id = |digest: &[u8], len: usize| {
        let mut writer = Writer::new();
        writer.nested(der::SEQUENCE, |w| {
            w.nested(der::SEQUENCE, |w| {
                w.nested(der::SEQUENCE, |w| {
                    w.oid(digest).value(der::NULL, &[]);
                });
                w.octets(&vec![1; len]).octets(&vec![2; len]).unsigned(&[0x41; 16]);
            });
        });
        writer.finish()
    };
    let ids = [id(&[0x2b, 14, 3, 2, 26], 20), id(&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1], 32)].concat();
    let mut writer = Writer::new();
    writer.nested(der::SEQUENCE, |w| {
        w.nested(der::SEQUENCE, |w| {
            w.nested(der::SEQUENCE, |w| {
                w.raw(&ids);
            });
            w.nested(context_constructed(2), |w| {
                w.nested(der::SEQUENCE, |w| {
                    w.nested(der::SEQUENCE, |w| {
                        w.oid(&[0x2b, 6, 1, 5, 5, 7, 48, 1, 2]).nested(der::OCTET_STRING, |w| {
                            w.octets(&[7; 32]);
                        });
                    });
                });
            });
        });
    });
    writer.finish()
}

/// What the bodies hold of every request holds of one that is read, and each of its prefixes is refused.
#[test]
fn an_ocsp_request_is_read_whole_or_not_at_all() {
    let der = ocsp_request();
    let request = OcspRequest::read(&der).unwrap();
    assert_eq!((request.certificates().len(), request.nonce().map(|nonce| nonce.bytes().len())), (2, Some(32)));
    bodies::ocsp_request(&der);
    for len in 0..der.len() {
        assert!(OcspRequest::read(&der[..len]).is_err(), "{len} bytes");
    }
}

proptest! {
    #[test]
    fn no_bytes_upset_the_reading_of_ocsp_requests(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        bodies::ocsp_request(&bytes);
    }

    #[test]
    fn no_splice_upsets_it_either(at in any::<prop::sample::Index>(), cut in 0..12_usize, piece in prop::collection::vec(any::<u8>(), 0..12)) {
        let mut der = ocsp_request();
        let at = at.index(der.len());
        let end = (at + cut).min(der.len());
        der.splice(at..end, piece);
        bodies::ocsp_request(&der);
    }

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
