//! Refusals: every way in which the issuer says no.

mod committed;

use std::fmt;

use chancery_api::{Problem, Retry};
use chancery_identity::RequestId;

/// A refusal on its way to the caller: what kind, and of this one what was wanted, what came and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(Box<Fields>);

/// What `Retry-After` says where the kind of refusal asks for one and nobody knows better, in seconds.
const RETRY_AFTER_S: u32 = 10;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Fields {
    code: Code,
    detail: String,
    needs: Vec<String>,
    holds: Vec<String>,
    fix: Vec<String>,
    retry_after_s: Option<u32>,
    log_index: Option<u64>,
}

impl Refusal {
    /// A refusal of this kind, told in one sentence: lower case first, no full stop.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Box::new(Fields {
            code,
            detail: detail.into(),
            needs: Vec::new(),
            holds: Vec::new(),
            fix: Vec::new(),
            retry_after_s: None,
            log_index: None,
        }))
    }

    /// Adds what would have been enough.
    pub fn needs<T: fmt::Display>(mut self, needs: impl IntoIterator<Item = T>) -> Self {
        self.0.needs.extend(needs.into_iter().map(|need| need.to_string()));
        self
    }

    /// Adds what the caller has.
    pub fn holds<T: fmt::Display>(mut self, holds: impl IntoIterator<Item = T>) -> Self {
        self.0.holds.extend(holds.into_iter().map(|held| held.to_string()));
        self
    }

    /// Adds what to do, and who can: `an operator: chancery agents update …`.
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.0.fix.push(fix.into());
        self
    }

    /// The same request may be sent again after so many seconds.
    pub fn after(mut self, seconds: u32) -> Self {
        self.0.retry_after_s = Some(seconds);
        self
    }

    /// Where the refusal itself stands in the log.
    pub fn logged(mut self, log_index: u64) -> Self {
        self.0.log_index = Some(log_index);
        self
    }

    /// Its kind.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// Its sentence.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// What `Retry-After` says, in seconds.
    pub fn retry_after_s(&self) -> Option<u32> {
        let unsaid = (self.code().retry() == Retry::After).then_some(RETRY_AFTER_S);
        self.0.retry_after_s.or(unsaid)
    }

    /// The problem document for it. `public_url` is the issuer's own, which serves a page for each code.
    pub fn into_problem(self, public_url: &str, instance: Option<String>, request_id: Option<RequestId>) -> Problem {
        let retry = if self.retry_after_s().is_some() { Retry::After } else { self.code().retry() };
        let Fields { code, detail, needs, holds, fix, log_index, .. } = *self.0;
        Problem {
            r#type: format!("{public_url}/problems/{code}"),
            code: code.as_str().into(),
            title: code.title().into(),
            status: code.status(),
            detail,
            instance,
            needs,
            holds,
            fix,
            retry,
            request_id,
            log_index,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.detail)
    }
}

impl std::error::Error for Refusal {}

macro_rules! codes {
    ($($variant:ident $text:literal $status:literal $retry:ident $title:literal: $page:literal)+) => {
        /// The kinds of refusal. A code that was published is never used for another kind.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = $title] $variant,)+
        }

        impl Code {
            /// All of them, in the order of their status.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The code, in kebab case.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            /// The HTTP status.
            pub const fn status(self) -> u16 {
                match self {
                    $(Self::$variant => $status,)+
                }
            }

            /// The kind in a few words.
            pub const fn title(self) -> &'static str {
                match self {
                    $(Self::$variant => $title,)+
                }
            }

            /// Whether asking again can help, unless the refusal says otherwise.
            pub const fn retry(self) -> Retry {
                match self {
                    $(Self::$variant => Retry::$retry,)+
                }
            }

            /// What it means and what to do, for its page.
            pub const fn page(self) -> &'static str {
                match self {
                    $(Self::$variant => $page,)+
                }
            }
        }
    };
}

