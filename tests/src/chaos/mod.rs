//! The fault run: tries to break the promise that what was answered 200 is in Postgres once,
//! unchanged, whatever dies.
//!
//! | module | holds |
//! |---|---|
//! | [`options`] | what a run is like |
//! | [`kind`] | what can go wrong, by name (pure) |
//! | [`schedule`](mod@schedule) | when what goes wrong, from a seed (pure) |
//! | [`world`], `links` | everything that runs, and the connections |
//! | `standing`, `roster`, `ends` | the service processes, and how they ended |
//! | `faults` | the faults themselves |
//! | `tracks` | who works on what |
//! | `execute`, `supervise` | has faults happen; starts again what ends by itself |
//! | `probe`, `watch` | how fresh the tables are; what the processes say of themselves |
//! | `last_look`, `months` | what must hold of the services and the reports at the end |
//! | [`report`], `findings` | the tables at the end, and whether all is well |
//!
//! Whether the promise was kept, [`crate::oracle`] says.

mod ends;
mod execute;
mod faults;
mod findings;
pub mod kind;
mod last_look;
mod links;
mod months;
pub mod options;
mod probe;
pub mod report;
mod roster;
pub mod schedule;
mod standing;
mod supervise;
mod tracks;
mod watch;
mod world;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use common::options::Secret;
use common::time::Timestamp;
use indicatif::ProgressBar;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::fleet::{self, FleetOptions, Unruliness};
use crate::ledger::Ledger;
use crate::oracle;
use crate::recordings::{self, Cast, CloneOptions};
use crate::stack::eventually;
use execute::FRESH;
use kind::Kind;
pub use options::ChaosOptions;
use probe::Freshness;
pub use report::Report;
use schedule::TooShort;
use tracks::Tracks;
use world::World;

/// More recorders than any run is long for: it is stopped before.
const CAST: usize = 1_000_000;

/// How much of what recorders send strays.
const UNRULINESS: Unruliness = Unruliness {
    duplicated: 0.05,
    delayed: 0.05,
    reordered: 0.05,
    abandoned: 0.02,
    unwritable: 0.005,
};
/// The share of page states that repeat: most do in a fleet.
const DUPLICATE_PAGE_STATES: f64 = 0.95;

/// How long a batch is resent: longer than any fault lasts.
const PATIENCE: Duration = Duration::from_secs(900);

/// How long one request may take: longer than a gateway's delivery time-out.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the run may take until data flow at all.
const FLOW_WITHIN: Duration = Duration::from_secs(60);
/// How long the tables may take to be fresh once the last fault is healed.
const FRESH_WITHIN: Duration = Duration::from_secs(60);
/// How long fresh data are watched then.
const WATCHED: Duration = Duration::from_secs(10);
/// How long the writers may take to commit everything once nothing comes any more.
const IDLE_WITHIN: Duration = Duration::from_secs(180);

/// A run that is ready to begin.
#[derive(Debug)]
pub struct Chaos {
    options: ChaosOptions,
    left_out: Vec<(Kind, &'static str)>,
    faults: Vec<schedule::Fault>,
}

impl Chaos {
    /// Lays out the run.
    ///
    /// # Errors
    /// When it is too short for all kinds of faults.
    pub fn new(mut options: ChaosOptions) -> Result<Self, TooShort> {
        let left_out = options.leave_out_impossible();
        let ChaosOptions { seed, length, kinds, overlap, .. } = &options;
        let faults = schedule::schedule(*seed, *length, kinds, *overlap)?;
        Ok(Self { options, left_out, faults })
    }

    /// The faults that will happen.
    pub fn faults(&self) -> &[schedule::Fault] {
        &self.faults
    }

