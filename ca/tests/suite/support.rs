//! Authorities, keys and requests that the tests share.
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use chancery_ca::local::{CRYPTO, LocalSigner};
use chancery_ca::{
    Authority, Claims, KeyPolicy, Profile, RootAuthority, Signed, Signer, StatusUrl, SubjectKey, inspect_csr,
};
use chancery_identity::der::{self, Writer, context_constructed};
use chancery_identity::{
    Attestation, Grant, GrantId, Instance, Lineage, ScopeSet, Serial, SpiffeId, Timestamp, TrustDomain,
};
use ring::rand::SystemRandom;

/// 2026-11-21T14:00:00.250Z.
pub(crate) const NOW: Timestamp = Timestamp::from_unix_millis(1_795_269_600_250);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) struct World {
    pub(crate) root: RootAuthority,
    pub(crate) issuing: Authority,
    pub(crate) profile: Profile,
}

pub(crate) fn world() -> World {
    world_of(signer(), signer())
}

pub(crate) fn world_of(root: Arc<dyn Signer>, issuing: Arc<dyn Signer>) -> World {
    let root = ready(RootAuthority::create(&domain(), root, CRYPTO, 3650 * DAY, NOW, serial(1))).unwrap();
    let issuing = ready(root.issue(issuing, &status(), 90 * DAY, NOW, serial(2))).unwrap();
    let profile = Profile::new(&issuing, &status());
    World { root, issuing, profile }
}

impl World {
    pub(crate) fn leaf(&self, claims: Claims) -> Signed {
        let planned = self.profile.plan(key(), claims, serial(3), NOW).unwrap();
        ready(self.issuing.sign(planned.lint().unwrap())).unwrap()
    }
}

pub(crate) fn domain() -> TrustDomain {
    "example.org".parse().unwrap()
}

pub(crate) fn status() -> StatusUrl {
    "http://status.internal".parse().unwrap()
}

pub(crate) fn serial(last: u8) -> Serial {
    Serial::compose(NOW, [0, 0, 0, 0, 0, 0, 0, 0, 0, last])
}

pub(crate) fn signer() -> Arc<dyn Signer> {
    let pkcs8 = LocalSigner::generate_pkcs8(&SystemRandom::new()).unwrap();
    Arc::new(LocalSigner::from_pkcs8(pkcs8.as_ref()).unwrap())
}

pub(crate) fn ed25519_signer() -> Arc<dyn Signer> {
    let pkcs8 = LocalSigner::generate_ed25519_pkcs8(&SystemRandom::new()).unwrap();
    Arc::new(LocalSigner::from_pkcs8(pkcs8.as_ref()).unwrap())
}

pub(crate) fn key() -> SubjectKey {
    inspect_csr(&csr(&*signer(), |_| {}), &KeyPolicy::new(CRYPTO)).unwrap()
}

/// A request by the key, with these attributes.
pub(crate) fn csr(signer: &dyn Signer, attributes: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut info = Writer::new();
    info.nested(der::SEQUENCE, |w| {
        w.unsigned_64(0).nested(der::SEQUENCE, |_| {}).raw(signer.public_key());
        w.nested(context_constructed(0), attributes);
    });
    let info = info.finish();
    let signature = ready(signer.sign(&info)).unwrap();
    let mut csr = Writer::new();
    csr.nested(der::SEQUENCE, |w| {
        w.raw(&info).raw(signer.algorithm().signature_identifier()).bits(&signature);
    });
    csr.finish()
}

pub(crate) fn agent() -> SpiffeId {
    domain().agent(&"invoice-bot".parse().unwrap(), Instance::from_bytes([7; 16]))
}

pub(crate) fn scopes<const N: usize>(scopes: [&str; N]) -> ScopeSet {
    ScopeSet::new(scopes.map(|scope| scope.parse().unwrap())).unwrap()
}

pub(crate) fn claims() -> Claims {
    Claims {
        spiffe_id: agent(),
        scopes: scopes(["tools/call:crm/refund", "tools/call:crm/get_customer"]),
        grant: Some(grant()),
        dns_names: Vec::new(),
        not_after: NOW + HOUR - Duration::from_secs(1),
    }
}

pub(crate) fn grant() -> Grant {
    Grant {
        id: GrantId::from_bytes([1; 16]),
        name: "invoice-bot".parse().unwrap(),
        revision: 1,
        owner: "team-finance".parse().unwrap(),
        systems: Vec::new(),
        lineage: Lineage::from_bytes([2; 16]),
        epoch: 1,
        planned_at: 5,
        seen: 0,
        attestation: Attestation { method: "join_token".into(), digest: [3; 32], at: NOW },
        on_behalf_of: None,
        task: None,
        chain: Vec::new(),
        depth_left: 0,
        chosen: false,
        constraints: Vec::new(),
    }
}

/// Runs a future that has nothing to wait for.
pub(crate) fn ready<F: Future>(future: F) -> F::Output {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a key in memory does not wait"),
    }
}
