//! Entries by what they name: agents, owners, scopes and all that is no compact serial.

use std::collections::{BTreeSet, HashMap};

use chancery_identity::{Certificate, Effect, Reach, Revocation, RevocationId, Scope, Target};

/// What a forbidding entry says.
#[derive(Clone, Debug)]
pub(crate) struct Forbidden {
    pub(crate) scope: Scope,
    pub(crate) id: RevocationId,
    pub(super) n: u64,
}

/// What an entry says beside its target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) n: u64,
    reach: Reach,
    resumable: bool,
}

impl Mark {
    fn of(entry: &Revocation) -> Self {
        Self { n: entry.n, reach: entry.reach(), resumable: entry.effect.resumable() }
    }

    /// Whether it is for good, and hits all that the other one for the same target does.
    fn covers(&self, other: &Self) -> bool {
        !self.resumable && self.reach.covers(&other.reach)
    }
}

/// Entries by what they name.
#[derive(Clone, Debug, Default)]
pub(super) struct Named {
    pub(super) by_target: HashMap<Target, Vec<Mark>>,
    /// Whatever their time: each names all certificates.
    pub(super) issued_before: Vec<Mark>,
    /// By system; a scope in a certificate names one.
    scopes: HashMap<Box<str>, Vec<(Scope, Vec<Mark>)>>,
    /// By system.
    pub(super) forbidden: HashMap<Box<str>, Vec<Forbidden>>,
    /// Where to find what can be resumed.
    pub(super) resumable: HashMap<u64, Target>,
}

impl Named {
    pub(super) fn insert(&mut self, entry: &Revocation) {
        let mark = Mark::of(entry);
        match &entry.target {
            Target::Scope(scope) if entry.effect == Effect::Forbid => {
                let forbidden = Forbidden { scope: scope.clone(), id: entry.id, n: entry.n };
                self.forbidden.entry(scope.system().into()).or_default().push(forbidden);
            }
            // Only a scope can be forbidden.
            _ if entry.effect == Effect::Forbid => return,
            target => self.put(target, mark),
        }
        if mark.resumable {
            self.resumable.insert(mark.n, entry.target.clone());
        }
    }

    fn put(&mut self, target: &Target, mark: Mark) {
        match target {
            Target::Scope(scope) => {
                let same_system = self.scopes.entry(scope.system().into()).or_default();
                match same_system.iter_mut().find(|(other, _)| other == scope) {
                    Some((_, marks)) => put(marks, mark),
                    None => same_system.push((scope.clone(), vec![mark])),
                }
            }
            Target::IssuedBefore(_) => put(&mut self.issued_before, mark),
            _ => put(self.by_target.entry(target.clone()).or_insert_with(one), mark),
        }
    }

    /// Takes out an entry that can be resumed.
    pub(super) fn remove(&mut self, n: u64) {
        let Some(target) = self.resumable.remove(&n) else { return };
        match &target {
            Target::Scope(scope) => {
                if let Some(list) = self.scopes.get_mut(scope.system()) {
                    list.iter_mut().for_each(|(_, marks)| marks.retain(|mark| mark.n != n));
                }
                if let Some(list) = self.forbidden.get_mut(scope.system()) {
                    list.retain(|entry| entry.n != n);
                }
            }
            Target::IssuedBefore(_) => self.issued_before.retain(|mark| mark.n != n),
            target => {
                if let Some(list) = self.by_target.get_mut(target) {
                    list.retain(|mark| mark.n != n);
                }
            }
        }
    }

    pub(super) fn absorb(&mut self, other: &Self) {
        for (target, marks) in &other.by_target {
            let known = self.by_target.entry(target.clone()).or_insert_with(one);
            marks.iter().for_each(|mark| put(known, *mark));
        }
        other.issued_before.iter().for_each(|mark| put(&mut self.issued_before, *mark));
        for (scope, marks) in other.scopes.values().flatten() {
            let target = Target::Scope(scope.clone());
            marks.iter().for_each(|mark| self.put(&target, *mark));
        }
        for (system, list) in &other.forbidden {
            self.forbidden.entry(system.clone()).or_default().extend(list.iter().cloned());
        }
        self.resumable.extend(other.resumable.iter().map(|(n, target)| (*n, target.clone())));
    }

