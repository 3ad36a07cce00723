//! The share of requests that each key may use.

use std::num::NonZeroU32;
use std::time::Duration;

use clap::Args;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use crate::problem::{Kind, Problem};

/// How fast each key may send.
#[derive(Clone, Copy, Debug, Args)]
pub struct RateLimitOptions {
    /// Requests a second of each key, in the long run (without it: as many as there are). All
    /// requests without a key share one such limit.
    ///
    /// Set it so that one site's recorders cannot take the room of the others. Each gateway counts
    /// for itself.
    #[arg(long, env = "TAPEDECK_RATE_LIMIT_PER_SECOND")]
    pub rate_limit_per_second: Option<NonZeroU32>,

    /// Requests that each key may send at once; by default what it may send in a second.
    ///
    /// Raise it when recorders behind one key wake up together, as at the beginning of an hour.
    #[arg(long, env = "TAPEDECK_RATE_LIMIT_BURST", requires = "rate_limit_per_second")]
    pub rate_limit_burst: Option<NonZeroU32>,
}

/// The rate limit of one key.
#[derive(Debug)]
pub struct RateLimit(Option<DefaultDirectRateLimiter>);

impl RateLimit {
    /// A limit of which nothing is used up.
    pub fn new(options: RateLimitOptions) -> Self {
        Self(options.rate_limit_per_second.map(|per_second| {
            let burst = options.rate_limit_burst.unwrap_or(per_second);
            RateLimiter::direct(Quota::per_second(per_second).allow_burst(burst))
        }))
    }

    /// Counts a request.
    ///
    /// # Errors
    /// [`Kind::RateLimited`], with the time after which the next one is let through.
    pub fn check(&self) -> Result<(), Problem> {
        let Some(limiter) = &self.0 else {
            return Ok(());
        };
        limiter.check().map_err(|until| {
            let wait: Duration = until.wait_time_from(DefaultClock::default().now());
            Problem::new(Kind::RateLimited, "this key's share of requests is used up")
                .retry_after(wait)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_let_through_and_then_no_more() {
        let limit = RateLimit::new(RateLimitOptions {
            rate_limit_per_second: NonZeroU32::new(1),
            rate_limit_burst: NonZeroU32::new(3),
        });
        let results: Vec<_> = (0..4).map(|_| limit.check()).collect();
        assert!(results[..3].iter().all(Result::is_ok));
        let problem = results[3].clone().unwrap_err();
        assert_eq!(problem.kind, Kind::RateLimited);
        assert_eq!(problem.retry_after_header().unwrap(), "1");
    }

    #[test]
    fn without_a_setting_there_is_no_limit() {
        let options = RateLimitOptions { rate_limit_per_second: None, rate_limit_burst: None };
        let limit = RateLimit::new(options);
        assert!((0..10_000).all(|_| limit.check().is_ok()));
    }
}
