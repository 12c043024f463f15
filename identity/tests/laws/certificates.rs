//! Certificates and grants made with the writer alone: what the reader has to judge needs no valid signature.

use chancery_identity::der::{self, Writer, context, context_constructed};
use chancery_identity::{
    Ancestor, ApprovalId, Attestation, Constraint, Grant, GrantId, Instance, KeyId, Lineage, OnBehalfOf, Serial, Task,
    Timestamp, TrustDomain, oid,
};

pub(crate) fn domain() -> TrustDomain {
    "example.org".parse().unwrap()
}

pub(crate) fn instance() -> Instance {
    Instance::from_bytes([7; 16])
}

pub(crate) fn now() -> Timestamp {
    "2026-11-21T14:00:00Z".parse().unwrap()
}

/// A grant with every optional part absent.
pub(crate) fn plain_grant() -> Grant {
    Grant {
        id: GrantId::from_bytes([1; 16]),
        name: "invoice-bot".parse().unwrap(),
        revision: 3,
        owner: "team-finance".parse().unwrap(),
        systems: Vec::new(),
        lineage: Lineage::from_bytes([2; 16]),
        epoch: 1,
        planned_at: 200,
        seen: 17,
        attestation: Attestation { method: "join_token".into(), digest: [3; 32], at: now() },
        on_behalf_of: None,
        task: None,
        chain: Vec::new(),
        depth_left: 0,
        chosen: false,
        constraints: Vec::new(),
    }
}

/// A grant with every optional part present.
pub(crate) fn full_grant() -> Grant {
    let ancestor = |byte: u8, name: &str| Ancestor {
        spiffe_id: domain().agent(&name.parse().unwrap(), Instance::from_bytes([byte; 16])),
        lineage: Lineage::from_bytes([byte + 1; 16]),
        authority: KeyId::from_bytes([byte + 2; 20]),
        serial: Serial::compose(now(), [byte; 10]),
        grant: GrantId::from_bytes([byte + 3; 16]),
        planned_at: u64::from(byte),
    };
    Grant {
        systems: vec!["crm".parse().unwrap(), "docs".parse().unwrap()],
        on_behalf_of: Some(OnBehalfOf { issuer: "https://login.example.org".into(), subject: "u-81f3".into() }),
        task: Some(Task {
            id: "T-812".into(),
            approval: Some(ApprovalId::from_bytes([4; 16])),
            arguments: Some([5; 32]),
        }),
        chain: vec![ancestor(20, "planner"), ancestor(40, "writer")],
        depth_left: 7,
        chosen: false,
        constraints: vec![Constraint { oid: vec![0x2b, 6, 1, 4, 1], value: vec![9, 9] }],
        seen: u64::MAX,
        ..plain_grant()
    }
}

/// How a certificate departs from a good one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    Version2,
    NoVersion,
    ZeroSerial,
    NegativeSerial,
    LongSerial,
    OtherAlgorithm,
    NoExtensions,
    NoUri,
    TwoUris,
    UriNotSpiffe,
    UriWithoutPath,
    UriNotAscii,
    Authority,
    PathLengthOnLeaf,
    NoKeyUsage,
    KeyUsageNotCritical,
    KeyUsageEmpty,
    KeyCertSign,
    CrlSign,
    NoDigitalSignature,
    UnknownCritical,
    UnknownNotCritical,
    ExtensionTwice,
    ScopesWithoutGrant,
    TwoGrants,
    GrantVersion2,
    BadGrant,
    BadScope,
    AnySystemScope,
    TooManyScopes,
    ForeignOtherName,
    TrailingInCertificate,
    TrailingAfterCertificate,
    TrailingInExtensions,
}

pub(crate) fn leaf() -> Vec<u8> {
    with(Flaw::None)
}

pub(crate) fn with(flaw: Flaw) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.nested(der::SEQUENCE, |w| {
        w.nested(der::SEQUENCE, |w| tbs(w, flaw));
        algorithm(w, if flaw == Flaw::OtherAlgorithm { 3 } else { 2 });
        w.bits(&[0x55; 70]);
        if flaw == Flaw::TrailingInCertificate {
            w.value(der::NULL, &[]);
        }
    });
    if flaw == Flaw::TrailingAfterCertificate {
        writer.raw(&[0]);
    }
    writer.finish()
}

fn tbs(w: &mut Writer, flaw: Flaw) {
    if flaw != Flaw::NoVersion {
        w.nested(context_constructed(0), |w| {
            w.unsigned_64(if flaw == Flaw::Version2 { 1 } else { 2 });
        });
    }
    match flaw {
        Flaw::ZeroSerial => w.unsigned(&[]),
        Flaw::NegativeSerial => w.value(der::INTEGER, &[0x80, 1]),
        Flaw::LongSerial => w.unsigned(&[1; 21]),
        _ => w.unsigned(Serial::compose(now(), [8; 10]).bytes()),
    };
    algorithm(w, 2);
    w.nested(der::SEQUENCE, |w| {
        w.nested(der::SET, |w| {
            w.nested(der::SEQUENCE, |w| {
                w.oid(&[0x55, 4, 3]).utf8("example.org issuing 1");
            });
        });
    });
    w.nested(der::SEQUENCE, |w| {
        w.time(now()).time(now() + std::time::Duration::from_secs(3599));
    });
    w.nested(der::SEQUENCE, |_| {});
    w.nested(der::SEQUENCE, |w| {
        w.nested(der::SEQUENCE, |w| {
            w.oid(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1]).oid(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]);
        });
        w.bits(&[4; 65]);
    });
    if flaw != Flaw::NoExtensions {
        w.nested(context_constructed(3), |w| {
            w.nested(der::SEQUENCE, |w| extensions(w, flaw));
            if flaw == Flaw::TrailingInExtensions {
                w.value(der::NULL, &[]);
            }
        });
    }
}

