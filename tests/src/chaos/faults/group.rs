//! Consumers that come and go, old ones among them, and a rolling restart of everything.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use rand::RngExt;

use super::{EFFECT_WITHIN, Happened, SYNC_WITHIN, Scene};
use crate::chaos::standing::Standing;
use crate::stack::eventually;

/// How often a consumer joins and leaves in one go.
const JOINS: std::ops::RangeInclusive<usize> = 2..=4;
/// How long it stays, in seconds.
const STAY_SECONDS: std::ops::Range<f64> = 0.5..3.0;

pub(super) async fn churn(scene: &mut Scene<'_>) -> Result<Happened> {
    const NAME: &str = "writer-visitor";
    let joins = scene.choices.random_range(JOINS);
    let mut assigned = 0;
    for _ in 0..joins {
        let visitor = scene.world.roster.start(NAME, scene.world.writer()).await?;
        let partitions = visitor
            .wait_for_metric("tapedeck_writer_partitions_assigned", &[], EFFECT_WITHIN, |it| {
                it > 0.0
            })
            .await;
        assigned += usize::from(partitions.is_ok());
        scene.last(STAY_SECONDS).await;
        scene.world.roster.terminate(NAME, scene.tracks).await?;
    }
    ensure!(assigned > 0, "nobody was given a partition");
    Ok(Happened::now(format!("{assigned} of {joins} were given partitions")))
}

pub(super) async fn previous_writer(scene: &mut Scene<'_>) -> Result<Happened> {
    const NAME: &str = "writer-previous";
    /// As many as the standing writers have together: it is given half of the partitions.
    const LANES: &str = "6";
    /// Its partitions may all be of pages.
    const CONSUMED: [&str; 3] = [
        "tapedeck_writer_events_consumed_total",
        "tapedeck_writer_pages_written_total",
        "tapedeck_writer_page_repeats_total",
    ];
    let file = scene.world.previous_writer.as_ref().context("there is no previous writer")?;
    let writer = scene.world.writer().file(file).variable("TAPEDECK_LANES", LANES);
    let writer = scene.world.roster.start(NAME, writer).await?;
    let consumed = eventually("it consumes something", 2 * EFFECT_WITHIN, async || {
        let metrics = writer.metrics().await?;
        let consumed: f64 = CONSUMED.iter().filter_map(|name| metrics.sum(name, &[])).sum();
        ensure!(consumed > 0.0, "nothing so far");
        Ok(consumed)
    })
    .await;
    scene.last(STAY_SECONDS).await;
    scene.world.roster.terminate(NAME, scene.tracks).await?;
    Ok(Happened::now(format!("it consumed {} events and pages, and more", consumed?)))
}

pub(super) async fn rolling_restart(scene: &Scene<'_>) -> Result<Happened> {
    let world = scene.world;
    let before = pids(scene).await?;
    // What the services depend on goes first, so that no drain of theirs has an excuse.
    for broker in world.cluster.all() {
        broker.stop_and_start().await?;
        world.cluster.wait_in_sync(SYNC_WITHIN).await?;
    }
    {
        let mut postgres = world.postgres.lock().await;
        postgres.primary().postgres().stop().await?;
        postgres.primary_mut().restart().await?;
    }
    wait_all_ready(scene).await?;
    for standing in Standing::all() {
        world.roster.terminate(&standing.name(), scene.tracks).await?;
        world.start_standing(standing).await?.wait_ready().await?;
    }
    let happened = Happened::now(format!("all {} processes are others now", before.len()));
    let after = pids(scene).await?;
    let same: Vec<_> = before.intersection(&after).collect();
    ensure!(same.is_empty() && before.len() == after.len(), "{same:?} are as they were");
    Ok(happened.healed(wait_all_ready(scene).await))
}

async fn wait_all_ready(scene: &Scene<'_>) -> Result<()> {
    for standing in Standing::all() {
        scene.world.roster.get(&standing.name())?.wait_ready().await?;
    }
    Ok(())
}

/// The process ids of all standing services, brokers and the primary.
async fn pids(scene: &Scene<'_>) -> Result<BTreeSet<i32>> {
    let world = scene.world;
    let postgres = world.postgres.lock().await.primary().postgres().process().pid();
    let brokers = world.cluster.all().iter().map(|broker| broker.process().pid());
    let mut pids: BTreeSet<_> = brokers.chain([postgres]).collect();
    for standing in Standing::all() {
        pids.insert(world.roster.get(&standing.name())?.pid());
    }
    Ok(pids)
}
