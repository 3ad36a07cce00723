//! How fast a writer is while its tables grow, and what rows take.

use anyhow::{Context, Result, ensure};

use super::database::Database;
use super::drain::{self, Setup};
use super::figures::{Goal, median};
use super::measurement::{Measurement, Unit};
use super::report::Report;
use super::{Case, Tell};
use crate::stack::{Environment, Ports, Stack, Tuning};

/// Events of one step, and how many steps there are: thirty million events.
const STEP_EVENTS: u64 = 1_000_000;
const STEPS: u32 = 30;
/// Steps whose median stands for the beginning, and as many for the end.
const ENDS: usize = 3;

/// The rate at the end over that at the beginning.
const LAST_OVER_FIRST: Goal = Goal::AtLeast(0.8);

/// Measures step by step.
pub(super) async fn run(tell: Tell<'_>) -> Result<Report> {
    let stack = Stack::start(Ports::default(), Tuning::Benchmarks).await?;
    let mut database = None;
    let mut rates = Measurement::by_step("events a second", Unit::PerSecond);
    let mut cpu = Measurement::by_step("Postgres: CPU s per million events", Unit::Seconds);
    let mut total = 0;
    for step in 0..STEPS {
        // Topics of their own: a new consumer group reads this step's events alone.
        let environment = Environment::new(&stack).await?;
        let backlog = drain::produce(&environment, step, STEP_EVENTS).await?;
        let database = match &database {
            Some(database) => database,
            None => database.insert(Database::like(&stack, environment.consumer_group()).await?),
        };
        let url = database.url();
        let run = drain::drain(&stack, &environment, backlog, &url, Setup::USUAL).await?;
        total += backlog.events;
        let stored = database.count_events().await?;
        ensure!(stored == total, "{stored} events, not {total}");
        for topic in ["replay-events", "replay-webstates"] {
            environment.records().lose_all(&environment.topic(topic)).await?;
        }
        tell(&format!("{total} events: {:.0} a second", run.rate()));
        rates.values.push(run.rate());
        cpu.values.push(run.cpu_per_million("postgres").context("Postgres is measured")?);
    }
    let first = median(rates.values.iter().take(ENDS).copied()).unwrap_or_default();
    let last = median(rates.values.iter().rev().take(ENDS).copied()).unwrap_or_default();
    let mut measurements = vec![rates, cpu];
    measurements.push(
        Measurement::new("last steps over first", Unit::Ratio, Some(LAST_OVER_FIRST))
            .with(last / first),
    );
    let database = database.context("there are steps")?;
    for (relation, bytes) in database.bytes_of_events().await? {
        let name = format!("bytes a row: {relation}");
        measurements
            .push(Measurement::new(name, Unit::Bytes, None).with(bytes as f64 / total as f64));
    }
    Report::of(Case::Growth, &stack, Vec::new(), measurements).await
}
