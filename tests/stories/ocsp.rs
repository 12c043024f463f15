//! OCSP over real sockets: what stock clients ask and are told, and that it is what the CRL says.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chancery::authority::Responders;
use chancery::clock::Clock;
use chancery::revocation::Ocsp;
use chancery_ca::local::CRYPTO;
use chancery_ca::{AuthorityCertificate, OcspError};
use chancery_identity::der::{self, Reader, Writer, context_constructed};
use chancery_identity::{Serial, Timestamp};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use x509_ocsp::{BasicOcspResponse, CertStatus, OcspResponse, OcspResponseStatus};
use x509_ocsp_der::{Decode, Encode};

use crate::fixture::{Hands, Held, Issuer, Key};

const READ: &str = "tools/call:crm/get_customer";
const SHA1: &[u8] = &[0x2b, 14, 3, 2, 26];
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];

#[tokio::test]
async fn ocsp_tells_what_the_crl_tells() {
    let issuer = Issuer::start().await;
    let held = issuer.joined("invoice-bot", &[READ]).await;
    let authority = issuing(&held);
    let serial = held.issued.certificate.serial;

    // By both digests, in a body and in a path, with a nonce and without.
    for digest in [SHA1, SHA256] {
        let id = cert_id(&authority, digest, serial);
        for nonce in [None, Some(&[7; 32][..])] {
            let request = request(std::slice::from_ref(&id), nonce);
            for reply in [post(&issuer, &request).await, get(&issuer, &escaped(&request)).await] {
                let basic = reply.successful();
                let data = &basic.tbs_response_data;
                assert_eq!(data.responses.len(), 1);
                assert_eq!(data.responses[0].cert_id.to_der().unwrap(), id);
                assert!(matches!(data.responses[0].cert_status, CertStatus::Good(_)));
                let repeated = data.response_extensions.as_ref().map(|list| list[0].extn_value.as_bytes().to_vec());
                assert_eq!(repeated, nonce.map(|nonce| [&[4, 32], nonce].concat()));
                let now = issuer.clock.now();
                let lasts = seconds(data.responses[0].next_update.as_ref().unwrap());
                assert!(seconds(&data.responses[0].this_update) <= seconds(&data.produced_at));
                assert!(seconds(&data.produced_at) <= now && now < lasts);
                assert!(lasts.since(seconds(&data.responses[0].this_update)).as_secs() <= 15 * 60);
                signed_by_delegate(&basic, &authority);
            }
        }
    }

    // The revocation's answer is read: OCSP knows, the kept answer is gone.
    let entry = issuer.revoke(json!({"targets": ["agent:invoice-bot"], "effect": "suspend"})).await;
    let told = status(&issuer, &held).await;
    assert_eq!(told, Some((entry.revocations[0].created_at.floor_to_second(), 6)));
    assert_eq!(told, in_crl(&issuer, &held, entry.revocations[0].n).await);

    let resume = format!("/v1/admin/revocations/{}/resume", entry.revocations[0].id);
    issuer.admin.post::<Value>(&resume, &json!({})).await.unwrap();
    assert_eq!(status(&issuer, &held).await, None);

    let target = format!("serial:{serial}");
    let entry = issuer.revoke(json!({"targets": [target], "reason": "key_compromise"})).await;
    let told = status(&issuer, &held).await;
    assert_eq!(told, Some((entry.revocations[0].created_at.floor_to_second(), 1)));
    assert_eq!(told, in_crl(&issuer, &held, entry.revocations[0].n).await);

    // Several at once, each as it is: ended, never issued, a number that nobody has, good.
    let other = issuer.joined("report-bot", &[READ]).await;
    let serials = [serial, Serial::from_bytes(&[1]).unwrap(), other.issued.certificate.serial];
    let ids: Vec<_> = serials.iter().map(|serial| cert_id(&authority, SHA1, *serial)).collect();
    let basic = post(&issuer, &request(&ids, None)).await.successful();
    let told: Vec<_> = basic.tbs_response_data.responses.iter().map(|single| &single.cert_status).collect();
    assert!(matches!(told[..], [CertStatus::Revoked(_), CertStatus::Unknown(_), CertStatus::Good(_)]), "{told:?}");
}

