#![no_main]

#[allow(dead_code)]
#[path = "../bodies/tlog.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|text: &str| bodies::tlog_proof(text));
