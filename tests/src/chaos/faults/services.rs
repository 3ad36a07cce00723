//! Gateways and writers that are killed, frozen, drained, or have the wrong time.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rand::RngExt;
use tokio::time::Instant;

use super::{EFFECT_WITHIN, Happened, Scene};
use crate::chaos::ends::End;
use crate::chaos::kind::{Blow, GATEWAYS, Service, Step};
use crate::chaos::standing::Standing;
use crate::stack::eventually;
use crate::stack::service::Service as Running;
use crate::stack::wrong_clock::WrongClock;

/// How long a frozen process stays so, in seconds, of the time that is scaled.
const FROZEN_SECONDS: std::ops::Range<f64> = 2.0..8.0;
/// One in so many stays frozen for longer than the session time-out of consumers, which is 10 s
/// whatever is scaled: then its partitions go to others.
const TAKEN_FOR_DEAD_ONE_IN: u32 = 4;
/// How long that is, in seconds.
const TAKEN_FOR_DEAD_SECONDS: std::ops::Range<f64> = 11.0..14.0;

/// How often a step is passed at most before the process is hit there.
const PASSES_MAX: u32 = 10;

/// Hours that a clock is off.
const HOURS_OFF: std::ops::RangeInclusive<i64> = 1..=12;
/// How long a gateway works with the wrong time, in seconds.
const CLOCK_OFF_SECONDS: std::ops::Range<f64> = 4.0..8.0;

/// The extra writer that makes partitions move.
const MOVER: &str = "writer-mover";

pub(super) async fn kill(scene: &Scene<'_>, service: Service) -> Result<Happened> {
    let standing = scene.standing(service);
    scene.world.roster.kill(&standing.name())?;
    scene.world.start_standing(standing).await?;
    Ok(Happened::now(format!("{} was killed", standing.name())))
}

pub(super) async fn freeze(scene: &mut Scene<'_>, service: Service) -> Result<Happened> {
    let name = scene.standing(service).name();
    let running = scene.world.roster.get(&name)?;
    running.freeze()?;
    running.wait_frozen(EFFECT_WITHIN).await?;
    stay_frozen(scene).await;
    running.thaw()?;
    Ok(Happened::now(format!("{name} was stopped")))
}

pub(super) async fn terminate(scene: &Scene<'_>, service: Service) -> Result<Happened> {
    let standing = scene.standing(service);
    let end = scene.world.roster.terminate(&standing.name(), scene.tracks).await?;
    scene.world.start_standing(standing).await?;
    Ok(Happened::now(match end {
        End::AsAsked => format!("{} drained", standing.name()),
        End::NotDrained => format!("{} ended by its deadline, in an outage", standing.name()),
    }))
}

pub(super) async fn hit_at(scene: &mut Scene<'_>, step: Step, blow: Blow) -> Result<Happened> {
    if step == Step::OnRevoke {
        return hit_on_revoke(scene, blow).await;
    }
    let standing = scene.standing(step.service());
    let name = standing.name();
    let roster = &scene.world.roster;
    let running = roster.get(&name)?;
    let passes = scene.choices.random_range(0..PASSES_MAX);
    running.set_failpoint(&step.failpoint(), &actions(passes, blow)).await?;
    let hit = match blow {
        Blow::Kill => roster.wait_killed(&name, EFFECT_WITHIN).await,
        Blow::Freeze => running.wait_frozen(EFFECT_WITHIN).await,
    };
    if hit.is_err() {
        // What was armed must not go off later, when it is nobody's fault; it may have just now.
        running.thaw()?;
        running.set_failpoint(&step.failpoint(), "off").await?;
    }
    hit.with_context(|| format!("{name} did not get there"))?;
    match blow {
        Blow::Kill => drop(scene.world.start_standing(standing).await?),
        Blow::Freeze => {
            stay_frozen(scene).await;
            running.thaw()?;
        }
    }
    Ok(Happened::now(format!("{name} after {passes} passes")))
}

