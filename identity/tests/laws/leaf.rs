//! The leaf reader: what it takes, each flaw that it names, and that no bytes upset it.

use proptest::prelude::*;

use chancery_identity::der::DerError;
use chancery_identity::{GrantError, KeyId, Leaf, LeafError, ScopeError, SpiffeIdError, oid};

use crate::bodies;
use crate::certificates::{Flaw, domain, full_grant, instance, leaf, now, with};

#[test]
fn it_says_what_the_certificate_says() {
    let der = leaf();
    let leaf = Leaf::read(&der).unwrap();
    assert_eq!(leaf.spiffe_id(), domain().agent(&"invoice-bot".parse().unwrap(), instance()).as_str());
    assert_eq!(leaf.scopes(), ["resources/read:docs/**", "tools/call:crm/get_customer"]);
    assert_eq!(leaf.dns_names(), ["bot.example.org"]);
    assert_eq!(leaf.not_before(), now());
    assert_eq!(leaf.not_after().since(now()).as_secs(), 3599);
    assert!(leaf.subject_empty() && leaf.san_critical());
    assert_eq!(leaf.extended_key_usages(), Some([oid::SERVER_AUTH, oid::CLIENT_AUTH].as_slice()));
    assert_eq!(leaf.authority_key_id(), Some([6; 20].as_slice()));
    assert_eq!(leaf.spki().first(), Some(&0x30));
    let certificate = leaf.into_certificate();
    assert_eq!(certificate.grant, Some(full_grant()));
    assert_eq!(certificate.authority, KeyId::from_bytes([6; 20]));
    assert_eq!(certificate.scopes.len(), 2);
}

#[test]
fn each_flaw_is_named() {
    use LeafError as E;
    let usage = |what| E::KeyUsage(what);
    let cases = [
        (Flaw::Version2, E::Version),
        (Flaw::NoVersion, E::Version),
        (Flaw::ZeroSerial, E::Serial),
        (Flaw::NegativeSerial, E::Der(DerError::Negative)),
        (Flaw::LongSerial, E::Serial),
        (Flaw::OtherAlgorithm, E::SignatureAlgorithm),
        (Flaw::NoExtensions, E::NoSpiffeId),
        (Flaw::NoUri, E::NoSpiffeId),
        (Flaw::TwoUris, E::ManyUris(2)),
        (Flaw::UriNotSpiffe, E::SpiffeId(SpiffeIdError::Scheme("https://example.org/agent".into()))),
        (Flaw::UriWithoutPath, E::NoPath),
        (Flaw::UriNotAscii, E::Der(DerError::Value("IA5String"))),
        (Flaw::Authority, E::Authority),
        (Flaw::PathLengthOnLeaf, E::Der(DerError::Trailing(3))),
        (Flaw::NoKeyUsage, usage("absent")),
        (Flaw::KeyUsageNotCritical, usage("not critical")),
        (Flaw::KeyUsageEmpty, usage("empty")),
        (Flaw::KeyCertSign, usage("signs certificates or CRLs")),
        (Flaw::CrlSign, usage("signs certificates or CRLs")),
        (Flaw::NoDigitalSignature, usage("without digitalSignature")),
        (Flaw::UnknownCritical, E::UnknownCritical),
        (Flaw::ExtensionTwice, E::ExtensionTwice),
        (Flaw::ScopesWithoutGrant, E::ScopesWithoutGrant),
        (Flaw::TwoGrants, E::TwoGrants),
        (Flaw::GrantVersion2, E::Grant(GrantError::Version(2))),
        (Flaw::BadGrant, E::Grant(GrantError::Der(DerError::Truncated))),
        (Flaw::BadScope, E::Scope(ScopeError::Shape("tools/call".into()))),
        (Flaw::AnySystemScope, E::Scope(ScopeError::System("*".into()))),
        (Flaw::TooManyScopes, E::Scope(ScopeError::TooMany(65))),
        (Flaw::TrailingInCertificate, E::Der(DerError::Trailing(2))),
        (Flaw::TrailingAfterCertificate, E::Der(DerError::Trailing(1))),
        (Flaw::TrailingInExtensions, E::Der(DerError::Trailing(2))),
    ];
    for (flaw, why) in cases {
        assert_eq!(Leaf::read(&with(flaw)).expect_err(&format!("{flaw:?}")), why, "{flaw:?}");
    }
}

#[test]
fn what_it_does_not_know_and_need_not_know_is_left_aside() {
    for flaw in [Flaw::UnknownNotCritical, Flaw::ForeignOtherName] {
        let der = with(flaw);
        let leaf = Leaf::read(&der).unwrap_or_else(|error| panic!("{flaw:?}: {error}"));
        assert_eq!(leaf.scopes().len(), 2);
    }
}

#[test]
fn every_truncation_is_refused() {
    let der = leaf();
    for len in 0..der.len() {
        assert!(Leaf::read(&der[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn no_flipped_bit_upsets_it() {
    let mut der = leaf();
    for at in 0..der.len() {
        for bit in 0..8 {
            der[at] ^= 1 << bit;
            bodies::leaf(&der);
            der[at] ^= 1 << bit;
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_upset_it(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        bodies::leaf(&bytes);
    }

    #[test]
    fn no_splice_upsets_it(from in 0..900_usize, len in 0..40_usize, with in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut der = leaf();
        let from = from.min(der.len());
        let to = (from + len).min(der.len());
        der.splice(from..to, with);
        bodies::leaf(&der);
    }
}
