//! How fast a writer passes over a backlog that is in the tables already, against the same backlog
//! when it was new.

use anyhow::{Result, ensure};

use super::drain::{Bench, Setup};
use super::figures::Goal;
use super::report::{Comparison, Figure, Report};
use super::{Case, Options, Tell};
use crate::stack::{Environment, Ports, Stack, Tuning};

/// Measures both, one after the other.
pub(super) async fn run(options: &Options, tell: Tell<'_>) -> Result<Report> {
    let stack = Stack::start(Ports::default(), Tuning::Benchmarks).await?;
    let environment = Environment::new(&stack).await?;
    let bench = Bench::prepare(&stack, &environment, options.events, tell).await?;
    let compare =
        |figure, goal| Comparison::new("2 lanes".to_owned(), "repeated", "new", figure, goal);
    let mut rate = compare(Figure::Rate, Goal::AtLeast(1.5));
    let mut wal = compare(Figure::Wal, Goal::AtMost(0.05));
    for round in 1..=options.runs {
        tell(&format!("round {round} of {}", options.runs));
        let database = bench.database().await?;
        let new = bench.drain(&database, Setup::USUAL).await?;
        let bytes = database.bytes().await?;
        let repeated = bench.drain(&database, Setup::USUAL).await?;
        bench.check(&database).await?;
        let grown = database.bytes().await?;
        ensure!(grown <= bytes, "repeats made {bytes} bytes of tables {grown}");
        database.drop().await?;
        rate.add(&repeated, &new);
        wal.add(&repeated, &new);
    }
    Report::of(Case::WriterDuplicates, &stack, vec![rate, wal]).await
}
