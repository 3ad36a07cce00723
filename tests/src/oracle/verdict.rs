//! What was promised, clause by clause, and what was found otherwise.

use std::collections::BTreeMap;
use std::fmt;

use comfy_table::{CellAlignment, Table, presets};
use indicatif::HumanCount;

/// How many findings of a clause are described; all are counted.
const EXAMPLES: usize = 10;

/// A way in which the promise can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Clause {
    /// An acknowledged event is nowhere, and Kafka does not hold it: the gateway's fault, or
    /// Kafka's.
    LostBeforeKafka,
    /// An acknowledged event has no row although Kafka holds it: the writer's fault.
    LostAfterKafka,
    /// An event of an unknown batch has no row although Kafka holds it: the writer's fault.
    Stranded,
    /// An event that was sent has more than one row, or one under an id that is not its own.
    Doubled,
    /// An event's row is not what was sent.
    Changed,
    /// A row's event was never sent.
    Invented,
    /// An event has a row although it was refused.
    RefusedStored,
    /// An event has a row although the database refuses its type.
    UnwritableStored,
    /// A record of a topic cannot be read, though nobody has put it there who meant it not to be.
    Unreadable,
    /// A record that must be in the dead letters is not.
    LetterMissing,
    /// A dead letter is not the record that it says it is.
    LetterChanged,
    /// A dead letter names other events than the unwritable ones.
    LetterMisnamed,
    /// A dead letter of a record that could be written, or of none.
    LetterUnexpected,
    /// A record that cannot be read was acknowledged, and Kafka does not hold it.
    GarbageLost,
    /// A row of `users` holds other than the merged values.
    User,
    /// A row of `replays` holds other than the merged values.
    Replay,
    /// A row of `webstates` is missing, was never spoken of, or has another time of capture.
    Webstate,
    /// A page that Kafka has acknowledged has no content.
    PageMissing,
    /// A page's content is not that of its hash.
    PageChanged,
    /// Records that the writers have not committed.
    Uncommitted,
}

impl Clause {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::LostBeforeKafka,
        Self::LostAfterKafka,
        Self::Stranded,
        Self::Doubled,
        Self::Changed,
        Self::Invented,
        Self::RefusedStored,
        Self::UnwritableStored,
        Self::Unreadable,
        Self::LetterMissing,
        Self::LetterChanged,
        Self::LetterMisnamed,
        Self::LetterUnexpected,
        Self::GarbageLost,
        Self::User,
        Self::Replay,
        Self::Webstate,
        Self::PageMissing,
        Self::PageChanged,
        Self::Uncommitted,
    ];

    /// What is counted under it, for people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::LostBeforeKafka => "events lost, not in Kafka",
            Self::LostAfterKafka => "events lost, in Kafka",
            Self::Stranded => "unknown events in Kafka, not written",
            Self::Doubled => "events doubled",
            Self::Changed => "events changed",
            Self::Invented => "events invented",
            Self::RefusedStored => "refused events stored",
            Self::UnwritableStored => "unwritable events stored",
            Self::Unreadable => "records of gateways unreadable",
            Self::LetterMissing => "dead letters missing",
            Self::LetterChanged => "dead letters changed",
            Self::LetterMisnamed => "dead letters naming other events",
            Self::LetterUnexpected => "dead letters of nothing dead",
            Self::GarbageLost => "unreadable records lost",
            Self::User => "users not as merged",
            Self::Replay => "replays not as merged",
            Self::Webstate => "page states not as merged",
            Self::PageMissing => "pages without content",
            Self::PageChanged => "pages with other content",
            Self::Uncommitted => "records not committed",
        }
    }
}

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
