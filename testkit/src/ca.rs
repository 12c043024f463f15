//! The authorities of the kit and their CRLs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chancery_ca::local::{CRYPTO, LocalSigner};
use chancery_ca::{Authority, CrlEntry, CrlHead, CrlNumber, CrlPlan, RootAuthority, Signer, StatusUrl};
use chancery_identity::{Instance, Name, Reason, Serial, SpiffeId, Timestamp, TrustDomain};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};

use crate::{Subject, now_or_never};

/// 2026-11-21T14:00:00Z, the time of every kit that is not told another.
pub const NOW: Timestamp = Timestamp::from_unix_millis(1_795_269_600_000);

/// How long certificates and CRLs of the kit are good for.
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// A CA in memory: a root, issuing authorities, CRLs. Its keys are in the kit's source, its clock stands still, it opens no
/// socket. Clones are the same CA.
#[derive(Clone, Debug)]
pub struct TestCa(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    now: Timestamp,
    status: StatusUrl,
    root: RootAuthority,
    root_signer: Arc<dyn Signer>,
    issuing: Issuing,
    revoked: Issuing,
    unlisted: Issuing,
    counter: AtomicU64,
}

/// An issuing authority together with its key, so that it can be made to sign what it would not.
#[derive(Clone, Debug)]
pub(crate) struct Issuing {
    pub(crate) authority: Authority,
    pub(crate) signer: Arc<dyn Signer>,
}

impl TestCa {
    /// A CA whose time is [`NOW`].
    ///
    /// # Panics
    /// The text is no trust domain.
    pub fn new(trust_domain: &str) -> Self {
        Self::at(trust_domain, NOW)
    }

    /// A CA whose time is `now`, for tests with programs that read the machine's clock.
    ///
    /// # Panics
    /// The text is no trust domain.
    pub fn at(trust_domain: &str, now: Timestamp) -> Self {
        let (root, issuing) = (include_bytes!("keys/root.pk8"), include_bytes!("keys/issuing.pk8"));
        Self::with_keys(trust_domain, now, root, issuing)
    }

    /// A CA that claims the same trust domain, with keys of its own: nothing it signs is to be trusted.
    #[must_use]
    pub fn impostor(&self) -> Self {
        let (root, issuing) = (include_bytes!("keys/foreign-root.pk8"), include_bytes!("keys/foreign-issuing.pk8"));
        Self::with_keys(self.trust_domain().as_str(), self.now(), root, issuing)
    }

    /// An agent of that name: a new instance, `owner: team-test`, no scopes yet.
    ///
    /// # Panics
    /// The text is no name.
    pub fn agent(&self, name: &str) -> Subject {
        let name: Name = name.parse().expect("an agent's name");
        let id = self.trust_domain().agent(&name, Instance::from_bytes(self.uuid()));
        Subject::new(self.clone(), id, name)
    }

    /// A service of that name, which answers for no system yet.
    ///
    /// # Panics
    /// The text is no name.
    pub fn service(&self, name: &str) -> Subject {
        let name: Name = name.parse().expect("a service's name");
        Subject::new(self.clone(), self.trust_domain().service(&name), name)
    }

    /// An administrator of that name.
    ///
    /// # Panics
    /// The text is no name.
    pub fn admin(&self, name: &str) -> Subject {
        let name: Name = name.parse().expect("an administrator's name");
        Subject::new(self.clone(), self.trust_domain().admin(&name), name)
    }

    /// The issuer itself, `/chancery/server`.
    pub fn server(&self) -> Subject {
        Subject::server(self.clone(), self.trust_domain().server())
    }

    /// Any SPIFFE ID of the trust domain.
    ///
    /// # Panics
    /// The text is no SPIFFE ID.
    pub fn subject(&self, spiffe_id: &str) -> Subject {
        let id: SpiffeId = spiffe_id.parse().expect("a SPIFFE ID");
        Subject::new(self.clone(), id, "any".parse().expect("a name"))
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        self.0.root.certificate().trust_domain()
    }

    /// The time at which all this happens.
    pub fn now(&self) -> Timestamp {
        self.0.now
    }