#[tokio::test]
async fn nobody_answers_for_the_root_or_for_strangers() {
    let issuer = Issuer::start().await;
    let held = issuer.joined("invoice-bot", &[READ]).await;
    let authority = issuing(&held);
    let root = issuer.server.issuer().authorities().root();
    let other = Issuer::start().await;
    let stranger = issuing(&other.joined("invoice-bot", &[READ]).await);
    let own = cert_id(&authority, SHA256, held.issued.certificate.serial);
    for ids in [
        vec![cert_id(root, SHA1, authority.serial())],
        vec![cert_id(&stranger, SHA1, held.issued.certificate.serial)],
        vec![own.clone(), cert_id(root, SHA256, authority.serial())],
    ] {
        let reply = post(&issuer, &request(&ids, None)).await;
        assert_eq!((reply.code, reply.error()), (200, OcspResponseStatus::Unauthorized));
        assert_eq!(reply.header("cache-control"), Some("no-store"));
    }
    post(&issuer, &request(&[own], None)).await.successful();
}

#[tokio::test]
async fn what_is_no_request_is_told_so_in_an_ocsp_response() {
    let issuer = Issuer::start().await;
    let held = issuer.joined("invoice-bot", &[READ]).await;
    let good = request(&[cert_id(&issuing(&held), SHA1, held.issued.certificate.serial)], None);
    let text = STANDARD.encode(&good);

    // A request in a path, however a client writes it.
    let lower = escaped(&good).replace("%2B", "%2b").replace("%2F", "%2f").replace("%3D", "%3d");
    for path in [text.clone(), text.trim_end_matches('=').to_owned(), escaped(&good), lower] {
        get(&issuer, &path).await.successful();
    }
    let bits = good.iter().enumerate().map(|(at, _)| {
        let mut bent = good.clone();
        bent[at] ^= 0x20;
        bent
    });
    for body in
        [vec![], vec![0], vec![0x30], b"{}".to_vec(), vec![0x30; 9_000], vec![0; 200_000]].into_iter().chain(bits)
    {
        let reply = post(&issuer, &body).await;
        assert_eq!(reply.kind(), "application/ocsp-response", "{} bytes", body.len());
        assert!(reply.code < 500, "{} for {} bytes", reply.code, body.len());
    }
    for path in ["x", "//", "/", "AAAA", "+//+", "%2B%2F%2F%2B", "%", "%4", "%zz", "=", "%00", "MA==", "a/b/c", "~~~~"]
    {
        let reply = get(&issuer, path).await;
        assert_eq!((reply.code, reply.error()), (400, OcspResponseStatus::MalformedRequest), "{path}");
        assert_eq!((reply.kind(), reply.header("cache-control")), ("application/ocsp-response", Some("no-store")));
    }
    // Whatever stands behind a query is no part of a request, and its refusal is an OCSP response too.
    let reply = get(&issuer, &format!("{}?nonce=1", escaped(&good))).await;
    assert_eq!((reply.code, reply.error()), (400, OcspResponseStatus::MalformedRequest));
    assert_eq!(reply.kind(), "application/ocsp-response");
    get(&issuer, &format!("{}?", escaped(&good))).await.successful();
    let head = format!("POST /ocsp?a=b HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n", good.len());
    let reply = ask(&issuer, &head, &good).await;
    assert_eq!((reply.code, reply.error()), (400, OcspResponseStatus::MalformedRequest));
    for len in [0, 129] {
        let id = cert_id(&issuing(&held), SHA1, held.issued.certificate.serial);
        let reply = post(&issuer, &request(&[id], Some(&vec![1; len]))).await;
        assert_eq!((reply.code, reply.error()), (400, OcspResponseStatus::MalformedRequest));
    }
}

#[tokio::test]
async fn an_issuer_whose_database_lost_something_answers_nobody() {
    let issuer = Issuer::start().await;
    let held = issuer.joined("invoice-bot", &[READ]).await;
    let asked = request(&[cert_id(&issuing(&held), SHA1, held.issued.certificate.serial)], None);
    post(&issuer, &asked).await.successful();
    let server = issuer.server.issuer();
    let mut later = server.feed().newest().unwrap().head.clone();
    later.tree.size += 1_000;
    later.revocation.n += 1;
    assert!(server.store().hold_against(&later).await.unwrap().is_some());
    assert_eq!(post(&issuer, &asked).await.error(), OcspResponseStatus::TryLater);
}

