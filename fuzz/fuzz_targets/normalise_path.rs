#![no_main]

#[allow(dead_code)]
#[path = "../bodies/identity.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|text: &str| bodies::normalise_path(text));
