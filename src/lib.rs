//! The service and the command line.

pub mod clock;
pub mod commands;
pub mod refusal;
pub mod store;
