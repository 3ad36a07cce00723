//! What was measured, in tables for people and in JSON for charts.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::Case;
use super::figures::{Goal, median};
use super::usage::Usage;
use crate::stack::Stack;

/// One measurement.
#[derive(Clone, Debug, Serialize)]
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
    fn cpu_per_million(&self, process: &str) -> Option<f64> {
        Some(self.usage.cpu_seconds.get(process)? * 1e6 / self.count as f64)
    }
}

/// What of two runs is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// How many a second.
    Rate,
    /// Bytes of write-ahead log for each.
    Wal,
}

impl Figure {
    fn of(self, run: &Run) -> f64 {
        match self {
            Self::Rate => run.rate(),
            Self::Wal => run.usage.wal_bytes as f64 / run.count as f64,
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Rate => "rate",
            Self::Wal => "WAL",
        })
    }
}

/// A thing measured beside its limit in the same rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Which variant.
    pub name: String,
    /// What is compared.
    pub figure: Figure,
    /// What the thing is called, and its runs.
    pub subject: (&'static str, Vec<Run>),
    /// What the limit is called, and its runs.
    pub limit: (&'static str, Vec<Run>),
    /// What the ratio must be.
    pub goal: Goal,
}

impl Comparison {
    /// Without any runs yet.
    pub const fn new(
        name: String,
        subject: &'static str,
        limit: &'static str,
        figure: Figure,
        goal: Goal,
    ) -> Self {
        Self { name, figure, subject: (subject, Vec::new()), limit: (limit, Vec::new()), goal }
    }

    /// Adds a round.
    pub fn add(&mut self, subject: &Run, limit: &Run) {
        self.subject.1.push(subject.clone());
        self.limit.1.push(limit.clone());
    }

    /// The median of the rounds' ratios: what disturbs a round disturbs both of its sides.
    pub fn ratio(&self) -> Option<f64> {
        let rounds = self.subject.1.iter().zip(&self.limit.1);
        median(rounds.map(|(subject, limit)| self.figure.of(subject) / self.figure.of(limit)))
    }

    /// Whether the goal is met; not without runs.
    pub fn meets_goal(&self) -> bool {
        self.ratio().is_some_and(|ratio| self.goal.is_met_by(ratio))
    }
}

/// All that one case measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The case.
    pub case: String,
    /// What it ran on.
    pub environment: Environment,
    /// Its variants.
    pub comparisons: Vec<Comparison>,
}

impl Report {
    /// What a case measured on a stack.
    ///
    /// # Errors
    /// See [`Environment::here`].
    pub async fn of(case: Case, stack: &Stack, comparisons: Vec<Comparison>) -> Result<Self> {
        let environment = Environment::here(stack).await?;
        Ok(Self { case: case.name(), environment, comparisons })
    }

    /// Whether every variant meets its goal.
    pub fn meets_goals(&self) -> bool {
        self.comparisons.iter().all(Comparison::meets_goal)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}: {}", self.case, self.environment)?;
        let processes: BTreeSet<&str> = self
            .comparisons
            .iter()
            .flat_map(|it| it.subject.1.iter().chain(&it.limit.1))
            .flat_map(|run| run.usage.cpu_seconds.keys().copied())
            .collect();
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY);
        let cpu = processes.iter().map(|process| format!("{process}: CPU s per million"));
        let fixed =
            ["", "", "per second", "least", "most", "memory", "WAL bytes each"].map(str::to_owned);
        let ratio = ["ratio", "goal"].map(str::to_owned);
        table.set_header(fixed.into_iter().chain(cpu).chain(ratio));
        for comparison in &self.comparisons {
            let ratio = comparison.ratio().map_or_else(String::new, |ratio| format!("{ratio:.2}"));
            let met = if comparison.meets_goal() { "met" } else { "MISSED" };
            let goal = format!("{} {} {met}", comparison.figure, comparison.goal);
            let sides = [
                (&comparison.subject, ratio, goal),
                (&comparison.limit, String::new(), String::new()),
            ];
            for ((name, runs), ratio, goal) in sides {
                let first = [comparison.name.clone(), (*name).to_owned()];
                let cpu = processes.iter().map(|process| {
                    let median = median(runs.iter().filter_map(|run| run.cpu_per_million(process)));
                    median.map_or_else(String::new, |seconds| format!("{seconds:.1}"))
                });
                let cells = first.into_iter().chain(rates(runs)).chain(cpu).chain([ratio, goal]);
                table.add_row(cells);
            }
        }
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        write!(formatter, "{table}")
    }
}

