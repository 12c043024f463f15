//! A store of its own for each test, and an authority that signs what it commits.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chancery::authority::Issuing;
use chancery::clock::Clock;
use chancery::store::{Cause, Forget, Issue, Put, Renew, Spent, Store, Writing};
use chancery_api::{Access, Admin, Agent, AttestationRule, JoinToken, Service, State, Subject};
use chancery_ca::local::{CRYPTO, LocalSigner};
use chancery_ca::{Authority, Claims, KeyPolicy, Profile, RootAuthority, Signed, SubjectKey, inspect_csr};
use chancery_identity::{
    Actor, Ancestor, ApprovalId, Attestation, Certificate, Grant, GrantId, Instance, JoinTokenId, Lineage, Name,
    ScopeSet, Serial, SpiffeId, Task, Timestamp,
};
use rcgen::{CertificateParams, KeyPair};
use ring::rand::{SecureRandom, SystemRandom};

/// The time at which each test begins.
pub const START: i64 = 1_795_000_000_000;

/// A clock that only tests move.
pub struct TestClock(AtomicI64);

impl TestClock {
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }

    pub fn set_back(&self, by: Duration) {
        self.0.fetch_sub(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_millis(self.0.load(Ordering::SeqCst))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
}

/// An empty database: a file, or a schema. Gone when dropped.
pub struct Database {
    pub url: String,
    pub kind: Kind,
    /// For what stands beside it.
    pub folder: PathBuf,
    schema: String,
}

impl Database {
    /// `None`: there is no server to test with.
    pub async fn new(kind: Kind) -> Option<Self> {
        let name = format!("chancery_test_{}", hex(&random::<8>()));
        let folder = std::env::temp_dir().join(&name);
        match kind {
            Kind::Sqlite => {
                std::fs::create_dir(&folder).unwrap();
                let url = format!("sqlite:{}", folder.join("chancery.db").display());
                Some(Self { url, kind, folder, schema: name })
            }
            Kind::Postgres => {
                let server = std::env::var("CHANCERY_TEST_POSTGRES").ok()?;
                std::fs::create_dir(&folder).unwrap();
                admin(&server, format!("CREATE SCHEMA {name}")).await;
                let joint = if server.contains('?') { '&' } else { '?' };
                let url = format!("{server}{joint}options=-c%20search_path%3D{name}");
                Some(Self { url, kind, folder, schema: name })
            }
        }
    }

    /// Runs SQL behind the store's back, in a transaction that stays open.
    pub async fn hold(&self, sql: &str) -> Open {
        use sqlx::Connection as _;
        match self.kind {
            Kind::Sqlite => {
                let mut connection = sqlx::SqliteConnection::connect(&self.url).await.unwrap();
                let sql = format!("BEGIN IMMEDIATE; {sql}");
                sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
                Open::Sqlite(connection)
            }
            Kind::Postgres => {
                let mut connection = sqlx::PgConnection::connect(&self.url).await.unwrap();
                let sql = format!("BEGIN; {sql}");
                sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
                Open::Postgres(connection)
            }
        }
    }

    /// Runs SQL behind the store's back.
    pub async fn tamper(&self, sql: &str) {
        match self.kind {
            Kind::Sqlite => {
                use sqlx::Connection as _;
                let mut connection = sqlx::SqliteConnection::connect(&self.url).await.unwrap();
                sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
                connection.close().await.unwrap();
            }
            Kind::Postgres => admin(&self.url, sql.to_owned()).await,
        }
    }
}

/// Somebody else's transaction.
pub enum Open {
    Sqlite(sqlx::SqliteConnection),
    Postgres(sqlx::PgConnection),
}

impl Open {
    pub async fn commit(self) {
        match self {
            Self::Sqlite(mut connection) => drop(sqlx::raw_sql("COMMIT").execute(&mut connection).await.unwrap()),
            Self::Postgres(mut connection) => drop(sqlx::raw_sql("COMMIT").execute(&mut connection).await.unwrap()),
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
        match self.kind {
            Kind::Sqlite => {}
            Kind::Postgres => {
                let Ok(server) = std::env::var("CHANCERY_TEST_POSTGRES") else { return };
                let sql = format!("DROP SCHEMA {} CASCADE", self.schema);
                let dropping = std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    runtime.block_on(admin(&server, sql));
                });
                drop(dropping.join());
            }
        }
    }
}

