//! What was measured, in tables for people and in JSON for charts.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};

use super::Case;
use super::comparison::{Comparison, Run, Side};
use super::figures::median;
use super::machine::Machine;
use super::measurement::Measurement;
use crate::stack::Stack;

/// All that one case measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The case.
    pub case: String,
    /// What it ran on.
    pub machine: Machine,
    /// What was measured beside a limit.
    pub comparisons: Vec<Comparison>,
    /// What was measured by itself.
    pub measurements: Vec<Measurement>,
}

impl Report {
    /// What a case measured on a stack.
    ///
    /// # Errors
    /// See [`Machine::here`].
    pub async fn of(
        case: Case,
        stack: &Stack,
        comparisons: Vec<Comparison>,
        measurements: Vec<Measurement>,
    ) -> Result<Self> {
        let machine = Machine::here(stack).await?;
        Ok(Self { case: case.name(), machine, comparisons, measurements })
    }

    /// Whether all goals are met.
    pub fn meets_goals(&self) -> bool {
        self.comparisons.iter().all(Comparison::meets_goals)
            && self.measurements.iter().all(Measurement::meets_goal)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.case, self.machine)?;
        if !self.comparisons.is_empty() {
            write!(formatter, "\n{}", table_of_comparisons(&self.comparisons))?;
        }
        if !self.measurements.is_empty() {
            write!(formatter, "\n{}", table_of_measurements(&self.measurements))?;
        }
        Ok(())
    }
}

/// What a column shows of a thing's runs; `None` where they have no such figure.
type Show = Box<dyn Fn(&[Run]) -> Option<String>>;

/// The columns with figures, those of which no run has any left out.
fn columns(comparisons: &[Comparison]) -> Vec<(String, Show)> {
    let sides: Vec<&[Run]> =
        comparisons.iter().flat_map(|it| [&*it.subject.runs, &*it.limit.runs]).collect();
    let processes: BTreeSet<String> = sides
        .iter()
        .flat_map(|runs| runs.iter())
        .flat_map(|run| run.usage.cpu_seconds.keys().cloned())
        .collect();
    let whole = |value: f64| (value >= 0.5).then(|| format!("{value:.0}"));
    let rate = move |pick: fn(Vec<f64>) -> Option<f64>| -> Show {
        Box::new(move |runs| pick(runs.iter().map(Run::rate).collect()).and_then(whole))
    };
    let mut columns: Vec<(String, Show)> = vec![
        ("per second".to_owned(), rate(median)),
        ("least".to_owned(), rate(|rates| rates.into_iter().min_by(f64::total_cmp))),
        ("most".to_owned(), rate(|rates| rates.into_iter().max_by(f64::total_cmp))),
        (
            "memory".to_owned(),
            Box::new(|runs| {
                let most = runs.iter().filter_map(|run| run.memory_bytes).max();
                most.map(|bytes| format!("{} MB", bytes / 1_000_000))
            }),
        ),
        (
            "WAL bytes each".to_owned(),
            Box::new(move |runs| median(runs.iter().map(Run::wal_bytes_each)).and_then(whole)),
        ),
    ];
    columns.extend(processes.into_iter().map(|process| {
        let header = format!("{process}: CPU s per million");
        let show: Show = Box::new(move |runs| {
            let median = median(runs.iter().filter_map(|run| run.cpu_per_million(&process)));
            median.map(|seconds| format!("{seconds:.1}"))
        });
        (header, show)
    }));
    columns.retain(|(_, show)| sides.iter().any(|runs| show(runs).is_some()));
    columns
}

fn table_of_comparisons(comparisons: &[Comparison]) -> Table {
    let columns = columns(comparisons);
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    let headers = columns.iter().map(|(header, _)| header.as_str());
    table.set_header(["", ""].into_iter().chain(headers).chain(["ratio and goal"]));
    for comparison in comparisons {
        let goals: Vec<String> = comparison
            .goals
            .iter()
            .map(|&(figure, goal)| {
                let ratio = comparison.ratio(figure);
                let ratio = ratio.map_or_else(|| "none".to_owned(), |ratio| format!("{ratio:.2}"));
                let met = verdict(comparison.meets((figure, goal)));
                format!("{figure} {ratio} {goal} {met}")
            })
            .collect();
        let sides = [(&comparison.subject, goals.join("\n")), (&comparison.limit, String::new())];
        for (Side { name, runs }, goals) in sides {
            let first = [comparison.name.clone(), name.clone()];
            let figures = columns.iter().map(|(_, show)| show(runs).unwrap_or_default());
            table.add_row(first.into_iter().chain(figures).chain([goals]));
        }
    }
    align_right_from(2, &mut table);
    table
}

fn table_of_measurements(measurements: &[Measurement]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(["", "median", "least", "most", "goal"]);
    for measurement in measurements {
        let Measurement { name, unit, values, goal, .. } = measurement;
        let show = |value: Option<f64>| {
            value.map_or_else(String::new, |value| format!("{value:.3} {unit}"))
        };
        let goal = goal.map_or_else(String::new, |goal| {
            format!("{goal} {unit} {}", verdict(measurement.meets_goal()))
        });
        table.add_row([
            name.clone(),
            show(measurement.median()),
            show(values.iter().copied().min_by(f64::total_cmp)),
            show(values.iter().copied().max_by(f64::total_cmp)),
            goal,
        ]);
    }
    align_right_from(1, &mut table);
    table
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

fn align_right_from(first: usize, table: &mut Table) {
    for column in table.column_iter_mut().skip(first) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::comparison::Figure;
    use crate::bench::figures::Goal;
    use crate::bench::measurement::Unit;
    use crate::bench::usage::Usage;

    #[test]
    fn a_report_shows_figures_ratios_and_whether_goals_are_met() {
        let run = |count| {
            let cpu_seconds = [("writer".to_owned(), 1.0)].into();
            let usage = Usage { wall_seconds: 2.0, cpu_seconds, wal_bytes: 0 };
            Run { count, usage, memory_bytes: None }
        };
        let goals = vec![(Figure::Rate, Goal::AtLeast(0.9))];
        let mut comparison = Comparison::new("1 lane".to_owned(), "writer", "COPY", goals);
        comparison.add(&run(500_000), &run(1_000_000));
        let start = Measurement::new("start", Unit::Seconds, Some(Goal::AtMost(0.5))).with(0.25);
        let report = Report {
            case: "case".to_owned(),
            machine: Machine::any(),
            comparisons: vec![comparison],
            measurements: vec![start],
        };
        let text = report.to_string();
        for expected in
            ["250000", "500000", "rate 0.50 ≥ 0.9 MISSED", "2.0", "0.250 s", "≤ 0.5 s met"]
        {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
        for absent in ["memory", "WAL"] {
            assert!(!text.contains(absent), "no run has {absent}:\n{text}");
        }
        assert!(!report.meets_goals());
    }
}
