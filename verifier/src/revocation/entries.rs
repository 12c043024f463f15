//! Revocation entries in force, found by what a certificate says instead of one by one.
//!
//! A large base that is shared, a small recent layer, and the numbers of what the base has and was resumed since. An
//! update swaps the recent layer and that set; a new base is made off the request path.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use chancery_identity::{Certificate, Effect, Revocation, Scope, Serial, Target};

use super::index::Numbered;
use super::named::{Forbidden, Named};

/// The most entries of the recent layer before a new base is due.
const RECENT_MAX: usize = 1024;

/// Entries in force. A look-up costs a few hashes, however many entries and targets there are; only those that name
/// scopes are tried one by one, of the same system. Cheap to clone.
///
/// It answers as a scan with [`Revocation::hits`] would, with two exceptions. A serial that is revoked for good is
/// revoked whatever its entry's position: a certificate exists once, and before the entry that names it. And what may be
/// forgotten can be known longer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entries {
    base: Arc<Base>,
    recent: Arc<Recent>,
    /// The entries of the base that were resumed since it was made.
    ended: Arc<BTreeSet<u64>>,
    /// Up to here entries may be forgotten.
    floor: u64,
    /// Up to here the base has forgotten them.
    base_floor: u64,
}

#[derive(Debug, Default)]
struct Base {
    serials: Numbered,
    named: Named,
}

#[derive(Clone, Debug, Default)]
struct Recent {
    serials: HashMap<Serial, u64>,
    named: Named,
}

impl Entries {
    pub(crate) fn new(in_force: &[Revocation]) -> Self {
        let mut entries = Self::default();
        for entry in in_force {
            entries.insert(entry);
        }
        entries.tidied()
    }

    /// Adds an entry.
    pub(crate) fn insert(&mut self, entry: &Revocation) {
        let recent = Arc::make_mut(&mut self.recent);
        match &entry.target {
            Target::Serial(serial) if is_compact(entry, serial) => {
                recent.serials.insert(*serial, entry.n);
            }
            _ => recent.named.insert(entry),
        }
    }

    /// Ends an entry that can be resumed.
    pub(crate) fn end(&mut self, n: u64) {
        if self.recent.named.resumable.contains_key(&n) {
            Arc::make_mut(&mut self.recent).named.remove(n);
        } else if self.base.named.resumable.contains_key(&n) {
            Arc::make_mut(&mut self.ended).insert(n);
        }
    }

    /// Entries up to this number need not be known any more, but for what is forbidden.
    pub(crate) fn forget(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
    }

    /// Whether so much is new or over that another base is due.
    pub(crate) fn is_untidy(&self) -> bool {
        let known = self.base.serials.len() + self.base.named.len();
        let forgettable = usize::try_from(self.floor - self.base_floor).unwrap_or(usize::MAX).min(known);
        self.recent_len() > RECENT_MAX.max(self.base.named.len() / 16)
            || self.ended.len() > RECENT_MAX
            || forgettable > RECENT_MAX.max(known / 4)
    }

    /// The same, all in a new base. Takes time in proportion to all that is known.
    pub(crate) fn tidied(&self) -> Self {
        let recent = self.recent.serials.iter().map(|(serial, n)| (*serial, *n));
        let serials = self.base.serials.merged(recent, self.floor);
        let mut named = self.base.named.clone();
        named.absorb(&self.recent.named);
        named.retain(|mark| mark.n > self.floor && !self.ended.contains(&mark.n), |n| !self.ended.contains(&n));
        let base = Arc::new(Base { serials, named });
        Self { base, floor: self.floor, base_floor: self.floor, ..Self::default() }
    }

