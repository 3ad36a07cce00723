//! Whether poison is the exception. When more than half of the last records were poison,
//! something else is wrong, and going on would drain the stream into the dead letters.

use std::collections::VecDeque;

/// How many records are looked back on.
pub const WINDOW_RECORDS: usize = 1_000;

/// The last records of a lane.
#[derive(Clone, Debug, Default)]
pub struct PoisonGauge {
    recent: VecDeque<bool>,
    poison: usize,
}

impl PoisonGauge {
    /// Takes in the next record: whether it was poison.
    pub fn record(&mut self, poison: bool) {
        self.recent.push_back(poison);
        self.poison += usize::from(poison);
        if self.recent.len() > WINDOW_RECORDS {
            self.poison -= usize::from(self.recent.pop_front().unwrap_or_default());
        }
    }

    /// Whether more than half of the window was poison.
    pub const fn too_much(&self) -> bool {
        self.poison > WINDOW_RECORDS / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_half_of_the_window_is_too_much() {
        fn check(runs: &[(usize, bool)], expected: bool) {
            let mut gauge = PoisonGauge::default();
            for (count, poison) in runs {
                for _ in 0..*count {
                    gauge.record(*poison);
                }
            }
            assert_eq!(gauge.too_much(), expected, "{runs:?}");
        }
        check(&[(500, true)], false);
        check(&[(501, true)], true);
        check(&[(501, true), (999, false)], false);
        check(&[(500, true), (500, false), (500, true)], false);
        check(&[(500, true), (499, false), (501, true)], true);
    }
}
