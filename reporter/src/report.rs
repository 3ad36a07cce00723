//! What a monthly report says, and how it follows from counts.

use std::collections::BTreeMap;
use std::ops::Add;

use crate::month::{Month, Months};

/// How many users and replays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Users.
    pub users: i64,
    /// Replays.
    pub replays: i64,
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { users: self.users + other.users, replays: self.replays + other.replays }
    }
}

/// One month's figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MonthlyReport {
    /// The month.
    pub month: Month,
    /// Users created and replays begun in it.
    pub new: Counts,
    /// Users created and replays begun before the next month.
    pub total: Counts,
}

/// A report for each month, also those in which nothing began: `base` counts what came before the
/// first of them, `new` what came in each.
pub fn reports(months: Months, base: Counts, new: &BTreeMap<Month, Counts>) -> Vec<MonthlyReport> {
    months
        .iter()
        .scan(base, |total, month| {
            let new = new.get(&month).copied().unwrap_or_default();
            *total = *total + new;
            Some(MonthlyReport { month, new, total: *total })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn counts(users: i64, replays: i64) -> Counts {
        Counts { users, replays }
    }

    #[test]
    fn totals_go_on_from_the_base_through_empty_months() {
        let month = |text: &str| text.parse::<Month>().unwrap();
        let new =
            BTreeMap::from([(month("2026-08"), counts(2, 3)), (month("2026-10"), counts(0, 1))]);
        let months = Months { first: month("2026-08"), last: month("2026-10") };
        let figures: Vec<_> = reports(months, counts(10, 20), &new)
            .into_iter()
            .map(|report| (report.month.to_string(), report.new, report.total))
            .collect();
        assert_eq!(
            figures,
            [
                ("2026-08".to_owned(), counts(2, 3), counts(12, 23)),
                ("2026-09".to_owned(), counts(0, 0), counts(12, 23)),
                ("2026-10".to_owned(), counts(0, 1), counts(12, 24)),
            ]
        );
    }

    proptest! {
        /// What lets a window's totals start from a stored report.
        #[test]
        fn counting_on_from_a_stored_total_equals_counting_all(
            new in prop::collection::vec((0_i64..1_000, 0_i64..1_000), 2..40),
            cut in 1_usize..39,
        ) {
            let first: Month = "2024-01".parse().unwrap();
            let months: Vec<Month> =
                std::iter::successors(Some(first), |month| Some(month.next())).take(new.len()).collect();
            let by_month: BTreeMap<Month, Counts> =
                months.iter().zip(&new).map(|(month, (users, replays))| (*month, counts(*users, *replays))).collect();
            let last = months[months.len() - 1];
            let all = reports(Months { first, last }, Counts::default(), &by_month);
            let cut = cut.min(months.len() - 1);
            let window = reports(Months { first: months[cut], last }, all[cut - 1].total, &by_month);
            prop_assert_eq!(&all[cut..], &window[..]);
        }
    }
}
