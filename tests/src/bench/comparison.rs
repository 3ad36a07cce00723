//! Runs of a thing beside runs of its limit, and what the ratio of the two must be.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::figures::{Goal, median};
use super::usage::Usage;

/// What the process that is compared by its CPU seconds is called in the figures of both sides.
pub const SERVER: &str = "server";

/// One measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// Rows, requests or pages: whatever the case counts.
    pub count: u64,
    /// What they took.
    pub usage: Usage,
    /// The most memory that the subject had resident.
    pub memory_bytes: Option<u64>,
}

impl Run {
    /// How many a second.
    pub fn rate(&self) -> f64 {
        self.count as f64 / self.usage.wall_seconds
    }

    /// CPU seconds of one process for a million.
    pub fn cpu_per_million(&self, process: &str) -> Option<f64> {
        Some(self.usage.cpu_seconds.get(process)? * 1e6 / self.count as f64)
    }

    /// Bytes of write-ahead log for each.
    pub fn wal_bytes_each(&self) -> f64 {
        self.usage.wal_bytes as f64 / self.count as f64
    }
}

/// What of two runs is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// How many a second.
    Rate,
    /// Bytes of write-ahead log for each.
    Wal,
    /// CPU seconds of the [`SERVER`] for each.
    Cpu,
}

impl Figure {
    /// Of one run; `None` where the server was not measured.
    pub fn of(self, run: &Run) -> Option<f64> {
        match self {
            Self::Rate => Some(run.rate()),
            Self::Wal => Some(run.wal_bytes_each()),
            Self::Cpu => run.cpu_per_million(SERVER),
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Rate => "rate",
            Self::Wal => "WAL",
            Self::Cpu => "CPU",
        })
    }
}

/// A thing, and what was measured of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Side {
    /// What it is called.
    pub name: String,
    /// A run a round.
    pub runs: Vec<Run>,
}

/// A thing measured beside its limit in the same rounds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Comparison {
    /// Which variant.
    pub name: String,
    /// The thing.
    pub subject: Side,
    /// Its limit.
    pub limit: Side,
    /// What is compared, and what the ratio must be.
    pub goals: Vec<(Figure, Goal)>,
}

impl Comparison {
    /// Without any runs yet.
    pub fn new(name: String, subject: &str, limit: &str, goals: Vec<(Figure, Goal)>) -> Self {
        let side = |name: &str| Side { name: name.to_owned(), runs: Vec::new() };
        Self { name, subject: side(subject), limit: side(limit), goals }
    }

    /// Adds a round.
    pub fn add(&mut self, subject: &Run, limit: &Run) {
        self.subject.runs.push(subject.clone());
        self.limit.runs.push(limit.clone());
    }

    /// The median of the rounds' ratios: what disturbs a round disturbs both of its sides.
    pub fn ratio(&self, figure: Figure) -> Option<f64> {
        let rounds = self.subject.runs.iter().zip(&self.limit.runs);
        let ratios =
            rounds.filter_map(|(subject, limit)| Some(figure.of(subject)? / figure.of(limit)?));
        median(ratios)
    }

    /// Whether a goal is met; not without runs.
    pub fn meets(&self, (figure, goal): (Figure, Goal)) -> bool {
        self.ratio(figure).is_some_and(|ratio| goal.is_met_by(ratio))
    }

    /// Whether all goals are met.
    pub fn meets_goals(&self) -> bool {
        self.goals.iter().all(|goal| self.meets(*goal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_the_median_of_the_rounds_ratios() {
        fn check(figure: Figure, subject: &[u64], limit: &[u64], expected: Option<f64>) {
            let run = |count: &u64| {
                let cpu_seconds = [(SERVER.to_owned(), 10.0)].into();
                let usage = Usage { wall_seconds: 2.0, cpu_seconds, wal_bytes: 0 };
                Run { count: *count, usage, memory_bytes: None }
            };
            let goal = (figure, Goal::AtLeast(0.5));
            let mut comparison = Comparison::new(String::new(), "", "", vec![goal]);
            for (subject, limit) in subject.iter().zip(limit) {
                comparison.add(&run(subject), &run(limit));
            }
            assert_eq!(comparison.ratio(figure), expected);
            assert_eq!(comparison.meets_goals(), expected.is_some_and(|ratio| ratio >= 0.5));
        }
        check(Figure::Rate, &[], &[], None);
        check(Figure::Rate, &[50], &[100], Some(0.5));
        // Slow rounds are slow for both.
        check(Figure::Rate, &[40, 4, 30], &[100, 10, 60], Some(0.4));
        check(Figure::Cpu, &[50], &[100], Some(2.0));
    }
}
