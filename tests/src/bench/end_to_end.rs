//! From the fleet to the tables: the highest rate at which data stay fresh, how fresh they are at
//! half of it, and what a million events cost each process then.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::bodies;
use super::database::Database;
use super::drain::{self, Setup};
use super::figures::Goal;
use super::load::Head;
use super::measurement::{Measurement, Unit};
use super::report::Report;
use super::streaming::{self, Batches};
use super::usage::{Meter, Usage};
use super::{Case, Options, Tell};
use crate::fleet::body::Encoding;
use crate::stack::metrics::Metrics;
use crate::stack::{Environment, Ports, Service, Stack, Tuning};

/// Shares of the rate of a drained backlog that are tried, the highest first.
const SHARES: [f64; 8] = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2];
/// How long each is tried, and for how long the highest must hold.
const TRIED_FOR: Duration = Duration::from_secs(30);
const HELD_FOR: Duration = Duration::from_secs(300);
/// How long half of it is measured.
const HALF_FOR: Duration = Duration::from_secs(60);

/// What fresh means at the highest rate, in seconds, and which share of the rate must get through.
const FRESH_SECONDS: f64 = 1.0;
const ACHIEVED: f64 = 0.98;

const SHARE_OF_DRAIN: Goal = Goal::AtLeast(0.6);
const HALF_MEDIAN_SECONDS: Goal = Goal::AtMost(0.15);
const HALF_P99_SECONDS: Goal = Goal::AtMost(0.5);

/// How long the writer may take for what is left at the end.
const COMMITTED_WITHIN: Duration = Duration::from_secs(120);

/// Looks for the highest rate.
pub(super) async fn run(options: &Options, tell: Tell<'_>) -> Result<Report> {
    let stack = Stack::start(Ports::default(), Tuning::Benchmarks).await?;
    let drained = drained_rate(&stack, options.events).await?;
    tell(&format!("a backlog is drained at {drained:.0} events a second"));
    let mut pipeline = Pipeline::start(&stack).await?;
    let mut highest = None;
    for share in SHARES {
        let tried = pipeline.stream(drained * share, TRIED_FOR).await?;
        tell(&format!("{share} of it: {tried}"));
        if !tried.holds() {
            continue;
        }
        let held = pipeline.stream(drained * share, HELD_FOR).await?;
        tell(&format!("{share} of it for {} s: {held}", HELD_FOR.as_secs()));
        if held.holds() {
            highest = Some(held);
            break;
        }
    }
    let highest = highest.context("no rate can be held")?;
    let half = pipeline.stream(highest.rate() / 2.0, HALF_FOR).await?;
    tell(&format!("half of it: {half}"));
    pipeline.check().await?;

    let measured = |name: &str, unit, goal, value| Measurement::new(name, unit, goal).with(value);
    let mut measurements = vec![
        measured("a backlog drained", Unit::PerSecond, None, drained),
        measured("highest rate that stays fresh", Unit::PerSecond, None, highest.rate()),
        measured(
            "of the drained rate",
            Unit::Ratio,
            Some(SHARE_OF_DRAIN),
            highest.rate() / drained,
        ),
        measured("freshness at it, 99 of 100", Unit::Seconds, None, highest.p99_seconds),
        measured(
            "freshness at half of it, median",
            Unit::Seconds,
            Some(HALF_MEDIAN_SECONDS),
            half.median_seconds,
        ),
        measured(
            "freshness at half of it, 99 of 100",
            Unit::Seconds,
            Some(HALF_P99_SECONDS),
            half.p99_seconds,
        ),
    ];
    for (process, seconds) in &half.usage.cpu_seconds {
        let each = seconds * 1e6 / half.events as f64;
        let name = format!("{process}: CPU s per million events at half of it");
        measurements.push(measured(&name, Unit::Seconds, None, each));
    }
    Report::of(Case::EndToEnd, &stack, Vec::new(), measurements).await
}

/// How fast a backlog is drained here and now.
async fn drained_rate(stack: &Stack, events: u64) -> Result<f64> {
    let environment = Environment::new(stack).await?;
    let backlog = drain::produce(&environment, 0, events).await?;
    let database = Database::like(stack, environment.consumer_group()).await?;
    let run = drain::drain(stack, &environment, backlog, &database.url(), Setup::USUAL).await?;
    database.drop().await?;
    Ok(run.rate())
}

/// A gateway and a writer that batches stream through.
struct Pipeline<'a> {
    stack: &'a Stack,
    environment: Environment,
    gateway: Service,
    writer: Service,
    head: Head,
    batches: Arc<Batches>,
    /// Events acknowledged so far.
    acknowledged: u64,
}

/// What came of a rate.
struct Trial {
    wanted: f64,
    events: u64,
    seconds: f64,
    median_seconds: f64,
    p99_seconds: f64,
    usage: Usage,
}