async fn admin(url: &str, sql: String) {
    use sqlx::Connection as _;
    let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// A store that writes, and what there is to write with.
pub struct World {
    pub store: Store,
    pub writing: Option<Writing>,
    pub clock: Arc<TestClock>,
    pub issuer: Issuer,
    pub database: Database,
}

impl World {
    /// `None`: there is no server to test with.
    pub async fn new(kind: Kind) -> Option<Self> {
        Some(Self::on(Database::new(kind).await?).await)
    }

    /// A store on a copy of a committed database, brought up to this version.
    pub async fn on_copy(committed: &std::path::Path) -> Self {
        let database = Database::new(Kind::Sqlite).await.unwrap();
        std::fs::copy(committed, database.url.strip_prefix("sqlite:").unwrap()).unwrap();
        Self::on(database).await
    }

    async fn on(database: Database) -> Self {
        Store::migrate(&database.url).await.unwrap();
        let clock = Arc::new(TestClock(AtomicI64::new(START)));
        let store = open(&database.url, &clock).await;
        let writing = Some(store.write("first").await.unwrap());
        let issuer = Issuer::new(clock.now()).await;
        Self { store, writing, clock, issuer, database }
    }

    /// Forgets the store as a process does that is killed: call it once nothing of it runs any more.
    pub async fn killed(&mut self) {
        self.writing = None;
        if self.database.kind == Kind::Postgres {
            // The lease of whoever is dead runs out; that time is not waited for here.
            self.database.tamper("UPDATE head SET lease_expires_at = 0").await;
        }
    }

    /// Stops, and starts again on the same database.
    pub async fn restart(&mut self) {
        if let Some(writing) = self.writing.take() {
            writing.stop().await;
        }
        self.store = open(&self.database.url, &self.clock).await;
        self.writing = Some(self.store.write("second").await.unwrap());
    }

    /// Works while nothing is decided until so many decisions wait, so that these are one batch.
    pub async fn one_batch<T>(&self, count: u64, work: impl Future<Output = T>) -> T {
        let held = self.database.hold("UPDATE head SET one = one").await;
        // What waits for the database keeps the writer from taking anything else.
        let first = self.store.commit(Forget { at: Timestamp::default() });
        let then = async {
            while self.store.waiting() > 0 {
                tokio::task::yield_now().await;
            }
            let release = async {
                while self.store.waiting() < count {
                    tokio::task::yield_now().await;
                }
                held.commit().await;
            };
            tokio::join!(work, release).0
        };
        let both = async { tokio::join!(first, then) };
        // What is asked for is less than `count` where this takes longer.
        let (first, worked) = tokio::time::timeout(Duration::from_secs(60), both).await.unwrap();
        first.unwrap();
        worked
    }

    pub async fn agent(&self, name: &str) -> Agent {
        let put = Put { cause: by("ana"), record: agent(name), changes: None };
        self.store.commit(put).await.unwrap().into_reply()
    }

    /// Plans and signs a first certificate as of now.
    pub async fn plan(&self, agent: &Agent, key: &Key) -> Planned {
        let path = format!("/agent/{}/{}", agent.name, Instance::from_bytes(uuid()));
        let grant = self.grant(agent.name.clone(), agent.owner.clone(), agent.revision, Lineage::from_bytes(uuid()));
        self.sign(&path, agent.scopes.clone(), grant, key).await
    }

    /// Plans and signs the certificate after this one as of now.
    pub async fn plan_next(&self, before: &Certificate, revision: u64, key: &Key) -> Planned {
        let old = before.grant.clone().unwrap();
        let grant = self.grant(old.name, old.owner, revision, old.lineage);
        self.sign(before.spiffe_id.path(), before.scopes.clone(), grant, key).await
    }

    /// Plans and signs the certificate of a sub-agent of this one, for a task that was approved.
    pub async fn plan_child(&self, parent: &Certificate, key: &Key) -> Planned {
        let old = parent.grant.clone().unwrap();
        let ancestor = Ancestor {
            spiffe_id: parent.spiffe_id.clone(),
            lineage: old.lineage,
            authority: parent.authority,
            serial: parent.serial,
            grant: old.id,
            planned_at: old.planned_at,
        };
        let mut grant = self.grant(old.name, old.owner, old.revision, Lineage::from_bytes(uuid()));
        grant.chain = vec![ancestor];
        grant.task = Some(Task { id: "T-812".into(), approval: Some(ApprovalId::from_bytes(uuid())), arguments: None });
        let path = format!("{}/sub/helper-{}", parent.spiffe_id.path(), Instance::from_bytes(uuid()));
        self.sign(&path, parent.scopes.clone(), grant, key).await
    }

    fn grant(&self, name: Name, owner: Name, revision: u64, lineage: Lineage) -> Grant {
        let position = self.store.state().position();
        Grant {
            id: GrantId::from_bytes(uuid()),
            name,
            revision,
            owner,
            systems: vec![],
            lineage,
            chosen: false,
            epoch: position.epoch,
            planned_at: position.log_size,
            seen: position.n,
            attestation: Attestation { method: "join_token".into(), digest: [7; 32], at: self.clock.now() },
            on_behalf_of: None,
            task: None,
            chain: vec![],
            depth_left: 0,
            constraints: vec![],
        }
    }

    async fn sign(&self, path: &str, scopes: ScopeSet, grant: Grant, key: &Key) -> Planned {
        let claims = Claims {
            spiffe_id: format!("spiffe://example.org{path}").parse().unwrap(),
            scopes,
            grant: Some(grant),
            dns_names: vec![],
            not_after: self.clock.now() + Duration::from_secs(3599),
        };
        Planned { signed: self.issuer.sign(claims, key, self.clock.now()).await }
    }

    /// Issues a first certificate.
    pub async fn issued(&self, agent: &Agent, key: &Key) -> Certificate {
        let issue = self.plan(agent, key).await.issue();
        Certificate::clone(&self.store.commit(issue).await.unwrap().reply().certificate)
    }

    pub fn join_token(&self, agent: &str, uses: u32) -> JoinToken {
        JoinToken {
            id: JoinTokenId::from_bytes(uuid()),
            subject: Subject::Agent(agent.parse().unwrap()),
            uses,
            used: 0,
            cidrs: vec![],
            expires_at: self.clock.now() + Duration::from_secs(900),
            created_at: Timestamp::default(),
            created_by: Actor::Issuer,
            log_index: 0,
        }
    }
}

/// A signed certificate on its way to the store.
pub struct Planned {
    pub signed: Signed,
}

impl Planned {
    pub fn certificate(&self) -> &Certificate {
        self.signed.certificate()
    }

    pub fn issue(self) -> Issue {
        Issue {
            cause: Cause { actor: Actor::Holder(self.certificate().spiffe_id.clone()), request_id: None },
            signed: self.signed,
            spends: None,
            max_instances: None,
            session_end: None,
            selectors: vec!["x509pop:ca:9c".into()],
        }
    }

    pub fn renew(self, previous: &Certificate) -> Renew {
        Renew {
            cause: Cause { actor: Actor::Holder(previous.spiffe_id.clone()), request_id: None },
            signed: self.signed,
            previous: previous.clone().into(),
            spends: None,
        }
    }
}

/// An authority.
pub struct Issuer {
    authority: Authority,
    profile: Profile,
}

impl Issuer {
    pub async fn new(now: Timestamp) -> Self {
        let status = "http://status.example.org".parse().unwrap();
        let day = Duration::from_secs(86_400);
        let domain = "example.org".parse().unwrap();
        let root = RootAuthority::create(&domain, signer(), CRYPTO, day * 900, now, serial(now)).await.unwrap();
        let authority = root.issue(signer(), &status, day * 90, now, serial(now)).await.unwrap();
        let profile = Profile::new(&authority, &status);
        Self { authority, profile }
    }

    /// The same that a service has.
    pub fn of(issuing: &Issuing) -> Self {
        Self { authority: issuing.authority().clone(), profile: issuing.profile().clone() }
    }

    pub async fn sign(&self, claims: Claims, key: &Key, now: Timestamp) -> Signed {
        let planned = self.profile.plan(key.subject(), claims, serial(now), now).unwrap();
        self.authority.sign(planned.lint().unwrap()).await.unwrap()
    }

    pub fn certificate(&self) -> Vec<u8> {
        self.authority.certificate().der().to_vec()
    }

    pub fn key_id(&self) -> chancery_identity::KeyId {
        self.authority.key_id()
    }
}

/// A key of an agent.
pub struct Key(Vec<u8>);

impl Key {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        Self(CertificateParams::default().serialize_request(&key).unwrap().der().to_vec())
    }

    fn subject(&self) -> SubjectKey {
        inspect_csr(&self.0, &KeyPolicy::new(CRYPTO)).unwrap()
    }
}

