//! OCSP: the rows of RFC 6960 and RFC 9654 that concern bytes, and what another implementation makes of them.

use chancery_ca::local::CRYPTO;
use chancery_ca::{
    AuthorityCertificate, AuthorityError, CertStatus, OCSP_REQUEST_LEN_MAX, OcspError, OcspPlan, OcspRefused,
    OcspRequest, OcspRequestRefused, OcspTimes, RESPONDER_VALIDITY, Responder, RootAuthority, SignedOcsp,
};
use chancery_identity::der::{self, DerError, Reader, Writer, context_constructed};
use chancery_identity::{Leaf, Reason, Serial, Timestamp};
use std::time::Duration;
use x509_ocsp::{BasicOcspResponse, CertStatus as TheirStatus, OcspResponse, OcspResponseStatus, ResponderId};
use x509_ocsp_der::{Decode, Encode};

use crate::support::{DAY, HOUR, NOW, World, domain, ed25519_signer, ready, serial, signer, status, world, world_of};

const SHA1: &[u8] = &[0x2b, 14, 3, 2, 26];
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
const SHA384: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2];
const NONCE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 1, 2];
const UNKNOWN: &[u8] = &[0x2b, 6, 1, 4, 1, 0x81, 0xfd, 0x59, 99];
const TIMES: OcspTimes = OcspTimes { this_update: NOW, next_update: Timestamp::from_unix_millis(1_795_270_500_250) };

/// A CertID for a certificate of the authority.
fn id(authority: &AuthorityCertificate, digest: &[u8], null: bool, serial: &[u8]) -> Vec<u8> {
    let mut spki = Reader::new(authority.spki()).nested(der::SEQUENCE).unwrap();
    spki.read_any().unwrap();
    let key = &spki.read(der::BIT_STRING).unwrap()[1..];
    let hash = |bytes| match digest {
        SHA1 => (CRYPTO.sha1)(bytes).to_vec(),
        _ => (CRYPTO.sha256)(bytes).to_vec(),
    };
    written(|w| {
        w.nested(der::SEQUENCE, |w| {
            w.nested(der::SEQUENCE, |w| {
                w.oid(digest);
                if null {
                    w.value(der::NULL, &[]);
                }
            });
            w.octets(&hash(authority.subject())).octets(&hash(key)).value(der::INTEGER, serial);
        });
    })
}

fn written(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::new();
    write(&mut writer);
    writer.finish()
}

/// One thing after another of a request; the default is a plain one.
#[derive(Default)]
struct Draft {
    before: Vec<u8>,
    ids: Vec<Vec<u8>>,
    single: Vec<(Vec<u8>, bool, Vec<u8>)>,
    extensions: Vec<(Vec<u8>, bool, Vec<u8>)>,
    after: Vec<u8>,
}

impl Draft {
    fn of(ids: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self { ids: ids.into_iter().collect(), ..Self::default() }
    }

    fn with_nonce(ids: impl IntoIterator<Item = Vec<u8>>, len: usize) -> Self {
        let nonce = written(|w| {
            w.octets(&vec![7; len]);
        });
        Self { extensions: vec![(NONCE.to_vec(), false, nonce)], ..Self::of(ids) }
    }

    fn der(&self) -> Vec<u8> {
        written(|w| {
            w.nested(der::SEQUENCE, |w| {
                w.nested(der::SEQUENCE, |w| {
                    w.raw(&self.before);
                    w.nested(der::SEQUENCE, |w| {
                        for id in &self.ids {
                            w.nested(der::SEQUENCE, |w| {
                                w.raw(id);
                                extensions(w, 0, &self.single);
                            });
                        }
                    });
                    extensions(w, 2, &self.extensions);
                });
                w.raw(&self.after);
            });
        })
    }
}

