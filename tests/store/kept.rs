//! Databases of earlier versions: committed once, opened by every later version.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chancery::store::{
    CreateJoinToken, CrlPublished, Issue, Put, PutAuthority, Query, Resume, RevocationQuery, SHA256,
};
use chancery_api::{Admin, Agent, AuthorityKind, Service, State, Subject};
use chancery_ca::local::CRYPTO;
use chancery_ca::{AuthorityCertificate, CrlNumber, HeadKeyCertificate};
use chancery_identity::{Effect, Leaf, Target};
use chancery_tlog::{Chained, Frontier};
use sqlx::Connection as _;

use crate::sequence::revoke;
use crate::world::{Key, Kind, World, admin_record, by, name, service, spent};

/// What `write` put there: a record of each kind, a renewal, a fork, an entry of each effect, a resume, a CRL.
#[tokio::test]
async fn version_0_1_opens() {
    let world = World::on_copy(&folder().join("0.1.db")).await;
    let state = world.store.state();
    assert_eq!(state.record::<Agent>(&name("invoice-bot")).unwrap().state, State::Active);
    assert_eq!(state.record::<Agent>(&name("old-bot")).unwrap().state, State::Retired);
    assert_eq!(state.record::<Admin>(&name("ana")).unwrap().revision, 1);
    assert_eq!(state.service_of(&"crm".parse().unwrap()), Some(name("crm")));
    assert_eq!(state.record::<Service>(&name("crm")).unwrap().dns, ["crm.internal".to_owned()].into());
    let authorities = state.authorities();
    assert_eq!((authorities.len(), authorities[0].kind), (1, AuthorityKind::Issuing));
    assert_eq!(authorities[0].crl_number, Some(CrlNumber::new(1_795_000_000_000_000_000)));

    let entries = world.store.log_from(0, 1000).await.unwrap();
    assert_eq!(entries.len(), 19);
    let mut frontier = Frontier::empty();
    for entry in &entries {
        let inner = entry.entry.as_ref().unwrap();
        assert!(inner.record().is_ok());
        assert_eq!(inner.commitment(SHA256), entry.commitment);
        frontier.append(SHA256, entry.commitment.leaf_hash(SHA256));
    }
    assert_eq!(world.store.tree().await.unwrap(), frontier.tree(SHA256));

    let certificates = world.store.certificates(&Query::default(), 100).await.unwrap();
    assert_eq!(certificates.len(), 5);
    let effects: Vec<_> = state.in_force_after(0).iter().map(|entry| (entry.n, entry.effect)).collect();
    assert_eq!(effects, [(1, Effect::Suspend), (4, Effect::Revoke), (5, Effect::Retire), (6, Effect::Forbid)]);
    assert_eq!(world.store.revocations(&RevocationQuery::default(), 100).await.unwrap().len(), 5);
    assert_eq!(world.store.join_tokens(None, 10).await.unwrap()[0].used, 1);
    // What stood in the rows of lineages stands in those of their certificates: the renewal, whose reply may be lost.
    let mut connection = sqlx::SqliteConnection::connect(&world.database.url).await.unwrap();
    let followed = "SELECT count(*) FROM certificate JOIN certificate AS before ON before.serial = certificate.previous \
                    AND before.lineage = certificate.lineage AND before.key < certificate.key";
    let followed: i64 = sqlx::query_scalar(followed).fetch_one(&mut connection).await.unwrap();
    assert_eq!(followed, 1);
    let of_bot = Query { holder: Some(Subject::Agent(name("invoice-bot"))), ..Query::default() };
    assert_eq!(world.store.count_certificates(&of_bot).await.unwrap(), 4);

    // It goes on.
    let agent = state.record::<Agent>(&name("invoice-bot")).unwrap();
    world.clock.advance(Duration::from_secs(60));
    let issue = world.plan(&agent, &Key::new()).await.issue();
    assert_eq!(world.store.commit(issue).await.unwrap().log_index(), 19);
}

