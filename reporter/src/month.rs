//! Calendar months in UTC.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, Months as MonthCount, NaiveDate, NaiveTime, Utc};
use common::time::Timestamp;

/// A calendar month in UTC: from its first day's midnight, inclusive, to that of the next
/// month, exclusive.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month {
    first_day: NaiveDate,
}

/// The text names no month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a month like 2026-10")]
pub struct NotAMonth;

impl Month {
    /// The month in which the day lies.
    pub fn of_day(day: NaiveDate) -> Self {
        Self { first_day: day.with_day(1).unwrap_or(day) }
    }

    /// The month in which the time lies; none beyond the calendar, whose years have six digits.
    pub fn containing(time: Timestamp) -> Option<Self> {
        DateTime::<Utc>::from_timestamp_micros(time.micros())
            .map(|time| Self::of_day(time.date_naive()))
    }

    /// Its first day.
    pub const fn first_day(self) -> NaiveDate {
        self.first_day
    }

    /// The first microsecond in it.
    pub fn start(self) -> Timestamp {
        let midnight = self.first_day.and_time(NaiveTime::MIN).and_utc();
        Timestamp::from_micros(midnight.timestamp_micros())
    }

    /// The month after; at the calendar's end the month itself.
    #[must_use]
    pub fn next(self) -> Self {
        let first_day = self.first_day.checked_add_months(MonthCount::new(1));
        Self { first_day: first_day.unwrap_or(self.first_day) }
    }

    /// The month that many months before; at the calendar's beginning the month itself.
    #[must_use]
    pub fn back(self, months: u32) -> Self {
        let first_day = self.first_day.checked_sub_months(MonthCount::new(months));
        Self { first_day: first_day.unwrap_or(self.first_day) }
    }
}

impl FromStr for Month {
    type Err = NotAMonth;

    /// Four digits of the year, a hyphen, two of the month.
    fn from_str(text: &str) -> Result<Self, NotAMonth> {
        let well_formed = text.len() == "2026-10".len()
            && text.bytes().enumerate().all(|(place, byte)| match place {
                4 => byte == b'-',
                _ => byte.is_ascii_digit(),
            });
        if !well_formed {
            return Err(NotAMonth);
        }
        format!("{text}-01").parse().map(|first_day| Self { first_day }).map_err(|_| NotAMonth)
    }
}

impl fmt::Display for Month {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.first_day.format("%Y-%m"))
    }
}

impl fmt::Debug for Month {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// The months from `first` to `last`, both included; none when `last` is earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Months {
    /// The earliest.
    pub first: Month,
    /// The latest.
    pub last: Month,
}

impl Months {
    /// The first microsecond in them.
    pub fn start(self) -> Timestamp {
        self.first.start()
    }

    /// The first microsecond after them.
    pub fn end(self) -> Timestamp {
        self.last.next().start()
    }

    /// Each of them, in order.
    pub fn iter(self) -> impl Iterator<Item = Month> {
        std::iter::successors(Some(self.first), |month| {
            Some(month.next()).filter(|next| next != month)
        })
        .take_while(move |month| *month <= self.last)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn month(text: &str) -> Month {
        text.parse().unwrap()
    }

    fn time(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(text).unwrap()
    }

    #[test]
    fn a_month_begins_at_midnight_and_ends_a_microsecond_before_the_next() {
        fn check(at: &str, expected: &str) {
            assert_eq!(Month::containing(time(at)), Some(month(expected)), "{at}");
        }
        check("2026-10-01T00:00:00Z", "2026-10");
        check("2026-10-31T23:59:59.999999Z", "2026-10");
        check("2026-11-01T00:00:00Z", "2026-11");
        check("2026-10-31T23:59:59.999999-00:01", "2026-11");
        check("2024-02-29T12:00:00Z", "2024-02");
        check("1969-12-31T23:59:59.999999Z", "1969-12");
        assert_eq!(Month::containing(Timestamp::from_micros(i64::MAX)), None);
    }

    #[test]
    fn months_are_written_as_year_and_month() {
        fn check(text: &str, expected: Option<&str>) {
            assert_eq!(
                text.parse::<Month>().ok().map(|month| month.to_string()).as_deref(),
                expected
            );
        }
        check("2026-10", Some("2026-10"));
        check("0001-01", Some("0001-01"));
        for wrong in [
            "",
            "2026",
            "2026-13",
            "2026-00",
            "2026-1",
            "2026-10-01",
            "26-10",
            "+026-10",
            "2026/10",
        ] {
            check(wrong, None);
        }
    }

    #[test]
    fn a_range_has_both_its_ends() {
        fn check(first: &str, last: &str, expected: &[&str]) {
            let months = Months { first: month(first), last: month(last) };
            assert_eq!(months.iter().map(|month| month.to_string()).collect::<Vec<_>>(), expected);
        }
        check("2026-11", "2027-02", &["2026-11", "2026-12", "2027-01", "2027-02"]);
        check("2026-11", "2026-11", &["2026-11"]);
        check("2026-11", "2026-10", &[]);
    }

    proptest! {
        #[test]
        fn every_microsecond_lies_in_one_month(micros in -60_000_000_000_000_000_i64..250_000_000_000_000_000) {
            let time = Timestamp::from_micros(micros);
            let month = Month::containing(time).unwrap();
            prop_assert!(month.start() <= time && time < month.next().start());
            let before_end = Timestamp::from_micros(month.next().start().micros() - 1);
            prop_assert_eq!(Month::containing(before_end), Some(month));
        }

        #[test]
        fn back_undoes_next(micros in 0_i64..250_000_000_000_000_000, steps in 0_u32..500) {
            let month = Month::containing(Timestamp::from_micros(micros)).unwrap();
            let later = (0..steps).fold(month, |month, _| month.next());
            prop_assert_eq!(later.back(steps), month);
            prop_assert_eq!(month.to_string().len() != 7 || month.to_string().parse() == Ok(month), true);
        }
    }
}
