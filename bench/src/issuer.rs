//! The issuer under load, without its sockets: real records in a real database.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use chancery::authority::Seal;
use chancery::caller::Caller;
use chancery::clock::SystemClock;
use chancery::config::{Config, SealSource};
use chancery::issuer::Issuer;
use chancery::store::{Store, Writing};
use chancery_api::{
    Access, AttestRequest, Evidence, JoinSecret, JoinTokenCreated, JoinTokenEvidence, NewAgent, NewJoinToken, Subject,
};
use chancery_identity::Actor;
use chancery_verifier::{Freshness, Material, Peer, Verifier};
use ring::rand::SystemRandom;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::drive::{closed_loop, in_parallel};

/// Instances of one agent, on one join token.
pub(crate) const INSTANCES: usize = 64;

/// An issuer on its folder.
pub(crate) struct Running {
    pub(crate) issuer: Arc<Issuer>,
    /// What its own listener would judge callers with.
    pub(crate) verifier: Verifier,
    writing: Writing,
}

impl Running {
    /// Opens the folder, and makes there what is not there yet.
    pub(crate) async fn open(folder: &Path) -> anyhow::Result<Self> {
        // Nobody listens there: certificates name it as the status URL.
        let nowhere = ([127, 0, 0, 1], 9).into();
        let config = Config::dev(folder.into(), nowhere, nowhere)?;
        if let SealSource::File(path) = &config.seal
            && !path.exists()
        {
            Seal::create(path, &SystemRandom::new())?;
        }
        let clock = Arc::new(SystemClock);
        let url = config.database_url();
        Store::migrate(&url).await?;
        let store = Store::open(&url, clock.clone(), Arc::new(SystemRandom::new())).await?;
        let writing = store.write("bench").await?;
        let (issuer, _publisher, _herald) = Issuer::open(config, store, clock).await?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let material = own_material(&issuer).await?;
        let verifier = Verifier::new(&material, provider, Arc::new(chancery_verifier::SystemClock))?;
        Ok(Self { issuer, verifier, writing })
    }

    /// Gives the lease back.
    pub(crate) async fn close(self) {
        self.writing.stop().await;
    }

    /// New agents and nothing else.
    pub(crate) async fn agents(&self, count: usize) -> anyhow::Result<()> {
        let issuer = self.issuer.clone();
        let make = move |()| {
            let issuer = issuer.clone();
            async move { agent(&issuer, 1).await.map(drop) }
        };
        closed_loop(vec![(); count], 256, make).await.map(drop)
    }

    /// New agents, each with a join token; a secret for each of `count` first certificates, `uses` of them the same.
    pub(crate) async fn join_secrets(&self, count: usize, uses: usize) -> anyhow::Result<Vec<JoinSecret>> {
        let issuer = self.issuer.clone();
        let make = move |()| {
            let issuer = issuer.clone();
            async move { Ok(join_token(&issuer, uses).await?.token) }
        };
        let made = closed_loop(vec![(); count.div_ceil(uses)], 64, make).await?.outputs;
        Ok(made.iter().flat_map(|secret| std::iter::repeat_n(secret.clone(), uses)).take(count).collect())
    }

    /// The callers of these chains, verified as a handshake does.
    pub(crate) fn peers(&self, chains_pem: &[String]) -> anyhow::Result<Vec<Peer>> {
        in_parallel(chains_pem, |pem| Ok(self.verifier.client(&certificates(pem)?, self.verifier.now())?))
    }
}

/// Evidence and a new key.
pub(crate) fn attest_requests(secrets: Vec<JoinSecret>) -> anyhow::Result<Vec<AttestRequest>> {
    let csrs = csrs(secrets.len())?;
    let request = |(token, csr_pem)| AttestRequest {
        evidence: Evidence::JoinToken(JoinTokenEvidence { token }),
        csr_pem,
        scopes: None,
        ttl_s: None,
    };
    Ok(secrets.into_iter().zip(csrs).map(request).collect())
}

/// Requests for new keys, PEM.
pub(crate) fn csrs(count: usize) -> anyhow::Result<Vec<String>> {
    in_parallel(&vec![(); count], |()| csr(&rcgen::KeyPair::generate()?))
}

/// A request for this key, PEM.
pub(crate) fn csr(key: &rcgen::KeyPair) -> anyhow::Result<String> {
    Ok(rcgen::CertificateParams::default().serialize_request(key)?.pem()?)
}

/// The certificates of a PEM text.
pub(crate) fn certificates(pem: &str) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().context("wanted certificates in PEM")
}

/// The issuer's own certificate and what it knows: what its listener works from.
pub(crate) async fn own_material(issuer: &Issuer) -> anyhow::Result<Material> {
    let key = rcgen::KeyPair::generate()?;
    let subject_key = issuer.issuance().subject_key(&csr(&key)?)?;
    let own = issuer.issuance().issue_own(subject_key, vec!["localhost".into()], issuer.now()).await?;
    Ok(Material {
        chain: own.into_reply().map(Into::into).into(),
        key: private(&key),
        trust_domain: issuer.trust_domain().clone(),
        roots: [issuer.authorities().root().der().to_vec().into()].into(),
        crls: issuer.crls().all().iter().map(|crl| crl.der.clone().into()).collect(),
        answered: None,
        feed: None,
        freshness: Freshness::default(),
    })
}

/// A key as rustls takes it.
pub(crate) fn private(key: &rcgen::KeyPair) -> Arc<PrivateKeyDer<'static>> {
    Arc::new(PrivatePkcs8KeyDer::from(key.serialize_der()).into())
}

/// A new agent with a join token of so many uses.
pub(crate) async fn join_token(issuer: &Issuer, uses: usize) -> anyhow::Result<JoinTokenCreated> {
    let (subject, caller) = agent(issuer, uses).await?;
    let token = NewJoinToken { subject, uses: u32::try_from(uses)?, ttl_s: Some(86_400), cidrs: Vec::new() };
    Ok(issuer.registry().create_join_token(token, &caller, issuer.now()).await?.into_reply())
}

/// Whoever is on the admin socket.
pub(crate) fn local(issuer: &Issuer) -> anyhow::Result<Caller> {
    let access = Access::ALL.into_iter().collect();
    Ok(Caller { actor: Actor::Local(0), access, request_id: issuer.request_id()? })
}

async fn agent(issuer: &Issuer, max_instances: usize) -> anyhow::Result<(Subject, Caller)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = format!("bot-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let caller = local(issuer)?;
    let agent: NewAgent = serde_json::from_value(serde_json::json!({
        "name": name, "owner": "team-bench", "scopes": ["tools/call:crm/get_customer"], "max_instances": max_instances,
    }))?;
    issuer.registry().create_agent(agent, &caller).await?;
    Ok((Subject::Agent(name.parse()?), caller))
}