codes! {
    BadRequest "bad-request" 400 No "the request cannot be read":
        "A body, query parameter or header has the wrong form, or names a field that does not exist. The detail says which."
    Unauthenticated "unauthenticated" 401 No "no identity was shown":
        "The route needs a client certificate or, for administration, an API token as `Authorization: Bearer cht_…`."
    UnknownToken "unknown-token" 401 No "unknown token":
        "No token has this secret. It was mistyped, belongs to another issuer, or was deleted. Ask for a new one."
    TokenExpired "token-expired" 401 No "the token's time is over":
        "Join and API tokens end. Ask whoever made it for a new one."
    TokenUsed "token-used" 401 No "the token has been used":
        "A join token opens as often as its `uses` say. The detail says who used it last: if that was not you, suspend \
         the instance it names. Then ask for a new token."
    EvidenceRefused "evidence-refused" 401 No "the evidence does not prove it":
        "The signature, chain or digest in the evidence does not hold, or the evidence is too old."
    NonceRefused "nonce-refused" 401 No "the nonce is not good":
        "A nonce from `POST /v1/attest/challenge` is good once and for a short time. Ask for a new one and sign again."
    CertificateRefused "certificate-refused" 401 No "the client certificate is not accepted":
        "The certificate shown is of another trust domain, is no identity of this issuer, or its time is over."
    CertificateRevoked "certificate-revoked" 401 No "the client certificate is revoked":
        "An entry of the revocation sequence names the certificate, its lineage or its record. If it is a suspension, a \
         resume ends it."
    AccessMissing "access-missing" 403 No "the access level is missing":
        "The caller is known and lacks the level that the route needs. An administrator can give it."
    WrongCaller "wrong-caller" 403 No "not a route for this kind of caller":
        "Agents and services never reach administration; administrators do not act as agents."
    NoAttestationRule "no-attestation-rule" 403 No "no rule allows this evidence":
        "The record's attestation rules do not allow the method, or need selectors that the evidence does not show."
    NetworkRefused "network-refused" 403 No "not from this network":
        "The join token may be used only from the networks that it names."
    ScopeNotHeld "scope-not-held" 403 No "the scope is not held":
        "A certificate can carry only what its record holds, and a renewal only what its lineage was given."
    ScopeAboveCeiling "scope-above-ceiling" 403 No "scope above the agent's ceiling":
        "The ceiling is all that may ever be granted to the agent. An administrator can raise it."
    Suspended "suspended" 403 No "suspended":
        "An entry of the revocation sequence holds this until it is resumed: `chancery resume`."
    Retired "retired" 403 No "retired":
        "An entry of the revocation sequence ended this for good."
    LineageForked "lineage-forked" 403 No "one certificate was renewed by two":
        "A certificate is renewed once. A second key for it means that someone else has its key, so the lineage is \
         suspended. Attest again with a new key, and find out who the other was."
    SessionOver "session-over" 403 No "the session is over":
        "The lineage has reached its longest session. Attest again."
    RejoinRefused "rejoin-refused" 403 No "the expired certificate cannot rejoin":
        "The certificate ran out too long ago, or is not its lineage's newest. Attest again."
    NotFound "not-found" 404 No "there is no such thing":
        "Nothing has this name, id or path."
    MethodNotAllowed "method-not-allowed" 405 No "the route has no such method":
        "The `Allow` header lists the methods that the route has."
    AlreadyExists "already-exists" 409 No "it exists, and differs":
        "A record of this name exists and differs from what was sent. Names are never reused; change the record instead."
    Taken "taken" 409 No "it belongs to another":
        "A system and a DNS name each belong to one service only."
    TooManyInstances "too-many-instances" 409 After "the agent has all its instances":
        "The agent's `max_instances` are running. Stop one, wait until one ends, or have an operator raise the number."
    NotResumable "not-resumable" 409 No "there is nothing to resume":
        "Only a suspension or a forbidding that is in force can be resumed; revoke and retire are final."
    RevisionMismatch "revision-mismatch" 412 No "the record has changed":
        "`If-Match` names another revision than the record's. Read it again and decide anew."
    BodyTooLarge "body-too-large" 413 No "the body is too large":
        "The detail says how large a body may be."
    NotJson "not-json" 415 No "the body is not declared as JSON":
        "Bodies are JSON, sent with `Content-Type: application/json`."
    CsrRefused "csr-refused" 422 No "the certificate request is not accepted":
        "A certificate request gives a public key and the proof of its possession, and asks for nothing else: no subject \
         counts, and no extension may be asked for."
    KeyRefused "key-refused" 422 No "the key is not accepted":
        "The key's kind or size is not allowed here, or the key is in use by another identity. Make a new one."
    KeyReused "key-reused" 422 No "the key is the one in use":
        "Each renewal takes a new key."
    TtlRefused "ttl-refused" 422 No "the lifetime is not possible":
        "A certificate lives at least 2 minutes and at most as long as its record says."
    Invalid "invalid" 422 No "the request cannot be carried out as it is":
        "The request can be read, and one of its values cannot stand. The detail says which and why."
    EffectNeeded "effect-needed" 422 No "the effect must be named":
        "For this target say what is meant: `revoke` what exists now, `suspend` until resumed, or `retire` for good."
    CertificateTooLarge "certificate-too-large" 422 No "the certificate would be too large":
        "A certificate has at most 4096 bytes. Hold fewer or shorter scopes."
    TooManyRequests "too-many-requests" 429 After "too many requests":
        "Wait as long as `Retry-After` says."
    Internal "internal" 500 Same "the issuer failed":
        "The fault is the issuer's; its own log tells more under the request id."
    OutcomeUnknown "outcome-unknown" 503 Same "it may or may not have happened":
        "The database did not say whether it committed. Ask again with the same body: the same request has the same effect."
    Overloaded "overloaded" 503 After "no room just now":
        "The issuer sheds what it has no room for. Wait as long as `Retry-After` says."
    NotReady "not-ready" 503 After "the issuer does not write now":
        "It is starting, stopping, or waits for the writer's lease that another issuer on the same database holds."
    RolledBack "rolled-back" 503 No "the database is behind its own log":
        "The database is older than the last signed head. Nothing is issued until `chancery db restore` has settled it."
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_kebab_case_unique_and_refusals() {
        let mut seen = std::collections::BTreeSet::new();
        for code in Code::ALL {
            assert!(seen.insert(code.as_str()), "{code} twice");
            assert!(code.as_str().bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{code}");
            assert!((400..600).contains(&code.status()), "{code}");
        }
    }

    #[test]
    fn says_what_was_wanted_what_came_and_what_to_do() {
        let refusal = Refusal::new(Code::ScopeAboveCeiling, "invoice-bot asked for tools/call:crm/refund")
            .needs(["tools/call:crm/refund"])
            .holds(["tools/call:crm/get_customer"])
            .fix("an administrator: chancery agents update invoice-bot --add-ceiling tools/call:crm/refund");
        let problem = refusal.into_problem("https://ca.internal:8443", Some("/v1/attest".into()), None);
        assert_eq!(problem.r#type, "https://ca.internal:8443/problems/scope-above-ceiling");
        assert_eq!((problem.status, problem.retry), (403, Retry::No));
        assert_eq!((problem.needs.len(), problem.holds.len(), problem.fix.len()), (1, 1, 1));
    }

    #[test]
    fn a_delay_is_told_as_one() {
        let problem = Refusal::new(Code::Internal, "the disk is full").after(5).into_problem("", None, None);
        assert_eq!(problem.retry, Retry::After);
    }
}