#[tokio::test]
async fn a_copy_is_good_until_the_next_entry() {
    let issuer = Issuer::start().await;
    let held = issuer.joined("invoice-bot", &[READ]).await;
    let plain = request(&[cert_id(&issuing(&held), SHA1, held.issued.certificate.serial)], None);
    let first = get(&issuer, &escaped(&plain)).await;
    assert_eq!(first.header("cache-control"), Some("max-age=30, public, no-transform, must-revalidate"));
    assert!(first.header("expires").is_some() && first.header("last-modified").is_some());
    let etag = first.header("etag").unwrap().to_owned();
    let again = format!("GET /ocsp/{} HTTP/1.1\r\nhost: a\r\nif-none-match: {etag}\r\n", escaped(&plain));
    let unchanged = ask(&issuer, &again, b"").await;
    assert_eq!((unchanged.code, unchanged.body.len()), (304, 0));
    assert_eq!(unchanged.header("etag"), Some(&*etag));
    let head = ask(&issuer, &format!("HEAD /ocsp/{} HTTP/1.1\r\nhost: a\r\n", escaped(&plain)), b"").await;
    assert_eq!((head.code, head.header("etag"), head.body.len()), (200, Some(&*etag), 0));
    // The same answer again, byte by byte, in a body too: it was kept.
    assert_eq!(post(&issuer, &plain).await.body, first.body);

    let id = cert_id(&issuing(&held), SHA1, held.issued.certificate.serial);
    let nonce = post(&issuer, &request(&[id], Some(&[1]))).await;
    assert_eq!((nonce.header("cache-control"), nonce.header("etag")), (Some("no-store"), None));

    issuer.revoke(json!({"targets": ["agent:invoice-bot"], "effect": "retire"})).await;
    let after = ask(&issuer, &again, b"").await;
    assert_eq!(after.code, 200);
    assert_ne!(after.header("etag"), Some(&*etag));
}

#[tokio::test]
async fn who_asks_too_much_is_told_to_try_later_and_what_is_kept_is_answered() {
    let issuer = Issuer::start().await;
    let held = issuer.joined("invoice-bot", &[READ]).await;
    let inner = issuer.server.issuer();
    let one_a_second = NonZeroU32::MIN;
    let (store, responders) = (inner.store().clone(), inner.responders().clone());
    let ocsp = Ocsp::with_budget(store, responders, issuer.clock.clone(), one_a_second);
    let id = cert_id(&issuing(&held), SHA1, held.issued.certificate.serial);
    let plain = request(std::slice::from_ref(&id), None);
    let kept = ocsp.answer(&plain).await.unwrap();
    let with_nonce = request(&[id.clone(), id], Some(&[1; 16]));
    assert_eq!(ocsp.answer(&with_nonce).await.err(), Some(OcspError::TryLater));
    assert_eq!(ocsp.answer(&plain).await.unwrap().der, kept.der);
}

#[tokio::test]
async fn responders_renew_themselves_and_outlast_what_they_answer_for() {
    let issuer = Issuer::start().await;
    let held = issuer.joined("invoice-bot", &[READ]).await;
    let plain = request(&[cert_id(&issuing(&held), SHA1, held.issued.certificate.serial)], None);
    let responder =
        |basic: &BasicOcspResponse| basic.certs.as_ref().unwrap()[0].tbs_certificate.serial_number.as_bytes().to_vec();
    let first = responder(&post(&issuer, &plain).await.successful());
    // The certificate is over by then, and is answered all the same.
    issuer.forward(13 * 3600).await;
    let mut basic = post(&issuer, &plain).await.successful();
    while responder(&basic) == first {
        basic = post(&issuer, &plain).await.successful();
    }
    let second = responder(&basic);
    assert!(matches!(basic.tbs_response_data.responses[0].cert_status, CertStatus::Good(_)));
    signed_by_delegate(&basic, &issuing(&held));

    // Each was recorded before it answered.
    let log: Value = issuer.admin.get("/v1/admin/log?from=0&limit=500").await.unwrap().body;
    let records: Vec<_> = log["data"].as_array().unwrap().iter().filter_map(|row| row["record"].as_str()).collect();
    let certified = records.iter().filter(|record| record.contains("ocsp-responder")).count();
    assert_eq!(certified, 2, "{records:?}");

    // After a jump beyond the end of the certificate it is ready once there is another.
    issuer.forward(25 * 3600).await;
    let plain = request(&[cert_id(&issuing(&held), SHA1, held.issued.certificate.serial)], None);
    assert_ne!(responder(&post(&issuer, &plain).await.successful()), second);
}

