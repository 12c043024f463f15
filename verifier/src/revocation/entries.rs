//! Revocation entries in force, found by what a certificate says instead of one by one.

use std::collections::HashMap;

use chancery_identity::{Certificate, Effect, Principal, Revocation, SpiffeId, Target};

/// Entries in force. A look-up costs a few hashes, however many entries there are; only those whose target has no
/// finite list of names, scopes and times, are tried one by one.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    by_target: HashMap<Target, Vec<Revocation>>,
    others: Vec<Revocation>,
}

impl Entries {
    pub(crate) fn new(in_force: &[Revocation]) -> Self {
        let mut entries = Self::default();
        // A scope that is forbidden ends no certificate.
        for entry in in_force.iter().filter(|entry| entry.effect != Effect::Forbid) {
            match &entry.target {
                Target::Scope(_) | Target::IssuedBefore(_) => entries.others.push(entry.clone()),
                named => entries.by_target.entry(named.clone()).or_default().push(entry.clone()),
            }
        }
        entries
    }

    /// Whether one of them ends the certificate. What does so is for [`Revocation::hits`] to say; only where to look is
    /// decided here.
    pub(crate) fn hit(&self, certificate: &Certificate) -> bool {
        let hits = |entry: &Revocation| entry.hits(certificate);
        self.others.iter().any(hits)
            || (!self.by_target.is_empty()
                && names(certificate).iter().filter_map(|name| self.by_target.get(name)).flatten().any(hits))
    }
}

/// All that could name the certificate or an ancestor of it.
fn names(certificate: &Certificate) -> Vec<Target> {
    let mut names = vec![Target::Serial(certificate.serial), Target::Authority(certificate.authority)];
    name_principal(&certificate.spiffe_id, &mut names);
    if let Some(grant) = &certificate.grant {
        names.extend([Target::Lineage(grant.lineage), Target::Owner(grant.owner.clone()), Target::Grant(grant.id)]);
        if let Some(task) = &grant.task {
            names.push(Target::Task { agent: grant.name.clone(), id: task.id.clone() });
            names.extend(task.approval.map(Target::Approval));
        }
        for ancestor in &grant.chain {
            names.extend([
                Target::Serial(ancestor.serial),
                Target::Authority(ancestor.authority),
                Target::Lineage(ancestor.lineage),
                Target::Grant(ancestor.grant),
            ]);
            name_principal(&ancestor.spiffe_id, &mut names);
        }
    }
    names
}

fn name_principal(spiffe_id: &SpiffeId, names: &mut Vec<Target>) {
    let (name, kind): (_, fn(_) -> Target) = match spiffe_id.principal() {
        Principal::Agent { name, instance, .. } => {
            names.push(Target::Instance(instance));
            (name, Target::Agent)
        }
        Principal::Shared(name) => (name, Target::Agent),
        Principal::Service(name) => (name, Target::Service),
        Principal::Admin(name) => (name, Target::Admin),
        _ => return,
    };
    names.extend(name.parse().map(kind));
}

#[cfg(test)]
mod tests {
    use chancery_identity::{
        Ancestor, ApprovalId, Attestation, Grant, GrantId, Instance, KeyId, Lineage, Name, Reason, RevocationId, Scope,
        ScopeSet, Serial, Task, Timestamp,
    };
    use proptest::prelude::*;

    use super::*;

    /// One of two of each kind, so that targets and certificates meet often.
    fn bit() -> impl Strategy<Value = u8> {
        1_u8..3
    }

    fn name(n: u8) -> Name {
        format!("name-{n}").parse().unwrap()
    }

    fn scope(n: u8) -> Scope {
        format!("read:crm/{n}").parse().unwrap()
    }

    fn spiffe_id(kind: u8, n: u8) -> SpiffeId {
        let instance = Instance::from_bytes([n; 16]);
        match kind {
            0 => format!("spiffe://example.org/agent/name-{n}/{instance}"),
            1 => format!("spiffe://example.org/agent/name-{n}/{instance}/sub/x"),
            2 => format!("spiffe://example.org/shared/name-{n}"),
            3 => format!("spiffe://example.org/service/name-{n}"),
            4 => format!("spiffe://example.org/admin/name-{n}"),
            _ => "spiffe://example.org/chancery/server".into(),
        }
        .parse()
        .unwrap()
    }

