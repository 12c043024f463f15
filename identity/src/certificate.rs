//! What one leaf certificate says, owned.

use crate::{Ancestor, Grant, KeyId, Principal, ScopeSet, Serial, SpiffeId, Target, Timestamp};

/// What one leaf certificate says: who, what for, from which authority, how long.
///
/// Says nothing of whether its signature, its time or its scopes hold: that is the verifier's to judge.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "the issuer plans it and the leaf reader reads it; both set every field")]
pub struct Certificate {
    /// Whose it is.
    pub spiffe_id: SpiffeId,
    /// What it allows. Empty without a grant.
    pub scopes: ScopeSet,
    /// What stands behind the scopes. Absent in the issuer's own certificate and in those of other issuers.
    pub grant: Option<Grant>,
    /// Its serial.
    pub serial: Serial,
    /// The authority that signed it.
    pub authority: KeyId,
    /// The first instant it is valid at.
    pub not_before: Timestamp,
    /// The last second it is valid at.
    pub not_after: Timestamp,
}

impl Certificate {
    /// Every target that could name it or an ancestor of it, but for scopes and times, which have no list: where to look for
    /// entries. Whether one names it is for [`Target::matches`] to say.
    pub fn names(&self) -> Vec<Target> {
        let mut names = vec![Target::Serial(self.serial), Target::Authority(self.authority)];
        collect_principal(&self.spiffe_id, &mut names);
        let Some(grant) = &self.grant else { return names };
        names.extend([Target::Lineage(grant.lineage), Target::Owner(grant.owner.clone()), Target::Grant(grant.id)]);
        if let Some(task) = &grant.task {
            names.push(Target::Task { agent: grant.name.clone(), id: task.id.clone() });
            names.extend(task.approval.map(Target::Approval));
        }
        for Ancestor { spiffe_id, lineage, authority, serial, grant, .. } in &grant.chain {
            names.extend([
                Target::Serial(*serial),
                Target::Authority(*authority),
                Target::Lineage(*lineage),
                Target::Grant(*grant),
            ]);
            collect_principal(spiffe_id, &mut names);
        }
        names
    }
}

fn collect_principal(spiffe_id: &SpiffeId, names: &mut Vec<Target>) {
    let target = match spiffe_id.principal() {
        Principal::Agent { name, instance, .. } => {
            names.push(Target::Instance(instance));
            name.parse().map(Target::Agent)
        }
        Principal::Shared(name) => name.parse().map(Target::Agent),
        Principal::Service(name) => name.parse().map(Target::Service),
        Principal::Admin(name) => name.parse().map(Target::Admin),
        Principal::Server | Principal::Other => return,
    };
    names.extend(target);
}
