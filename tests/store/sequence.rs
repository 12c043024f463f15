//! The revocation sequence: entries, resumes, and the order against what is issued.

use std::time::Duration;

use chancery::clock::Clock as _;
use chancery::store::{CommitError, Hit, Put, Refused, Resume, RevocationQuery, Revoke};
use chancery_api::{Agent, RevocationState, State};
use chancery_identity::{Effect, Name, Reason, Target};
use chancery_tlog::Decision;

use crate::world::{Key, Kind, World, agent, by, instance_of};

pub fn revoke(targets: impl IntoIterator<Item = Target>, effect: Effect) -> Revoke {
    let reason = if effect == Effect::Suspend { Reason::CertificateHold } else { Reason::KeyCompromise };
    Revoke {
        cause: by("ana"),
        targets: targets.into_iter().collect(),
        effect,
        reason,
        comment: "INC-2291".into(),
        cascade: true,
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, CommitError>) -> Refused {
    match result.unwrap_err() {
        CommitError::Refused(refused) => refused,
        other => panic!("{other}"),
    }
}

conformance! {
    async fn entries_are_contiguous_and_logged(world) {
        let agent = world.agent("invoice-bot").await;
        let certificate = world.issued(&agent, &Key::new()).await;
        let targets = [Target::Serial(certificate.serial), Target::Owner("team-finance".parse().unwrap())];
        let committed = world.store.commit(revoke(targets.clone(), Effect::Revoke)).await.unwrap();
        let views = committed.reply();
        assert_eq!(views.iter().map(|view| (view.n, view.log_index, view.fence)).collect::<Vec<_>>(), [(1, 2, 2), (2, 3, 3)]);
        assert_eq!(views.iter().map(|view| view.target.clone()).collect::<Vec<_>>(), targets);
        let log = world.store.log_from(2, 10).await.unwrap();
        for (entry, view) in log.iter().zip(views) {
            let record = entry.entry.as_ref().unwrap().record().unwrap();
            let Decision::Revoke(revoked) = &record.decision else { panic!() };
            assert_eq!(revoked.revocation(&record, entry.position), view.into());
            assert_eq!(world.store.revocation(view.id).await.unwrap().as_ref(), Some(view));
        }
        let position = world.store.state().position();
        assert_eq!((position.n, position.log_size), (2, 4));
        assert_eq!(world.store.state().hitting(&certificate).unwrap().n, 1);
        let again = world.store.commit(revoke(targets, Effect::Revoke)).await.unwrap();
        assert_eq!(again.reply().iter().map(|view| view.n).collect::<Vec<_>>(), [3, 4]);
    }

    async fn what_was_planned_before_an_entry_is_dropped_at_its_commit(world) {
        let agent = world.agent("invoice-bot").await;
        let name: Name = agent.name.clone();
        for (target, effect) in [
            (Target::Agent(name.clone()), Effect::Revoke),
            (Target::Owner(agent.owner.clone()), Effect::Revoke),
            (Target::Scope("tools/call:crm/**".parse().unwrap()), Effect::Revoke),
        ] {
            let planned = world.plan(&agent, &Key::new()).await;
            let entry = world.store.commit(revoke([target], effect)).await.unwrap().into_reply().remove(0);
            let Refused::Stopped(by) = refused(world.store.commit(planned.issue()).await) else { panic!() };
            assert_eq!(by.id, entry.id);
            // What is planned after it is new.
            let planned = world.plan(&agent, &Key::new()).await;
            assert!(world.store.commit(planned.issue()).await.is_ok());
        }
    }

    // Delegation has no route yet: the leaf of a sub-agent is signed here.
    async fn every_target_reaches_what_it_names_and_what_descends_from_it(world) {
        let agent = world.agent("invoice-bot").await;
        let parent = world.issued(&agent, &Key::new()).await;
        let child = world.store.commit(world.plan_child(&parent, &Key::new()).await.issue()).await.unwrap().into_reply().certificate;
        let sibling = world.issued(&agent, &Key::new()).await;
        let other = world.agent("report-bot").await;
        world.issued(&other, &Key::new()).await;
        let (of_parent, of_child) = (parent.grant.clone().unwrap(), child.grant.clone().unwrap());
        let task = of_child.task.clone().unwrap();
        let both = vec![parent.serial, child.serial];
        let now = world.clock.now();
        let position = world.store.state().position();
        for (target, cascade, wanted) in [
            (Target::Serial(parent.serial), true, both.clone()),
            (Target::Serial(parent.serial), false, vec![parent.serial]),
            (Target::Serial(child.serial), true, vec![child.serial]),
            (Target::Instance(instance_of(&parent)), true, both.clone()),
            (Target::Lineage(of_parent.lineage), true, both.clone()),
            (Target::Lineage(of_child.lineage), true, vec![child.serial]),
            (Target::Grant(of_parent.id), true, both.clone()),
            (Target::Grant(of_parent.id), false, vec![parent.serial]),
            (Target::Grant(of_child.id), true, vec![child.serial]),
            (Target::Task { agent: agent.name.clone(), id: task.id }, true, vec![child.serial]),
            (Target::Task { agent: other.name.clone(), id: "T-812".into() }, true, vec![]),
            (Target::Approval(task.approval.unwrap()), true, vec![child.serial]),
            (Target::Agent(agent.name.clone()), true, vec![parent.serial, child.serial, sibling.serial]),
            (Target::Agent(agent.name.clone()), false, vec![parent.serial, sibling.serial]),
        ] {
            let entry = chancery_identity::Revocation {
                id: chancery_identity::RevocationId::from_bytes([0; 16]),
                n: 1,
                epoch: 1,
                log_index: position.log_size,
                fence: position.log_size,
                at: now,
                target,
                effect: Effect::Revoke,
                reason: Reason::Unspecified,
                cascade,
            };
            let hit = world.store.hit_by(&entry, now).await.unwrap();
            let mut found: Vec<_> = hit.into_iter().map(|hit| hit.serial).collect();
            let mut wanted = wanted;
            found.sort_unstable();
            wanted.sort_unstable();
            assert_eq!(found, wanted, "{} {cascade}", entry.target);
            // What is bounded looks at no more than it may.
            let mut seen = 0;
            let looked = world.store.reach(&entry, now, 1, &mut |_| seen += 1).await.unwrap();
            assert!(looked <= 1 || matches!(entry.target, Target::Serial(_)), "{} {looked} {seen}", entry.target);
        }
    }

    async fn an_entry_of_the_same_batch_goes_first(world) {
        let agent = world.agent("invoice-bot").await;
        let planned = world.plan(&agent, &Key::new()).await;
        let issue = world.store.commit(planned.issue());
        let stop = world.store.commit(revoke([Target::Agent(agent.name.clone())], Effect::Suspend));
        // The issuance asks first.
        let (issued, stopped) = world.one_batch(2, async { tokio::join!(issue, stop) }).await;
        assert!(stopped.is_ok());
        assert!(matches!(refused(issued), Refused::Stopped(_)));
    }

    async fn a_suspension_blocks_what_is_planned_later_until_it_is_resumed(world) {
        let agent = world.agent("invoice-bot").await;
        let before = world.issued(&agent, &Key::new()).await;
        let suspend = revoke([Target::Agent(agent.name.clone())], Effect::Suspend);
        let entry = world.store.commit(suspend.clone()).await.unwrap().into_reply().remove(0);
        assert_eq!(world.store.state().record::<Agent>(&agent.name).unwrap().state, State::Suspended);
        let planned = world.plan(&agent, &Key::new()).await;
        assert_eq!(world.store.state().blocking(planned.certificate()).unwrap().id, entry.id);
        assert!(matches!(refused(world.store.commit(planned.issue()).await), Refused::Stopped(_)));

        // In force already: answered with, not entered again.
        let again = world.store.commit(suspend.clone()).await.unwrap();
        assert_eq!((again.log_index(), again.reply()), (entry.log_index, &vec![entry.clone()]));
        assert_eq!(world.store.state().position().n, 1);

        let resume = Resume { cause: by("ana"), id: entry.id, comment: "rotated".into() };
        let resumed = world.store.commit(resume.clone()).await.unwrap();
        let resumes = resumed.reply().resumed_by.clone().unwrap();
        assert_eq!((resumes.n, resumes.log_index, resumed.reply().state), (2, resumed.log_index(), RevocationState::Resumed));
        let log = world.store.log_from(resumed.log_index(), 1).await.unwrap();
        let record = log[0].entry.as_ref().unwrap().record().unwrap();
        assert!(matches!(&record.decision, Decision::Resume(resume) if (resume.n, resume.resumes) == (2, 1)));
        let again = world.store.commit(resume).await.unwrap();
        assert_eq!(again.reply(), resumed.reply());
        assert_eq!(world.store.state().position().n, 2);

        assert_eq!(world.store.state().hitting(&before), None);
        assert_eq!(world.store.state().record::<Agent>(&agent.name).unwrap().state, State::Active);
        let planned = world.plan(&agent, &Key::new()).await;
        assert!(world.store.commit(planned.issue()).await.is_ok());
        let next = world.store.commit(suspend).await.unwrap();
        assert_eq!(next.reply()[0].n, 3);
    }

    async fn final_entries_stay(world) {
        let agent = world.agent("invoice-bot").await;
        for effect in [Effect::Revoke, Effect::Retire] {
            let entry = world.store.commit(revoke([Target::Agent(agent.name.clone())], effect)).await.unwrap();
            let resume = Resume { cause: by("ana"), id: entry.reply()[0].id, comment: String::new() };
            assert_eq!(refused(world.store.commit(resume).await), Refused::Final);
        }
        let unknown = Resume { cause: by("ana"), id: chancery_identity::RevocationId::from_bytes([0; 16]), comment: String::new() };
        assert_eq!(refused(world.store.commit(unknown).await), Refused::NoRevocation);
        assert_eq!(world.store.state().record::<Agent>(&agent.name).unwrap().state, State::Retired);
    }

    async fn issued_before_is_a_position_of_the_log(world) {
        let agent = world.agent("invoice-bot").await;
        let old = world.issued(&agent, &Key::new()).await;
        world.clock.advance(Duration::from_secs(10));
        let moment = world.clock.now();
        world.clock.advance(Duration::from_secs(10));
        let new = world.issued(&agent, &Key::new()).await;
        let committed = world.store.commit(revoke([Target::IssuedBefore(moment)], Effect::Revoke)).await.unwrap();
        assert_eq!(committed.reply()[0].fence, 1);
        assert_eq!(world.store.state().hitting(&old).unwrap().n, 1);
        assert_eq!(world.store.state().hitting(&new), None);

        let future = world.clock.now() + Duration::from_millis(1);
        assert_eq!(refused(world.store.commit(revoke([Target::IssuedBefore(future)], Effect::Revoke)).await), Refused::InFuture(future));
        let first = chancery_identity::Timestamp::from_unix_millis(crate::world::START);
        assert_eq!(refused(world.store.commit(revoke([Target::IssuedBefore(first)], Effect::Revoke)).await), Refused::BeforeFirst(first));
        let suspend = revoke([Target::IssuedBefore(moment)], Effect::Suspend);
        assert!(matches!(refused(world.store.commit(suspend).await), Refused::Effect(_)));
    }

    async fn only_scopes_are_forbidden(world) {
        let scope = Target::Scope("tools/call:crm/refund".parse().unwrap());
        let forbid = revoke([scope], Effect::Forbid);
        world.store.commit(forbid.clone()).await.unwrap();
        assert_eq!(world.store.commit(forbid).await.unwrap().reply()[0].n, 1);
        assert!(world.store.state().forbidding(&"tools/call:crm/refund".parse().unwrap()).is_some());
        assert!(world.store.state().forbidding(&"tools/call:crm/read".parse().unwrap()).is_none());
        let agent = revoke([Target::Agent("invoice-bot".parse().unwrap())], Effect::Forbid);
        assert!(matches!(refused(world.store.commit(agent).await), Refused::Effect(_)));
    }

    async fn one_bad_target_enters_none(world) {
        let mix = revoke([Target::Agent("a".parse().unwrap()), Target::IssuedBefore(world.clock.now() + Duration::from_secs(1))], Effect::Revoke);
        assert!(world.store.commit(mix).await.is_err());
        assert_eq!(world.store.state().position().n, 0);
        assert_eq!(world.store.revocations(&RevocationQuery::default(), 10).await.unwrap(), []);
    }

    async fn the_state_survives_a_restart(world) {
        let agent = world.agent("invoice-bot").await;
        let certificate = world.issued(&agent, &Key::new()).await;
        let suspend = revoke([Target::Agent(agent.name.clone())], Effect::Suspend);
        let held = world.store.commit(suspend).await.unwrap().into_reply().remove(0);
        let other = revoke([Target::Agent("other".parse().unwrap())], Effect::Suspend);
        let resumed = world.store.commit(other).await.unwrap().into_reply().remove(0);
        world.store.commit(Resume { cause: by("ana"), id: resumed.id, comment: String::new() }).await.unwrap();
        let position = world.store.state().position();
        world.restart().await;
        assert_eq!(world.store.state().position(), position);
        assert_eq!(world.store.state().hitting(&certificate).unwrap().id, held.id);
        assert_eq!(world.store.state().in_force(resumed.id), None);
        assert_eq!(world.store.state().in_force_after(0).len(), 1);
        assert_eq!(world.store.state().record::<Agent>(&agent.name).unwrap().state, State::Suspended);
        let more = world.agent("more").await;
        assert_eq!(more.log_index, position.log_size);
        let query = RevocationQuery { state: Some(RevocationState::Resumed), ..RevocationQuery::default() };
        assert_eq!(world.store.revocations(&query, 10).await.unwrap()[0].id, resumed.id);
        let query = RevocationQuery { target: Some(held.target.clone()), ..RevocationQuery::default() };
        assert_eq!(world.store.revocations(&query, 10).await.unwrap(), [held]);
        let query = RevocationQuery { before: Some(2), ..RevocationQuery::default() };
        assert_eq!(world.store.revocations(&query, 10).await.unwrap().len(), 1);
    }

    async fn the_certificates_that_an_entry_hits_are_found(world) {
        let bot = world.agent("invoice-bot").await;
        let other = world.store.commit(Put { cause: by("ana"), record: Agent { owner: "team-other".parse().unwrap(), ..agent("other") }, changes: None })
            .await.unwrap().into_reply();
        let expired = world.issued(&bot, &Key::new()).await;
        world.clock.advance(Duration::from_secs(3700));
        let one = world.issued(&bot, &Key::new()).await;
        let two = world.plan_next(&one, 1, &Key::new()).await;
        let two = world.store.commit(two.renew(&one)).await.unwrap().into_reply().certificate;
        let three = world.issued(&bot, &Key::new()).await;
        let four = world.issued(&other, &Key::new()).await;
        let now = world.clock.now();
        for (target, wanted) in [
            (Target::Serial(one.serial), vec![&one]),
            (Target::Serial(expired.serial), vec![]),
            (Target::Instance(instance_of(&one)), vec![&one, &two]),
            (Target::Lineage(one.grant.as_ref().unwrap().lineage), vec![&one, &two]),
            (Target::Agent(bot.name.clone()), vec![&one, &two, &three]),
            (Target::Owner(other.owner.clone()), vec![&four]),
            (Target::Scope("tools/call:crm/*".parse().unwrap()), vec![&one, &two, &three, &four]),
            (Target::Authority(world.issuer.key_id()), vec![&one, &two, &three, &four]),
            (Target::IssuedBefore(now), vec![]),
            (Target::Service("crm".parse().unwrap()), vec![]),
        ] {
            let entry = world.store.commit(revoke([target], Effect::Revoke)).await.unwrap().into_reply().remove(0);
            let mut found = world.store.hit_by(&(&entry).into(), now).await.unwrap();
            found.sort_unstable();
            let mut wanted: Vec<_> = wanted.iter().map(|certificate| {
                Hit { authority: certificate.authority, serial: certificate.serial, not_after: certificate.not_after }
            }).collect();
            wanted.sort_unstable();
            assert_eq!(found, wanted, "{}", entry.target);
        }
    }

    async fn changes_are_told(world) {
        let agent = world.agent("invoice-bot").await;
        let mut numbers = world.store.state().revocation_changes();
        let subject = chancery_api::Subject::Agent(agent.name.clone());
        let mut revisions = world.store.state().revision_changes(&subject);
        assert_eq!((*numbers.borrow_and_update(), *revisions.borrow_and_update()), (0, 1));
        world.store.commit(Put { cause: by("ana"), record: agent.clone(), changes: Some(1) }).await.unwrap();
        assert!(!numbers.has_changed().unwrap());
        revisions.changed().await.unwrap();
        assert_eq!(*revisions.borrow_and_update(), 2);
        world.store.commit(revoke([Target::Agent(agent.name)], Effect::Suspend)).await.unwrap();
        numbers.changed().await.unwrap();
        revisions.changed().await.unwrap();
        assert_eq!((*numbers.borrow(), *revisions.borrow()), (1, 2));
    }
}
