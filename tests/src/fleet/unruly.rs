//! How recorders stray from sending each batch once and in order.
//!
//! Networks and browsers deliver twice, late and out of order, and pages are closed before an
//! answer comes. None of it may change the tables.

use std::ops::RangeInclusive;

use rand::rngs::StdRng;
use rand::{Rng, RngExt};

/// How many batches later one leaves that is held back.
const DELAY_BATCHES: RangeInclusive<usize> = 1..=4;

/// Shares of batches, each from 0 to 1. By default all are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Unruliness {
    /// Sent once more after they were acknowledged, to any gateway.
    pub duplicated: f64,
    /// Held back while some later ones go.
    pub delayed: f64,
    /// Sent at the same time as the one after.
    pub reordered: f64,
    /// Given up, if they hold an event, as soon as an answer leaves open whether they arrived: the
    /// page was closed.
    pub abandoned: f64,
    /// With an event of the type that the database of a fault run refuses.
    pub unwritable: f64,
}

/// How one batch is treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Conduct {
    /// Send it once more later.
    pub(super) duplicated: bool,
    /// Give it up once it is unknown.
    pub(super) abandoned: bool,
    /// The place of the event that becomes unwritable.
    pub(super) unwritable: Option<usize>,
}

impl Unruliness {
    /// Whether all shares are from 0 to 1.
    pub fn is_valid(&self) -> bool {
        let Self { duplicated, delayed, reordered, abandoned, unwritable } = *self;
        let shares = [duplicated, delayed, reordered, abandoned, unwritable];
        shares.iter().all(|share| (0.0..=1.0).contains(share))
    }

    /// Decides how a batch of so many events is treated.
    pub(super) fn conduct(&self, events: usize, choices: &mut StdRng) -> Conduct {
        // Every choice is made every time, so that one share does not change what another picks.
        let duplicated = choices.random_bool(self.duplicated);
        let abandoned = choices.random_bool(self.abandoned);
        let unwritable = choices.random_bool(self.unwritable);
        let place = choices.random_range(0..events.max(1));
        Conduct {
            duplicated,
            abandoned: abandoned && events > 0,
            unwritable: (unwritable && events > 0).then_some(place),
        }
    }

    /// The order in which `count` batches leave: one group after the other, the batches of a group
    /// at the same time.
    pub(super) fn order(&self, count: usize, choices: &mut StdRng) -> Vec<Vec<usize>> {
        // A batch that is held back comes right after the one that overtakes it last.
        let mut places: Vec<_> = (0..count).map(|batch| self.place(batch, choices)).collect();
        places.sort_unstable();
        let mut groups: Vec<Vec<usize>> = Vec::new();
        let mut joins = false;
        for (_, _, batch) in places {
            match groups.last_mut() {
                Some(group) if joins && group.len() == 1 => group.push(batch),
                _ => groups.push(vec![batch]),
            }
            joins = choices.random_bool(self.reordered);
        }
        groups
    }

    /// What a batch is sorted by: after which one it comes, whether it is late, and its number.
    fn place(&self, batch: usize, choices: &mut impl Rng) -> (usize, bool, usize) {
        let late = choices.random_bool(self.delayed);
        let delay = choices.random_range(DELAY_BATCHES);
        (if late { batch + delay } else { batch }, late, batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recordings::seed;

    fn order(unruliness: Unruliness) -> Vec<Vec<usize>> {
        unruliness.order(1_000, &mut seed::generator(5, "test", 0))
    }

    #[test]
    fn without_unruliness_batches_leave_one_by_one_in_order() {
        let expected: Vec<_> = (0..1_000).map(|batch| vec![batch]).collect();
        assert_eq!(order(Unruliness::default()), expected);
        let conduct = Unruliness::default().conduct(9, &mut seed::generator(5, "test", 0));
        assert_eq!(conduct, Conduct::default());
    }

    #[test]
    fn every_batch_leaves_once_however_unruly() {
        let unruliness = Unruliness { delayed: 0.3, reordered: 0.3, ..Unruliness::default() };
        let order = order(unruliness);
        let mut batches = order.concat();
        let late = batches.windows(2).filter(|pair| pair[0] > pair[1]).count();
        assert!((100..500).contains(&late), "{late} are overtaken");
        let pairs = order.iter().filter(|group| group.len() == 2).count();
        assert!((100..400).contains(&pairs), "{pairs} pairs");
        assert!(order.iter().all(|group| group.len() <= 2));
        batches.sort_unstable();
        assert_eq!(batches, (0..1_000).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_chosen_is_in_the_batch() {
        let all = Unruliness {
            duplicated: 1.0,
            abandoned: 1.0,
            unwritable: 1.0,
            ..Unruliness::default()
        };
        let mut choices = seed::generator(5, "test", 0);
        let conduct = all.conduct(0, &mut choices);
        assert_eq!(conduct, Conduct { duplicated: true, ..Conduct::default() });
        for _ in 0..100 {
            let conduct = all.conduct(3, &mut choices);
            assert!(conduct.abandoned && conduct.unwritable.is_some_and(|place| place < 3));
        }
    }

    #[test]
    fn shares_are_between_nothing_and_all() {
        let valid = |share| Unruliness { delayed: share, ..Unruliness::default() }.is_valid();
        assert_eq!([0.0, 1.0, -0.1, 1.1, f64::NAN].map(valid), [true, true, false, false, false]);
    }
}
