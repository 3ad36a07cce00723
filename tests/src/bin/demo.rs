//! Plays the sample recordings through a whole Tapedeck and compares what comes out.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use tests::demo::{self, DemoOptions};
use tests::fleet::Speed;
use tests::stack::ports::PortOptions;

/// Plays the sample recordings through a whole Tapedeck, compares what was sent with what the
/// tables hold, and plays the same again. Uses the stack that runs in the background, or starts
/// one. Exits with 0 only if everything agrees.
#[derive(Debug, Parser)]
#[command(name = "demo", version)]
struct Options {
    /// Leave everything running, and print where it is. Without it, on any free ports, everything
    /// stops in the end.
    #[arg(long, env = "TAPEDECK_DEMO_KEEP")]
    keep: bool,

    #[command(flatten)]
    ports: PortOptions,

    /// Seconds of recording that pass in a second; 0 or max: as fast as the gateway answers.
    #[arg(long, env = "TAPEDECK_DEMO_SPEED", default_value = "2")]
    speed: Speed,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    let stop = common::shutdown::on_signals()?;
    let keep = options.keep.then_some(options.ports);
    let agrees = demo::run(DemoOptions { keep, speed: options.speed }, stop).await?;
    Ok(if agrees { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
