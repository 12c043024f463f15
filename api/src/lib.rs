//! Placeholder, replaced by the crate.

mod join;

pub use join::{JoinSecret, JoinString, JoinStringError, RootPin};
