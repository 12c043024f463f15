#![no_main]

#[allow(dead_code)]
#[path = "../bodies/tlog.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|text: &str| bodies::checkpoint(text));
