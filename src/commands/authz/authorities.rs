//! The issuing authorities' certificates: a proxy forwards the leaf alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use chancery_agent::Identity;
use chancery_api::client::{Client, ClientError, Fetched};
use chancery_api::{AuthorityKind, WellKnown};
use chancery_identity::KeyId;
use chancery_verifier::Credentials;
use rustls_pki_types::CertificateDer;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// How often the issuer is asked for authorities. It lists a new one long before that one signs.
const EACH: Duration = Duration::from_secs(30);
/// The least between two questions, however many certificates come from an authority that is not known.
const REST: Duration = Duration::from_secs(1);

/// The certificates of issuing authorities, none of them trusted for being here: each must chain to an anchor.
pub(super) struct Authorities {
    known: ArcSwap<Vec<CertificateDer<'static>>>,
    missed: Notify,
}

impl Authorities {
    /// Those of the own chain, which is all until the issuer is asked.
    pub(super) fn of(identity: &Identity) -> Self {
        Self::new(own(identity))
    }

    pub(super) fn new(known: Vec<CertificateDer<'static>>) -> Self {
        Self { known: ArcSwap::from_pointee(known), missed: Notify::new() }
    }

    /// The leaf, and whatever may stand between it and an anchor.
    pub(super) fn chain_of(&self, leaf: CertificateDer<'static>) -> Vec<CertificateDer<'static>> {
        let known = self.known.load();
        std::iter::once(leaf).chain(known.iter().cloned()).collect()
    }

    /// A leaf came from an authority that is not known: asks for the newest soon, for the requests after this one.
    pub(super) fn missed(&self) {
        self.missed.notify_one();
    }

    /// Keeps them up to date until this is dropped. An issuer that does not answer changes nothing.
    pub(super) async fn keep(&self, identity: &Identity) {
        let mut fetched = BTreeMap::new();
        let Ok(client) = identity.issuer() else { return std::future::pending().await };
        loop {
            if fetch(&client, &mut fetched).await.is_ok() {
                let mut known = own(identity);
                known.extend(fetched.values().filter(|der| !known.contains(der)).cloned().collect::<Vec<_>>());
                self.known.store(Arc::new(known));
            }
            sleep(REST).await;
            let _ = timeout(EACH, self.missed.notified()).await;
        }
    }
}

fn own(identity: &Identity) -> Vec<CertificateDer<'static>> {
    identity.material().borrow().chain.iter().skip(1).cloned().collect()
}

async fn fetch(client: &Client, fetched: &mut BTreeMap<KeyId, CertificateDer<'static>>) -> Result<(), ClientError> {
    let listed: WellKnown = client.get("/.well-known/chancery").await?.body;
    let issuing = listed.authorities.iter().filter(|authority| authority.kind == AuthorityKind::Issuing);
    for authority in issuing.clone().filter(|authority| !fetched.contains_key(&authority.key_id)).collect::<Vec<_>>() {
        if let Fetched::Changed { contents, .. } = client.fetch(&authority.certificate, None).await? {
            fetched.insert(authority.key_id, contents.to_vec().into());
        }
    }
    fetched.retain(|key_id, _| issuing.clone().any(|authority| authority.key_id == *key_id));
    Ok(())
}
