//! One sequence: gate, CRLs, OCSP, feed and log are views of it. Random histories, held against a model that scans
//! everything, at every number; forgetting, restarts, a moving clock, and ends in the middle of a commit included.

use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use chancery::clock::Clock as _;
use chancery::store::{CommitError, Forget, Query, Resume, RevocationQuery, Revoke, SHA256, Store};
use chancery_api::{Agent, FeedEntry};
use chancery_identity::{Certificate, Effect, InForce, Reason, Scope, Serial, Target};
use chancery_tlog::{Chained, Decision};
use tokio::runtime::Runtime;

use crate::model::Model;
use crate::published::{Ended, List, Rooms, Status};
use crate::world::{Key, Kind, World, by, instance_of};

const STEPS: u32 = 100;
/// How long after its end a certificate may still be shown, to rejoin.
const REJOIN: Duration = Duration::from_secs(1800);
const AGENTS: [&str; 3] = ["invoice-bot", "mail-bot", "old-bot"];

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

/// What runs in it is gone when it is dropped, wherever it was.
fn process() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn history(kind: Kind, seed: u64) {
    let mut alive = process();
    let Some(mut world) = alive.block_on(World::new(kind)) else { return };
    let mut dice = Dice(seed);
    let mut model = Model::default();
    let mut increments = (Told::default(), Chained::start(0));
    let mut rooms = alive.block_on(Rooms::open(&mut world));
    // A few decisions show how often one is polled until it is answered.
    let mut patience = 0;
    for name in AGENTS {
        alive.block_on(cut_off(usize::MAX, &mut patience, world.agent(name)));
    }
    let mut unanswered = 0;
    for step in 0..STEPS {
        let ends = dice.roll(8);
        if ends > 1 {
            alive.block_on(async {
                act(&world, &mut dice, &mut model, step).await;
                agree(&world, &mut rooms, &model, &mut increments, step).await;
            });
            continue;
        }
        if ends == 0 {
            // Killed somewhere between the decision and the CRL that shows it.
            let mut left = dice.roll(patience);
            alive.block_on(async {
                let mut ignored = 0;
                cut_off(left, &mut ignored, act(&world, &mut dice, &mut model, step)).await?;
                left -= ignored.min(left);
                cut_off(left, &mut ignored, rooms.publish()).await
            });
            drop((alive, rooms));
            alive = process();
            alive.block_on(world.killed());
        }
        // It may be away for a while.
        world.clock.advance(Duration::from_secs(60 * dice.roll(45) as u64));
        rooms = alive.block_on(async {
            world.restart().await;
            let mut rooms = Rooms::open(&mut world).await;
            unanswered += learn(&world.store, &mut model, step).await;
            agree(&world, &mut rooms, &model, &mut increments, step).await;
            rooms
        });
    }
    let forgotten = alive.block_on(world.store.standing()).unwrap().unwrap().floor.n;
    assert!(model.n() > 10 && forgotten > 0, "a history that shows nothing: n {} floor {forgotten}", model.n());
    println!("{unanswered} decisions were made and not answered");
}

async fn act(world: &World, dice: &mut Dice, model: &mut Model, step: u32) {
    match dice.roll(11) {
        0..=3 => {
            let agent = world.store.state().record::<Agent>(&dice.pick(&AGENTS).parse().unwrap()).unwrap();
            let planned = world.plan(&agent, &Key::new()).await;
            let certificate = planned.certificate().clone();
            let refused = model.blocks(&certificate);
            match world.store.commit(planned.issue()).await {
                Ok(committed) => {
                    assert!(!refused, "step {step}: issued what is blocked");
                    model.certificates.push(Certificate::clone(&committed.reply().certificate));
                }
                Err(CommitError::Refused(why)) => assert!(refused, "step {step}: {why}"),
                Err(error) => panic!("{error}"),
            }
        }
        4 if !model.certificates.is_empty() => {
            let previous = dice.pick(&model.certificates).clone();
            let planned = world.plan_next(&previous, 1, &Key::new()).await;
            let stopped = model.hitting(&previous).is_some() || model.blocks(planned.certificate());
            let before = world.store.state().position().n;
            if let Ok(committed) = world.store.commit(planned.renew(&previous)).await {
                assert!(!stopped, "step {step}: renewed what is stopped");
                model.certificates.push(Certificate::clone(&committed.reply().certificate));
            }
            // A second renewal of one certificate suspends its lineage.
            for entry in world.store.state().in_force_after(before) {
                model.entries.insert(entry.n, entry);
            }
        }
        5..=7 => stop(world, dice, model).await,
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
        _ => {
            let at = world.clock.now() - REJOIN;
            world.store.commit(Forget { at }).await.unwrap();
        }
    }
}

/// Polls at most so often, and counts; the runtime does everything else in between.
async fn cut_off<T>(polls: usize, count: &mut usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    for _ in 0..polls {
        if let Poll::Ready(output) = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await {
            return Some(output);
        }
        *count += 1;
        tokio::task::yield_now().await;
    }
    None
}

