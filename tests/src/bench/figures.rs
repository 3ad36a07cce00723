//! Medians, ratios and goals.

use serde::{Deserialize, Serialize};

/// What a ratio must be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// This much or more.
    AtLeast(f64),
    /// This much or less.
    AtMost(f64),
}

impl Goal {
    /// Whether `value` meets it.
    pub fn is_met_by(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

impl std::fmt::Display for Goal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(least) => write!(formatter, "≥ {least}"),
            Self::AtMost(most) => write!(formatter, "≤ {most}"),
        }
    }
}

/// The middle of the values; of an even number the lower of the two. `None` without any.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_value() {
        fn check(values: &[f64], expected: Option<f64>) {
            assert_eq!(median(values.iter().copied()), expected, "{values:?}");
        }
        check(&[], None);
        check(&[3.0], Some(3.0));
        check(&[3.0, 1.0], Some(1.0));
        check(&[9.0, 1.0, 5.0], Some(5.0));
    }

    #[test]
    fn a_goal_is_met_at_its_bound() {
        assert!(Goal::AtLeast(0.9).is_met_by(0.9) && !Goal::AtLeast(0.9).is_met_by(0.89));
        assert!(Goal::AtMost(1.3).is_met_by(1.3) && !Goal::AtMost(1.3).is_met_by(1.31));
    }
}
