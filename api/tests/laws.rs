//! No input upsets the wire types, and what they take means the same when it is written and read again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests panic")]

use proptest::prelude::*;

#[path = "../../fuzz/bodies/api.rs"]
mod bodies;

const REQUESTS: &[&str] = &[
    r#"{"evidence":{"method":"join_token","token":"chj_aaaa"},"csr_pem":"x","scopes":["a:b/c"],"ttl_s":60}"#,
    r#"{"name":"bot","owner":"team","scopes":["a:b/c"],"ceiling":["a:*/**"],"labels":{"env":"prod"},"shared":true}"#,
    r#"{"add_scopes":["a:b/c"],"remove_scopes":["a:b/d"],"ceiling":null,"ttl_s":60,"attestation":[{"method":"x509pop"}]}"#,
    r#"{"name":"crm","owner":"team","systems":["crm"],"dns":["crm.internal"]}"#,
    r#"{"name":"ana","access":["operator","revoker"]}"#,
    r#"{"agent":"bot","uses":2,"ttl_s":900,"cidrs":["10.0.0.0/8"]}"#,
    r#"{"targets":["agent:bot","serial:5c0e"],"effect":"suspend","reason":"key_compromise","comment":"x","cascade":false}"#,
    r#"{"keys":[{"kty":"EC","use":"x509-svid","x5c":["AAAA"]},{"kty":"??"}],"spiffe_sequence":1}"#,
];

/// A request with one piece replaced.
fn near() -> impl Strategy<Value = String> {
    let piece =
        prop::sample::select(vec!["", "null", "0", "-1", "1e3", "\"\"", "[]", "{}", "\"a\"", ",", "\\u0000", "é"]);
    (prop::sample::select(REQUESTS), any::<prop::sample::Index>(), 0..8_usize, piece).prop_map(
        |(good, at, cut, piece)| {
            let at = at.index(good.len());
            let rest = (at + cut).min(good.len());
            format!("{}{piece}{}", &good[..at], &good[rest..])
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn requests(near in near()) {
        bodies::requests(near.as_bytes());
    }

    #[test]
    fn join_strings(
        any in any::<String>(),
        near in "https://[a-z0-9.:\\[\\]-]{1,12}/?#chj_[a-z2-7]{52}_[0-9a-f]{64}",
        nearer in "(agent|service|admin|x509pop|sha256)?:?[a-z0-9:-]{0,8}",
    ) {
        bodies::join_string(&any);
        bodies::join_string(&near);
        bodies::join_string(&nearer);
    }
}

#[test]
fn the_good_ones_are_stable() {
    for request in REQUESTS {
        bodies::requests(request.as_bytes());
    }
}
