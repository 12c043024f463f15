//! Instants, without a clock.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::Duration;

/// An instant: milliseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
///
/// Displays as RFC 3339 in UTC with milliseconds, `2026-11-21T14:00:00.012Z`, and parses that and the same without the
/// fraction. Years 0000 to 9999.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The first instant that has a text form.
    pub const MIN: Self = Self(-62_167_219_200_000);
    /// The last instant that has a text form.
    pub const MAX: Self = Self(253_402_300_799_999);

    /// From milliseconds since the Unix epoch, held within [`Timestamp::MIN`] and [`Timestamp::MAX`].
    pub const fn from_unix_millis(millis: i64) -> Self {
        if millis < Self::MIN.0 {
            Self::MIN
        } else if millis > Self::MAX.0 {
            Self::MAX
        } else {
            Self(millis)
        }
    }

    /// From whole seconds since the Unix epoch, held within [`Timestamp::MIN`] and [`Timestamp::MAX`].
    pub const fn from_unix_seconds(seconds: i64) -> Self {
        Self::from_unix_millis(seconds.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    pub const fn unix_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// The same instant without its milliseconds, as a certificate writes it.
    pub const fn floor_to_second(self) -> Self {
        Self(self.0 - self.0.rem_euclid(1000))
    }

    /// The time from `earlier` to `self`; zero when `earlier` is the later one.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The text form in whole seconds, as certificate fields show it: `2026-11-21T14:00:00Z`.
    pub fn to_seconds_text(self) -> String {
        let mut text = self.to_string();
        text.replace_range("2026-11-21T14:00:00".len().., "Z");
        text
    }

    /// The calendar fields in UTC.
    pub fn civil(self) -> Civil {
        let seconds = self.unix_seconds();
        let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // Days are counted from 0000-03-01, so that the leap day ends the year (the proleptic Gregorian calendar).
        let z = days + 719_468;
        let era = z.div_euclid(146_097);
        let day_of_era = z.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Civil { year, month, day, hour: of_day / 3600, minute: of_day / 60 % 60, second: of_day % 60 }
    }

    /// From calendar fields in UTC; `None` when no such instant exists.
    pub fn from_civil(civil: Civil) -> Option<Self> {
        let Civil { year, month, day, hour, minute, second } = civil;
        let in_range = (0..=9999).contains(&year)
            && (1..=12).contains(&month)
            && (1..=days_in_month(year, month)).contains(&day)
            && (0..24).contains(&hour)
            && (0..60).contains(&minute)
            && (0..60).contains(&second);
        if !in_range {
            return None;
        }
        let shifted_year = if month <= 2 { year - 1 } else { year };
        let era = shifted_year.div_euclid(400);
        let year_of_era = shifted_year.rem_euclid(400);
        let shifted_month = if month > 2 { month - 3 } else { month + 9 };
        let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * 146_097 + day_of_era - 719_468;
        Some(Self::from_unix_seconds(days * 86_400 + hour * 3600 + minute * 60 + second))
    }
}

/// Calendar fields in UTC, for writing and reading text and DER times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a calendar has no further fields")]
pub struct Civil {
    /// 0 to 9999.
    pub year: i64,
    /// 1 to 12.
    pub month: i64,
    /// 1 to 31.
    pub day: i64,
    /// 0 to 23.
    pub hour: i64,
    /// 0 to 59.
    pub minute: i64,
    /// 0 to 59.
    pub second: i64,
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_unix_millis(self.0.saturating_add(millis))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_unix_millis(self.0.saturating_sub(millis))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Civil { year, month, day, hour, minute, second } = self.civil();
        // Digit by digit: formatting fields shows in the rate of issuance.
        let mut text = *b"yyyy-mm-ddThh:mm:ss.mmmZ";
        let mut fields = text.split_mut(|byte| !byte.is_ascii_lowercase());
        for value in [year, month, day, hour, minute, second, self.0.rem_euclid(1000)] {
            put_digits(fields.next().unwrap_or_default(), value);
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        parse(text).ok_or(TimestampError)
    }
}

fn parse(text: &str) -> Option<Timestamp> {
    let (whole, millis) = match text.strip_suffix('Z')?.split_once('.') {
        Some((whole, fraction)) if fraction.len() == 3 => (whole, digits(fraction)?),
        Some(_) => return None,
        None => (text.strip_suffix('Z')?, 0),
    };
    let (date, clock) = whole.split_once('T')?;
    let mut date = date.split('-');
    let mut clock = clock.split(':');
    let field = |text: Option<&str>, width: usize| text.filter(|t| t.len() == width).and_then(digits);
    let civil = Civil {
        year: field(date.next(), 4)?,
        month: field(date.next(), 2)?,
        day: field(date.next(), 2)?,
        hour: field(clock.next(), 2)?,
        minute: field(clock.next(), 2)?,
        second: field(clock.next(), 2)?,
    };
    if date.next().is_some() || clock.next().is_some() {
        return None;
    }
    let seconds = Timestamp::from_civil(civil)?;
    Some(Timestamp::from_unix_millis(seconds.unix_millis() + millis))
}

/// Fills a field with a value in decimal.
fn put_digits(field: &mut [u8], mut value: i64) {
    for digit in field.iter_mut().rev() {
        *digit = b'0' + u8::try_from(value % 10).unwrap_or_default();
        value /= 10;
    }
}

fn digits(text: &str) -> Option<i64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// The text is no instant in RFC 3339 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampError;

impl fmt::Display for TimestampError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a time in RFC 3339 UTC: wanted a form like 2026-11-21T14:00:00Z")
    }
}

impl std::error::Error for TimestampError {}
