//! Instants against another calendar.

use std::time::Duration;

use proptest::prelude::*;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use chancery_identity::{Civil, Timestamp};

use crate::bodies;

fn any_instant() -> impl Strategy<Value = Timestamp> {
    (Timestamp::MIN.unix_millis()..=Timestamp::MAX.unix_millis()).prop_map(Timestamp::from_unix_millis)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn the_calendar_is_the_one_that_others_keep(at in any_instant()) {
        let theirs = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.unix_millis()) * 1_000_000).unwrap();
        prop_assert_eq!(at.civil(), Civil {
            year: theirs.year().into(),
            month: u8::from(theirs.month()).into(),
            day: theirs.day().into(),
            hour: theirs.hour().into(),
            minute: theirs.minute().into(),
            second: theirs.second().into(),
        });
        prop_assert_eq!(Timestamp::from_civil(at.civil()), Some(at.floor_to_second()));
        prop_assert_eq!(OffsetDateTime::parse(&at.to_string(), &Rfc3339).unwrap(), theirs);
        prop_assert_eq!(at.to_string().parse(), Ok(at));
        prop_assert_eq!(at.to_seconds_text().parse(), Ok(at.floor_to_second()));
    }

    #[test]
    fn only_dates_that_exist_have_an_instant(
        year in -1_i64..10_001, month in -1_i64..15, day in -1_i64..34, hour in -1_i64..26, minute in -1_i64..62,
        second in -1_i64..62
    ) {
        let theirs = i32::try_from(year).ok().filter(|y| (0..=9999).contains(y)).and_then(|year| {
            let month = time::Month::try_from(u8::try_from(month).ok()?).ok()?;
            let date = time::Date::from_calendar_date(year, month, u8::try_from(day).ok()?).ok()?;
            let [hour, minute, second] = [hour, minute, second].map(|n| u8::try_from(n).unwrap_or(99));
            Some(date.with_hms(hour, minute, second).ok()?.assume_utc().unix_timestamp())
        });
        let ours = Timestamp::from_civil(Civil { year, month, day, hour, minute, second });
        prop_assert_eq!(ours.map(Timestamp::unix_seconds), theirs);
    }

    #[test]
    fn sums_stay_in_range(at in any_instant(), step in any::<u64>()) {
        let step = Duration::from_millis(step);
        prop_assert!((at + step) >= at && (at + step) <= Timestamp::MAX);
        prop_assert!((at - step) <= at && (at - step) >= Timestamp::MIN);
        prop_assert!((at + step).since(at) <= step);
        prop_assert_eq!(at.since(at + step), Duration::ZERO);
    }

    #[test]
    fn any_text_at_all(text in any::<String>(), near in "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{2,4})?Z?") {
        bodies::timestamp(&text);
        bodies::timestamp(&near);
    }
}

#[test]
fn one_text_form_is_taken_with_milliseconds_and_without() {
    let at: Timestamp = "2026-11-21T14:00:00.012Z".parse().unwrap();
    assert_eq!(at.unix_millis(), 1_795_269_600_012);
    assert_eq!("2026-11-21T14:00:00Z".parse(), Ok(at.floor_to_second()));
    for text in [
        "",
        "Z",
        "2026-11-21",
        "2026-11-21T14:00:00",
        "2026-11-21t14:00:00z",
        "2026-11-21 14:00:00Z",
        "2026-11-21T14:00:00+00:00",
        "2026-11-21T14:00Z",
        "2026-11-21T14:00:00.1Z",
        "2026-11-21T14:00:00.1234Z",
        "2026-11-21T14:00:00.Z",
        "2026-11-21T14:00:60Z",
        "2026-11-21T24:00:00Z",
        "2025-02-29T00:00:00Z",
        "+026-11-21T14:00:00Z",
        "12026-11-21T14:00:00Z",
        "2026-1-21T14:00:00Z",
        "2026-11-21-00T14:00:00Z",
        "2026-11-21T14:00:00:00Z",
    ] {
        assert!(text.parse::<Timestamp>().is_err(), "{text}");
    }
}
