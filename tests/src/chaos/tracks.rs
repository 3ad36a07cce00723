//! Who works on what: no two faults share a track, and a drain may ask what was out meanwhile.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use super::kind::{Need, Track};
use super::schedule::Fault;

/// For so long after an outage clients may still be waiting to connect again.
const AFTERMATH: Duration = Duration::from_secs(10);

/// The locks of all tracks, and the outages that those who hold them make.
#[derive(Debug, Default)]
pub(super) struct Tracks {
    locks: Mutex<BTreeMap<Track, Arc<tokio::sync::Mutex<()>>>>,
    outages: Mutex<BTreeMap<Need, Outages>>,
}

/// Faults that take away something that services depend on.
#[derive(Clone, Copy, Debug, Default)]
struct Outages {
    now: usize,
    last_ended: Option<Instant>,
}

/// The tracks of a fault, until this is dropped.
pub(super) struct Held<'a> {
    _locks: Vec<OwnedMutexGuard<()>>,
    _outage: Outage<'a>,
}

struct Outage<'a> {
    tracks: &'a Tracks,
    needs: Vec<Need>,
}

impl Tracks {
    /// The lock of one track.
    pub(super) fn lock(&self, track: Track) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(locks.entry(track).or_default())
    }

    /// Waits until everything that a fault takes is free, and takes it.
    pub(super) async fn take(&self, fault: &Fault) -> Held<'_> {
        let mut wanted = fault.tracks();
        // One order for all, so that no two wait for each other in a circle.
        wanted.sort_unstable();
        let mut locks = Vec::new();
        for track in wanted {
            locks.push(self.lock(track).lock_owned().await);
        }
        let needs = fault.takes_away();
        for need in &needs {
            self.outages().entry(*need).or_default().now += 1;
        }
        Held { _locks: locks, _outage: Outage { tracks: self, needs } }
    }

    /// Whether something that a service needs has been out since then, or had been just before.
    pub(super) fn outage_since(&self, begun: Instant, needs: &[Need]) -> bool {
        let outages = self.outages();
        let mut times = needs.iter().filter_map(|need| outages.get(need));
        times.any(|it| it.now > 0 || it.last_ended.is_some_and(|end| end + AFTERMATH >= begun))
    }

    fn outages(&self) -> MutexGuard<'_, BTreeMap<Need, Outages>> {
        self.outages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Outage<'_> {
    fn drop(&mut self) {
        let (mut outages, now) = (self.tracks.outages(), Instant::now());
        for need in &self.needs {
            if let Some(times) = outages.get_mut(need) {
                times.now -= 1;
                times.last_ended = Some(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::kind::{Blow, Kind, Service};

    fn fault(kind: Kind) -> Fault {
        Fault { number: 1, at: Duration::ZERO, kind, target: 0, choice: 0 }
    }

    #[tokio::test]
    async fn an_outage_counts_while_it_lasts_and_for_a_while_after() {
        let tracks = Tracks::default();
        let begun = Instant::now();
        let out_since = |then| tracks.outage_since(then, &[Need::Kafka, Need::Postgres]);
        assert!(!out_since(begun));
        let held = tracks.take(&fault(Kind::FailOver)).await;
        assert!(out_since(Instant::now()));
        assert!(!tracks.outage_since(begun, &[Need::Kafka]), "who does not need it");
        drop(held);
        assert!(out_since(Instant::now()));
        assert!(out_since(begun), "it was on since then");
        assert!(!out_since(Instant::now() + AFTERMATH + Duration::from_secs(1)));
    }

    #[tokio::test]
    async fn what_hits_the_services_themselves_is_no_outage() {
        let tracks = Tracks::default();
        let kinds = [Kind::Hit(Service::Writer, Blow::Freeze), Kind::RollingRestart, Kind::Poison];
        for kind in kinds {
            drop(tracks.take(&fault(kind)).await);
            assert!(!tracks.outage_since(Instant::now(), &Need::ALL), "{kind}");
        }
    }
}