fn extensions(w: &mut Writer, tag: u8, list: &[(Vec<u8>, bool, Vec<u8>)]) {
    if list.is_empty() {
        return;
    }
    w.nested(context_constructed(tag), |w| {
        w.nested(der::SEQUENCE, |w| {
            for (id, critical, value) in list {
                w.nested(der::SEQUENCE, |w| {
                    w.oid(id);
                    if *critical {
                        w.boolean(true);
                    }
                    w.octets(value);
                });
            }
        });
    });
}

fn responder(world: &World) -> Responder {
    ready(world.issuing.certify_responder(signer(), NOW, serial(9))).unwrap()
}

fn answer(responder: &Responder, request: &OcspRequest, statuses: &[CertStatus]) -> SignedOcsp {
    let answers = request.certificates().iter().zip(statuses.iter().copied());
    ready(OcspPlan::new(responder, TIMES, answers, request.nonce()).unwrap().sign()).unwrap()
}

fn basic(signed: &SignedOcsp) -> BasicOcspResponse {
    let response = OcspResponse::from_der(signed.der()).unwrap();
    assert_eq!(response.response_status, OcspResponseStatus::Successful);
    let bytes = response.response_bytes.unwrap();
    assert_eq!(bytes.response_type.to_string(), "1.3.6.1.5.5.7.48.1.1");
    let basic = BasicOcspResponse::from_der(bytes.response.as_bytes()).unwrap();
    assert_eq!(basic.to_der().unwrap(), bytes.response.as_bytes(), "DER written again is the same");
    basic
}

#[test]
fn a_response_says_what_was_planned_and_others_read_it_so() {
    let world = world();
    let responder = responder(&world);
    let issuing = world.issuing.certificate();
    let ids: Vec<_> = [(SHA1, true), (SHA256, false), (SHA1, false)]
        .into_iter()
        .zip(1..)
        .map(|((digest, null), last)| id(issuing, digest, null, serial(last).bytes()))
        .collect();
    let der = Draft::with_nonce(ids.clone(), 32).der();
    let theirs = x509_ocsp::OcspRequest::from_der(&der).unwrap();
    let request = OcspRequest::read(&der).unwrap();
    assert_eq!(theirs.tbs_request.request_list.len(), request.certificates().len());
    for (id, last) in request.certificates().iter().zip(1..) {
        assert_eq!(id.serial(), Some(serial(last)));
        assert!(responder.answers_for(id));
    }
    let at = NOW - HOUR;
    let revoked = CertStatus::Revoked { at, reason: Reason::KeyCompromise };
    let signed = answer(&responder, &request, &[CertStatus::Good, revoked, CertStatus::Unknown]);
    let basic = basic(&signed);
    let data = &basic.tbs_response_data;

    // byKey is the SHA-1 of the responder's key.
    let ResponderId::ByKey(key_hash) = &data.responder_id else { panic!("by name") };
    let certificate = basic.certs.as_ref().unwrap();
    assert_eq!((certificate.len(), certificate[0].to_der().unwrap()), (1, responder.certificate().to_vec()));
    let key = certificate[0].tbs_certificate.subject_public_key_info.subject_public_key.raw_bytes().to_vec();
    assert_eq!(key_hash.as_bytes(), (CRYPTO.sha1)(&key));

    // The signature is the responder's, over the response's data as it stands there.
    let tbs = data.to_der().unwrap();
    let signature = basic.signature.raw_bytes();
    assert!((CRYPTO.verify)(chancery_ca::Algorithm::EcdsaP256, &key, &tbs, signature));

    let seconds = |time: &x509_ocsp::OcspGeneralizedTime| {
        i64::try_from(time.0.to_unix_duration().as_secs()).map(Timestamp::from_unix_seconds).unwrap()
    };
    assert_eq!(seconds(&data.produced_at), NOW.floor_to_second());
    for (single, id) in data.responses.iter().zip(&ids) {
        assert_eq!(&single.cert_id.to_der().unwrap(), id, "the CertID is repeated as it came");
        assert_eq!(seconds(&single.this_update), NOW.floor_to_second());
        assert_eq!(seconds(single.next_update.as_ref().unwrap()), TIMES.next_update.floor_to_second());
    }
    assert_eq!(signed.times().this_update, NOW.floor_to_second());
    assert!(matches!(data.responses[0].cert_status, TheirStatus::Good(_)));
    let TheirStatus::Revoked(info) = &data.responses[1].cert_status else { panic!("not revoked") };
    assert_eq!(seconds(&info.revocation_time), at.floor_to_second());
    assert_eq!(info.revocation_reason.map(|reason| reason as u8), Some(1));
    assert!(matches!(data.responses[2].cert_status, TheirStatus::Unknown(_)));
    let repeated = data.response_extensions.as_ref().unwrap();
    assert_eq!((repeated.len(), repeated[0].critical), (1, false));
    assert_eq!(repeated[0].extn_value.as_bytes(), [&[4, 32][..], &[7; 32]].concat());
}

