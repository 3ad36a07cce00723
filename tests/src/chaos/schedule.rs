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
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::kind::{Kind, Need, Track};
use crate::recordings::seed;

/// The pause between two faults on the busiest track, on average.
const SHORTEST_PAUSE: Duration = Duration::from_secs(2);
/// By what pauses differ from their average.
const PAUSE_SPREAD: std::ops::Range<f64> = 0.3..1.7;
/// Orders of the first round that are tried before it counts as too long.
const ORDERS_TRIED: u32 = 40;
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

    /// What it takes away from the services.
    pub(super) fn takes_away(&self) -> Vec<Need> {
        self.kind.takes_away(self.target)
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

/// Kinds of faults that do not fit into a run, whatever their order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no time within {length:?} for {}", names(kinds))]
pub struct TooShort {
    /// How long the run is.
    pub length: Duration,
    /// What was left of a round when it was over.
    pub kinds: Vec<Kind>,
}

fn names(kinds: &[Kind]) -> String {
    let names: Vec<_> = kinds.iter().map(ToString::to_string).collect();
    names.join(", ")
}

/// Faults of the given kinds for `length`, in the order of their times. Rounds of all kinds in
/// random order, the first of them whole: none is missing, and none is far more frequent than
/// another.
///
/// # Errors
/// When not even one round fits.
pub fn schedule(
    seed: u64,
    length: Duration,
    kinds: &[Kind],
    overlap: Overlap,
) -> Result<Vec<Fault>, TooShort> {
    let mut choices = seed::generator(seed, "faults", 0);
    let mut plan = Plan::of_first_round(length, kinds, overlap, &mut choices)?;
    loop {
        let before = plan.faults.len();
        plan.add_round(kinds, overlap, 1.0, &mut choices);
        plan.faults.retain(|fault| fault.at < length);
        if plan.faults.len() == before {
            break;
        }
    }
    let mut faults = plan.faults;
    faults.sort_by_key(|fault| fault.at);
    for (number, fault) in (1..).zip(&mut faults) {
        fault.number = number;
    }
    Ok(faults)
}

/// Faults laid out so far.
#[derive(Default)]
struct Plan {
    faults: Vec<Fault>,
    free_at: BTreeMap<Track, Duration>,
}

impl Plan {
    /// A round of all kinds that begin within `length`: the first of several orders that fits,
    /// with ever shorter pauses.
    fn of_first_round(
        length: Duration,
        kinds: &[Kind],
        overlap: Overlap,
        choices: &mut StdRng,
    ) -> Result<Self, TooShort> {
        let mut fewest = kinds.to_vec();
        for order in 0..ORDERS_TRIED {
            let mut plan = Self::default();
            let pause_scale = 1.0 - f64::from(order) / f64::from(ORDERS_TRIED);
            plan.add_round(kinds, overlap, pause_scale, choices);
            let too_late = plan.faults.iter().filter(|fault| fault.at >= length);
            let too_late: Vec<_> = too_late.map(|fault| fault.kind).collect();
            if too_late.is_empty() {
                return Ok(plan);
            }
            if too_late.len() < fewest.len() {
                fewest = too_late;
            }
        }
        Err(TooShort { length, kinds: fewest })
    }

    /// Adds a fault of each kind, in random order, with pauses of `pause_scale` times their length.
    fn add_round(
        &mut self,
        kinds: &[Kind],
        overlap: Overlap,
        pause_scale: f64,
        choices: &mut StdRng,
    ) {
        let mut round: Vec<(Kind, usize)> = kinds.iter().map(|kind| (*kind, 0)).collect();
        round.shuffle(choices);
        for (_, target) in &mut round {
            *target = choices.random_range(0..TARGETS);
        }
        let pauses = mean_pauses(&round);
        for (kind, target) in round {
            let tracks = kind.tracks(target);
            let mean = tracks.iter().map(|track| pauses[track]).min().unwrap_or_default();
            let pause = match overlap {
                Overlap::Any => mean.mul_f64(choices.random_range(PAUSE_SPREAD) * pause_scale),
                Overlap::None => SHORTEST_PAUSE,
            };
            let free = |track: &Track| self.free_at.get(track).copied().unwrap_or_default();
            let at = match overlap {
                Overlap::Any => tracks.iter().map(free).max(),
                Overlap::None => self.free_at.values().max().copied(),
            };
            let at = at.unwrap_or_default() + pause;
            for track in tracks {
                self.free_at.insert(track, at + kind.expected());
            }
            let choice = choices.random();
            self.faults.push(Fault { number: 0, at, kind, target, choice });
        }
    }
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
    use proptest::sample::{select, subsequence};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    /// As `deploy/local/test.sh` has it.
    const SHORT_RUN: Duration = Duration::from_millis(3_600 * 60);

    /// A schedule of all kinds, for an hour.
    fn whole(seed: u64, overlap: Overlap) -> Vec<Fault> {
        schedule(seed, HOUR, &Kind::all(), overlap).unwrap()
    }

    proptest! {
        #[test]
        fn a_seed_gives_one_schedule_in_order_within_its_length(seed: u64) {
            for overlap in [Overlap::Any, Overlap::None] {
                let faults = whole(seed, overlap);
                prop_assert_eq!(&faults, &whole(seed, overlap));
                prop_assert!(faults.is_sorted_by_key(|fault| fault.at));
                prop_assert!(faults.iter().all(|fault| fault.at < HOUR));
            }
        }

        #[test]
        fn no_track_is_taken_twice_at_a_time(seed: u64) {
            let faults = whole(seed, Overlap::Any);
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
            let faults = whole(seed, Overlap::None);
            for pair in faults.windows(2) {
                prop_assert!(pair[0].at + pair[0].kind.expected() <= pair[1].at);
            }
        }

        #[test]
        fn no_kind_is_left_out_or_favoured(seed: u64) {
            let faults = whole(seed, Overlap::Any);
            let mut counts: BTreeMap<Kind, usize> = BTreeMap::new();
            for fault in &faults {
                *counts.entry(fault.kind).or_default() += 1;
            }
            prop_assert_eq!(counts.len(), Kind::all().len());
            prop_assert!(counts.values().all(|count| *count >= 10));
        }

        #[test]
        fn every_kind_asked_for_has_its_turn_or_the_run_is_refused(
            seed: u64,
            seconds in 0_u64..600,
            kinds in subsequence(Kind::all(), 0..=Kind::all().len()),
            overlap in select(vec![Overlap::Any, Overlap::None]),
        ) {
            let asked: BTreeSet<_> = kinds.iter().copied().collect();
            match schedule(seed, Duration::from_secs(seconds), &kinds, overlap) {
                Ok(faults) => {
                    let planned: BTreeSet<_> = faults.iter().map(|fault| fault.kind).collect();
                    prop_assert_eq!(planned, asked);
                }
                Err(TooShort { kinds, .. }) => {
                    prop_assert!(!kinds.is_empty());
                    prop_assert!(kinds.iter().all(|kind| asked.contains(kind)));
                }
            }
        }

        #[test]
        fn all_kinds_fit_into_the_run_that_every_change_must_pass(seed: u64) {
            prop_assert!(schedule(seed, SHORT_RUN, &Kind::all(), Overlap::Any).is_ok());
        }
    }

    #[test]
    fn different_seeds_give_different_schedules() {
        let of = |seed| whole(seed, Overlap::Any);
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn no_kinds_are_no_faults() {
        assert_eq!(schedule(1, HOUR, &[], Overlap::Any), Ok(vec![]));
    }
}
