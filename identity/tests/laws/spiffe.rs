//! SPIFFE-ID.md, row by row, and the layout of our own IDs.

use proptest::prelude::*;

use chancery_identity::{Instance, Leaf, LeafError, Name, Principal, SpiffeId, SpiffeIdError, TrustDomain};

use crate::bodies;
use crate::certificates::{Flaw, leaf, with};

fn refused(text: &str) -> SpiffeIdError {
    text.parse::<SpiffeId>().expect_err(text)
}

fn taken(text: &str) -> SpiffeId {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// I1: the scheme is `spiffe`, the authority is not empty, there is neither query nor fragment.
#[test]
fn i01_scheme_authority_query_and_fragment() {
    for text in
        ["", "spiffe:", "spiffe:/a", "https://td/a", "spiffe:td/a", "SPIFFE://td/a", "Spiffe://td/a", " spiffe://td"]
    {
        assert!(matches!(refused(text), SpiffeIdError::Scheme(_)), "{text}");
    }
    assert_eq!(refused("spiffe://"), SpiffeIdError::NoTrustDomain);
    assert_eq!(refused("spiffe:///a"), SpiffeIdError::NoTrustDomain);
    assert_eq!(refused("spiffe://td/a?b"), SpiffeIdError::PathCharacter('?'));
    assert_eq!(refused("spiffe://td/a#b"), SpiffeIdError::PathCharacter('#'));
    assert_eq!(refused("spiffe://td?b"), SpiffeIdError::TrustDomainCharacter('?'));
    assert_eq!(refused("spiffe://td#b"), SpiffeIdError::TrustDomainCharacter('#'));
    taken("spiffe://td/a");
}

/// I2: neither user info nor port.
#[test]
fn i02_user_info_and_port() {
    assert_eq!(refused("spiffe://u@td/a"), SpiffeIdError::TrustDomainCharacter('@'));
    assert_eq!(refused("spiffe://u:p@td/a"), SpiffeIdError::TrustDomainCharacter(':'));
    assert_eq!(refused("spiffe://td:8080/a"), SpiffeIdError::TrustDomainCharacter(':'));
    assert_eq!(refused("spiffe://td:/a"), SpiffeIdError::TrustDomainCharacter(':'));
}

/// I3: the trust domain is lower case, of `a-z0-9.-_`, nothing percent-encoded.
#[test]
fn i03_trust_domain_characters() {
    for c in (0_u8..=255).map(char::from).filter(|&c| c != '/') {
        let allowed = matches!(c, 'a'..='z' | '0'..='9' | '.' | '-' | '_');
        assert_eq!(format!("spiffe://t{c}d/a").parse::<SpiffeId>().is_ok(), allowed, "{c:?}");
        assert_eq!(format!("t{c}d").parse::<TrustDomain>().is_ok(), allowed, "{c:?}");
    }
    assert_eq!(refused("spiffe://t%64/a"), SpiffeIdError::TrustDomainCharacter('%'));
    assert_eq!(refused("spiffe://Example.org/a"), SpiffeIdError::TrustDomainCharacter('E'));
}

/// I4: what looks like an address or a DNS name is handled like any other; IPv6 literals fall to the character set.
#[test]
fn i04_no_name_is_special() {
    for name in ["1.2.3.4", "example.org", "a..b", "-", ".", "_", "localhost", "255.255.255.256", "example.org."] {
        assert_eq!(taken(&format!("spiffe://{name}/a")).trust_domain().as_str(), name);
    }
    assert_eq!(refused("spiffe://[::1]/a"), SpiffeIdError::TrustDomainCharacter('['));
}

/// I5: no percent-encoding, no empty, `.` or `..` segment, no `/` at the end, only `[a-zA-Z0-9.-_]`.
#[test]
fn i05_path() {
    for path in ["/", "/a/", "/a//b", "//a", "/.", "/..", "/a/./b", "/a/../b", "/a/.."] {
        assert!(matches!(refused(&format!("spiffe://td{path}")), SpiffeIdError::Segment(_)), "{path}");
    }
    for c in (0_u8..=255).map(char::from).filter(|&c| c != '/') {
        let allowed = c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        assert_eq!(format!("spiffe://td/a{c}b").parse::<SpiffeId>().is_ok(), allowed, "{c:?}");
    }
    assert_eq!(refused("spiffe://td/%61"), SpiffeIdError::PathCharacter('%'));
    for path in ["/...", "/a/.b", "/..a", "/-", "/_"] {
        assert_eq!(taken(&format!("spiffe://td{path}")).path(), path);
    }
}

/// I6: up to 2048 bytes, scheme, trust domain and path all counted.
#[test]
fn i06_length() {
    let long = |len: usize| format!("spiffe://td/{}", "a".repeat(len - "spiffe://td/".len()));
    assert_eq!(taken(&long(2048)).as_str().len(), 2048);
    assert_eq!(refused(&long(2049)), SpiffeIdError::TooLong(2049));
}

/// I7: the longest ID that we make is shorter than that.
#[test]
fn i07_none_of_ours_is_too_long() {
    let td: TrustDomain = "t".repeat(255).parse().unwrap();
    let name: Name = "n".repeat(63).parse().unwrap();
    let instance = Instance::from_bytes([0xff; 16]);
    for id in [td.id(), td.agent(&name, instance), td.shared(&name), td.service(&name), td.admin(&name), td.server()] {
        assert_eq!(taken(id.as_str()), id);
    }
}

/// I8: a trust domain name has at most 255 bytes.
#[test]
fn i08_trust_domain_length() {
    taken(&format!("spiffe://{}/a", "t".repeat(255)));
    assert_eq!(refused(&format!("spiffe://{}/a", "t".repeat(256))), SpiffeIdError::TrustDomainTooLong(256));
}

/// I9: paths are compared with their case.
#[test]
fn i09_case_of_the_path() {
    assert_ne!(taken("spiffe://td/A"), taken("spiffe://td/a"));
}

/// I10 and I11: the ID that an authority carries is in its own trust domain and has no path.
#[test]
fn i10_i11_the_authority_s_own_id() {
    let td: TrustDomain = "example.org".parse().unwrap();
    assert_eq!(td.id().as_str(), "spiffe://example.org");
    assert_eq!(td.id().path(), "");
    assert!(td.id().is_in(&td));
    assert_eq!(td.id().principal(), Principal::Other);
    assert_eq!(taken("spiffe://example.org"), td.id());
}

/// I12: ID and key come from the part that the signature covers.
#[test]
fn i12_id_and_key_are_signed() {
    let der = leaf();
    let read = Leaf::read(&der).unwrap();
    let mut outer = chancery_identity::der::Reader::new(&der);
    let signed = outer.nested(0x30).unwrap().read_any().unwrap().2.as_ptr_range();
    assert!(signed.contains(&read.spiffe_id().as_ptr()));
    assert!(signed.contains(&read.spki().as_ptr()));
}

/// I13: what no SVID specification covers is no SVID: a certificate without the ID, a token.
#[test]
fn i13_other_documents() {
    assert_eq!(Leaf::read(&with(Flaw::NoUri)).unwrap_err(), LeafError::NoSpiffeId);
    assert!(matches!(Leaf::read(b"eyJhbGciOiJFUzI1NiJ9.e30.c2ln"), Err(LeafError::Der(_))));
}

/// I14: what one trust domain says of a name says nothing of the same name in another.
#[test]
fn i14_names_belong_to_their_trust_domain() {
    let (ours, theirs): (TrustDomain, TrustDomain) =
        ("example.org".parse().unwrap(), "example.org.evil".parse().unwrap());
    let name: Name = "crm".parse().unwrap();
    assert_ne!(ours.service(&name), theirs.service(&name));
    assert!(!theirs.service(&name).is_in(&ours));
    assert!(!ours.service(&name).is_in(&theirs));
    assert!(!taken("spiffe://example/org").is_in(&ours));
}

#[test]
fn our_layout_says_who_it_is() {
    let td: TrustDomain = "example.org".parse().unwrap();
    let name: Name = "invoice-bot".parse().unwrap();
    let instance = Instance::from_bytes(*b"0123456789abcdef");
    let agent = td.agent(&name, instance);
    assert_eq!(agent.principal(), Principal::Agent { name: "invoice-bot", instance, sub: None });
    assert_eq!(td.service(&name).principal(), Principal::Service("invoice-bot"));
    assert_eq!(td.admin(&name).principal(), Principal::Admin("invoice-bot"));
    assert_eq!(td.shared(&name).principal(), Principal::Shared("invoice-bot"));
    assert_eq!(td.server().principal(), Principal::Server);
    let child = taken(&format!("{agent}/sub/summary-1"));
    assert_eq!(child.principal(), Principal::Agent { name: "invoice-bot", instance, sub: Some("sub/summary-1") });
    for other in [
        "/agent",
        "/agent/invoice-bot",
        "/agent/Invoice/30313233-3435-3637-3839-616263646566",
        "/agent/sub/30313233-3435-3637-3839-616263646566",
        "/agent/invoice-bot/30313233-3435-3637-3839-61626364656",
        "/agent/invoice-bot/30313233-3435-3637-3839-61626364656F",
        "/agent/invoice-bot/30313233343536373839616263646566",
        "/agent/invoice-bot/30313233-3435-3637-3839-616263646566/other",
        "/agent/invoice-bot/30313233-3435-3637-3839-616263646566/sub",
        "/agent/invoice-bot/30313233-3435-3637-3839-616263646566/sub/a/b",
        "/service/crm/more",
        "/service/CRM",
        "/admin/-a",
        "/chancery/server/x",
        "/chancery/other",
        "/Service/crm",
    ] {
        assert_eq!(taken(&format!("spiffe://example.org{other}")).principal(), Principal::Other, "{other}");
    }
}

#[test]
fn names_are_one_segment_and_two_are_reserved() {
    for good in ["a", "0", "invoice-bot", "a.b", "a..", "a-", &"a".repeat(63)] {
        assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
    }
    for bad in ["", ".", "..", "-a", ".a", "A", "a_b", "a/b", "a b", "ä", "sub", "shared", &"a".repeat(64)] {
        assert!(bad.parse::<Name>().is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn what_parses_is_what_was_written(text in "(spiffe://)?[a-zA-Z0-9._%@:?#-]{0,6}(/[a-zA-Z0-9._%?#-]{0,4}){0,5}") {
        bodies::spiffe_id(&text);
    }

    #[test]
    fn any_text_at_all(text in any::<String>()) {
        bodies::spiffe_id(&text);
        bodies::spiffe_id(&format!("spiffe://{text}"));
    }
}
