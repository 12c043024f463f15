//! What every view must agree with: all certificates and all entries ever made, none forgotten, each question a scan.

use std::collections::{BTreeMap, BTreeSet};

use chancery_api::RevocationView;
use chancery_identity::{Certificate, Effect, Revocation, Scope, Serial, Target};

#[derive(Default)]
pub struct Model {
    pub certificates: Vec<Certificate>,
    pub entries: BTreeMap<u64, Revocation>,
    /// By the number of the entry that each of them ends.
    pub resumed: BTreeMap<u64, u64>,
}

impl Model {
    /// The newest number; there are no gaps.
    pub fn n(&self) -> u64 {
        self.entries.len() as u64 + self.resumed.len() as u64
    }

    pub fn serials(&self) -> BTreeSet<Serial> {
        self.certificates.iter().map(|certificate| certificate.serial).collect()
    }

    /// Takes in an entry as it stands; one that is known already must be the same.
    pub fn take(&mut self, view: &RevocationView) {
        let entry = Revocation::from(view);
        assert_eq!(*self.entries.entry(view.n).or_insert_with(|| entry.clone()), entry);
        if let Some(resume) = &view.resumed_by {
            assert_eq!(*self.resumed.entry(view.n).or_insert(resume.n), resume.n);
        }
    }

    pub fn in_force(&self) -> impl Iterator<Item = &Revocation> {
        self.entries.values().filter(|entry| !self.resumed.contains_key(&entry.n))
    }

    /// The entry that is named wherever a certificate is said to have ended: the first that is final, else the first.
    pub fn hitting(&self, certificate: &Certificate) -> Option<&Revocation> {
        let hits = self.in_force().filter(|entry| entry.hits(certificate));
        hits.min_by_key(|entry| (entry.effect.resumable(), entry.n))
    }

    pub fn blocks(&self, certificate: &Certificate) -> bool {
        self.in_force().any(|entry| {
            entry.hits(certificate)
                || (entry.effect.blocks_issuance() && entry.target.matches(certificate, entry.cascade))
        })
    }

    pub fn forbids(&self, needed: &Scope) -> bool {
        let covers = |target: &Target| matches!(target, Target::Scope(scope) if scope.covers(needed));
        self.in_force().any(|entry| entry.effect == Effect::Forbid && covers(&entry.target))
    }
}
