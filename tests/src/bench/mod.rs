//! Benchmarks: what Tapedeck does beside the limit that Kafka, Postgres or the processor set, in
//! the same run, on the same data.
//!
//! | module | holds |
//! |---|---|
//! | [`figures`] | medians and goals (pure) |
//! | [`copy_rows`] | COPY BINARY's format (pure) |
//! | [`backlog`] | real-shaped records on the topics |
//! | [`database`] | databases to measure on; the load that is the limit |
//! | [`usage`] | time, CPU seconds, write-ahead log |
//! | [`report`] | the tables |
//! | `drain` | a backlog drained by a writer |
//! | `writer_drain`, `writer_duplicates` | the cases, a module each |
//!
//! Figures drift on shared machines, so a goal is a ratio, taken round by round, and the median of
//! the rounds counts. Every run is checked against the rows that must be there: one that lost or
//! doubled any has no figure.

pub mod backlog;
pub mod copy_rows;
pub mod database;
mod drain;
pub mod figures;
pub mod report;
pub mod usage;
mod writer_drain;
mod writer_duplicates;

use anyhow::Result;
use clap::ValueEnum;

use report::Report;

/// Hears of what happens.
type Tell<'a> = &'a dyn Fn(&str);

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Case {
    /// A backlog drained by one, two and four lanes, against COPY BINARY of the same rows on as
    /// many connections; with foreign keys checked row by row, and once a batch.
    WriterDrain,
    /// A backlog that is in the tables already, against the same backlog when it was new.
    WriterDuplicates,
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Events of a backlog.
    pub events: u64,
    /// Rounds of which the median counts.
    pub runs: usize,
}

impl Case {
    /// Its name on the command line.
    pub fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// What it measures.
    pub fn description(self) -> String {
        let value = self.to_possible_value();
        let help = value.and_then(|value| value.get_help().map(ToString::to_string));
        help.unwrap_or_default()
    }

    /// Measures it; `tell` hears of what happens.
    ///
    /// # Errors
    /// When a part does not come up, or a run came to other rows than it must.
    pub async fn run(self, options: &Options, tell: impl Fn(&str)) -> Result<Report> {
        match self {
            Self::WriterDrain => writer_drain::run(options, &tell).await,
            Self::WriterDuplicates => writer_duplicates::run(options, &tell).await,
        }
    }
}
