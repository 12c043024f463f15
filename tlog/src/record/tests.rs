use chancery_identity::{
    Ancestor, ApprovalId, Attestation, Certificate, Constraint, Effect, Grant, GrantId, Instance, KeyId, Lineage, Name,
    OnBehalfOf, Principal, Reason, RevocationId, Scope, ScopeSet, Serial, SpiffeId, Task, TokenId, TrustDomain,
};
use proptest::prelude::*;

use super::*;
use crate::decision::{CrlPublished, Facts, Issued, LastHead, LogRestarted, Renewed, Resumed, Revoked};
use crate::hash::Hash;

/// A certificate of `agent` with nothing out of the ordinary; `id` tells it from others.
pub(crate) fn certificate(agent: &str, id: u8, planned_at: u64) -> Certificate {
    let trust_domain: TrustDomain = "example.org".parse().unwrap();
    let name: Name = agent.parse().unwrap();
    Certificate {
        spiffe_id: trust_domain.agent(&name, Instance::from_bytes([id; 16])),
        scopes: ScopeSet::new(["tools/call:crm/get_customer".parse::<Scope>().unwrap()]).unwrap(),
        grant: Some(Grant {
            id: GrantId::from_bytes([id; 16]),
            name,
            revision: 3,
            owner: "team-finance".parse().unwrap(),
            systems: vec![],
            lineage: Lineage::from_bytes([id; 16]),
            epoch: 1,
            planned_at,
            seen: 0,
            attestation: Attestation {
                method: "join_token".into(),
                digest: [id; 32],
                at: "2026-11-21T14:00:00Z".parse().unwrap(),
            },
            on_behalf_of: None,
            task: None,
            chain: vec![],
            depth_left: 0,
            chosen: false,
            constraints: vec![],
        }),
        serial: Serial::from_bytes(&[0x5c, id]).unwrap(),
        authority: KeyId::from_bytes([0x3f; 20]),
        not_before: "2026-11-21T13:59:00Z".parse().unwrap(),
        not_after: "2026-11-21T14:59:59Z".parse().unwrap(),
    }
}

pub(crate) fn record(decision: Decision) -> Record {
    Record {
        at: "2026-11-21T14:00:00.012Z".parse().unwrap(),
        epoch: 1,
        actor: Actor::Issuer,
        subjects: vec![],
        request_id: None,
        decision,
    }
}

#[test]
fn one_spelling_for_good() {
    let issued = Issued { certificate: certificate("invoice-bot", 1, 6).into(), sha256: Hash([0xab; 32]) };
    let record = Record {
        actor: Actor::Holder(issued.certificate.spiffe_id.clone()),
        subjects: vec!["agent:invoice-bot".into()],
        request_id: Some(RequestId::from_bytes([7; 16])),
        ..record(Decision::Issue(issued))
    };
    let wanted = [
        r#"{"action":"issue","actor":"spiffe://example.org/agent/invoice-bot/01010101-0101-0101-0101-010101010101","#,
        r#""at":"2026-11-21T14:00:00.012Z","detail":{"certificate":{"#,
        r#""authority":"3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f","grant":{"#,
        r#""attestation":{"at":"2026-11-21T14:00:00.000Z","#,
        r#""digest":"0101010101010101010101010101010101010101010101010101010101010101","method":"join_token"},"#,
        r#""depth_left":0,"epoch":"1","id":"gr_01010101010101010101010101010101","#,
        r#""lineage":"01010101-0101-0101-0101-010101010101","name":"invoice-bot","owner":"team-finance","#,
        r#""planned_at":"6","revision":"3","seen":"0"},"#,
        r#""not_after":"2026-11-21T14:59:59.000Z","not_before":"2026-11-21T13:59:00.000Z","#,
        r#""scopes":["tools/call:crm/get_customer"],"serial":"5c01","#,
        r#""spiffe_id":"spiffe://example.org/agent/invoice-bot/01010101-0101-0101-0101-010101010101"},"#,
        r#""sha256":"abababababababababababababababababababababababababababababababab"},"#,
        r#""epoch":"1","request_id":"rq_07070707070707070707070707070707","#,
        r#""subjects":["agent:invoice-bot"],"v":1}"#,
    ]
    .concat();
    assert_eq!(String::from_utf8(record.to_bytes()).unwrap(), wanted);
    assert_eq!(Record::parse(wanted.as_bytes()), Ok(record));
}

