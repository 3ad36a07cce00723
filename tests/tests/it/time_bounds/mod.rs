//! Nothing is waited for longer than its time-out: no answer of a gateway, no dead connection.

mod gateway;
mod kafka;
pub(crate) mod relay;
mod writer;

use std::time::Duration;

/// What a busy machine may add to a time-out.
const BUSY: Duration = Duration::from_secs(5);

/// How long a test waits for a condition.
const PATIENCE: Duration = Duration::from_secs(60);
