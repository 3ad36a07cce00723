//! The most memory that a writer far behind and a busy gateway have resident, and what a gateway's
//! idle connections cost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::bodies;
use super::database::Database;
use super::drain::{self, Setup};
use super::figures::Goal;
use super::floor::RunningFloor;
use super::load::{self, Connection, Requests};
use super::measurement::{Measurement, Unit};
use super::report::Report;
use super::{Case, Tell};
use crate::fleet::body::Encoding;
use crate::stack::process::Process;
use crate::stack::{Environment, Ports, Stack, Tuning};

/// Events that the writer is behind, and its lanes.
const BEHIND_EVENTS: u64 = 10_000_000;
const LANES: usize = 4;
const WRITER_MEGABYTES: Goal = Goal::AtMost(150.0);

/// Connections that send as fast as they are answered, what each sends, and for how long.
const BUSY_CONNECTIONS: usize = 256;
const BUSY_BODY_BYTES: usize = 8 << 10;
const BUSY_FOR: Duration = Duration::from_secs(15);
const GATEWAY_MEGABYTES: Goal = Goal::AtMost(48.0);

/// Connections that wait, and what each sends before it waits again.
const IDLE_CONNECTIONS: usize = 10_000;
const IDLE_BODY_BYTES: usize = 100 << 10;
/// How many of them are opened, or send, at a time.
const AT_A_TIME: usize = 64;
/// A gateway's over a plain server's.
const IDLE_RATIO: Goal = Goal::AtMost(1.0);

/// Measures each once: a high-water mark has no median.
pub(super) async fn run(tell: Tell<'_>) -> Result<Report> {
    allow_many_files()?;
    let stack = Stack::start(Ports::default(), Tuning::Benchmarks).await?;
    tell("a busy gateway");
    let mut measurements = vec![busy_gateway(&stack).await?];
    tell("idle connections");
    measurements.extend(idle_connections(&stack).await?);
    tell("a writer far behind");
    measurements.push(writer_behind(&stack).await?);
    Report::of(Case::Memory, &stack, Vec::new(), measurements).await
}

/// The connections are files of this process, and of the servers, which inherit its limit.
fn allow_many_files() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("the limit of open files")
}

async fn writer_behind(stack: &Stack) -> Result<Measurement> {
    let environment = Environment::new(stack).await?;
    let backlog = drain::produce(&environment, 0, BEHIND_EVENTS).await?;
    let database = Database::like(stack, environment.consumer_group()).await?;
    let setup = Setup { lanes: LANES, ..Setup::USUAL };
    let run = drain::drain(stack, &environment, backlog, &database.url(), setup).await?;
    backlog.check(&database.url()).await?;
    database.drop().await?;
    let bytes = run.memory_bytes.context("a writer's memory is measured")?;
    let name = format!("writer of {LANES} lanes, {} events behind", backlog.events);
    Ok(Measurement::new(name, Unit::Megabytes, Some(WRITER_MEGABYTES)).with(bytes as f64 / 1e6))
}

async fn busy_gateway(stack: &Stack) -> Result<Measurement> {
    let environment = Environment::new(stack).await?;
    let gateway = environment.gateway().start().await?;
    gateway.wait_ready().await?;
    let requests = Arc::new(bodies::requests(&environment, BUSY_BODY_BYTES, Encoding::Plain)?);
    load::send(gateway.address(), &requests, BUSY_CONNECTIONS, BUSY_FOR).await?;
    let bytes = gateway.process().memory_high_water_bytes()?;
    let name =
        format!("gateway, {BUSY_CONNECTIONS} busy connections of {} KiB", BUSY_BODY_BYTES >> 10);
    Ok(Measurement::new(name, Unit::Megabytes, Some(GATEWAY_MEGABYTES)).with(bytes as f64 / 1e6))
}

async fn idle_connections(stack: &Stack) -> Result<Vec<Measurement>> {
    let environment = Environment::new(stack).await?;
    let gateway = environment
        .gateway()
        // The connections, and those of the probes.
        .variable("TAPEDECK_CONNECTIONS_LIMIT", (IDLE_CONNECTIONS + 100).to_string())
        .start()
        .await?;
    gateway.wait_ready().await?;
    let floor = RunningFloor::bare(&environment).await?;
    let requests = bodies::requests(&environment, IDLE_BODY_BYTES, Encoding::Plain)?;
    let of_floor = Idle::measure(&floor.process, floor.address, &requests).await?;
    let of_gateway = Idle::measure(gateway.process(), gateway.address(), &requests).await?;
    let size = format!("after {} KiB", IDLE_BODY_BYTES >> 10);
    let sides = [
        ("new", of_gateway.new_bytes, of_floor.new_bytes),
        (size.as_str(), of_gateway.used_bytes, of_floor.used_bytes),
    ];
    let measurements = sides.into_iter().flat_map(|(state, gateway, floor)| {
        let measured = |what: &str, unit, goal, value| {
            Measurement::new(format!("idle connection, {state}: {what}"), unit, goal).with(value)
        };
        [
            measured("gateway", Unit::Kilobytes, None, gateway / 1e3),
            measured("plain axum", Unit::Kilobytes, None, floor / 1e3),
            measured("ratio", Unit::Ratio, Some(IDLE_RATIO), gateway / floor),
        ]
    });
    Ok(measurements.collect())
}

/// Bytes that a server has resident for each connection.
struct Idle {
    /// When nothing has come on it yet.
    new_bytes: f64,
    /// When a request has.
    used_bytes: f64,
}

impl Idle {
    async fn measure(process: &Process, address: SocketAddr, requests: &Requests) -> Result<Self> {
        let before = process.memory_bytes()?;
        let each = |now: u64| now.saturating_sub(before) as f64 / IDLE_CONNECTIONS as f64;
        let connections: Vec<Connection> = stream::iter(0..IDLE_CONNECTIONS)
            .map(|_| Connection::open(address))
            .buffer_unordered(AT_A_TIME)
            .try_collect()
            .await?;
        let new_bytes = each(process.memory_bytes()?);
        let connections: Vec<Connection> = stream::iter(connections)
            .enumerate()
            .map(async |(number, mut connection)| {
                let body = &requests.bodies[number % requests.bodies.len()];
                connection.ask(&requests.head, body.clone()).await?;
                anyhow::Ok(connection)
            })
            .buffer_unordered(AT_A_TIME)
            .try_collect()
            .await?;
        let used_bytes = each(process.memory_bytes()?);
        drop(connections);
        Ok(Self { new_bytes, used_bytes })
    }
}
