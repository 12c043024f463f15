//! The service and the command line.

pub mod commands;
pub mod refusal;
