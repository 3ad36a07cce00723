//! Counting the rows.
//!
//! Every question is answered from the indexes on `users.created_at` and `replays.start_time`:
//! bounds stand bare on one side, never inside a function of the column.

use std::collections::BTreeMap;

use common::schema::{replays, users};
use common::time::Timestamp;
use diesel::dsl::min;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::month::{Month, Months};
use crate::report::Counts;

/// Rows of one month.
#[derive(QueryableByName)]
struct MonthCount {
    #[diesel(sql_type = Timestamptz)]
    month_start: Timestamp,
    #[diesel(sql_type = BigInt)]
    rows: i64,
}

const USERS_BY_MONTH: &str = "\
    SELECT date_trunc('month', created_at, 'UTC') AS month_start, count(*) AS rows \
    FROM users WHERE created_at >= $1 AND created_at < $2 GROUP BY 1";

const REPLAYS_BY_MONTH: &str = "\
    SELECT date_trunc('month', start_time, 'UTC') AS month_start, count(*) AS rows \
    FROM replays WHERE start_time >= $1 AND start_time < $2 GROUP BY 1";

/// The earliest time in either table.
///
/// # Errors
/// What the database says.
pub async fn earliest(connection: &mut AsyncPgConnection) -> QueryResult<Option<Timestamp>> {
    let user: Option<Timestamp> =
        users::table.select(min(users::created_at)).get_result(connection).await?;
    let replay: Option<Timestamp> =
        replays::table.select(min(replays::start_time)).get_result(connection).await?;
    Ok([user, replay].into_iter().flatten().min())
}

/// All rows before `end`.
///
/// # Errors
/// What the database says.
pub async fn before(connection: &mut AsyncPgConnection, end: Timestamp) -> QueryResult<Counts> {
    let users =
        users::table.filter(users::created_at.lt(end)).count().get_result(connection).await?;
    let replays =
        replays::table.filter(replays::start_time.lt(end)).count().get_result(connection).await?;
    Ok(Counts { users, replays })
}

/// The rows in each of the months; those without rows are left out.
///
/// # Errors
/// What the database says.
pub async fn by_month(
    connection: &mut AsyncPgConnection,
    months: Months,
) -> QueryResult<BTreeMap<Month, Counts>> {
    let mut counts = BTreeMap::<Month, Counts>::new();
    for found in rows_by_month(connection, USERS_BY_MONTH, months).await? {
        if let Some(month) = Month::containing(found.month_start) {
            counts.entry(month).or_default().users = found.rows;
        }
    }
    for found in rows_by_month(connection, REPLAYS_BY_MONTH, months).await? {
        if let Some(month) = Month::containing(found.month_start) {
            counts.entry(month).or_default().replays = found.rows;
        }
    }
    Ok(counts)
}

async fn rows_by_month(
    connection: &mut AsyncPgConnection,
    query: &str,
    months: Months,
) -> QueryResult<Vec<MonthCount>> {
    diesel::sql_query(query)
        .bind::<Timestamptz, _>(months.start())
        .bind::<Timestamptz, _>(months.end())
        .load(connection)
        .await
}
