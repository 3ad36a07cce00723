//! When which fault happens: derived from a seed, and never more than the promise covers.
//!
//! The promise is that of replication 3 with min.insync.replicas 2, and of one synchronous standby.
//! So of everything that [`Track`] names no two faults happen at once: no broker loses its disk
//! while another is down, and no standby is promoted before it has all that the primary had.
//! Faults on different tracks overlap as chance has it, unless told otherwise.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rand::RngExt;
use rand::seq::SliceRandom;

use super::kind::{Kind, Track};
use crate::recordings::seed;

/// The pause between two faults on the busiest track, on average.
const SHORTEST_PAUSE: Duration = Duration::from_secs(2);
/// By what pauses differ from their average.
const PAUSE_SPREAD: std::ops::Range<f64> = 0.3..1.7;
/// Targets are drawn from so many: whatever of two, three or six there is, each is as likely.
const TARGETS: usize = 6;

/// One fault of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its number in the schedule, from 1.
    pub number: usize,
    /// Counted from the start of the faults.
    pub at: Duration,
    /// What happens.
    pub kind: Kind,
    /// To which of several; the kind knows how many there are.
    pub target: usize,
    /// What else the kind has to choose is derived from this.
    pub choice: u64,
}

impl Fault {
    /// What it takes for itself.
    pub fn tracks(&self) -> Vec<Track> {
        self.kind.tracks(self.target)
    }

    /// Whether it takes away from the services what they depend on. A rolling restart gives
    /// everything back before it asks a service to drain.
    pub(super) fn is_outage(&self) -> bool {
        let depends_on = |track| matches!(track, Track::Kafka | Track::Postgres | Track::Network);
        self.kind != Kind::RollingRestart && self.tracks().into_iter().any(depends_on)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, at, kind, target, .. } = self;
        write!(formatter, "{number:4} {:8.1} s  {kind} ({target})", at.as_secs_f64())
    }
}

/// Whether faults happen at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// As chance has it.
    Any,
    /// One after the other: each is healed before the next.
    None,
}

/// Faults of the given kinds for `length`, in the order of their times. Rounds of all kinds in
/// random order: none is missing, and none is far more frequent than another.
pub fn schedule(seed: u64, length: Duration, kinds: &[Kind], overlap: Overlap) -> Vec<Fault> {
    let mut choices = seed::generator(seed, "faults", 0);
    let mut free_at: BTreeMap<Track, Duration> = BTreeMap::new();
    let mut faults = Vec::new();
    let mut round: Vec<(Kind, usize)> = kinds.iter().map(|kind| (*kind, 0)).collect();
    let mut round_fits = !kinds.is_empty();
    while round_fits {
        round.shuffle(&mut choices);
        for (_, target) in &mut round {
            *target = choices.random_range(0..TARGETS);
        }
        let pauses = mean_pauses(&round);
        round_fits = false;
        for (kind, target) in &round {
            let tracks = kind.tracks(*target);
            let mean = tracks.iter().map(|track| pauses[track]).min().unwrap_or_default();
            let pause = match overlap {
                Overlap::Any => mean.mul_f64(choices.random_range(PAUSE_SPREAD)),
                Overlap::None => SHORTEST_PAUSE,
            };
            let free = |track: &Track| free_at.get(track).copied().unwrap_or_default();
            let at = match overlap {
                Overlap::Any => tracks.iter().map(free).max(),
                Overlap::None => free_at.values().max().copied(),
            };
            let at = at.unwrap_or_default() + pause;
            for track in tracks {
                free_at.insert(track, at + kind.expected());
            }
            let choice = choices.random();
            if at < length {
                round_fits = true;
                faults.push(Fault { number: 0, at, kind: *kind, target: *target, choice });
            }
        }
    }
    faults.sort_by_key(|fault| fault.at);
    for (number, fault) in (1..).zip(&mut faults) {
        fault.number = number;
    }
    faults
}

/// How long each track may rest after a fault of a round, so that all need the same time for it.
fn mean_pauses(round: &[(Kind, usize)]) -> BTreeMap<Track, Duration> {
    let mut loads: BTreeMap<Track, (Duration, u32)> = BTreeMap::new();
    for (kind, target) in round {
        for track in kind.tracks(*target) {
            let (busy, count) = loads.entry(track).or_default();
            *busy += kind.expected();
            *count += 1;
        }
    }
    let longest = loads.values().map(|(busy, count)| *busy + SHORTEST_PAUSE * *count).max();
    let longest = longest.unwrap_or_default();
    loads.into_iter().map(|(track, (busy, count))| (track, (longest - busy) / count)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    proptest! {
        #[test]
        fn a_seed_gives_one_schedule_in_order_within_its_length(seed: u64) {
            for overlap in [Overlap::Any, Overlap::None] {
                let faults = schedule(seed, HOUR, &Kind::all(), overlap);
                prop_assert_eq!(&faults, &schedule(seed, HOUR, &Kind::all(), overlap));
                prop_assert!(faults.is_sorted_by_key(|fault| fault.at));
                prop_assert!(faults.iter().all(|fault| fault.at < HOUR));
            }
        }

        #[test]
        fn no_track_is_taken_twice_at_a_time(seed: u64) {
            let faults = schedule(seed, HOUR, &Kind::all(), Overlap::Any);
            for (place, fault) in faults.iter().enumerate() {
                let end = fault.at + fault.kind.expected();
                let tracks: BTreeSet<_> = fault.tracks().into_iter().collect();
                for other in faults[place + 1..].iter().take_while(|other| other.at < end) {
                    prop_assert!(other.tracks().iter().all(|track| !tracks.contains(track)));
                }
            }
        }

        #[test]
        fn without_overlap_each_fault_ends_before_the_next(seed: u64) {
            let faults = schedule(seed, HOUR, &Kind::all(), Overlap::None);
            for pair in faults.windows(2) {
                prop_assert!(pair[0].at + pair[0].kind.expected() <= pair[1].at);
            }
        }

        #[test]
        fn no_kind_is_left_out_or_favoured(seed: u64) {
            let faults = schedule(seed, HOUR, &Kind::all(), Overlap::Any);
            let mut counts: BTreeMap<Kind, usize> = BTreeMap::new();
            for fault in &faults {
                *counts.entry(fault.kind).or_default() += 1;
            }
            prop_assert_eq!(counts.len(), Kind::all().len());
            prop_assert!(counts.values().all(|count| *count >= 10));
        }
    }

    #[test]
    fn different_seeds_give_different_schedules() {
        let of = |seed| schedule(seed, HOUR, &Kind::all(), Overlap::Any);
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn no_kinds_are_no_faults() {
        assert!(schedule(1, HOUR, &[], Overlap::Any).is_empty());
    }
}
