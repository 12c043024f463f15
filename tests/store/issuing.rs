//! First certificates and renewals.

use std::collections::BTreeSet;
use std::time::Duration;

use chancery::store::{Cause, CommitError, CreateJoinToken, DeleteJoinToken, IssueOwn, Put, Refused, Renew};
use chancery_ca::Claims;
use chancery_identity::{Effect, ScopeSet, Target};
use chancery_tlog::Action;
use futures_util::future::join_all;

use crate::sequence::revoke;
use crate::world::{Key, Kind, World, by, instance_of, spent, spiffe_id};

conformance! {
    async fn issues_and_records(world) {
        let agent = world.agent("invoice-bot").await;
        let planned = world.plan(&agent, &Key::new()).await;
        let (wanted, der) = (planned.certificate().clone(), planned.signed.der().to_vec());
        let committed = world.store.commit(planned.issue()).await.unwrap();
        assert_eq!((committed.log_index(), committed.at()), (1, world.store.log_from(1, 1).await.unwrap()[0].at));
        let issued = committed.into_reply();
        assert_eq!((&*issued.certificate, &*issued.der, issued.replayed), (&wanted, der.as_slice(), false));

        let stored = world.store.certificate(wanted.serial).await.unwrap().unwrap();
        assert_eq!((stored.certificate, stored.der, stored.log_index), (wanted.clone(), der, 1));
        let lineage = world.store.lineage(wanted.grant.as_ref().unwrap().lineage).await.unwrap().unwrap();
        assert_eq!((lineage.serial, lineage.instance), (wanted.serial, Some(instance_of(&wanted))));
        assert_eq!(lineage.selectors, ["x509pop:ca:9c"]);
        let entry = world.store.log_from(1, 1).await.unwrap()[0].entry.clone().unwrap();
        let record = entry.record().unwrap();
        assert_eq!(record.decision.action(), Action::Issue);
        assert_eq!(record.decision.certificate().unwrap().0, &wanted);
        assert_eq!(world.store.state().position().log_size, 2);
    }

    async fn many_at_once_share_commits_and_have_gapless_positions(world) {
        let agent = world.agent("invoice-bot").await;
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..300 {
            let issue = world.plan(&agent, &Key::new()).await.issue();
            let store = world.store.clone();
            waiting.spawn(async move { store.commit(issue).await.unwrap().log_index() });
        }
        let mut positions = waiting.join_all().await;
        positions.sort_unstable();
        assert_eq!(positions, (1..=300).collect::<Vec<_>>());
    }

    async fn a_renewal_moves_the_lineage_on_and_a_lost_reply_is_answered_again(world) {
        let agent = world.agent("invoice-bot").await;
        let first = world.issued(&agent, &Key::new()).await;
        let key = Key::new();
        let second = world.plan_next(&first, 1, &key).await;
        let serial = second.certificate().serial;
        let committed = world.store.commit(second.renew(&first)).await.unwrap();
        assert!(!committed.reply().replayed);
        assert_eq!(world.store.lineage(first.grant.as_ref().unwrap().lineage).await.unwrap().unwrap().serial, serial);

        let again = world.plan_next(&first, 1, &key).await;
        let replayed = world.store.commit(again.renew(&first)).await.unwrap();
        assert_eq!(replayed.log_index(), committed.log_index());
        assert_eq!((replayed.reply().certificate.serial, replayed.reply().replayed), (serial, true));
        assert_eq!(world.store.state().position().log_size, committed.log_index() + 1);
    }

    async fn a_second_renewal_by_another_key_suspends_the_lineage(world) {
        let agent = world.agent("invoice-bot").await;
        let first = world.issued(&agent, &Key::new()).await;
        let second = world.plan_next(&first, 1, &Key::new()).await;
        let second = world.store.commit(second.renew(&first)).await.unwrap().into_reply().certificate;
        let thief = world.plan_next(&first, 1, &Key::new()).await;
        let thiefs_serial = thief.certificate().serial;
        let refused = world.store.commit(thief.renew(&first)).await.unwrap_err();
        let CommitError::Refused(Refused::Fork { presented, entry }) = refused else { panic!("{refused}") };
        let lineage = first.grant.as_ref().unwrap().lineage;
        assert_eq!((presented, &entry.target, entry.effect), (first.serial, &Target::Lineage(lineage), Effect::Suspend));
        assert_eq!(world.store.state().hitting(&second).unwrap().id, entry.id);
        assert_eq!(world.store.certificate(thiefs_serial).await.unwrap(), None);

        // Neither goes on.
        let next = world.plan_next(&second, 1, &Key::new()).await;
        let refused = world.store.commit(next.renew(&second)).await.unwrap_err();
        assert!(matches!(refused, CommitError::Refused(Refused::Stopped(_))), "{refused}");
        let revoked = world.store.revocation(entry.id).await.unwrap().unwrap();
        assert_eq!(revoked.log_index, entry.log_index);
    }

    async fn two_renewals_in_one_batch_are_one_and_a_fork(world) {
        let agent = world.agent("invoice-bot").await;
        let first = world.issued(&agent, &Key::new()).await;
        let one = world.plan_next(&first, 1, &Key::new()).await.renew(&first);
        let other = world.plan_next(&first, 1, &Key::new()).await.renew(&first);
        let both = async { tokio::join!(world.store.commit(one), world.store.commit(other)) };
        let (one, other) = world.one_batch(2, both).await;
        assert!(one.is_ok());
        assert!(matches!(other, Err(CommitError::Refused(Refused::Fork { .. }))));
    }

    async fn keys_are_neither_reused_nor_shared(world) {
        let agent = world.agent("invoice-bot").await;
        let key = Key::new();
        let first = world.issued(&agent, &key).await;
        let same = world.plan_next(&first, 1, &key).await;
        let refused = world.store.commit(same.renew(&first)).await.unwrap_err();
        assert!(matches!(refused, CommitError::Refused(Refused::KeyReused)), "{refused}");
        let foreign = world.plan(&agent, &key).await;
        let refused = world.store.commit(foreign.issue()).await.unwrap_err();
        let lineage = first.grant.as_ref().unwrap().lineage;
        assert!(matches!(refused, CommitError::Refused(Refused::KeyInUse(id)) if id == lineage), "{refused}");

        // Nor after a start, when all is read anew; one that its lineage went on from is free.
        world.restart().await;
        let foreign = world.plan(&agent, &key).await;
        let refused = world.store.commit(foreign.issue()).await.unwrap_err();
        assert!(matches!(refused, CommitError::Refused(Refused::KeyInUse(id)) if id == lineage), "{refused}");
        let next = world.plan_next(&first, 1, &Key::new()).await.renew(&first);
        world.store.commit(next).await.unwrap();
        let free = world.plan(&agent, &key).await;
        world.store.commit(free.issue()).await.unwrap();

        // A lineage that is over holds no key.
        world.clock.advance(Duration::from_secs(3700));
        let later = world.plan(&agent, &key).await;
        assert!(world.store.commit(later.issue()).await.is_ok());
    }

    async fn nor_does_a_certificate_that_ended_go_on_with_its_key(world) {
        let agent = world.agent("invoice-bot").await;
        let key = Key::new();
        let first = world.issued(&agent, &key).await;
        world.clock.advance(Duration::from_secs(3700));
        let rejoin = async |world: &World, key: &Key| {
            let evidence = spent([8; 32], chancery::clock::Clock::now(&*world.clock) + Duration::from_secs(60), None);
            let renew = Renew { spends: Some(evidence), ..world.plan_next(&first, 1, key).await.renew(&first) };
            world.store.commit(renew).await
        };
        let refused = rejoin(&world, &key).await.unwrap_err();
        assert!(matches!(refused, CommitError::Refused(Refused::KeyReused)), "{refused}");
        assert!(rejoin(&world, &Key::new()).await.is_ok());
    }

    async fn a_key_is_that_of_who_took_it_last(world) {
        let agent = world.agent("invoice-bot").await;
        let key = Key::new();
        let older = world.issued(&agent, &Key::new()).await;
        let younger = world.issued(&agent, &key).await;
        let retire = revoke([Target::Instance(instance_of(&younger))], Effect::Retire);
        world.store.commit(retire).await.unwrap();
        // Free with the end of its lineage, and taken by one that began before that.
        let next = world.plan_next(&older, 1, &key).await.renew(&older);
        world.store.commit(next).await.unwrap();
        let taken = async |world: &World| {
            let refused = world.store.commit(world.plan(&agent, &key).await.issue()).await.unwrap_err();
            let lineage = older.grant.as_ref().unwrap().lineage;
            assert!(matches!(refused, CommitError::Refused(Refused::KeyInUse(id)) if id == lineage), "{refused}");
        };
        taken(&world).await;
        world.restart().await;
        taken(&world).await;
    }

    async fn evidence_is_spent_once_and_answered_again_to_the_same_key(world) {
        let agent = world.agent("invoice-bot").await;
        let key = Key::new();
        let evidence = spent([3; 32], chancery::clock::Clock::now(&*world.clock) + Duration::from_secs(60), None);
        let mut first = world.plan(&agent, &key).await.issue();
        first.spends = Some(evidence.clone());
        let first = world.store.commit(first).await.unwrap();
        let mut again = world.plan(&agent, &key).await.issue();
        again.spends = Some(evidence.clone());
        let replayed = world.store.commit(again).await.unwrap();
        assert_eq!(replayed.log_index(), first.log_index());
        assert_eq!(replayed.reply().der, first.reply().der);
        let mut other = world.plan(&agent, &Key::new()).await.issue();
        other.spends = Some(evidence.clone());
        let refused = world.store.commit(other).await.unwrap_err();
        let CommitError::Refused(Refused::Spent { peer, serial, .. }) = refused else { panic!("{refused}") };
        assert_eq!((peer.as_deref(), serial), (Some("10.0.3.7"), first.reply().certificate.serial));

        // Only just after: then the evidence is worth nothing.
        world.clock.advance(Duration::from_secs(601));
        let mut late = world.plan(&agent, &key).await.issue();
        late.spends = Some(evidence);
        let refused = world.store.commit(late).await.unwrap_err();
        assert!(matches!(refused, CommitError::Refused(Refused::Spent { .. })), "{refused}");
    }

    async fn a_join_token_has_so_many_uses_and_can_be_deleted(world) {
        let agent = world.agent("invoice-bot").await;
        let token = world.join_token("invoice-bot", 2);
        let create = CreateJoinToken { cause: by("ana"), token: token.clone(), secret_hash: [5; 32] };
        let token = world.store.commit(create).await.unwrap().into_reply();
        let join = |token: &chancery_api::JoinToken| Some(spent([5; 32], token.expires_at, Some(token.id)));
        let keys = [Key::new(), Key::new()];
        let mut serials = Vec::new();
        for key in &keys {
            let mut issue = world.plan(&agent, key).await.issue();
            issue.spends = join(&token);
            serials.push(world.store.commit(issue).await.unwrap().into_reply().certificate.serial);
        }
        let mut third = world.plan(&agent, &Key::new()).await.issue();
        third.spends = join(&token);
        let refused = world.store.commit(third).await.unwrap_err();
        let CommitError::Refused(Refused::Spent { serial, .. }) = refused else { panic!("{refused}") };
        assert_eq!(serial, serials[1]);
        // Each use of them can be asked for again.
        for (key, serial) in keys.iter().zip(&serials) {
            let mut again = world.plan(&agent, key).await.issue();
            again.spends = join(&token);
            let again = world.store.commit(again).await.unwrap().into_reply();
            assert!(again.replayed && again.certificate.serial == *serial);
        }
        let found = world.store.join_token_by_secret(&[5; 32]).await.unwrap().unwrap();
        assert_eq!(found.used, 2);
        assert_eq!(world.store.join_tokens(None, 10).await.unwrap(), [found]);
        assert_eq!(world.store.join_token_by_secret(&[6; 32]).await.unwrap(), None);

        let delete = DeleteJoinToken { cause: by("ana"), id: token.id };
        assert!(world.store.commit(delete.clone()).await.is_ok());
        let mut gone = world.plan(&agent, &Key::new()).await.issue();
        gone.spends = join(&token);
        let refused = world.store.commit(gone).await.unwrap_err();
        assert!(matches!(refused, CommitError::Refused(Refused::NoJoinToken)), "{refused}");
        assert!(world.store.commit(delete).await.is_err());
    }

    async fn one_use_in_one_batch_is_one_certificate(world) {
        let agent = world.agent("invoice-bot").await;
        let evidence = spent([9; 32], chancery::clock::Clock::now(&*world.clock) + Duration::from_secs(60), None);
        let mut planned = Vec::new();
        for _ in 0..8 {
            let mut issue = world.plan(&agent, &Key::new()).await.issue();
            issue.spends = Some(evidence.clone());
            planned.push(issue);
        }
        let issued = join_all(planned.into_iter().map(|issue| world.store.commit(issue)));
        assert_eq!(world.one_batch(8, issued).await.into_iter().filter(Result::is_ok).count(), 1);
    }

    async fn one_that_lives_again_counts_again(world) {
        let agent = world.agent("invoice-bot").await;
        let issue = async |world: &World| {
            let mut issue = world.plan(&agent, &Key::new()).await.issue();
            issue.max_instances = Some(2);
            world.store.commit(issue).await
        };
        let first = issue(&world).await.unwrap().into_reply().certificate;
        issue(&world).await.unwrap();
        world.clock.advance(Duration::from_secs(3700));
        issue(&world).await.unwrap();
        let again = world.plan_next(&first, 1, &Key::new()).await.renew(&first);
        world.store.commit(again).await.unwrap();
        let refused = issue(&world).await.unwrap_err();
        assert!(matches!(refused, CommitError::Refused(Refused::Instances { live: 2, max: 2 })), "{refused}");
    }

    async fn renewals_in_one_batch_are_each_decided_as_if_alone(world) {
        let agent = world.agent("invoice-bot").await;
        let mut planned = Vec::new();
        for at in 0..8 {
            let key = Key::new();
            let first = world.issued(&agent, &key).await;
            if at == 3 {
                let next = world.plan_next(&first, 1, &Key::new()).await.renew(&first);
                world.store.commit(next).await.unwrap();
            }
            let next_key = if at == 5 { key } else { Key::new() };
            let renew = world.plan_next(&first, 1, &next_key).await.renew(&first);
            planned.push(renew);
        }
        let renewed = join_all(planned.into_iter().map(|renew| world.store.commit(renew)));
        for (at, outcome) in world.one_batch(8, renewed).await.into_iter().enumerate() {
            match (at, outcome) {
                (3, Err(CommitError::Refused(Refused::Fork { .. }))) => {}
                (5, Err(CommitError::Refused(Refused::KeyReused))) => {}
                (_, Ok(_)) if at != 3 && at != 5 => {}
                (at, outcome) => panic!("{at}: {outcome:?}"),
            }
        }
        assert_eq!(world.store.state().in_force_after(0).len(), 1);
        // Salts are drawn together, and each hides one record alone.
        let entries = world.store.log_from(0, 1000).await.unwrap();
        let salts: BTreeSet<_> = entries.iter().map(|entry| entry.entry.as_ref().unwrap().salt).collect();
        assert_eq!(salts.len(), entries.len());
        assert!(!salts.contains(&[0; 16]));
    }

    async fn instances_are_counted_while_they_live(world) {
        let agent = world.agent("invoice-bot").await;
        let issue = async |world: &World| {
            let mut issue = world.plan(&agent, &Key::new()).await.issue();
            issue.max_instances = Some(2);
            world.store.commit(issue).await
        };
        let first = issue(&world).await.unwrap().into_reply().certificate;
        issue(&world).await.unwrap();
        let refused = issue(&world).await.unwrap_err();
        assert!(matches!(refused, CommitError::Refused(Refused::Instances { live: 2, max: 2 })), "{refused}");
        let retire = revoke([Target::Instance(instance_of(&first))], Effect::Retire);
        world.store.commit(retire).await.unwrap();
        issue(&world).await.unwrap();
        assert!(issue(&world).await.is_err());
        world.clock.advance(Duration::from_secs(3700));
        issue(&world).await.unwrap();
    }

    async fn a_plan_under_an_older_revision_is_planned_again(world) {
        let agent = world.agent("invoice-bot").await;
        let planned = world.plan(&agent, &Key::new()).await;
        let narrower = chancery_api::Agent { scopes: ScopeSet::default(), ..agent.clone() };
        world.store.commit(Put { cause: by("ana"), record: narrower, changes: Some(1) }).await.unwrap();
        let refused = world.store.commit(planned.issue()).await.unwrap_err();
        let CommitError::Refused(Refused::Revision { wanted: 1, found: 2, .. }) = refused else { panic!("{refused}") };
        let mut unknown = agent;
        unknown.name = "nobody".parse().unwrap();
        let planned = world.plan(&unknown, &Key::new()).await;
        let refused = world.store.commit(planned.issue()).await.unwrap_err();
        assert!(matches!(refused, CommitError::Refused(Refused::NoRecord(_))), "{refused}");
    }

    async fn a_session_ends(world) {
        let agent = world.agent("invoice-bot").await;
        let mut issue = world.plan(&agent, &Key::new()).await.issue();
        issue.session_end = Some(chancery::clock::Clock::now(&*world.clock) + Duration::from_secs(100));
        let first = world.store.commit(issue).await.unwrap().into_reply().certificate;
        let second = world.plan_next(&first, 1, &Key::new()).await;
        let second = world.store.commit(second.renew(&first)).await.unwrap().into_reply().certificate;
        world.clock.advance(Duration::from_secs(100));
        let third = world.plan_next(&second, 1, &Key::new()).await;
        let refused = world.store.commit(third.renew(&second)).await.unwrap_err();
        assert!(matches!(refused, CommitError::Refused(Refused::LineageOver(_))), "{refused}");
    }

    async fn the_issuer_has_a_certificate_without_a_lineage(world) {
        let claims = Claims {
            spiffe_id: spiffe_id("spiffe://example.org/chancery/server"),
            scopes: ScopeSet::default(),
            grant: None,
            dns_names: vec!["ca.internal".into()],
            not_after: chancery::clock::Clock::now(&*world.clock) + Duration::from_secs(3599),
        };
        let signed = world.issuer.sign(claims, &Key::new(), chancery::clock::Clock::now(&*world.clock)).await;
        let committed = world.store.commit(IssueOwn { signed }).await.unwrap();
        assert_eq!(committed.log_index(), 0);
        let record = world.store.log_from(0, 1).await.unwrap()[0].entry.clone().unwrap().record().unwrap();
        assert_eq!(record.actor, Cause::ISSUER.actor);
        let agent = world.agent("invoice-bot").await;
        let planned = world.plan(&agent, &Key::new()).await;
        assert!(world.store.commit(IssueOwn { signed: planned.signed }).await.is_err());
    }
}
