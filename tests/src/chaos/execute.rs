//! Has the faults of a schedule happen when they are due.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::faults::{self, Happened};
use super::kind::Track;
use super::probe::Freshness;
use super::schedule::{Fault, Overlap};
use super::world::World;
use crate::ledger::Ledger;

/// A fault that takes longer has got stuck.
const FAULT_TIMEOUT: Duration = Duration::from_secs(240);

/// The tables are fresh while no probe is under way for longer.
pub const FRESH: Duration = Duration::from_secs(5);
/// How long recovery may take before the run goes on without it.
const RECOVERY_WITHIN: Duration = Duration::from_secs(120);
/// For so long the tables must stay fresh: the next stale probe may not be sent yet.
const STEADY: Duration = Duration::from_millis(1_500);
/// How often freshness is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// How a fault came out.
#[derive(Clone, Debug)]
pub struct Result {
    /// Which one.
    pub fault: Fault,
    /// What shows that it happened, or why it did not.
    pub happened: std::result::Result<String, String>,
    /// From the end of its cause until the tables were fresh again; `None` if they were not in
    /// time. Only where no other fault was on.
    pub recovery: Option<Option<Duration>>,
}

/// The locks of all tracks.
#[derive(Debug, Default)]
pub struct Tracks {
    locks: std::sync::Mutex<BTreeMap<Track, Arc<Mutex<()>>>>,
}

impl Tracks {
    /// The lock of one track.
    pub fn lock(&self, track: Track) -> Arc<Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Arc::clone(locks.entry(track).or_default())
    }
}

/// Executes a schedule; `tell` is given each result.
pub async fn execute(
    world: &Arc<World>,
    ledger: &Arc<Ledger>,
    freshness: &Arc<Freshness>,
    tracks: &Arc<Tracks>,
    schedule: &[Fault],
    overlap: Overlap,
    tell: impl Fn(&Result),
) -> Vec<Result> {
    let begun = Instant::now();
    let mut results = Vec::new();
    let mut under_way = JoinSet::new();
    for fault in schedule.iter().copied() {
        let (world, ledger, freshness, tracks) =
            (world.clone(), ledger.clone(), freshness.clone(), tracks.clone());
        let alone = overlap == Overlap::None;
        under_way.spawn(async move {
            if !alone {
                tokio::time::sleep_until(begun + fault.at).await;
            }
            one(&world, &ledger, &tracks, fault, alone.then_some(&*freshness)).await
        });
        if alone {
            // One after the other; the planned times leave no room for recovery.
            collect(under_way.join_next().await, &mut results, &tell);
        }
    }
    while let Some(joined) = under_way.join_next().await {
        collect(Some(joined), &mut results, &tell);
    }
    results
}

fn collect(
    joined: Option<std::result::Result<Result, tokio::task::JoinError>>,
    results: &mut Vec<Result>,
    tell: &impl Fn(&Result),
) {
    match joined {
        Some(Ok(result)) => {
            tell(&result);
            results.push(result);
        }
        Some(Err(error)) => tracing::error!(%error, "a fault broke"),
        None => {}
    }
}

async fn one(
    world: &World,
    ledger: &Ledger,
    tracks: &Tracks,
    fault: Fault,
    freshness: Option<&Freshness>,
) -> Result {
    let mut wanted = fault.tracks();
    // One order for all, so that no two wait for each other in a circle.
    wanted.sort_unstable();
    let mut held = Vec::new();
    for track in wanted {
        held.push(tracks.lock(track).lock_owned().await);
    }
    let happening = faults::happen(&fault, world, ledger);
    let happened = match tokio::time::timeout(FAULT_TIMEOUT, happening).await {
        Ok(Ok(happened)) => Ok(happened),
        Ok(Err(error)) => Err(format!("{error:#}")),
        Err(_) => Err(format!("not over within {FAULT_TIMEOUT:?}")),
    };
    drop(held);
    let recovery = match (freshness, &happened) {
        (Some(freshness), Ok(happened)) => Some(recovered(freshness, happened).await),
        _ => None,
    };
    Result { fault, happened: happened.map(|happened| happened.proof), recovery }
}

/// How long after a fault's end the tables are fresh again, and stay so.
async fn recovered(freshness: &Freshness, happened: &Happened) -> Option<Duration> {
    let end = happened.ended + RECOVERY_WITHIN;
    let mut fresh_since: Option<Instant> = None;
    while Instant::now() < end {
        let now = Instant::now();
        match (freshness.staleness() < FRESH, fresh_since) {
            (true, Some(since)) if now - since >= STEADY => {
                return Some(since.saturating_duration_since(happened.ended));
            }
            (true, Some(_)) => {}
            (true, None) => fresh_since = Some(now.max(happened.ended)),
            (false, _) => fresh_since = None,
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    None
}
