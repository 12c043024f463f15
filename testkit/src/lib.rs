//! A CA in a test: good certificates, and certificates with every flaw. For tests only; its keys are public.
//!
//! ```
//! use chancery_testkit::{Flaw, TestCa};
//! use chancery_verifier::Rules;
//!
//! let ca = TestCa::new("example.org");                   // fixed keys, fixed clock, no sockets
//! let rules = Rules::new().allow("GET", "/customers/{id}", "tools/call:crm/get_customer")?;
//! let guard = ca.verifier("crm").guard(rules)?;
//! let good = ca.agent("invoice-bot").scope("tools/call:crm/get_customer");
//! assert!(guard.check(&good, "GET", "/customers/42").is_ok());
//! for flaw in Flaw::ALL {
//!     assert_eq!(guard.check(&good.with(flaw), "GET", "/customers/42").unwrap_err().code(), flaw.code());
//! }
//! # Ok::<(), chancery_verifier::RulesRefused>(())
//! ```
#![expect(clippy::expect_used, reason = "a kit for tests says in a panic what the test did wrong")]

mod ca;
mod draft;
mod feed;
mod flaw;
mod guard;
mod subject;

pub use ca::{NOW, TestCa};
pub use feed::TestFeed;
pub use flaw::Flaw;
pub use guard::{TestGuard, TestVerifier};
pub use subject::{Issued, Subject};

/// Runs a future that has nothing to wait for, as those of a key in memory.
fn now_or_never<F: Future>(future: F) -> F::Output {
    use std::task::{Context, Poll, Waker};

    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
    .expect("a key in memory does not wait")
}
