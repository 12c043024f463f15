//! One sequence: gate, CRLs, feed and log are views of it. Random histories, held against a model that scans everything, at
//! every number; forgetting, restarts and a moving clock included.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chancery::clock::Clock as _;
use chancery::store::{CommitError, Forget, Query, Resume, Revoke, SHA256};
use chancery_api::{Agent, FeedEntry};
use chancery_identity::{Certificate, Effect, InForce, Reason, Revocation, Scope, Serial, Target};
use chancery_tlog::{Chained, Decision};

use crate::world::{Key, Kind, World, by, instance_of};

const STEPS: u32 = 120;
/// How long after its end a certificate may still be shown, to rejoin.
const REJOIN: Duration = Duration::from_secs(1800);

/// What any view must agree with: all entries ever made, none forgotten.
#[derive(Default)]
struct Model {
    certificates: Vec<Certificate>,
    entries: BTreeMap<u64, Revocation>,
    resumed: BTreeMap<u64, u64>,
}

impl Model {
    fn n(&self) -> u64 {
        self.entries.len() as u64 + self.resumed.len() as u64
    }

    fn in_force(&self) -> impl Iterator<Item = &Revocation> {
        self.entries.values().filter(|entry| !self.resumed.contains_key(&entry.n))
    }

    fn hits(&self, certificate: &Certificate) -> bool {
        self.in_force().any(|entry| entry.hits(certificate))
    }

    fn blocks(&self, certificate: &Certificate) -> bool {
        self.in_force().any(|entry| {
            entry.hits(certificate)
                || (entry.effect.blocks_issuance() && entry.target.matches(certificate, entry.cascade))
        })
    }

    fn forbids(&self, needed: &Scope) -> bool {
        let covers = |target: &Target| matches!(target, Target::Scope(scope) if scope.covers(needed));
        self.in_force().any(|entry| entry.effect == Effect::Forbid && covers(&entry.target))
    }
}

/// A verifier's knowledge, built from lines of the feed.
#[derive(Default)]
struct Told {
    in_force: InForce,
}

impl Told {
    fn take(&mut self, line: &str) {
        match serde_json::from_str(line).unwrap() {
            FeedEntry::Revocation(entry) => self.in_force.insert(entry.into()),
            FeedEntry::Resume(resume) => drop(self.in_force.remove(resume.resumes)),
        }
    }
}

/// Small and repeatable: xorshift.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.roll(from.len())]
    }
}

async fn history(world: &mut World, seed: u64) {
    let mut dice = Dice(seed);
    let mut model = Model::default();
    let mut increments = (Told::default(), Chained::start(0));
    let agents = ["invoice-bot", "mail-bot", "old-bot"];
    for name in agents {
        world.agent(name).await;
    }
    for step in 0..STEPS {
        match dice.roll(12) {
            0..=3 => {
                let agent = world.store.state().record::<Agent>(&dice.pick(&agents).parse().unwrap()).unwrap();
                let planned = world.plan(&agent, &Key::new()).await;
                let certificate = planned.certificate().clone();
                let refused = model.blocks(&certificate);
                match world.store.commit(planned.issue()).await {
                    Ok(committed) => {
                        assert!(!refused, "step {step}: issued what is blocked");
                        model.certificates.push(committed.into_reply().certificate);
                    }
                    Err(CommitError::Refused(why)) => assert!(refused, "step {step}: {why}"),
                    Err(error) => panic!("{error}"),
                }
            }
            4 if !model.certificates.is_empty() => {
                let previous = dice.pick(&model.certificates).clone();
                let planned = world.plan_next(&previous, 1, &Key::new()).await;
                let stopped = model.hits(&previous) || model.blocks(planned.certificate());
                let before = world.store.state().position().n;
                if let Ok(committed) = world.store.commit(planned.renew(&previous)).await {
                    assert!(!stopped, "step {step}: renewed what is stopped");
                    model.certificates.push(committed.into_reply().certificate);
                }
                // A second renewal of one certificate suspends its lineage.
                for entry in world.store.state().in_force_after(before) {
                    model.entries.insert(entry.n, entry);
                }
            }
            5..=7 => stop(world, &mut dice, &mut model).await,
            8 => {
                let held: Vec<_> = model.in_force().filter(|entry| entry.effect.resumable()).cloned().collect();
                if !held.is_empty() {
                    let entry = dice.pick(&held);
                    let resume = Resume { cause: by("ana"), id: entry.id, comment: String::new() };
                    let view = world.store.commit(resume).await.unwrap().into_reply();
                    model.resumed.insert(entry.n, view.resumed_by.unwrap().n);
                }
            }
            9 => world.clock.advance(Duration::from_secs(60 * (1 + dice.roll(90)) as u64)),
            10 => {
                let at = world.clock.now() - REJOIN;
                world.store.commit(Forget { at }).await.unwrap();
            }
            _ => world.restart().await,
        }
        agree(world, &model, &mut increments, step).await;
    }
    let forgotten = world.store.standing().await.unwrap().unwrap().floor.n;
    assert!(model.n() > 10 && forgotten > 0, "a history that shows nothing: n {} floor {forgotten}", model.n());
}

