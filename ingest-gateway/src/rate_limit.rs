//! The share of requests and of bytes that each key may use.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use common::options::Problems;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{InsufficientCapacity, Quota, RateLimiter};
use prometheus::{Histogram, HistogramVec};

use crate::metrics::GatewayMetrics;
use crate::problem::{Kind, Problem};

/// The most a second of either that can be told apart from no limit: time is counted in
/// nanoseconds.
const PER_SECOND_MAX: u32 = 1_000_000_000;

/// The metric's label of the limit of requests.
pub const REQUESTS: &str = "requests";
/// The metric's label of the limit of bytes.
pub const BYTES: &str = "bytes";

/// How fast each key may send.
#[derive(Clone, Copy, Debug, Default, Args)]
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

    /// Bytes a second of each key's request bodies as they come over the wire, in the long run
    /// (without it: as many as there are). All requests without a key share one such limit.
    ///
    /// Set it so that one site's pages cannot take the network and the topics of the others. Each
    /// gateway counts for itself; up to 100 MB a second the limit is kept within a tenth.
    #[arg(long, env = "TAPEDECK_RATE_LIMIT_BYTES_PER_SECOND")]
    pub rate_limit_bytes_per_second: Option<NonZeroU32>,

    /// Bytes of bodies that each key may send at once; by default what it may send in a second, and
    /// at least one body of the largest size.
    ///
    /// Raise it when recorders behind one key send large pages together.
    #[arg(long, env = "TAPEDECK_RATE_LIMIT_BURST_BYTES", requires = "rate_limit_bytes_per_second")]
    pub rate_limit_burst_bytes: Option<NonZeroU32>,
}

impl RateLimitOptions {
    /// Notes every mistake; bodies may have `wire_limit_bytes`.
    pub fn check(self, wire_limit_bytes: usize, problems: &mut Problems) {
        for (option, per_second) in [
            ("--rate-limit-per-second", self.rate_limit_per_second),
            ("--rate-limit-bytes-per-second", self.rate_limit_bytes_per_second),
        ] {
            problems.require(
                per_second.is_none_or(|per_second| per_second.get() <= PER_SECOND_MAX),
                format!("{option} must not be more than {PER_SECOND_MAX}"),
            );
        }
        let holds_largest = self.bytes_quota(wire_limit_bytes).is_none_or(|quota| {
            u32::try_from(wire_limit_bytes).is_ok_and(|limit| limit <= quota.burst_size().get())
        });
        problems.require(
            holds_largest,
            format!(
                "--rate-limit-burst-bytes must be at least {wire_limit_bytes}: a body as large as \
                 --wire-limit-bytes allows could never be sent"
            ),
        );
    }

    fn requests_quota(self) -> Option<Quota> {
        let per_second = self.rate_limit_per_second?;
        let burst = self.rate_limit_burst.unwrap_or(per_second);
        Some(Quota::per_second(per_second).allow_burst(burst))
    }

    fn bytes_quota(self, wire_limit_bytes: usize) -> Option<Quota> {
        let per_second = self.rate_limit_bytes_per_second?;
        let largest = count(wire_limit_bytes);
        let burst = self.rate_limit_burst_bytes.unwrap_or(per_second.max(largest));
        Some(Quota::per_second(per_second).allow_burst(burst))
    }
}

/// What every key may use.
#[derive(Debug)]
pub struct RateLimits {
    requests: Option<Quota>,
    bytes: Option<Quota>,
    left: HistogramVec,
}

impl RateLimits {
    /// The limits that the options set; bodies may have `wire_limit_bytes`.
    pub fn new(
        options: RateLimitOptions,
        wire_limit_bytes: usize,
        metrics: &GatewayMetrics,
    ) -> Self {
        Self {
            requests: options.requests_quota(),
            bytes: options.bytes_quota(wire_limit_bytes),
            left: metrics.rate_limit_left.clone(),
        }
    }

    /// The limits of one key, of which nothing is used up.
    pub fn of_new_key(&self) -> Arc<RateLimit> {
        let share = |quota: Option<Quota>, label: &str| {
            let left = self.left.with_label_values(&[label]);
            quota.map(|quota| Share::new(quota, DefaultClock::default(), left))
        };
        Arc::new(RateLimit {
            requests: share(self.requests, REQUESTS),
            bytes: share(self.bytes, BYTES),
        })
    }
}

