//! What an agent or service links to have an identity: attest, obtain, renew.

mod error;
mod event;
mod files;
mod first_contact;
mod held;
mod http;
mod identity;
mod keeper;
mod key;
mod obtain;
mod pem;
mod replace;
mod revocations;
mod schedule;
mod state;
mod tls;

pub use error::Error;
pub use event::{Event, Holding, How};
pub use files::Files;
pub use first_contact::pinned_issuer;
pub use held::HeldError;
pub use http::{CallError, Http, Reply};
pub use identity::{Builder, Identity};
pub use key::KeyError;
pub use state::StateError;
