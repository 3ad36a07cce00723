//! How fast a writer drains a backlog, against COPY BINARY of the same rows.

use anyhow::Result;

use super::comparison::{Comparison, Figure};
use super::drain::{Bench, Setup};
use super::figures::Goal;
use super::report::Report;
use super::{Case, Options, Tell};
use crate::stack::{Environment, Ports, Stack, Tuning};

/// Lanes of the writer, and connections of the load, with the goal of each.
const LANES: [(usize, Goal); 3] =
    [(1, Goal::AtLeast(0.9)), (2, Goal::AtLeast(0.8)), (4, Goal::AtLeast(0.8))];

/// The goal where the writer checks foreign keys once a batch; the load has them checked row by
/// row all the same.
const SET_BASED: Goal = Goal::AtLeast(1.5);

/// Measures every number of lanes, interleaved.
pub(super) async fn run(options: &Options, tell: Tell<'_>) -> Result<Report> {
    let stack = Stack::start(Ports::default(), Tuning::Benchmarks).await?;
    let environment = Environment::new(&stack).await?;
    let bench = Bench::prepare(&stack, &environment, options.events, tell).await?;
    let mut variants = LANES.map(|(lanes, goal)| {
        [("per-row", goal), ("set-based", SET_BASED)].map(|(foreign_keys, goal)| {
            let name = format!("{lanes} lanes, {foreign_keys}");
            let goals = vec![(Figure::Rate, goal)];
            let comparison = Comparison::new(name, "writer", "COPY BINARY", goals);
            (Setup { lanes, foreign_keys }, comparison)
        })
    });
    for round in 1..=options.runs {
        for ((lanes, _), variants) in LANES.iter().zip(&mut variants) {
            tell(&format!("round {round} of {}, {lanes} lanes", options.runs));
            let loaded = bench.load(*lanes).await?;
            for (setup, comparison) in variants {
                let database = bench.database().await?;
                let drained = bench.drain(&database, *setup).await?;
                bench.check(&database).await?;
                database.drop().await?;
                comparison.add(&drained, &loaded);
            }
        }
    }
    let comparisons = variants.into_iter().flatten().map(|(_, comparison)| comparison).collect();
    Report::of(Case::WriterDrain, &stack, comparisons, Vec::new()).await
}
