#![no_main]

#[allow(dead_code)]
#[path = "../bodies/tlog.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|input: (&str, &[u8])| bodies::tile(input.0, input.1));
