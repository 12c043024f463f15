#![no_main]

#[allow(dead_code)]
#[path = "../bodies/api.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|text: &str| bodies::join_string(text));
