//! What must hold of every input that the wire types meet.

use chancery_api::{
    AdminPatch, AgentPatch, AttestRequest, Bundle, JoinString, NewAdmin, NewAgent, NewApiToken, NewJoinToken,
    NewService, RenewRequest, ResumeRequest, RevocationsRequest, RootPin, Selector, ServicePatch, Subject,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What is read as a join string is shown in one spelling that means the same, and never by `Debug`.
pub(crate) fn join_string(text: &str) {
    if let Ok(join) = text.parse::<JoinString>() {
        let shown = join.to_string();
        assert_eq!(shown.parse::<JoinString>().as_ref(), Ok(&join));
        assert!(shown.starts_with("https://") && shown.contains("#chj_"));
        assert!(!format!("{join:?}").contains(&join.secret().to_string()));
    }
    if let Ok(pin) = text.parse::<RootPin>() {
        assert_eq!(pin.to_string().parse::<RootPin>().as_ref(), Ok(&pin));
    }
    if let Ok(subject) = text.parse::<Subject>() {
        assert_eq!(subject.to_string(), text);
    }
    if let Ok(selector) = text.parse::<Selector>() {
        assert_eq!(selector.as_str(), text);
    }
}

/// What is read as a request means the same when it is written and read again.
pub(crate) fn requests(json: &[u8]) {
    fn stable<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(json: &[u8]) {
        if let Ok(request) = serde_json::from_slice::<T>(json) {
            let written = serde_json::to_vec(&request).expect("a request can be written");
            assert_eq!(serde_json::from_slice::<T>(&written).expect("and read"), request);
        }
    }
    stable::<AttestRequest>(json);
    stable::<RenewRequest>(json);
    stable::<NewAgent>(json);
    stable::<AgentPatch>(json);
    stable::<NewService>(json);
    stable::<ServicePatch>(json);
    stable::<NewAdmin>(json);
    stable::<AdminPatch>(json);
    stable::<NewJoinToken>(json);
    stable::<NewApiToken>(json);
    stable::<RevocationsRequest>(json);
    stable::<ResumeRequest>(json);
    stable::<Bundle>(json);
}