    /// Runs it; `tell` hears of what happens.
    ///
    /// # Errors
    /// When the run itself fails; what it finds is in the report.
    pub async fn run(self, tell: impl Fn(&str)) -> Result<Report> {
        let Self { options, left_out, faults } = self;
        let full_disk = options.kinds.contains(&Kind::DiskFull);
        let world = World::start(full_disk, options.previous_writer.clone()).await?;
        tell("everything runs");
        let ledger = Arc::new(Ledger::create(&options.ledger)?);
        let (freshness, tracks) = (Arc::new(Freshness::default()), Tracks::default());
        let [stop_fleet, stop, stop_watching] = std::array::from_fn(|_| CancellationToken::new());
        let fleet = play(world.clone(), ledger.clone(), options.clone(), stop_fleet.clone());
        let fleet = tokio::spawn(fleet);
        let probing = probe::probe(world.clone(), ledger.clone(), freshness.clone(), stop.clone());
        let probing = tokio::spawn(probing);
        // Both look on while what is under way arrives, until the services are at rest.
        let watching = tokio::spawn(watch::watch(world.clone(), stop_watching.clone()));
        let looking =
            tokio::spawn(probe::look(world.clone(), freshness.clone(), stop_watching.clone()));
        let watched = stop_watching.drop_guard();

        let stage = execute::Stage {
            world: &world,
            ledger: &ledger,
            freshness: &freshness,
            tracks: &tracks,
            duration_scale: options.duration_scale,
        };
        let breaking = async {
            // However this ends, the rest ends with it.
            let stopping = stop.clone().drop_guard();
            let mut results = Vec::new();
            let mut flows = wait_flowing(&freshness).await.context("before the first fault");
            if flows.is_ok() {
                tell("data flow");
                let begun = Instant::now();
                let told = |result: &execute::Result| {
                    tell(&format!("{:7.1} s  {result}", begun.elapsed().as_secs_f64()));
                };
                results = execute::execute(stage, &faults, options.overlap, told).await;
                tell("the last fault is healed");
            }
            stop_fleet.cancel();
            let fleet = fleet.await??;
            if flows.is_ok() {
                flows = still_flows(&freshness).await;
            }
            drop(stopping);
            anyhow::Ok((results, fleet, flows))
        };
        let (broken, ()) = tokio::join!(breaking, supervise::supervise(&world, &tracks, &stop));
        let (results, fleet, flows) = broken?;
        probing.await??;
        let arrived = wait_arrived(&freshness).await;
        let worst = freshness.worst();
        let mut at_rest = last_look::gateways_acknowledge(&world, &ledger).await?;
        let idle = world.environment.wait_committed(IDLE_WITHIN).await;
        let flows = flows.and_then(|longest| arrived.and(idle).map(|()| longest));
        at_rest.extend(last_look::all_at_rest(&world).await);
        drop(watched);
        looking.await?;
        let seen = watching.await?;
        let months = months::check(&world.environment).await;
        tell("examining");
        let subject = oracle::Subject::of(&world.environment).await?;
        let verdict = oracle::examine(&options.ledger, &subject).await?;
        Ok(Report {
            fleet,
            probes: freshness.answers(),
            worst,
            faults: results,
            kinds: options.kinds,
            left_out,
            seen,
            ended: world.roster.ends(),
            flows: flows.map_err(|error| format!("{error:#}")),
            at_rest,
            months: months.map_err(|error| format!("{error:#}")),
            verdict,
        })
    }
}

/// Has the fleet play until it is stopped.
async fn play(
    world: Arc<World>,
    ledger: Arc<Ledger>,
    options: ChaosOptions,
    stop: CancellationToken,
) -> Result<fleet::Report> {
    let sessions = recordings::all()?;
    let clones = CloneOptions {
        seed: options.seed,
        ending_at: Timestamp::now(),
        duplicate_page_states: DUPLICATE_PAGE_STATES,
    };
    let cast = Cast::copies(sessions, CAST, clones);
    let fleet = FleetOptions {
        gateway_urls: world.gateway_urls(),
        key: Some(Secret::from(world.environment.key().to_owned())),
        concurrency: options.recorders,
        speed: options.speed,
        patience: PATIENCE,
        request_timeout: REQUEST_TIMEOUT,
        unruliness: UNRULINESS,
        seed: options.seed,
    };
    Ok(fleet::run(&cast, &fleet, Some(ledger), ProgressBar::hidden(), stop).await?)
}

/// Waits until data flow at all; gives how fresh they are.
async fn wait_flowing(freshness: &Freshness) -> Result<Duration> {
    eventually("a probe is in the tables", FLOW_WITHIN, async || match freshness.stored() {
        0 => Err(format!("{} are missing", freshness.missing())),
        _ => Ok(()),
    })
    .await?;
    Ok(freshness.staleness())
}

/// Waits until all probes that were acknowledged are in the tables.
async fn wait_arrived(freshness: &Freshness) -> Result<()> {
    eventually("all probes are in the tables", IDLE_WITHIN, async || match freshness.missing() {
        0 => Ok(()),
        missing => Err(format!("{missing} are missing")),
    })
    .await
}

/// Sees fresh data flow for a while; gives how long the slowest took.
async fn still_flows(freshness: &Freshness) -> Result<Duration> {
    execute::steadily_fresh(freshness, Instant::now() + FRESH_WITHIN)
        .await
        .with_context(|| format!("{} probes missing", freshness.missing()))?;
    let end = Instant::now() + WATCHED;
    let mut longest = Duration::ZERO;
    while Instant::now() < end {
        longest = longest.max(freshness.staleness());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ensure!(longest < FRESH, "fresh data took {longest:?}");
    Ok(longest)
}
