//! How fast a writer drains a backlog, against COPY BINARY of the same rows.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::backlog::Backlog;
use super::database::{Database, Rows};
use super::figures::Goal;
use super::report::{self, Comparison, Report, Run};
use super::usage::Meter;
use super::{Case, Options, Tell};
use crate::stack::service::ServiceBuilder;
use crate::stack::{Environment, Ports, Service, Stack, Tuning};

/// Lanes of the writer, and connections of the load, with the goal of each.
const LANES: [(usize, Goal); 3] =
    [(1, Goal::AtLeast(0.9)), (2, Goal::AtLeast(0.8)), (4, Goal::AtLeast(0.8))];

/// The share of page states that repeat: most do in a fleet.
const DUPLICATE_PAGE_STATES: f64 = 0.95;

/// Partitions of each topic: enough for four lanes to have equal shares.
const PARTITIONS: &str = "8";

/// How often a writer is asked how far it is.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// A backlog that takes longer to drain is stuck.
const DRAIN_WITHIN: Duration = Duration::from_secs(600);

/// Measures every number of lanes, interleaved.
pub(super) async fn run(options: &Options, tell: Tell<'_>) -> Result<Report> {
    let stack = Stack::start(Ports::default(), Tuning::Benchmarks).await?;
    let environment = Environment::new(&stack).await?;
    let bench = Bench::prepare(&stack, &environment, options.events, tell).await?;
    let mut comparisons = LANES.map(|(lanes, goal)| {
        Comparison::new(format!("{lanes} lanes"), "writer", "COPY BINARY", goal)
    });
    for round in 1..=options.runs {
        for ((lanes, _), comparison) in LANES.iter().zip(&mut comparisons) {
            tell(&format!("round {round} of {}, {lanes} lanes", options.runs));
            let (drained, database) = bench.drain(*lanes).await?;
            bench.check(&database).await?;
            let loaded = bench.load(*lanes, &database).await?;
            database.drop().await?;
            comparison.subject.1.push(drained);
            comparison.limit.1.push(loaded);
        }
    }
    Ok(Report {
        case: Case::WriterDrain.name(),
        environment: report::Environment::here(&stack).await?,
        comparisons: comparisons.into(),
    })
}

/// A backlog, and the rows that it must come to.
struct Bench<'a> {
    stack: &'a Stack,
    environment: &'a Environment,
    backlog: Backlog,
    rows: Rows,
    fingerprints: Vec<(&'static str, i64, String)>,
}

impl<'a> Bench<'a> {
    /// Makes the backlog. Its rows are those that a first writer makes of it, once they have been
    /// checked.
    async fn prepare(
        stack: &'a Stack,
        environment: &'a Environment,
        events: u64,
        tell: Tell<'_>,
    ) -> Result<Self> {
        // A writer makes the topics.
        writer(environment, environment.database_url(), 1).start().await?.wait_ready().await?;
        let backlog = Backlog::produce(environment, events, DUPLICATE_PAGE_STATES).await?;
        tell(&format!("a backlog of {} events and {} pages", backlog.events, backlog.pages));
        let (rows, fingerprints) = (Rows::default(), Vec::new());
        let mut bench = Self { stack, environment, backlog, rows, fingerprints };
        let (_, database) = bench.drain(2).await.context("the reference")?;
        backlog.check(&database.url()).await?;
        bench.fingerprints = database.fingerprints().await?;
        bench.rows = Rows::of(&database).await?;
        database.drop().await?;
        Ok(bench)
    }

    /// Drains the whole backlog into a new database with a new consumer group.
    async fn drain(&self, lanes: usize) -> Result<(Run, Database<'a>)> {
        let database = Database::like(self.stack, self.environment.consumer_group()).await?;
        let writer = writer(self.environment, &database.url(), lanes).start().await?;
        let begun = wait_until(&writer, |written| written.events > 0).await?;
        let meter = Meter::start(self.stack, &[("writer", writer.process())])?;
        let Backlog { events, pages, .. } = self.backlog;
        let all = |written: &Written| written.events >= events && written.pages >= pages;
        let ended = wait_until(&writer, all).await?;
        let usage = meter.read()?;
        let memory_bytes = Some(writer.process().memory_high_water_bytes()?);
        ensure!(writer.terminate().await?.success(), "{}", writer.log());
        Ok((Run { count: ended.events - begun.events, usage, memory_bytes }, database))
    }

    /// Loads the rows into a new database; the months are those of `drained`.
    async fn load(&self, connections: usize, drained: &Database<'_>) -> Result<Run> {
        let database = Database::like(self.stack, self.environment.consumer_group()).await?;
        database.make_months_of(drained).await?;
        let meter = Meter::start(self.stack, &[])?;
        self.rows.load(&database, connections).await?;
        let usage = meter.read()?;
        self.check(&database).await?;
        database.drop().await?;
        Ok(Run { count: self.rows.count("events"), usage, memory_bytes: None })
    }

    async fn check(&self, database: &Database<'_>) -> Result<()> {
        let found = database.fingerprints().await?;
        ensure!(found == self.fingerprints, "found {found:?}, not {:?}", self.fingerprints);
        Ok(())
    }
}

/// A writer that begins at the beginning: its consumer group is new.
fn writer<'a>(
    environment: &'a Environment,
    database_url: &str,
    lanes: usize,
) -> ServiceBuilder<'a> {
    environment
        .writer()
        .variable("TAPEDECK_TOPIC_PARTITIONS", PARTITIONS)
        .variable("TAPEDECK_DATABASE_URL", database_url)
        .variable("TAPEDECK_CONSUMER_GROUP", uuid::Uuid::new_v4().to_string())
        .variable("TAPEDECK_LANES", lanes.to_string())
}

/// How much a writer has written.
struct Written {
    events: u64,
    pages: u64,
}

async fn wait_until(writer: &Service, reached: impl Fn(&Written) -> bool) -> Result<Written> {
    let end = Instant::now() + DRAIN_WITHIN;
    loop {
        let metrics = writer.metrics().await?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counters")]
        let count = |name| metrics.sum(name, &[]).unwrap_or(0.0) as u64;
        let written = Written {
            events: count("tapedeck_writer_events_written_total"),
            pages: count("tapedeck_writer_pages_written_total"),
        };
        if reached(&written) {
            return Ok(written);
        }
        ensure!(Instant::now() < end, "stuck at {} events\n{}", written.events, writer.log());
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
