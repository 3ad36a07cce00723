//! Points in time as every part of Tapedeck keeps them: whole microseconds since 1970, the
//! resolution of Postgres' `timestamptz`.

use std::fmt;
use std::ops::RangeInclusive;

use chrono::{DateTime, SecondsFormat, Utc};
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::data_types::PgTimestamp;
use diesel::pg::{Pg, PgValue};
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::Timestamptz;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use serde_json::value::RawValue;

/// Microseconds in a millisecond, the unit of a browser's `Date.now()`.
const MICROS_PER_MILLI: i64 = 1_000;

/// Microseconds from 1970-01-01 to 2000-01-01, where Postgres begins to count.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// The microseconds since 1970 of the years 0000 to 9999 in UTC, which RFC 3339 can write.
const RFC3339_MICROS: RangeInclusive<i64> = -62_167_219_200_000_000..=253_402_300_799_999_999;

/// A point in time: whole microseconds since 1970-01-01T00:00:00Z, whatever was finer cut off.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = Timestamptz)]
pub struct Timestamp(i64);

/// Why a text or number is no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimestampError {
    /// The text is not RFC 3339.
    #[error("is not an RFC 3339 time")]
    NotRfc3339,
    /// The JSON value is neither text nor a number.
    #[error("is neither RFC 3339 text nor a number of milliseconds since 1970")]
    NotATime,
    /// The number lies beyond what 64 bits of microseconds hold.
    #[error("is out of range")]
    OutOfRange,
}

impl Timestamp {
    /// The time `micros` microseconds after 1970-01-01T00:00:00Z.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// The system clock's time.
    pub fn now() -> Self {
        Self(Utc::now().timestamp_micros())
    }

    /// Microseconds since 1970.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole milliseconds since 1970, rounded down.
    pub const fn millis(self) -> i64 {
        self.0.div_euclid(MICROS_PER_MILLI)
    }

    /// As a `timestamptz` is in Postgres' binary format: microseconds since 2000, big-endian.
    pub const fn to_postgres(self) -> [u8; 8] {
        self.since_2000().to_be_bytes()
    }

    const fn since_2000(self) -> i64 {
        self.0.saturating_sub(POSTGRES_EPOCH_MICROS)
    }

