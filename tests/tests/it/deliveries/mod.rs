//! Neither repetition nor order of delivery changes the tables: whatever is delivered, they hold
//! what the model says.

pub(crate) mod pipeline;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use tokio::runtime::Handle;

use pipeline::Pipeline;
use world::world;

/// Cases that are tried, of several worlds each, delivered one after the other without a pause.
const CASES: u32 = 12;

/// Attempts to find a smaller world once one has failed.
const SHRINK_ATTEMPTS: u32 = 100;

/// Runs a property whose cases each get a number of their own, from which they derive ids that no
/// other case has, so that all can share tables.
pub(crate) fn check_worlds<S: Strategy>(
    cases: u32,
    worlds: &S,
    property: impl AsyncFn(u64, S::Value) -> Result<Vec<String>>,
) -> Result<()> {
    let next_case = AtomicU64::new(1);
    let config = Config {
        cases,
        max_shrink_iters: SHRINK_ATTEMPTS,
        failure_persistence: None,
        ..Config::default()
    };
    let run = |world| {
        let case = next_case.fetch_add(1, Ordering::Relaxed);
        let differences = Handle::current()
            .block_on(property(case, world))
            .map_err(|error| TestCaseError::fail(format!("{error:#}")))?;
        match differences.is_empty() {
            true => Ok(()),
            false => Err(TestCaseError::fail(differences.join("\n"))),
        }
    };
    tokio::task::block_in_place(|| TestRunner::new(config).run(worlds, run))
        .map_err(|failure| anyhow::anyhow!("{failure}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_in_any_order_in_pieces_and_repeated_give_the_same_tables() -> Result<()> {
    let pipeline = Pipeline::start(2).await?;
    let worlds = prop::collection::vec(world(), 1..8);
    check_worlds(CASES, &worlds, async |case, worlds| {
        // Each world has ids of its own.
        let numbered = worlds.iter().zip(case * 1_000..);
        let envelopes: Vec<_> = numbered.map(|(world, case)| world.envelopes(case)).collect();
        let deliveries = worlds.iter().zip(&envelopes);
        let deliveries: Vec<_> =
            deliveries.flat_map(|(world, envelopes)| world.deliveries(envelopes)).collect();
        pipeline.deliver(&deliveries).await?;
        pipeline.differences(envelopes.iter().flatten()).await
    })?;
    pipeline.nothing_was_put_aside().await
}
