//! Errors that repeat: the first of a cause is logged at once, then one line a period that says how
//! many were left out, and a last one when all is over.
//!
//! ```
//! use common::repeats::Repeats;
//!
//! let repeats = Repeats::default();
//! # let attempt = || Err::<(), _>("refused");
//! match attempt() {
//!     Ok(()) => {
//!         if let Some(over) = repeats.over() {
//!             tracing::info!(failures = over.failures, seconds = over.seconds(), "done again");
//!         }
//!     }
//!     Err(error) => {
//!         if let Some(left_out) = repeats.failed(&error) {
//!             tracing::warn!(error, left_out, "not done; trying again");
//!         }
//!     }
//! }
//! ```

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use prometheus::{IntCounter, Registry};

/// How often a cause is logged while nothing else was said.
pub const DEFAULT_PERIOD_SECONDS: u64 = 60;

/// Causes told apart at a time; what comes beyond counts as one.
const MAX_CAUSES: usize = 16;

/// What is kept of the text of a cause.
const MAX_CAUSE_CHARACTERS: usize = 200;

/// The cause that stands for all beyond [`MAX_CAUSES`].
const ANY_OTHER: &str = "";

crate::metrics! {
    /// What the log does not say.
    pub struct LogMetrics {
        /// Errors counted and not logged, because a line about the same cause had been written within the period of TAPEDECK_LOG_REPEAT_SECONDS.
        left_out: IntCounter = "tapedeck_log_errors_left_out_total";
    }
}

static PERIOD: OnceLock<Duration> = OnceLock::new();
static LEFT_OUT: OnceLock<IntCounter> = OnceLock::new();

/// Sets how often a cause is logged, for the whole process. Later calls change nothing.
pub fn set_period(period: Duration) {
    PERIOD.get_or_init(|| period);
}

/// Exports what is left out, for the whole process. Of several calls the first one's registry gets
/// the figure.
///
/// # Errors
/// When the name is taken.
pub fn register(registry: &Registry) -> prometheus::Result<()> {
    let metrics = LogMetrics::register(registry)?;
    LEFT_OUT.get_or_init(|| metrics.left_out);
    Ok(())
}

/// One thing that can fail again and again.
#[derive(Debug, Default)]
pub struct Repeats {
    /// Whether anything failed since it last went well: asked about each success.
    failing: AtomicBool,
    state: Mutex<State>,
}

impl Repeats {
    /// Notes a failure. If it is to be logged, gives how many of its cause were not since the last
    /// line about it.
    pub fn failed(&self, error: &dyn Display) -> Option<u64> {
        let cause = cause(&error.to_string());
        let period = *PERIOD.get_or_init(|| Duration::from_secs(DEFAULT_PERIOD_SECONDS));
        let line = self.change(|state| {
            self.failing.store(true, Ordering::Release);
            state.failed(cause, period, Instant::now())
        });
        if line.is_none()
            && let Some(metric) = LEFT_OUT.get()
        {
            metric.inc();
        }
        line
    }

