//! Root and issuing authorities, and signers that are elsewhere.

use std::fmt;
use std::future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use chancery_ca::local::CRYPTO;
use chancery_ca::{
    Algorithm, Authority, AuthorityCertificate, AuthorityError, RootAuthority, SignError, Signer, SignerError,
};
use x509_cert::der::{Decode, Encode};

use crate::support::{DAY, HOUR, NOW, claims, domain, key, ready, serial, signer, status, world};

#[test]
fn no_two_keys_share_a_name() {
    let (one, other) = (world(), world());
    let names = [&one, &other].map(|world| [world.root.certificate(), world.issuing.certificate()]);
    let subjects: std::collections::BTreeSet<_> = names.as_flattened().iter().map(|c| c.subject()).collect();
    assert_eq!(subjects.len(), 4);
}

#[test]
fn an_authority_reads_back_from_its_parts() {
    let root = ready(RootAuthority::create(&domain(), signer(), CRYPTO, DAY, NOW, serial(1))).unwrap();
    let key = signer();
    let issuing = ready(root.issue(key.clone(), &status(), HOUR, NOW, serial(2))).unwrap();
    let der = issuing.certificate().der().to_vec();
    let again = Authority::from_parts(der.clone(), key, CRYPTO).unwrap();
    assert_eq!(again.certificate(), issuing.certificate());
    assert_eq!(again.certificate().trust_domain(), &domain());
    assert!(again.certificate().signed_by(root.certificate(), CRYPTO));
    assert!(!again.certificate().signed_by(world().root.certificate(), CRYPTO));
    assert!(root.certificate().self_issued() && !issuing.certificate().self_issued());
    assert_eq!(Authority::from_parts(der, signer(), CRYPTO).unwrap_err(), AuthorityError::OtherKey);
}

#[test]
fn a_root_is_no_issuing_authority_and_none_is_a_root() {
    let (root_key, issuing_key) = (signer(), signer());
    let root = ready(RootAuthority::create(&domain(), root_key.clone(), CRYPTO, DAY, NOW, serial(1))).unwrap();
    let issuing = ready(root.issue(issuing_key.clone(), &status(), HOUR, NOW, serial(2))).unwrap();
    let der = |certificate: &AuthorityCertificate| certificate.der().to_vec();
    assert!(Authority::from_parts(der(root.certificate()), root_key, CRYPTO).is_err());
    assert!(RootAuthority::from_parts(der(issuing.certificate()), issuing_key, CRYPTO).is_err());
}

#[test]
fn a_root_with_a_broken_signature_is_none() {
    let key = signer();
    let root = ready(RootAuthority::create(&domain(), key.clone(), CRYPTO, DAY, NOW, serial(1))).unwrap();
    let mut der = root.certificate().der().to_vec();
    *der.last_mut().unwrap() ^= 1;
    assert!(matches!(RootAuthority::from_parts(der, key, CRYPTO), Err(AuthorityError::Unfit(_))));
}

#[test]
fn an_issuing_authority_ends_with_its_root_at_the_latest() {
    let root = ready(RootAuthority::create(&domain(), signer(), CRYPTO, DAY, NOW, serial(1))).unwrap();
    let issuing = ready(root.issue(signer(), &status(), 90 * DAY, NOW, serial(2))).unwrap();
    assert_eq!(issuing.certificate().not_after(), root.certificate().not_after());
    let over = ready(root.issue(signer(), &status(), HOUR, NOW + DAY, serial(3)));
    assert!(matches!(over, Err(AuthorityError::Over(_))));
}

#[test]
fn a_foreign_parser_writes_authorities_the_same() {
    let world = world();
    for certificate in [world.root.certificate(), world.issuing.certificate()] {
        let parsed = x509_cert::Certificate::from_der(certificate.der()).unwrap();
        assert_eq!(parsed.to_der().unwrap(), certificate.der());
    }
}

#[test]
fn no_leaf_and_no_noise_is_an_authority() {
    let world = world();
    let leaf = world.leaf(claims()).der().to_vec();
    assert!(AuthorityCertificate::read(leaf).is_err());
    let der = world.issuing.certificate().der();
    for end in 0..der.len() {
        assert!(AuthorityCertificate::read(der[..end].to_vec()).is_err());
    }
}

/// A signer that is elsewhere: slow, and as honest as it is told to be.
struct Remote {
    key: Arc<dyn Signer>,
    answer: fn(Vec<u8>) -> Result<Vec<u8>, SignerError>,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Remote")
    }
}

impl Signer for Remote {
    fn algorithm(&self) -> Algorithm {
        self.key.algorithm()
    }

    fn public_key(&self) -> &[u8] {
        self.key.public_key()
    }

    fn sign<'a>(
        &'a self,
        message: &'a [u8],
    ) -> Pin<Box<dyn Future<Output = Result<Vec<u8>, SignerError>> + Send + 'a>> {
        Box::pin(async move {
            // Once around the world.
            let mut waited = false;
            future::poll_fn(|context| {
                context.waker().wake_by_ref();
                if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            (self.answer)(self.key.sign(message).await?)
        })
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
    }
}

fn signed_by(answer: fn(Vec<u8>) -> Result<Vec<u8>, SignerError>) -> Result<chancery_ca::Signed, SignError> {
    let root = ready(RootAuthority::create(&domain(), signer(), CRYPTO, DAY, NOW, serial(1))).unwrap();
    let key_of_issuing = signer();
    let local = ready(root.issue(key_of_issuing.clone(), &status(), HOUR, NOW, serial(2))).unwrap();
    let remote = Arc::new(Remote { key: key_of_issuing, answer });
    let issuing = Authority::from_parts(local.certificate().der().to_vec(), remote, CRYPTO).unwrap();
    let profile = chancery_ca::Profile::new(&issuing, &status());
    let linted = profile.plan(key(), claims(), serial(3), NOW + Duration::from_secs(1)).unwrap().lint().unwrap();
    block_on(issuing.sign(linted))
}

#[test]
fn a_signer_elsewhere_is_waited_for_and_its_answer_verified() {
    signed_by(Ok).unwrap();
    let spoilt = signed_by(|mut signature| {
        *signature.last_mut().unwrap() ^= 1;
        Ok(signature)
    });
    assert_eq!(spoilt.unwrap_err(), SignError::Signature);
    let failed = signed_by(|_| Err(SignerError::new("token removed"))).unwrap_err();
    assert_eq!(failed.to_string(), "the authority's key could not sign: token removed");
}