pub fn spent(digest: [u8; 32], expires_at: Timestamp, token: Option<JoinTokenId>) -> Spent {
    Spent { digest, expires_at, token, peer: Some("10.0.3.7".parse().unwrap()) }
}

pub fn by(admin: &str) -> Cause {
    Cause { actor: Actor::Admin(admin.parse().unwrap()), request_id: None }
}

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub fn spiffe_id(text: &str) -> SpiffeId {
    text.parse().unwrap()
}

pub fn agent(name: &str) -> Agent {
    Agent {
        name: name.parse().unwrap(),
        owner: "team-finance".parse().unwrap(),
        description: String::new(),
        labels: [].into(),
        scopes: ScopeSet::new(["tools/call:crm/get_customer".parse().unwrap()]).unwrap(),
        ceiling: None,
        roles: vec![],
        attestation: vec![AttestationRule::JOIN_TOKEN],
        ttl_s: 3600,
        max_instances: 20,
        dns: vec![],
        shared: false,
        state: State::Active,
        revision: 0,
        created_at: Timestamp::default(),
        created_by: Actor::Issuer,
        log_index: 0,
    }
}

pub fn service(name: &str, systems: &[&str], dns: &[&str]) -> Service {
    Service {
        name: name.parse().unwrap(),
        owner: "team-crm".parse().unwrap(),
        description: String::new(),
        labels: [].into(),
        systems: systems.iter().map(|system| system.parse().unwrap()).collect(),
        dns: dns.iter().map(|dns| (*dns).into()).collect(),
        scopes: ScopeSet::default(),
        attestation: vec![],
        ttl_s: 3600,
        state: State::Active,
        revision: 0,
        created_at: Timestamp::default(),
        created_by: Actor::Issuer,
        log_index: 0,
    }
}

