//! What each lint is there to find, one thing wrong at a time.

use std::time::Duration;

use super::super::*;
use super::draft::{Draft, name, other_name, time};
use super::{NOW, good_grant, signer, status};
use crate::certificate::{CA_ISSUERS, OCSP, crl_distribution_point};
use crate::local::CRYPTO;

const UNKNOWN: &[u8] = &[0x2b, 6, 1, 4, 1, 0x81, 0xfd, 0x59, 99];

/// One thing wrong with a good certificate.
pub(super) struct Defect {
    pub(super) lint: &'static str,
    pub(super) name: &'static str,
    pub(super) make: fn(&mut Draft),
}

pub(super) fn defects() -> Vec<Defect> {
    let defect = |lint, name, make| Defect { lint, name, make };
    vec![
        defect("authority_information_access", "absent", |d| d.remove(oid::AUTHORITY_INFO_ACCESS)),
        defect("authority_information_access", "critical", |d| d.critical(oid::AUTHORITY_INFO_ACCESS, Some(true))),
        defect("authority_information_access", "elsewhere", |d| {
            access(d, &[OCSP, CA_ISSUERS], "http://elsewhere.test/x")
        }),
        defect("authority_information_access", "no_ocsp", |d| {
            let key = signer("issuing");
            let key_id = key::key_id(PublicKey::read(key.public_key()).unwrap().unwrap().bits, CRYPTO);
            access(d, &[CA_ISSUERS], &status().certificate(key_id));
        }),
        defect("authority_information_access", "issuing-ocsp", |d| access(d, &[OCSP], "http://status.test/ocsp")),
        defect("authority_information_access", "responder-present", |d| {
            d.add(oid::AUTHORITY_INFO_ACCESS, None, |_| {});
            access(d, &[OCSP], "http://status.test/ocsp");
        }),
        defect("authority_information_access", "head-absent", |d| d.remove(oid::AUTHORITY_INFO_ACCESS)),
        defect("authority_information_access", "head-ocsp", |d| access(d, &[OCSP], "http://status.test/ocsp")),
        defect("authority_key_id", "absent", |d| d.remove(oid::AUTHORITY_KEY_ID)),
        defect("authority_key_id", "responder-absent", |d| d.remove(oid::AUTHORITY_KEY_ID)),
        defect("authority_key_id", "head-absent", |d| d.remove(oid::AUTHORITY_KEY_ID)),
        defect("authority_key_id", "another", |d| {
            d.value(oid::AUTHORITY_KEY_ID, |w| {
                w.nested(der::SEQUENCE, |w| {
                    w.value(der::context(0), &[1; 20]);
                });
            });
        }),
        defect("basic_constraints", "absent", |d| d.remove(oid::BASIC_CONSTRAINTS)),
        defect("basic_constraints", "ca", |d| {
            d.value(oid::BASIC_CONSTRAINTS, |w| {
                w.raw(&[der::SEQUENCE, 3, der::BOOLEAN, 1, 0xff]);
            });
        }),
        defect("basic_constraints", "default_said", |d| {
            d.value(oid::BASIC_CONSTRAINTS, |w| {
                w.raw(&[der::SEQUENCE, 3, der::BOOLEAN, 1, 0]);
            });
        }),
        defect("basic_constraints", "not_critical", |d| d.critical(oid::BASIC_CONSTRAINTS, None)),
        defect("basic_constraints", "issuing-no_path_length", |d| {
            d.value(oid::BASIC_CONSTRAINTS, |w| {
                w.raw(&[der::SEQUENCE, 3, der::BOOLEAN, 1, 0xff]);
            });
        }),
        defect("basic_constraints", "head-ca", |d| {
            d.value(oid::BASIC_CONSTRAINTS, |w| {
                w.raw(&[der::SEQUENCE, 3, der::BOOLEAN, 1, 0xff]);
            });
        }),
        defect("basic_constraints", "responder-ca", |d| {
            d.value(oid::BASIC_CONSTRAINTS, |w| {
                w.raw(&[der::SEQUENCE, 3, der::BOOLEAN, 1, 0xff]);
            });
        }),
        defect("basic_constraints", "root-path_length", |d| {
            d.value(oid::BASIC_CONSTRAINTS, |w| {
                w.raw(&[der::SEQUENCE, 6, der::BOOLEAN, 1, 0xff, der::INTEGER, 1, 0]);
            });
        }),
        defect("crl_distribution_point", "absent", |d| d.remove(oid::CRL_DISTRIBUTION_POINTS)),
        defect("crl_distribution_point", "elsewhere", |d| {
            d.value(oid::CRL_DISTRIBUTION_POINTS, |w| crl_distribution_point(w, "http://elsewhere.test/a.crl"));
        }),
        defect("crl_distribution_point", "issuing-absent", |d| d.remove(oid::CRL_DISTRIBUTION_POINTS)),
        defect("crl_distribution_point", "head-absent", |d| d.remove(oid::CRL_DISTRIBUTION_POINTS)),
        defect("crl_distribution_point", "responder-present", |d| {
            d.add(oid::CRL_DISTRIBUTION_POINTS, None, |w| crl_distribution_point(w, "http://status.test/a.crl"));
        }),
        defect("crl_distribution_point", "root-present", |d| {
            d.add(oid::CRL_DISTRIBUTION_POINTS, None, |w| crl_distribution_point(w, "http://status.test/a.crl"));
        }),
        defect("der", "critical_false_said", |d| d.critical(oid::SUBJECT_KEY_ID, Some(false))),
        defect("der", "length_not_minimal", |d| d.names(|names| names.push(vec![DNS_NAME, 0x81, 1, b'z']))),
        defect("der", "trailing_bytes", |d| d.trailing = vec![der::NULL, 0]),
        defect("extended_key_usage", "absent", |d| d.remove(oid::EXTENDED_KEY_USAGE)),
        defect("extended_key_usage", "client_auth_only", |d| {
            d.value(oid::EXTENDED_KEY_USAGE, |w| {
                w.nested(der::SEQUENCE, |w| {
                    w.oid(oid::CLIENT_AUTH);
                });
            });
        }),
        defect("extended_key_usage", "issuing-present", |d| {
            d.add(oid::EXTENDED_KEY_USAGE, None, |w| {
                w.nested(der::SEQUENCE, |w| {
                    w.oid(oid::CLIENT_AUTH);
                });
            });
        }),
        defect("extended_key_usage", "head-absent", |d| d.remove(oid::EXTENDED_KEY_USAGE)),
        defect("extended_key_usage", "head-client_auth_too", |d| {
            d.value(oid::EXTENDED_KEY_USAGE, |w| {
                w.nested(der::SEQUENCE, |w| {
                    w.oid(oid::HEAD_KEY_USAGE).oid(oid::CLIENT_AUTH);
                });
            });
        }),
        defect("extended_key_usage", "head-critical", |d| d.critical(oid::EXTENDED_KEY_USAGE, Some(true))),
        defect("extended_key_usage", "responder-absent", |d| d.remove(oid::EXTENDED_KEY_USAGE)),
        defect("extended_key_usage", "responder-server_auth_too", |d| {
            d.value(oid::EXTENDED_KEY_USAGE, |w| {
                w.nested(der::SEQUENCE, |w| {
                    w.oid(OCSP_SIGNING).oid(oid::SERVER_AUTH);
                });
            });
        }),
        defect("extensions", "twice", |d| {
            let twice = d.at(oid::SUBJECT_KEY_ID).clone();
            d.extensions.push(twice);
        }),
        defect("extensions", "unknown", |d| {
            d.add(UNKNOWN, None, |w| {
                w.value(der::NULL, &[]);
            });
        }),
        defect("extensions", "unknown_critical", |d| {
            d.add(UNKNOWN, Some(true), |w| {
                w.value(der::NULL, &[]);
            });
        }),
        defect("extensions", "head-unknown", |d| {
            d.add(UNKNOWN, None, |w| {
                w.value(der::NULL, &[]);
            });
        }),
        defect("grant", "absent", |d| d.remove(oid::GRANT)),
        defect("grant", "critical", |d| d.critical(oid::GRANT, Some(true))),
        defect("grant", "malformed", |d| {
            d.value(oid::GRANT, |w| {
                w.nested(der::SEQUENCE, |_| {});
            });
        }),
        defect("grant", "head-present", |d| {
            let grant = good_grant().to_der();
            d.add(oid::GRANT, None, |w| {
                w.raw(&grant);
            });
        }),
        defect("issuer", "head-another", |d| d.issuer = vec![der::SEQUENCE, 0]),
        defect("issuer", "another", |d| d.issuer = vec![der::SEQUENCE, 0]),
        defect("key_usage", "absent", |d| d.remove(oid::KEY_USAGE)),
        defect("key_usage", "key_cert_sign", |d| {
            d.value(oid::KEY_USAGE, |w| {
                w.raw(&[der::BIT_STRING, 2, 2, 0x84]);
            });
        }),
        defect("key_usage", "key_encipherment", |d| {
            d.value(oid::KEY_USAGE, |w| {
                w.raw(&[der::BIT_STRING, 2, 5, 0xa0]);
            });
        }),
        defect("key_usage", "not_critical", |d| d.critical(oid::KEY_USAGE, None)),
        defect("key_usage", "issuing-digital_signature", |d| {
            d.value(oid::KEY_USAGE, |w| {
                w.raw(&[der::BIT_STRING, 2, 1, 0x86]);
            });
        }),
        defect("key_usage", "head-key_cert_sign", |d| {
            d.value(oid::KEY_USAGE, |w| {
                w.raw(&[der::BIT_STRING, 2, 2, 0x84]);
            });
        }),
        defect("key_usage", "responder-crl_sign", |d| {
            d.value(oid::KEY_USAGE, |w| {
                w.raw(&[der::BIT_STRING, 2, 1, 0x82]);
            });
        }),
        defect("names", "dns_twice", |d| d.names(|names| names.push(name(DNS_NAME, "b.internal")))),
        defect("names", "dns_wildcard", |d| d.names(|names| names.insert(1, name(DNS_NAME, "*.internal")))),
        defect("names", "email", |d| d.names(|names| names.push(name(der::context(1), "a@example.org")))),
        defect("names", "issuing-dns", |d| d.names(|names| names.push(name(DNS_NAME, "a.internal")))),
        defect("names", "head-spiffe_id", |d| {
            d.add(oid::SUBJECT_ALT_NAME, None, |w| {
                w.nested(der::SEQUENCE, |w| {
                    w.value(URI, b"spiffe://example.org/chancery/server");
                });
            });
        }),
        defect("names", "responder-spiffe_id", |d| {
            d.add(oid::SUBJECT_ALT_NAME, None, |w| {
                w.nested(der::SEQUENCE, |w| {
                    w.value(URI, b"spiffe://example.org/chancery/server");
                });
            });
        }),
        defect("no_revocation_available", "present", |d| {
            d.add(NO_REVOCATION_AVAILABLE, None, |w| {
                w.value(der::NULL, &[]);
            });
        }),
        defect("ocsp_no_check", "head-present", |d| {
            d.add(OCSP_NO_CHECK, None, |w| {
                w.value(der::NULL, &[]);
            });
        }),
        defect("ocsp_no_check", "leaf", |d| {
            d.add(OCSP_NO_CHECK, None, |w| {
                w.value(der::NULL, &[]);
            });
        }),
        defect("ocsp_no_check", "responder-absent", |d| d.remove(OCSP_NO_CHECK)),
        defect("ocsp_no_check", "responder-critical", |d| d.critical(OCSP_NO_CHECK, Some(true))),
        defect("public_key", "responder-the_issuers", |d| holder(d, "issuing")),
        defect("public_key", "head-not_the_proved_one", |d| holder(d, "other")),
        defect("public_key", "head-the_issuers", |d| holder(d, "root")),
        defect("public_key", "not_the_proved_one", |d| holder(d, "other")),
        defect("public_key", "the_issuers", |d| holder(d, "issuing")),
        defect("scopes", "malformed", |d| d.names(|names| names.push(other_name(oid::SCOPE, "no scope")))),
        defect("scopes", "other_name_of_another_kind", |d| d.names(|names| names.push(other_name(UNKNOWN, "z:z/z")))),
        defect("scopes", "out_of_order", |d| d.names(|names| names.push(other_name(oid::SCOPE, "a:crm/a")))),
        defect("scopes", "twice", |d| d.names(|names| names.extend(names.last().cloned()))),
        defect("serial", "negative", |d| d.serial = vec![0x80; 16]),
        defect("serial", "short", |d| d.serial = vec![0x41]),
        defect("serial", "twenty_one_bytes", |d| d.serial = vec![0x41; 21]),
        defect("serial", "zero", |d| d.serial = vec![0]),
        defect("serial", "head-short", |d| d.serial = vec![0x41]),
        defect("signature_algorithm", "sha384_with_p256", |d| {
            d.algorithm = Algorithm::EcdsaP384.signature_identifier().into();
        }),
        defect("size", "too_many_bytes", |d| {
            let scopes = (10..60).map(|i| other_name(oid::SCOPE, &format!("zz:crm/{i}{}", "x".repeat(60))));
            d.names(|names| names.extend(scopes));
        }),
        defect("spiffe_id", "absent", |d| d.names(|names| names.retain(|name| name.first() != Some(&URI)))),
        defect("spiffe_id", "another_trust_domain", |d| d.uri("spiffe://elsewhere.test/agent/a")),
        defect("spiffe_id", "https", |d| d.uri("https://example.org/agent/a")),
        defect("spiffe_id", "no_path", |d| d.uri("spiffe://example.org")),
        defect("spiffe_id", "two", |d| d.names(|names| names.push(name(URI, "spiffe://example.org/agent/a")))),
        defect("spiffe_id", "issuing-path", |d| d.uri("spiffe://example.org/ca")),
        defect("subject", "not_empty", |d| d.subject = d.issuer.clone()),
        defect("subject", "names_not_critical", |d| d.critical(oid::SUBJECT_ALT_NAME, None)),
        defect("subject", "responder-empty", |d| d.subject = vec![der::SEQUENCE, 0]),
        defect("subject", "responder-the_issuers", |d| d.subject = d.issuer.clone()),
        defect("subject", "head-empty", |d| d.subject = vec![der::SEQUENCE, 0]),
        defect("subject", "head-the_issuers", |d| d.subject = d.issuer.clone()),
        defect("subject", "issuing-empty", |d| d.subject = vec![der::SEQUENCE, 0]),
        defect("subject", "issuing-the_roots", |d| d.subject = d.issuer.clone()),
        defect("subject_key_id", "absent", |d| d.remove(oid::SUBJECT_KEY_ID)),
        defect("subject_key_id", "another", |d| {
            d.value(oid::SUBJECT_KEY_ID, |w| {
                w.octets(&[1; 20]);
            });
        }),
        defect("subject_key_id", "head-another", |d| {
            d.value(oid::SUBJECT_KEY_ID, |w| {
                w.octets(&[1; 20]);
            });
        }),
        defect("time_form", "generalized_before_2050", |d| {
            d.not_after = written(|w| {
                w.value(der::GENERALIZED_TIME, b"20261121145959Z");
            });
        }),
        defect("time_form", "no_seconds", |d| {
            d.not_after = written(|w| {
                w.value(der::UTC_TIME, b"2611211459Z");
            });
        }),
        defect("time_form", "fraction", |d| {
            d.not_after = written(|w| {
                w.value(der::GENERALIZED_TIME, b"20500101000000.5Z");
            });
        }),
        defect("validity", "begins_two_minutes_back", |d| d.not_before = time(NOW - Duration::from_secs(120))),
        defect("validity", "begins_later", |d| d.not_before = time(NOW + Duration::from_secs(1))),
        defect("validity", "ends_before_it_begins", |d| d.not_after = time(NOW - Duration::from_secs(61))),
        defect("validity", "outlives_its_issuer", |d| d.not_after = time(NOW + Duration::from_secs(91 * 86_400))),
        defect("validity", "responder-two_days", |d| d.not_after = time(NOW + Duration::from_secs(2 * 86_400))),
        defect("validity", "head-ninety_one_days", |d| d.not_after = time(NOW + Duration::from_secs(91 * 86_400))),
        defect("version", "absent", |d| d.version = None),
        defect("version", "two", |d| d.version = Some(vec![context_constructed(0), 3, der::INTEGER, 1, 1])),
    ]
}

/// Points each of these ways of access to one place.
fn access(draft: &mut Draft, methods: &[&[u8]], uri: &str) {
    draft.value(oid::AUTHORITY_INFO_ACCESS, |w| {
        w.nested(der::SEQUENCE, |w| {
            for method in methods {
                w.nested(der::SEQUENCE, |w| {
                    w.oid(method).value(URI, uri.as_bytes());
                });
            }
        });
    });
}

fn holder(draft: &mut Draft, key: &str) {
    draft.spki = signer(key).public_key().to_vec();
    let key_id = key::key_id(PublicKey::read(&draft.spki).unwrap().unwrap().bits, CRYPTO);
    draft.value(oid::SUBJECT_KEY_ID, |w| {
        w.octets(key_id.bytes());
    });
}