    /// The root's certificate: the whole bundle.
    pub fn root(&self) -> CertificateDer<'static> {
        self.0.root.certificate().der().to_vec().into()
    }

    /// The issuing authority.
    pub fn authority(&self) -> &Authority {
        &self.0.issuing.authority
    }

    /// The CRLs of the chain, complete and an hour long: the issuing authority's with these serials and the one of
    /// [`Flaw::Revoked`](crate::Flaw::Revoked), and the root's with the authority of
    /// [`Flaw::AuthorityRevoked`](crate::Flaw::AuthorityRevoked). Each call gives higher numbers.
    pub fn crls(&self, revoked: &[Serial]) -> Vec<CertificateRevocationListDer<'static>> {
        self.crls_at(self.now(), revoked)
    }

    /// As [`TestCa::crls`], made at another time.
    pub fn crls_at(&self, this_update: Timestamp, revoked: &[Serial]) -> Vec<CertificateRevocationListDer<'static>> {
        let leaves: Vec<Serial> = revoked.iter().copied().chain([self.revoked_serial()]).collect();
        let of = |authority: &Authority, serials: Vec<Serial>| {
            let plan = CrlPlan::new(authority.certificate(), self.crl_head(this_update), entries(this_update, serials));
            now_or_never(authority.sign_crl(plan.expect("serials in order"))).expect("a key in memory signs").into_der()
        };
        let root = &self.0.root;
        let authorities = vec![self.0.revoked.authority.certificate().serial()];
        let plan = CrlPlan::new(root.certificate(), self.crl_head(this_update), entries(this_update, authorities));
        let of_root = now_or_never(root.sign_crl(plan.expect("one serial"))).expect("a key in memory signs").into_der();
        [of(self.authority(), leaves), of(&self.0.revoked.authority, Vec::new()), of_root].map(Into::into).into()
    }

    fn crl_head(&self, this_update: Timestamp) -> CrlHead {
        let number = u128::from(self.next());
        let number = CrlNumber::after(Some(CrlNumber::new(number)), Timestamp::from_unix_millis(0));
        CrlHead { number, this_update, next_update: this_update + HOUR, epoch: 1, n: 0 }
    }

    fn with_keys(trust_domain: &str, now: Timestamp, root: &[u8], issuing: &[u8]) -> Self {
        let trust_domain: TrustDomain = trust_domain.parse().expect("a trust domain");
        let status: StatusUrl = "http://status.test".parse().expect("a status URL");
        let serial = |last| Serial::compose(now, [0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
        // A day back, so that expired certificates can stand within their authority's time.
        let made_at = now - DAY;
        let root_signer = signer(root);
        let root = RootAuthority::create(&trust_domain, root_signer.clone(), CRYPTO, 3650 * DAY, made_at, serial(1));
        let root = now_or_never(root).expect("a root");
        let authority = |pkcs8: &[u8], last| {
            let signer = signer(pkcs8);
            let made = root.issue(signer.clone(), &status, 90 * DAY, made_at, serial(last));
            Issuing { authority: now_or_never(made).expect("an issuing authority"), signer }
        };
        let issuing = authority(issuing, 2);
        let revoked = authority(include_bytes!("keys/revoked-issuing.pk8"), 3);
        let unlisted = authority(include_bytes!("keys/unlisted-issuing.pk8"), 4);
        let counter = AtomicU64::new(1 << 16);
        Self(Arc::new(Inner { now, status, root, root_signer, issuing, revoked, unlisted, counter }))
    }

    pub(crate) fn status(&self) -> &StatusUrl {
        &self.0.status
    }

    /// With which the root signs.
    pub(crate) fn root_signer(&self) -> &dyn Signer {
        &*self.0.root_signer
    }

    pub(crate) fn issuing(&self) -> &Issuing {
        &self.0.issuing
    }

    /// Whose certificate the root's CRL lists.
    pub(crate) fn revoked(&self) -> &Issuing {
        &self.0.revoked
    }

    /// Which publishes no CRL.
    pub(crate) fn unlisted(&self) -> &Issuing {
        &self.0.unlisted
    }

    /// The serial that every CRL of the kit lists.
    pub(crate) fn revoked_serial(&self) -> Serial {
        Serial::compose(self.now(), [0xff; 10])
    }

    pub(crate) fn next_serial(&self) -> Serial {
        let [a, b, c, d, e, f, g, h] = self.next().to_be_bytes();
        Serial::compose(self.now(), [0, 0, a, b, c, d, e, f, g, h])
    }

    /// A UUIDv7 of its own.
    pub(crate) fn uuid(&self) -> [u8; 16] {
        let [_, _, t0, t1, t2, t3, t4, t5] = self.now().unix_millis().to_be_bytes();
        let [_, _, _, _, e, f, g, h] = self.next().to_be_bytes();
        [t0, t1, t2, t3, t4, t5, 0x70, 0, 0x80, 0, 0, 0, e, f, g, h]
    }

    fn next(&self) -> u64 {
        self.0.counter.fetch_add(1, Ordering::Relaxed)
    }
}

pub(crate) fn signer(pkcs8: &[u8]) -> Arc<dyn Signer> {
    Arc::new(LocalSigner::from_pkcs8(pkcs8).expect("a key of the kit"))
}

fn entries(revoked_at: Timestamp, mut serials: Vec<Serial>) -> impl Iterator<Item = CrlEntry> {
    serials.sort_unstable();
    serials.dedup();
    serials.into_iter().map(move |serial| CrlEntry { serial, revoked_at, reason: Reason::KeyCompromise })
}