/// Hits whichever writer has to let partitions go first when another one joins.
async fn hit_on_revoke(scene: &mut Scene<'_>, blow: Blow) -> Result<Happened> {
    let world = scene.world;
    // Of partitions that are nobody's yet, the new one is given its share, and none has to go.
    world.wait_all_partitions_assigned(EFFECT_WITHIN).await?;
    let failpoint = Step::OnRevoke.failpoint();
    let mut writers = Vec::new();
    for writer in Standing::writers() {
        writers.push((writer, world.roster.get(&writer.name())?));
    }
    let hit = hit_first_to_revoke(scene, &writers, blow).await;
    // Whatever came of it, nothing armed or frozen stays behind; who is dead cannot be told.
    for (_, running) in &writers {
        let _ = running.thaw();
        let _ = running.set_failpoint(&failpoint, "off").await;
    }
    let ended = Instant::now();
    if world.roster.get(MOVER).is_ok() {
        world.roster.terminate(MOVER, scene.tracks).await?;
    }
    Ok(Happened { ended, ..hit? })
}

async fn hit_first_to_revoke(
    scene: &mut Scene<'_>,
    writers: &[(Standing, Arc<Running>)],
    blow: Blow,
) -> Result<Happened> {
    let world = scene.world;
    let failpoint = Step::OnRevoke.failpoint();
    for (_, running) in writers {
        running.set_failpoint(&failpoint, &actions(0, blow)).await?;
    }
    world.roster.start(MOVER, world.writer()).await?;
    let is_hit = |running: &Running| match blow {
        Blow::Kill => matches!(running.process().exit_status(), Ok(Some(_))),
        Blow::Freeze => running.process().is_frozen(),
    };
    let first = eventually("a writer lets partitions go", EFFECT_WITHIN, async || {
        writers.iter().position(|(_, running)| is_hit(running)).ok_or("none does")
    })
    .await;
    // More than one may have got there.
    let mut hit = Vec::new();
    for (writer, running) in writers {
        if is_hit(running) || running.set_failpoint(&failpoint, "off").await.is_err() {
            hit.push(*writer);
        }
    }
    match blow {
        Blow::Kill => {
            for writer in &hit {
                world.roster.wait_killed(&writer.name(), EFFECT_WITHIN).await?;
                world.start_standing(*writer).await?;
            }
        }
        Blow::Freeze => stay_frozen(scene).await,
    }
    let names: Vec<_> = hit.iter().map(|writer| writer.name()).collect();
    first.map(|_| Happened::now(format!("{} let partitions go", names.join(", "))))
}

async fn stay_frozen(scene: &mut Scene<'_>) {
    if scene.choices.random_ratio(1, TAKEN_FOR_DEAD_ONE_IN) {
        scene.last_unscaled(TAKEN_FOR_DEAD_SECONDS).await;
    } else {
        scene.last(FROZEN_SECONDS).await;
    }
}

fn actions(passes: u32, blow: Blow) -> String {
    format!("{passes}*off->1*return({})", blow.name())
}

pub(super) async fn clock_off(scene: &mut Scene<'_>) -> Result<Happened> {
    let Scene { world, tracks, target, .. } = *scene;
    let number = target % GATEWAYS;
    let standing = Standing::Gateway(number);
    let name = standing.name();
    let hours = scene.choices.random_range(HOURS_OFF) * [1, -1][scene.choices.random_range(0..2)];
    let clock = WrongClock::prepare(world.environment.folder()).await?;
    world.roster.terminate(&name, tracks).await?;
    let wrong = world.gateway(number).variables(clock.variables(hours));
    let wrong = world.roster.start(&name, wrong).await?;
    let off = hours_off(&wrong).await?;
    let accepted = "tapedeck_gateway_events_accepted_total";
    let accepted = wrong.wait_for_metric(accepted, &[], EFFECT_WITHIN, |it| it > 0.0).await;
    scene.last(CLOCK_OFF_SECONDS).await;
    world.roster.terminate(&name, tracks).await?;
    world.start_standing(standing).await?;
    ensure!(off == hours, "the clock is off by {off} hours, not {hours}");
    let accepted = accepted?;
    let proof = format!("{name} was {hours:+} hours off, accepted {accepted} events and more");
    Ok(Happened::now(proof))
}

/// By how many hours a gateway's answers are dated wrongly.
async fn hours_off(gateway: &Running) -> Result<i64> {
    let answer = reqwest::get(format!("{}/openapi.json", gateway.url())).await?;
    let date = answer.headers().get("date").context("no date")?.to_str()?;
    let date = chrono::DateTime::parse_from_rfc2822(date)?;
    // A request takes no half an hour: rounded.
    Ok((date.timestamp() - chrono::Utc::now().timestamp() + 1_800).div_euclid(3_600))
}

impl Scene<'_> {
    fn standing(&self, service: Service) -> Standing {
        Standing::of(service, self.target)
    }
}
