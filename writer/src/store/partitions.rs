//! Months of `events`: made ahead, and for a late month when its first event comes.
//!
//! The work is done by a function of the database, which runs as the role that owns the tables,
//! so the writer needs no right to create any.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use chrono::{Months, NaiveDate};
use common::database::Session;
use common::database::error_code::SqlState;
use diesel::QueryResult;
use diesel::sql_types::Date;
use diesel_async::RunQueryDsl;

use super::known::Known;

/// Months that can have a partition; what lies outside goes to the default partition.
const FIRST_YEAR: i32 = 2000;
const LAST_YEAR: i32 = 2199;

/// How many months beyond an event's own are made ahead, so that no batch at a month's first
/// second has to wait for its partition.
const MONTHS_AHEAD: u32 = 1;

/// After making one took too long, mostly because of somebody's lock, no partition is made for this long; the rows go to the
/// default partition, and move when the month gets its own.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// What Postgres says when making a partition takes too long: lock_not_available, and
/// query_canceled by the statement time-out.
const TOO_LONG: [SqlState; 2] = [*b"55P03", *b"57014"];

/// Makes the partitions that are missing, each in a transaction of its own and before the
/// batch's, so that no lock of the batch is held meanwhile. A long reader of the default
/// partition (a dump, say) holds up the making of partitions, but not the writing.
pub(super) async fn ensure(
    session: &mut Session,
    known: &mut Known,
    months: BTreeSet<NaiveDate>,
) -> QueryResult<()> {
    for month in wanted(&months) {
        let wait = known.months_not_before.is_some_and(|at| Instant::now() < at);
        if wait || known.months.contains(&month) {
            continue;
        }
        let made = diesel::sql_query("SELECT ensure_events_partition($1)")
            .bind::<Date, _>(month)
            .execute(&mut session.connection)
            .await;
        match made {
            Ok(_) => {
                known.months.insert(month);
            }
            Err(error) => {
                if !session.error_codes.peek().is_some_and(|code| TOO_LONG.contains(&code)) {
                    return Err(error);
                }
                session.error_codes.take();
                tracing::warn!(
                    %month,
                    %error,
                    retry_after_seconds = RETRY_AFTER.as_secs(),
                    "making a partition takes too long; its rows go to the default one for now"
                );
                known.months_not_before = Some(Instant::now() + RETRY_AFTER);
            }
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
