//! Tries to break the promise that what was answered 200 is in Postgres once, unchanged.

#![forbid(unsafe_code)]

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use common::options::{CheckOptions, Problems};
use tests::chaos::kind::Kind;
use tests::chaos::schedule::Overlap;
use tests::chaos::{Chaos, ChaosOptions};
use tests::fleet::Speed;

/// Runs three brokers, two gateways, three writers, a reporter, Postgres with a synchronous
/// standby, and a fleet of recorders; breaks all of them, in ways derived from the seed; and then
/// compares what was acknowledged with what is in the tables. `deploy/local/chaos.sh` builds the
/// services as they must be for it, and starts it.
#[derive(Debug, Parser)]
#[command(name = "chaos", version)]
struct Options {
    /// What faults, ids and the recorders' choices are derived from.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// How many minutes faults go on.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,

    /// Which kinds of faults, comma separated; without it all.
    #[arg(long, value_delimiter = ',')]
    faults: Option<Vec<Kind>>,

    /// Which kinds not, comma separated.
    #[arg(long, value_delimiter = ',')]
    without: Vec<Kind>,

    /// One fault after the other, each with its recovery time.
    #[arg(long)]
    no_overlap: bool,

    /// How long what lasts (a freeze, a cut) does, against its own time: below 1 for short runs.
    #[arg(long, default_value_t = 1.0)]
    duration_scale: f64,

    /// Recorders at work at once.
    #[arg(long, default_value = "40")]
    recorders: NonZeroUsize,

    /// Seconds of recording that pass in a second.
    #[arg(long, default_value = "5")]
    speed: Speed,

    /// Where to write what is sent, and what becomes of it.
    #[arg(long, default_value = "chaos-ledger.jsonl")]
    ledger: PathBuf,

    /// A writer of the previous build, to run beside the new ones.
    #[arg(long)]
    previous_writer: Option<PathBuf>,

    /// Only print the schedule.
    #[arg(long)]
    dry_run: bool,
}

impl CheckOptions for Options {
    fn check(&self, problems: &mut Problems) {
        let minutes = (0.01..=10_000.0).contains(&self.minutes);
        problems.require(minutes, "--minutes must lie between 0.01 and 10000");
        let scale = (0.01..=10.0).contains(&self.duration_scale);
        problems.require(scale, "--duration-scale must lie between 0.01 and 10");
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let options: Options = common::options::parse();
    let mut kinds = options.faults.unwrap_or_else(Kind::all);
    kinds.retain(|kind| !options.without.contains(kind));
    let chaos = Chaos::new(ChaosOptions {
        seed: options.seed,
        length: Duration::from_secs_f64(options.minutes * 60.0),
        kinds,
        overlap: if options.no_overlap { Overlap::None } else { Overlap::Any },
        duration_scale: options.duration_scale,
        recorders: options.recorders,
        speed: options.speed,
        ledger: options.ledger,
        previous_writer: options.previous_writer,
    })?;
    for fault in chaos.faults() {
        println!("{fault}");
    }
    if options.dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    let report = chaos.run(|line| println!("{line}")).await?;
    println!("{report}");
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
