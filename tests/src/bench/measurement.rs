//! What is measured by itself, and the bound that it must keep.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::figures::{Goal, median};

/// What a value is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Millions of bytes.
    Megabytes,
    /// Thousands of bytes.
    Kilobytes,
    /// Bytes.
    Bytes,
    /// So many a second.
    PerSecond,
    /// A number without a dimension, such as a ratio.
    Ratio,
}

impl fmt::Display for Unit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Seconds => "s",
            Self::Megabytes => "MB",
            Self::Kilobytes => "kB",
            Self::Bytes => "bytes",
            Self::PerSecond => "a second",
            Self::Ratio => "",
        })
    }
}

/// Something measured by itself, some times over.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measurement {
    /// What.
    pub name: String,
    /// What its values are counted in.
    pub unit: Unit,
    /// A value a round, or a step.
    pub values: Vec<f64>,
    /// Whether the values are steps that follow one another, not rounds of the same.
    pub by_step: bool,
    /// What the median must be; none where it is only to be known.
    pub goal: Option<Goal>,
}

impl Measurement {
    /// Without any values yet.
    pub fn new(name: impl Into<String>, unit: Unit, goal: Option<Goal>) -> Self {
        Self { name: name.into(), unit, values: Vec::new(), by_step: false, goal }
    }

    /// Without any values yet, of which each will be a step's.
    pub fn by_step(name: &str, unit: Unit) -> Self {
        Self { by_step: true, ..Self::new(format!("{name}, by step"), unit, None) }
    }

    /// The same with a value.
    #[must_use]
    pub fn with(mut self, value: f64) -> Self {
        self.values.push(value);
        self
    }

    /// The middle value.
    pub fn median(&self) -> Option<f64> {
        median(self.values.iter().copied())
    }

    /// Whether the goal is met, where there is one; not without values.
    pub fn meets_goal(&self) -> bool {
        let value = self.median();
        self.goal.is_none_or(|goal| value.is_some_and(|value| goal.is_met_by(value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_must_meet_the_goal() {
        fn check(values: &[f64], goal: Option<Goal>, expected: bool) {
            let mut measurement = Measurement::new("any", Unit::Seconds, goal);
            measurement.values.extend(values);
            assert_eq!(measurement.meets_goal(), expected, "{values:?}");
        }
        check(&[0.4, 0.9, 0.5], Some(Goal::AtMost(0.5)), true);
        check(&[0.6, 0.9, 0.5], Some(Goal::AtMost(0.5)), false);
        check(&[], Some(Goal::AtMost(0.5)), false);
        check(&[], None, true);
    }
}
