//! DER: the writer writes what the reader takes, and the reader takes nothing else.

use proptest::prelude::*;

use chancery_identity::Timestamp;
use chancery_identity::der::{DerError, INTEGER, OCTET_STRING, Reader, SEQUENCE, Writer};

use crate::bodies;

fn written(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::new();
    write(&mut writer);
    writer.finish()
}

proptest! {
    #[test]
    fn values_of_every_length_come_back(tag in any::<u8>(), len in prop_oneof![0..300_usize, 65_500..65_600_usize]) {
        prop_assume!(tag & 0x1f != 0x1f);
        let contents = vec![0xa5; len];
        let der = written(|w| { w.value(tag, &contents); });
        let nested = written(|w| { w.boolean(true).nested(tag, |w| { w.raw(&contents); }); });
        prop_assert_eq!(nested.strip_prefix(&[1, 1, 0xff]), Some(der.as_slice()), "as contents that were not known before");
        let mut reader = Reader::new(&der);
        prop_assert_eq!(reader.read_any(), Ok((tag, contents.as_slice(), der.as_slice())));
        prop_assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn numbers_come_back(value in any::<u64>(), magnitude in prop::collection::vec(any::<u8>(), 0..24)) {
        let der = written(|w| { w.unsigned_64(value).unsigned(&magnitude); });
        let mut reader = Reader::new(&der);
        prop_assert_eq!(reader.unsigned_64(), Ok(value));
        let significant: Vec<u8> = magnitude.into_iter().skip_while(|&b| b == 0).collect();
        let wanted = if significant.is_empty() { vec![0] } else { significant };
        prop_assert_eq!(reader.unsigned(), Ok(wanted.as_slice()));
    }

    #[test]
    fn text_octets_and_booleans_come_back(text in any::<String>(), octets in any::<[u8; 32]>(), flag in any::<bool>()) {
        let der = written(|w| { w.utf8(&text).octets(&octets).boolean(flag); });
        let mut reader = Reader::new(&der);
        prop_assert_eq!(reader.utf8(), Ok(text.as_str()));
        prop_assert_eq!(reader.octets::<32>(), Ok(octets));
        prop_assert_eq!(reader.boolean(), Ok(flag));
        prop_assert!(reader.at_end());
    }

    #[test]
    fn times_come_back(seconds in Timestamp::MIN.unix_seconds()..=Timestamp::MAX.unix_seconds()) {
        let at = Timestamp::from_unix_seconds(seconds);
        let der = written(|w| { w.time(at); });
        prop_assert_eq!(Reader::new(&der).time(), Ok(at));
        let utc = (1950..2050).contains(&at.civil().year);
        prop_assert_eq!(der.first(), Some(if utc { &0x17 } else { &0x18 }));
    }

    #[test]
    fn what_is_read_is_what_would_be_written(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        bodies::der(&bytes);
    }

    #[test]
    fn a_value_that_is_cut_is_refused(len in 1..400_usize, keep in 0..400_usize) {
        let der = written(|w| { w.octets(&vec![1; len]); });
        prop_assume!(keep < der.len());
        prop_assert_eq!(Reader::new(&der[..keep]).read(OCTET_STRING), Err(DerError::Truncated));
    }
}

#[test]
fn what_is_not_der_is_refused() {
    let read = |der: &'static [u8]| Reader::new(der).read_any().map(|_| ()).unwrap_err();
    assert_eq!(read(&[]), DerError::Truncated);
    assert_eq!(read(&[0x30]), DerError::Truncated);
    assert_eq!(read(&[0x30, 0x80, 0, 0]), DerError::Length, "indefinite");
    assert_eq!(read(&[0x04, 0x81, 0x01, 0]), DerError::Length, "the short form would do");
    assert_eq!(read(&[0x04, 0x82, 0x00, 0x80]), DerError::Length, "a leading zero");
    assert_eq!(read(&[0x04, 0x85, 1, 0, 0, 0, 0]), DerError::Length, "more than four bytes of length");
    assert_eq!(read(&[0x04, 0x84, 0xff, 0xff, 0xff, 0xff]), DerError::Truncated);
    assert_eq!(read(&[0x1f, 0x81, 0x01, 0]), DerError::LongTag);
    let number = |der: &'static [u8]| Reader::new(der).unsigned().map(|_| ()).unwrap_err();
    assert_eq!(number(&[INTEGER, 0]), DerError::Value("INTEGER"));
    assert_eq!(number(&[INTEGER, 1, 0x80]), DerError::Negative);
    assert_eq!(number(&[INTEGER, 2, 0, 1]), DerError::Value("INTEGER"));
    assert_eq!(number(&[SEQUENCE, 0]), DerError::Tag { wanted: INTEGER, found: SEQUENCE });
    assert_eq!(Reader::new(&[1, 1, 1]).boolean(), Err(DerError::Value("BOOLEAN")));
    assert_eq!(Reader::new(&[INTEGER, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0]).unsigned_64(), Err(DerError::Value("INTEGER")));
}

#[test]
fn times_in_forms_that_rfc_5280_forbids_are_refused() {
    let time = |tag: u8, text: &str| {
        Reader::new(&written(|w| {
            w.value(tag, text.as_bytes());
        }))
        .time()
    };
    assert_eq!(time(0x17, "491231235959Z").map(|at| at.to_seconds_text()).as_deref(), Ok("2049-12-31T23:59:59Z"));
    assert_eq!(time(0x17, "500101000000Z").map(|at| at.to_seconds_text()).as_deref(), Ok("1950-01-01T00:00:00Z"));
    assert_eq!(time(0x18, "99991231235959Z").map(|at| at.to_seconds_text()).as_deref(), Ok("9999-12-31T23:59:59Z"));
    for (tag, text) in [
        (0x17, "2611211400Z"),
        (0x17, "261121140000"),
        (0x17, "261121140000+0100"),
        (0x17, "261121140000.5Z"),
        (0x17, "26112114000 Z"),
        (0x17, "260229000000Z"),
        (0x17, "261301000000Z"),
        (0x17, "261121240000Z"),
        (0x17, "261121140060Z"),
        (0x18, "20261121140000Z"),
        (0x18, "20500101000000.0Z"),
        (0x18, "205001010000Z"),
        (0x18, "-0500101000000Z"),
    ] {
        assert_eq!(time(tag, text), Err(DerError::Value("time")), "{text}");
    }
}
