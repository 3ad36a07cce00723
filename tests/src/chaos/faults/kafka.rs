//! Brokers that die, freeze, restart, lose their leaders or their disk.

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;

use super::{EFFECT_WITHIN, Happened, SYNC_WITHIN, Scene};
use crate::chaos::kind::Blow;
use crate::stack::cluster::{BROKERS, Broker, MIN_IN_SYNC};
use crate::stack::eventually;

/// How long brokers are away, in seconds: shorter and longer than the controller's patience. Two
/// are away for so long beyond it.
const AWAY_SECONDS: std::ops::Range<f64> = 3.0..9.0;

/// Kills or freezes `count` brokers at once.
pub(super) async fn hit(scene: &mut Scene<'_>, count: usize, blow: Blow) -> Result<Happened> {
    let hit: Vec<_> = (0..count).map(|place| broker(scene, place)).collect();
    for broker in &hit {
        match blow {
            Blow::Kill => drop(broker.process().kill()?),
            Blow::Freeze => broker.process().freeze()?,
        }
    }
    let ids: Vec<_> = hit.iter().map(|broker| broker.id).collect();
    let below = below_min_in_sync(scene, &hit).await;
    scene.last(AWAY_SECONDS).await;
    match blow {
        Blow::Kill => {
            for broker in &hit {
                ensure!(broker.process().exit_status()?.is_some(), "it lives");
            }
            try_join_all(hit.iter().map(|broker| broker.restart())).await?;
        }
        Blow::Freeze => {
            for broker in &hit {
                ensure!(broker.process().is_frozen(), "it runs");
                broker.process().thaw()?;
            }
        }
    }
    let happened = Happened::now(format!("brokers {ids:?} were gone{}", below?));
    Ok(happened.healed(scene.world.cluster.wait_in_sync(SYNC_WITHIN).await))
}

/// Sees partitions fall below min.insync.replicas, where so many brokers are gone that they must.
async fn below_min_in_sync(scene: &Scene<'_>, gone: &[&Broker]) -> Result<String> {
    if BROKERS - gone.len() >= MIN_IN_SYNC {
        return Ok(String::new());
    }
    let cluster = &scene.world.cluster;
    let there = |broker: &&Broker| gone.iter().all(|gone| gone.id != broker.id);
    let there = cluster.all().iter().find(there).context("all are gone")?;
    let below = async || match cluster.behind_as_told_by(there, MIN_IN_SYNC).await {
        Ok(below @ 1..) => Ok(below),
        other => Err(format!("{other:?}")),
    };
    let below =
        eventually("partitions are below min.insync.replicas", EFFECT_WITHIN, below).await?;
    Ok(format!(", {below} partitions below min.insync.replicas"))
}

pub(super) async fn restart(scene: &Scene<'_>) -> Result<Happened> {
    let broker = broker(scene, 0);
    let before = broker.process().pid();
    broker.stop_and_start().await?;
    let after = broker.process().pid();
    ensure!(before != after, "broker {} is process {before} still", broker.id);
    let happened = Happened::now(format!("process {before} is {after} now"));
    Ok(happened.healed(scene.world.cluster.wait_in_sync(SYNC_WITHIN).await))
}

pub(super) async fn move_leaders(scene: &Scene<'_>) -> Result<Happened> {
    let moved = scene.world.cluster.move_leaders().await?;
    ensure!(moved > 0, "no leader moved");
    Ok(Happened::now(format!("{moved} leaders moved")))
}

pub(super) async fn empty(scene: &Scene<'_>) -> Result<Happened> {
    let broker = broker(scene, 0);
    // More than this no replication survives: the others must have everything.
    scene.world.cluster.wait_in_sync(SYNC_WITHIN).await?;
    broker.process().kill()?;
    broker.empty_disk().await?;
    broker.restart().await?;
    let happened = Happened::now(format!("broker {} began anew", broker.id));
    Ok(happened.healed(scene.world.cluster.wait_in_sync(SYNC_WITHIN).await))
}

fn broker<'a>(scene: &Scene<'a>, place: usize) -> &'a Broker {
    &scene.world.cluster.all()[(scene.target + place) % BROKERS]
}
