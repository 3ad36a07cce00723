//! What the services have resident while what they depend on is away, or far behind.

mod gateway;
mod writer;

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::stack::Service;

/// Bytes in a megabyte.
const MB: u64 = 1_000_000;

/// How often a probe comes.
const PROBE_INTERVAL: Duration = Duration::from_millis(200);

/// Does some work with a service, whose `/livez` must stay green all the while and whose memory
/// below the limit.
async fn stays_small_and_live<T>(
    service: &Service,
    limit_bytes: u64,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let probing = async {
        loop {
            let live = service.liveness().await?;
            ensure!(live.is_ok(), "/livez: {live:?}");
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
    };
    let result = tokio::select! {
        result = work => result?,
        probed = probing => return probed,
    };
    let high_water = service.process().memory_high_water_bytes()?;
    println!("{}: at most {} MB resident", service.process().name(), high_water / MB);
    ensure!(high_water < limit_bytes, "{high_water} bytes were resident");
    Ok(result)
}