#[tokio::test]
async fn an_authority_without_a_responder_in_its_time_is_missing_one() {
    let issuer = Issuer::start().await;
    let inner = issuer.server.issuer();
    // Beside those that serve, on a clock of their own; nobody runs them, so nobody renews them.
    let (authorities, clock) = (inner.authorities().clone(), Arc::new(Hands::default()));
    let signing = authorities.issuing().key_id();
    let responders = Responders::open(authorities, inner.store().clone(), clock.clone()).await.unwrap();
    assert_eq!(responders.missing(), None);
    clock.forward(25 * 3600);
    assert_eq!(responders.missing(), Some(signing));
    // The clock that goes back, before the responder's time too.
    clock.forward(-25 * 3600);
    assert_eq!(responders.missing(), None);
}

#[tokio::test]
async fn certificates_of_an_older_authority_are_answered_under_it() {
    let issuer = Issuer::start().await;
    let old = issuer.joined("invoice-bot", &[READ]).await;
    // Past half of its life an authority gets a successor, which signs once it was announced.
    issuer.forward(46 * 86_400).await;
    let inner = issuer.server.issuer().clone();
    while inner.authorities().all_issuing().len() < 2 {
        tokio::task::yield_now().await;
    }
    issuer.forward(61).await;
    while inner.authorities().issuing().key_id() == issuing(&old).key_id() {
        tokio::task::yield_now().await;
    }
    let new = issuer.joined("report-bot", &[READ]).await;
    assert_ne!(issuing(&old).key_id(), issuing(&new).key_id());
    for held in [&old, &new] {
        let id = cert_id(&issuing(held), SHA256, held.issued.certificate.serial);
        let mut reply = post(&issuer, &request(std::slice::from_ref(&id), None)).await;
        while reply.body.len() == 5 {
            // The responder of the successor is certified beside this.
            reply = post(&issuer, &request(std::slice::from_ref(&id), None)).await;
        }
        let basic = reply.successful();
        assert!(matches!(basic.tbs_response_data.responses[0].cert_status, CertStatus::Good(_)));
        signed_by_delegate(&basic, &issuing(held));
        assert_eq!(status(&issuer, held).await, None);
    }
    // One authority's serial under another's name was never issued.
    let crossed = cert_id(&issuing(&new), SHA1, old.issued.certificate.serial);
    let basic = post(&issuer, &request(&[crossed], None)).await.successful();
    assert!(matches!(basic.tbs_response_data.responses[0].cert_status, CertStatus::Unknown(_)));
    // It goes on while anything that the older one signed is valid, whatever the publisher drops meanwhile.
    issuer.forward(40 * 60).await;
    assert!(status(&issuer, &old).await.is_none());
    assert!(inner.authorities().all_issuing().iter().any(|one| one.key_id() == issuing(&old).key_id()));
    // What stops it shows under the authority that signed it.
    issuer.revoke(json!({"targets": ["agent:invoice-bot"], "effect": "retire", "reason": "key_compromise"})).await;
    assert_eq!(status(&issuer, &old).await.map(|(_, reason)| reason), Some(1));
    assert_eq!(status(&issuer, &new).await, None);
}

/// Whatever is stopped and goes on again, CRL and OCSP say the same of every certificate at every number.
#[tokio::test]
async fn ocsp_and_crl_agree_at_every_number() {
    for seed in 1..=3_u64 {
        let issuer = Issuer::start().await;
        let mut draw = Draw(seed);
        let mut held = Vec::new();
        for name in ["a-bot", "b-bot", "c-bot"] {
            held.push(issuer.joined(name, &[READ]).await);
        }
        let mut resumable: Vec<String> = Vec::new();
        for _ in 0..24 {
            let n = match draw.below(8) {
                0 if !resumable.is_empty() => {
                    let id = resumable.swap_remove(draw.below(resumable.len()));
                    let resume = format!("/v1/admin/revocations/{id}/resume");
                    let resumed: Value = issuer.admin.post(&resume, &json!({})).await.unwrap().body;
                    resumed["resumed_by"]["n"].as_u64().unwrap()
                }
                1 => {
                    // One more certificate, be it of a lineage that is stopped or not.
                    let from = draw.below(held.len());
                    if let Ok(next) = issuer.renew(&held[from], Key::draw()).await {
                        held.push(next);
                    }
                    issuer.server.issuer().store().state().position().n
                }
                _ => {
                    let one = &held[draw.below(held.len())];
                    let target = match draw.below(5) {
                        0 => format!("serial:{}", one.serial()),
                        1 => one.issued.certificate.subject.to_string(),
                        2 => "owner:team-finance".to_owned(),
                        3 => format!("grant:{}", one.issued.certificate.grant_id),
                        _ => "scope:tools/*:crm/*".to_owned(),
                    };
                    let effect = ["revoke", "suspend", "suspend", "suspend"][draw.below(4)];
                    let reason = ["key_compromise", "certificate_hold", "superseded", "unspecified"][draw.below(4)];
                    let request = json!({"targets": [target], "effect": effect, "reason": reason});
                    let entry = issuer.revoke(request).await.revocations.remove(0);
                    if entry.effect.resumable() && !resumable.contains(&entry.id.to_string()) {
                        resumable.push(entry.id.to_string());
                    }
                    issuer.server.issuer().store().state().position().n
                }
            };
            for one in &held {
                let (told, listed) = (status(&issuer, one).await, in_crl(&issuer, one, n).await);
                assert_eq!(told, listed, "seed {seed}, n {n}, {}", one.serial());
            }
        }
    }
}

