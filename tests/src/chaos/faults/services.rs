//! Gateways and writers that are killed, frozen, drained, or have the wrong time.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use rand::RngExt;

use super::{EFFECT_WITHIN, Happened, Scene};
use crate::chaos::kind::{Blow, GATEWAYS, Service, Step, WRITERS};
use crate::chaos::world;
use crate::stack::eventually;
use crate::stack::service::Service as Running;

/// How long a frozen process stays so, in seconds: shorter and longer than the session time-out
/// of consumers, which is 10.
const FROZEN_SECONDS: std::ops::Range<f64> = 2.0..14.0;

/// How often a step is passed at most before the process is hit there.
const PASSES_MAX: u32 = 30;

/// Hours that a clock is off.
const HOURS_OFF: std::ops::RangeInclusive<i64> = 1..=12;
/// How long a gateway works with the wrong time, in seconds.
const CLOCK_OFF_SECONDS: std::ops::Range<f64> = 4.0..8.0;

/// Where Debian and Ubuntu put the library that shifts clocks.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// The extra writer that makes partitions move.
const MOVER: &str = "writer-mover";

/// Whether [`clock_off`] can be had here.
pub(in crate::chaos) fn can_shift_clocks() -> bool {
    Path::new(FAKETIME).exists()
}

pub(super) async fn kill(scene: &Scene<'_>, service: Service) -> Result<Happened> {
    let name = scene.name(service);
    let status = scene.world.roster.get(&name)?.kill()?;
    ensure!(was_killed(status), "{name} ended by itself: {status}");
    scene.start(service).await?;
    Ok(Happened::now(format!("{name}: {status}")))
}

pub(super) async fn freeze(scene: &mut Scene<'_>, service: Service) -> Result<Happened> {
    let name = scene.name(service);
    let running = scene.world.roster.get(&name)?;
    running.freeze()?;
    wait_frozen(&running).await?;
    scene.last(FROZEN_SECONDS).await;
    running.thaw()?;
    Ok(Happened::now(format!("{name} was stopped")))
}

pub(super) async fn terminate(scene: &Scene<'_>, service: Service) -> Result<Happened> {
    let name = scene.name(service);
    let status = scene.world.roster.get(&name)?.terminate().await?;
    let drained = status.success() || status.code() == Some(common::shutdown::EXIT_NOT_DRAINED);
    ensure!(drained, "{name} ended otherwise than by draining: {status}");
    scene.start(service).await?;
    Ok(Happened::now(format!("{name}: {status}")))
}

pub(super) async fn hit_at(scene: &mut Scene<'_>, step: Step, blow: Blow) -> Result<Happened> {
    let service = step.service();
    let name = scene.name(service);
    let running = scene.world.roster.get(&name)?;
    let moves = step == Step::OnRevoke;
    let passes = if moves { 0 } else { scene.choices.random_range(0..PASSES_MAX) };
    let actions = format!("{passes}*off->1*return({})", blow.name());
    running.set_failpoint(&step.failpoint(), &actions).await?;
    if moves {
        // Partitions go when somebody joins.
        scene.world.roster.start(MOVER, scene.world.writer()).await?;
    }
    let hit = async {
        match blow {
            Blow::Kill => {
                let status = running.process().wait_for_exit(EFFECT_WITHIN).await?;
                ensure!(was_killed(status), "{name} ended by itself: {status}");
            }
            Blow::Freeze => wait_frozen(&running).await?,
        }
        anyhow::Ok(())
    };
    let hit = hit.await.with_context(|| format!("{name} did not get there"));
    match (blow, &hit) {
        (Blow::Freeze, Ok(())) => {
            scene.last(FROZEN_SECONDS).await;
            running.thaw()?;
        }
        (Blow::Kill, Ok(())) => drop(scene.start(service).await?),
        // Whatever was armed must not go off later, when it is nobody's fault.
        (_, Err(_)) => running.set_failpoint(&step.failpoint(), "off").await?,
    }
    let ended = Happened::now(format!("{name} after {passes} passes"));
    if moves && let Some(mover) = scene.world.roster.remove(MOVER) {
        mover.terminate().await?;
    }
    hit.map(|()| ended)
}

pub(super) async fn clock_off(scene: &mut Scene<'_>) -> Result<Happened> {
    let number = scene.target % GATEWAYS;
    let hours = scene.choices.random_range(HOURS_OFF) * [1, -1][scene.choices.random_range(0..2)];
    scene.world.roster.get(&world::gateway(number))?.terminate().await?;
    let settings = [
        ("LD_PRELOAD", FAKETIME.to_owned()),
        ("FAKETIME", format!("{hours:+}h")),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ];
    let wrong = scene.world.start_gateway(number, &settings).await?;
    let off = hours_off(&wrong).await?;
    scene.last(CLOCK_OFF_SECONDS).await;
    wrong.terminate().await?;
    scene.world.start_gateway(number, &[]).await?;
    ensure!(off == hours, "the clock is off by {off} hours, not {hours}");
    Ok(Happened::now(format!("gateway-{} was {hours:+} hours off", number + 1)))
}

/// By how many hours a gateway's answers are dated wrongly.
async fn hours_off(gateway: &Running) -> Result<i64> {
    let answer = reqwest::get(format!("{}/openapi.json", gateway.url())).await?;
    let date = answer.headers().get("date").context("no date")?.to_str()?;
    let date = chrono::DateTime::parse_from_rfc2822(date)?;
    // A request takes no half an hour: rounded.
    Ok((date.timestamp() - chrono::Utc::now().timestamp() + 1_800).div_euclid(3_600))
}

fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::SIGKILL as i32)
}

async fn wait_frozen(running: &Running) -> Result<()> {
    eventually("the process is stopped", EFFECT_WITHIN, async || {
        if running.process().is_frozen() { Ok(()) } else { Err("it runs") }
    })
    .await
}

impl Scene<'_> {
    fn name(&self, service: Service) -> String {
        match service {
            Service::Gateway => world::gateway(self.target % GATEWAYS),
            Service::Writer => world::writer(self.target % WRITERS),
        }
    }

    async fn start(&self, service: Service) -> Result<Arc<Running>> {
        match service {
            Service::Gateway => self.world.start_gateway(self.target % GATEWAYS, &[]).await,
            Service::Writer => self.world.start_writer(self.target % WRITERS).await,
        }
    }
}
