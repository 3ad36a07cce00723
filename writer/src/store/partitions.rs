//! Months of `events`: made ahead, and for a late month when its first event comes.
//!
//! The work is done by a function of the database, which runs as the role that owns the tables,
//! so the writer needs no right to create any.

use std::collections::BTreeSet;

use chrono::{Months, NaiveDate};
use diesel::QueryResult;
use diesel::sql_types::Date;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::known::Known;

/// Months that can have a partition; what lies outside goes to the default partition.
const FIRST_YEAR: i32 = 2000;
const LAST_YEAR: i32 = 2199;

/// How many months beyond an event's own are made ahead, so that no batch at a month's first
/// second has to wait for its partition.
const MONTHS_AHEAD: u32 = 1;

/// Makes the partitions that are missing, each in a transaction of its own and before the
/// batch's, so that no lock of the batch is held meanwhile.
pub(super) async fn ensure(
    connection: &mut AsyncPgConnection,
    known: &mut Known,
    months: BTreeSet<NaiveDate>,
) -> QueryResult<()> {
    for month in wanted(&months) {
        if !known.months.contains(&month) {
            diesel::sql_query("SELECT ensure_events_partition($1)")
                .bind::<Date, _>(month)
                .execute(connection)
                .await?;
            known.months.insert(month);
        }
    }
    Ok(())
}

fn wanted(months: &BTreeSet<NaiveDate>) -> BTreeSet<NaiveDate> {
    use chrono::Datelike;
    months
        .iter()
        .flat_map(|month| (0..=MONTHS_AHEAD).map(|ahead| *month + Months::new(ahead)))
        .filter(|month| (FIRST_YEAR..=LAST_YEAR).contains(&month.year()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_and_the_next_are_wanted() {
        fn check(months: &[&str], expected: &[&str]) {
            let parse = |text: &&str| text.parse().unwrap();
            let months: BTreeSet<NaiveDate> = months.iter().map(parse).collect();
            assert_eq!(wanted(&months), expected.iter().map(parse).collect());
        }
        check(&[], &[]);
        check(&["2025-12-01"], &["2025-12-01", "2026-01-01"]);
        check(&["2025-11-01", "2025-12-01"], &["2025-11-01", "2025-12-01", "2026-01-01"]);
        check(&["1999-12-01"], &["2000-01-01"]);
        check(&["9000-01-01"], &[]);
    }
}
