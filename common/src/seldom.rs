//! Logging what may happen with every request once in a while only.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long after it was said a thing is worth saying again.
const PAUSE: Duration = Duration::from_secs(30);

/// Remembers what was said, each of a few different things by itself.
#[derive(Debug)]
pub struct Seldom<T>(Mutex<Vec<(T, Instant)>>);

impl<T> Default for Seldom<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: PartialEq> Seldom<T> {
    /// Whether to say it: the first time, and then every 30 s. Of bounded variety, as each
    /// different thing is remembered.
    pub fn is_due(&self, what: T) -> bool {
        self.is_due_at(what, Instant::now())
    }

    fn is_due_at(&self, what: T, now: Instant) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match said.iter_mut().find(|(other, _)| *other == what) {
            Some((_, at)) if now.duration_since(*at) < PAUSE => false,
            Some((_, at)) => {
                *at = now;
                true
            }
            None => {
                said.push((what, now));
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_is_due_at_first_and_after_a_pause() {
        let (seldom, begun) = (Seldom::default(), Instant::now());
        let check = |what, after, expected| {
            assert_eq!(seldom.is_due_at(what, begun + after), expected, "{what} {after:?}");
        };
        check("one", Duration::ZERO, true);
        check("one", PAUSE / 2, false);
        check("another", PAUSE / 2, true);
        check("one", PAUSE, true);
        check("another", PAUSE, false);
    }
}
