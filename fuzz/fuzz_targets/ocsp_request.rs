#![no_main]

#[allow(dead_code)]
#[path = "../bodies/ca.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::ocsp_request(bytes));