    /// Whether one of them ends the certificate.
    pub(crate) fn hit(&self, certificate: &Certificate) -> bool {
        let serials = || std::iter::once(certificate.serial).chain(ancestors(certificate).map(|one| one.serial));
        if serials().any(|serial| self.has_serial(&serial)) {
            return true;
        }
        let (base, recent) = (&self.base.named, &self.recent.named);
        let names =
            if base.by_target.is_empty() && recent.by_target.is_empty() { Vec::new() } else { certificate.names() };
        recent.hits(certificate, &names, |_| true) || base.hits(certificate, &names, |n| !self.ended.contains(&n))
    }

    /// What forbids every request that the scope covers, whoever makes it.
    pub(crate) fn forbidding(&self, needed: &Scope) -> Option<&Forbidden> {
        let in_force = |entry: &&Forbidden| !self.ended.contains(&entry.n);
        self.recent.named.forbidding(needed).next().or_else(|| self.base.named.forbidding(needed).find(in_force))
    }

    /// The numbers of what is forbidden.
    #[cfg(feature = "feed")]
    pub(crate) fn forbidden(&self) -> impl Iterator<Item = u64> {
        let base = self.base.named.forbidden.values().flatten().filter(|entry| !self.ended.contains(&entry.n));
        base.chain(self.recent.named.forbidden.values().flatten()).map(|entry| entry.n)
    }

    fn has_serial(&self, serial: &Serial) -> bool {
        self.recent.serials.contains_key(serial) || self.base.serials.contains(serial)
    }

    fn recent_len(&self) -> usize {
        self.recent.serials.len() + self.recent.named.len()
    }
}

/// One that says nothing but its serial: for good, whatever its position, descendants included.
fn is_compact(entry: &Revocation, serial: &Serial) -> bool {
    matches!(entry.effect, Effect::Revoke | Effect::Retire) && entry.cascade && Numbered::takes(serial)
}

fn ancestors(certificate: &Certificate) -> impl Iterator<Item = &chancery_identity::Ancestor> {
    certificate.grant.iter().flat_map(|grant| &grant.chain)
}

