//! Leaves: what the profile says, what it refuses, and what others make of them.

use std::time::Duration;

use chancery_ca::{Claims, Refused, SignError, StatusUrl, TTL_MIN};
use chancery_identity::{Leaf, ScopeSet, oid};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use x509_cert::der::{Decode, Encode, oid::AssociatedOid};
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName, SubjectKeyIdentifier};

use crate::crl::crl;
use crate::support::{DAY, HOUR, NOW, World, claims, domain, grant, key, ready, scopes, serial, status, world};

#[test]
fn a_leaf_says_what_was_planned() {
    let world = world();
    let leaf = world.leaf(claims());
    let read = Leaf::read(leaf.der()).unwrap();
    assert_eq!(read.certificate(), &**leaf.certificate());
    assert_eq!(read.spki(), leaf.key().spki());
    assert_eq!(read.scopes(), ["tools/call:crm/get_customer", "tools/call:crm/refund"]);
    assert!(read.subject_empty() && read.san_critical());
    assert_eq!(read.extended_key_usages(), Some(&[oid::SERVER_AUTH, oid::CLIENT_AUTH][..]));
    assert_eq!(read.serial().len(), 16);
    // A minute back and in whole seconds; the last second is included.
    assert_eq!(read.not_before().to_string(), "2026-11-21T13:59:00.000Z");
    assert_eq!(read.not_after().to_string(), "2026-11-21T14:59:59.000Z");
    let at = read.certificate().grant.as_ref().unwrap().attestation.at;
    assert_eq!(at, NOW.floor_to_second(), "the grant's time is cut to what its extension can hold");
}

#[test]
fn a_foreign_parser_reads_the_same() {
    let world = world();
    let der = world.leaf(Claims { dns_names: vec!["crm.internal".into()], ..claims() }).der().to_vec();
    let parsed = x509_cert::Certificate::from_der(&der).unwrap();
    assert_eq!(parsed.to_der().unwrap(), der, "DER written again is the same");
    let tbs = parsed.tbs_certificate();
    let extension = |id: x509_cert::der::oid::ObjectIdentifier| {
        tbs.extensions().unwrap().iter().find(|extension| extension.extn_id == id).unwrap()
    };
    let constraints = BasicConstraints::from_der(extension(BasicConstraints::OID).extn_value.as_bytes()).unwrap();
    assert!(!constraints.ca && extension(BasicConstraints::OID).critical);
    let usage = KeyUsage::from_der(extension(KeyUsage::OID).extn_value.as_bytes()).unwrap();
    assert!(usage.digital_signature() && usage.0.into_iter().count() == 1);
    let purposes = ExtendedKeyUsage::from_der(extension(ExtendedKeyUsage::OID).extn_value.as_bytes()).unwrap();
    assert_eq!(purposes.0.len(), 2);
    let names = SubjectAltName::from_der(extension(SubjectAltName::OID).extn_value.as_bytes()).unwrap();
    assert_eq!(names.0.len(), 4);
    let id = SubjectKeyIdentifier::from_der(extension(SubjectKeyIdentifier::OID).extn_value.as_bytes()).unwrap();
    // RFC 7093 §2 method 1.
    let bits = tbs.subject_public_key_info().subject_public_key.raw_bytes();
    assert_eq!(id.0.as_bytes(), &ring::digest::digest(&ring::digest::SHA256, bits).as_ref()[..20]);
}

#[test]
fn webpki_accepts_a_leaf_and_refuses_a_revoked_one() {
    let world = world();
    let leaf = world.leaf(claims());
    let root = crl(world.root.certificate(), |plan| world.root.sign_crl(plan), []);
    let none = crl(world.issuing.certificate(), |plan| world.issuing.sign_crl(plan), []);
    let revoked = crl(world.issuing.certificate(), |plan| world.issuing.sign_crl(plan), [leaf.certificate().serial]);
    assert_eq!(webpki_verdict(&world, leaf.der(), &[]), Ok(()));
    assert_eq!(webpki_verdict(&world, leaf.der(), &[root.der(), none.der()]), Ok(()));
    assert_eq!(webpki_verdict(&world, leaf.der(), &[root.der(), revoked.der()]), Err(webpki::Error::CertRevoked));
    let issuing = world.issuing.certificate().serial();
    let root = crl(world.root.certificate(), |plan| world.root.sign_crl(plan), [issuing]);
    assert_eq!(webpki_verdict(&world, leaf.der(), &[root.der(), none.der()]), Err(webpki::Error::CertRevoked));
}

fn webpki_verdict(world: &World, leaf: &[u8], crls: &[&[u8]]) -> Result<(), webpki::Error> {
    let (leaf, root) = (CertificateDer::from(leaf), CertificateDer::from(world.root.certificate().der()));
    let issuing = [CertificateDer::from(world.issuing.certificate().der())];
    let anchor = webpki::anchor_from_trusted_cert(&root).unwrap();
    let crls: Vec<_> = crls
        .iter()
        .map(|der| CertificateRevocationListDer::from(*der))
        .map(|der| webpki::BorrowedCertRevocationList::from_der(&der).unwrap().to_owned().unwrap())
        .map(webpki::CertRevocationList::from)
        .collect();
    let crls: Vec<_> = crls.iter().collect();
    // Every authority of the chain must be covered, and no CRL be over.
    let revocation = webpki::RevocationOptionsBuilder::new(&crls).ok().map(|builder| {
        builder
            .with_depth(webpki::RevocationCheckDepth::Chain)
            .with_status_policy(webpki::UnknownStatusPolicy::Deny)
            .with_expiration_policy(webpki::ExpirationPolicy::Enforce)
            .build()
    });
    let now = UnixTime::since_unix_epoch(Duration::from_secs(NOW.unix_seconds().unsigned_abs()));
    let leaf = webpki::EndEntityCert::try_from(&leaf)?;
    for usage in [webpki::KeyUsage::client_auth(), webpki::KeyUsage::server_auth()] {
        leaf.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            std::slice::from_ref(&anchor),
            &issuing,
            now,
            usage,
            revocation,
            None,
        )?;
    }
    Ok(())
}

