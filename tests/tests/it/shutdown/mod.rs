//! The end of the services: a first signal drains, a second one or a passed deadline ends them at
//! once, and whichever it was, the next one finds everything.

mod gateway;
mod reporter;
mod writer;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use tests::stack::{Service, eventually};

/// The exit code of a service that ended before it had drained.
const NOT_DRAINED: i32 = 70;

/// What a busy machine may add to an end that comes at once: far less than any deadline for
/// draining that a test does not set itself.
const AT_ONCE: Duration = Duration::from_secs(5);

/// How long a test waits for a condition.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks a service to drain and waits until it says that it does.
async fn begin_draining(service: &Service) -> Result<()> {
    service.process().signal(Signal::SIGTERM)?;
    eventually("the service drains", PATIENCE, async || match service.readiness().await {
        Ok(Err(reason)) if reason.contains("draining") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await
}

/// Sends a signal and sees the service end within the time, not drained.
async fn ends_undrained(service: &Service, signal: Signal, within: Duration) -> Result<()> {
    let sent = Instant::now();
    let status = service.process().stop(signal, within).await?;
    println!("{} ended {:?} after {signal}: {status}", service.process().name(), sent.elapsed());
    ensure!(status.code() == Some(NOT_DRAINED), "{status}\n{}", service.log());
    Ok(())
}