/// A few numbers, the same each time.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        // Knuth's multiplier; the upper bits are the good ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }
}

fn issuing(held: &Held) -> AuthorityCertificate {
    AuthorityCertificate::read(held.chain()[1].to_vec()).unwrap()
}

/// A CertID of RFC 6960 §4.1.1.
fn cert_id(authority: &AuthorityCertificate, digest: &[u8], serial: Serial) -> Vec<u8> {
    let mut spki = Reader::new(authority.spki()).nested(der::SEQUENCE).unwrap();
    spki.read_any().unwrap();
    let key = &spki.read(der::BIT_STRING).unwrap()[1..];
    let hash = |bytes| match digest {
        SHA1 => (CRYPTO.sha1)(bytes).to_vec(),
        _ => (CRYPTO.sha256)(bytes).to_vec(),
    };
    let mut writer = Writer::new();
    writer.nested(der::SEQUENCE, |w| {
        w.nested(der::SEQUENCE, |w| {
            w.oid(digest).value(der::NULL, &[]);
        });
        w.octets(&hash(authority.subject())).octets(&hash(key)).unsigned(serial.bytes());
    });
    writer.finish()
}

fn request(ids: &[Vec<u8>], nonce: Option<&[u8]>) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.nested(der::SEQUENCE, |w| {
        w.nested(der::SEQUENCE, |w| {
            w.nested(der::SEQUENCE, |w| {
                for id in ids {
                    w.nested(der::SEQUENCE, |w| {
                        w.raw(id);
                    });
                }
            });
            if let Some(nonce) = nonce {
                w.nested(context_constructed(2), |w| {
                    w.nested(der::SEQUENCE, |w| {
                        w.nested(der::SEQUENCE, |w| {
                            w.oid(&[0x2b, 6, 1, 5, 5, 7, 48, 1, 2]).nested(der::OCTET_STRING, |w| {
                                w.octets(nonce);
                            });
                        });
                    });
                });
            }
        });
    });
    writer.finish()
}

/// RFC 6960 appendix A.1.
fn escaped(request: &[u8]) -> String {
    STANDARD.encode(request).replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")
}

/// Since when and why a certificate is revoked, by OCSP; `None` when it is good.
async fn status(issuer: &Issuer, held: &Held) -> Option<(Timestamp, u8)> {
    let id = cert_id(&issuing(held), SHA1, held.issued.certificate.serial);
    let basic = post(issuer, &request(&[id], None)).await.successful();
    match &basic.tbs_response_data.responses[0].cert_status {
        CertStatus::Good(_) => None,
        CertStatus::Revoked(info) => {
            Some((seconds(&info.revocation_time), info.revocation_reason.map_or(0, |reason| reason as u8)))
        }
        CertStatus::Unknown(_) => panic!("{} was issued", held.serial()),
    }
}

