//! What an envelope may hold: the limits of the recorder API, all of them settings.

use clap::Args;
use common::limits::MIB;
use common::options::{CheckOptions, Problems};
use common::time::Timestamp;

use super::shape::LIST_CEILING;

/// Microseconds in an hour.
const MICROS_PER_HOUR: i64 = 3_600_000_000;

/// Limits of counts and lengths (beyond them 422), of sizes (413) and of times (422).
#[derive(Clone, Debug, Args)]
pub struct EnvelopeRules {
    /// Most events of an envelope.
    ///
    /// Raise it for recorders that collect for longer between batches.
    #[arg(long, env = "TAPEDECK_EVENTS_LIMIT", default_value_t = 10_000)]
    pub events_limit: usize,

    /// Most page states of an envelope.
    ///
    /// Raise it for recorders that see more pages between batches.
    #[arg(long, env = "TAPEDECK_WEBSTATES_LIMIT", default_value_t = 1_000)]
    pub webstates_limit: usize,

    /// Longest email address, in bytes.
    ///
    /// Change it only if the addresses of your users are no usual ones.
    #[arg(long, env = "TAPEDECK_EMAIL_LIMIT_BYTES", default_value_t = 320)]
    pub email_limit_bytes: usize,

    /// Longest user name, in bytes.
    ///
    /// Change it only if longer names are usual with you.
    #[arg(long, env = "TAPEDECK_NAME_LIMIT_BYTES", default_value_t = 1_024)]
    pub name_limit_bytes: usize,

    /// Longest initial URL, in bytes.
    ///
    /// Lower it when sites put data into addresses that you do not want to keep.
    #[arg(long, env = "TAPEDECK_URL_LIMIT_BYTES", default_value_t = 65_536)]
    pub url_limit_bytes: usize,

    /// Largest data of one event, in bytes.
    ///
    /// Lower it to refuse recorders that put whole files into an event; it cannot be larger than a
    /// record.
    #[arg(long, env = "TAPEDECK_EVENT_DATA_LIMIT_BYTES", default_value_t = 8 * MIB)]
    pub event_data_limit_bytes: usize,

    /// Levels that an event's data may nest. Postgres 15 refuses 15,000.
    ///
    /// Lower it where other readers of the tables cannot take such depth.
    #[arg(long, env = "TAPEDECK_EVENT_DATA_DEPTH_LIMIT", default_value_t = 10_000)]
    pub event_data_depth_limit: usize,

    /// Times before this one are refused.
    ///
    /// Set it later to refuse recorders whose clock stands at its beginning: the least of all times
    /// is kept for ever.
    #[arg(
        long,
        env = "TAPEDECK_EARLIEST_TIME",
        default_value = "2000-01-01T00:00:00Z",
        value_parser = Timestamp::parse_rfc3339,
    )]
    pub earliest_time: Timestamp,

    /// Times more than so many hours ahead of the gateway's clock are refused.
    ///
    /// Lower it to refuse clocks that are fast; the greatest of all times is kept for ever.
    #[arg(long, env = "TAPEDECK_HOURS_AHEAD_LIMIT", default_value_t = 24)]
    pub hours_ahead_limit: u32,
}

impl EnvelopeRules {
    /// The latest time that is accepted at `now`.
    pub fn latest_time(&self, now: Timestamp) -> Timestamp {
        let ahead = i64::from(self.hours_ahead_limit) * MICROS_PER_HOUR;
        Timestamp::from_micros(now.micros().saturating_add(ahead))
    }
}

impl CheckOptions for EnvelopeRules {
    fn check(&self, problems: &mut Problems) {
        let counts = 1..=LIST_CEILING;
        problems.require(
            counts.contains(&self.events_limit),
            format!("--events-limit must lie between 1 and {LIST_CEILING}"),
        );
        problems.require(
            counts.contains(&self.webstates_limit),
            format!("--webstates-limit must lie between 1 and {LIST_CEILING}"),
        );
        problems.require(
            self.event_data_depth_limit <= 10_000,
            "--event-data-depth-limit must not exceed 10000, which Postgres takes",
        );
    }
}

#[cfg(test)]
impl Default for EnvelopeRules {
    fn default() -> Self {
        use clap::Parser;
        #[derive(Parser)]
        struct Alone {
            #[command(flatten)]
            rules: EnvelopeRules,
        }
        Alone::parse_from(["rules"]).rules
    }
}
