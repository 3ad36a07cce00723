//! Counting the rows.
//!
//! Every question is answered from the indexes on `users.created_at` and `replays.start_time`:
//! bounds stand bare on one side, never inside a function of the column. Months are counted one
//! by one, each a stretch of the index: that takes less than reading the table and finding out of
//! every row which month it is of.

use std::collections::BTreeMap;

use common::schema::{replays, users};
use common::time::Timestamp;
use diesel::dsl::min;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Timestamptz};
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
    SELECT month_start, (SELECT count(*) FROM users \
        WHERE created_at >= month_start AND created_at < month_end) AS rows \
    FROM unnest($1, $2) AS month (month_start, month_end)";

const REPLAYS_BY_MONTH: &str = "\
    SELECT month_start, (SELECT count(*) FROM replays \
        WHERE start_time >= month_start AND start_time < month_end) AS rows \
    FROM unnest($1, $2) AS month (month_start, month_end)";

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

/// The rows in each of the months.
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
    let (starts, ends): (Vec<_>, Vec<_>) =
        months.iter().map(|month| (month.start(), month.next().start())).unzip();
    diesel::sql_query(query)
        .bind::<Array<Timestamptz>, _>(starts)
        .bind::<Array<Timestamptz>, _>(ends)
        .load(connection)
        .await
}
