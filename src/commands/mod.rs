//! The commands, one file each.

mod on_change;
pub mod run;
pub mod sidecar;
mod workload;