fn algorithm(w: &mut Writer, last: u8) {
    w.nested(der::SEQUENCE, |w| {
        w.oid(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, last]);
    });
}

fn extensions(w: &mut Writer, flaw: Flaw) {
    extension(w, oid::AUTHORITY_KEY_ID, false, |w| {
        w.nested(der::SEQUENCE, |w| {
            w.value(context(0), &[6; 20]);
        });
    });
    extension(w, oid::SUBJECT_ALT_NAME, true, |w| {
        w.nested(der::SEQUENCE, |w| names(w, flaw));
    });
    extension(w, oid::BASIC_CONSTRAINTS, true, |w| {
        w.nested(der::SEQUENCE, |w| {
            match flaw {
                Flaw::Authority => w.boolean(true),
                Flaw::PathLengthOnLeaf => w.boolean(false).unsigned_64(0),
                _ => w,
            };
        });
    });
    if flaw != Flaw::NoKeyUsage {
        extension(w, oid::KEY_USAGE, flaw != Flaw::KeyUsageNotCritical, |w| {
            let bits: &[u8] = match flaw {
                Flaw::KeyUsageEmpty => &[0],
                Flaw::KeyCertSign => &[2, 0x84],
                Flaw::CrlSign => &[1, 0x82],
                Flaw::NoDigitalSignature => &[5, 0x20],
                _ => &[7, 0x80],
            };
            w.value(der::BIT_STRING, bits);
        });
    }
    extension(w, oid::EXTENDED_KEY_USAGE, false, |w| {
        w.nested(der::SEQUENCE, |w| {
            w.oid(oid::SERVER_AUTH).oid(oid::CLIENT_AUTH);
        });
    });
    if matches!(flaw, Flaw::UnknownCritical | Flaw::UnknownNotCritical) {
        extension(w, &[0x2a, 3, 4], flaw == Flaw::UnknownCritical, |w| {
            w.value(der::NULL, &[]);
        });
    }
    if flaw == Flaw::ExtensionTwice {
        for _ in 0..2 {
            extension(w, &[0x2a, 3, 4], false, |w| {
                w.value(der::NULL, &[]);
            });
        }
    }
    let grants = match flaw {
        Flaw::ScopesWithoutGrant => 0,
        Flaw::TwoGrants => 2,
        _ => 1,
    };
    for _ in 0..grants {
        extension(w, oid::GRANT, false, |w| {
            let der = full_grant().to_der();
            match flaw {
                Flaw::BadGrant => w.raw(der.get(..der.len() - 1).unwrap_or_default()),
                Flaw::GrantVersion2 => w.nested(der::SEQUENCE, |w| {
                    w.unsigned_64(2);
                }),
                _ => w.raw(&der),
            };
        });
    }
}

fn names(w: &mut Writer, flaw: Flaw) {
    const URI: u8 = context(6);
    let id = domain().agent(&"invoice-bot".parse().unwrap(), instance());
    match flaw {
        Flaw::NoUri => &mut *w,
        Flaw::TwoUris => w.value(URI, id.as_str().as_bytes()).value(URI, b"https://example.org"),
        Flaw::UriNotSpiffe => w.value(URI, b"https://example.org/agent"),
        Flaw::UriWithoutPath => w.value(URI, b"spiffe://example.org"),
        Flaw::UriNotAscii => w.value(URI, "spiffe://example.org/\u{e9}".as_bytes()),
        _ => w.value(URI, id.as_str().as_bytes()),
    };
    let many: Vec<String> = (0..65).map(|n| format!("tools/call:crm/t{n}")).collect();
    let scopes: Vec<&str> = match flaw {
        Flaw::BadScope => vec!["tools/call"],
        Flaw::AnySystemScope => vec!["tools/call:*/refund"],
        Flaw::TooManyScopes => many.iter().map(String::as_str).collect(),
        _ => vec!["resources/read:docs/**", "tools/call:crm/get_customer"],
    };
    for scope in scopes {
        other_name(w, oid::SCOPE, scope);
    }
    if flaw == Flaw::ForeignOtherName {
        other_name(w, &[0x2b, 6, 1, 4, 1, 0x82, 0x37, 20, 2, 3], "user@example.org");
    }
    w.value(context(2), b"bot.example.org");
}

fn other_name(w: &mut Writer, kind: &[u8], text: &str) {
    w.nested(context_constructed(0), |w| {
        w.oid(kind).nested(context_constructed(0), |w| {
            w.utf8(text);
        });
    });
}

fn extension(w: &mut Writer, id: &[u8], critical: bool, write: impl FnOnce(&mut Writer)) {
    let mut value = Writer::new();
    write(&mut value);
    w.nested(der::SEQUENCE, |w| {
        w.oid(id);
        if critical {
            w.boolean(true);
        }
        w.octets(&value.finish());
    });
}