    /// Whether anything has failed since it last went well.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Acquire)
    }

    /// Notes a success. Gives what is over if that is to be logged: failures of which the log told.
    pub fn over(&self) -> Option<Over> {
        if !self.is_failing() {
            return None;
        }
        self.change(|state| {
            self.failing.store(false, Ordering::Release);
            state.over(Instant::now())
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Failures that have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    /// How many there were, logged or not.
    pub failures: u64,
    /// From the first one to the success.
    pub lasted: Duration,
}

impl Over {
    /// How long it lasted, in seconds.
    pub fn seconds(&self) -> f64 {
        self.lasted.as_secs_f64()
    }
}

/// What has failed so far. Every decision is here; [`Repeats`] shares it.
#[derive(Debug, Default)]
struct State {
    /// Kept for a period beyond the end of the failures: what comes and goes is not logged each
    /// time that it does.
    causes: BTreeMap<String, Cause>,
    episode: Option<Episode>,
}

#[derive(Debug)]
struct Cause {
    logged_at: Instant,
    left_out: u64,
}

/// From the first failure to the next success.
#[derive(Debug)]
struct Episode {
    began_at: Instant,
    failures: u64,
    logged: bool,
}

impl State {
    fn failed(&mut self, cause: String, period: Duration, now: Instant) -> Option<u64> {
        let recent = |at: Instant| now.saturating_duration_since(at) < period;
        if !self.causes.contains_key(&cause) && self.causes.len() >= MAX_CAUSES {
            self.causes.retain(|_, known| recent(known.logged_at));
        }
        let known = self.causes.contains_key(&cause) || self.causes.len() < MAX_CAUSES;
        let key = if known { cause } else { ANY_OTHER.to_owned() };
        let line = match self.causes.get_mut(&key) {
            Some(cause) if recent(cause.logged_at) => {
                cause.left_out += 1;
                None
            }
            Some(cause) => {
                cause.logged_at = now;
                Some(std::mem::take(&mut cause.left_out))
            }
            None => {
                self.causes.insert(key, Cause { logged_at: now, left_out: 0 });
                Some(0)
            }
        };
        let episode =
            self.episode.get_or_insert(Episode { began_at: now, failures: 0, logged: false });
        episode.failures += 1;
        episode.logged |= line.is_some();
        line
    }

    fn over(&mut self, now: Instant) -> Option<Over> {
        let Episode { began_at, failures, logged } = self.episode.take()?;
        if !logged {
            return None;
        }
        // They are among the failures told now.
        self.causes.values_mut().for_each(|cause| cause.left_out = 0);
        Some(Over { failures, lasted: now.saturating_duration_since(began_at) })
    }
}

/// What stays the same of an error's text from one time to the next: words that hold a digit
/// (addresses, offsets, durations, ids) do not.
fn cause(text: &str) -> String {
    let words = text.split_whitespace();
    let words =
        words.map(|word| if word.bytes().any(|it| it.is_ascii_digit()) { "#" } else { word });
    let cause = words.collect::<Vec<_>>().join(" ");
    cause.chars().take(MAX_CAUSE_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(10);

    /// Something that happens at a second.
    enum At {
        Fails(u64, &'static str),
        Works(u64),
    }
    use At::{Fails, Works};

    /// What the log says of it: each line's number left out, or of an end the failures.
    fn log(story: &[At]) -> Vec<String> {
        let begun = Instant::now();
        let at = |second: &u64| begun + Duration::from_secs(*second);
        let mut state = State::default();
        let lines = story.iter().filter_map(|moment| match moment {
            Fails(second, error) => {
                let left_out = state.failed(cause(error), PERIOD, at(second))?;
                Some(format!("{second}: {error}, {left_out} left out"))
            }
            Works(second) => {
                let over = state.over(at(second))?;
                Some(format!("{second}: over, {} in {} s", over.failures, over.seconds()))
            }
        });
        lines.collect()
    }

    #[test]
    fn an_outage_is_told_from_its_beginning_to_its_end() {
        fn check(story: &[At], expected: &[&str]) {
            assert_eq!(log(story), expected);
        }
        check(&[Works(0)], &[]);
        check(
            &[Fails(0, "away"), Fails(1, "away"), Fails(9, "away"), Fails(10, "away"), Works(12)],
            &["0: away, 0 left out", "10: away, 2 left out", "12: over, 4 in 12 s"],
        );
        // Another cause is told at once, another detail is not.
        check(
            &[Fails(0, "offset 7 away"), Fails(1, "refused"), Fails(2, "offset 8 away")],
            &["0: offset 7 away, 0 left out", "1: refused, 0 left out"],
        );
        // What comes and goes is told no more often than what lasts; its end only if its beginning.
        check(
            &[
                Fails(0, "away"),
                Works(1),
                Fails(2, "away"),
                Works(3),
                Fails(4, "away"),
                Works(5),
                Fails(11, "away"),
                Works(12),
            ],
            &[
                "0: away, 0 left out",
                "1: over, 1 in 1 s",
                "11: away, 2 left out",
                "12: over, 1 in 1 s",
            ],
        );
    }

    #[test]
    fn an_hour_of_failures_is_a_line_a_period() {
        let story: Vec<_> = (0..3_600).map(|second| Fails(second, "away")).collect();
        let lines = log(&story);
        assert_eq!(lines.len(), 360);
        assert_eq!(lines[359], "3590: away, 9 left out");
    }

    #[test]
    fn any_number_of_causes_takes_bounded_memory_and_bounded_lines() {
        let mut state = State::default();
        let begun = Instant::now();
        let mut fail = |second: u64, letters: usize| {
            let now = begun + Duration::from_secs(second);
            let line = state.failed("x".repeat(letters), PERIOD, now);
            (line, state.causes.len())
        };
        let lines = (1..1_000).filter(|letters| fail(0, *letters).0.is_some()).count();
        assert_eq!(lines, MAX_CAUSES + 1);
        assert_eq!(fail(0, 2_000), (None, MAX_CAUSES + 1));
        // Those of long ago make room.
        assert_eq!(fail(10, 3_000), (Some(0), 1));
    }

    #[test]
    fn details_are_no_cause() {
        fn check(text: &str, expected: &str) {
            assert_eq!(cause(text), expected);
        }
        check("Connection refused (os error 111)", "Connection refused (os error #");
        check(
            "broker-1:9092/1: Connect to ipv4#10.0.0.1:9092 failed (after 3ms)",
            "# Connect to # failed (after #",
        );
        check("no answer", "no answer");
        assert_eq!(cause(&"é".repeat(1_000)).chars().count(), MAX_CAUSE_CHARACTERS);
    }

    #[test]
    fn what_went_well_before_is_not_over() {
        let repeats = Repeats::default();
        assert_eq!(repeats.over(), None);
        assert_eq!(repeats.failed(&"away"), Some(0));
        assert_eq!(repeats.failed(&"away"), None);
        assert_eq!(repeats.over().map(|over| over.failures), Some(2));
        assert_eq!(repeats.over(), None);
    }
}
