//! Agents, services, administrators, tokens, authorities, searches.

use std::collections::BTreeSet;
use std::time::Duration;

use chancery::clock::Clock as _;
use chancery::store::{
    CommitError, CreateApiToken, CrlPublished, DeleteApiToken, IssueOwn, Purge, Put, PutAuthority, Query, Refused,
};
use chancery_api::{Access, Admin, Agent, ApiToken, AuthorityKind, Service, Subject};
use chancery_ca::{Claims, CrlNumber};
use chancery_identity::{Actor, Certificate, Effect, Revocation, ScopeSet, Target, Timestamp, TokenId};
use futures_util::future::join_all;

use crate::sequence::revoke;
use crate::world::{Key, Kind, World, admin_record, agent, by, name, service, spiffe_id};

fn refused<T: std::fmt::Debug>(result: Result<T, CommitError>) -> Refused {
    match result.unwrap_err() {
        CommitError::Refused(refused) => refused,
        other => panic!("{other}"),
    }
}

conformance! {
    async fn a_record_goes_from_revision_to_revision(world) {
        let created = world.store.commit(Put { cause: by("ana"), record: agent("invoice-bot"), changes: None }).await.unwrap();
        assert_eq!((created.reply().revision, created.reply().log_index, created.log_index()), (1, 0, 0));
        assert_eq!(created.reply().created_by, Actor::Admin(name("ana")));
        let again = world.store.commit(Put { cause: by("ana"), record: agent("invoice-bot"), changes: None }).await;
        assert_eq!(refused(again), Refused::Exists("agent:invoice-bot".into()));

        let changed = Agent { description: "é".into(), ..created.reply().clone() };
        let put = Put { cause: by("ben"), record: changed, changes: Some(1) };
        let updated = world.store.commit(put.clone()).await.unwrap().into_reply();
        assert_eq!((updated.revision, updated.log_index, &updated.created_by), (2, 1, &created.reply().created_by));
        assert_eq!(refused(world.store.commit(put).await), Refused::Revision { record: "agent:invoice-bot".into(), wanted: 1, found: 2 });
        let missing = Put { cause: by("ana"), record: agent("nobody"), changes: Some(1) };
        assert_eq!(refused(world.store.commit(missing).await), Refused::NoRecord("agent:nobody".into()));
        assert_eq!(*world.store.state().record::<Agent>(&name("invoice-bot")).unwrap(), updated);
        world.restart().await;
        assert_eq!(*world.store.state().record::<Agent>(&name("invoice-bot")).unwrap(), updated);
        assert_eq!(world.store.state().records::<Agent>().len(), 1);
    }

    async fn two_creations_of_one_name_at_once_are_one(world) {
        let create = || world.store.commit(Put { cause: by("ana"), record: admin_record("ana"), changes: None });
        let (one, other) = world.one_batch(2, async { tokio::join!(create(), create()) }).await;
        assert!(one.is_ok());
        assert_eq!(refused(other), Refused::Exists("admin:ana".into()));
        assert_eq!(world.store.state().record::<Admin>(&name("ana")).unwrap().access, [Access::Viewer].into());
    }

    async fn a_system_and_a_dns_name_have_one_service(world) {
        let put = |record: Service, changes| Put { cause: by("ana"), record, changes };
        let crm = world.store.commit(put(service("crm", &["crm", "sales"], &["crm.internal"]), None)).await.unwrap().into_reply();
        let system = refused(world.store.commit(put(service("other", &["sales"], &[]), None)).await);
        assert_eq!(system, Refused::Owned { name: "system sales".into(), service: name("crm") });
        let dns = refused(world.store.commit(put(service("other", &[], &["crm.internal"]), None)).await);
        assert_eq!(dns, Refused::Owned { name: "DNS name crm.internal".into(), service: name("crm") });

        // Given up in one decision, taken in the next, in one batch.
        let less = put(service("crm", &["crm"], &[]), Some(crm.revision));
        let more = put(service("other", &["sales"], &["crm.internal"]), None);
        let both = async { tokio::join!(world.store.commit(less), world.store.commit(more)) };
        let (less, more) = world.one_batch(2, both).await;
        assert!(less.is_ok() && more.is_ok());
        let state = world.store.state();
        assert_eq!(state.service_of(&"sales".parse().unwrap()), Some(name("other")));
        assert_eq!(state.service_named("crm.internal"), Some(name("other")));
        assert_eq!(state.systems(), [("crm".parse().unwrap(), name("crm")), ("sales".parse().unwrap(), name("other"))]);
        world.restart().await;
        assert_eq!(world.store.state().service_of(&"sales".parse().unwrap()), Some(name("other")));
        assert_eq!(world.store.state().service_of(&"none".parse().unwrap()), None);
    }

    async fn api_tokens_are_found_by_secret_until_deleted(world) {
        let token = ApiToken {
            id: TokenId::from_bytes([1; 16]),
            description: "ci".into(),
            access: [Access::Operator].into(),
            expires_at: world.clock.now() + Duration::from_secs(60),
            created_at: Timestamp::default(),
            created_by: Actor::Issuer,
            log_index: 0,
        };
        let create = CreateApiToken { cause: by("ana"), token, secret_hash: [8; 32] };
        let token = world.store.commit(create.clone()).await.unwrap().into_reply();
        assert_eq!(world.store.api_token_by_secret(&[8; 32]).await.unwrap(), Some(token.clone()));
        assert_eq!(world.store.api_token_by_secret(&[9; 32]).await.unwrap(), None);
        assert_eq!(world.store.api_tokens(None, 10).await.unwrap(), std::slice::from_ref(&token));

        // A bad row is refused alone, whatever is in its batch.
        let good = Put { cause: by("ana"), record: agent("invoice-bot"), changes: None };
        let both = async { tokio::join!(world.store.commit(create), world.store.commit(good)) };
        let (twice, good) = world.one_batch(2, both).await;
        assert_eq!(refused(twice), Refused::Conflict);
        assert!(good.is_ok());
        world.store.commit(DeleteApiToken { cause: by("ana"), id: token.id }).await.unwrap();
        assert_eq!(world.store.api_token_by_secret(&[8; 32]).await.unwrap(), None);
    }

    async fn a_crl_is_published_over_a_lower_number_only(world) {
        let put = PutAuthority {
            cause: by("ana"),
            key_id: world.issuer.key_id(),
            kind: AuthorityKind::Issuing,
            certificate: world.issuer.certificate(),
            sealed_key: Some(vec![1, 2, 3]),
        };
        world.store.commit(put.clone()).await.unwrap();
        let crl = |number: u128| CrlPublished { authority: put.key_id, number: CrlNumber::new(number), n: 0, entries: 0, der: vec![9] };
        world.store.commit(crl(1_795_000_000_000_000_000)).await.unwrap();
        for number in [1_795_000_000_000_000_000, 5] {
            assert!(matches!(refused(world.store.commit(crl(number)).await), Refused::CrlNumber { .. }));
        }
        let (higher, lower) = (crl(1_795_000_000_000_000_002), crl(1_795_000_000_000_000_001));
        let both = async { tokio::join!(world.store.commit(higher), world.store.commit(lower)) };
        let (one, other) = world.one_batch(2, both).await;
        assert!(one.is_ok() && other.is_err());
        world.restart().await;
        let authority = world.store.state().authority(put.key_id).unwrap();
        assert_eq!(authority.crl_number, Some(CrlNumber::new(1_795_000_000_000_000_002)));
        assert_eq!((&authority.certificate, &authority.sealed_key, authority.crl.as_deref()), (&put.certificate, &put.sealed_key, Some(&[9][..])));

        // Taking it in again keeps its CRL.
        world.store.commit(put.clone()).await.unwrap();
        assert!(world.store.state().authority(put.key_id).unwrap().crl_number.is_some());
        let unknown = CrlPublished { authority: chancery_identity::KeyId::from_bytes([0; 20]), ..crl(9) };
        assert!(matches!(refused(world.store.commit(unknown).await), Refused::NoAuthority(_)));
    }

    async fn certificates_are_searched(world) {
        let bot = world.agent("invoice-bot").await;
        let other = world.agent("other").await;
        let old = world.issued(&bot, &Key::new()).await;
        world.clock.advance(Duration::from_secs(1000));
        let middle = world.clock.now();
        let two = world.issued(&other, &Key::new()).await;
        let three = world.issued(&bot, &Key::new()).await;
        let serials = async |query: Query, limit| {
            world.store.certificates(&query, limit).await.unwrap().into_iter().map(|found| found.certificate.serial).collect::<Vec<_>>()
        };
        assert_eq!(serials(Query::default(), 10).await, [three.serial, two.serial, old.serial]);
        let of_bot = Query { holder: Some(Subject::Agent(bot.name.clone())), ..Query::default() };
        assert_eq!(serials(of_bot.clone(), 10).await, [three.serial, old.serial]);
        assert_eq!(serials(Query { issued_after: Some(middle), ..Query::default() }, 10).await, [three.serial, two.serial]);
        let unexpired = Query { unexpired_at: Some(old.not_after + Duration::from_secs(1)), ..Query::default() };
        assert_eq!(serials(unexpired, 10).await, [three.serial, two.serial]);
        let first = world.store.certificates(&of_bot, 1).await.unwrap();
        let next = Query { before: Some(first[0].key), ..of_bot };
        assert_eq!(serials(next, 10).await, [old.serial]);

        let instances = world.store.instances(None, None, 2).await.unwrap();
        assert_eq!(instances.iter().map(|one| one.serial).collect::<Vec<_>>(), [three.serial, two.serial]);
        let rest = world.store.instances(None, Some(instances[1].id), 2).await.unwrap();
        assert_eq!(rest.iter().map(|one| one.serial).collect::<Vec<_>>(), [old.serial]);
        let of_other = world.store.instances(Some(&other.name), None, 2).await.unwrap();
        assert_eq!(world.store.lineages_of(of_other[0].instance.unwrap()).await.unwrap(), of_other);
    }

    async fn a_holders_certificates_are_found_whatever_block_they_are_in(world) {
        let bot = world.agent("invoice-bot").await;
        let other = world.agent("other").await;
        let own = async |world: &World, lasts: u64| {
            let claims = Claims {
                spiffe_id: spiffe_id("spiffe://example.org/chancery/server"),
                scopes: ScopeSet::default(),
                grant: None,
                dns_names: vec![],
                not_after: world.clock.now() + Duration::from_secs(lasts),
            };
            let signed = world.issuer.sign(claims, &Key::new(), world.clock.now()).await;
            world.store.commit(IssueOwn { signed }).await.unwrap().into_reply().certificate
        };
        let long = own(&world, 3599).await;
        let mut issued = vec![world.issued(&bot, &Key::new()).await];
        // Across the end of the first block in one commit, and far from it.
        world.database.tamper("UPDATE head SET certificate = 1022").await;
        let mut planned = Vec::new();
        for agent in [&bot, &other, &bot] {
            planned.push(world.plan(agent, &Key::new()).await.issue());
        }
        let both = join_all(planned.into_iter().map(|issue| world.store.commit(issue)));
        let both = world.one_batch(3, both).await.into_iter().map(|issued| issued.unwrap().into_reply().certificate);
        issued.extend(both.filter(|one| one.spiffe_id.as_str().contains("invoice-bot")).map(|one| Certificate::clone(&one)));
        world.database.tamper("UPDATE head SET certificate = 5000").await;
        issued.push(world.issued(&bot, &Key::new()).await);
        own(&world, 180).await;

        let of_bot = Query { holder: Some(Subject::Agent(bot.name.clone())), ..Query::default() };
        assert_eq!(world.store.count_certificates(&of_bot).await.unwrap(), 4);
        let (mut listed, mut before) = (Vec::new(), None);
        loop {
            let page = world.store.certificates(&Query { before, ..of_bot.clone() }, 1).await.unwrap();
            let [one] = &*page else { break };
            before = Some(one.key);
            listed.push(one.certificate.clone());
        }
        listed.reverse();
        assert_eq!(listed, issued);
        let mut keys: Vec<u64> = world.store.certificates(&of_bot, 9).await.unwrap().iter().map(|one| one.key).collect();
        keys.reverse();
        assert_eq!((keys[0], keys[1], keys[2] - keys[1], keys[3]), (2, 1023, 2, 5001));

        let stop = revoke([Target::Agent(bot.name.clone())], Effect::Suspend);
        let entry = Revocation::from(&world.store.commit(stop).await.unwrap().into_reply()[0]);
        let hit = world.store.hit_by(&entry, world.clock.now()).await.unwrap();
        assert_eq!(hit.iter().map(|hit| hit.serial).collect::<BTreeSet<_>>(), issued.iter().map(|one| one.serial).collect());

        let unexpired = |holder| Query { holder, unexpired_at: Some(world.clock.now()), ..Query::default() };
        let count = async |query: Query| world.store.count_certificates(&query).await.unwrap();
        assert_eq!((count(unexpired(None)).await, count(unexpired(of_bot.holder.clone())).await), (5, 4));

        // What lasts longest in a block counts, not what came last.
        world.database.tamper("UPDATE head SET certificate = 2").await;
        own(&world, 180).await;
        let stop = revoke([Target::Serial(long.serial)], Effect::Revoke);
        let entry = Revocation::from(&world.store.commit(stop).await.unwrap().into_reply()[0]);
        let valid = async |world: &World| world.store.hits_holder(&entry, world.clock.now(), None).await.unwrap();
        world.clock.advance(Duration::from_secs(200));
        assert!(valid(&world).await);
        world.clock.advance(Duration::from_secs(3500));
        assert!(!valid(&world).await);
        let unexpired = Query { unexpired_at: Some(world.clock.now()), ..Query::default() };
        assert_eq!(world.store.certificates(&unexpired, 10).await.unwrap(), []);
    }

    async fn what_is_over_is_purged(world) {
        let bot = world.agent("invoice-bot").await;
        let old = world.issued(&bot, &Key::new()).await;
        world.clock.advance(Duration::from_secs(3700));
        let new = world.issued(&bot, &Key::new()).await;
        let (ended_before, after) = (world.clock.now(), old.grant.as_ref().map(|grant| grant.lineage));
        let gone = world.store.commit(Purge { ended_before, after }).await.unwrap();
        assert_eq!((gone.reply().gone, gone.reply().next), (0, None));
        let gone = world.store.commit(Purge { ended_before, after: None }).await.unwrap();
        assert_eq!((gone.reply().gone, gone.reply().next), (1, None));
        assert_eq!(world.store.lineage(old.grant.unwrap().lineage).await.unwrap(), None);
        assert!(world.store.lineage(new.grant.unwrap().lineage).await.unwrap().is_some());
        assert!(world.store.certificate(old.serial).await.unwrap().is_some());
    }
}
