//! A CA in a test: good certificates, and certificates with every flaw. For tests only; its keys are public.
//!
//! ```
//! use chancery_testkit::{Flaw, TestCa};
//!
//! let ca = TestCa::new("example.org");                   // fixed keys, fixed clock, no sockets
//! let bot = ca.agent("invoice-bot").scope("tools/call:crm/get_customer");
//! let good = bot.issue();
//! assert_eq!(good.read()?.scopes(), ["tools/call:crm/get_customer"]);
//!
//! let two = bot.with(Flaw::TwoSpiffeIds).issue();
//! assert!(two.read().is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![expect(clippy::expect_used, reason = "a kit for tests says in a panic what the test did wrong")]

mod ca;
mod draft;
mod flaw;
mod subject;

pub use ca::{NOW, TestCa};
pub use flaw::Flaw;
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