/// The rate limits of one key.
#[derive(Debug)]
pub struct RateLimit {
    requests: Option<Share>,
    bytes: Option<Share>,
}

impl RateLimit {
    /// Takes a request.
    ///
    /// # Errors
    /// [`Kind::RateLimited`], with the time after which the next one is let through.
    pub fn take_request(&self) -> Result<(), Problem> {
        let Some(share) = &self.requests else {
            return Ok(());
        };
        share.take(NonZeroU32::MIN, NonZeroU32::MIN).map_err(|wait| {
            Problem::new(Kind::RateLimited, "this key's share of requests is used up")
                .retry_after(wait)
        })
    }

    /// Takes `bytes` of a body that has `body_bytes` at most: all of them, or none.
    ///
    /// # Errors
    /// [`Kind::ByteRateLimited`], with the time after which the whole of such a body is let
    /// through: one whose size nobody knows must not come again only to be refused further on.
    pub fn take_bytes(&self, bytes: usize, body_bytes: usize) -> Result<(), Problem> {
        let (Some(share), true) = (&self.bytes, bytes > 0) else {
            return Ok(());
        };
        share.take(count(bytes), count(body_bytes)).map_err(|wait| {
            Problem::new(Kind::ByteRateLimited, "this key's share of bytes is used up")
                .retry_after(wait)
        })
    }
}

/// Bytes as a limiter counts them.
fn count(bytes: usize) -> NonZeroU32 {
    u32::try_from(bytes)
        .map_or(NonZeroU32::MAX, |bytes| bytes.try_into().unwrap_or(NonZeroU32::MIN))
}

/// What a key may use of one thing.
#[derive(Debug)]
struct Share<C: Clock = DefaultClock> {
    clock: C,
    limiter: RateLimiter<NotKeyed, InMemoryState, C, StateInformationMiddleware>,
    /// How long it takes until there is one more.
    interval: Duration,
    /// All that may be used at once.
    burst: f64,
    left: Histogram,
}

impl<C: Clock + Clone> Share<C> {
    fn new(quota: Quota, clock: C, left: Histogram) -> Self {
        Self {
            limiter: RateLimiter::direct_with_clock(quota, clock.clone()).with_middleware(),
            clock,
            interval: quota.replenish_interval(),
            burst: f64::from(quota.burst_size().get()),
            left,
        }
    }

