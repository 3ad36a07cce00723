//! Has the faults of a schedule happen when they are due.

use std::fmt;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

use super::ends::Asked;
pub(super) use super::faults::Happened;
use super::faults::{self, Scene};
use super::probe::Freshness;
use super::schedule::{Fault, Overlap};
use super::supervise;
use super::tracks::Tracks;
use super::world::World;
use crate::ledger::Ledger;

/// A fault that takes longer has got stuck.
const FAULT_TIMEOUT: Duration = Duration::from_secs(240);

/// What others do at the time may keep a fault from happening: then it is tried again.
const ATTEMPTS: u64 = 3;

/// The tables are fresh while no probe is under way for longer.
pub(super) const FRESH: Duration = Duration::from_secs(5);
/// How long recovery may take before the run goes on without it.
const RECOVERY_WITHIN: Duration = Duration::from_secs(120);
/// For so long the tables must stay fresh: longer than it takes a probe that got stuck in the last
/// moment to count as stale.
const STEADY: Duration = FRESH.saturating_add(Duration::from_secs(1));
/// How often freshness is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// How a fault came out.
#[derive(Clone, Debug)]
pub(super) struct Result {
    /// Which one.
    pub fault: Fault,
    /// What shows that it happened, or why it did not.
    pub happened: std::result::Result<Happened, NotShown>,
    /// From the end of its cause until the tables were fresh again; `None` if they were not in
    /// time. Only where no other fault was on.
    pub recovery: Option<Option<Duration>>,
}

/// Why a fault cannot be shown to have happened.
#[derive(Clone, Debug)]
pub(super) enum NotShown {
    /// What others did at the time kept it from happening, or it was not seen.
    Error(String),
    /// It was not over in time: something hangs.
    Stuck,
}

impl fmt::Display for NotShown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The rest is the end of a log.
            Self::Error(error) => formatter.write_str(error.lines().next().unwrap_or_default()),
            Self::Stuck => write!(formatter, "not over within {FAULT_TIMEOUT:?}"),
        }
    }
}

impl fmt::Display for Result {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fault, happened, recovery } = self;
        write!(formatter, "{fault}: ")?;
        match happened {
            Ok(Happened { proof, healed: Ok(()), .. }) => write!(formatter, "{proof}")?,
            Ok(Happened { proof, healed: Err(error), .. }) => {
                write!(formatter, "{proof}; NOT HEALED: {error}")?;
            }
            Err(error) => write!(formatter, "DID NOT HAPPEN: {error}")?,
        }
        match recovery {
            Some(Some(time)) => write!(formatter, "; fresh after {:.1} s", time.as_secs_f64()),
            Some(None) => write!(formatter, "; NOT FRESH AGAIN"),
            None => Ok(()),
        }
    }
}

/// What faults are executed with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stage<'a> {
    /// What they hit.
    pub world: &'a World,
    /// Where what they send is noted.
    pub ledger: &'a Ledger,
    /// How fresh the tables are.
    pub freshness: &'a Freshness,
    /// What no two of them may take.
    pub tracks: &'a Tracks,
    /// How long faults last, against their own time.
    pub duration_scale: f64,
}

/// Executes a schedule; `tell` is given each result.
pub(super) async fn execute(
    stage: Stage<'_>,
    schedule: &[Fault],
    overlap: Overlap,
    tell: impl Fn(&Result),
) -> Vec<Result> {
    let begun = Instant::now();
    match overlap {
        Overlap::Any => {
            let due = |fault: &Fault| {
                let fault = *fault;
                async move {
                    tokio::time::sleep_until(begun + fault.at).await;
                    one(stage, fault).await
                }
            };
            let all: FuturesUnordered<_> = schedule.iter().map(due).collect();
            all.inspect(tell).collect().await
        }
        Overlap::None => {
            let mut results = Vec::new();
            for fault in schedule {
                // The planned times leave no room for recovery.
                let mut result = one(stage, *fault).await;
                if let Ok(happened) = &result.happened {
                    result.recovery = Some(recovered(stage.freshness, happened).await);
                }
                tell(&result);
                results.push(result);
            }
            results
        }
    }
}

async fn one(stage: Stage<'_>, fault: Fault) -> Result {
    let Stage { world, ledger, tracks, duration_scale, .. } = stage;
    let _held = tracks.take(&fault).await;
    let asked = if fault.kind.kills_services() { Asked::Kill } else { Asked::Nothing };
    let mut attempt = 1;
    let happened = loop {
        let scene = Scene::new(&fault, attempt, world, ledger, tracks, duration_scale);
        let happening = faults::happen(fault.kind, scene);
        let happened = match tokio::time::timeout(FAULT_TIMEOUT, happening).await {
            Ok(happened) => happened.map_err(|error| NotShown::Error(format!("{error:#}"))),
            Err(_) => Err(NotShown::Stuck),
        };
        if happened.is_err() {
            supervise::revive_all(world, &fault.tracks(), asked).await;
        }
        let over = matches!(happened, Ok(_) | Err(NotShown::Stuck));
        if over || attempt == ATTEMPTS {
            break happened;
        }
        attempt += 1;
    };
    Result { fault, happened, recovery: None }
}

/// How long after a fault's end the tables are fresh again, and stay so.
async fn recovered(freshness: &Freshness, happened: &Happened) -> Option<Duration> {
    let since = steadily_fresh(freshness, happened.ended + RECOVERY_WITHIN).await?;
    Some(since.saturating_duration_since(happened.ended))
}

/// Waits until the tables are fresh and stay so; gives since when, or `None` when they are not
/// by `end`.
pub(super) async fn steadily_fresh(freshness: &Freshness, end: Instant) -> Option<Instant> {
    let mut fresh_since: Option<Instant> = None;
    while Instant::now() < end {
        let now = Instant::now();
        match (freshness.staleness() < FRESH, fresh_since) {
            (true, Some(since)) if now - since >= STEADY => return Some(since),
            (true, Some(_)) => {}
            (true, None) => fresh_since = Some(now),
            (false, _) => fresh_since = None,
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    None
}
