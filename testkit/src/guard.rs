//! The verifier on the kit's material: no sockets, and a clock that stands still.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use chancery_identity::Serial;
use chancery_verifier::{Allowed, Clock, Denial, Freshness, Guard, Material, Moment, Rules, RulesRefused, Verifier};

use crate::{Subject, TestCa};

impl TestCa {
    /// The verifier of a service that answers for the system and has its name. What it knows of revocations is fresh, and
    /// is [`TestCa::crls`] without further serials.
    ///
    /// # Panics
    /// The text is no service's name.
    pub fn verifier(&self, system: &str) -> TestVerifier {
        let now = self.moment();
        let service = self.service(system).system(system);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Verifier::new(&self.material(&service, &[], now), provider, Arc::new(Standing(now)));
        TestVerifier { verifier: verifier.expect("good material"), now }
    }

    /// What that service's verifier works from, with these serials revoked; learnt of at `answered`.
    pub fn material(&self, service: &Subject, revoked: &[Serial], answered: Moment) -> Material {
        let issued = service.issue();
        Material {
            chain: issued.chain,
            key: Arc::new(issued.key),
            trust_domain: self.trust_domain().clone(),
            roots: [self.root()].into(),
            crls: self.crls(revoked).into(),
            answered: Some(answered),
            feed: None,
            freshness: Freshness::default(),
        }
    }

    /// The kit's time, on both clocks.
    pub fn moment(&self) -> Moment {
        Moment { wall: self.now(), monotonic: Instant::now() }
    }
}

/// A verifier whose clock stands still.
#[derive(Clone, Debug)]
pub struct TestVerifier {
    verifier: Verifier,
    now: Moment,
}

impl TestVerifier {
    /// A guard with these rules.
    ///
    /// # Errors
    /// As [`Verifier::guard`].
    pub fn guard(&self, rules: Rules) -> Result<TestGuard, RulesRefused> {
        Ok(TestGuard { guard: self.verifier.guard(rules)?, now: self.now })
    }
}

impl Deref for TestVerifier {
    type Target = Verifier;

    fn deref(&self) -> &Verifier {
        &self.verifier
    }
}

/// A guard that makes its peers' certificates itself.
#[derive(Clone, Debug)]
pub struct TestGuard {
    guard: Guard,
    now: Moment,
}

impl TestGuard {
    /// Makes the subject a certificate, verifies it as a handshake does, and checks the request.
    ///
    /// # Errors
    /// Whichever of the two refuses.
    pub fn check(&self, subject: &Subject, method: impl AsRef<str>, path: &str) -> Result<Allowed, Denial> {
        let peer = self.guard.verifier().client(&subject.issue().chain, self.now)?;
        self.guard.check(&peer, method, path, self.now)
    }
}

#[derive(Debug)]
struct Standing(Moment);

impl Clock for Standing {
    fn now(&self) -> Moment {
        self.0
    }
}
