//! What the lanes know of their own health, for the probes and for the log.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::admin::Health;
use common::repeats::Repeats;

use crate::record::Partition;

/// A lane that has not come round for so long is stuck: every wait in it is far shorter.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// What is wrong with a lane, besides being stuck.
#[derive(Debug, Default)]
struct LaneState {
    last_round: Option<Instant>,
    consuming: bool,
    unplaced: usize,
    draining: bool,
    halted: bool,
    stopped: BTreeSet<Partition>,
    troubles: BTreeMap<Work, String>,
}

/// What a lane does that can fail for now. The first that fails is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// Reading its topic as a member of its group.
    Consuming,
    /// Writing to Postgres.
    Writing,
    /// Sending to the dead letters.
    Burying,
    /// Committing offsets.
    Committing,
}

impl Work {
    const fn of_what(self) -> &'static str {
        match self {
            Self::Consuming => "consuming",
            Self::Writing => "Postgres",
            Self::Burying => "the dead letters",
            Self::Committing => "committing offsets",
        }
    }

    const fn goes_on(self) -> &'static str {
        match self {
            Self::Consuming => "consuming again",
            Self::Writing => "writing again",
            Self::Burying => "sending to the dead letters again",
            Self::Committing => "committing offsets again",
        }
    }
}

/// Failures of each work, and to find where partitions begin.
#[derive(Debug, Default)]
struct Failures {
    consuming: Repeats,
    writing: Repeats,
    burying: Repeats,
    committing: Repeats,
    placing: Repeats,
}

impl Failures {
    const fn of(&self, work: Work) -> &Repeats {
        match work {
            Work::Consuming => &self.consuming,
            Work::Writing => &self.writing,
            Work::Burying => &self.burying,
            Work::Committing => &self.committing,
        }
    }
}

/// One lane's health, shared between its thread, its settler and the probes.
#[derive(Clone, Debug)]
pub struct LaneHealth {
    number: usize,
    state: Arc<Mutex<LaneState>>,
    failures: Arc<Failures>,
}

impl LaneHealth {
    /// A lane that has not begun.
    pub fn new(number: usize) -> Self {
        Self { number, state: Arc::default(), failures: Arc::default() }
    }

    fn update<T>(&self, change: impl FnOnce(&mut LaneState) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The lane came round.
    pub fn tick(&self) {
        self.update(|state| state.last_round = Some(Instant::now()));
    }

    /// The lane has become a member of its group, and all of its partitions have had a position.
    pub fn consuming(&self) {
        self.update(|state| state.consuming = true);
    }

    /// How many partitions were assigned to the lane of which it does not know yet where they
    /// begin.
    pub fn set_unplaced(&self, unplaced: usize) {
        self.update(|state| state.unplaced = unplaced);
    }

    /// The lane is finishing for good.
    pub fn draining(&self) {
        self.update(|state| state.draining = true);
    }

    /// The lane stopped because of too much poison.
    pub fn halted(&self) {
        self.update(|state| state.halted = true);
    }

    /// The partitions that wait for a newer writer.
    pub fn set_stopped(&self, stopped: BTreeSet<Partition>) {
        self.update(|state| state.stopped = stopped);
    }

    /// Failures to find where partitions begin.
    pub fn positions(&self) -> &Repeats {
        &self.failures.placing
    }

    /// A work succeeded. Asked about each record, so it costs nothing where nothing had failed.
    pub fn succeeded(&self, work: Work) {
        let failures = self.failures.of(work);
        if !failures.is_failing() {
            return;
        }
        if let Some(over) = failures.over() {
            let (failures, seconds) = (over.failures, over.seconds());
            tracing::info!(lane = self.number, failures, seconds, "{}", work.goes_on());
        }
        self.update(|state| state.troubles.remove(&work));
    }

    /// A work that may have failed is no longer this lane's to do: its partitions have gone.
    pub fn forget(&self, work: Work) {
        self.failures.of(work).over();
        self.update(|state| state.troubles.remove(&work));
    }

    /// A work failed and will be tried again.
    pub fn failed(&self, work: Work, error: &dyn Display) {
        let what = format!("{}: {error}", work.of_what());
        if let Some(left_out) = self.failures.of(work).failed(&what) {
            tracing::warn!(lane = self.number, error = what, left_out, "retrying");
        }
        self.update(|state| state.troubles.insert(work, what));
    }

    fn live(&self) -> Result<(), String> {
        self.update(|state| match state.last_round {
            Some(round) if round.elapsed() > STUCK_AFTER => {
                Err(format!("lane {}: stuck for {} s", self.number, round.elapsed().as_secs()))
            }
            _ => Ok(()),
        })
    }

    fn ready(&self) -> Result<(), String> {
        let number = self.number;
        self.update(|state| {
            if state.draining {
                Err(format!("lane {number}: draining"))
            } else if state.halted {
                Err(format!("lane {number}: stopped, most of the last records were poison"))
            } else if let Some(partition) = state.stopped.first() {
                Err(format!("lane {number}: {partition:?} waits for a newer writer"))
            } else if let Some(trouble) = state.troubles.values().next() {
                Err(format!("lane {number}: {trouble}"))
            } else if state.unplaced > 0 {
                let unplaced = state.unplaced;
                Err(format!("lane {number}: cannot find where {unplaced} of its partitions begin"))
            } else if !state.consuming {
                Err(format!("lane {number}: has not joined its consumer group yet"))
            } else {
                Ok(())
            }
        })
    }
}

/// The writer's health: that of all its lanes. Without lanes it is starting.
#[derive(Clone, Debug, Default)]
pub struct WriterHealth(Arc<Mutex<Starting>>);

/// What the writer waits for before its lanes begin, or its lanes.
#[derive(Debug)]
enum Starting {
    Waiting(String),
    Lanes(Vec<LaneHealth>),
}

impl Default for Starting {
    fn default() -> Self {
        Self::Waiting("starting".to_owned())
    }
}

impl WriterHealth {
    /// The writer waits for something outside before it can begin.
    pub fn waiting_for(&self, what: &dyn Display) {
        self.set(Starting::Waiting(what.to_string()));
    }

    /// The lanes begin.
    pub fn begin(&self, lanes: Vec<LaneHealth>) {
        self.set(Starting::Lanes(lanes));
    }

    fn set(&self, state: Starting) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    fn each(
        &self,
        waiting: impl FnOnce(&str) -> Result<(), String>,
        probe: impl Fn(&LaneHealth) -> Result<(), String>,
    ) -> Result<(), String> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Starting::Waiting(what) => waiting(what),
            Starting::Lanes(lanes) => lanes.iter().try_for_each(probe),
        }
    }
}

impl Health for WriterHealth {
    fn live(&self) -> Result<(), String> {
        self.each(|_| Ok(()), LaneHealth::live)
    }

    fn ready(&self) -> Result<(), String> {
        self.each(|what| Err(what.to_owned()), LaneHealth::ready)
    }
}
