//! The stored reports.

use chrono::NaiveDate;
use common::schema::monthly_reports;
use common::time::Timestamp;
use diesel::dsl::min;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Date, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::month::Month;
use crate::report::{Counts, MonthlyReport};

/// A report as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredReport {
    /// Its figures.
    pub report: MonthlyReport,
    /// When they were counted.
    pub generated_at: Timestamp,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = monthly_reports)]
struct Row {
    report_month_start: NaiveDate,
    new_users_count: i64,
    total_users_end: i64,
    new_replays_count: i64,
    total_replays_end: i64,
    generated_at: Timestamp,
}

impl From<Row> for StoredReport {
    fn from(row: Row) -> Self {
        Self {
            report: MonthlyReport {
                month: Month::of_day(row.report_month_start),
                new: Counts { users: row.new_users_count, replays: row.new_replays_count },
                total: Counts { users: row.total_users_end, replays: row.total_replays_end },
            },
            generated_at: row.generated_at,
        }
    }
}

// One statement whatever the number of months: each column travels as one array.
const UPSERT: &str = "\
    INSERT INTO monthly_reports (report_month_start, new_users_count, total_users_end, \
        new_replays_count, total_replays_end, generated_at) \
    SELECT month_start, new_users, total_users, new_replays, total_replays, $6 \
    FROM unnest($1, $2, $3, $4, $5) \
        AS counted (month_start, new_users, total_users, new_replays, total_replays) \
    ON CONFLICT (report_month_start) DO UPDATE SET \
        new_users_count = excluded.new_users_count, \
        total_users_end = excluded.total_users_end, \
        new_replays_count = excluded.new_replays_count, \
        total_replays_end = excluded.total_replays_end, \
        generated_at = excluded.generated_at";

/// Stores the reports, in place of earlier ones of the same months.
///
/// # Errors
/// What the database says.
pub async fn upsert(
    connection: &mut AsyncPgConnection,
    reports: &[MonthlyReport],
    generated_at: Timestamp,
) -> QueryResult<usize> {
    let column = |figure: fn(&MonthlyReport) -> i64| reports.iter().map(figure).collect::<Vec<_>>();
    let months: Vec<NaiveDate> = reports.iter().map(|report| report.month.first_day()).collect();
    diesel::sql_query(UPSERT)
        .bind::<Array<Date>, _>(months)
        .bind::<Array<BigInt>, _>(column(|report| report.new.users))
        .bind::<Array<BigInt>, _>(column(|report| report.total.users))
        .bind::<Array<BigInt>, _>(column(|report| report.new.replays))
        .bind::<Array<BigInt>, _>(column(|report| report.total.replays))
        .bind::<Timestamptz, _>(generated_at)
        .execute(connection)
        .await
}

/// The totals at the month's end, if there is a report of it.
///
/// # Errors
/// What the database says.
pub async fn total_at_end_of(
    connection: &mut AsyncPgConnection,
    month: Month,
) -> QueryResult<Option<Counts>> {
    monthly_reports::table
        .filter(monthly_reports::report_month_start.eq(month.first_day()))
        .select((monthly_reports::total_users_end, monthly_reports::total_replays_end))
        .get_result(connection)
        .await
        .optional()
        .map(|totals| totals.map(|(users, replays)| Counts { users, replays }))
}

/// The earliest month with a report.
///
/// # Errors
/// What the database says.
pub async fn first_month(connection: &mut AsyncPgConnection) -> QueryResult<Option<Month>> {
    monthly_reports::table
        .select(min(monthly_reports::report_month_start))
        .get_result::<Option<NaiveDate>>(connection)
        .await
        .map(|first| first.map(Month::of_day))
}

/// Since when every report up to the current month has been counted again: the time of the last
/// full recount, which rewrites them all.
///
/// # Errors
/// What the database says.
pub async fn all_counted_since(
    connection: &mut AsyncPgConnection,
    current: Month,
) -> QueryResult<Option<Timestamp>> {
    monthly_reports::table
        .filter(monthly_reports::report_month_start.le(current.first_day()))
        .select(min(monthly_reports::generated_at))
        .get_result(connection)
        .await
}

/// The reports from `first` to `last`, both included, in order.
///
/// # Errors
/// What the database says.
pub async fn load(
    connection: &mut AsyncPgConnection,
    first: Option<Month>,
    last: Option<Month>,
) -> QueryResult<Vec<StoredReport>> {
    let mut query = monthly_reports::table
        .select(Row::as_select())
        .order(monthly_reports::report_month_start)
        .into_boxed();
    if let Some(first) = first {
        query = query.filter(monthly_reports::report_month_start.ge(first.first_day()));
    }
    if let Some(last) = last {
        query = query.filter(monthly_reports::report_month_start.le(last.first_day()));
    }
    Ok(query.load::<Row>(connection).await?.into_iter().map(StoredReport::from).collect())
}