async fn stop(world: &World, dice: &mut Dice, model: &mut Model) {
    let scopes = ["tools/call:crm/get_customer", "tools/call:crm/**", "tools/call:billing/*"];
    let mut targets = vec![
        Target::Owner(dice.pick(&["team-finance", "team-crm"]).parse().unwrap()),
        Target::Agent(dice.pick(&["invoice-bot", "mail-bot", "old-bot"]).parse().unwrap()),
        Target::Scope(dice.pick(&scopes).parse().unwrap()),
        Target::IssuedBefore(world.clock.now()),
    ];
    if !model.certificates.is_empty() {
        let certificate = dice.pick(&model.certificates);
        let grant = certificate.grant.as_ref().unwrap();
        targets.extend([
            Target::Serial(certificate.serial),
            Target::Instance(instance_of(certificate)),
            Target::Lineage(grant.lineage),
            Target::Grant(grant.id),
        ]);
    }
    let target = dice.pick(&targets).clone();
    let effect = match (&target, dice.roll(8)) {
        (Target::Scope(_), 0..=3) => Effect::Forbid,
        (Target::IssuedBefore(_), _) | (_, 0..=3) => Effect::Revoke,
        (Target::Serial(_) | Target::Lineage(_), 4) => Effect::Retire,
        _ => Effect::Suspend,
    };
    let (reason, comment, cascade) = (Reason::Unspecified, String::new(), dice.roll(2) == 0);
    let revoke = Revoke { cause: by("ana"), targets: vec![target], effect, reason, comment, cascade };
    match world.store.commit(revoke).await {
        Ok(committed) => {
            for view in committed.reply() {
                model.entries.entry(view.n).or_insert_with(|| view.into());
            }
        }
        Err(CommitError::Refused(_)) => {}
        Err(error) => panic!("{error}"),
    }
}

