//! The revocations in force, found by what a certificate is named by.

use std::collections::{BTreeMap, HashMap};

use crate::{Certificate, Effect, Revocation, RevocationId, Scope, Target};

/// The entries in force. What a look-up costs does not grow with their number, but for those that name scopes or a time.
///
/// It answers as a scan over all entries with [`Revocation::hits`] would.
#[derive(Clone, Debug, Default)]
pub struct InForce {
    entries: BTreeMap<u64, Revocation>,
    ids: HashMap<RevocationId, u64>,
    /// Those whose target a certificate can be asked for by name.
    named: HashMap<Target, Vec<u64>>,
    /// Those that each certificate must be held against: scopes and issued-before.
    scanned: Vec<u64>,
}

impl InForce {
    /// Adds an entry; one with the same number is replaced.
    pub fn insert(&mut self, entry: Revocation) {
        self.remove(entry.n);
        if is_scanned(&entry.target) {
            self.scanned.push(entry.n);
        } else {
            self.named.entry(entry.target.clone()).or_default().push(entry.n);
        }
        self.ids.insert(entry.id, entry.n);
        self.entries.insert(entry.n, entry);
    }

    /// Takes out an entry by its number: it was resumed, or nothing is left that it could hit.
    pub fn remove(&mut self, n: u64) -> Option<Revocation> {
        let entry = self.entries.remove(&n)?;
        self.ids.remove(&entry.id);
        if is_scanned(&entry.target) {
            self.scanned.retain(|other| *other != n);
        } else if let Some(numbers) = self.named.get_mut(&entry.target) {
            numbers.retain(|other| *other != n);
            if numbers.is_empty() {
                self.named.remove(&entry.target);
            }
        }
        Some(entry)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All of them, by number.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Revocation> {
        self.entries.values()
    }

    /// The entry of a number.
    pub fn by_number(&self, n: u64) -> Option<&Revocation> {
        self.entries.get(&n)
    }

    /// The entry of an id.
    pub fn by_id(&self, id: RevocationId) -> Option<&Revocation> {
        self.ids.get(&id).and_then(|n| self.entries.get(n))
    }

    /// The entries that name exactly this target.
    pub fn naming<'a>(&'a self, target: &'a Target) -> impl Iterator<Item = &'a Revocation> {
        let numbers = if is_scanned(target) { Some(&self.scanned) } else { self.named.get(target) };
        numbers.into_iter().flatten().filter_map(|n| self.entries.get(n)).filter(move |entry| entry.target == *target)
    }

    /// The entry that ends the certificate, if one does. One that is final comes before one that can be resumed.
    pub fn hitting(&self, certificate: &Certificate) -> Option<&Revocation> {
        self.first(certificate, |entry| entry.hits(certificate))
    }

    /// The entry that keeps the certificate from being issued, if one does: it hits it, or blocks what would be issued.
    pub fn blocking(&self, certificate: &Certificate) -> Option<&Revocation> {
        self.first(certificate, |entry| {
            entry.hits(certificate)
                || (entry.effect.blocks_issuance() && entry.target.matches(certificate, entry.cascade))
        })
    }

    /// The entry that forbids every request that the scope covers, whoever makes it.
    pub fn forbidding(&self, needed: &Scope) -> Option<&Revocation> {
        self.scanned.iter().filter_map(|n| self.entries.get(n)).find(|entry| {
            entry.effect == Effect::Forbid && matches!(&entry.target, Target::Scope(scope) if scope.covers(needed))
        })
    }

    fn first(&self, certificate: &Certificate, wanted: impl Fn(&Revocation) -> bool) -> Option<&Revocation> {
        if self.entries.is_empty() {
            return None;
        }
        let names = if self.named.is_empty() { Vec::new() } else { certificate.names() };
        let named = names.iter().filter_map(|name| self.named.get(name)).flatten();
        named
            .chain(&self.scanned)
            .filter_map(|n| self.entries.get(n))
            .filter(|entry| wanted(entry))
            .min_by_key(|entry| (entry.effect.resumable(), entry.n))
    }
}

const fn is_scanned(target: &Target) -> bool {
    matches!(target, Target::Scope(_) | Target::IssuedBefore(_))
}
