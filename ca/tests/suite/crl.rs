//! CRLs: the rows of RFC 5280 §5 that concern a complete one, and what others make of it.

use chancery_ca::{AuthorityCertificate, CrlEntry, CrlHead, CrlNumber, CrlPlan, CrlRefused, SignError, SignedCrl};
use chancery_identity::der::{self, Reader};
use chancery_identity::{Reason, Serial, Timestamp, oid};
use proptest::prelude::*;
use rustls_pki_types::CertificateRevocationListDer;
use x509_cert::crl::CertificateList;
use x509_cert::der::{Decode, Encode, oid::ObjectIdentifier};

use crate::support::{HOUR, NOW, ready, serial, world};

const CRL_STATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.32473.3");
const CRL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.20");
const AUTHORITY_KEY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.35");
const REASON_CODE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.21");

pub(crate) fn crl<F: Future<Output = Result<SignedCrl, SignError>>>(
    authority: &AuthorityCertificate,
    sign: impl FnOnce(CrlPlan) -> F,
    serials: impl IntoIterator<Item = Serial>,
) -> SignedCrl {
    let entries = serials.into_iter().map(|serial| entry(serial, Reason::KeyCompromise));
    ready(sign(CrlPlan::new(authority, head(), entries).unwrap())).unwrap()
}

fn entry(serial: Serial, reason: Reason) -> CrlEntry {
    CrlEntry { serial, revoked_at: NOW, reason }
}

fn head() -> CrlHead {
    CrlHead { number: CrlNumber::after(None, NOW), this_update: NOW, next_update: NOW + HOUR, epoch: 3, n: 1841 }
}

fn signed(entries: Vec<CrlEntry>) -> (SignedCrl, CertificateList, AuthorityCertificate) {
    let world = world();
    let plan = CrlPlan::new(world.issuing.certificate(), head(), entries).unwrap();
    let signed = ready(world.issuing.sign_crl(plan)).unwrap();
    let parsed = CertificateList::from_der(signed.der()).unwrap();
    assert_eq!(parsed.to_der().unwrap(), signed.der(), "DER written again is the same");
    (signed, parsed, world.issuing.certificate().clone())
}

#[test]
fn an_empty_list_has_no_list() {
    let (signed, parsed, authority) = signed(Vec::new());
    let tbs = &parsed.tbs_cert_list;
    assert_eq!(tbs.version, x509_cert::Version::V2);
    assert_eq!(tbs.signature, parsed.signature_algorithm);
    assert_eq!(tbs.issuer.to_der().unwrap(), authority.subject());
    assert!(tbs.revoked_certificates.is_none());
    assert_eq!(tbs.this_update.to_unix_duration().as_secs(), NOW.unix_seconds().unsigned_abs());
    assert_eq!(tbs.next_update.unwrap().to_unix_duration().as_secs(), (NOW + HOUR).unix_seconds().unsigned_abs());
    assert_eq!(signed.head().this_update, NOW.floor_to_second());
    assert_eq!(signed.authority(), authority.key_id());
    // AKI, number and state; no IDP, and nothing critical.
    let extensions = tbs.crl_extensions.as_ref().unwrap();
    assert_eq!(extensions.len(), 3);
    assert!(extensions.iter().all(|extension| !extension.critical));
    let value = |id| extensions.iter().find(|e| e.extn_id == id).unwrap().extn_value.as_bytes().to_vec();
    assert_eq!(value(AUTHORITY_KEY_ID), [&[0x30, 22, 0x80, 20][..], authority.key_id().bytes()].concat());
    let number = value(CRL_NUMBER);
    assert_eq!(Reader::new(&number).unsigned_64(), Ok(1_795_269_600_250_000_000));
    let state = value(CRL_STATE);
    let mut state = Reader::new(&state).nested(der::SEQUENCE).unwrap();
    assert_eq!((state.unsigned_64(), state.unsigned_64(), state.at_end()), (Ok(3), Ok(1841), true));
    assert_eq!(CRL_STATE.as_bytes(), oid::CRL_STATE);
}

#[test]
fn reasons_stand_but_for_the_unspecified() {
    let entries: Vec<_> = (1_u8..).zip(Reason::ALL).map(|(i, &reason)| entry(serial(i), reason)).collect();
    let (_, parsed, _) = signed(entries.clone());
    let revoked = parsed.tbs_cert_list.revoked_certificates.unwrap();
    assert_eq!(revoked.len(), Reason::ALL.len());
    for (revoked, wanted) in revoked.iter().zip(entries) {
        assert_eq!(revoked.serial_number.as_bytes(), wanted.serial.bytes());
        let reason = revoked.crl_entry_extensions.iter().flatten().find(|e| e.extn_id == REASON_CODE);
        let wanted = (wanted.reason != Reason::Unspecified).then(|| vec![der::ENUMERATED, 1, wanted.reason.code()]);
        assert_eq!(reason.map(|e| e.extn_value.as_bytes().to_vec()), wanted);
        assert!(revoked.crl_entry_extensions.iter().flatten().all(|e| !e.critical));
    }
}

