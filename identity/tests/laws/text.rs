//! With the feature `serde`: every type is its text, and only its text.

use serde::Serialize;
use serde::de::DeserializeOwned;

use chancery_identity::{
    Effect, GrantId, Instance, KeyId, Name, Pattern, Reason, Scope, Serial, SpiffeId, System, Target, Timestamp,
    TrustDomain,
};

fn round_trip<T: Serialize + DeserializeOwned + std::str::FromStr<Err: std::fmt::Debug>>(text: &str) {
    let value: T = text.parse().unwrap();
    let json = serde_json::to_string(&value).unwrap();
    assert_eq!(json, format!("{text:?}"));
    let back: T = serde_json::from_str(&json).unwrap();
    assert_eq!(serde_json::to_string(&back).unwrap(), json);
    assert!(serde_json::from_str::<T>("\"\"").is_err());
    assert!(serde_json::from_str::<T>("1").is_err());
    assert!(serde_json::from_str::<T>("null").is_err());
}

#[test]
fn each_type_is_its_text() {
    round_trip::<Name>("invoice-bot");
    round_trip::<System>("crm");
    round_trip::<TrustDomain>("example.org");
    round_trip::<SpiffeId>("spiffe://example.org/service/crm");
    round_trip::<Scope>("tools/call:crm/refund");
    round_trip::<Pattern>("tools/call:*/refund");
    round_trip::<Target>("agent:invoice-bot");
    round_trip::<Timestamp>("2026-11-21T14:00:00.012Z");
    round_trip::<Serial>("5c0e91");
    round_trip::<KeyId>("0606060606060606060606060606060606060606");
    round_trip::<Instance>("01936f2a-0000-7000-8000-000000000000");
    round_trip::<GrantId>("gr_01936f2a000070008000000000000000");
}

#[test]
fn each_word_is_its_text() {
    for &effect in Effect::ALL {
        round_trip::<Effect>(effect.as_str());
    }
    for &reason in Reason::ALL {
        round_trip::<Reason>(reason.as_str());
    }
}

/// Escapes in JSON are text like any other.
#[test]
fn escaped_text_is_read() {
    assert_eq!(serde_json::from_str::<Name>(r#""invoice\u002dbot""#).unwrap().as_str(), "invoice-bot");
}
