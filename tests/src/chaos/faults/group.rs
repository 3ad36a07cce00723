//! Consumers that come and go, old ones among them, and a rolling restart of everything.

use anyhow::{Context, Result, ensure};
use rand::RngExt;

use super::{EFFECT_WITHIN, Happened, SYNC_WITHIN, Scene};
use crate::chaos::kind::{GATEWAYS, WRITERS};
use crate::chaos::world;

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
        visitor.terminate().await?;
        scene.world.roster.remove(NAME);
    }
    ensure!(assigned > 0, "nobody was given a partition");
    Ok(Happened::now(format!("{assigned} of {joins} were given partitions")))
}

pub(super) async fn previous_writer(scene: &mut Scene<'_>) -> Result<Happened> {
    const NAME: &str = "writer-previous";
    let file = scene.world.previous_writer.as_ref().context("there is no previous writer")?;
    let writer = scene.world.roster.start(NAME, scene.world.writer().file(file)).await?;
    let consumed = "tapedeck_writer_events_consumed_total";
    let consumed = writer.wait_for_metric(consumed, &[], 2 * EFFECT_WITHIN, |it| it > 0.0).await;
    scene.last(STAY_SECONDS).await;
    writer.terminate().await?;
    scene.world.roster.remove(NAME);
    Ok(Happened::now(format!("it consumed {} events and more", consumed?)))
}

pub(super) async fn rolling_restart(scene: &Scene<'_>) -> Result<Happened> {
    let world = scene.world;
    for number in 0..GATEWAYS {
        world.roster.get(&world::gateway(number))?.terminate().await?;
        world.start_gateway(number, &[]).await?.wait_ready().await?;
    }
    for number in 0..WRITERS {
        world.roster.get(&world::writer(number))?.terminate().await?;
        world.start_writer(number).await?.wait_ready().await?;
    }
    world.roster.get("reporter")?.terminate().await?;
    world.start_reporter().await?;
    for broker in world.cluster.all() {
        broker.stop().await?;
        broker.restart().await?;
        world.cluster.wait_in_sync(SYNC_WITHIN).await?;
    }
    let mut postgres = world.postgres.lock().await;
    postgres.primary().postgres().stop().await?;
    postgres.primary_mut().restart().await?;
    Ok(Happened::now("everything is another process"))
}
