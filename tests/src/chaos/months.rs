//! Whether the monthly reports, counted again at the end, are what the tables hold.

use std::collections::BTreeMap;

use anyhow::Result;
use chrono::{Months, NaiveDate};
use tokio_postgres::Client;

use crate::stack::Environment;
use crate::stack::service::Program;

/// New rows of a month, by its first day: users and replays.
type Rows = BTreeMap<NaiveDate, [i64; 2]>;
/// Monthly reports by their first day: new users, all users, new replays, all replays.
type Reports = BTreeMap<NaiveDate, [i64; 4]>;

/// Has all months counted again; gives how many there are, and in what they differ from the rows.
///
/// # Errors
/// When the reporter fails, or the tables cannot be read.
pub(super) async fn check(environment: &Environment) -> Result<(usize, Vec<String>)> {
    let backfill = environment.command(Program::Reporter).arguments(["backfill", "--wait"]);
    backfill.run().await?.success()?;
    let sql = environment.sql().await?;
    let reports = reports(&sql).await?;
    Ok((reports.len(), differences(&reports, &rows(&sql).await?)))
}

async fn reports(sql: &Client) -> Result<Reports> {
    let query = "SELECT report_month_start, new_users_count, total_users_end, new_replays_count, \
                 total_replays_end FROM monthly_reports";
    let rows = sql.query(query, &[]).await?;
    Ok(rows.iter().map(|row| (row.get(0), [1, 2, 3, 4].map(|at| row.get(at)))).collect())
}

async fn rows(sql: &Client) -> Result<Rows> {
    let query = "SELECT date_trunc('month', at AT TIME ZONE 'UTC')::date, \
                 count(*) FILTER (WHERE is_user), count(*) FILTER (WHERE NOT is_user) FROM ( \
                     SELECT created_at AS at, true AS is_user FROM users \
                     UNION ALL SELECT start_time, false FROM replays) AS all_rows GROUP BY 1";
    let rows = sql.query(query, &[]).await?;
    Ok(rows.iter().map(|row| (row.get(0), [row.get(1), row.get(2)])).collect())
}

/// Every month from the first to the last that either knows must be reported, and rightly.
fn differences(reports: &Reports, rows: &Rows) -> Vec<String> {
    let known = || reports.keys().chain(rows.keys()).copied();
    let last = known().max();
    let mut month = known().min();
    let mut totals = [0, 0];
    let mut differences = Vec::new();
    while let Some(first_day) = month.filter(|month| Some(*month) <= last) {
        let [users, replays] = rows.get(&first_day).copied().unwrap_or_default();
        totals = [totals[0] + users, totals[1] + replays];
        let expected = [users, totals[0], replays, totals[1]];
        let reported = reports.get(&first_day);
        if reported != Some(&expected) {
            let month = first_day.format("%Y-%m");
            differences.push(format!("{month}: reported {reported:?}, in the tables {expected:?}"));
        }
        month = first_day.checked_add_months(Months::new(1));
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_month_is_reported_with_what_the_rows_add_up_to() {
        let day = |month| NaiveDate::from_ymd_opt(2026, month, 1).unwrap();
        let check = |reports: &[(u32, [i64; 4])], rows: &[(u32, [i64; 2])], wrong: &[&str]| {
            let reports = reports.iter().map(|(month, counts)| (day(*month), *counts)).collect();
            let rows = rows.iter().map(|(month, counts)| (day(*month), *counts)).collect();
            let found: Vec<_> =
                differences(&reports, &rows).iter().map(|it| it[..7].to_owned()).collect();
            assert_eq!(found, wrong, "{reports:?}, {rows:?}");
        };
        check(&[], &[], &[]);
        let rows = [(1, [2, 3]), (3, [1, 0])];
        let right = [(1, [2, 2, 3, 3]), (2, [0, 2, 0, 3]), (3, [1, 3, 0, 3]), (4, [0, 3, 0, 3])];
        check(&right, &rows, &[]);
        check(&right[1..], &rows, &["2026-01"]);
        check(&[right[0], right[2]], &rows, &["2026-02"]);
        check(&right[..2], &rows, &["2026-03"]);
        check(&[(1, [2, 2, 3, 4]), right[1], right[2]], &rows, &["2026-01"]);
        check(&[right[3]], &[], &["2026-04"]);
    }
}
