//! The index over revocations in force answers as a scan over all of them would.

use std::fmt::Display;
use std::str::FromStr;

use proptest::prelude::*;

use chancery_identity::{
    Ancestor, ApprovalId, Attestation, Certificate, Effect, Grant, GrantId, InForce, Instance, KeyId, Lineage, Name,
    Reason, Revocation, RevocationId, Scope, ScopeSet, Serial, SpiffeId, Target, Task, Timestamp,
};

/// Few values of each kind, so that names meet.
fn few<T>(make: impl Fn(u8) -> T) -> impl Strategy<Value = T>
where
    T: std::fmt::Debug,
{
    (0_u8..3).prop_map(make)
}

fn text<T: FromStr<Err: Display>>(text: String) -> T {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn name(n: u8) -> Name {
    text(format!("name-{n}"))
}

fn serial(n: u8) -> Serial {
    Serial::compose(Timestamp::default(), [n; 10])
}

fn scope(n: u8) -> Scope {
    text(["tools/call:crm/*", "tools/call:crm/refund", "tools/call:billing/**"][usize::from(n)].into())
}

fn spiffe_id() -> impl Strategy<Value = SpiffeId> {
    let agent = (0_u8..3, 0_u8..3, any::<bool>()).prop_map(|(n, instance, sub)| {
        let sub = if sub { "/sub/helper" } else { "" };
        text(format!("spiffe://example.org/agent/name-{n}/{}{sub}", Instance::from_bytes([instance; 16])))
    });
    let other = (0_u8..3, prop::sample::select(vec!["service", "admin", "shared", "elsewhere"]))
        .prop_map(|(n, kind)| text(format!("spiffe://example.org/{kind}/name-{n}")));
    prop_oneof![4 => agent, 1 => other]
}

fn ancestor() -> impl Strategy<Value = Ancestor> {
    (spiffe_id(), 0_u8..3, 0_u8..3, 0_u8..3, 0_u8..3).prop_map(|(spiffe_id, lineage, authority, certificate, grant)| {
        Ancestor {
            spiffe_id,
            lineage: Lineage::from_bytes([lineage; 16]),
            authority: KeyId::from_bytes([authority; 20]),
            serial: serial(certificate),
            grant: GrantId::from_bytes([grant; 16]),
            planned_at: 0,
        }
    })
}

fn grant() -> impl Strategy<Value = Grant> {
    let ids = (0_u8..3, 0_u8..3, 0_u8..3, 0_u8..3);
    let task = prop::option::of((0_u8..3, prop::option::of(0_u8..3)));
    let order = (1_u64..3, 0_u64..6);
    (ids, task, order, prop::collection::vec(ancestor(), 0..3)).prop_map(
        |((id, holder, owner, lineage), task, (epoch, planned_at), chain)| Grant {
            id: GrantId::from_bytes([id; 16]),
            name: name(holder),
            revision: 1,
            owner: name(owner),
            systems: vec![],
            lineage: Lineage::from_bytes([lineage; 16]),
            epoch,
            planned_at,
            seen: 0,
            attestation: Attestation { method: "join_token".into(), digest: [0; 32], at: Timestamp::default() },
            on_behalf_of: None,
            task: task.map(|(id, approval)| Task {
                id: format!("T-{id}"),
                approval: approval.map(|n| ApprovalId::from_bytes([n; 16])),
                arguments: None,
            }),
            chain,
            depth_left: 0,
            chosen: false,
            constraints: vec![],
        },
    )
}

fn certificate() -> impl Strategy<Value = Certificate> {
    let scopes = prop::collection::vec(few(scope), 0..3);
    (spiffe_id(), scopes, prop::option::weighted(0.9, grant()), 0_u8..3, 0_u8..3).prop_map(
        |(spiffe_id, scopes, grant, own, authority)| Certificate {
            spiffe_id,
            scopes: ScopeSet::new(scopes).unwrap_or_default(),
            grant,
            serial: serial(own),
            authority: KeyId::from_bytes([authority; 20]),
            not_before: Timestamp::default(),
            not_after: Timestamp::MAX,
        },
    )
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        few(|n| Target::Serial(serial(n))),
        few(|n| Target::Instance(Instance::from_bytes([n; 16]))),
        few(|n| Target::Lineage(Lineage::from_bytes([n; 16]))),
        few(|n| Target::Agent(name(n))),
        few(|n| Target::Service(name(n))),
        few(|n| Target::Admin(name(n))),
        few(|n| Target::Owner(name(n))),
        few(|n| Target::Scope(scope(n))),
        few(|n| Target::Grant(GrantId::from_bytes([n; 16]))),
        (0_u8..3, 0_u8..3).prop_map(|(agent, id)| Target::Task { agent: name(agent), id: format!("T-{id}") }),
        few(|n| Target::Approval(ApprovalId::from_bytes([n; 16]))),
        few(|n| Target::Authority(KeyId::from_bytes([n; 20]))),
        few(|n| Target::IssuedBefore(Timestamp::from_unix_seconds(i64::from(n)))),
    ]
}