    /// Seconds since 1970, the unit in which Prometheus wants times.
    #[expect(
        clippy::cast_precision_loss,
        reason = "microseconds of this millennium fit the 53 bits of an f64"
    )]
    pub fn as_seconds(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// Seconds from `earlier` to this time; negative when it was later.
    #[expect(
        clippy::cast_precision_loss,
        reason = "differences of interest are far below 2^53 microseconds"
    )]
    pub fn seconds_since(self, earlier: Self) -> f64 {
        self.0.saturating_sub(earlier.0) as f64 / 1e6
    }

    /// Reads RFC 3339 text, cut (not rounded) at the microsecond. Refuses what an offset moves
    /// out of the years that four digits can name: it could not be written as such text again.
    ///
    /// # Errors
    /// [`TimestampError::NotRfc3339`].
    pub fn parse_rfc3339(text: &str) -> Result<Self, TimestampError> {
        DateTime::parse_from_rfc3339(text)
            .ok()
            .map(|time| Self(time.timestamp_micros()))
            .filter(|time| RFC3339_MICROS.contains(&time.0))
            .ok_or(TimestampError::NotRfc3339)
    }

    /// Reads a JSON value as the recorder API does: RFC 3339 text, or milliseconds since 1970 as
    /// a number, which is read as a decimal (a float would lose microseconds) and cut at the
    /// microsecond.
    ///
    /// # Errors
    /// Says what the value is not, see [`TimestampError`].
    pub fn from_json(value: &str) -> Result<Self, TimestampError> {
        match value.as_bytes().first() {
            Some(b'"') => {
                let text: std::borrow::Cow<'_, str> =
                    serde_json::from_str(value).map_err(|_| TimestampError::NotRfc3339)?;
                Self::parse_rfc3339(&text)
            }
            Some(b'-' | b'0'..=b'9') => Self::from_decimal_millis(value),
            _ => Err(TimestampError::NotATime),
        }
    }

    /// Reads a JSON number as milliseconds since 1970.
    fn from_decimal_millis(number: &str) -> Result<Self, TimestampError> {
        let (negative, digits) = match number.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, number),
        };
        let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => {
                (mantissa, exponent.parse::<i64>().map_err(|_| TimestampError::OutOfRange)?)
            }
            None => (digits, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        // How many of the mantissa's digits stand before the point once the number counts
        // microseconds: three more than for milliseconds.
        let digits_before_point = i64::try_from(whole.len())
            .ok()
            .and_then(|length| length.checked_add(exponent)?.checked_add(3))
            .ok_or(TimestampError::OutOfRange)?;
        let mut micros: i64 = 0;
        let mut position = 0;
        let mut mantissa_digits = whole.bytes().chain(fraction.bytes());
        while position < digits_before_point {
            let digit = match mantissa_digits.next() {
                Some(digit) => i64::from(digit - b'0'),
                // Trailing zeros of a zero need not be counted out one by one.
                None if micros == 0 => break,
                None => 0,
            };
            micros = micros
                .checked_mul(10)
                .and_then(|shifted| shifted.checked_add(digit))
                .ok_or(TimestampError::OutOfRange)?;
            position += 1;
        }
        Ok(Self(if negative { -micros } else { micros }))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with six digits after the second.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::<Utc>::from_timestamp_micros(self.0) {
            Some(time) => formatter.write_str(&time.to_rfc3339_opts(SecondsFormat::Micros, true)),
            None => write!(formatter, "{} µs since 1970", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Serialize for Timestamp {
    /// A number of milliseconds, with decimals only where the time is finer: what
    /// [`Timestamp::from_json`] reads back unchanged.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let micros_of_milli = self.0.rem_euclid(MICROS_PER_MILLI);
        if micros_of_milli == 0 {
            return serializer.serialize_i64(self.millis());
        }
        let sign = if self.0 < 0 { "-" } else { "" };
        let magnitude = self.0.unsigned_abs();
        RawValue::from_string(format!("{sign}{}.{:03}", magnitude / 1_000, magnitude % 1_000))
            .map_err(ser::Error::custom)?
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    /// From JSON text only (the number's digits are needed), see [`Timestamp::from_json`].
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Self::from_json(raw.get()).map_err(de::Error::custom)
    }
}

impl ToSql<Timestamptz, Pg> for Timestamp {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        let since_2000 = PgTimestamp(self.since_2000());
        ToSql::<Timestamptz, Pg>::to_sql(&since_2000, &mut out.reborrow())
    }
}

impl FromSql<Timestamptz, Pg> for Timestamp {
    fn from_sql(bytes: PgValue<'_>) -> deserialize::Result<Self> {
        let PgTimestamp(since_2000) = FromSql::<Timestamptz, Pg>::from_sql(bytes)?;
        Ok(Self(since_2000.saturating_add(POSTGRES_EPOCH_MICROS)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_times_are_cut_at_the_microsecond() {
        fn check(json: &str, expected: Result<i64, TimestampError>) {
            assert_eq!(Timestamp::from_json(json).map(Timestamp::micros), expected, "{json}");
        }
        check("1704067200123", Ok(1_704_067_200_123_000));
        check("1704067200123.5", Ok(1_704_067_200_123_500));
        check("1704067200123.0019999", Ok(1_704_067_200_123_001));
        check("1.7040672001239999e12", Ok(1_704_067_200_123_999));
        check("17040672E5", Ok(1_704_067_200_000_000));
        check("1704067200123000e-3", Ok(1_704_067_200_123_000));
        check("0", Ok(0));
        check("-1.5", Ok(-1_500));
        check("0e999999999999", Ok(0));
        check("1e-999999999999", Ok(0));
        check("1e17", Err(TimestampError::OutOfRange));
        check("1e999999999999999999999", Err(TimestampError::OutOfRange));
        check(r#""2024-01-01T00:00:00.1239999Z""#, Ok(1_704_067_200_123_999));
        check(r#""2024-01-01T01:00:00+01:00""#, Ok(1_704_067_200_000_000));
        check(r#""2024-01-01""#, Err(TimestampError::NotRfc3339));
        check(r#""0000-01-01T00:00:00Z""#, Ok(-62_167_219_200_000_000));
        check(r#""0000-01-01T00:00:00+00:01""#, Err(TimestampError::NotRfc3339));
        check(r#""9999-12-31T23:59:59.999999Z""#, Ok(253_402_300_799_999_999));
        check(r#""9999-12-31T23:59:59-00:01""#, Err(TimestampError::NotRfc3339));
        check("true", Err(TimestampError::NotATime));
        check("null", Err(TimestampError::NotATime));
    }

    proptest::proptest! {
        #[test]
        fn json_written_is_read_back_unchanged(micros in -i64::MAX..=i64::MAX) {
            let time = Timestamp::from_micros(micros);
            let json = serde_json::to_string(&time).unwrap();
            proptest::prop_assert_eq!(Timestamp::from_json(&json), Ok(time));
        }

        #[test]
        fn rfc3339_written_is_read_back_unchanged(micros in RFC3339_MICROS) {
            let time = Timestamp::from_micros(micros);
            proptest::prop_assert_eq!(Timestamp::parse_rfc3339(&time.to_string()), Ok(time));
            let text = format!("\"{time}\"");
            proptest::prop_assert_eq!(Timestamp::from_json(&text), Ok(time));
        }
    }
}