/// Whichever of the two kinds of key the root, the issuing authority and its responder have.
#[test]
fn ed25519_answers_as_p256_does() {
    let kinds = [signer as fn() -> std::sync::Arc<dyn chancery_ca::Signer>, ed25519_signer];
    for [root, issuing, holder] in (0..8).map(|bits| [0, 1, 2].map(|at| kinds[bits >> at & 1]())) {
        let (under, by, over) = (root.algorithm(), issuing.algorithm(), holder.algorithm());
        let world = world_of(root, issuing);
        let issuing = world.issuing.certificate();
        assert!(issuing.signed_by(world.root.certificate(), CRYPTO), "{by} under {under}");
        let responder = ready(world.issuing.certify_responder(holder, NOW, serial(9))).unwrap();
        for digest in [SHA1, SHA256] {
            let request = OcspRequest::read(&Draft::of([id(issuing, digest, true, &[1])]).der()).unwrap();
            assert!(responder.answers_for(&request.certificates()[0]), "{by}");
            let basic = basic(&answer(&responder, &request, &[CertStatus::Good]));
            let delegate = &basic.certs.as_ref().unwrap()[0];
            // The response by the responder's key, its certificate by the authority's, each with that key's algorithm.
            let key = delegate.tbs_certificate.subject_public_key_info.subject_public_key.raw_bytes();
            let tbs = basic.tbs_response_data.to_der().unwrap();
            assert!((CRYPTO.verify)(over, key, &tbs, basic.signature.raw_bytes()), "{over}");
            assert_eq!(basic.signature_algorithm.to_der().unwrap(), over.signature_identifier());
            let mut spki = Reader::new(issuing.spki()).nested(der::SEQUENCE).unwrap();
            spki.read_any().unwrap();
            let key = &spki.read(der::BIT_STRING).unwrap()[1..];
            let tbs = delegate.tbs_certificate.to_der().unwrap();
            assert!((CRYPTO.verify)(by, key, &tbs, delegate.signature.raw_bytes()), "{by}");
            assert_eq!(delegate.signature_algorithm.to_der().unwrap(), by.signature_identifier());
        }
    }
}

#[test]
fn without_a_nonce_the_response_has_none_and_the_unspecified_is_not_said() {
    let world = world();
    let responder = responder(&world);
    let request = OcspRequest::read(&Draft::of([id(world.issuing.certificate(), SHA1, true, &[1])]).der()).unwrap();
    // Later than the response itself: clocks disagree.
    let revoked = CertStatus::Revoked { at: NOW + HOUR, reason: Reason::Unspecified };
    let basic = basic(&answer(&responder, &request, &[revoked]));
    assert_eq!(basic.tbs_response_data.response_extensions, None);
    let TheirStatus::Revoked(info) = &basic.tbs_response_data.responses[0].cert_status else { panic!("not revoked") };
    assert_eq!(info.revocation_reason, None);
    assert_eq!(info.revocation_time, basic.tbs_response_data.produced_at);
}

