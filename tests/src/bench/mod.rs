//! Benchmarks: what Tapedeck does beside the limit that Kafka, Postgres or the processor set, in
//! the same run, on the same data.
//!
//! | module | holds |
//! |---|---|
//! | [`figures`] | medians and goals (pure) |
//! | [`comparison`] | runs beside runs of their limit (pure) |
//! | [`measurement`] | what is measured by itself (pure) |
//! | [`report`] | the tables |
//! | [`chart`] | charts of it for the docs |
//! | [`machine`] | what it all ran on |
//! | [`usage`] | time, CPU seconds, write-ahead log |
//! | [`copy_rows`] | COPY BINARY's format (pure) |
//! | `sessions`, `pages` | the recordings that all load is made of |
//! | [`backlog`] | real-shaped records on the topics |
//! | [`database`] | databases to measure on; the load that is the limit |
//! | `drain` | a backlog drained by a writer |
//! | `bodies`, `load` | requests, and many connections that send them |
//! | `streaming` | batches at a steady rate |
//! | [`floor`] | servers that do as little as they can |
//! | `writer_drain`, `writer_duplicates`, `gateway`, `page_states`, `end_to_end`, `growth`, `memory`, `reporter`, `start` | the cases, a module each |
//!
//! Figures drift on shared machines, so a goal is a ratio, taken round by round, and the median of
//! the rounds counts. Every run is checked against the rows that must be there: one that lost or
//! doubled any has no figure.

pub mod backlog;
mod bodies;
pub mod chart;
pub mod comparison;
pub mod copy_rows;
pub mod database;
mod drain;
mod end_to_end;
pub mod figures;
pub mod floor;
mod gateway;
mod growth;
mod load;
pub mod machine;
pub mod measurement;
mod memory;
mod page_states;
mod pages;
pub mod report;
mod reporter;
mod sessions;
mod start;
mod streaming;
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
    /// Requests to a gateway by size, encoding and connections, against a server that only
    /// parses and produces, and one that only answers.
    Gateway,
    /// New page states in the gateway and the writer, against the work that they cannot be had
    /// without; what repeats cost.
    PageStates,
    /// From the fleet to the tables: the highest rate at which data stay fresh, how fresh they are
    /// at half of it, and the CPU seconds of each process for a million events. (Once.)
    EndToEnd,
    /// Thirty million events, a million after the other: how fast the last are beside the first,
    /// and what rows take. (About fifteen minutes, once.)
    Growth,
    /// The most memory of a writer far behind and of a busy gateway; what idle connections cost.
    /// (Once.)
    Memory,
    /// Roll-ups of ten million users and replays over five years, against counting them by hand.
    Reporter,
    /// Each service from its start until it is ready, and the size of its program.
    Start,
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
            Self::Gateway => gateway::run(options, &tell).await,
            Self::PageStates => page_states::run(options, &tell).await,
            Self::EndToEnd => end_to_end::run(options, &tell).await,
            Self::Growth => growth::run(&tell).await,
            Self::Memory => memory::run(&tell).await,
            Self::Reporter => reporter::run(options, &tell).await,
            Self::Start => start::run(options, &tell).await,
        }
    }
}
