//! A backlog drained by a writer, and what it must come to.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Tell;
use super::backlog::Backlog;
use super::comparison::Run;
use super::database::{Database, Rows};
use super::usage::Meter;
use crate::stack::service::ServiceBuilder;
use crate::stack::{Environment, Service, Stack};

/// The share of page states that repeat: most do in a fleet.
pub(super) const DUPLICATE_PAGE_STATES: f64 = 0.95;

/// Partitions of each topic: so that two lanes and four have equal shares.
pub(super) const PARTITIONS: (&str, &str) = ("TAPEDECK_TOPIC_PARTITIONS", "8");

/// How often a writer is asked how far it is.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// A backlog that takes longer to drain is stuck.
const DRAIN_WITHIN: Duration = Duration::from_secs(600);

/// How a writer is set up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    /// Its lanes.
    pub lanes: usize,
    /// Its `--foreign-keys`.
    pub foreign_keys: &'static str,
}

impl Setup {
    /// As writers are by default.
    pub(super) const USUAL: Self = Self { lanes: 2, foreign_keys: "per-row" };
}

/// A backlog, and the rows that it must come to.
pub(super) struct Bench<'a> {
    stack: &'a Stack,
    environment: &'a Environment,
    backlog: Backlog,
    rows: Rows,
    fingerprints: Vec<(&'static str, i64, String)>,
    months: Vec<String>,
}

impl<'a> Bench<'a> {
    /// Makes the backlog. Its rows are those that a first writer makes of it, once they have been
    /// checked.
    pub(super) async fn prepare(
        stack: &'a Stack,
        environment: &'a Environment,
        events: u64,
        tell: Tell<'_>,
    ) -> Result<Self> {
        let backlog = produce(environment, 0, events).await?;
        tell(&format!("a backlog of {} events and {} pages", backlog.events, backlog.pages));
        let mut bench = Self {
            stack,
            environment,
            backlog,
            rows: Rows::default(),
            fingerprints: Vec::new(),
            months: Vec::new(),
        };
        let database = bench.database().await?;
        bench.drain(&database, Setup::USUAL).await.context("the reference")?;
        backlog.check(&database.url()).await?;
        bench.months = database.months().await?;
        bench.fingerprints = database.fingerprints().await?;
        bench.rows = Rows::of(&database).await?;
        database.drop().await?;
        Ok(bench)
    }

    /// An empty database.
    pub(super) async fn database(&self) -> Result<Database<'a>> {
        Database::like(self.stack, self.environment.consumer_group()).await
    }

    /// Drains the whole backlog into a database with a new consumer group.
    pub(super) async fn drain(&self, database: &Database<'_>, setup: Setup) -> Result<Run> {
        drain(self.stack, self.environment, self.backlog, &database.url(), setup).await
    }

    /// Loads the rows into a new database on so many connections.
    pub(super) async fn load(&self, connections: usize) -> Result<Run> {
        let database = self.database().await?;
        database.make_months(&self.months).await?;
        let meter = Meter::start(self.stack, &[]).await?;
        self.rows.load(&database, connections).await?;
        let usage = meter.read().await?;
        self.check(&database).await?;
        database.drop().await?;
        Ok(Run { count: self.rows.count("events"), usage, memory_bytes: None })
    }

    /// Checks that a database holds the backlog's rows and no others.
    pub(super) async fn check(&self, database: &Database<'_>) -> Result<()> {
        let found = database.fingerprints().await?;
        ensure!(found == self.fingerprints, "found {found:?}, not {:?}", self.fingerprints);
        Ok(())
    }
}

/// Has a writer make the topics.
pub(super) async fn make_topics(environment: &Environment) -> Result<()> {
    let url = environment.database_url();
    writer(environment, url, Setup::USUAL).start().await?.wait_ready().await
}

/// Puts a backlog on new topics; see [`Backlog::produce`].
pub(super) async fn produce(environment: &Environment, seed: u32, events: u64) -> Result<Backlog> {
    make_topics(environment).await?;
    Backlog::produce(environment, seed, events, DUPLICATE_PAGE_STATES).await
}

/// Drains a backlog, all that is on the environment's topics, into the database at `url` with a
/// new consumer group. What is counted are events, from when all lanes have their partitions.
pub(super) async fn drain(
    stack: &Stack,
    environment: &Environment,
    backlog: Backlog,
    url: &str,
    setup: Setup,
) -> Result<Run> {
    let Backlog { events, pages, .. } = backlog;
    let all = |settled: &Settled| settled.events >= events && settled.pages >= pages;
    drain_until(stack, environment, url, setup, |settled| settled.events, all).await
}

/// Drains so many pages likewise; what is counted are pages.
pub(super) async fn drain_pages(
    stack: &Stack,
    environment: &Environment,
    pages: u64,
    url: &str,
    setup: Setup,
) -> Result<Run> {
    let all = |settled: &Settled| settled.pages >= pages;
    drain_until(stack, environment, url, setup, |settled| settled.pages, all).await
}

async fn drain_until(
    stack: &Stack,
    environment: &Environment,
    url: &str,
    setup: Setup,
    counted: impl Fn(&Settled) -> u64,
    all: impl Fn(&Settled) -> bool,
) -> Result<Run> {
    let writer = writer(environment, url, setup).start().await?;
    writer.wait_ready().await?;
    let begun = wait_until(&writer, |settled| counted(settled) > 0).await?;
    let meter = Meter::start(stack, &[("writer", writer.process())]).await?;
    let ended = wait_until(&writer, all).await?;
    let usage = meter.read().await?;
    let memory_bytes = Some(writer.process().memory_high_water_bytes()?);
    ensure!(writer.terminate().await?.success(), "{}", writer.log());
    Ok(Run { count: counted(&ended) - counted(&begun), usage, memory_bytes })
}

/// A writer that begins at the beginning: its consumer group is new.
fn writer<'a>(
    environment: &'a Environment,
    database_url: &str,
    setup: Setup,
) -> ServiceBuilder<'a> {
    environment
        .writer()
        .variable(PARTITIONS.0, PARTITIONS.1)
        .variable("TAPEDECK_DATABASE_URL", database_url)
        .variable("TAPEDECK_CONSUMER_GROUP", uuid::Uuid::new_v4().to_string())
        .variable("TAPEDECK_LANES", setup.lanes.to_string())
        .variable("TAPEDECK_FOREIGN_KEYS", setup.foreign_keys)
}

/// How much a writer is done with, new or not.
struct Settled {
    events: u64,
    pages: u64,
}

async fn wait_until(writer: &Service, reached: impl Fn(&Settled) -> bool) -> Result<Settled> {
    let end = Instant::now() + DRAIN_WITHIN;
    loop {
        let metrics = writer.metrics().await?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counters")]
        let sum = |names: [&str; 2]| {
            names.iter().filter_map(|name| metrics.sum(name, &[])).sum::<f64>() as u64
        };
        let settled = Settled {
            events: sum([
                "tapedeck_writer_events_written_total",
                "tapedeck_writer_events_duplicate_total",
            ]),
            pages: sum([
                "tapedeck_writer_pages_written_total",
                "tapedeck_writer_page_repeats_total",
            ]),
        };
        if reached(&settled) {
            return Ok(settled);
        }
        ensure!(Instant::now() < end, "stuck at {} events\n{}", settled.events, writer.log());
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