#[test]
fn what_bounds_a_leaf_shortens_it() {
    let world = world();
    let late = claims();
    let planned = |not_after, now| {
        world.profile.plan(key(), Claims { not_after, ..late.clone() }, serial(9), now).map(|p| p.certificate().clone())
    };
    let end = world.issuing.certificate().not_after();
    assert_eq!(world.profile.not_after(), end);
    assert_eq!(planned(NOW + 100 * DAY, NOW).unwrap().not_after, end);
    // notBefore never lies before the authority's own.
    assert_eq!(planned(NOW + HOUR, NOW).unwrap().not_before, world.issuing.certificate().not_before());
    let later = NOW + HOUR;
    assert_eq!(planned(later + HOUR, later).unwrap().not_before, (later - Duration::from_secs(60)).floor_to_second());
    // Two minutes are the least, the last second included.
    let least = NOW + TTL_MIN - Duration::from_secs(1);
    assert!(planned(least, NOW).is_ok());
    let refused = planned(least - Duration::from_secs(1), NOW).unwrap_err();
    assert!(matches!(refused, Refused::TooShort { .. }), "{refused}");
    assert!(matches!(planned(end + HOUR, end), Err(Refused::TooShort { .. })));
}

#[test]
fn claims_that_cannot_stand_in_a_leaf_are_refused() {
    let world = world();
    let refused = |claims| world.profile.plan(key(), claims, serial(9), NOW).unwrap_err();
    let id = |text: &str| Claims { spiffe_id: text.parse().unwrap(), ..claims() };
    assert!(matches!(refused(id("spiffe://elsewhere.test/agent/a")), Refused::TrustDomain { .. }));
    assert_eq!(refused(id("spiffe://example.org")), Refused::NoPath);
    assert_eq!(refused(Claims { grant: None, ..claims() }), Refused::ScopesWithoutGrant);
    for name in ["*.internal", "Upper.internal", "a..b", "", "-a.internal", "a_b.internal", &"a".repeat(64)] {
        let claims = Claims { dns_names: vec![name.into()], ..claims() };
        assert_eq!(refused(claims), Refused::DnsName(name.into()));
    }
    let long: Vec<String> = (0..20).map(|i| format!("tools/call:crm/{i}{}", "x".repeat(230))).collect();
    let long = ScopeSet::new(long.iter().map(|scope| scope.parse().unwrap())).unwrap();
    assert!(matches!(refused(Claims { scopes: long, ..claims() }), Refused::TooLong(_)));
}

#[test]
fn a_leaf_without_scopes_or_grant_is_the_issuers_own() {
    let own = Claims { spiffe_id: domain().server(), scopes: ScopeSet::default(), grant: None, ..claims() };
    let leaf = world().leaf(own);
    assert_eq!(Leaf::read(leaf.der()).unwrap().grant_der(), None);
}

#[test]
fn the_largest_leaf_fits() {
    let scopes: Vec<String> = (0..64).map(|i| format!("tools/call:crm/{i}{}", "x".repeat(14))).collect();
    let scopes = ScopeSet::new(scopes.iter().map(|scope| scope.parse().unwrap())).unwrap();
    let der = world().leaf(Claims { scopes, ..claims() }).der().to_vec();
    assert!(der.len() <= chancery_identity::LEAF_LEN_MAX, "{}", der.len());
}

#[test]
fn a_leaf_planned_for_one_authority_is_not_signed_by_another() {
    let (one, other) = (world(), world());
    let linted = one.profile.plan(key(), claims(), serial(9), NOW).unwrap().lint().unwrap();
    assert!(matches!(ready(other.issuing.sign(linted)), Err(SignError::OtherAuthority { .. })));
}

#[test]
fn a_plan_that_no_reader_would_read_back_is_found() {
    let world = world();
    let mut grant = grant();
    // More than the extension's reader takes.
    grant.depth_left = 9;
    let planned = world.profile.plan(key(), Claims { grant: Some(grant), ..claims() }, serial(9), NOW).unwrap();
    let lints: Vec<_> = planned.lint().unwrap_err().iter().map(|finding| finding.lint()).collect();
    assert_eq!(lints, ["grant", "as_planned"]);
}

#[test]
fn scopes_stand_sorted_whatever_their_order_was() {
    let world = world();
    let leaf = |scopes| world.leaf(Claims { scopes, ..claims() }).certificate().clone();
    let (one, other) = (scopes(["b:crm/b", "a:crm/a"]), scopes(["a:crm/a", "b:crm/b"]));
    assert_eq!(leaf(one).scopes, leaf(other).scopes);
}

#[test]
fn a_status_url_is_a_base_and_nothing_more() {
    for good in ["http://status.internal", "http://127.0.0.1:8080", "https://a.b/c", "http://[::1]:80"] {
        assert_eq!(good.parse::<StatusUrl>().unwrap().as_str(), good);
    }
    for bad in
        ["ftp://a", "http://", "http:///x", "http://a/", "http://a?x", "http://a#x", "http://a b", "http://u@a", ""]
    {
        assert!(bad.parse::<StatusUrl>().is_err(), "{bad}");
    }
    let id = world().issuing.key_id();
    assert_eq!(status().crl(id), format!("http://status.internal/crl/{id}.crl"));
    assert_eq!(status().certificate(id), format!("http://status.internal/ca/{id}.crt"));
    assert_eq!(status().ocsp(), "http://status.internal/ocsp");
}