/// The median, least and most of the rates, the most memory, and the median of the log.
fn rates(runs: &[Run]) -> [String; 5] {
    let rates = || runs.iter().map(Run::rate);
    let show = |rate: Option<f64>| rate.map_or_else(String::new, |rate| format!("{rate:.0}"));
    let memory = runs.iter().filter_map(|run| run.memory_bytes).max();
    [
        show(median(rates())),
        show(rates().min_by(f64::total_cmp)),
        show(rates().max_by(f64::total_cmp)),
        memory.map_or_else(String::new, |bytes| format!("{} MB", bytes / 1_000_000)),
        show(median(runs.iter().map(|run| Figure::Wal.of(run)))),
    ]
}

/// What a case ran on.
#[derive(Clone, Debug, Serialize)]
pub struct Environment {
    /// The processor.
    pub processor: String,
    /// Its cores.
    pub cores: usize,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// The kernel.
    pub kernel: String,
    /// The database server.
    pub postgres: String,
}

impl Environment {
    /// What it is here.
    ///
    /// # Errors
    /// When `/proc` or Postgres cannot be read.
    pub async fn here(stack: &Stack) -> Result<Self> {
        let read = |path: &str| std::fs::read_to_string(path);
        let field = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim_start_matches([':', ' ', '\t']).trim().to_owned())
        };
        let memory = field(&read("/proc/meminfo")?, "MemTotal").unwrap_or_default();
        let kibibytes = memory.trim_end_matches(" kB").parse::<u64>().unwrap_or_default();
        let version = stack.postgres().sql().await?.query_one("SHOW server_version", &[]).await?;
        Ok(Self {
            processor: field(&read("/proc/cpuinfo")?, "model name").unwrap_or_default(),
            cores: std::thread::available_parallelism()?.get(),
            memory_bytes: kibibytes * 1024,
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            postgres: version.get(0),
        })
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, cores, memory_bytes, kernel, postgres } = self;
        let gigabytes = memory_bytes / 1_000_000_000;
        write!(
            formatter,
            "{cores} × {processor}, {gigabytes} GB, Linux {kernel}, Postgres {postgres}, \
             everything on the same cores"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(count: u64) -> Run {
        let usage =
            Usage { wall_seconds: 2.0, cpu_seconds: [("writer", 1.0)].into(), wal_bytes: 0 };
        Run { count, usage, memory_bytes: None }
    }

    #[test]
    fn the_ratio_is_the_median_of_the_rounds_ratios() {
        fn check(subject: &[u64], limit: &[u64], expected: Option<f64>) {
            let mut comparison =
                Comparison::new(String::new(), "", "", Figure::Rate, Goal::AtLeast(0.5));
            for (subject, limit) in subject.iter().zip(limit) {
                comparison.add(&run(*subject), &run(*limit));
            }
            assert_eq!(comparison.ratio(), expected);
            assert_eq!(comparison.meets_goal(), expected.is_some_and(|ratio| ratio >= 0.5));
        }
        check(&[], &[], None);
        check(&[50], &[100], Some(0.5));
        // Slow rounds are slow for both.
        check(&[40, 4, 30], &[100, 10, 60], Some(0.4));
    }

    #[test]
    fn a_table_shows_rates_cpu_and_whether_the_goal_is_met() {
        let mut comparison = Comparison::new(
            "1 lane".to_owned(),
            "writer",
            "COPY",
            Figure::Rate,
            Goal::AtLeast(0.9),
        );
        comparison.add(&run(500_000), &run(1_000_000));
        let environment = Environment {
            processor: "any".to_owned(),
            cores: 2,
            memory_bytes: 0,
            kernel: String::new(),
            postgres: String::new(),
        };
        let report = Report { case: "case".to_owned(), environment, comparisons: vec![comparison] };
        let text = report.to_string();
        for expected in ["250000", "500000", "0.50", "rate ≥ 0.9 MISSED", "2.0"] {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
        assert!(!report.meets_goals());
    }
}