/// Every view at this number. A further view, such as OCSP's, is one more comparison with [`Model::hits`] here.
async fn agree(world: &World, model: &Model, increments: &mut (Told, Chained), step: u32) {
    let (store, now) = (&world.store, world.clock.now());
    let standing = store.standing().await.unwrap().unwrap();
    assert_eq!((store.state().position().n, standing.revocation.n), (model.n(), model.n()), "step {step}");

    // The feed, by increments.
    for line in store.feed_lines(increments.1.n, model.n(), 1000).await.unwrap() {
        increments.0.take(&line.line);
        increments.1 = increments.1.then(SHA256, line.line.as_bytes());
        assert_eq!(increments.1.n, line.n, "step {step}: a gap");
    }
    assert_eq!(increments.1, standing.revocation, "step {step}");
    // The feed, from a snapshot.
    let (mut snapshot, mut chain) = (Told::default(), Chained::start(0));
    for line in store.feed_standing(standing.floor.n).await.unwrap() {
        snapshot.take(&line.line);
        chain = chain.then(SHA256, line.line.as_bytes());
    }
    assert_eq!(chain, standing.standing, "step {step}");
    let mut chain = standing.floor;
    for line in store.feed_lines(standing.floor.n, model.n(), 1000).await.unwrap() {
        snapshot.take(&line.line);
        chain = chain.then(SHA256, line.line.as_bytes());
    }
    assert_eq!(chain, standing.revocation, "step {step}");

    // The gate, and what verifiers would say: of each certificate that anybody may still show.
    let (mut listed, mut to_list) = (BTreeSet::new(), BTreeSet::new());
    for certificate in model.certificates.iter().filter(|certificate| certificate.not_after + REJOIN >= now) {
        let serial = certificate.serial;
        let wanted = model.hits(certificate);
        assert_eq!(store.state().hitting(certificate).is_some(), wanted, "step {step}: gate on {serial}");
        assert_eq!(increments.0.in_force.hitting(certificate).is_some(), wanted, "step {step}: feed on {serial}");
        if certificate.not_after >= now {
            assert_eq!(snapshot.in_force.hitting(certificate).is_some(), wanted, "step {step}: snapshot on {serial}");
            if wanted {
                to_list.insert(serial);
            }
        }
    }
    for name in ["invoice-bot", "mail-bot"] {
        let agent = store.state().record::<Agent>(&name.parse().unwrap()).unwrap();
        let planned = world.plan(&agent, &Key::new()).await;
        let certificate = planned.certificate();
        assert_eq!(store.state().blocking(certificate).is_some(), model.blocks(certificate), "step {step}: {name}");
    }
    for scope in ["tools/call:crm/get_customer", "tools/call:crm/refund", "tools/call:billing/pay"] {
        let scope: Scope = scope.parse().unwrap();
        let wanted = model.forbids(&scope);
        for forbidding in [
            store.state().forbidding(&scope).is_some(),
            increments.0.in_force.forbidding(&scope).is_some(),
            snapshot.in_force.forbidding(&scope).is_some(),
        ] {
            assert_eq!(forbidding, wanted, "step {step}: {scope}");
        }
    }

    // The CRL.
    for entry in store.state().in_force_after(0) {
        listed.extend(store.hit_by(&entry, now).await.unwrap().into_iter().map(|hit| hit.serial));
    }
    assert_eq!(listed, to_list, "step {step}: CRL");

    // The serials, and the log.
    let stored = store.certificates(&Query::default(), 1000).await.unwrap();
    let stored: BTreeSet<Serial> = stored.iter().map(|stored| stored.certificate.serial).collect();
    let wanted: BTreeSet<Serial> = model.certificates.iter().map(|certificate| certificate.serial).collect();
    assert_eq!(stored, wanted, "step {step}: serials");
    let (mut numbers, mut issued) = (Vec::new(), BTreeSet::new());
    for entry in store.log_from(0, 10_000).await.unwrap() {
        let record = entry.entry.unwrap().record().unwrap();
        if let Some((certificate, _)) = record.decision.certificate() {
            issued.insert(certificate.serial);
        }
        match &record.decision {
            Decision::Revoke(revoked) => {
                assert_eq!(model.entries[&revoked.n], revoked.revocation(&record, entry.position), "step {step}");
                numbers.push(revoked.n);
            }
            Decision::Resume(resumed) => {
                assert_eq!(model.resumed[&resumed.resumes], resumed.n, "step {step}");
                numbers.push(resumed.n);
            }
            _ => {}
        }
    }
    assert!(numbers.iter().copied().eq(1..=model.n()), "step {step}: log has {numbers:?}");
    assert_eq!(issued, wanted, "step {step}: log");
}

conformance! {
    async fn a_first_history(world) {
        history(&mut world, 0x9e37_79b9_7f4a_7c15).await;
    }

    async fn a_second_history(world) {
        history(&mut world, 0xd1b5_4a32_d192_ed03).await;
    }

    async fn a_third_history(world) {
        history(&mut world, 0x2545_f491_4f6c_dd1d).await;
    }
}