pub fn admin_record(name: &str) -> Admin {
    Admin {
        name: name.parse().unwrap(),
        description: String::new(),
        access: [Access::Viewer].into(),
        state: State::Active,
        revision: 0,
        created_at: Timestamp::default(),
        created_by: Actor::Issuer,
        log_index: 0,
    }
}

pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).unwrap();
    bytes
}

pub fn instance_of(certificate: &Certificate) -> Instance {
    certificate.spiffe_id.path().rsplit('/').next().unwrap().parse().unwrap()
}

async fn open(url: &str, clock: &Arc<TestClock>) -> Store {
    Store::open(url, clock.clone(), Arc::new(SystemRandom::new())).await.unwrap()
}

fn signer() -> Arc<LocalSigner> {
    let pkcs8 = LocalSigner::generate_pkcs8(&SystemRandom::new()).unwrap();
    Arc::new(LocalSigner::from_pkcs8(pkcs8.as_ref()).unwrap())
}

fn serial(now: Timestamp) -> Serial {
    Serial::compose(now, random())
}

/// A UUID that sorts by when it was made.
fn uuid() -> [u8; 16] {
    static COUNT: AtomicI64 = AtomicI64::new(START);
    let millis = u64::try_from(COUNT.fetch_add(1, Ordering::SeqCst)).unwrap();
    uuid::Builder::from_unix_timestamp_millis(millis, &random()).into_uuid().into_bytes()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