/// The same by the first CRL of its authority that has entry `n` in it.
async fn in_crl(issuer: &Issuer, held: &Held, n: u64) -> Option<(Timestamp, u8)> {
    let key_id = issuing(held).key_id();
    let crls = issuer.server.issuer().crls();
    let mut changes = crls.changes();
    while crls.of(key_id).is_none_or(|crl| crl.n < n) {
        changes.changed().await.unwrap();
    }
    let reply = ask(issuer, &format!("GET /crl/{key_id}.crl HTTP/1.1\r\nhost: a\r\n"), b"").await;
    let (_, crl) = x509_parser::parse_x509_crl(&reply.body).unwrap();
    let serial = held.issued.certificate.serial;
    let listed: BTreeMap<_, _> = crl
        .iter_revoked_certificates()
        .map(|entry| {
            let at = Timestamp::from_unix_seconds(entry.revocation_date.timestamp());
            (entry.raw_serial().to_vec(), (at, entry.reason_code().map_or(0, |(_, reason)| reason.0)))
        })
        .collect();
    listed.get(serial.bytes()).copied()
}

/// The response's own certificate was issued by the authority for this, and its key signed the response.
fn signed_by_delegate(basic: &BasicOcspResponse, authority: &AuthorityCertificate) {
    let [certificate] = &basic.certs.as_ref().unwrap()[..] else { panic!("wanted one certificate") };
    let tbs = &certificate.tbs_certificate;
    let key = |spki: &[u8]| {
        let mut spki = Reader::new(spki).nested(der::SEQUENCE).unwrap();
        spki.read_any().unwrap();
        spki.read(der::BIT_STRING).unwrap()[1..].to_vec()
    };
    let verify = |key: &[u8], message: &[u8], signature: &[u8]| {
        (CRYPTO.verify)(chancery_ca::Algorithm::EcdsaP256, key, message, signature)
    };
    assert_eq!(tbs.issuer.to_der().unwrap(), authority.subject());
    assert!(verify(&key(authority.spki()), &tbs.to_der().unwrap(), certificate.signature.raw_bytes()));
    let own = key(&tbs.subject_public_key_info.to_der().unwrap());
    assert!(verify(&own, &basic.tbs_response_data.to_der().unwrap(), basic.signature.raw_bytes()));
    assert_ne!(own, key(authority.spki()), "a key of its own");
}

fn seconds(time: &x509_ocsp::OcspGeneralizedTime) -> Timestamp {
    Timestamp::from_unix_seconds(i64::try_from(time.0.to_unix_duration().as_secs()).unwrap())
}

async fn post(issuer: &Issuer, request: &[u8]) -> Reply {
    let head = format!(
        "POST /ocsp HTTP/1.1\r\nhost: a\r\ncontent-type: application/ocsp-request\r\ncontent-length: {}\r\n",
        request.len()
    );
    ask(issuer, &head, request).await
}

async fn get(issuer: &Issuer, path: &str) -> Reply {
    ask(issuer, &format!("GET /ocsp/{path} HTTP/1.1\r\nhost: a\r\n"), b"").await
}

/// One request on a connection of its own to the plain listener, written as it is.
async fn ask(issuer: &Issuer, head: &str, body: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(issuer.server.status()).await.unwrap();
    let message = [format!("{head}connection: close\r\n\r\n").as_bytes(), body].concat();
    let mut answer = Vec::new();
    let (mut read, mut write) = stream.split();
    // Who refuses a long body early does not read all of it.
    let (_, read) = tokio::join!(write.write_all(&message), read.read_to_end(&mut answer));
    if answer.is_empty() {
        read.unwrap();
    }
    let at = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("the end of the head");
    let head = std::str::from_utf8(&answer[..at]).unwrap();
    let (first, headers) = head.split_once("\r\n").unwrap();
    let headers = headers.split("\r\n").filter_map(|line| line.split_once(": "));
    Reply {
        code: first.split(' ').nth(1).unwrap().parse().unwrap(),
        headers: headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect(),
        body: answer[at + 4..].to_vec(),
    }
}

struct Reply {
    code: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    fn kind(&self) -> &str {
        self.header("content-type").unwrap_or_default()
    }

    fn successful(&self) -> BasicOcspResponse {
        assert_eq!((self.code, self.kind()), (200, "application/ocsp-response"));
        let response = OcspResponse::from_der(&self.body).unwrap();
        assert_eq!(response.response_status, OcspResponseStatus::Successful);
        BasicOcspResponse::from_der(response.response_bytes.unwrap().response.as_bytes()).unwrap()
    }

    fn error(&self) -> OcspResponseStatus {
        let response = OcspResponse::from_der(&self.body).unwrap();
        assert!(response.response_bytes.is_none());
        response.response_status
    }
}
