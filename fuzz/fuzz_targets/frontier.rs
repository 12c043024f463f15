#![no_main]

#[allow(dead_code)]
#[path = "../bodies/tlog.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::frontier(bytes));