#[test]
fn an_issuer_is_known_by_both_digests_of_name_and_key_and_by_no_other() {
    let (world, other) = (world(), world());
    let responder = responder(&world);
    let knows = |id: Vec<u8>| {
        let request = OcspRequest::read(&Draft::of([id]).der()).unwrap();
        responder.answers_for(&request.certificates()[0])
    };
    let issuing = world.issuing.certificate();
    for digest in [SHA1, SHA256] {
        assert!(knows(id(issuing, digest, true, &[1])) && knows(id(issuing, digest, false, &[1])));
        assert!(!knows(id(other.issuing.certificate(), digest, true, &[1])));
        // Authorities are asked about under the root, for which nobody is delegated.
        assert!(!knows(id(world.root.certificate(), digest, true, issuing.serial().bytes())));
        let mut bent = id(issuing, digest, true, &[1]);
        let last = bent.len() - 4;
        bent[last] ^= 1;
        assert!(!knows(bent), "another key");
    }
    // SHA-384 with digests of 32 bytes; SHA-1 with digests of 32 bytes.
    assert!(!knows(id(issuing, SHA384, true, &[1])));
    let long = id(issuing, SHA256, false, &[1]);
    let mut long = Reader::new(&long).nested(der::SEQUENCE).unwrap();
    long.read_any().unwrap();
    let (name, key) = (long.octets::<32>().unwrap(), long.octets::<32>().unwrap());
    assert!(!knows(written(|w| {
        w.nested(der::SEQUENCE, |w| {
            w.nested(der::SEQUENCE, |w| {
                w.oid(SHA1);
            });
            w.octets(&name).octets(&key).unsigned_64(1);
        });
    })));
}

#[test]
fn a_number_that_no_certificate_has_is_asked_for_all_the_same() {
    let world = world();
    for (serial, wanted) in [
        (&[0][..], None),
        (&[0xff], None),
        (&[0x80; 16], None),
        (&[0x41; 21], None),
        (&[1], Serial::from_bytes(&[1])),
        (&[0, 0x80], Serial::from_bytes(&[0x80])),
        (&[0x41; 20], Serial::from_bytes(&[0x41; 20])),
    ] {
        let request = OcspRequest::read(&Draft::of([id(world.issuing.certificate(), SHA1, true, serial)]).der());
        assert_eq!(request.unwrap().certificates()[0].serial(), wanted, "{serial:x?}");
    }
    for serial in [&[][..], &[0, 1]] {
        let der = Draft::of([id(world.issuing.certificate(), SHA1, true, serial)]).der();
        assert_eq!(OcspRequest::read(&der), Err(OcspRequestRefused::Malformed(DerError::Value("INTEGER"))));
    }
}

#[test]
fn nonces_have_the_lengths_of_rfc_9654_and_come_once() {
    let world = world();
    let plain = || [id(world.issuing.certificate(), SHA1, true, &[1])];
    for len in [1, 16, 32, 128] {
        let request = OcspRequest::read(&Draft::with_nonce(plain(), len).der()).unwrap();
        assert_eq!(request.nonce().unwrap().bytes(), vec![7; len]);
    }
    for len in [0, 129, 1000] {
        let refused = OcspRequest::read(&Draft::with_nonce(plain(), len).der());
        assert_eq!(refused, Err(OcspRequestRefused::Nonce(len)));
    }
    let mut twice = Draft::with_nonce(plain(), 16);
    twice.extensions.extend(twice.extensions.clone());
    assert_eq!(OcspRequest::read(&twice.der()), Err(OcspRequestRefused::TwoNonces));
    let mut bare = Draft::with_nonce(plain(), 16);
    bare.extensions[0].2 = vec![7; 16];
    assert!(matches!(OcspRequest::read(&bare.der()), Err(OcspRequestRefused::Malformed(_))));
    let mut critical = Draft::with_nonce(plain(), 16);
    critical.extensions[0].1 = true;
    assert!(OcspRequest::read(&critical.der()).is_ok(), "it is known");
}

