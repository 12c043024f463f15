//! The service and the command line.

pub mod refusal;