    /// Takes so many, or none; observes what part of all is left. Else it says after what time
    /// `next` are there, if nobody else takes them.
    fn take(&self, needed: NonZeroU32, next: NonZeroU32) -> Result<(), Duration> {
        let more = self.interval.saturating_mul(next.get().saturating_sub(needed.get()));
        match self.limiter.check_n(needed) {
            Ok(Ok(state)) => {
                self.left.observe(f64::from(state.remaining_burst_capacity()) / self.burst);
                Ok(())
            }
            Ok(Err(until)) => {
                self.left.observe(0.0);
                Err(until.wait_time_from(self.clock.now()).saturating_add(more))
            }
            // More than there ever is, which the options' check rules out.
            Err(InsufficientCapacity(_)) => Err(self.interval.saturating_mul(needed.get())),
        }
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;
    use prometheus::Registry;

    use super::*;

    const WIRE_LIMIT_BYTES: usize = 1_000;

    fn limit(options: RateLimitOptions) -> Arc<RateLimit> {
        let metrics = GatewayMetrics::with_series(&Registry::new()).unwrap();
        RateLimits::new(options, WIRE_LIMIT_BYTES, &metrics).of_new_key()
    }

    #[test]
    fn a_burst_is_let_through_and_then_no_more() {
        let limit = limit(RateLimitOptions {
            rate_limit_per_second: NonZeroU32::new(1),
            rate_limit_burst: NonZeroU32::new(3),
            ..RateLimitOptions::default()
        });
        let results: Vec<_> = (0..4).map(|_| limit.take_request()).collect();
        assert!(results[..3].iter().all(Result::is_ok));
        let problem = results[3].clone().unwrap_err();
        assert_eq!(problem.kind, Kind::RateLimited);
        assert_eq!(problem.retry_after_header().unwrap(), "1");
        assert!(limit.take_bytes(1_000, 1_000).is_ok(), "bytes are another limit");
    }

    #[test]
    fn without_a_setting_there_is_no_limit() {
        let limit = limit(RateLimitOptions::default());
        assert!((0..10_000).all(|_| limit.take_request().is_ok()));
        assert!((0..10_000).all(|_| limit.take_bytes(usize::MAX, usize::MAX).is_ok()));
    }

    #[test]
    fn bodies_are_let_through_in_whole_or_not_at_all() {
        let limit = limit(RateLimitOptions {
            rate_limit_bytes_per_second: NonZeroU32::new(1),
            ..RateLimitOptions::default()
        });
        let check = |bytes, expected: Result<(), Kind>| {
            let taken = limit.take_bytes(bytes, bytes).map_err(|problem| problem.kind);
            assert_eq!(taken, expected, "{bytes}");
        };
        // By default the burst is one largest body.
        check(600, Ok(()));
        check(0, Ok(()));
        check(550, Err(Kind::ByteRateLimited));
        // What was refused has cost nothing.
        check(390, Ok(()));
        check(100, Err(Kind::ByteRateLimited));
        check(usize::MAX, Err(Kind::ByteRateLimited));
        assert!(limit.take_request().is_ok(), "requests are another limit");
    }

    #[test]
    fn what_is_refused_is_let_through_after_the_time_it_was_told() {
        fn check(per_second: u32, burst: u32, used: u32, needed: u32, next: u32) {
            let count = |number| NonZeroU32::new(number).unwrap();
            let (clock, left) = (FakeRelativeClock::default(), left());
            let quota = Quota::per_second(count(per_second)).allow_burst(count(burst));
            let share = Share::new(quota, clock.clone(), left);
            share.take(count(used), count(used)).unwrap();
            let wait = share.take(count(needed), count(next)).unwrap_err();
            clock.advance(wait - Duration::from_nanos(1));
            share.take(count(next), count(next)).unwrap_err();
            clock.advance(Duration::from_nanos(1));
            share.take(count(next), count(next)).unwrap();
        }
        check(1, 1, 1, 1, 1);
        check(100, 1_000, 600, 500, 500);
        check(100, 1_000, 1_000, 1, 1_000);
        check(1_000_000, 8 << 20, 8 << 20, 1 << 20, 8 << 20);
    }

    fn left() -> Histogram {
        let options = prometheus::HistogramOpts::new("left", "Part left.");
        Histogram::with_opts(options.buckets(vec![0.0, 0.5])).unwrap()
    }

    #[test]
    fn how_near_a_limit_is_shows() {
        let (burst, half) = (NonZeroU32::new(10).unwrap(), NonZeroU32::new(5).unwrap());
        let left = left();
        let quota = Quota::per_second(burst);
        let share = Share::new(quota, FakeRelativeClock::default(), left.clone());
        share.take(NonZeroU32::MIN, NonZeroU32::MIN).unwrap();
        share.take(half, half).unwrap();
        share.take(half, half).unwrap_err();
        assert_eq!(left.get_sample_count(), 3);
        assert!((left.get_sample_sum() - (0.9 + 0.4)).abs() < 1e-9);
    }

    #[test]
    fn a_body_that_could_never_be_sent_is_found_at_start() {
        fn check(per_second: u32, burst: Option<u32>, wire_limit_bytes: usize, expected: &[&str]) {
            let options = RateLimitOptions {
                rate_limit_bytes_per_second: NonZeroU32::new(per_second),
                rate_limit_burst_bytes: burst.and_then(NonZeroU32::new),
                ..RateLimitOptions::default()
            };
            let mut problems = Problems::default();
            options.check(wire_limit_bytes, &mut problems);
            let problems = problems.into_vec();
            assert_eq!(problems.len(), expected.len(), "{problems:?}");
            for (problem, part) in problems.iter().zip(expected) {
                assert!(problem.contains(part), "{problem}");
            }
        }
        check(1, None, 1_000, &[]);
        check(1, Some(1_000), 1_000, &[]);
        check(5_000, Some(999), 1_000, &["--rate-limit-burst-bytes must be at least 1000"]);
        check(1, None, usize::MAX, &["--rate-limit-burst-bytes"]);
        check(PER_SECOND_MAX + 1, None, 1_000, &["--rate-limit-bytes-per-second"]);
    }
}
