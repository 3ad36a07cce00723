//! What a fault run comes to, in tables for people.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};

use super::ends::Ended;
use super::execute::Result;
use super::findings;
use super::kind::{Between, Kind};
use super::probe::Worst;
use super::watch::Seen;
use crate::fleet;
use crate::oracle::Verdict;

/// Everything that a run found.
#[derive(Debug)]
pub struct Report {
    /// What the recorders were answered.
    pub(super) fleet: fleet::Report,
    /// The faults and how they came out.
    pub(super) faults: Vec<Result>,
    /// The kinds that were asked for and can be had.
    pub(super) kinds: Vec<Kind>,
    /// Kinds that could not be had, and why.
    pub(super) left_out: Vec<(Kind, &'static str)>,
    /// What the processes said of themselves.
    pub(super) seen: Seen,
    /// How services ended.
    pub(super) ended: Ended,
    /// Whether fresh data flowed after the last fault.
    pub(super) flows: std::result::Result<Duration, String>,
    /// What the probes were answered: statuses, or why there was no answer.
    pub(super) probes: BTreeMap<String, u64>,
    /// The worst that a probe met on its way to the tables.
    pub(super) worst: Worst,
    /// What was wrong with the standing services at the end.
    pub(super) at_rest: Vec<String>,
    /// How many monthly reports there were at the end, and in what they differed from the rows.
    pub(super) months: std::result::Result<(usize, Vec<String>), String>,
    /// What the oracle found.
    pub(super) verdict: Verdict,
}

/// The faults of one kind.
#[derive(Default)]
struct Tally {
    happened: usize,
    failed: usize,
    recoveries: Vec<Option<Duration>>,
}

impl Report {
    /// Whether every promise was kept and every kind of fault happened.
    pub fn is_clean(&self) -> bool {
        findings::of(self).is_empty()
    }

    /// Kinds that were asked for and did not happen.
    pub(super) fn never_happened(&self) -> impl Iterator<Item = Kind> {
        let tallies = self.tallies();
        let happened = move |kind: &Kind| tallies.get(kind).is_some_and(|it| it.happened > 0);
        self.kinds.iter().copied().filter(move |kind| !happened(kind))
    }

    fn tallies(&self) -> BTreeMap<Kind, Tally> {
        let none = |kind: &Kind| (*kind, Tally::default());
        let mut tallies: BTreeMap<Kind, Tally> = self.kinds.iter().map(none).collect();
        for result in &self.faults {
            let tally = tallies.entry(result.fault.kind).or_default();
            match result.happened {
                Ok(_) => tally.happened += 1,
                Err(_) => tally.failed += 1,
            }
            tally.recoveries.extend(result.recovery);
        }
        tallies
    }

    fn fault_table(&self) -> Table {
        let mut table = table(["fault", "happened", "did not", "recovery: median", "worst"]);
        let (mut kills_and_freezes, mut all) = (0, 0);
        for (kind, tally) in self.tallies() {
            all += tally.happened;
            if kind.is_kill_or_freeze() {
                kills_and_freezes += tally.happened;
            }
            let (median, worst) = recovery(tally.recoveries);
            let (happened, failed) = (tally.happened.to_string(), tally.failed.to_string());
            table.add_row([kind.to_string(), happened, failed, median, worst]);
        }
        let empty = String::new;
        table.add_row([
            "kills and freezes".to_owned(),
            kills_and_freezes.to_string(),
            empty(),
            empty(),
            empty(),
        ]);
        table.add_row(["all".to_owned(), all.to_string(), empty(), empty(), empty()]);
        table
    }

    /// How often connections between which parts were in trouble.
    fn link_table(&self) -> Table {
        let mut table = table(["connections in trouble", "times"]);
        let mut counts = Between::ALL.map(|between| (between, 0));
        let happened = self.faults.iter().filter(|result| result.happened.is_ok());
        for fault in happened.map(|result| result.fault) {
            let hit = |between| fault.kind.is_network() && Between::of(fault.target) == between;
            for (_, count) in counts.iter_mut().filter(|(between, _)| hit(*between)) {
                *count += 1;
            }
        }
        for (between, count) in counts {
            table.add_row([between.to_string(), count.to_string()]);
        }
        table
    }

