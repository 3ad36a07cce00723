//! The reporter's command line.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use common::database::DatabaseOptions;
use common::logging::LogOptions;
use common::options::{CheckConfig, CheckOptions, Problems};
use common::traces::TraceOptions;

use crate::month::Month;

/// The longest window, a century: more is a slip of the keyboard, as is every row of all time.
const MAX_WINDOW_MONTHS: u32 = 1_200;

/// Rolls up users and replays by calendar month in UTC.
#[derive(Clone, Debug, Parser)]
#[command(name = "reporter", version)]
pub struct ReporterOptions {
    /// What is logged.
    #[command(flatten)]
    pub log: LogOptions,
    /// Whether only to check.
    #[command(flatten)]
    pub check_config: CheckConfig,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the reporter does.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Keep the reports up to date, until stopped.
    Serve(Box<ServeOptions>),
    /// Count one month, totals too, from the rows.
    Run(RunOptions),
    /// Count all months up to the current one from the rows.
    Backfill(BackfillOptions),
    /// Print the stored reports.
    Show(ShowOptions),
}

/// Options of `reporter serve`.
#[derive(Clone, Debug, Args)]
pub struct ServeOptions {
    /// The database.
    #[command(flatten)]
    pub database: DatabaseOptions,
    /// Limits of a roll-up.
    #[command(flatten)]
    pub limits: RollupLimits,

    /// Address of the admin port: /metrics, /livez, /readyz.
    ///
    /// Change it to keep metrics and probes on an inner interface: whoever reaches this port can
    /// read both, without a key.
    #[arg(long, env = "TAPEDECK_ADMIN_LISTEN", default_value = "0.0.0.0:9090")]
    pub admin_listen: SocketAddr,

    /// Seconds between roll-ups of the window (less up to a tenth, at random).
    ///
    /// Raise it where reports may be older; a roll-up of the window takes a second or less.
    #[arg(long, env = "TAPEDECK_REPORTER_INTERVAL_SECONDS", default_value_t = 60)]
    pub interval_seconds: u32,

    /// Months before the current one that are counted every time, for what arrives late.
    ///
    /// Raise it when recorders deliver events later than this.
    #[arg(long, env = "TAPEDECK_REPORTER_WINDOW_MONTHS", default_value_t = 3)]
    pub window_months: u32,

    /// Seconds between recounts of all months, for what arrives later than the window.
    ///
    /// Lower it when more arrives later than the window and reports must not wait a week for it.
    #[arg(long, env = "TAPEDECK_REPORTER_FULL_INTERVAL_SECONDS", default_value_t = 7 * 24 * 3_600)]
    pub full_interval_seconds: u32,

    /// Traces.
    #[command(flatten)]
    pub traces: TraceOptions,
}

/// Limits of a roll-up.
#[derive(Clone, Debug, Args)]
pub struct RollupLimits {
    /// Seconds that one roll-up may take, and any statement of it.
    ///
    /// Raise it when a full recount of a long history takes longer on your Postgres.
    #[arg(long, env = "TAPEDECK_REPORTER_ROLLUP_TIMEOUT_SECONDS", default_value_t = 1_800)]
    pub rollup_timeout_seconds: u32,
}

impl RollupLimits {
    /// How long one roll-up may take.
    pub fn rollup_timeout(&self) -> Duration {
        Duration::from_secs(self.rollup_timeout_seconds.into())
    }
}

/// Options of the commands that roll up once.
#[derive(Clone, Debug, Args)]
pub struct OneOffOptions {
    /// The database.
    #[command(flatten)]
    pub database: DatabaseOptions,
    /// Limits of the roll-up.
    #[command(flatten)]
    pub limits: RollupLimits,

    /// While another reporter is at work, wait, rather than exit with code 75.
    #[arg(long, env = "TAPEDECK_REPORTER_WAIT")]
    pub wait: bool,
}

/// Options of `reporter run`.
#[derive(Clone, Debug, Args)]
pub struct RunOptions {
    /// What it shares with the other one-off command.
    #[command(flatten)]
    pub one_off: OneOffOptions,

    /// The month, like 2026-10.
    #[arg(long, env = "TAPEDECK_REPORTER_MONTH")]
    pub month: Month,
}

/// Options of `reporter backfill`.
#[derive(Clone, Debug, Args)]
pub struct BackfillOptions {
    /// What it shares with the other one-off command.
    #[command(flatten)]
    pub one_off: OneOffOptions,

