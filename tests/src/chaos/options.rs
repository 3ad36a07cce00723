//! What a fault run is like.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::kind::Kind;
use super::schedule::Overlap;
use crate::fleet::Speed;
use crate::stack::wrong_clock::WrongClock;

/// Settings of one run.
#[derive(Clone, Debug)]
pub struct ChaosOptions {
    /// What faults, ids and the recorders' choices are derived from.
    pub seed: u64,
    /// How long faults go on.
    pub length: Duration,
    /// Which kinds there are.
    pub kinds: Vec<Kind>,
    /// Whether they happen at once.
    pub overlap: Overlap,
    /// How long what lasts (a freeze, a cut) does, against its own time.
    pub duration_scale: f64,
    /// Recorders at work at once.
    pub recorders: NonZeroUsize,
    /// Seconds of recording that pass in a second.
    pub speed: Speed,
    /// Where the ledger is written.
    pub ledger: PathBuf,
    /// A writer of the previous build.
    pub previous_writer: Option<PathBuf>,
}

impl ChaosOptions {
    /// Takes out the kinds that cannot be had here; gives them with the reason.
    pub fn leave_out_impossible(&mut self) -> Vec<(Kind, &'static str)> {
        let root = nix::unistd::Uid::effective().is_root();
        let impossible = |kind: Kind| match kind {
            Kind::DiskFull if !root => Some("only root can make a disk that can be filled up"),
            Kind::PreviousWriter if self.previous_writer.is_none() => {
                Some("no --previous-writer is given")
            }
            Kind::ClockOff if !WrongClock::is_available() => Some("libfaketime is not installed"),
            _ => None,
        };
        let left_out: Vec<_> =
            self.kinds.iter().filter_map(|kind| Some((*kind, impossible(*kind)?))).collect();
        self.kinds.retain(|kind| left_out.iter().all(|(left_out, _)| left_out != kind));
        left_out
    }
}
