//! How a certificate is made: inspect, plan, lint, sign. And the authorities that sign, their CRLs and their OCSP responders.
//!
//! No I/O, no clock, no randomness, no crypto library: `now`, serials, [`Crypto`] and [`Signer`]s come in as arguments.
//! (Feature `ring` adds `local`, which has the last two for keys in memory.)
//!
//! ```text
//! CSR ── inspect_csr ──> SubjectKey ── Profile::plan ──> Planned ── lint ──> Linted ── Authority::sign ──> Signed
//! ```
//!
//! Each stage is made only by the one before and consumed by the next: what was not linted cannot be signed, and nothing
//! twice. The bytes that were linted are the bytes that are signed: `Signed` holds them unchanged.
//!
//! ```
//! # use std::{future::Future, pin::pin, task::{Context, Poll, Waker}};
//! # fn block_on<F: Future>(f: F) -> F::Output {
//! #     let mut f = pin!(f);
//! #     loop { if let Poll::Ready(r) = f.as_mut().poll(&mut Context::from_waker(Waker::noop())) { return r; } }
//! # }
//! use std::{sync::Arc, time::Duration};
//!
//! use chancery_ca::local::{CRYPTO, LocalSigner};
//! use chancery_ca::{Claims, CrlHead, CrlNumber, CrlPlan, KeyPolicy, Profile, RootAuthority, StatusUrl, inspect_csr};
//! use chancery_identity::{ScopeSet, Serial, Timestamp, TrustDomain};
//!
//! # block_on(async {
//! # let random = ring::rand::SystemRandom::new();
//! # let key = || LocalSigner::from_pkcs8(LocalSigner::generate_pkcs8(&random).unwrap().as_ref()).unwrap();
//! # let (root_key, issuing_key) = (key(), key());
//! # let csr = rcgen::CertificateParams::default().serialize_request(&rcgen::KeyPair::generate()?)?.der().to_vec();
//! let now: Timestamp = "2026-11-21T14:00:00Z".parse()?;
//! let serial = |last| Serial::compose(now, [0, 0, 0, 0, 0, 0, 0, 0, 0, last]);      // ten random bytes
//! let days = |n: u64| Duration::from_secs(n * 86_400);
//! let status: StatusUrl = "http://status.internal".parse()?;
//! let trust_domain: TrustDomain = "example.org".parse()?;
//!
//! let root = RootAuthority::create(&trust_domain, Arc::new(root_key), CRYPTO, days(3650), now, serial(1)).await?;
//! let issuing = root.issue(Arc::new(issuing_key), &status, days(90), now, serial(2)).await?;
//!
//! let key = inspect_csr(&csr, &KeyPolicy::new(CRYPTO))?;
//! let claims = Claims {
//!     spiffe_id: trust_domain.service(&"crm".parse()?),
//!     scopes: ScopeSet::default(),
//!     grant: None,
//!     dns_names: vec!["crm.internal".into()],
//!     not_after: now + Duration::from_secs(3599),
//! };
//! let linted = Profile::new(&issuing, &status).plan(key, claims, serial(3), now)?.lint().expect("a plan has no findings");
//! let leaf = issuing.sign(linted).await?;
//! assert_eq!(leaf.certificate().authority, issuing.key_id());
//!
//! let head = CrlHead {
//!     number: CrlNumber::after(None, now),
//!     this_update: now,
//!     next_update: now + Duration::from_secs(3600),
//!     epoch: 1,
//!     n: 0,
//! };
//! let crl = issuing.sign_crl(CrlPlan::new(issuing.certificate(), head, [])?).await?;
//! assert_eq!(crl.head().number.to_string(), "1795269600000000000");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod algorithm;
mod authority;
mod authority_certificate;
mod certificate;
mod crl;
mod csr;
mod foreign;
mod head_key_certificate;
mod key;
mod lint;
#[cfg(feature = "ring")]
pub mod local;
mod ocsp;
mod profile;
mod signer;
mod status;

pub use algorithm::{Algorithm, Crypto};
pub use authority::{
    Authority, AuthorityError, HEAD_KEY_VALIDITY, RootAuthority, SignError, request_head_key, request_issuing,
};
pub use authority_certificate::AuthorityCertificate;
pub use crl::{CrlEntry, CrlHead, CrlNumber, CrlPlan, CrlRefused, SignedCrl};
pub use csr::{CSR_LEN_MAX, CsrRefused, inspect_csr};
pub use foreign::{ForeignCrl, ForeignRefused, judge_head_key, judge_issuing, judge_root};
pub use head_key_certificate::HeadKeyCertificate;
pub use key::{KeyPolicy, KeyRefused, SubjectKey};
pub use lint::Finding;
pub use ocsp::{
    CertId, CertStatus, OCSP_REQUEST_LEN_MAX, OcspError, OcspNonce, OcspPlan, OcspRefused, OcspRequest,
    OcspRequestRefused, OcspTimes, RESPONDER_VALIDITY, Responder, SignedOcsp,
};
pub use profile::{BACKDATING, Claims, Linted, Planned, Profile, Refused, Signed, TTL_MIN};
pub use signer::{Signer, SignerError};
pub use status::{StatusUrl, StatusUrlError};

#[cfg(test)]
#[expect(clippy::panic, reason = "tests")]
mod testing {
    use std::task::{Context, Poll, Waker};

    /// Runs a future that has nothing to wait for.
    pub(crate) fn now<F: Future>(future: F) -> F::Output {
        match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("a key in memory does not wait"),
        }
    }
}