    fn target() -> impl Strategy<Value = Target> {
        (0_u8..13, bit(), bit()).prop_map(|(kind, n, m)| match kind {
            0 => Target::Serial(Serial::from_bytes(&[n; 16]).unwrap()),
            1 => Target::Instance(Instance::from_bytes([n; 16])),
            2 => Target::Lineage(Lineage::from_bytes([n; 16])),
            3 => Target::Agent(name(n)),
            4 => Target::Service(name(n)),
            5 => Target::Admin(name(n)),
            6 => Target::Owner(name(n)),
            7 => Target::Scope(scope(n)),
            8 => Target::Grant(GrantId::from_bytes([n; 16])),
            9 => Target::Task { agent: name(n), id: format!("T-{m}") },
            10 => Target::Approval(ApprovalId::from_bytes([n; 16])),
            11 => Target::Authority(KeyId::from_bytes([n; 20])),
            _ => Target::IssuedBefore(Timestamp::from_unix_seconds(i64::from(n))),
        })
    }

    fn entry() -> impl Strategy<Value = Revocation> {
        let effect = proptest::sample::select(Effect::ALL);
        (target(), effect, any::<bool>(), 0_u64..4).prop_map(|(target, effect, cascade, fence)| Revocation {
            id: RevocationId::from_bytes([0; 16]),
            n: 1,
            epoch: 1,
            log_index: fence,
            fence,
            at: Timestamp::from_unix_millis(0),
            target,
            effect,
            reason: Reason::Unspecified,
            cascade,
        })
    }

    fn certificate() -> impl Strategy<Value = Certificate> {
        let id = || (0_u8..6, bit()).prop_map(|(kind, n)| spiffe_id(kind, n));
        let ancestor = (id(), bit(), bit(), bit(), bit()).prop_map(|(spiffe_id, a, b, c, d)| Ancestor {
            spiffe_id,
            lineage: Lineage::from_bytes([a; 16]),
            authority: KeyId::from_bytes([b; 20]),
            serial: Serial::from_bytes(&[c; 16]).unwrap(),
            grant: GrantId::from_bytes([d; 16]),
            planned_at: 1,
        });
        let task = (bit(), proptest::option::of(bit())).prop_map(|(n, approval)| Task {
            id: format!("T-{n}"),
            approval: approval.map(|n| ApprovalId::from_bytes([n; 16])),
            arguments: None,
        });
        let grant = (
            (bit(), bit(), bit(), bit(), 0_u64..4),
            proptest::option::of(task),
            proptest::collection::vec(ancestor, 0..3),
        )
            .prop_map(|((id, agent, owner, lineage, planned_at), task, chain)| Grant {
                id: GrantId::from_bytes([id; 16]),
                name: name(agent),
                revision: 1,
                owner: name(owner),
                systems: Vec::new(),
                lineage: Lineage::from_bytes([lineage; 16]),
                epoch: 1,
                planned_at,
                seen: 0,
                chosen: false,
                attestation: Attestation {
                    method: "join_token".into(),
                    digest: [0; 32],
                    at: Timestamp::from_unix_millis(0),
                },
                on_behalf_of: None,
                task,
                chain,
                depth_left: 0,
                constraints: Vec::new(),
            });
        (id(), bit(), bit(), bit(), proptest::option::of(grant)).prop_map(|(spiffe_id, a, b, held, grant)| {
            Certificate {
                spiffe_id,
                scopes: ScopeSet::new([scope(held)]).unwrap(),
                grant,
                serial: Serial::from_bytes(&[a; 16]).unwrap(),
                authority: KeyId::from_bytes([b; 20]),
                not_before: Timestamp::from_unix_millis(0),
                not_after: Timestamp::from_unix_millis(1),
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

        #[test]
        fn hits_what_the_entries_one_by_one_hit(
            in_force in proptest::collection::vec(entry(), 0..4),
            certificate in certificate(),
        ) {
            let one_by_one = in_force.iter().any(|entry| entry.hits(&certificate));
            prop_assert_eq!(Entries::new(&in_force).hit(&certificate), one_by_one);
        }
    }
}