#[test]
fn what_is_critical_must_be_known_and_the_rest_may_be_anything() {
    let world = world();
    let plain = || Draft::of([id(world.issuing.certificate(), SHA1, true, &[1])]);
    let extension = |critical| vec![(UNKNOWN.to_vec(), critical, vec![der::NULL, 0])];
    for (draft, good) in [
        (Draft { extensions: extension(false), ..plain() }, true),
        (Draft { single: extension(false), ..plain() }, true),
        (Draft { extensions: extension(true), ..plain() }, false),
        (Draft { single: extension(true), ..plain() }, false),
        // A nonce for one certificate is no nonce.
        (Draft { single: vec![(NONCE.to_vec(), true, vec![4, 1, 7])], ..plain() }, false),
    ] {
        match OcspRequest::read(&draft.der()) {
            Ok(_) => assert!(good),
            Err(error) => assert!(!good && matches!(error, OcspRequestRefused::CriticalExtension(_)), "{error}"),
        }
    }
}

#[test]
fn who_asks_and_by_which_signature_is_read_over() {
    let world = world();
    let plain = || Draft::of([id(world.issuing.certificate(), SHA256, true, &[1])]);
    let signature = written(|w| {
        w.nested(context_constructed(0), |w| {
            w.nested(der::SEQUENCE, |w| {
                w.raw(chancery_ca::Algorithm::EcdsaP256.signature_identifier()).bits(&[1; 70]);
            });
        });
    });
    let named = written(|w| {
        w.nested(context_constructed(1), |w| {
            w.value(der::context(6), b"https://somebody.test");
        });
    });
    let unsigned = OcspRequest::read(&plain().der()).unwrap();
    assert_eq!(OcspRequest::read(&Draft { before: named, after: signature.clone(), ..plain() }.der()), Ok(unsigned));
    let twice = Draft { after: [signature.clone(), signature].concat(), ..plain() };
    assert!(matches!(OcspRequest::read(&twice.der()), Err(OcspRequestRefused::Malformed(DerError::Trailing(_)))));
}

#[test]
fn requests_have_a_version_a_length_and_at_least_one_certificate() {
    let world = world();
    let one = |last: u8| id(world.issuing.certificate(), SHA1, true, serial(last).bytes());
    let version = |number| {
        let before = written(|w| {
            w.nested(context_constructed(0), |w| {
                w.unsigned_64(number);
            });
        });
        OcspRequest::read(&Draft { before, ..Draft::of([one(1)]) }.der()).map(drop)
    };
    assert_eq!(version(0), Ok(()));
    assert_eq!(version(1), Err(OcspRequestRefused::Version(1)));
    assert_eq!(OcspRequest::read(&Draft::default().der()), Err(OcspRequestRefused::NoCertificate));
    let many = Draft::of((0..80).map(one)).der();
    assert!(many.len() < OCSP_REQUEST_LEN_MAX);
    assert_eq!(OcspRequest::read(&many).unwrap().certificates().len(), 80);
    let too_long = Draft::of((0..200).map(one)).der();
    assert_eq!(OcspRequest::read(&too_long), Err(OcspRequestRefused::TooLong(too_long.len())));
    let mut trailing = Draft::of([one(1)]).der();
    trailing.push(0);
    assert!(matches!(OcspRequest::read(&trailing), Err(OcspRequestRefused::Malformed(DerError::Trailing(1)))));
}

