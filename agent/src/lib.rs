//! What an agent or service links to have an identity: attest, obtain, renew.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let id = chancery_agent::Identity::from_env().await?; // joins once, then resumes from disk; renews itself
//! let crm = id.http("https://crm.internal:8443")?; // mutual TLS; the peer must be a service of our trust domain
//! match crm.get("/customers/42").await {
//!     Ok(reply) => println!("{}", reply.text()),
//!     Err(refused @ chancery_agent::CallError::Refused { .. }) => eprintln!("{refused}"), // needs, holds, fix
//!     Err(error) => return Err(error.into()),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The private key is made here and never leaves the state folder. First contact with an issuer goes by the pin of its
//! root: the join token is shown to nobody who has not proved to stand below it. A renewal that fails keeps the old
//! certificate as long as it is valid; one that ran out is replaced for a signature by its key, while the issuer allows it.

mod crl_files;
mod error;
mod event;
mod feed;
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

pub use crl_files::{CrlFiles, CrlFilesError};
pub use error::Error;
pub use event::{Event, Holding, How};
pub use files::Files;
pub use first_contact::pinned_issuer;
pub use held::HeldError;
pub use http::{CallError, Http, Reply};
pub use identity::{Builder, HandOn, Identity};
pub use key::KeyError;
pub use state::StateError;