fn entries() -> impl Strategy<Value = Vec<Revocation>> {
    let effect = prop::sample::select(Effect::ALL);
    let entry = (target(), effect, any::<bool>(), 1_u64..3, 0_u64..6);
    prop::collection::vec(entry, 0..12).prop_map(|entries| {
        let numbered = (1_u8..).zip(entries);
        numbered
            .map(|(n, (target, effect, cascade, epoch, fence))| Revocation {
                id: RevocationId::from_bytes([n; 16]),
                n: u64::from(n),
                epoch,
                log_index: fence,
                fence,
                at: Timestamp::default(),
                target,
                effect,
                reason: Reason::Unspecified,
                cascade,
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn answers_as_a_scan_would(
        all in entries(),
        taken_out in prop::collection::vec(1_u64..13, 0..4),
        certificate in certificate(),
    ) {
        let mut in_force = InForce::default();
        all.iter().cloned().for_each(|entry| in_force.insert(entry));
        for n in &taken_out {
            in_force.remove(*n);
        }
        let left: Vec<&Revocation> = all.iter().filter(|entry| !taken_out.contains(&entry.n)).collect();
        prop_assert!(in_force.iter().eq(left.iter().copied()));
        prop_assert_eq!((in_force.len(), in_force.is_empty()), (left.len(), left.is_empty()));

        let first = |wanted: &dyn Fn(&Revocation) -> bool| {
            let wanted = left.iter().copied().filter(|entry| wanted(entry));
            wanted.min_by_key(|entry| (entry.effect.resumable(), entry.n))
        };
        let hits = |entry: &Revocation| entry.hits(&certificate);
        prop_assert_eq!(in_force.hitting(&certificate), first(&hits));
        let blocks = |entry: &Revocation| {
            hits(entry) || (entry.effect.blocks_issuance() && entry.target.matches(&certificate, entry.cascade))
        };
        prop_assert_eq!(in_force.blocking(&certificate), first(&blocks));
        for entry in &all {
            prop_assert_eq!(in_force.by_id(entry.id).is_some(), !taken_out.contains(&entry.n));
            let naming = left.iter().copied().filter(|other| other.target == entry.target);
            prop_assert!(in_force.naming(&entry.target).eq(naming));
        }
        for n in 0..3 {
            let forbids = |entry: &Revocation| {
                entry.effect == Effect::Forbid
                    && matches!(&entry.target, Target::Scope(wide) if wide.covers(&scope(n)))
            };
            prop_assert_eq!(in_force.forbidding(&scope(n)).is_some(), left.iter().any(|entry| forbids(entry)));
        }
    }
}

/// Order is the log's: what was planned after an entry is not hit by it, whatever any clock said.
#[test]
fn an_entry_hits_what_was_planned_no_later_than_its_fence() {
    let grant = crate::certificates::plain_grant();
    let certificate = Certificate {
        spiffe_id: text("spiffe://example.org/agent/invoice-bot/01936f2a-7b2c-7d3e-8f4a-5b6c7d8e9f00".into()),
        scopes: ScopeSet::default(),
        grant: Some(Grant { epoch: 1, planned_at: 200, ..grant }),
        serial: serial(1),
        authority: KeyId::from_bytes([1; 20]),
        not_before: crate::certificates::now(),
        not_after: Timestamp::MAX,
    };
    for (epoch, fence, hit) in [(1, 199, false), (1, 200, true), (1, 201, true), (2, 0, true), (0, 999, false)] {
        for at in [Timestamp::default(), crate::certificates::now(), Timestamp::MAX] {
            let entry = Revocation {
                id: RevocationId::from_bytes([1; 16]),
                n: 1,
                epoch,
                log_index: fence,
                fence,
                at,
                target: Target::Agent(text("invoice-bot".into())),
                effect: Effect::Revoke,
                reason: Reason::Unspecified,
                cascade: true,
            };
            assert_eq!(entry.hits(&certificate), hit, "epoch {epoch} fence {fence} at {at}");
        }
    }
}
