//! What the gateway knows of its own health.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::admin::Health;
use tokio_util::sync::CancellationToken;

use crate::breaker::Breaker;

/// How often the runtime has to show that it makes progress.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Without a heartbeat for so long, the process hangs.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(15);

/// Live while its runtime makes progress; ready while it takes requests.
///
/// Kafka being away does not make the gateway unready: 503 with `Retry-After` and CORS headers
/// tells recorders more than a connection that a load balancer refuses, and all gateways would
/// be unready at the same time. Only before the topics have been checked for the first time it
/// is, so that a fleet that cannot work is not rolled out.
pub struct GatewayHealth {
    last_heartbeat: Mutex<Instant>,
    breaker: Arc<Breaker>,
    /// Why the topics have not been checked yet.
    hindrance: Mutex<Option<String>>,
    stopping: CancellationToken,
}

impl GatewayHealth {
    /// The health of a gateway that becomes unready once `stopping` is cancelled.
    pub fn new(breaker: Arc<Breaker>, stopping: CancellationToken) -> Self {
        let (last_heartbeat, hindrance) = (Mutex::new(Instant::now()), Mutex::default());
        Self { last_heartbeat, breaker, hindrance, stopping }
    }

    /// The topics could not be checked; it is tried again.
    pub fn not_checked(&self, error: &dyn Display) {
        let reason = Some(error.to_string());
        *self.hindrance.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    /// Shows progress, and does `each_time` with every heartbeat, for ever.
    pub async fn beat(&self, each_time: impl Fn()) {
        let mut ticks = tokio::time::interval(HEARTBEAT_INTERVAL);
        loop {
            ticks.tick().await;
            *self.last_heartbeat.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            each_time();
        }
    }
}

impl Health for GatewayHealth {
    fn live(&self) -> Result<(), String> {
        let last = *self.last_heartbeat.lock().unwrap_or_else(PoisonError::into_inner);
        match last.elapsed() {
            since if since > HEARTBEAT_TIMEOUT => {
                Err(format!("no progress for {} s", since.as_secs()))
            }
            _ => Ok(()),
        }
    }

    fn ready(&self) -> Result<(), String> {
        if self.stopping.is_cancelled() {
            return Err("draining".to_owned());
        }
        if self.breaker.is_checked() {
            return Ok(());
        }
        let unchecked = "the topics have not been checked yet";
        match &*self.hindrance.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(reason) => Err(format!("{unchecked}: {reason}")),
            None => Err(unchecked.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_from_the_topics_check_until_the_stop() {
        let gauge = prometheus::IntGauge::new("available", "Whether.").unwrap();
        let (breaker, stopping) = (Arc::new(Breaker::new(gauge)), CancellationToken::new());
        let health = GatewayHealth::new(Arc::clone(&breaker), stopping.clone());
        assert!(health.live().is_ok());
        assert!(health.ready().unwrap_err().contains("topics"));
        health.not_checked(&"Kafka is away");
        assert!(health.ready().unwrap_err().ends_with(": Kafka is away"));
        breaker.checked();
        assert!(health.ready().is_ok());
        breaker.failed();
        assert!(health.ready().is_ok());
        stopping.cancel();
        assert!(health.ready().unwrap_err().contains("draining"));
    }
}