/// What was decided and not answered, as nobody was left to hear it: one decision at most, and a lawful one.
async fn learn(store: &Store, model: &mut Model, step: u32) -> usize {
    let (n, known) = (model.n(), model.serials());
    let stored = store.certificates(&Query::default(), 1000).await.unwrap();
    let mut new = stored.into_iter().map(|stored| stored.certificate).filter(|one| !known.contains(&one.serial));
    let certificate = new.next();
    assert_eq!(new.next(), None, "step {step}");
    for view in store.revocations(&RevocationQuery::default(), 1000).await.unwrap() {
        model.take(&view);
    }
    let entries = usize::try_from(model.n() - n).unwrap();
    if let Some(certificate) = &certificate {
        assert!(!model.blocks(certificate), "step {step}: issued what is blocked");
    }
    model.certificates.extend(certificate.clone());
    let unanswered = entries + usize::from(certificate.is_some());
    assert!(unanswered <= 1, "step {step}: {unanswered} were made and not answered");
    unanswered
}

async fn stop(world: &World, dice: &mut Dice, model: &mut Model) {
    let scopes = ["tools/call:crm/get_customer", "tools/call:crm/**", "tools/call:billing/*"];
    let mut targets = vec![
        Target::Owner(dice.pick(&["team-finance", "team-crm"]).parse().unwrap()),
        Target::Agent(dice.pick(&AGENTS).parse().unwrap()),
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
    let reason = *dice.pick(&[Reason::Unspecified, Reason::KeyCompromise, Reason::Superseded]);
    let (comment, cascade) = (String::new(), dice.roll(2) == 0);
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

/// Every view at this number.
async fn agree(world: &World, rooms: &mut Rooms, model: &Model, increments: &mut (Told, Chained), step: u32) {
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
    let (mut asked, mut wanted_statuses) = (vec![Serial::from_bytes(&[1]).unwrap()], vec![Status::Unknown]);
    for certificate in model.certificates.iter().filter(|certificate| certificate.not_after + REJOIN >= now) {
        let serial = certificate.serial;
        let entry = model.hitting(certificate);
        let wanted = entry.is_some();
        assert_eq!(store.state().hitting(certificate).is_some(), wanted, "step {step}: gate on {serial}");
        assert_eq!(increments.0.in_force.hitting(certificate).is_some(), wanted, "step {step}: feed on {serial}");
        asked.push(serial);
        wanted_statuses.push(entry.map_or(Status::Good, |entry| Status::Ended(entry.into())));
        if certificate.not_after >= now {
            assert_eq!(snapshot.in_force.hitting(certificate).is_some(), wanted, "step {step}: snapshot on {serial}");
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

    // OCSP, and the CRL.
    assert_eq!(rooms.status(&asked).await, wanted_statuses, "step {step}: OCSP on {asked:?}");
    let recorded = store.state().authority(rooms.key_id).unwrap().crl.clone().map(|der| List::read(&der));
    rooms.publish().await;
    let (list, n) = rooms.list();
    assert_eq!(n, model.n(), "step {step}: CRL");
    for certificate in &model.certificates {
        let (serial, ended) = (certificate.serial, model.hitting(certificate).map(Ended::from));
        let before = recorded.as_ref().filter(|before| certificate.not_after >= before.this_update);
        // RFC 5280 §3.3: an entry stays until it has been in one CRL after the certificate's end.
        let due = certificate.not_after >= now || before.is_some_and(|before| before.entries.contains_key(&serial));
        let listed = list.entries.get(&serial).copied();
        let may_be_over = listed.is_none() && !due;
        let may_stay = certificate.not_after >= now || before.is_some();
        assert!(may_be_over || listed == ended, "step {step}: CRL says {listed:?} of {serial}, wanted {ended:?}");
        assert!(may_stay || listed.is_none(), "step {step}: {serial} stays in the CRL for good");
    }
    assert!(list.entries.keys().all(|serial| model.serials().contains(serial)), "step {step}: CRL");
    assert!(recorded.is_none_or(|before| before.number < list.number), "step {step}: CRL numbers");

    // The serials, and the log.
    let stored = store.certificates(&Query::default(), 1000).await.unwrap();
    let stored: BTreeSet<Serial> = stored.iter().map(|stored| stored.certificate.serial).collect();
    let wanted = model.serials();
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

macro_rules! histories {
    ($($name:ident: $seed:literal)+) => {$(
        mod $name {
            use super::*;

            #[test]
            fn sqlite() {
                history(Kind::Sqlite, $seed);
            }

            #[test]
            fn postgres() {
                history(Kind::Postgres, $seed);
            }
        }
    )+};
}

histories! {
    a_first_history: 0x9e37_79b9_7f4a_7c15
    a_second_history: 0xd1b5_4a32_d192_ed03
    a_third_history: 0x2545_f491_4f6c_dd1d
}
