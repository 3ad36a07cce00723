//! Stopping: the first SIGTERM or SIGINT asks the service to drain, a second ends it at once.

use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code when a second signal or a passed deadline ended the service before it had drained.
pub const EXIT_NOT_DRAINED: u8 = 70;

/// A token that is cancelled by the first SIGTERM or SIGINT; a second one exits the process.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn on_signals() -> std::io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = CancellationToken::new();
    let first = stop.clone();
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        };
        let name = next().await;
        tracing::info!(signal = name, "draining");
        first.cancel();
        let name = next().await;
        tracing::warn!(signal = name, "second signal: exiting without having drained");
        std::process::exit(EXIT_NOT_DRAINED.into());
    });
    Ok(stop)
}

/// Runs a program's work to its end on a runtime of its own, and then does not wait for threads
/// that still block: for a server that does not answer, say. What had to be finished has been.
///
/// # Errors
/// When the runtime cannot be made.
pub fn block_on<T>(work: impl Future<Output = T>) -> std::io::Result<T> {
    let runtime = Runtime::new()?;
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    Ok(result)
}
