//! How fast a writer passes over a backlog that is in the tables already, against the same backlog
//! when it was new.

use anyhow::{Result, ensure};

use super::comparison::{Comparison, Figure};
use super::drain::{Bench, Setup};
use super::figures::Goal;
use super::report::Report;
use super::{Case, Options, Tell};
use crate::stack::{Environment, Ports, Stack, Tuning};

/// Measures both, one after the other.
pub(super) async fn run(options: &Options, tell: Tell<'_>) -> Result<Report> {
    let stack = Stack::start(Ports::default(), Tuning::Benchmarks).await?;
    let environment = Environment::new(&stack).await?;
    let bench = Bench::prepare(&stack, &environment, options.events, tell).await?;
    let goals = vec![(Figure::Rate, Goal::AtLeast(1.5)), (Figure::Wal, Goal::AtMost(0.05))];
    let mut comparison = Comparison::new("2 lanes".to_owned(), "repeated", "new", goals);
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
        comparison.add(&repeated, &new);
    }
    Report::of(Case::WriterDuplicates, &stack, vec![comparison], Vec::new()).await
}