    pub(super) fn retain(&mut self, mark: impl Fn(&Mark) -> bool, forbidden: impl Fn(u64) -> bool) {
        let mut kept = BTreeSet::new();
        let mut sift = |marks: &mut Vec<Mark>| {
            marks.retain(&mark);
            kept.extend(marks.iter().map(|mark| mark.n));
            !marks.is_empty()
        };
        self.by_target.retain(|_, marks| sift(marks));
        sift(&mut self.issued_before);
        self.scopes.retain(|_, list| {
            list.retain_mut(|(_, marks)| sift(marks));
            !list.is_empty()
        });
        self.forbidden.retain(|_, list| {
            list.retain(|entry| forbidden(entry.n));
            kept.extend(list.iter().map(|entry| entry.n));
            !list.is_empty()
        });
        self.resumable.retain(|n, _| kept.contains(n));
    }

    pub(super) fn hits(&self, certificate: &Certificate, names: &[Target], in_force: impl Fn(u64) -> bool) -> bool {
        let counts = |mark: &Mark| !mark.resumable || in_force(mark.n);
        let back = |mark: &Mark| counts(mark) && mark.reach.is_back_to(certificate);
        self.issued_before.iter().any(back)
            || names.iter().any(|name| {
                let mut marks = self.by_target.get(name).into_iter().flatten();
                marks.any(|mark| counts(mark) && mark.reach.hits(name, certificate))
            })
            || certificate.scopes.iter().any(|held| {
                let same_system = self.scopes.get(held.system()).into_iter().flatten();
                let mut in_force = same_system.filter(|(_, marks)| marks.iter().any(back));
                in_force.any(|(scope, _)| scope.overlaps(held))
            })
    }

    pub(super) fn forbidding<'a, 'n>(&'a self, needed: &'n Scope) -> impl Iterator<Item = &'a Forbidden> + use<'a, 'n> {
        let same_system = self.forbidden.get(needed.system()).into_iter().flatten();
        same_system.filter(move |entry| entry.scope.covers(needed))
    }

    /// What it takes in memory, in bytes, but for what an allocator rounds up.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        /// A table has a power of two of places, seven eighths of which it fills, and a byte of its own for each.
        fn table<K, V>(map: &HashMap<K, V>) -> usize {
            (map.capacity() * 8 / 7).next_power_of_two() * (size_of::<(K, V)>() + 1)
        }
        // Names and ids of tasks are on the heap; the few bytes of their kind, which are not, are counted too.
        let text = |target: &Target| target.to_string().len();
        let marks = |marks: &Vec<Mark>| marks.capacity() * size_of::<Mark>();
        table(&self.by_target)
            + self.by_target.iter().map(|(target, all)| text(target) + marks(all)).sum::<usize>()
            + table(&self.resumable)
            + self.resumable.values().map(text).sum::<usize>()
            + marks(&self.issued_before)
            + self
                .scopes
                .values()
                .flatten()
                .map(|(scope, all)| size_of_val(scope) + scope.as_str().len() + marks(all))
                .sum::<usize>()
    }

    pub(super) fn len(&self) -> usize {
        self.by_target.len() + self.issued_before.len() + self.scopes.len() + self.forbidden.len()
    }
}

/// Room for one: there is seldom more than one for a target.
fn one() -> Vec<Mark> {
    Vec::with_capacity(1)
}

/// Adds one. Of those that are for good, only the ones stay that hit what no other does, until all of them may be
/// forgotten.
fn put(marks: &mut Vec<Mark>, mut mark: Mark) {
    if let Some(known) = marks.iter_mut().find(|known| !mark.resumable && known.covers(&mark)) {
        known.n = known.n.max(mark.n);
        return;
    }
    marks.retain(|known| {
        let superfluous = !known.resumable && mark.covers(known);
        mark.n = if superfluous { mark.n.max(known.n) } else { mark.n };
        !superfluous
    });
    marks.push(mark);
}
