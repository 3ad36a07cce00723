//! Writers between a topic and tables that a test fills and reads itself.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::model::{Model, Tables, dump, records};
use tests::recordings::envelope::Envelope;
use tests::stack::{Environment, Service, Stack};
use tokio_postgres::Client;

/// How long the writers may take for what one case delivers.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

/// How many differences a failure shows.
const DIFFERENCES_SHOWN: usize = 5;

/// Records larger than any of the tests'.
pub(crate) const UNSPLIT_BYTES: usize = 1 << 20;

/// An environment without a gateway, and its writers.
pub(crate) struct Pipeline {
    environment: Environment,
    writers: Vec<Service>,
    database: Client,
}

/// An envelope on its way, in records of at most so many bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery<'a> {
    pub(crate) envelope: &'a Envelope,
    pub(crate) limit_bytes: usize,
}

impl Pipeline {
    /// Starts writers whose batches are so small, and whose memory is so short, that what one
    /// case delivers does not fall into one batch.
    pub(crate) async fn start(writers: usize) -> Result<Self> {
        let environment = Environment::new(Stack::shared().await?).await?;
        let mut running = Vec::new();
        for _ in 0..writers {
            let writer = environment
                .writer()
                .variable("TAPEDECK_LANES", "1")
                .variable("TAPEDECK_BATCH_ROWS", "10")
                .variable("TAPEDECK_BATCH_AGE_MS", "10")
                .variable("TAPEDECK_KNOWN_ROWS", "4");
            running.push(writer.start().await?);
        }
        for writer in &running {
            writer.wait_ready().await?;
        }
        let database = environment.sql().await?;
        Ok(Self { environment, writers: running, database })
    }

    /// The database.
    pub(crate) fn database(&self) -> &Client {
        &self.database
    }

    /// Delivers in this order, and waits until the writers have committed all of it.
    pub(crate) async fn deliver(&self, deliveries: &[Delivery<'_>]) -> Result<()> {
        let (mut events, mut pages) = (Vec::new(), Vec::new());
        for delivery in deliveries {
            events.extend(records::of_events(delivery.envelope, delivery.limit_bytes)?);
            pages.extend(records::of_pages(delivery.envelope)?);
        }
        let topics = ["replay-events", "replay-webstates"].map(|name| self.environment.topic(name));
        let kafka = self.environment.records();
        // At once: which of two topics is read first is left to chance, too.
        tokio::try_join!(kafka.produce(&topics[0], &events), kafka.produce(&topics[1], &pages))?;
        self.environment.wait_committed(SETTLED_WITHIN).await.with_context(|| self.logs())
    }

    /// What the writers have said, for an error.
    fn logs(&self) -> String {
        let logs: Vec<String> = self.writers.iter().map(Service::log).collect();
        logs.join("---\n")
    }

    /// What the tables have otherwise than the envelopes want it; empty if nothing.
    pub(crate) async fn differences<'a>(
        &self,
        envelopes: impl IntoIterator<Item = &'a Envelope>,
    ) -> Result<Vec<String>> {
        let expected: Tables = Model::of(envelopes).tables();
        let actual = dump::like(&self.database, &expected).await?;
        Ok(expected.differences(&actual, DIFFERENCES_SHOWN))
    }

    /// Fails if a writer has put anything aside: all that these tests deliver can be written.
    pub(crate) async fn nothing_was_put_aside(&self) -> Result<()> {
        let dead = self.environment.topic("replay-dead-letters");
        let dead = self.environment.records().read_all(&dead).await?;
        ensure!(dead.is_empty(), "{} dead letters: {:?}", dead.len(), dead[0].headers);
        for writer in &self.writers {
            ensure!(writer.process().exit_status()?.is_none(), "a writer has ended");
        }
        Ok(())
    }
}
