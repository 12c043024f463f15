//! What a revocation reaches. Read beside it: an entry and its commit cost the same, whatever they stop.

use std::collections::{BTreeSet, HashSet};

use chancery_api::{Radius, Service, Subject};
use chancery_identity::{
    Actor, Certificate, Effect, Instance, Name, Principal, Reason, Revocation, RevocationId, Serial, System, Target,
    Timestamp,
};

use super::Verifiers;
use crate::store::{DbError, Position, Revoke, Store};

/// Certificates that are looked at for one answer, at most.
const LOOKS_MAX: u64 = 20_000;
/// Systems and holders that an answer names.
const NAMED_MAX: usize = 100;
/// Above ten times the largest radius that needs no confirmation, nobody asks how many live.
const COUNTED_MAX: u64 = 1_001;

/// What a decision reaches of what is valid at `now` and was not stopped at `position`.
pub(super) async fn radius(
    store: &Store,
    verifiers: &Verifiers,
    revoke: &Revoke,
    position: Position,
    now: Timestamp,
) -> Result<Radius, DbError> {
    // As it was before: whoever applies the entry reports fewer.
    let open = verifiers.open();
    let mut reached = Reached::default();
    let caller = match &revoke.cause.actor {
        Actor::Admin(name) => Some(Subject::Admin(name.clone())),
        // Tokens and the admin socket have no certificate.
        _ => None,
    };
    let (mut includes_caller, mut includes_issuer) = (false, false);
    let mut left = LOOKS_MAX;
    for target in &revoke.targets {
        let entry = assumed(store, revoke, target, position, now).await?;
        let mut each = |certificate: Certificate| {
            if store.state().hitting(&certificate).is_none_or(|entry| entry.n > position.n) {
                reached.add(&certificate, store);
            }
        };
        left -= store.reach(&entry, now, left, &mut each).await?;
        includes_issuer |= store.hits_holder(&entry, now, None).await?;
        if let Some(caller) = &caller {
            includes_caller |= store.hits_holder(&entry, now, Some(caller)).await?;
        }
    }
    let open = open.of(&reached.serials);
    let Reached { serials, instances, services, systems, holders, descendants } = reached;
    Ok(Radius {
        instances: instances.len() as u64,
        certificates: serials.len() as u64,
        descendants,
        services: services.len() as u64,
        systems: systems.into_iter().take(NAMED_MAX).collect(),
        holders: holders.into_iter().take(NAMED_MAX).collect(),
        open_connections: open.as_ref().map(|(count, _)| *count),
        open_at: open.map(|(_, services)| services).unwrap_or_default(),
        includes_caller,
        includes_issuer,
        at_least: left == 0,
        live_certificates: store.count_valid(now, COUNTED_MAX).await?,
        as_of: now,
    })
}

/// The entry as it would be, committed now. One that forbids is asked for as one that ends: it shows who holds part of
/// what it forbids.
async fn assumed(
    store: &Store,
    revoke: &Revoke,
    target: &Target,
    position: Position,
    now: Timestamp,
) -> Result<Revocation, DbError> {
    let fence = match target {
        Target::IssuedBefore(at) => store.log_position(position.log_size, *at).await?.saturating_sub(1),
        _ => position.log_size,
    };
    Ok(Revocation {
        id: RevocationId::from_bytes([0; 16]),
        n: position.n + 1,
        epoch: position.epoch,
        log_index: position.log_size,
        fence,
        at: now,
        target: target.clone(),
        effect: Effect::Revoke,
        reason: Reason::Unspecified,
        cascade: revoke.cascade,
    })
}

#[derive(Default)]
struct Reached {
    serials: HashSet<Serial>,
    instances: HashSet<Instance>,
    services: BTreeSet<Name>,
    systems: BTreeSet<System>,
    holders: BTreeSet<Target>,
    descendants: u64,
}

impl Reached {
    fn add(&mut self, certificate: &Certificate, store: &Store) {
        // Several targets can reach one certificate.
        if !self.serials.insert(certificate.serial) {
            return;
        }
        self.systems.extend(certificate.scopes.iter().filter_map(|scope| scope.system().parse::<System>().ok()));
        let descends = certificate.grant.as_ref().is_some_and(|grant| !grant.chain.is_empty());
        self.descendants += u64::from(descends);
        match certificate.spiffe_id.principal() {
            Principal::Agent { name, instance, .. } => {
                self.instances.insert(instance);
                self.holders.extend(name.parse().map(Target::Agent));
            }
            Principal::Shared(name) => self.holders.extend(name.parse().map(Target::Agent)),
            Principal::Service(name) => {
                let Ok(name) = name.parse::<Name>() else { return };
                let record = store.state().record::<Service>(&name);
                self.systems.extend(record.iter().flat_map(|record| record.systems.iter().cloned()));
                self.holders.insert(Target::Service(name.clone()));
                self.services.insert(name);
            }
            Principal::Admin(name) => self.holders.extend(name.parse().map(Target::Admin)),
            _ => {}
        }
    }
}
