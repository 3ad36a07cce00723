//! The faults themselves: each happens, proves that it did, and heals.

mod exchange;
mod group;
mod kafka;
mod network;
mod postgres;
mod services;
mod stream;

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::kind::{Blow, Kind};
use super::schedule::Fault;
use super::tracks::Tracks;
use super::world::World;
use crate::ledger::Ledger;
use crate::recordings::seed;

/// How long an effect may take to show.
const EFFECT_WITHIN: Duration = Duration::from_secs(45);

/// How long replicas may take to be in sync again.
const SYNC_WITHIN: Duration = Duration::from_secs(120);

/// How a fault went.
#[derive(Clone, Debug)]
pub(super) struct Happened {
    /// What shows that it happened.
    pub proof: String,
    /// When its cause was gone: recovery is counted from then.
    pub ended: Instant,
    /// Whether what it broke came back, as far as the fault looks; or what did not.
    pub healed: Result<(), String>,
}

impl Happened {
    fn now(proof: impl Into<String>) -> Self {
        Self { proof: proof.into(), ended: Instant::now(), healed: Ok(()) }
    }

    /// The same, with what came of waiting for what it broke.
    fn healed<T>(self, healed: anyhow::Result<T>) -> Self {
        Self { healed: healed.map(drop).map_err(|error| format!("{error:#}")), ..self }
    }
}

/// What a fault works with.
pub(super) struct Scene<'a> {
    world: &'a World,
    ledger: &'a Ledger,
    tracks: &'a Tracks,
    target: usize,
    choices: StdRng,
    duration_scale: f64,
}

impl<'a> Scene<'a> {
    /// The scene of attempt `attempt` at a fault, which makes choices of its own; what lasts, lasts
    /// `duration_scale` times its time.
    pub(super) fn new(
        fault: &Fault,
        attempt: u64,
        world: &'a World,
        ledger: &'a Ledger,
        tracks: &'a Tracks,
        duration_scale: f64,
    ) -> Self {
        let choices = seed::generator(fault.choice, "fault", attempt);
        Self { world, ledger, tracks, target: fault.target, choices, duration_scale }
    }

    /// Lets the fault last, between so many seconds.
    async fn last(&mut self, seconds: std::ops::Range<f64>) {
        let scale = self.duration_scale;
        self.last_unscaled(seconds.start * scale..seconds.end * scale).await;
    }

    /// The same for what is of a length that the services' settings give.
    async fn last_unscaled(&mut self, seconds: std::ops::Range<f64>) {
        let seconds = self.choices.random_range(seconds);
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    }
}

/// Has a fault happen and heals it.
///
/// # Errors
/// When it could not be shown to happen.
pub(super) async fn happen(kind: Kind, mut scene: Scene<'_>) -> anyhow::Result<Happened> {
    let scene = &mut scene;
    match kind {
        Kind::Hit(service, Blow::Kill) => services::kill(scene, service).await,
        Kind::Hit(service, Blow::Freeze) => services::freeze(scene, service).await,
        Kind::HitAt(step, blow) => services::hit_at(scene, step, blow).await,
        Kind::Terminate(service) => services::terminate(scene, service).await,
        Kind::ClockOff => services::clock_off(scene).await,
        Kind::Broker(blow) => kafka::hit(scene, 1, blow).await,
        Kind::TwoBrokers(blow) => kafka::hit(scene, 2, blow).await,
        Kind::BrokerRestart => kafka::restart(scene).await,
        Kind::LeaderMove => kafka::move_leaders(scene).await,
        Kind::EmptiedBroker => kafka::empty(scene).await,
        Kind::PostgresRestart => postgres::restart(scene).await,
        Kind::SessionsTerminated => postgres::terminate_sessions(scene).await,
        Kind::TableLocked => postgres::lock_table(scene).await,
        Kind::Deadlock => postgres::deadlock(scene).await,
        Kind::SerializationFailure => postgres::fail_serialization(scene).await,
        Kind::DiskFull => postgres::fill_disk(scene).await,
        Kind::FailOver => postgres::fail_over(scene).await,
        Kind::Network(trouble) => network::trouble(scene, trouble).await,
        Kind::Churn => group::churn(scene).await,
        Kind::PreviousWriter => group::previous_writer(scene).await,
        Kind::RollingRestart => group::rolling_restart(scene).await,
        Kind::Poison => stream::poison(scene).await,
    }
}
