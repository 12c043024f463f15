//! Requests: what OpenSSL makes (tests/csr, one file a case), and what nobody should.

use std::fs;

use chancery_ca::local::CRYPTO;
use chancery_ca::{Algorithm, CSR_LEN_MAX, CsrRefused, KeyPolicy, KeyRefused, SubjectKey, inspect_csr};
use chancery_identity::der::{self, DerError, Writer};
use proptest::prelude::*;

use crate::support::{csr, signer};

fn file(name: &str) -> Vec<u8> {
    fs::read(format!("{}/tests/csr/{name}.der", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn inspect(name: &str) -> Result<SubjectKey, CsrRefused> {
    let all = KeyPolicy::new(CRYPTO).allow(Algorithm::EcdsaP384).allow(Algorithm::Ed25519).allow(Algorithm::Rsa);
    inspect_csr(&file(name), &all)
}

#[test]
fn good_requests_yield_their_key() {
    for (name, algorithm) in [
        ("p256", Algorithm::EcdsaP256),
        ("p384", Algorithm::EcdsaP384),
        ("ed25519", Algorithm::Ed25519),
        ("rsa2048", Algorithm::Rsa),
    ] {
        let key = inspect(name).unwrap();
        assert_eq!(key.algorithm(), algorithm);
        let request = file(name);
        assert!(request.windows(key.spki().len()).any(|window| window == key.spki()), "{name}: another key");
        assert_eq!(*key.sha256(), (CRYPTO.sha256)(key.spki()));
    }
}

#[test]
fn p256_alone_is_allowed_until_told_otherwise() {
    for name in ["p384", "ed25519", "rsa2048"] {
        let refused = inspect_csr(&file(name), &KeyPolicy::new(CRYPTO)).unwrap_err();
        assert!(matches!(refused, CsrRefused::Key(KeyRefused::NotAllowed { .. })), "{name}: {refused}");
        assert!(refused.to_string().contains("make one of: ECDSA P-256"), "{refused}");
    }
}

#[test]
fn weak_and_unknown_keys_are_refused() {
    let key = |name| match inspect(name).unwrap_err() {
        CsrRefused::Key(refused) => refused,
        other => panic!("{name}: {other}"),
    };
    assert_eq!(key("rsa1024"), KeyRefused::RsaSize(1024));
    assert_eq!(key("rsa4104"), KeyRefused::RsaSize(4104));
    assert!(matches!(key("rsa2048_e3"), KeyRefused::Rsa(_)));
    for name in ["p521", "secp256k1", "ed448", "p256_explicit"] {
        assert_eq!(key(name), KeyRefused::Unknown, "{name}");
    }
    let compressed = inspect("p256_compressed").unwrap_err();
    assert_eq!(compressed, CsrRefused::Malformed(DerError::Value("public key")));
}

#[test]
fn the_key_decides_curve_and_hash() {
    for (name, algorithm) in [
        ("p256_sha384", Algorithm::EcdsaP256),
        ("p256_sha1", Algorithm::EcdsaP256),
        ("p384_sha256", Algorithm::EcdsaP384),
        ("rsa2048_sha512", Algorithm::Rsa),
    ] {
        assert_eq!(inspect(name).unwrap_err(), CsrRefused::SignatureAlgorithm(algorithm), "{name}");
    }
}

#[test]
fn what_is_asked_for_is_refused_by_name() {
    assert_eq!(inspect("ca_true").unwrap_err(), CsrRefused::AsksForAuthority);
    assert_eq!(inspect("san_uri").unwrap_err(), CsrRefused::AsksForNames);
    assert_eq!(inspect("ca_false").unwrap_err(), CsrRefused::AsksForExtension("2.5.29.19".into()));
    assert_eq!(inspect("key_usage").unwrap_err(), CsrRefused::AsksForExtension("2.5.29.15".into()));
    let password = inspect("challenge_password").unwrap_err();
    assert_eq!(password, CsrRefused::Attribute("1.2.840.113549.1.9.7".into()));
    assert!(!password.to_string().contains("secret1"), "no value of an attribute is printed");
}

#[test]
fn an_empty_list_of_extensions_asks_for_nothing() {
    let request = csr(&*signer(), |w| {
        w.nested(der::SEQUENCE, |w| {
            w.oid(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 9, 14]);
            w.nested(der::SET, |w| {
                w.nested(der::SEQUENCE, |_| {});
            });
        });
    });
    inspect_csr(&request, &KeyPolicy::new(CRYPTO)).unwrap();
}

#[test]
fn an_authoritys_key_is_refused() {
    let signer = signer();
    let policy = KeyPolicy::new(CRYPTO).refuse((CRYPTO.sha256)(signer.public_key()));
    assert_eq!(inspect_csr(&csr(&*signer, |_| {}), &policy).unwrap_err(), CsrRefused::Key(KeyRefused::Blocked));
}

#[test]
fn a_point_of_small_order_is_refused_before_its_signature_is_believed() {
    let mut spki = Writer::new();
    spki.nested(der::SEQUENCE, |w| {
        w.raw(Algorithm::Ed25519.key_identifier()).bits(&[0; 32]);
    });
    let mut request = Writer::new();
    request.nested(der::SEQUENCE, |w| {
        w.nested(der::SEQUENCE, |w| {
            w.unsigned_64(0).nested(der::SEQUENCE, |_| {}).raw(&spki.finish());
        });
        w.raw(Algorithm::Ed25519.signature_identifier()).bits(&[0; 64]);
    });
    let policy = KeyPolicy::new(CRYPTO).allow(Algorithm::Ed25519);
    let refused = inspect_csr(&request.finish(), &policy).unwrap_err();
    assert_eq!(refused, CsrRefused::Key(KeyRefused::SmallOrder));
}

#[test]
fn another_keys_signature_is_no_proof() {
    let (one, other) = (csr(&*signer(), |_| {}), csr(&*signer(), |_| {}));
    let parts = |csr: &[u8]| {
        let mut fields = der::Reader::new(csr).nested(der::SEQUENCE).unwrap();
        [
            fields.read_any().unwrap().2.to_vec(),
            fields.read_any().unwrap().2.to_vec(),
            fields.read_any().unwrap().2.to_vec(),
        ]
    };
    let ([info, algorithm, _], [.., signature]) = (parts(&one), parts(&other));
    let mut mixed = Writer::new();
    mixed.value(der::SEQUENCE, &[info, algorithm, signature].concat());
    assert_eq!(inspect_csr(&mixed.finish(), &KeyPolicy::new(CRYPTO)).unwrap_err(), CsrRefused::Proof);
}

#[test]
fn nothing_follows_a_request() {
    for tail in [&[0][..], b"\n", &file("p256")] {
        let request = [&file("p256"), tail].concat();
        let refused = inspect_csr(&request, &KeyPolicy::new(CRYPTO)).unwrap_err();
        assert_eq!(refused, CsrRefused::Malformed(DerError::Trailing(tail.len())));
    }
    let refused = inspect_csr(&vec![0x30; CSR_LEN_MAX + 1], &KeyPolicy::new(CRYPTO)).unwrap_err();
    assert_eq!(refused, CsrRefused::TooLong(CSR_LEN_MAX + 1));
}

#[test]
fn what_rcgen_makes_is_read() {
    let key = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    inspect_csr(request.der(), &KeyPolicy::new(CRYPTO)).unwrap();
}

proptest! {
    #[test]
    fn no_change_of_a_request_passes(
        name in prop::sample::select(vec!["p256", "rsa2048", "ca_true", "san_uri", "challenge_password"]),
        at in any::<prop::sample::Index>(),
        with in proptest::collection::vec(any::<u8>(), 1..9),
        over in 0_usize..9,
    ) {
        let request = file(name);
        let at = at.index(request.len());
        let mut changed = request.clone();
        changed.splice(at..(at + over).min(request.len()), with);
        let policy = KeyPolicy::new(CRYPTO).allow(Algorithm::Rsa);
        prop_assert!(changed == request || inspect_csr(&changed, &policy).is_err());
    }
}
