//! Counts from before, and what has changed since.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

/// By how many in a hundred a count may differ without anybody being told.
const TOLERANCE_PERCENT: f64 = 3.0;

/// What counts depend on besides the code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Toolchain {
    /// The compiler.
    pub(crate) rustc: String,
    /// What it compiles for.
    pub(crate) target: String,
    /// The C library.
    pub(crate) libc: String,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} for {}, {}", self.rustc, self.target, self.libc)
    }
}

/// Instructions by function.
pub(crate) type Counts = BTreeMap<String, u64>;

/// Counts, and what they were taken with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Baseline {
    /// What they were taken with.
    pub(crate) toolchain: Toolchain,
    /// The counts.
    pub(crate) counts: Counts,
}

impl Baseline {
    /// What has become of each function, those included that have come or gone.
    pub(crate) fn compare(&self, now: &Counts) -> Vec<Change> {
        let names: BTreeSet<&String> = self.counts.keys().chain(now.keys()).collect();
        let change = |name: &String| Change {
            name: name.clone(),
            before: self.counts.get(name).copied(),
            now: now.get(name).copied(),
        };
        names.into_iter().map(change).collect()
    }
}

/// What has become of one function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Its name.
    pub(crate) name: String,
    /// What it took before.
    pub(crate) before: Option<u64>,
    /// What it takes now.
    pub(crate) now: Option<u64>,
}

impl Change {
    /// By how many in a hundred it takes more now.
    pub(crate) fn percent(&self) -> Option<f64> {
        let (before, now) = (self.before? as f64, self.now? as f64);
        Some((now / before - 1.0) * 100.0)
    }

    /// Whether it takes more than is let pass, or is not counted any more.
    pub(crate) fn is_worse(&self) -> bool {
        self.now.is_none() || self.percent().is_some_and(|percent| percent > TOLERANCE_PERCENT)
    }

    /// Whether it takes so much less that the baseline should be taken anew.
    pub(crate) fn is_better(&self) -> bool {
        self.percent().is_some_and(|percent| percent < -TOLERANCE_PERCENT)
    }

    /// Whether it was not counted before.
    pub(crate) fn is_new(&self) -> bool {
        self.before.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_may_differ_by_three_in_a_hundred() {
        fn check(before: Option<u64>, now: Option<u64>, expected: [bool; 3]) {
            let change = Change { name: String::new(), before, now };
            let found = [change.is_worse(), change.is_better(), change.is_new()];
            assert_eq!(found, expected, "{change:?}");
        }
        check(Some(1_000), Some(1_000), [false, false, false]);
        check(Some(1_000), Some(1_029), [false, false, false]);
        check(Some(1_000), Some(1_031), [true, false, false]);
        check(Some(1_000), Some(971), [false, false, false]);
        check(Some(1_000), Some(969), [false, true, false]);
        check(None, Some(1_000), [false, false, true]);
        // It could not be told whether it got worse.
        check(Some(1_000), None, [true, false, false]);
    }

    #[test]
    fn functions_that_come_and_go_are_compared_too() {
        let counts = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), 1)).collect();
        let toolchain =
            Toolchain { rustc: String::new(), target: String::new(), libc: String::new() };
        let baseline = Baseline { toolchain, counts: counts(&["gone", "stays"]) };
        let changes = baseline.compare(&counts(&["new", "stays"]));
        let names: Vec<_> = changes.iter().map(|change| change.name.as_str()).collect();
        assert_eq!(names, ["gone", "new", "stays"]);
    }
}
