//! Logs on standard error, for people or for machines.

use std::time::Duration;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::repeats::{self, DEFAULT_PERIOD_SECONDS};

/// What is logged, and how.
#[derive(Clone, Debug, Args)]
pub struct LogOptions {
    /// Which events to log, in the syntax of tracing's EnvFilter: `info`, `warn,writer=debug`.
    ///
    /// Set it to `debug` for one target while looking for a cause. Of Postgres' client warnings at
    /// most are logged, whatever this says: below them it quotes what is written.
    #[arg(long, env = "TAPEDECK_LOG", default_value = "info", global = true)]
    pub log: EnvFilterText,

    /// How to write them.
    ///
    /// Use `json` wherever logs are collected by a program.
    #[arg(long, env = "TAPEDECK_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text, global = true)]
    pub log_format: LogFormat,

    /// Seconds for which an error is not logged again after a line about the same cause; the next
    /// line says how many were left out.
    ///
    /// Lower it to see more of an outage while it lasts; with 0 every error is logged.
    #[arg(long, env = "TAPEDECK_LOG_REPEAT_SECONDS", default_value_t = DEFAULT_PERIOD_SECONDS, global = true)]
    pub log_repeat_seconds: u64,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A filter known to be well formed.
#[derive(Clone, Debug)]
pub struct EnvFilterText(String);

impl std::str::FromStr for EnvFilterText {
    type Err = tracing_subscriber::filter::ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        EnvFilter::builder().parse(text).map(|_| Self(text.to_owned()))
    }
}

impl std::fmt::Display for EnvFilterText {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What wins over the operator's filter: libraries that below these levels log what passes through
/// them. (A target of more parts would win over one of fewer.)
const CAPS: [&str; 4] = [
    "tokio_postgres=warn",
    "tokio_postgres::connection=warn",
    "tokio_postgres::query=warn",
    "tokio_postgres::simple_query=warn",
];

/// The operator's filter within the caps.
fn capped(filter: &str) -> EnvFilter {
    let caps = CAPS.iter().filter_map(|cap| cap.parse().ok());
    caps.fold(EnvFilter::builder().parse_lossy(filter), EnvFilter::add_directive)
}

/// Begins to log. Later calls in the same process change nothing.
pub fn init(options: &LogOptions) {
    repeats::set_period(Duration::from_secs(options.log_repeat_seconds));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(capped(&options.log.0))
        .with_writer(std::io::stderr)
        .with_target(true);
    let installed = match options.log_format {
        LogFormat::Text => subscriber.with_ansi(false).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).with_span_list(false).try_init(),
    };
    // Only a test that runs two services in one process gets here twice.
    drop(installed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_filter_lets_content_into_the_log() {
        for filter in ["trace", "debug,tokio_postgres=trace", "tokio_postgres::query=debug,warn"] {
            let capped = capped(filter).to_string();
            let directives: Vec<&str> = capped.split(',').collect();
            for cap in CAPS {
                assert!(directives.contains(&cap), "{filter} became {capped}");
            }
            let of_client = directives.iter().filter(|it| it.starts_with("tokio_postgres"));
            assert_eq!(of_client.count(), CAPS.len(), "{filter} became {capped}");
        }
    }
}
