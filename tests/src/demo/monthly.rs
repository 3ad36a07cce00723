//! The reporter's figures, and a count of the rows to hold against them.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Deserialize;
use tokio_postgres::Client;

use crate::recordings::Session;
use crate::stack::launch::Launch;
use crate::stack::paths::built_program;
use crate::stack::{Addresses, Role};

/// How long a command of the reporter may take.
const COMMAND_WITHIN: Duration = Duration::from_secs(60);

/// One month's report, as `reporter show --format json` writes it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Month {
    pub(super) report_month_start: String,
    pub(super) new_users_count: i64,
    pub(super) total_users_end: i64,
    pub(super) new_replays_count: i64,
    pub(super) total_replays_end: i64,
}

/// What the reporter says and what the rows say.
pub(super) struct Monthly {
    pub(super) reported: Vec<Month>,
    pub(super) counted: Vec<Month>,
    /// What `reporter show` prints.
    pub(super) shown: String,
}

impl Monthly {
    pub(super) fn agrees(&self) -> bool {
        !self.reported.is_empty() && self.reported == self.counted
    }
}

/// Lets the reporter count the sessions' months and all since, and counts the rows.
///
/// # Errors
/// When the reporter or Postgres fails.
pub(super) async fn count(
    addresses: &Addresses,
    database: &Client,
    sessions: &[Session],
) -> anyhow::Result<Monthly> {
    let first = sessions.iter().map(|session| session.replay.start_time).min();
    let first = first.context("no sessions")?.to_string();
    let month = first.get(..7).context("a time without a month")?;
    reporter(addresses, &["backfill", "--from", month, "--wait"]).await?;
    let json = reporter(addresses, &["show", "--from", month, "--format", "json"]).await?;
    let shown = reporter(addresses, &["show", "--from", month]).await?;
    let reported: Vec<Month> = serde_json::from_str(&json).context("what the reporter shows")?;
    let mut counted = Vec::new();
    for month in &reported {
        counted.push(count_rows(database, &month.report_month_start).await?);
    }
    Ok(Monthly { reported, counted, shown })
}

async fn reporter(addresses: &Addresses, arguments: &[&str]) -> anyhow::Result<String> {
    let folder = tempfile::tempdir()?;
    let (log, output) = (folder.path().join("log"), folder.path().join("output"));
    let line = format!("reporter {}", arguments.join(" "));
    let process = Launch::new(&line, built_program("reporter")?, &log)
        .arguments(arguments)
        .variable("TAPEDECK_DATABASE_URL", Role::Reporter.url(&addresses.database_url)?)
        .output(&output)
        .start()?;
    let status = process.wait_for_exit(COMMAND_WITHIN).await?;
    ensure!(status.success(), "`{line}` failed ({status}):\n{}", process.log());
    Ok(std::fs::read_to_string(&output)?)
}

/// The same figures in the plainest SQL there is.
async fn count_rows(database: &Client, month: &str) -> anyhow::Result<Month> {
    let row = database
        .query_one(
            "WITH month AS (
                 SELECT $1::text::date::timestamp AT TIME ZONE 'UTC' AS first,
                        ($1::text::date + INTERVAL '1 month') AT TIME ZONE 'UTC' AS next
             )
             SELECT (SELECT count(*) FROM users WHERE created_at >= first AND created_at < next),
                    (SELECT count(*) FROM users WHERE created_at < next),
                    (SELECT count(*) FROM replays WHERE start_time >= first AND start_time < next),
                    (SELECT count(*) FROM replays WHERE start_time < next)
             FROM month",
            &[&month],
        )
        .await?;
    Ok(Month {
        report_month_start: month.to_owned(),
        new_users_count: row.try_get(0)?,
        total_users_end: row.try_get(1)?,
        new_replays_count: row.try_get(2)?,
        total_replays_end: row.try_get(3)?,
    })
}
