//! What is due when.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use common::time::Timestamp;

/// Delay after the first failure in a row; doubled with each one more.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Delay after a full recount first failed in a row. It is costly, and the window goes on.
const FIRST_FULL_RETRY: Duration = Duration::from_secs(60);
/// The longest delay between tries of a full recount.
const MAX_FULL_RETRY: Duration = Duration::from_secs(6 * 3_600);
/// The part of an interval by which it is shortened at random, so that replicas started together
/// don't stay together.
const JITTER: f64 = 0.1;

/// When the next roll-up of the window and the next full recount are due.
#[derive(Debug)]
pub struct Schedule {
    interval: Duration,
    full_interval: Duration,
    retries: ExponentialBackoff,
    full_retries: ExponentialBackoff,
    full_not_before: Option<Timestamp>,
}

impl Schedule {
    /// Rolls up the window every `interval`, recounts everything every `full_interval`.
    pub fn new(interval: Duration, full_interval: Duration) -> Self {
        Self {
            interval,
            full_interval,
            retries: retries(interval),
            full_retries: full_retries(),
            full_not_before: None,
        }
    }

    /// How long to wait after a roll-up of the window went well (or another reporter was at it);
    /// `fraction`, from 0 to 1, is drawn at random.
    pub fn after_success(&mut self, fraction: f64) -> Duration {
        self.retries = retries(self.interval);
        self.interval.mul_f64(1.0 - JITTER * fraction)
    }

    /// How long to wait after one failed: less than the interval at first.
    pub fn after_failure(&mut self) -> Duration {
        self.retries.next().unwrap_or(self.interval)
    }

    /// Whether a full recount is due at `now`. `last` is when the stored reports were last all
    /// counted again, which is known after a restart and by every replica.
    pub fn full_is_due(&self, now: Timestamp, last: Option<Timestamp>) -> bool {
        let interval_passed =
            last.is_none_or(|last| now.seconds_since(last) >= self.full_interval.as_secs_f64());
        interval_passed && self.full_not_before.is_none_or(|not_before| now >= not_before)
    }

    /// A full recount failed at `now`.
    pub fn full_failed(&mut self, now: Timestamp) {
        let delay = self.full_retries.next().unwrap_or(MAX_FULL_RETRY);
        let micros = i64::try_from(delay.as_micros()).unwrap_or(i64::MAX);
        self.full_not_before = Some(Timestamp::from_micros(now.micros().saturating_add(micros)));
    }

    /// A full recount went well.
    pub fn full_succeeded(&mut self) {
        self.full_retries = full_retries();
        self.full_not_before = None;
    }
}

fn retries(interval: Duration) -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(FIRST_RETRY.min(interval))
        .with_max_delay(interval)
        .with_jitter()
        .without_max_times()
        .build()
}

fn full_retries() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(FIRST_FULL_RETRY)
        .with_max_delay(MAX_FULL_RETRY)
        .without_max_times()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(60);
    const WEEK: Duration = Duration::from_secs(7 * 24 * 3_600);

    fn seconds(seconds: i64) -> Timestamp {
        Timestamp::from_micros(1_800_000_000_000_000 + seconds * 1_000_000)
    }

    #[test]
    fn a_full_recount_is_due_when_the_oldest_report_is_a_week_old() {
        fn check(last: Option<i64>, now: i64, expected: bool) {
            let schedule = Schedule::new(INTERVAL, WEEK);
            let due = schedule.full_is_due(seconds(now), last.map(seconds));
            assert_eq!(due, expected, "{last:?} {now}");
        }
        check(None, 0, true);
        check(Some(0), 0, false);
        check(Some(0), 7 * 24 * 3_600 - 1, false);
        check(Some(0), 7 * 24 * 3_600, true);
        check(Some(100), 0, false);
    }

    #[test]
    fn a_failed_full_recount_is_put_off_longer_each_time() {
        let mut schedule = Schedule::new(INTERVAL, WEEK);
        schedule.full_failed(seconds(0));
        assert!(!schedule.full_is_due(seconds(59), None));
        assert!(schedule.full_is_due(seconds(60), None));
        schedule.full_failed(seconds(60));
        assert!(!schedule.full_is_due(seconds(179), None));
        assert!(schedule.full_is_due(seconds(180), None));
        for _ in 0..50 {
            schedule.full_failed(seconds(200));
        }
        assert!(!schedule.full_is_due(seconds(200 + 6 * 3_600 - 1), None));
        assert!(schedule.full_is_due(seconds(200 + 6 * 3_600), None));
        schedule.full_succeeded();
        assert!(schedule.full_is_due(seconds(201), None));
    }

    #[test]
    fn a_failed_roll_up_is_tried_again_sooner_than_the_next_would_be() {
        let mut schedule = Schedule::new(INTERVAL, WEEK);
        let first = schedule.after_failure();
        assert!((FIRST_RETRY..=2 * FIRST_RETRY).contains(&first), "{first:?}");
        let later = (0..20).map(|_| schedule.after_failure()).max().unwrap();
        assert!((INTERVAL..=2 * INTERVAL).contains(&later), "{later:?}");
        schedule.after_success(0.0);
        assert!(schedule.after_failure() <= 2 * FIRST_RETRY);
    }

    #[test]
    fn intervals_are_shortened_by_up_to_a_tenth() {
        let mut schedule = Schedule::new(INTERVAL, WEEK);
        assert_eq!(schedule.after_success(0.0), INTERVAL);
        assert_eq!(schedule.after_success(1.0), Duration::from_secs(54));
    }
}
