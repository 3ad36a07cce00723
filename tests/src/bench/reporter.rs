//! What roll-ups cost with years of users and replays.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio_postgres::Client;

use super::figures::Goal;
use super::measurement::{Measurement, Unit};
use super::report::Report;
use super::{Case, Options, Tell};
use crate::stack::{Environment, Ports, Program, Stack, Tuning};

/// Users, and as many replays, of the long history.
const ROWS: u32 = 10_000_000;
/// The months that it is spread over.
const MONTHS: u32 = 60;
/// The months of the short history: the window that the reporter looks at, the current month and
/// the one before both.
const RECENT_MONTHS: u32 = 5;

/// Rows of one statement that makes them.
const ROWS_AT_ONCE: u32 = 500_000;

const SCHEDULED_SECONDS: Goal = Goal::AtMost(1.0);
/// A scheduled roll-up with the long history over one with the short one, which has as many rows a
/// month.
const INDEPENDENT_OF_HISTORY: Goal = Goal::AtMost(1.25);
const RECOUNT_OVER_PLAIN: Goal = Goal::AtMost(1.2);
const MEMORY_MEGABYTES: Goal = Goal::AtMost(32.0);

/// How long a roll-up may take at all.
const ROLLED_UP_WITHIN: Duration = Duration::from_secs(300);

/// How many roll-ups a reporter has done, and the seconds that they took together.
const ROLLUPS: &str = "tapedeck_reporter_run_seconds_count";
const ROLLUP_SECONDS: &str = "tapedeck_reporter_run_seconds_sum";

/// Each month's rows as someone would count them by hand: what a recount cannot do without.
const PLAIN: [&str; 2] = [
    "SELECT count(*) FROM users GROUP BY date_trunc('month', created_at AT TIME ZONE 'UTC')",
    "SELECT count(*) FROM replays GROUP BY date_trunc('month', start_time AT TIME ZONE 'UTC')",
];

/// Measures both histories.
pub(super) async fn run(options: &Options, tell: Tell<'_>) -> Result<Report> {
    let stack = Stack::start(Ports::default(), Tuning::Benchmarks).await?;
    tell("five months of rows");
    let short = History::make(&stack, ROWS / MONTHS * RECENT_MONTHS, RECENT_MONTHS).await?;
    tell("sixty months of rows");
    let long = History::make(&stack, ROWS, MONTHS).await?;

    let mut scheduled =
        Measurement::new("scheduled roll-up", Unit::Seconds, Some(SCHEDULED_SECONDS));
    let mut short_scheduled =
        Measurement::new("scheduled roll-up, short history", Unit::Seconds, None);
    let mut independence = Measurement::new(
        "scheduled: long history over short",
        Unit::Ratio,
        Some(INDEPENDENT_OF_HISTORY),
    );
    let mut recount = Measurement::new("recount of all months", Unit::Seconds, None);
    let mut plain = Measurement::new("plain count(*) by month", Unit::Seconds, None);
    let mut over_plain =
        Measurement::new("recount over plain", Unit::Ratio, Some(RECOUNT_OVER_PLAIN));
    let mut memory = Measurement::new("reporter's memory", Unit::Megabytes, Some(MEMORY_MEGABYTES));
    for round in 1..=options.runs {
        tell(&format!("round {round} of {}", options.runs));
        let (with_short, with_long) = (short.scheduled().await?, long.scheduled().await?);
        scheduled.values.push(with_long.seconds);
        short_scheduled.values.push(with_short.seconds);
        independence.values.push(with_long.seconds / with_short.seconds);
        memory.values.push(with_long.memory_bytes as f64 / 1e6);
        let (counted, recounted) = (long.plain().await?, long.recount().await?);
        plain.values.push(counted);
        recount.values.push(recounted);
        over_plain.values.push(recounted / counted);
    }
    let measurements =
        vec![scheduled, short_scheduled, independence, recount, plain, over_plain, memory];
    Report::of(Case::Reporter, &stack, Vec::new(), measurements).await
}

/// A database with users and replays.
struct History {
    environment: Environment,
    sql: Client,
    rows: u32,
}

/// What a scheduled roll-up took.
struct Scheduled {
    seconds: f64,
    /// The most memory that the reporter had resident since it was started.
    memory_bytes: u64,
}

impl History {
    /// Makes rows that are spread evenly over the last months.
    async fn make(stack: &Stack, rows: u32, months: u32) -> Result<Self> {
        let environment = Environment::new(stack).await?;
        let sql = environment.sql().await?;
        let mut made = 0;
        while made < rows {
            let next = rows.min(made + ROWS_AT_ONCE);
            let numbers = format!("generate_series({made}, {}) number", next - 1);
            let time =
                format!("now() - make_interval(days => 30 * {months}) * ((number + 0.5) / {rows})");
            // A user for each replay; the ids are random, as they are of recorders.
            sql.batch_execute(&format!(
                "CREATE TEMPORARY TABLE made AS \
                   SELECT gen_random_uuid() AS user_id, {time} AS created_at FROM {numbers}; \
                 INSERT INTO users (user_id, created_at) SELECT user_id, created_at FROM made; \
                 INSERT INTO replays (replay_id, user_id, start_time, initial_url, user_as_of) \
                   SELECT gen_random_uuid(), user_id, created_at, 'https://shop.example/', \
                          created_at FROM made; \
                 DROP TABLE made"
            ))
            .await
            .context("rows")?;
            made = next;
        }
        // Each by itself: several at once are one transaction, in which neither may be.
        sql.batch_execute("VACUUM (ANALYZE) users, replays").await?;
        sql.batch_execute("CHECKPOINT").await?;
        let history = Self { environment, sql, rows };
        // The first reports, from which the scheduled roll-ups go on.
        history.recount().await?;
        Ok(history)
    }

    /// Starts a reporter and waits until it has rolled up by itself.
    async fn scheduled(&self) -> Result<Scheduled> {
        let window = [("kind", "window"), ("outcome", "success")];
        let reporter = self.environment.reporter().start().await?;
        reporter
            .wait_for_metric(ROLLUPS, &window, ROLLED_UP_WITHIN, |rollups| rollups > 0.0)
            .await?;
        let metrics = reporter.metrics().await?;
        let sum = |name| metrics.sum(name, &window).with_context(|| format!("no {name}"));
        let seconds = sum(ROLLUP_SECONDS)? / sum(ROLLUPS)?;
        let memory_bytes = reporter.process().memory_high_water_bytes()?;
        ensure!(reporter.terminate().await?.success(), "{}", reporter.log());
        Ok(Scheduled { seconds, memory_bytes })
    }

    /// Seconds that counting by hand takes.
    async fn plain(&self) -> Result<f64> {
        let begun = Instant::now();
        for count in PLAIN {
            let months = self.sql.query(count, &[]).await?;
            let counted: i64 = months.iter().map(|month| month.get::<_, i64>(0)).sum();
            ensure!(counted == i64::from(self.rows), "{counted} rows, not {}", self.rows);
        }
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Seconds that `reporter backfill` takes.
    async fn recount(&self) -> Result<f64> {
        let begun = Instant::now();
        let backfill =
            self.environment.command(Program::Reporter).arguments(["backfill", "--wait"]);
        backfill.run().await?.success()?;
        let seconds = begun.elapsed().as_secs_f64();
        let totals = "SELECT total_replays_end::int8 FROM monthly_reports \
                      ORDER BY report_month_start DESC LIMIT 1";
        let total: i64 = self.sql.query_one(totals, &[]).await?.get(0);
        ensure!(total == i64::from(self.rows), "{total} replays, not {}", self.rows);
        Ok(seconds)
    }
}
