//! The issuer's own identity on its own listener: the verifier's first customer.

use std::sync::Arc;
use std::time::Duration;

use chancery_identity::{Leaf, Timestamp};
use chancery_verifier::{Clock, Freshness, Material, Moment, Verifier};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::watch;

use crate::issuance::{pem, renew_after};
use crate::issuer::Issuer;
use crate::refusal::{Code, Refusal};

/// How often the verifier is told that what it knows is the newest there is.
const BEAT: Duration = Duration::from_secs(1);

/// How long whoever an entry names has to read the answer that it is named. Its requests are refused meanwhile: each one
/// asks the state.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// Keeps the material of the issuer's own verifier fresh.
pub(super) struct Own {
    issuer: Arc<Issuer>,
    sender: watch::Sender<Arc<Material>>,
    renew_at: Timestamp,
    crls_version: u64,
}

impl Own {
    /// Issues the issuer a certificate under a fresh key, which never leaves memory.
    pub(super) async fn start(issuer: Arc<Issuer>) -> Result<(Self, watch::Receiver<Arc<Material>>), Refusal> {
        let (chain, key, renew_at) = certify(&issuer).await?;
        let freshness = issuer.config().freshness;
        let (sender, receiver) = watch::channel(Arc::new(Material {
            chain,
            key,
            trust_domain: issuer.trust_domain().clone(),
            roots: Arc::new([CertificateDer::from(issuer.authorities().root().der().to_vec())]),
            crls: crls(&issuer),
            answered: Some(issuer.clock().moment()),
            feed: None,
            freshness: Freshness { stale_after: freshness.stale_after, expired_after: freshness.expired_after },
        }));
        Ok((Self { issuer, sender, renew_at, crls_version: 0 }, receiver))
    }

    /// Follows CRLs and entries for as long as the service runs. Entries come ahead of the CRL that will have them, and
    /// cut the connections of whom they hit.
    pub(super) async fn run(mut self, verifier: Verifier) {
        let mut published = self.issuer.crls().changes();
        let mut entries = self.issuer.store().state().revocation_changes();
        let mut generations = self.issuer.authorities().changes();
        loop {
            tokio::select! {
                biased;
                changed = entries.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    tokio::time::sleep(LAST_WORDS).await;
                    entries.borrow_and_update();
                    verifier.set_entries(&self.issuer.store().state().in_force_after(0));
                }
                changed = published.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = tokio::time::sleep(BEAT) => {}
            }
            let version = *published.borrow_and_update();
            let newer = version != std::mem::replace(&mut self.crls_version, version);
            self.replace(|material, issuer| {
                // The same `Arc` again says that nothing changed.
                if newer {
                    material.crls = crls(issuer);
                }
            });
            let superseded = generations.has_changed().unwrap_or(false);
            generations.borrow_and_update();
            if superseded || self.issuer.now() >= self.renew_at {
                self.renew().await;
            }
        }
    }

    fn replace(&self, change: impl FnOnce(&mut Material, &Issuer)) {
        let mut material = Material::clone(&self.sender.borrow());
        material.answered = Some(self.issuer.clock().moment());
        change(&mut material, &self.issuer);
        self.sender.send_replace(Arc::new(material));
    }

    /// The old certificate stands until there is a new one.
    async fn renew(&mut self) {
        match certify(&self.issuer).await {
            Ok((chain, key, renew_at)) => {
                self.renew_at = renew_at;
                self.replace(|material, _| {
                    material.chain = chain;
                    material.key = key;
                });
            }
            Err(error) => tracing::error!(%error, "the issuer's own certificate is not renewed; the last one stands"),
        }
    }
}

/// The issuer's clock, as its verifier reads it.
pub(super) struct IssuerClock(pub(super) Arc<dyn crate::clock::Clock>);

impl Clock for IssuerClock {
    fn now(&self) -> Moment {
        self.0.moment()
    }
}

impl std::fmt::Debug for IssuerClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IssuerClock")
    }
}

type Certified = (Vec<CertificateDer<'static>>, Arc<PrivateKeyDer<'static>>, Timestamp);

async fn certify(issuer: &Issuer) -> Result<Certified, Refusal> {
    let internal =
        |error: &dyn std::fmt::Display| Refusal::new(Code::Internal, format!("no key for the issuer itself: {error}"));
    let key = rcgen::KeyPair::generate().map_err(|error| internal(&error))?;
    let csr = rcgen::CertificateParams::default().serialize_request(&key).map_err(|error| internal(&error))?;
    let subject_key = issuer.issuance().subject_key(&pem("CERTIFICATE REQUEST", csr.der()))?;
    let host = issuer.config().public_url.host();
    let names = if host.parse::<std::net::IpAddr>().is_ok() { "localhost" } else { host };
    let now = issuer.now();
    let [leaf, issuing] =
        issuer.issuance().issue_own(subject_key, vec![names.to_ascii_lowercase()], now).await?.into_reply();
    let not_after = Leaf::read(&leaf).map_err(|error| internal(&error))?.not_after();
    let chain = vec![leaf.into(), issuing.into()];
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Ok((chain, Arc::new(key), renew_after(now, not_after, 0.0)))
}

fn crls(issuer: &Issuer) -> Arc<[CertificateRevocationListDer<'static>]> {
    issuer.crls().all().iter().map(|crl| crl.der.clone().into()).collect()
}
