//! What can be wrong with a certificate, one thing at a time.

use std::time::Duration;

use chancery_identity::der::{self, Reader, Writer, context, context_constructed};
use chancery_identity::{Ancestor, Constraint, GrantId, LEAF_LEN_MAX, Lineage, Scope, SpiffeId, oid};

use crate::draft::Draft;
use crate::{Issued, Subject};

/// The tag of a URI among GeneralNames.
const URI: u8 = context(6);
/// 1.3.6.1.4.1.32473.99, which nothing knows.
const UNKNOWN: &[u8] = &[0x2b, 6, 1, 4, 1, 0x81, 0xfd, 0x59, 99];

macro_rules! flaws {
    ($($(#[$doc:meta])* $flaw:ident => $code:literal,)+) => {
        /// One thing wrong with an otherwise good certificate of a subject that has a scope.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Flaw {
            $($(#[$doc])* $flaw,)+
        }

        impl Flaw {
            /// Every flaw.
            pub const ALL: [Self; [$($code),+].len()] = [$(Self::$flaw),+];

            /// The code of the verifier's denial.
            pub const fn code(self) -> &'static str {
                match self {
                    $(Self::$flaw => $code,)+
                }
            }
        }
    };
}

flaws! {
    /// Delegated by a certificate of another trust domain.
    AncestorForeign => "trust-domain-foreign",
    /// Delegated by a certificate that is revoked.
    AncestorRevoked => "ancestor-revoked",
    /// A CA certificate shown as a leaf.
    Authority => "certificate-is-authority",
    /// The issuing authority is revoked.
    AuthorityRevoked => "authority-revoked",
    /// The signature is not the authority's.
    BadSignature => "chain-untrusted",
    /// Over for an hour.
    Expired => "certificate-expired",
    /// One extension twice.
    ExtensionTwice => "certificate-malformed",
    /// Another CA that claims the trust domain.
    Impostor => "chain-untrusted",
    /// The issuing authority's certificate is not shown.
    IncompleteChain => "chain-untrusted",
    /// The key usage is not critical.
    KeyUsageNotCritical => "key-usage",
    /// A key usage of authorities.
    KeyUsageOfAuthority => "key-usage",
    /// A grant that is none.
    MalformedGrant => "grant-malformed",
    /// A scope that is none.
    MalformedScope => "scope-malformed",
    /// Extended key usage without clientAuth.
    NoClientAuth => "extended-key-usage",
    /// The issuing authority publishes no CRL.
    NoCrl => "revocation-unknown",
    /// No key usage.
    NoKeyUsage => "key-usage",
    /// The trust domain's own SPIFFE ID, as authorities have it.
    NoPath => "spiffe-id-invalid",
    /// No scopes at all.
    NoScopes => "scope-missing",
    /// No SPIFFE ID.
    NoSpiffeId => "spiffe-id-invalid",
    /// Valid in an hour.
    NotYetValid => "certificate-not-yet-valid",
    /// A URI of another scheme.
    OtherScheme => "spiffe-id-invalid",
    /// Longer than any leaf.
    Oversize => "certificate-too-large",
    /// Revoked.
    Revoked => "certificate-revoked",
    /// Scopes and no grant.
    ScopesWithoutGrant => "scopes-without-grant",
    /// The subject is empty and the subjectAltName not critical.
    SubjectAltNameNotCritical => "certificate-malformed",
    /// A scope of the right system for something else.
    TooNarrow => "scope-missing",
    /// Two grants.
    TwoGrants => "grant-not-unique",
    /// Two SPIFFE IDs.
    TwoSpiffeIds => "spiffe-id-not-unique",
    /// A constraint that no verifier knows.
    UnknownConstraint => "constraint-unknown",
    /// A critical extension that nobody knows.
    UnknownCriticalExtension => "unknown-critical-extension",
    /// A grant of a later version.
    UnknownGrantVersion => "grant-version-unknown",
    /// The right scope of another system.
    WrongSystem => "scope-missing",
    /// A SPIFFE ID of another trust domain.
    WrongTrustDomain => "trust-domain-foreign",
}

impl Flaw {
    /// A certificate of the subject with this flaw.
    pub(crate) fn issue(self, mut subject: Subject) -> Issued {
        self.mar_claims(&mut subject);
        let ca = subject.ca.clone();
        let issuing = match self {
            Self::AuthorityRevoked => ca.revoked().clone(),
            Self::Impostor => ca.impostor().issuing().clone(),
            Self::NoCrl => ca.unlisted().clone(),
            _ => ca.issuing().clone(),
        };
        let mut issued = subject.issue_by(&issuing);
        let mut draft = Draft::read(issued.leaf());
        if self.mar(&mut draft, &subject) {
            let mut der = draft.sign(&*issuing.signer);
            if self == Self::BadSignature {
                let last = der.pop();
                der.extend(last.map(|last| last ^ 1));
            }
            issued.chain.splice(..1, [der.into()]);
        }
        if self == Self::IncompleteChain {
            issued.chain.truncate(1);
        }
        issued
    }

    /// What is wrong about the claims, which the ca crate signs as the caller says.
    fn mar_claims(self, subject: &mut Subject) {
        let ca = subject.ca.clone();
        let each = |scopes: &mut Vec<Scope>, change: &dyn Fn(&Scope) -> String| {
            *scopes = scopes.iter().map(|scope| change(scope).parse().expect("a scope")).collect();
        };
        let ancestor = |spiffe_id: SpiffeId| Ancestor {
            spiffe_id,
            lineage: Lineage::from_bytes([9; 16]),
            authority: ca.authority().key_id(),
            serial: ca.next_serial(),
            grant: GrantId::from_bytes([9; 16]),
            planned_at: 1,
        };
        match (self, &mut subject.grant) {
            (Self::NoScopes, _) => subject.scopes.clear(),
            (Self::TooNarrow, _) => each(&mut subject.scopes, &|scope| format!("nothing:{}/at/all", scope.system())),
            (Self::WrongSystem, _) => {
                each(&mut subject.scopes, &|scope| format!("{}:elsewhere/{}", scope.action(), scope.object()));
            }
            (Self::AncestorForeign, Some(grant)) => {
                grant.chain.push(ancestor("spiffe://elsewhere.test/agent/a".parse().expect("a SPIFFE ID")));
            }
            (Self::AncestorRevoked, Some(grant)) => {
                let id = ca.trust_domain().shared(&"parent".parse().expect("a name"));
                grant.chain.push(Ancestor { serial: ca.revoked_serial(), ..ancestor(id) });
            }
            (Self::UnknownConstraint, Some(grant)) => {
                grant.constraints.push(Constraint { oid: UNKNOWN.into(), value: vec![der::NULL, 0] });
            }
            _ => {}
        }
    }

    /// What is wrong about the certificate; whether anything is.
    fn mar(self, draft: &mut Draft, subject: &Subject) -> bool {
        const HOUR: Duration = Duration::from_secs(3600);
        let now = subject.ca.now();
        match self {
            Self::Authority => draft.extension(oid::BASIC_CONSTRAINTS).set(|w| {
                w.nested(der::SEQUENCE, |w| {
                    w.boolean(true);
                });
            }),
            Self::BadSignature => {}
            Self::Expired => (draft.not_before, draft.not_after) = (now - 2 * HOUR, now - HOUR),
            Self::ExtensionTwice => {
                let twice = draft.extension(oid::SUBJECT_KEY_ID).clone();
                draft.extensions.push(twice);
            }
            Self::KeyUsageNotCritical => draft.extension(oid::KEY_USAGE).critical = false,
            Self::KeyUsageOfAuthority => draft.extension(oid::KEY_USAGE).value = vec![der::BIT_STRING, 2, 1, 0x86],
            Self::MalformedGrant => draft.extension(oid::GRANT).set(|w| {
                w.nested(der::SEQUENCE, |_| {});
            }),
            Self::MalformedScope => add_name(draft, |w| scope(w, "not a scope")),
            Self::NoClientAuth => draft.extension(oid::EXTENDED_KEY_USAGE).set(|w| {
                w.nested(der::SEQUENCE, |w| {
                    w.oid(oid::SERVER_AUTH);
                });
            }),
            Self::NoKeyUsage => draft.remove(oid::KEY_USAGE),
            Self::NoSpiffeId => replace_uri(draft, None),
            Self::NoPath => replace_uri(draft, Some(subject.ca.trust_domain().id().as_str())),
            Self::NotYetValid => (draft.not_before, draft.not_after) = (now + HOUR, now + 2 * HOUR),
            Self::OtherScheme => replace_uri(draft, Some("https://example.org/agent")),
            Self::Oversize => draft.push(UNKNOWN, false, |w| {
                w.octets(&[0; LEAF_LEN_MAX]);
            }),
            Self::Revoked => draft.serial = subject.ca.revoked_serial(),
            Self::ScopesWithoutGrant => draft.remove(oid::GRANT),
            Self::SubjectAltNameNotCritical => draft.extension(oid::SUBJECT_ALT_NAME).critical = false,
            Self::TwoGrants => {
                let twice = draft.extension(oid::GRANT).clone();
                draft.extensions.push(twice);
            }
            Self::TwoSpiffeIds => add_name(draft, |w| {
                w.value(URI, b"spiffe://example.org/agent/another");
            }),
            Self::UnknownCriticalExtension => draft.push(UNKNOWN, true, |w| {
                w.value(der::NULL, &[]);
            }),
            Self::UnknownGrantVersion => {
                let grant = draft.extension(oid::GRANT);
                grant.value = next_version(&grant.value);
            }
            Self::WrongTrustDomain => replace_uri(draft, Some("spiffe://elsewhere.test/agent/a")),
            // These are about the claims, the authority or the chain.
            Self::AncestorForeign
            | Self::AncestorRevoked
            | Self::AuthorityRevoked
            | Self::Impostor
            | Self::IncompleteChain
            | Self::NoCrl
            | Self::NoScopes
            | Self::TooNarrow
            | Self::UnknownConstraint
            | Self::WrongSystem => return false,
        }
        true
    }
}

fn scope(w: &mut Writer, text: &str) {
    w.nested(context_constructed(0), |w| {
        w.oid(oid::SCOPE).nested(context_constructed(0), |w| {
            w.utf8(text);
        });
    });
}

/// The names of a good certificate, tag and whole.
fn names(draft: &mut Draft) -> Vec<(u8, Vec<u8>)> {
    let mut names = Vec::new();
    let mut list = Reader::new(&draft.extension(oid::SUBJECT_ALT_NAME).value).nested(der::SEQUENCE).expect("names");
    while let Ok((tag, _, whole)) = list.read_any() {
        names.push((tag, whole.to_vec()));
    }
    names
}

fn set_names(draft: &mut Draft, names: &[(u8, Vec<u8>)]) {
    draft.extension(oid::SUBJECT_ALT_NAME).set(|w| {
        w.nested(der::SEQUENCE, |w| {
            for (_, whole) in names {
                w.raw(whole);
            }
        });
    });
}

fn add_name(draft: &mut Draft, name: impl FnOnce(&mut Writer)) {
    let mut names = names(draft);
    let mut writer = Writer::new();
    name(&mut writer);
    names.push((0, writer.finish()));
    set_names(draft, &names);
}

fn replace_uri(draft: &mut Draft, uri: Option<&str>) {
    let mut names = names(draft);
    names.retain(|(tag, _)| *tag != URI);
    if uri.is_none() && names.is_empty() {
        // RFC 5280 §4.2.1.6: the list is never empty.
        names.push((0, vec![context(2), 4, b't', b'e', b's', b't']));
    }
    set_names(draft, &names);
    if let Some(uri) = uri {
        add_name(draft, |w| {
            w.value(URI, uri.as_bytes());
        });
    }
}

/// The same grant with the next version's number.
fn next_version(grant: &[u8]) -> Vec<u8> {
    let mut fields = Reader::new(grant).nested(der::SEQUENCE).expect("a grant");
    let version = fields.unsigned_64().expect("its version");
    let mut writer = Writer::new();
    writer.nested(der::SEQUENCE, |w| {
        w.unsigned_64(version + 1);
        while let Ok((_, _, whole)) = fields.read_any() {
            w.raw(whole);
        }
    });
    writer.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::TestCa;

    /// What the verifier says of each is tested where the verifier is; here, that each is made, and no two are the same.
    #[test]
    fn every_flaw_makes_another_certificate_than_none() {
        let ca = TestCa::new("example.org");
        let good = ca.agent("bot").scope("tools/call:crm/get_customer").scope("GET:crm/customers/*");
        let shape = |issued: Issued| {
            let draft = Draft::read(issued.leaf());
            let extensions: Vec<_> = draft.extensions.into_iter().map(|e| (e.id, e.critical, e.value)).collect();
            let revoked = draft.serial == ca.revoked_serial();
            (issued.chain.len(), extensions, draft.not_before, draft.issuer, revoked)
        };
        let mut seen = HashSet::from([shape(good.issue())]);
        for flaw in Flaw::ALL {
            assert!(seen.insert(shape(good.with(flaw).issue())) || flaw == Flaw::BadSignature, "{flaw:?}");
        }
    }
}
