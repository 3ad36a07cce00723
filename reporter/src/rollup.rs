//! A roll-up: counts and stored reports in one transaction, all from one snapshot.

use std::time::Duration;

use common::time::Timestamp;
use diesel::QueryResult;
use diesel::sql_types::Timestamptz;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::lock::LockedSession;
use crate::month::Month;
use crate::plan::{Base, Kind, Known, NotBegun, Scope};
use crate::report::{MonthlyReport, reports};
use crate::{count, store};

/// What a roll-up has stored.
#[derive(Debug)]
pub struct Rollup {
    /// Whether it counted all rows.
    pub kind: Kind,
    /// The reports.
    pub reports: Vec<MonthlyReport>,
    /// The time of its snapshot, by the database's clock, which all reporters share.
    pub generated_at: Timestamp,
    /// Since when all stored reports have been counted again, this roll-up included.
    pub all_counted_since: Option<Timestamp>,
}

/// Why a roll-up failed. Nothing is stored then.
#[derive(Debug, thiserror::Error)]
pub enum RollupError {
    /// The month asked for is still to come: asking again will not help.
    #[error(transparent)]
    NotBegun(#[from] NotBegun),
    /// A row's time is beyond the calendar.
    #[error("the time {0} lies in no month")]
    BeyondCalendar(Timestamp),
    /// The database refused or went away.
    #[error("the database: {0}")]
    Database(#[from] diesel::result::Error),
    /// It took longer than it may.
    #[error("not done within {} s", .0.as_secs())]
    TimedOut(Duration),
}

#[derive(diesel::QueryableByName)]
struct Now {
    #[diesel(sql_type = Timestamptz)]
    now: Timestamp,
}

/// Counts what `scope` asks for and stores the reports.
///
/// # Errors
/// See [`RollupError`]. Whatever it is, the session must be dropped: its transaction may be open,
/// and ends with it.
pub async fn run(
    session: &mut LockedSession,
    scope: Scope,
    within: Duration,
) -> Result<Rollup, RollupError> {
    let mut transaction = session.session().connection.build_transaction().repeatable_read();
    let counting =
        transaction.run(async |connection| count_and_store(connection, scope, within).await);
    tokio::time::timeout(within, counting).await.unwrap_or(Err(RollupError::TimedOut(within)))
}

async fn count_and_store(
    connection: &mut AsyncPgConnection,
    scope: Scope,
    within: Duration,
) -> Result<Rollup, RollupError> {
    limit_statements(connection, within).await?;
    let Now { now } = diesel::sql_query("SELECT now() AS now").get_result(connection).await?;
    let current = Month::containing(now).ok_or(RollupError::BeyondCalendar(now))?;

    let base = match scope.base_month(current) {
        Some(month) => store::total_at_end_of(connection, month).await?,
        None => None,
    };
    let known = Known {
        current,
        first_with_rows: match count::earliest(connection).await? {
            Some(time) => Some(Month::containing(time).ok_or(RollupError::BeyondCalendar(time))?),
            None => None,
        },
        first_reported: store::first_month(connection).await?,
    };
    let plan = scope.plan(known, base)?;

    let base = match plan.base {
        Base::Stored(total) => total,
        Base::Rows => count::before(connection, plan.months.start()).await?,
    };
    let new = count::by_month(connection, plan.months).await?;
    let reports = reports(plan.months, base, &new);
    store::upsert(connection, &reports, now).await?;
    let all_counted_since = store::all_counted_since(connection, current).await?;
    Ok(Rollup { kind: plan.kind(), reports, generated_at: now, all_counted_since })
}

/// Lets the transaction's statements take as long as the roll-up may: counting all rows takes
/// longer than other statements should. The server's side of the time-out, so that it does not
/// go on counting for nobody.
async fn limit_statements(
    connection: &mut AsyncPgConnection,
    within: Duration,
) -> QueryResult<usize> {
    let limit = format!("SET LOCAL statement_timeout = {}", within.as_millis());
    diesel::sql_query(limit).execute(connection).await
}