    /// The month to begin with, like 2026-01; without it, the first with rows or a report.
    #[arg(long, env = "TAPEDECK_REPORTER_FROM")]
    pub from: Option<Month>,
}

/// Options of `reporter show`.
#[derive(Clone, Debug, Args)]
pub struct ShowOptions {
    /// The database.
    #[command(flatten)]
    pub database: DatabaseOptions,

    /// How to print them.
    #[arg(long, env = "TAPEDECK_REPORTER_FORMAT", value_enum, default_value_t = Format::Table)]
    pub format: Format,

    /// The first month, like 2026-01; without it, the first with a report.
    #[arg(long, env = "TAPEDECK_REPORTER_FROM")]
    pub from: Option<Month>,

    /// The last month, like 2026-10; without it, the last with a report.
    #[arg(long, env = "TAPEDECK_REPORTER_TO")]
    pub to: Option<Month>,
}

/// How reports are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// An array of objects.
    Json,
    /// Comma-separated values with a header line.
    Csv,
}

impl CheckOptions for ReporterOptions {
    fn check(&self, problems: &mut Problems) {
        match &self.command {
            Command::Serve(serve) => serve.check(problems),
            Command::Run(run) => run.one_off.check(problems),
            Command::Backfill(backfill) => backfill.one_off.check(problems),
            Command::Show(show) => {
                show.database.check(problems);
                if let (Some(from), Some(to)) = (show.from, show.to) {
                    problems.require(from <= to, format!("--from {from} is later than --to {to}"));
                }
            }
        }
    }

    fn is_check_only(&self) -> bool {
        self.check_config.check_config
    }
}

impl CheckOptions for ServeOptions {
    fn check(&self, problems: &mut Problems) {
        self.database.check(problems);
        self.limits.check(problems);
        self.traces.check(problems);
        problems.require(self.interval_seconds > 0, "--interval-seconds must not be 0");
        problems.require(
            self.full_interval_seconds >= self.interval_seconds,
            "--full-interval-seconds must not be less than --interval-seconds",
        );
        problems.require(
            self.window_months <= MAX_WINDOW_MONTHS,
            format!("--window-months must not exceed {MAX_WINDOW_MONTHS}"),
        );
    }
}

impl CheckOptions for RollupLimits {
    fn check(&self, problems: &mut Problems) {
        // Postgres takes it in milliseconds, as a signed number of 32 bits.
        let max_seconds = i32::MAX.unsigned_abs() / 1_000;
        problems.require(
            (1..=max_seconds).contains(&self.rollup_timeout_seconds),
            format!("--rollup-timeout-seconds must be from 1 to {max_seconds}"),
        );
    }
}

impl CheckOptions for OneOffOptions {
    fn check(&self, problems: &mut Problems) {
        self.database.check(problems);
        self.limits.check(problems);
    }
}

#[cfg(test)]
mod tests {
    use common::options::{Refused, try_parse};

    use super::*;

    #[test]
    fn every_mistake_is_named() {
        fn check(line: &str, expected: &[&str]) {
            let arguments = line.split(' ').map(std::ffi::OsString::from);
            let problems = match try_parse::<ReporterOptions>(arguments) {
                Ok(_) => vec![],
                Err(Refused::Problems(problems)) => problems,
                Err(Refused::Clap(error)) => vec![error.to_string()],
            };
            assert_eq!(problems.len(), expected.len(), "{problems:?}");
            for part in expected {
                assert!(
                    problems.iter().any(|problem| problem.contains(part)),
                    "{problems:?}: {part}"
                );
            }
        }
        let at = "--database-url postgres://localhost/tapedeck";
        check(&format!("reporter run {at} --month 2026-10 --wait"), &[]);
        check(&format!("reporter run {at}"), &["--month"]);
        check(&format!("reporter run {at} --month 2026-13"), &["--month"]);
        check(&format!("reporter backfill {at}"), &[]);
        check(&format!("reporter show {at} --from 2026-02 --to 2026-01"), &["--from 2026-02"]);
        check(
            "reporter serve --interval-seconds 0 --full-interval-seconds x --window-months 2000",
            &["--full-interval-seconds"],
        );
        check(
            "reporter serve --interval-seconds 0 --rollup-timeout-seconds 0 --window-months 2000",
            &[
                "--database-url",
                "--interval-seconds",
                "--rollup-timeout-seconds",
                "--window-months",
            ],
        );
    }
}