#[test]
fn webpki_reads_each_entry_and_no_other() {
    let serials: Vec<_> = (1..=200).map(serial).collect();
    let world = world();
    let signed = crl(world.issuing.certificate(), |plan| world.issuing.sign_crl(plan), serials.clone());
    let der = CertificateRevocationListDer::from(signed.der());
    let list = webpki::BorrowedCertRevocationList::from_der(&der).unwrap();
    let listed: Vec<_> = list.into_iter().map(Result::unwrap).collect();
    let found: Vec<_> = listed.iter().map(|entry| Serial::from_bytes(entry.serial_number).unwrap()).collect();
    assert_eq!(found, serials);
    assert!(listed.iter().all(|entry| entry.reason_code == Some(webpki::RevocationReason::KeyCompromise)));
}

#[test]
fn nothing_is_revoked_after_the_list_was_made() {
    let late = CrlEntry { revoked_at: NOW + HOUR, ..entry(serial(1), Reason::Unspecified) };
    let (_, parsed, _) = signed(vec![late]);
    let tbs = parsed.tbs_cert_list;
    assert_eq!(tbs.revoked_certificates.unwrap()[0].revocation_date, tbs.this_update);
}

#[test]
fn order_is_asked_for_and_checked() {
    let world = world();
    let plan = |serials: &[u8]| {
        let entries: Vec<_> = serials.iter().map(|&last| entry(serial(last), Reason::Unspecified)).collect();
        CrlPlan::new(world.issuing.certificate(), head(), entries).map(drop)
    };
    assert_eq!(plan(&[1, 2, 3]), Ok(()));
    assert_eq!(plan(&[1, 1]), Err(CrlRefused::Order(serial(1))));
    assert_eq!(plan(&[2, 1]), Err(CrlRefused::Order(serial(1))));
    let short = Serial::from_bytes(&[0xff]).unwrap();
    let entries = [entry(short, Reason::Unspecified), entry(serial(1), Reason::Unspecified)];
    assert!(CrlPlan::new(world.issuing.certificate(), head(), entries).is_ok(), "order is that of numbers");
}

#[test]
fn a_list_lasts_longer_than_it_takes() {
    let world = world();
    let over = CrlHead { next_update: NOW, ..head() };
    let refused = CrlPlan::new(world.issuing.certificate(), over, []).unwrap_err();
    assert!(matches!(refused, CrlRefused::Over { .. }));
}

#[test]
fn a_list_planned_for_one_authority_is_not_signed_by_another() {
    let world = world();
    let plan = CrlPlan::new(world.root.certificate(), head(), []).unwrap();
    assert!(matches!(ready(world.issuing.sign_crl(plan)), Err(SignError::OtherAuthority { .. })));
}

#[test]
fn times_from_2050_on_are_generalized() {
    let world = world();
    let at: Timestamp = "2050-01-01T00:00:00Z".parse().unwrap();
    let late = CrlHead { this_update: at, next_update: at + HOUR, ..head() };
    let entries = [CrlEntry { revoked_at: at, ..entry(serial(1), Reason::Unspecified) }];
    let plan = CrlPlan::new(world.issuing.certificate(), late, entries).unwrap();
    let signed = ready(world.issuing.sign_crl(plan)).unwrap();
    let parsed: CertificateList = CertificateList::from_der(signed.der()).unwrap();
    assert!(matches!(parsed.tbs_cert_list.this_update, x509_cert::time::Time::GeneralTime(_)));
}

#[test]
fn a_long_list_is_made_whole() {
    const COUNT: u64 = 100_000;
    let world = world();
    let entries = (0..COUNT).map(|i| {
        let [a, b, c, d, e, f, g, h] = i.to_be_bytes();
        entry(Serial::compose(NOW, [a, b, c, d, e, f, g, h, 0, 0]), Reason::Superseded)
    });
    let plan = CrlPlan::new(world.issuing.certificate(), head(), entries).unwrap();
    let signed = ready(world.issuing.sign_crl(plan)).unwrap();
    let der = CertificateRevocationListDer::from(signed.der());
    let list = webpki::BorrowedCertRevocationList::from_der(&der).unwrap();
    assert_eq!(list.into_iter().filter(Result::is_ok).count(), 100_000);
}

proptest! {
    #[test]
    fn numbers_rise_whatever_the_clock_does(times in proptest::collection::vec(any::<i64>(), 1..20)) {
        let mut number = None;
        for millis in times {
            let next = CrlNumber::after(number, Timestamp::from_unix_millis(millis));
            prop_assert!(number.is_none_or(|number| number < next));
            prop_assert_eq!(next.to_string().parse::<CrlNumber>().unwrap(), next);
            number = Some(next);
        }
    }
}