    fn memory_table(&self) -> Table {
        let mut table = table(["process", "scrapes", "memory high-water"]);
        for (name, bytes) in &self.seen.memory_high_water_bytes {
            let scrapes = self.seen.scrapes.get(name).map(ToString::to_string);
            table.add_row([
                name.clone(),
                scrapes.unwrap_or_default(),
                format!("{} MB", bytes / 1_000_000),
            ]);
        }
        table
    }
}

/// The median and the worst, the ones that were never seen to recover above all.
fn recovery(mut recoveries: Vec<Option<Duration>>) -> (String, String) {
    recoveries.sort_by_key(|recovery| recovery.unwrap_or(Duration::MAX));
    let show = |recovery: Option<&Option<Duration>>| match recovery {
        None => String::new(),
        Some(None) => "never".to_owned(),
        Some(Some(duration)) => format!("{:.1} s", duration.as_secs_f64()),
    };
    (show(recoveries.get(recoveries.len() / 2)), show(recoveries.last()))
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}\n{}", self.fleet, self.fault_table())?;
        for (kind, reason) in &self.left_out {
            writeln!(formatter, "left out: {kind}: {reason}")?;
        }
        writeln!(formatter, "{}\n{}", self.link_table(), self.memory_table())?;
        let Seen { complaint_count, complaints, .. } = &self.seen;
        writeln!(formatter, "accounts that did not add up: {complaint_count}")?;
        for complaint in complaints {
            writeln!(formatter, "  {complaint}")?;
        }
        let Ended { by_themselves, not_drained } = &self.ended;
        writeln!(formatter, "drains that an outage kept from being finished: {not_drained}")?;
        writeln!(formatter, "ended by themselves: {}", by_themselves.len())?;
        let wrong = self.at_rest.len();
        writeln!(formatter, "not ready, or accounts not closed, at the end: {wrong}")?;
        if let Ok((months, differences)) = &self.months {
            let wrong = differences.len();
            writeln!(formatter, "monthly reports: {months}, of which wrong {wrong}")?;
        }
        if let Ok(longest) = &self.flows {
            let seconds = longest.as_secs_f64();
            writeln!(formatter, "fresh data at the end: in the tables within {seconds:.2} s")?;
        }
        let Worst { took, overtaken_to_kafka, overtaken_to_tables } = self.worst;
        let seconds = took.as_secs_f64();
        writeln!(formatter, "fresh data meanwhile: in the tables within {seconds:.1} s at worst")?;
        writeln!(
            formatter,
            "probes overtaken by later ones, at worst: by {overtaken_to_kafka} on the way to \
             Kafka, by {overtaken_to_tables} from there to the tables"
        )?;
        writeln!(formatter, "{}", self.verdict)?;
        let findings = findings::of(self);
        writeln!(formatter, "findings: {}", findings.len())?;
        for finding in findings {
            writeln!(formatter, "  {finding}")?;
        }
        Ok(())
    }
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(header);
    for column in 1..N {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovery_is_the_median_and_the_worst_and_never_is_worse_than_any() {
        fn check(seconds: &[Option<u64>], expected: [&str; 2]) {
            let recoveries = seconds.iter().map(|it| it.map(Duration::from_secs)).collect();
            let (median, worst) = recovery(recoveries);
            assert_eq!([median, worst], expected, "{seconds:?}");
        }
        check(&[], ["", ""]);
        check(&[Some(3)], ["3.0 s", "3.0 s"]);
        check(&[Some(9), Some(1), Some(2)], ["2.0 s", "9.0 s"]);
        check(&[Some(1), None, Some(2)], ["2.0 s", "never"]);
        check(&[None], ["never", "never"]);
    }
}
