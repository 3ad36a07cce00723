//! A database with users and replays of chosen times, and what the reporter makes of them.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;
use tests::stack::{Environment, Program, Stack, eventually};
use tokio_postgres::Client;

/// How long a condition of these tests may take on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The reporters' lock, for a test to be the other reporter.
pub(crate) const TAKE_LOCK: &str =
    "SELECT pg_advisory_lock('monthly_reports'::regclass::oid::integer, 0)";
/// Gives it back.
pub(crate) const GIVE_LOCK: &str =
    "SELECT pg_advisory_unlock('monthly_reports'::regclass::oid::integer, 0)";

/// A stored report as `reporter show --format json` prints it: month, new and total users, new
/// and total replays.
#[derive(Debug, Deserialize, PartialEq, Eq)]
struct Shown {
    report_month_start: String,
    new_users_count: i64,
    total_users_end: i64,
    new_replays_count: i64,
    total_replays_end: i64,
    generated_at: String,
}

/// A report's figures: first day of the month, new users, users at its end, new replays, replays
/// at its end.
pub(crate) type Figures = (String, i64, i64, i64, i64);

/// Figures as a test writes them.
pub(crate) fn figures(day: &str, users: (i64, i64), replays: (i64, i64)) -> Figures {
    (day.to_owned(), users.0, users.1, replays.0, replays.1)
}

/// A migrated database.
pub(crate) struct Fixture {
    pub(crate) environment: Environment,
    pub(crate) client: Client,
}

impl Fixture {
    pub(crate) async fn new() -> Result<Self> {
        Self::of(Environment::new(Stack::shared().await?).await?).await
    }

    pub(crate) async fn of(environment: Environment) -> Result<Self> {
        let client = environment.sql().await?;
        Ok(Self { environment, client })
    }

    /// Adds a user created at the time, an SQL expression.
    pub(crate) async fn add_user(&self, time: &str) -> Result<()> {
        let insert =
            format!("INSERT INTO users (user_id, created_at) VALUES (gen_random_uuid(), {time})");
        self.client.execute(&insert, &[]).await?;
        Ok(())
    }

    /// Adds a replay that began at the time, an SQL expression; its user is the first.
    pub(crate) async fn add_replay(&self, time: &str) -> Result<()> {
        let insert = format!(
            "INSERT INTO replays (replay_id, user_id, start_time, initial_url, user_as_of) \
             SELECT gen_random_uuid(), user_id, {time}, 'https://example.com/', {time} \
             FROM users ORDER BY created_at LIMIT 1"
        );
        self.client.execute(&insert, &[]).await?;
        Ok(())
    }

    /// The first day of the month that many months before the database's current one.
    pub(crate) async fn month_back(&self, months: i32) -> Result<String> {
        let query = format!("SELECT {}::date::text", month_back(months));
        Ok(self.client.query_one(&query, &[]).await?.get(0))
    }

    /// Stores a report of that month, as some earlier roll-up would have.
    pub(crate) async fn store_report(&self, months_back: i32, total: i64, age: &str) -> Result<()> {
        let insert = format!(
            "INSERT INTO monthly_reports (report_month_start, new_users_count, total_users_end, \
                 new_replays_count, total_replays_end, generated_at) \
             VALUES ({}::date, 0, {total}, 0, {total}, now() - INTERVAL '{age}')",
            month_back(months_back)
        );
        self.client.execute(&insert, &[]).await?;
        Ok(())
    }

    /// Runs a one-off command that must succeed.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Result<String> {
        let arguments = arguments.iter().copied();
        self.environment.command(Program::Reporter).arguments(arguments).run().await?.success()
    }

    /// What is stored.
    pub(crate) async fn reports(&self) -> Result<Vec<Figures>> {
        let json = self.run(&["show", "--format", "json"]).await?;
        let shown: Vec<Shown> = serde_json::from_str(&json).context("not what show prints")?;
        Ok(shown
            .into_iter()
            .map(|it| {
                let users = (it.new_users_count, it.total_users_end);
                let replays = (it.new_replays_count, it.total_replays_end);
                figures(&it.report_month_start, users, replays)
            })
            .collect())
    }

    /// Waits until these reports are stored.
    pub(crate) async fn wait_for_reports(&self, expected: &[Figures]) -> Result<()> {
        eventually("the reports are as expected", DEADLINE, async || match self.reports().await {
            Ok(reports) if reports == expected => Ok(()),
            Ok(reports) => Err(format!("{reports:?} rather than {expected:?}")),
            Err(error) => Err(format!("{error:#}")),
        })
        .await
    }
}

/// The start of the month that many months before the current one, as an SQL expression.
pub(crate) fn month_back(months: i32) -> String {
    // Months are added in the session's time zone, so as a time without one.
    format!(
        "((date_trunc('month', now(), 'UTC') AT TIME ZONE 'UTC' - INTERVAL '{months} months') \
         AT TIME ZONE 'UTC')"
    )
}