#[test]
fn every_other_spelling_is_refused() {
    let denied = record(Decision::Deny(Facts::from_iter([("code", "access-missing"), ("path", "é")])));
    let text = String::from_utf8(denied.to_bytes()).unwrap();
    assert_eq!(
        text,
        r#"{"action":"deny","actor":"issuer","at":"2026-11-21T14:00:00.012Z","#.to_owned()
            + r#""detail":{"code":"access-missing","path":"\u00e9"},"epoch":"1","subjects":[],"v":1}"#
    );
    assert_eq!(Record::parse(text.as_bytes()), Ok(denied));

    for (canonical, other) in [
        ("{\"action\"", "{ \"action\""),
        ("\"v\":1}", "\"v\":1}\n"),
        (r"\u00e9", "é"),
        (r"\u00e9", r"\u00E9"),
        ("deny", r"d\u0065ny"),
        ("\"epoch\":\"1\"", "\"epoch\":\"01\""),
        ("\"epoch\":\"1\"", "\"epoch\":\"+1\""),
        (".012Z", "Z"),
        (r#""code":"access-missing","path""#, r#""path":"","code":"access-missing","path""#),
        (r#""code":"access-missing","path":"\u00e9""#, r#""path":"\u00e9","code":"access-missing""#),
        (r#""epoch":"1","#, r#""epoch":"1","request_id":null,"#),
        (r#""epoch":"1","subjects":[]"#, r#""subjects":[],"epoch":"1""#),
    ] {
        let changed = text.replace(canonical, other);
        assert_ne!(changed, text, "{canonical}");
        let result = Record::parse(changed.as_bytes());
        assert!(matches!(result, Err(RecordError::Spelling | RecordError::Syntax(_))), "{other}: {result:?}");
    }
    for (canonical, other) in [
        ("\"v\":1", "\"v\":1,\"w\":1"),
        ("\"epoch\":\"1\"", "\"epoch\":1"),
        ("\"epoch\":\"1\"", "\"epoch\":\"18446744073709551616\""),
        ("\"epoch\":\"1\"", "\"epoch\":\"1\",\"epoch\":\"1\""),
        ("deny", "permit"),
        ("issuer", "somebody"),
        ("\"subjects\":[],", ""),
        ("}", ""),
        (r#"{"code":"access-missing","path":"\u00e9"}"#, "[]"),
        (r#""access-missing""#, "1"),
    ] {
        let result = Record::parse(text.replace(canonical, other).as_bytes());
        assert!(matches!(result, Err(RecordError::Syntax(_))), "{other}: {result:?}");
    }
    let later = text.replace("\"v\":1", "\"v\":2,\"new\":{}");
    assert_eq!(Record::parse(later.as_bytes()), Err(RecordError::Version(2)));
    assert_eq!(Record::parse(&vec![b' '; 65_536]), Err(RecordError::Length(65_536)));
    assert!(matches!(Record::parse("[".repeat(65_000).as_bytes()), Err(RecordError::Syntax(_))));
}

#[test]
fn a_detail_belongs_to_its_action() {
    let resumed = Resumed { comment: None, id: RevocationId::from_bytes([1; 16]), n: 2, resumes: 1 };
    let text = String::from_utf8(record(Decision::Resume(resumed)).to_bytes()).unwrap();
    assert!(matches!(Record::parse(text.replace("resume\"", "revoke\"").as_bytes()), Err(RecordError::Syntax(_))));
    let extra = text.replace("\"n\":\"2\"", "\"m\":\"2\",\"n\":\"2\"");
    assert!(matches!(Record::parse(extra.as_bytes()), Err(RecordError::Syntax(_))));
}

#[test]
fn actions_are_what_serde_writes() {
    for action in Action::ALL {
        assert_eq!(serde_json::to_value(action).unwrap(), action.as_str());
        assert_eq!(action.as_str().parse(), Ok(*action));
    }
}

#[test]
fn the_largest_certificate_fits() {
    let mut certificate = certificate("invoice-bot", 1, 6);
    let long = "a".repeat(256 - "tools/call:crm/00".len());
    let scopes = (10..74).map(|i| format!("tools/call:crm/{i}{long}").parse::<Scope>().unwrap());
    certificate.scopes = ScopeSet::new(scopes).unwrap();
    let record = record(Decision::Issue(Issued { certificate: certificate.into(), sha256: Hash([0; 32]) }));
    assert_eq!(Record::parse(&record.to_bytes()), Ok(record));
}

fn any_certificate() -> impl Strategy<Value = Certificate> {
    let ancestor = (any::<[u8; 16]>(), any::<u64>()).prop_map(|(id, planned_at)| Ancestor {
        spiffe_id: "spiffe://example.org/agent/parent/01936f2a-0000-7000-8000-000000000000".parse().unwrap(),
        lineage: Lineage::from_bytes(id),
        authority: KeyId::from_bytes([id[0]; 20]),
        serial: Serial::from_bytes(&[1, id[0]]).unwrap(),
        grant: GrantId::from_bytes(id),
        planned_at,
    });
    let task = (".*", any::<Option<[u8; 16]>>(), any::<Option<[u8; 32]>>())
        .prop_map(|(id, approval, arguments)| Task { id, approval: approval.map(ApprovalId::from_bytes), arguments });
    let user = (".*", ".*").prop_map(|(issuer, subject)| OnBehalfOf { issuer, subject });
    let constraint = any::<(Vec<u8>, Vec<u8>)>().prop_map(|(oid, value)| Constraint { oid, value });
    let chain = prop::collection::vec(ancestor, 0..3);
    let constraints = prop::collection::vec(constraint, 0..3);
    let systems = prop::collection::vec("[a-z]{1,9}", 0..3);
    let grant = (prop::option::of(task), prop::option::of(user), chain, constraints, systems, any::<[u64; 4]>(), ".*");
    (prop::option::of(grant), any::<u8>(), prop::collection::vec("[a-z]{1,9}", 0..5)).prop_map(|(grant, id, scopes)| {
        let mut certificate = certificate("invoice-bot", id, 0);
        certificate.scopes = ScopeSet::new(scopes.iter().map(|s| format!("read:crm/{s}").parse().unwrap())).unwrap();
        let plain = certificate.grant.take().unwrap();
        certificate.grant =
            grant.map(|(task, on_behalf_of, chain, constraints, systems, [a, b, c, d], method)| Grant {
                task,
                on_behalf_of,
                chain,
                constraints,
                systems: systems.iter().map(|system| system.parse().unwrap()).collect(),
                epoch: a,
                planned_at: b,
                revision: c,
                seen: d,
                attestation: Attestation { method, ..plain.attestation.clone() },
                ..plain.clone()
            });
        certificate
    })
}

fn any_decision() -> impl Strategy<Value = Decision> {
    let facts = || prop::collection::btree_map(".*", ".*", 0..4).prop_map(Facts);
    let hash = || any::<[u8; 32]>().prop_map(Hash);
    let rv = || any::<[u8; 16]>().prop_map(RevocationId::from_bytes);
    let target = prop::sample::select(vec![
        "agent:invoice-bot",
        "serial:5c0e",
        "task:invoice-bot/T-812 é",
        "scope:tools/call:crm/refund",
        "issued-before:2026-11-21T02:00:00.000Z",
    ]);
    let effect = prop::sample::select(Effect::ALL);
    let reason = prop::sample::select(Reason::ALL);
    let revoked = (target, effect, reason, rv(), any::<[u64; 2]>(), any::<bool>(), prop::option::of(".*")).prop_map(
        |(target, effect, reason, id, [n, fence], cascade, comment)| Revoked {
            cascade,
            comment,
            effect,
            fence,
            id,
            n,
            reason,
            target: target.parse().unwrap(),
        },
    );
    let resumed = (rv(), any::<[u64; 2]>(), prop::option::of(".*")).prop_map(|(id, [n, resumes], comment)| Resumed {
        comment,
        id,
        n,
        resumes,
    });
    let crl = (any::<[u64; 3]>(), hash()).prop_map(|([entries, n, number], sha256)| CrlPublished {
        authority: KeyId::from_bytes([1; 20]),
        entries,
        n,
        number,
        sha256,
    });
    let head = || (any::<[u64; 3]>(), hash()).prop_map(|([epoch, n, size], root)| LastHead { epoch, n, root, size });
    prop_oneof![
        (any_certificate(), hash())
            .prop_map(|(certificate, sha256)| Decision::Issue(Issued { certificate: certificate.into(), sha256 })),
        (any_certificate(), hash()).prop_map(|(certificate, sha256)| {
            Decision::Renew(Renewed {
                certificate: certificate.into(),
                previous: Serial::from_bytes(&[9]).unwrap(),
                sha256,
            })
        }),
        facts().prop_map(Decision::Grant),
        facts().prop_map(Decision::Delegate),
        facts().prop_map(Decision::Approve),
        facts().prop_map(Decision::Deny),
        revoked.prop_map(Decision::Revoke),
        resumed.prop_map(Decision::Resume),
        facts().prop_map(Decision::Registry),
        facts().prop_map(Decision::Policy),
        facts().prop_map(Decision::Ceremony),
        crl.prop_map(Decision::Crl),
        (head(), head()).prop_map(|(kept, restored)| Decision::LogRestart(LogRestarted { kept, restored })),
    ]
}

fn any_record() -> impl Strategy<Value = Record> {
    let actor = prop_oneof![
        Just(Actor::Issuer),
        any::<u32>().prop_map(Actor::Local),
        Just(Actor::Admin("ana".parse().unwrap())),
        any::<[u8; 16]>().prop_map(|id| Actor::Token(TokenId::from_bytes(id))),
        Just(Actor::Holder("spiffe://example.org/service/crm".parse().unwrap())),
    ];
    let at = (Timestamp::MIN.unix_millis()..=Timestamp::MAX.unix_millis()).prop_map(Timestamp::from_unix_millis);
    let request_id = any::<Option<[u8; 16]>>().prop_map(|id| id.map(RequestId::from_bytes));
    (at, any::<u64>(), actor, prop::collection::vec(".*", 0..3), request_id, any_decision()).prop_map(
        |(at, epoch, actor, subjects, request_id, decision)| Record {
            at,
            epoch,
            actor,
            subjects,
            request_id,
            decision,
        },
    )
}

proptest! {
    #[test]
    fn records_parse_back_and_keys_are_in_order(record in any_record()) {
        let bytes = record.to_bytes();
        prop_assert!(bytes.is_ascii());
        prop_assert_eq!(Record::parse(&bytes), Ok(record));

        // A map of serde_json's own is sorted: if that is so, spelling the same bytes anew changes nothing.
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        prop_assert_eq!(serde_json::json!({"b": 1, "a": 2}).to_string(), r#"{"a":2,"b":1}"#);
        prop_assert_eq!(canonical::to_bytes(&value), bytes);
    }

    #[test]
    fn a_changed_record_is_another_or_none(record in any_record(), at: prop::sample::Index, byte: u8) {
        let mut bytes = record.to_bytes();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != byte);
        bytes[at] = byte;
        if let Ok(other) = Record::parse(&bytes) {
            prop_assert_ne!(other, record);
        }
    }

    #[test]
    fn parsing_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64), text in "[\\[{}\\]\":,a-z0-9\\\\]{0,64}") {
        let _ = Record::parse(&bytes);
        let _ = Record::parse(text.as_bytes());
        let _ = text.parse::<Actor>();
    }
}

#[test]
fn actors_parse_back() {
    let holder: SpiffeId = "spiffe://example.org/admin/ana".parse().unwrap();
    assert_eq!(holder.principal(), Principal::Admin("ana"));
    for wrong in
        ["", "Issuer", "issuer:", "local", "local:", "local:-1", "local:+1x", "admin:", "admin:Ana", "ana", "tk_1"]
    {
        assert!(wrong.parse::<Actor>().is_err(), "{wrong}");
    }
    assert_eq!("tk_01010101010101010101010101010101".parse(), Ok(Actor::Token(TokenId::from_bytes([1; 16]))));
}
