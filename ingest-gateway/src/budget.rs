//! One budget for the bytes of all requests in flight: beyond it new ones get 503, and the
//! gateway's memory stays bounded whatever arrives.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus::IntGauge;

use crate::problem::{Kind, Problem};

/// What all requests may hold together.
#[derive(Debug)]
pub struct Budget {
    limit_bytes: usize,
    held_bytes: AtomicUsize,
    gauge: IntGauge,
}

/// The budget has no such number of bytes left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("requests in flight hold nearly all of the {limit_bytes} bytes that they may")]
pub struct Exhausted {
    limit_bytes: usize,
}

impl From<Exhausted> for Problem {
    fn from(exhausted: Exhausted) -> Self {
        Self::new(Kind::TooManyBytes, exhausted.to_string())
    }
}

impl Budget {
    /// A budget of `limit_bytes`, of which `gauge` tells how much is held.
    pub fn new(limit_bytes: usize, gauge: IntGauge) -> Arc<Self> {
        Arc::new(Self { limit_bytes, held_bytes: AtomicUsize::new(0), gauge })
    }

    /// A reservation, as yet of nothing.
    pub fn reservation(self: &Arc<Self>) -> Reservation {
        Reservation { budget: Arc::clone(self), bytes: 0 }
    }

    fn take(&self, bytes: usize) -> Result<(), Exhausted> {
        let within_limit = |held: usize| {
            held.checked_add(bytes).filter(|held_then| *held_then <= self.limit_bytes)
        };
        match self.held_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within_limit) {
            Ok(_) => {
                self.gauge.add(crate::metrics::gauge_value(bytes));
                Ok(())
            }
            Err(_) => Err(Exhausted { limit_bytes: self.limit_bytes }),
        }
    }

    fn give_back(&self, bytes: usize) {
        self.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.gauge.sub(crate::metrics::gauge_value(bytes));
    }
}

/// What one request holds; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Reservation {
    /// Holds `bytes` more.
    ///
    /// # Errors
    /// [`Exhausted`]; then it holds what it held before.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Exhausted> {
        self.budget.take(bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Holds `bytes` at most.
    pub fn shrink_to(&mut self, bytes: usize) {
        let surplus = self.bytes.saturating_sub(bytes);
        self.budget.give_back(surplus);
        self.bytes -= surplus;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_held_than_the_limit_and_all_is_given_back() {
        let gauge = IntGauge::new("held", "Bytes held.").unwrap();
        let budget = Budget::new(100, gauge.clone());
        let mut first = budget.reservation();
        let mut second = budget.reservation();
        assert_eq!(first.grow(60), Ok(()));
        assert_eq!(second.grow(41), Err(Exhausted { limit_bytes: 100 }));
        assert_eq!(second.grow(40), Ok(()));
        assert_eq!(gauge.get(), 100);
        first.shrink_to(10);
        assert_eq!(gauge.get(), 50);
        first.shrink_to(20);
        assert_eq!(second.grow(50), Ok(()));
        assert_eq!(second.grow(usize::MAX), Err(Exhausted { limit_bytes: 100 }));
        drop(second);
        assert_eq!(gauge.get(), 10);
        drop(first);
        assert_eq!(gauge.get(), 0);
    }
}
