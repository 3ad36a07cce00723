//! Files that are taken over again when they change, without a restart.

use std::fmt::Display;
use std::time::Duration;

use common::repeats::Repeats;
use prometheus::IntCounter;
use tokio::time::MissedTickBehavior;

/// What to watch, and what to do about it.
pub struct Reload<C, R, T> {
    /// Between two looks.
    pub every: Duration,
    /// What was read before. (Contents are compared, as times of change can repeat and mounted
    /// secrets are links that move.)
    pub last: C,
    /// Reads the files; on a thread where it may wait.
    pub read: R,
    /// Puts what was read in the place of what was there.
    pub take_over: T,
    /// Counts each time that either fails.
    pub failures: IntCounter,
    /// What the log says then.
    pub told: &'static str,
}

impl<C, R, T, E> Reload<C, R, T>
where
    C: PartialEq + Send + 'static,
    R: Fn() -> Result<C, E> + Clone + Send + 'static,
    T: Fn(&C) -> Result<(), E>,
    E: Display + Send + 'static,
{
    /// Takes over whatever is new, for ever. While it cannot be used, what was there before stays.
    pub async fn on_change(self) {
        let Self { every, mut last, read, take_over, failures, told } = self;
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let repeats = Repeats::default();
        loop {
            ticks.tick().await;
            let Ok(read) = tokio::task::spawn_blocking(read.clone()).await else {
                continue;
            };
            let taken = read.and_then(|contents| {
                if contents != last {
                    take_over(&contents)?;
                    last = contents;
                }
                Ok(())
            });
            match taken {
                Ok(()) => {
                    if let Some(over) = repeats.over() {
                        let (failures, seconds) = (over.failures, over.seconds());
                        tracing::info!(failures, seconds, before = told, "files are read again");
                    }
                }
                Err(error) => {
                    failures.inc();
                    if let Some(left_out) = repeats.failed(&error) {
                        tracing::error!(%error, left_out, "{told}");
                    }
                }
            }
        }
    }
}
