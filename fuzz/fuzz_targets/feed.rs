#![no_main]

#[allow(dead_code)]
#[path = "../bodies/feed.rs"]
mod bodies;

use chancery_verifier::feed::{FeedTrust, Sha256};
use chancery_verifier::{Clock, SystemClock};

libfuzzer_sys::fuzz_target!(|input: (usize, &str)| {
    let (cut, text) = input;
    let trust = FeedTrust {
        trust_domain: "example.org".parse().expect("a trust domain"),
        roots: [].into(),
        algorithms: rustls::crypto::ring::default_provider().signature_verification_algorithms,
        // Nothing gets far enough to be hashed.
        sha256: Sha256(|_| [0; 32]),
    };
    let at = SystemClock.now();
    bodies::feed(&trust, text.as_bytes(), cut, at);
    let (head, entries) = text.split_at_checked(cut).unwrap_or((text, ""));
    bodies::saved(&trust, head, entries, at);
});
