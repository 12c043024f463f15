//! The grant extension: one encoding for each grant, and nothing else is read.

use proptest::prelude::*;

use chancery_identity::der::{self, Reader, Writer};
use chancery_identity::{
    Ancestor, ApprovalId, Attestation, Constraint, Grant, GrantError, GrantId, Instance, KeyId, Lineage, Name,
    OnBehalfOf, Serial, System, Task, Timestamp,
};

use crate::bodies;
use crate::certificates::{domain, full_grant, plain_grant};

fn name() -> impl Strategy<Value = Name> {
    "[a-z0-9][a-z0-9.-]{0,62}"
        .prop_filter("reserved", |name| !matches!(name.as_str(), "sub" | "shared"))
        .prop_map(|name| name.parse().unwrap())
}

fn ancestor() -> impl Strategy<Value = Ancestor> {
    let ids = (any::<[u8; 16]>(), any::<[u8; 16]>(), any::<[u8; 20]>(), any::<[u8; 16]>());
    (name(), ids, prop::collection::vec(any::<u8>(), 0..19), any::<u64>()).prop_map(
        |(name, (instance, lineage, authority, grant), serial, planned_at)| Ancestor {
            spiffe_id: domain().agent(&name, Instance::from_bytes(instance)),
            lineage: Lineage::from_bytes(lineage),
            authority: KeyId::from_bytes(authority),
            serial: Serial::from_bytes(&[&[1], serial.as_slice()].concat()).unwrap(),
            grant: GrantId::from_bytes(grant),
            planned_at,
        },
    )
}

prop_compose! {
    fn grant()(
        ids in any::<([u8; 16], [u8; 16])>(),
        name in name(),
        owner in name(),
        numbers in any::<(u64, u64, u64, u64)>(),
        systems in prop::collection::vec("[a-z0-9.-]{1,63}", 0..3),
        attestation in (any::<String>(), any::<[u8; 32]>(), 0_i64..253_402_300_800),
        on_behalf_of in prop::option::of(any::<(String, String)>()),
        task in prop::option::of(any::<(String, Option<[u8; 16]>, Option<[u8; 32]>)>()),
        chain in prop::collection::vec(ancestor(), 0..4),
        depth_left in 0_u8..=7,
        constraints in prop::collection::vec(any::<(Vec<u8>, Vec<u8>)>(), 0..3),
    ) -> Grant {
        Grant {
            id: GrantId::from_bytes(ids.0),
            name,
            revision: numbers.0,
            owner,
            systems: systems.iter().map(|system| system.parse::<System>().unwrap()).collect(),
            lineage: Lineage::from_bytes(ids.1),
            epoch: numbers.1,
            planned_at: numbers.2,
            seen: numbers.3,
            attestation: Attestation {
                method: attestation.0,
                digest: attestation.1,
                at: Timestamp::from_unix_seconds(attestation.2),
            },
            on_behalf_of: on_behalf_of.map(|(issuer, subject)| OnBehalfOf { issuer, subject }),
            task: task.map(|(id, approval, arguments)| Task {
                id,
                approval: approval.map(ApprovalId::from_bytes),
                arguments,
            }),
            chain,
            depth_left, chosen: false,
            constraints: constraints.into_iter().map(|(oid, value)| Constraint { oid, value }).collect(),
        }
    }
}

proptest! {
    #[test]
    fn what_was_written_is_read(grant in grant()) {
        prop_assert_eq!(Grant::from_der(&grant.to_der()), Ok(grant));
    }

    #[test]
    fn different_grants_have_different_bytes(one in grant(), other in grant()) {
        prop_assert_eq!(one == other, one.to_der() == other.to_der());
    }

    #[test]
    fn a_splice_is_refused_or_is_another_grant_in_its_one_encoding(
        from in 0..400_usize, len in 0..8_usize, with in prop::collection::vec(any::<u8>(), 0..8)
    ) {
        let mut der = full_grant().to_der();
        let from = from.min(der.len());
        let to = (from + len).min(der.len());
        der.splice(from..to, with);
        bodies::grant(&der);
    }

    #[test]
    fn no_bytes_upset_it(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        bodies::grant(&bytes);
    }
}

#[test]
fn every_flipped_bit_is_refused_or_means_another_grant() {
    for grant in [plain_grant(), full_grant()] {
        let mut der = grant.to_der();
        for at in 0..der.len() {
            for bit in 0..8 {
                der[at] ^= 1 << bit;
                assert_ne!(Grant::from_der(&der), Ok(grant.clone()), "bit {bit} of byte {at}");
                bodies::grant(&der);
                der[at] ^= 1 << bit;
            }
        }
    }
}

#[test]
fn every_truncation_and_every_trailing_byte_is_refused() {
    let der = full_grant().to_der();
    for len in 0..der.len() {
        assert!(Grant::from_der(&der[..len]).is_err(), "{len} bytes");
    }
    assert!(Grant::from_der(&[der.as_slice(), &[0]].concat()).is_err());
}

#[test]
fn another_version_is_refused_by_its_number() {
    let der = plain_grant().to_der();
    let mut reader = Reader::new(&der);
    let mut fields = reader.nested(der::SEQUENCE).unwrap();
    fields.read(der::INTEGER).unwrap();
    for version in [0, 2, u64::MAX] {
        let mut writer = Writer::new();
        writer.nested(der::SEQUENCE, |w| {
            w.unsigned_64(version);
            let mut rest = fields.clone();
            while let Ok((_, _, whole)) = rest.read_any() {
                w.raw(whole);
            }
        });
        assert_eq!(Grant::from_der(&writer.finish()), Err(GrantError::Version(version)));
    }
}

/// A grant that leaves an empty list standing says the same in other bytes.
#[test]
fn an_empty_list_has_no_encoding() {
    let der = plain_grant().to_der();
    let contents = Reader::new(&der).read(der::SEQUENCE).unwrap();
    for tag in [0, 3, 4] {
        let mut writer = Writer::new();
        writer.nested(der::SEQUENCE, |w| {
            w.raw(contents).nested(der::context_constructed(tag), |_| {});
        });
        assert_eq!(Grant::from_der(&writer.finish()), Err(GrantError::Field("encoding")), "[{tag}]");
    }
}

#[test]
fn the_deepest_delegation_is_bounded() {
    let deep = Grant { depth_left: 8, chosen: false, ..plain_grant() };
    assert_eq!(Grant::from_der(&deep.to_der()), Err(GrantError::Field("depth left")));
}