/// What `tests/data/make.sh` had the program do: sealed authorities of two generations, a key that signs heads, who was
/// issued to and renewed, what was stopped and resumed, and a service that heard of it.
#[tokio::test]
async fn version_0_2_opens() {
    let world = World::on_copy(&folder().join("0.2.db")).await;
    let state = world.store.state();
    let of = |agent| state.record::<Agent>(&name(agent)).unwrap();
    assert_eq!((of("invoice-bot").state, of("invoice-bot").revision), (State::Active, 2));
    assert_eq!((of("held-bot").state, of("old-bot").state), (State::Suspended, State::Retired));
    assert_eq!(state.record::<Admin>(&name("ana")).unwrap().access.len(), 2);
    assert_eq!(state.service_of(&"crm".parse().unwrap()), Some(name("crm")));

    let authorities = state.authorities();
    let root = authorities.iter().find(|one| one.kind == AuthorityKind::Root).unwrap();
    let root = AuthorityCertificate::read(root.certificate.clone()).unwrap();
    assert_eq!(authorities.len(), 3);
    for authority in &authorities {
        let certificate = AuthorityCertificate::read(authority.certificate.clone()).unwrap();
        assert!(certificate.signed_by(&root, CRYPTO) && authority.sealed_key.is_some());
        assert!(authority.crl_number.is_some() && authority.crl.is_some());
    }
    let head_keys = world.store.head_keys().await.unwrap();
    let [head_key] = &*head_keys else { panic!("{} keys that sign heads", head_keys.len()) };
    let certificate = HeadKeyCertificate::read(head_key.certificate.clone()).unwrap();
    assert!(certificate.signed_by(&root, CRYPTO) && certificate.key_id(CRYPTO) == head_key.key_id);

    // The log is the head's, and so is the chain of what the feed said.
    let size = state.position().log_size;
    let entries = world.store.log_from(0, 1000).await.unwrap();
    assert_eq!(entries.len() as u64, size);
    let mut frontier = Frontier::empty();
    for entry in &entries {
        let inner = entry.entry.as_ref().unwrap();
        assert!(inner.record().is_ok());
        assert_eq!(inner.commitment(SHA256), entry.commitment);
        frontier.append(SHA256, entry.commitment.leaf_hash(SHA256));
    }
    assert_eq!(world.store.tree().await.unwrap(), frontier.tree(SHA256));
    let lines = world.store.feed_lines(0, 6, 100).await.unwrap();
    let chain = lines.iter().fold(Chained::start(0), |chain, line| chain.then(SHA256, line.line.as_bytes()));
    assert_eq!(world.store.standing().await.unwrap().unwrap().revocation, chain);

    let certificates = world.store.certificates(&Query::default(), 100).await.unwrap();
    assert!(
        certificates
            .iter()
            .all(|held| Leaf::read(&held.der).is_ok_and(|leaf| leaf.into_certificate() == held.certificate))
    );
    let issued_to =
        |wanted: &str| certificates.iter().filter(|held| held.certificate.spiffe_id.as_str().contains(wanted)).count();
    assert_eq!(["/agent/invoice-bot/", "/agent/held-bot/", "/agent/old-bot/", "/service/crm"].map(issued_to), [1; 4]);
    let effects: Vec<_> = state.in_force_after(0).iter().map(|entry| (entry.n, entry.effect)).collect();
    assert_eq!(effects, [(3, Effect::Suspend), (4, Effect::Retire), (5, Effect::Forbid), (6, Effect::Revoke)]);
    assert_eq!(world.store.revocations(&RevocationQuery::default(), 100).await.unwrap().len(), 5);
    let used: u32 = world.store.join_tokens(None, 10).await.unwrap().iter().map(|token| token.used).sum();
    assert_eq!((used, world.store.api_tokens(None, 10).await.unwrap().len()), (4, 1));
    assert_eq!(
        world.store.verifiers().await.unwrap().into_iter().map(|(_, name)| name).collect::<Vec<_>>(),
        [name("crm")]
    );

    // It goes on.
    assert_eq!(world.store.commit(crate::log::deny()).await.unwrap().log_index(), size);
}

/// Writes what the next version shall open; by hand, once a version.
#[tokio::test]
#[ignore = "writes into tests/data"]
async fn write() {
    let mut world = World::new(Kind::Sqlite).await.unwrap();
    let bot = world.agent("invoice-bot").await;
    let old = world.agent("old-bot").await;
    let store = world.store.clone();
    store.commit(Put { cause: by("ana"), record: admin_record("ana"), changes: None }).await.unwrap();
    let crm = Put { cause: by("ana"), record: service("crm", &["crm"], &["crm.internal"]), changes: None };
    store.commit(crm).await.unwrap();
    let authority = PutAuthority {
        cause: by("ana"),
        key_id: world.issuer.key_id(),
        kind: AuthorityKind::Issuing,
        certificate: world.issuer.certificate(),
        sealed_key: Some(b"sealed".to_vec()),
    };
    store.commit(authority).await.unwrap();
    let token = world.join_token("invoice-bot", 2);
    let create = CreateJoinToken { cause: by("ana"), token, secret_hash: [5; 32] };
    let token = store.commit(create).await.unwrap().into_reply();
    let joined = Issue {
        spends: Some(spent([5; 32], token.expires_at, Some(token.id))),
        ..world.plan(&bot, &Key::new()).await.issue()
    };
    let first = store.commit(joined).await.unwrap().into_reply().certificate;
    let second = world.plan_next(&first, 1, &Key::new()).await.renew(&first);
    store.commit(second).await.unwrap();
    let fork = world.plan_next(&first, 1, &Key::new()).await.renew(&first);
    assert!(store.commit(fork).await.is_err());
    let third = world.issued(&bot, &Key::new()).await;
    let fourth = world.issued(&old, &Key::new()).await;
    let suspend = revoke([Target::Owner(bot.owner.clone())], Effect::Suspend);
    let held = store.commit(suspend).await.unwrap().into_reply().remove(0);
    store.commit(Resume { cause: by("ana"), id: held.id, comment: "over".into() }).await.unwrap();
    store.commit(revoke([Target::Serial(third.serial)], Effect::Revoke)).await.unwrap();
    store.commit(revoke([Target::Agent(fourth.grant.unwrap().name)], Effect::Retire)).await.unwrap();
    store.commit(revoke([Target::Scope("tools/call:crm/refund".parse().unwrap())], Effect::Forbid)).await.unwrap();
    let crl = CrlPublished {
        authority: world.issuer.key_id(),
        number: CrlNumber::new(1_795_000_000_000_000_000),
        n: 6,
        entries: 1,
        der: b"a list".to_vec(),
    };
    store.commit(crl).await.unwrap();
    world.issued(&bot, &Key::new()).await;
    store.commit(crate::log::deny()).await.unwrap();
    drop(store);
    world.writing.take().unwrap().stop().await;
    world.store.clone().close().await;
    std::fs::create_dir_all(folder()).unwrap();
    let path = world.database.url.strip_prefix("sqlite:").unwrap();
    std::fs::copy(
        path,
        folder().join(concat!(env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR"), ".db")),
    )
    .unwrap();
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}
