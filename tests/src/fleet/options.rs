//! What a run of the fleet is like.

use std::num::NonZeroUsize;
use std::str::FromStr;
use std::time::Duration;

use common::options::Secret;

use super::unruly::Unruliness;

/// How long a recorder goes on resending what nobody refuses, unless told otherwise.
pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(120);

/// How long a recorder waits for an answer unless told otherwise: longer than the gateway waits
/// for Kafka.
pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Settings of one run.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    /// The gateways, `http://host:port` each; at least one.
    pub gateway_urls: Vec<String>,
    /// The key to show, if the gateway wants one.
    pub key: Option<Secret>,
    /// How many recorders may be at work at once.
    pub concurrency: NonZeroUsize,
    /// How fast the recordings pass.
    pub speed: Speed,
    /// How long to go on resending a batch before it counts as lost.
    pub patience: Duration,
    /// How long to wait for an answer.
    pub request_timeout: Duration,
    /// How far recorders stray from sending each batch once and in order.
    pub unruliness: Unruliness,
    /// What choices (intervals, encodings, late pages, unruliness) are derived from.
    pub seed: u64,
}

/// How fast recordings pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// This many seconds of recording a second; above 0.
    Times(f64),
    /// As fast as the gateway answers.
    Max,
}

impl Speed {
    /// How long a stretch of recording time takes.
    pub fn wall_time(self, recorded: Duration) -> Duration {
        match self {
            Self::Times(factor) => recorded.div_f64(factor),
            Self::Max => Duration::ZERO,
        }
    }
}

impl FromStr for Speed {
    type Err = String;

    /// Reads `max`, 0 (the same) or a factor.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse::<f64>() {
            _ if text == "max" => Ok(Self::Max),
            Ok(0.0) => Ok(Self::Max),
            Ok(factor) if (0.001..=1e6).contains(&factor) => Ok(Self::Times(factor)),
            _ => Err("must be max, 0 (the same), or a factor from 0.001 to 1000000".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_factors_or_as_fast_as_it_goes() {
        fn check(text: &str, expected: Option<Speed>) {
            assert_eq!(text.parse().ok(), expected, "{text}");
        }
        check("1", Some(Speed::Times(1.0)));
        check("20", Some(Speed::Times(20.0)));
        check("0.5", Some(Speed::Times(0.5)));
        check("0", Some(Speed::Max));
        check("max", Some(Speed::Max));
        check("-1", None);
        check("NaN", None);
        check("inf", None);
        check("fast", None);
    }
}