#[cfg(test)]
mod tests {
    use chancery_identity::{
        Ancestor, ApprovalId, Attestation, Grant, GrantId, Instance, KeyId, Lineage, Name, Reason, RevocationId,
        ScopeSet, SpiffeId, Task, Timestamp,
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

    #[derive(Clone, Debug)]
    enum Step {
        Insert(Revocation),
        /// Ends the entry at this place among those that can be resumed.
        Resume(prop::sample::Index),
        Tidy,
        /// Forgets up to this number, counted back from the newest.
        Forget(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => entry().prop_map(Step::Insert),
            3 => any::<prop::sample::Index>().prop_map(Step::Resume),
            2 => Just(Step::Tidy),
            1 => (0_u64..4).prop_map(Step::Forget),
        ]
    }

    /// Entries one by one.
    #[derive(Default)]
    struct Naive {
        in_force: Vec<Revocation>,
        newest: u64,
        floor: u64,
    }

    impl Naive {
        fn hit(certificate: &Certificate, entry: &Revocation) -> bool {
            match &entry.target {
                Target::Serial(serial) if is_compact(entry, serial) => entry.target.matches(certificate, true),
                _ => entry.hits(certificate),
            }
        }

        fn forbids(entry: &Revocation, needed: &Scope) -> bool {
            entry.effect == Effect::Forbid && matches!(&entry.target, Target::Scope(scope) if scope.covers(needed))
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3_000) })]

        #[test]
        fn hits_what_the_entries_one_by_one_hit(
            steps in proptest::collection::vec(step(), 0..12),
            certificate in certificate(),
            needed in bit(),
        ) {
            let (mut entries, mut naive) = (Entries::default(), Naive::default());
            for step in steps {
                match step {
                    Step::Insert(entry) => {
                        naive.newest += 1;
                        let entry = Revocation { n: naive.newest, ..entry };
                        entries.insert(&entry);
                        naive.in_force.push(entry);
                    }
                    Step::Resume(at) => {
                        let resumable: Vec<u64> =
                            naive.in_force.iter().filter(|entry| entry.effect.resumable()).map(|entry| entry.n).collect();
                        if !resumable.is_empty() {
                            let n = *at.get(&resumable);
                            entries.end(n);
                            naive.in_force.retain(|entry| entry.n != n);
                        }
                        naive.newest += 1;
                    }
                    Step::Tidy => entries = entries.tidied(),
                    Step::Forget(back) => {
                        naive.floor = naive.floor.max(naive.newest.saturating_sub(back));
                        entries.forget(naive.floor);
                    }
                }
            }
            let hitting = |entry: &&Revocation| Naive::hit(&certificate, entry);
            let (all, kept) = (
                naive.in_force.iter().any(|entry| hitting(&entry)),
                naive.in_force.iter().filter(|entry| entry.n > naive.floor).any(|entry| hitting(&entry)),
            );
            let hit = entries.hit(&certificate);
            // What may be forgotten is known or not; what may not be is known.
            prop_assert!(hit == all || hit == kept, "{hit}, wanted {all} or {kept}");
            prop_assert!(hit || !kept);
            let needed = scope(needed);
            let forbidden = naive.in_force.iter().any(|entry| Naive::forbids(entry, &needed));
            prop_assert_eq!(entries.forbidding(&needed).is_some(), forbidden, "what is forbidden is never forgotten");
            prop_assert_eq!(Entries::new(&naive.in_force).hit(&certificate), all);
        }
    }

    fn revoked(n: u64, target: Target, fence: u64) -> Revocation {
        Revocation {
            id: RevocationId::from_bytes([1; 16]),
            n,
            epoch: 1,
            log_index: fence,
            fence,
            at: Timestamp::from_unix_millis(0),
            target,
            effect: Effect::Revoke,
            reason: Reason::Unspecified,
            cascade: true,
        }
    }

    #[test]
    fn an_update_copies_no_base_and_a_look_up_does_not_grow() {
        let serial = |n: u64| Serial::from_bytes(&[&[0x41; 8][..], &n.to_be_bytes()].concat()).unwrap();
        let mut entries = Entries::default();
        for n in 1..=50_000 {
            entries.insert(&revoked(n, Target::Serial(serial(n)), n));
        }
        assert!(entries.is_untidy());
        let mut entries = entries.tidied();
        assert!(!entries.is_untidy());
        let base = Arc::clone(&entries.base);
        for n in 50_001..50_501 {
            let before = entries.clone();
            entries.insert(&revoked(n, Target::Serial(serial(n)), n));
            assert!(!before.has_serial(&serial(n)) && entries.has_serial(&serial(n)), "an older state stays as it was");
        }
        assert!(Arc::ptr_eq(&base, &entries.base) && !entries.is_untidy());
        // One agent, revoked time and again, is one mark; so is every time before which all is over.
        for n in 60_000..61_000 {
            entries.insert(&revoked(n, Target::Agent(name(1)), n));
            entries.insert(&revoked(n, Target::IssuedBefore(Timestamp::from_unix_millis(0)), 61_000 - n));
        }
        let named = &entries.recent.named;
        assert_eq!((named.by_target[&Target::Agent(name(1))].len(), named.issued_before.len()), (1, 1));
    }

    /// Each of 100,000 agents stopped for good, and each of as many suspended: what a target takes once all is in order.
    #[test]
    fn a_target_takes_this_much_memory() {
        let per_target = |effect| {
            let entry = |n: u64| Revocation {
                effect,
                ..revoked(n, Target::Agent(format!("invoice-bot-{n:06}").parse().unwrap()), n)
            };
            let mut entries = Entries::default();
            (1..=100_000).for_each(|n| entries.insert(&entry(n)));
            let tidied = entries.tidied();
            tidied.base.named.size() / tidied.base.named.by_target.len()
        };
        let (retired, suspended) = (per_target(Effect::Retire), per_target(Effect::Suspend));
        println!("{retired} bytes a retired agent, {suspended} a suspended one");
        assert!(retired <= 192 && suspended <= 320, "{retired} and {suspended}");
    }
}