impl<'a> Pipeline<'a> {
    async fn start(stack: &'a Stack) -> Result<Self> {
        let environment = Environment::new(stack).await?;
        let (name, partitions) = drain::PARTITIONS;
        let writer = environment.writer().variable(name, partitions).start().await?;
        let gateway = environment.gateway().variable(name, partitions).start().await?;
        writer.wait_ready().await?;
        gateway.wait_ready().await?;
        let head = bodies::head(&environment, Encoding::Plain)?;
        let batches = Batches::make(0)?;
        Ok(Self { stack, environment, gateway, writer, head, batches, acknowledged: 0 })
    }

    /// Checks that each event acknowledged is in the tables once, and no other.
    async fn check(&self) -> Result<()> {
        let sql = self.environment.sql().await?;
        let stored: i64 = sql.query_one("SELECT count(*) FROM events", &[]).await?.get(0);
        let acknowledged = self.acknowledged;
        ensure!(
            stored.unsigned_abs() == acknowledged,
            "{stored} events of {acknowledged} acknowledged"
        );
        Ok(())
    }

    /// Streams at a rate, and waits until everything is in the tables.
    async fn stream(&mut self, events_per_second: f64, time: Duration) -> Result<Trial> {
        let before = Histogram::of(&self.writer.metrics().await?);
        let processes = [("gateway", self.gateway.process()), ("writer", self.writer.process())];
        let meter = Meter::start(self.stack, &processes).await?;
        let address = self.gateway.address();
        let streamed =
            streaming::stream(address, &self.head, &self.batches, events_per_second, time).await?;
        self.acknowledged += streamed.events;
        self.environment.wait_committed(COMMITTED_WITHIN).await?;
        let usage = meter.read().await?;
        let freshness = Histogram::of(&self.writer.metrics().await?).since(&before);
        let quantile = |share| freshness.quantile(share).context("no event was written");
        Ok(Trial {
            wanted: events_per_second,
            events: streamed.events,
            seconds: streamed.seconds,
            median_seconds: quantile(0.5)?,
            p99_seconds: quantile(0.99)?,
            usage,
        })
    }
}

impl Trial {
    fn rate(&self) -> f64 {
        self.events as f64 / self.seconds
    }

    /// Whether the rate was had, and data were fresh.
    fn holds(&self) -> bool {
        self.rate() >= ACHIEVED * self.wanted && self.p99_seconds < FRESH_SECONDS
    }
}

impl std::fmt::Display for Trial {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (rate, Self { wanted, median_seconds, p99_seconds, .. }) = (self.rate(), self);
        write!(
            formatter,
            "{rate:.0} of {wanted:.0} events a second, fresh within {median_seconds:.3} s \
             (median), {p99_seconds:.3} s (99 of 100)"
        )
    }
}

/// Upper bounds, and how many were observed at or below each.
struct Histogram(Vec<(f64, f64)>);

impl Histogram {
    /// A writer's freshness since its start.
    fn of(metrics: &Metrics) -> Self {
        Self(metrics.buckets("tapedeck_writer_freshness_seconds"))
    }

    /// What was observed since then.
    fn since(self, before: &Self) -> Self {
        let counts = self.0.into_iter().zip(&before.0);
        Self(counts.map(|((bound, now), (_, then))| (bound, now - then)).collect())
    }

    /// The value below which this share lies, taken to be spread evenly within a bucket; `None`
    /// where nothing was observed. What lies above the last bound counts as that bound.
    fn quantile(&self, share: f64) -> Option<f64> {
        let total = self.0.last()?.1;
        if total <= 0.0 {
            return None;
        }
        let rank = share * total;
        let (mut below, mut lower) = (0.0, 0.0);
        for &(bound, count) in &self.0 {
            if count >= rank {
                let within = (rank - below) / (count - below);
                return Some(if bound.is_finite() {
                    lower + (bound - lower) * within
                } else {
                    lower
                });
            }
            (below, lower) = (count, bound);
        }
        Some(lower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_within_their_bucket() {
        fn check(counts: &[f64], share: f64, expected: Option<f64>) {
            let bounds = [0.25, 0.5, 1.0, f64::INFINITY];
            let histogram = Histogram(bounds.into_iter().zip(counts.iter().copied()).collect());
            assert_eq!(histogram.quantile(share), expected, "{counts:?} {share}");
        }
        check(&[0.0, 0.0, 0.0, 0.0], 0.5, None);
        check(&[10.0, 10.0, 10.0, 10.0], 0.5, Some(0.125));
        check(&[0.0, 10.0, 10.0, 10.0], 0.5, Some(0.375));
        check(&[5.0, 10.0, 20.0, 20.0], 0.25, Some(0.25));
        check(&[0.0, 0.0, 0.0, 4.0], 0.99, Some(1.0));
    }

    #[test]
    fn only_what_was_observed_since_counts() {
        let then = Histogram(vec![(0.5, 100.0), (1.0, 100.0)]);
        let now = Histogram(vec![(0.5, 100.0), (1.0, 110.0)]);
        assert_eq!(now.since(&then).quantile(0.5), Some(0.75));
    }
}
