//! Who may use the processor: as many requests at a time as there are cores.

use std::sync::Arc;

use common::repeats::Repeats;
use tokio::sync::Semaphore;

use crate::problem::{Kind, Problem};

/// Bodies up to this size are worked on where they are; what is larger would hold up others on
/// the same thread for longer than handing it to another thread costs.
const INLINE_LIMIT_BYTES: usize = 64 * 1024;

/// Permits for work that keeps a core busy.
#[derive(Clone, Debug)]
pub struct Processor {
    permits: Arc<Semaphore>,
    failures: Arc<Repeats>,
}

impl Processor {
    /// As many permits as there are cores.
    pub fn of_all_cores() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { permits: Arc::new(Semaphore::new(cores)), failures: Arc::default() }
    }

    /// Does the work on a body of `bytes` bytes, once there is a permit. How many requests wait
    /// for one is bounded by the budget of bytes in flight.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the work panics.
    pub async fn run<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|error| self.failed(&error))?;
        if bytes <= INLINE_LIMIT_BYTES {
            return work();
        }
        let work = move || {
            let _permit = permit;
            work()
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| self.failed(&error))?
    }

    /// What a recorder is told when work on its request failed by a mistake of the gateway's own.
    pub fn failed(&self, error: &dyn std::error::Error) -> Problem {
        if let Some(left_out) = self.failures.failed(&error) {
            tracing::error!(%error, left_out, "work on a request failed");
        }
        Problem::new(Kind::Internal, "the gateway failed to work on the request")
    }
}
