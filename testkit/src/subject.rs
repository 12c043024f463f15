//! Those for whom the kit makes certificates.

use std::sync::Arc;
use std::time::Duration;

use chancery_ca::local::{CRYPTO, LocalSigner};
use chancery_ca::{Authority, Claims, KeyPolicy, Profile, Signer, SubjectKey, inspect_csr};
use chancery_identity::der::{self, Writer, context_constructed};
use chancery_identity::{
    Attestation, Certificate, Grant, GrantId, Leaf, Lineage, Name, Scope, ScopeSet, SpiffeId, System, Timestamp,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::ca::HOUR;
use crate::{Flaw, TestCa, now_or_never};

const KEY: &[u8] = include_bytes!("keys/leaf.pk8");

/// An agent, a service or an administrator: what its certificate is to say, and what is to be wrong with it.
#[derive(Clone, Debug)]
pub struct Subject {
    pub(crate) ca: TestCa,
    pub(crate) spiffe_id: SpiffeId,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) grant: Option<Grant>,
    dns_names: Vec<String>,
    not_after: Timestamp,
    flaw: Option<Flaw>,
}

/// A certificate with its chain and key.
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "tests take it apart")]
pub struct Issued {
    /// The leaf, then the issuing authority.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key; the same for all leaves of the kit.
    pub key: PrivateKeyDer<'static>,
    /// What the leaf says; for one with a flaw, what it would say without.
    pub certificate: Certificate,
}

impl Subject {
    pub(crate) fn new(ca: TestCa, spiffe_id: SpiffeId, name: Name) -> Self {
        let grant = Grant {
            id: GrantId::from_bytes(ca.uuid()),
            name,
            revision: 1,
            owner: "team-test".parse().expect("a name"),
            systems: Vec::new(),
            lineage: Lineage::from_bytes(ca.uuid()),
            epoch: 1,
            planned_at: 1,
            seen: 0,
            chosen: false,
            attestation: Attestation { method: "join_token".into(), digest: [0; 32], at: ca.now() },
            on_behalf_of: None,
            task: None,
            chain: Vec::new(),
            depth_left: 0,
            constraints: Vec::new(),
        };
        Self { grant: Some(grant), ..Self::server(ca, spiffe_id) }
    }

    pub(crate) fn server(ca: TestCa, spiffe_id: SpiffeId) -> Self {
        // RFC 5280 §4.1.2.5: notAfter is inclusive.
        let not_after = ca.now() + HOUR - Duration::from_secs(1);
        Self { ca, spiffe_id, scopes: Vec::new(), grant: None, dns_names: Vec::new(), not_after, flaw: None }
    }

    /// Adds a scope.
    ///
    /// # Panics
    /// The text is no scope.
    #[must_use]
    pub fn scope(mut self, scope: &str) -> Self {
        self.scopes.push(scope.parse().expect("a scope"));
        self
    }

    /// Adds a system that the service answers for.
    ///
    /// # Panics
    /// The text is no system.
    #[must_use]
    pub fn system(self, system: &str) -> Self {
        let system: System = system.parse().expect("a system");
        self.grant(|grant| grant.systems.push(system))
    }

    /// Adds a DNS name.
    #[must_use]
    pub fn dns(mut self, name: &str) -> Self {
        self.dns_names.push(name.into());
        self
    }

    /// Changes the grant.
    ///
    /// # Panics
    /// The subject is the issuer, which has none.
    #[must_use]
    pub fn grant(mut self, change: impl FnOnce(&mut Grant)) -> Self {
        change(self.grant.as_mut().expect("a grant"));
        self
    }

    /// Ends the certificate at another second than an hour from now; at least two minutes from now.
    #[must_use]
    pub fn not_after(mut self, not_after: Timestamp) -> Self {
        self.not_after = not_after;
        self
    }

    /// The same subject with something wrong about its certificate.
    #[must_use]
    pub fn with(&self, flaw: Flaw) -> Self {
        Self { flaw: Some(flaw), ..self.clone() }
    }

    /// Its SPIFFE ID.
    pub fn spiffe_id(&self) -> &SpiffeId {
        &self.spiffe_id
    }

    /// Makes a certificate; each call another one.
    ///
    /// # Panics
    /// The ca crate refuses the claims.
    pub fn issue(&self) -> Issued {
        match self.flaw {
            None => self.issue_by(&self.ca.issuing().clone()),
            Some(flaw) => flaw.issue(self.clone()),
        }
    }

    /// Makes a good certificate for the key of this request (PKCS #10, DER): leaf, then issuing authority.
    ///
    /// # Panics
    /// The ca crate refuses the request or the claims.
    pub fn certify(&self, request: &[u8]) -> (Vec<CertificateDer<'static>>, Certificate) {
        let key = inspect_csr(request, &KeyPolicy::new(CRYPTO)).expect("a good request");
        self.sign(key, &self.ca.issuing().authority)
    }

    /// A good certificate of that authority.
    pub(crate) fn issue_by(&self, issuing: &crate::ca::Issuing) -> Issued {
        let (chain, certificate) = self.sign(subject_key(), &issuing.authority);
        Issued { chain, key: PrivatePkcs8KeyDer::from(KEY).into(), certificate }
    }

    fn sign(&self, key: SubjectKey, authority: &Authority) -> (Vec<CertificateDer<'static>>, Certificate) {
        let claims = Claims {
            spiffe_id: self.spiffe_id.clone(),
            scopes: ScopeSet::new(self.scopes.clone()).expect("at most 64 scopes"),
            grant: self.grant.clone(),
            dns_names: self.dns_names.clone(),
            not_after: self.not_after,
        };
        let profile = Profile::new(authority, self.ca.status());
        let planned = profile.plan(key, claims, self.ca.next_serial(), self.ca.now());
        let linted = planned.expect("claims that the ca crate takes").lint().expect("no findings");
        let signed = now_or_never(authority.sign(linted)).expect("a key in memory signs");
        let certificate = Certificate::clone(signed.certificate());
        let der = signed.der().to_vec();
        (vec![der.into(), authority.certificate().der().to_vec().into()], certificate)
    }
}

impl Issued {
    /// The leaf.
    ///
    /// # Panics
    /// The flaw was to have none.
    pub fn leaf(&self) -> &CertificateDer<'static> {
        self.chain.first().expect("a leaf")
    }

    /// The leaf, read. Fails for many flaws.
    ///
    /// # Errors
    /// What the leaf reader finds.
    pub fn read(&self) -> Result<Leaf<'_>, chancery_identity::LeafError> {
        Leaf::read(self.leaf())
    }
}

/// The one key of all leaves, proved by a request as every key is.
fn subject_key() -> SubjectKey {
    let signer: Arc<dyn Signer> = Arc::new(LocalSigner::from_pkcs8(KEY).expect("a key of the kit"));
    let identifier = signer.algorithm().signature_identifier();
    let mut info = Writer::new();
    info.nested(der::SEQUENCE, |w| {
        w.unsigned_64(0).nested(der::SEQUENCE, |_| {}).raw(signer.public_key()).nested(context_constructed(0), |_| {});
    });
    let info = info.finish();
    let signature = now_or_never(signer.sign(&info)).expect("a key in memory signs");
    let mut csr = Writer::new();
    csr.nested(der::SEQUENCE, |w| {
        w.raw(&info).raw(identifier).bits(&signature);
    });
    inspect_csr(&csr.finish(), &KeyPolicy::new(CRYPTO)).expect("a good request")
}
