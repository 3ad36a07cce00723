//! The Tapedeck that the demo plays to: one that runs already, or one of the demo's own.

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use super::screen::{note, step};
use crate::stack::ports::PortOptions;
use crate::stack::prometheus::PrometheusOptions;
use crate::stack::supervisor::{self, DEFAULT_NAME, Home, State};
use crate::stack::tapedeck::Tapedeck;
use crate::stack::{Addresses, Metrics, postgres};

/// What is done once a Tapedeck has been started.
const STARTING: &str = "Kafka, Postgres and the services are up";

/// Where the demo plays to.
#[derive(Debug)]
pub(super) enum Target {
    /// A Tapedeck that ends with the demo.
    Own { tapedeck: Box<Tapedeck>, addresses: Addresses },
    /// A Tapedeck that was there before.
    Found(Addresses),
    /// A Tapedeck that the demo has started and that outlives it.
    Kept { home: Home, addresses: Addresses },
}

impl Target {
    /// Finds the stack that runs in the background, or starts one: in the background too if it
    /// shall be kept.
    ///
    /// # Errors
    /// When there is none and it does not come up; when `stop` is cancelled meanwhile.
    pub(super) async fn find_or_start(
        keep: Option<PortOptions>,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let home = Home::new(DEFAULT_NAME)?;
        match (home.state()?, keep) {
            (State::Running { addresses, .. }, _) => {
                note("A Tapedeck is running already: it is used, and left running");
                Ok(Self::Found(*addresses))
            }
            (State::Changing { pid }, _) => {
                anyhow::bail!("a stack is starting or stopping (process {pid}): try again")
            }
            (State::Stopped, Some(ports)) => {
                let addresses = step(
                    STARTING,
                    supervisor::run_detached(&home, ports, PrometheusOptions::NONE, stop),
                )
                .await?;
                Ok(Self::Kept { home, addresses })
            }
            (State::Stopped, None) => {
                let starting = Tapedeck::start(PortOptions::any(), PrometheusOptions::NONE, |_| {});
                let tapedeck = tokio::select! {
                    tapedeck = step(STARTING, starting) => tapedeck?,
                    // Dropping what has been started ends it.
                    () = stop.cancelled() => anyhow::bail!("interrupted"),
                };
                let addresses = tapedeck.addresses()?;
                Ok(Self::Own { tapedeck: Box::new(tapedeck), addresses })
            }
        }
    }

    /// Where its parts are.
    pub(super) fn addresses(&self) -> &Addresses {
        match self {
            Self::Own { addresses, .. } | Self::Found(addresses) | Self::Kept { addresses, .. } => {
                addresses
            }
        }
    }

    /// Waits until a part of a Tapedeck of the demo's own ends by itself; for ever with another.
    pub(super) async fn failure(&self) -> anyhow::Error {
        match self {
            Self::Own { tapedeck, .. } => tapedeck.failure().await,
            Self::Found(_) | Self::Kept { .. } => std::future::pending().await,
        }
    }

    /// After the demo: stops what is not kept.
    ///
    /// # Errors
    /// When something does not stop well.
    pub(super) async fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Own { tapedeck, .. } => step("Everything has stopped", tapedeck.stop()).await,
            Self::Found(_) | Self::Kept { .. } => Ok(()),
        }
    }

    /// After a demo that came to no end: stops everything that it has started.
    ///
    /// # Errors
    /// When something does not stop well.
    pub(super) async fn abandon(self) -> anyhow::Result<()> {
        match self {
            Self::Own { tapedeck, .. } => tapedeck.stop().await,
            Self::Kept { home, .. } => supervisor::stop(&home).await.map(drop),
            Self::Found(_) => Ok(()),
        }
    }
}

/// A connection to the database.
///
/// # Errors
/// When there is none.
pub(super) async fn sql(addresses: &Addresses) -> anyhow::Result<tokio_postgres::Client> {
    postgres::connect(&addresses.database_url).await
}

/// The writer's metrics now.
///
/// # Errors
/// When its admin port does not answer.
pub(super) async fn writer_metrics(addresses: &Addresses) -> anyhow::Result<Metrics> {
    let url = format!("{}/metrics", addresses.writer_admin_url);
    let answer = reqwest::get(&url).await?.error_for_status()?;
    answer.text().await?.parse().context("the writer's metrics")
}
