//! Which months a roll-up counts, and where their totals start.

use std::fmt;

use crate::month::{Month, Months};
use crate::report::Counts;

/// What a roll-up is asked to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The current month and that many before it, whose cost does not grow with history.
    Window {
        /// Months before the current one.
        months_before: u32,
    },
    /// All months.
    All,
    /// The months from this one to the current one.
    From(Month),
    /// One month.
    Only(Month),
}

/// Whether a roll-up counted on from a stored report or counted the rows of all time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only the window's rows.
    Window,
    /// All rows.
    Full,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Window, Self::Full];

    /// Its name in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Window => "window",
            Self::Full => "full",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Where a plan's totals start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// From the stored report of the month before.
    Stored(Counts),
    /// From the rows before the first month, counted.
    Rows,
}

/// What a roll-up will count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The months.
    pub months: Months,
    /// Where their totals start.
    pub base: Base,
}

impl Plan {
    /// Whether it counts all rows.
    pub const fn kind(&self) -> Kind {
        match self.base {
            Base::Stored(_) => Kind::Window,
            Base::Rows => Kind::Full,
        }
    }
}

/// What the database holds, as far as plans depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The current month.
    pub current: Month,
    /// The earliest month with a user or replay.
    pub first_with_rows: Option<Month>,
    /// The earliest month with a stored report.
    pub first_reported: Option<Month>,
}

/// A month was asked for that is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{month} has not begun: it is {current}")]
pub struct NotBegun {
    /// The month asked for.
    pub month: Month,
    /// The current one.
    pub current: Month,
}

impl Scope {
    /// The month whose stored report a window's totals start from.
    pub fn base_month(self, current: Month) -> Option<Month> {
        match self {
            Self::Window { months_before } => Some(current.back(months_before).back(1)),
            Self::All | Self::From(_) | Self::Only(_) => None,
        }
    }

    /// Decides what to count; `base` is the stored total of [`Scope::base_month`], and without it
    /// a window becomes everything.
    ///
    /// # Errors
    /// When the scope begins after the current month.
    pub fn plan(self, known: Known, base: Option<Counts>) -> Result<Plan, NotBegun> {
        let current = known.current;
        let begun = |month: Month| match month <= current {
            true => Ok(month),
            false => Err(NotBegun { month, current }),
        };
        let (first, last, base) = match (self, base) {
            (Self::Window { months_before }, Some(base)) => {
                (current.back(months_before), current, Base::Stored(base))
            }
            (Self::Window { .. }, None) | (Self::All, _) => {
                // A report of a month whose rows are gone is counted again too.
                let known = [known.first_with_rows, known.first_reported];
                let first = known.into_iter().flatten().fold(current, Month::min);
                (first, current, Base::Rows)
            }
            (Self::From(month), _) => (begun(month)?, current, Base::Rows),
            (Self::Only(month), _) => (begun(month)?, month, Base::Rows),
        };
        Ok(Plan { months: Months { first, last }, base })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORED: Counts = Counts { users: 7, replays: 9 };

    fn month(text: &str) -> Month {
        text.parse().unwrap()
    }

    fn check(
        scope: Scope,
        rows_and_reports_from: (Option<&str>, Option<&str>),
        base: Option<Counts>,
        expected: Result<(&str, &str, Base), NotBegun>,
    ) {
        let known = Known {
            current: month("2026-11"),
            first_with_rows: rows_and_reports_from.0.map(month),
            first_reported: rows_and_reports_from.1.map(month),
        };
        let expected = expected.map(|(first, last, base)| Plan {
            months: Months { first: month(first), last: month(last) },
            base,
        });
        assert_eq!(scope.plan(known, base), expected, "{scope:?} {known:?} {base:?}");
    }

    #[test]
    fn a_window_counts_on_from_the_report_before_it() {
        let window = Scope::Window { months_before: 3 };
        assert_eq!(window.base_month(month("2026-02")), Some(month("2025-10")));
        let stored = Base::Stored(STORED);
        check(
            window,
            (Some("2020-01"), Some("2020-01")),
            Some(STORED),
            Ok(("2026-08", "2026-11", stored)),
        );
        let only_current = Scope::Window { months_before: 0 };
        check(
            only_current,
            (Some("2020-01"), None),
            Some(STORED),
            Ok(("2026-11", "2026-11", stored)),
        );
    }

    #[test]
    fn a_window_without_that_report_is_everything() {
        let window = Scope::Window { months_before: 3 };
        check(window, (Some("2020-01"), None), None, Ok(("2020-01", "2026-11", Base::Rows)));
        check(
            window,
            (Some("2026-10"), Some("2026-09")),
            None,
            Ok(("2026-09", "2026-11", Base::Rows)),
        );
        check(window, (None, None), None, Ok(("2026-11", "2026-11", Base::Rows)));
    }

    #[test]
    fn everything_begins_with_the_first_row_or_report_and_ends_now() {
        check(Scope::All, (None, None), None, Ok(("2026-11", "2026-11", Base::Rows)));
        check(
            Scope::All,
            (Some("2024-05"), Some("2024-02")),
            None,
            Ok(("2024-02", "2026-11", Base::Rows)),
        );
        check(
            Scope::All,
            (Some("2024-05"), Some("2025-02")),
            None,
            Ok(("2024-05", "2026-11", Base::Rows)),
        );
        // A clock that was ahead has left a report of the future.
        check(Scope::All, (None, Some("2027-01")), None, Ok(("2026-11", "2026-11", Base::Rows)));
    }

    #[test]
    fn months_asked_for_are_counted_from_the_rows() {
        check(
            Scope::Only(month("2026-02")),
            (None, None),
            None,
            Ok(("2026-02", "2026-02", Base::Rows)),
        );
        check(
            Scope::From(month("2026-02")),
            (None, None),
            None,
            Ok(("2026-02", "2026-11", Base::Rows)),
        );
        let not_begun = NotBegun { month: month("2026-12"), current: month("2026-11") };
        check(Scope::Only(month("2026-12")), (None, None), None, Err(not_begun));
        check(Scope::From(month("2026-12")), (None, None), None, Err(not_begun));
    }
}
