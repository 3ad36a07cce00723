//! How long each service takes from its start until it is ready, and how large its program is.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::figures::Goal;
use super::measurement::{Measurement, Unit};
use super::report::Report;
use super::{Case, Options, Tell};
use crate::stack::paths::built_program;
use crate::stack::service::ServiceBuilder;
use crate::stack::{Environment, Ports, Program, Stack, Tuning};

const READY_SECONDS: Goal = Goal::AtMost(0.5);
const PROGRAM_MEGABYTES: Goal = Goal::AtMost(25.0);

const PROGRAMS: [Program; 3] = [Program::Gateway, Program::Writer, Program::Reporter];

/// Starts each service some times over, Kafka and Postgres being up.
pub(super) async fn run(options: &Options, tell: Tell<'_>) -> Result<Report> {
    let stack = Stack::start(Ports::default(), Tuning::Benchmarks).await?;
    let environment = Environment::new(&stack).await?;
    // Makes the topics, and the broker's first consumer group, which no other has to wait for.
    started(environment.writer()).await?;
    let mut times = PROGRAMS.map(|program| {
        let name = format!("{}: until it is ready", program.name());
        Measurement::new(name, Unit::Seconds, Some(READY_SECONDS))
    });
    for round in 1..=options.runs {
        tell(&format!("round {round} of {}", options.runs));
        for (program, times) in PROGRAMS.into_iter().zip(&mut times) {
            let service = match program {
                Program::Gateway => environment.gateway(),
                Program::Writer => environment.writer(),
                Program::Reporter => environment.reporter(),
            };
            times.values.push(started(service).await?);
        }
    }
    let mut measurements = Vec::from(times);
    for program in PROGRAMS {
        let name = format!("{}: program, stripped", program.name());
        let megabytes = stripped_bytes(program)? as f64 / 1e6;
        let size = Measurement::new(name, Unit::Megabytes, Some(PROGRAM_MEGABYTES));
        measurements.push(size.with(megabytes));
    }
    Report::of(Case::Start, &stack, Vec::new(), measurements).await
}

/// Starts a service and stops it; the seconds until it was ready.
async fn started(service: ServiceBuilder<'_>) -> Result<f64> {
    let begun = Instant::now();
    let service = service.start().await?;
    service.wait_ready().await?;
    let seconds = begun.elapsed().as_secs_f64();
    ensure!(service.terminate().await?.success(), "{}", service.log());
    Ok(seconds)
}

/// How large a program is without what only debuggers read.
fn stripped_bytes(program: Program) -> Result<u64> {
    let stripped = tempfile::NamedTempFile::new()?;
    let status = Command::new("strip")
        .arg("-o")
        .arg(stripped.path())
        .arg(built_program(program.name())?)
        .status()
        .context("strip, of binutils")?;
    ensure!(status.success(), "strip: {status}");
    Ok(stripped.path().metadata()?.len())
}