#[test]
fn a_response_lasts_as_long_as_its_responder_at_most_and_answers_for_its_authority_alone() {
    let (world, other) = (world(), world());
    let responder = responder(&world);
    let request = |authority: &World| {
        OcspRequest::read(&Draft::of([id(authority.issuing.certificate(), SHA1, true, &[1])]).der()).unwrap()
    };
    let plan = |request: &OcspRequest, times| {
        let answers = request.certificates().iter().map(|id| (id, CertStatus::Good));
        OcspPlan::new(&responder, times, answers, None).map(drop)
    };
    let own = request(&world);
    let not_after = responder.not_after();
    assert_eq!(plan(&own, OcspTimes { next_update: not_after, ..TIMES }), Ok(()));
    let late = OcspTimes { next_update: not_after + HOUR, ..TIMES };
    assert_eq!(plan(&own, late), Err(OcspRefused::Outlives { next_update: not_after + HOUR, not_after }));
    let over = plan(&own, OcspTimes { next_update: NOW, ..TIMES });
    assert!(matches!(over, Err(OcspRefused::Over { .. })), "{over:?}");
    assert_eq!(plan(&request(&other), TIMES), Err(OcspRefused::OtherAuthority(world.issuing.key_id())));
    let nothing = OcspPlan::new(&responder, TIMES, [], None).map(drop);
    assert_eq!(nothing, Err(OcspRefused::NoAnswer));
}

#[test]
fn a_responder_is_certified_for_a_day_by_its_authority_and_is_nobody_else() {
    let world = world();
    let responder = responder(&world);
    assert_eq!((responder.authority(), responder.serial()), (world.issuing.key_id(), serial(9)));
    assert_eq!(responder.not_after(), (NOW + RESPONDER_VALIDITY - Duration::from_secs(1)).floor_to_second());
    let parsed = <x509_cert::Certificate as x509_cert::der::Decode>::from_der(responder.certificate()).unwrap();
    let tbs = parsed.tbs_certificate();
    use x509_cert::der::Encode as _;
    assert_eq!(tbs.issuer().to_der().unwrap(), world.issuing.certificate().subject());
    assert_ne!(tbs.subject(), tbs.issuer());
    assert!(tbs.subject().to_string().contains("Chancery OCSP example.org"), "{}", tbs.subject());
    let ids: Vec<String> = tbs.extensions().unwrap().iter().map(|e| e.extn_id.to_string()).collect();
    assert_eq!(ids, ["2.5.29.35", "2.5.29.14", "2.5.29.19", "2.5.29.15", "2.5.29.37", "1.3.6.1.5.5.7.48.1.5"]);
    // A service that it is shown to sees no identity in it, and no authority is made of it.
    assert!(Leaf::read(responder.certificate()).is_err());
    assert!(AuthorityCertificate::read(responder.certificate().to_vec()).is_err());
}

#[test]
fn a_responder_never_has_its_authoritys_key_and_never_outlives_it() {
    let key = signer();
    let domain = domain();
    let root = RootAuthority::create(&domain, signer(), CRYPTO, 3650 * DAY, NOW, serial(1));
    let issuing = ready(ready(root).unwrap().issue(key.clone(), &status(), HOUR, NOW, serial(2))).unwrap();
    let refused = ready(issuing.certify_responder(key, NOW, serial(3))).unwrap_err();
    assert!(matches!(&refused, AuthorityError::Lint(findings) if findings[0].lint() == "public_key"), "{refused}");
    let responder = ready(issuing.certify_responder(signer(), NOW, serial(3))).unwrap();
    assert_eq!(responder.not_after(), issuing.certificate().not_after());
    let over = ready(issuing.certify_responder(signer(), NOW + 2 * HOUR, serial(4))).unwrap_err();
    assert!(matches!(over, AuthorityError::Over(_)), "{over}");
}

#[test]
fn errors_are_five_bytes_that_others_read() {
    for (error, wanted) in [
        (OcspError::MalformedRequest, OcspResponseStatus::MalformedRequest),
        (OcspError::InternalError, OcspResponseStatus::InternalError),
        (OcspError::TryLater, OcspResponseStatus::TryLater),
        (OcspError::Unauthorized, OcspResponseStatus::Unauthorized),
    ] {
        let read = OcspResponse::from_der(error.der()).unwrap();
        assert_eq!((read.response_status, read.response_bytes), (wanted, None));
    }
}
