//! What was found, clause by clause.

use std::collections::BTreeMap;
use std::fmt;

use comfy_table::{CellAlignment, Table, presets};
use indicatif::HumanCount;

use super::clause::Clause;

/// How many findings of a clause are described; all are counted.
const EXAMPLES: usize = 10;

/// What was found under one clause.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// How often.
    pub count: u64,
    /// The first few, in words.
    pub examples: Vec<String>,
}

/// Counts of events or batches by what their sender knows of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByOutcome {
    /// In Kafka.
    pub acknowledged: u64,
    /// Never will be.
    pub refused: u64,
    /// May be or not.
    pub unknown: u64,
}

/// What there was to examine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Batches of the ledger.
    pub batches: ByOutcome,
    /// Events of the ledger, each counted once however many batches hold it, by the best that is
    /// known of it.
    pub events: ByOutcome,
    /// Acknowledged events that are unwritable by construction.
    pub unwritable: u64,
    /// Unknown events that Kafka holds.
    pub unknown_in_kafka: u64,
    /// Unknown events that have a row.
    pub unknown_stored: u64,
    /// Rows of `events`.
    pub event_rows: u64,
    /// Rows of `users`.
    pub user_rows: u64,
    /// Rows of `replays`.
    pub replay_rows: u64,
    /// Rows of `webstates`.
    pub webstate_rows: u64,
    /// Records of the events topic.
    pub batch_records: u64,
    /// Records of the page states topic.
    pub page_records: u64,
    /// Dead letters.
    pub letters: u64,
    /// Dead letters of a record that had one before: a writer died before it could commit.
    pub repeated_letters: u64,
}

/// What an examination came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What there was.
    pub counts: Counts,
    findings: BTreeMap<Clause, Found>,
}

impl Verdict {
    /// Whether nothing was found.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// How often a clause is broken.
    pub fn count(&self, clause: Clause) -> u64 {
        self.findings.get(&clause).map_or(0, |found| found.count)
    }

    /// What was found, by clause; without clauses that hold.
    pub fn findings(&self) -> &BTreeMap<Clause, Found> {
        &self.findings
    }

    /// Adds one finding; `describe` is called for the first few only.
    pub(super) fn add(&mut self, clause: Clause, describe: impl FnOnce() -> String) {
        self.add_many(clause, 1, describe);
    }

    /// Adds several findings under one description.
    pub(super) fn add_many(
        &mut self,
        clause: Clause,
        count: u64,
        describe: impl FnOnce() -> String,
    ) {
        let found = self.findings.entry(clause).or_default();
        found.count += count;
        if found.examples.len() < EXAMPLES {
            found.examples.push(describe());
        }
    }
}

impl fmt::Display for Verdict {
    /// A table of what there was and of every clause; below it the examples.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY);
        let mut row = |name: &str, count: u64| {
            table.add_row([name.to_owned(), HumanCount(count).to_string()]);
        };
        row("events acknowledged", counts.events.acknowledged);
        row("  of these unwritable", counts.unwritable);
        row("events refused", counts.events.refused);
        row("events unknown", counts.events.unknown);
        row("  of these in Kafka", counts.unknown_in_kafka);
        row("  of these stored", counts.unknown_stored);
        row("batches acknowledged", counts.batches.acknowledged);
        row("batches refused", counts.batches.refused);
        row("batches unknown", counts.batches.unknown);
        row("records of batches", counts.batch_records);
        row("records of pages", counts.page_records);
        row("rows of events", counts.event_rows);
        row("rows of users", counts.user_rows);
        row("rows of replays", counts.replay_rows);
        row("rows of webstates", counts.webstate_rows);
        row("dead letters", counts.letters);
        row("  of these repeated", counts.repeated_letters);
        for clause in Clause::ALL {
            row(clause.title(), self.count(clause));
        }
        if let Some(values) = table.column_mut(1) {
            values.set_cell_alignment(CellAlignment::Right);
        }
        write!(formatter, "{table}")?;
        for (clause, found) in &self.findings {
            for example in &found.examples {
                write!(formatter, "\n{}: {example}", clause.title())?;
            }
        }
        Ok(())
    }
}
