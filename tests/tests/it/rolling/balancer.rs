//! What stands before the gateways: it sends to those that are ready.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::stack::Service;
use tokio::sync::RwLock;

/// How often the gateways are asked.
const PROBE_INTERVAL: Duration = Duration::from_millis(200);

/// Where a load balancer sends: the addresses of the gateways that were ready when it last asked.
#[derive(Clone, Default)]
pub(super) struct LoadBalancer(Arc<RwLock<Vec<String>>>);

impl LoadBalancer {
    /// Asks the gateways whether they are ready.
    pub(super) async fn probe(&self, gateways: &[Service]) -> Result<()> {
        let mut ready = Vec::new();
        for gateway in gateways {
            if gateway.readiness().await?.is_ok() {
                ready.push(format!("{}/v1/batches", gateway.url()));
            }
        }
        *self.0.write().await = ready;
        Ok(())
    }

    /// Ends a gateway that drains for longer than it takes to notice that it is not ready.
    pub(super) async fn end(&self, old: Service, others: &[Service]) -> Result<()> {
        let gone = old.terminate();
        tokio::pin!(gone);
        let status = loop {
            tokio::select! {
                status = &mut gone => break status?,
                () = tokio::time::sleep(PROBE_INTERVAL) => self.probe(others).await?,
            }
        };
        ensure!(status.success(), "{}", old.log());
        Ok(())
    }

    /// Where the next request goes.
    pub(super) async fn pick(&self, turn: usize) -> Result<String> {
        let ready = self.0.read().await;
        ready.get(turn % ready.len().max(1)).cloned().context("no gateway is ready")
    }
}
