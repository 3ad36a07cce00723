//! Measures Tapedeck against the limits that Kafka, Postgres and the processor set.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use common::options::{CheckOptions, Problems};
use tests::bench::chart;
use tests::bench::floor::Floor;
use tests::bench::report::Report;
use tests::bench::{Case, Options};

/// Measures Tapedeck against the limits that Kafka, Postgres and the processor set. Build the
/// services first: `cargo build --release --workspace --bins`.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists the cases.
    List,
    /// Measures cases, one after the other; all where none is named.
    Run(RunOptions),
    /// Draws the charts of figures that `run --json` has written.
    Chart(ChartOptions),
    /// Serves a floor that gateways are measured against.
    #[command(subcommand, hide = true)]
    Floor(Floor),
}

#[derive(Debug, clap::Args)]
struct RunOptions {
    /// Which.
    cases: Vec<Case>,

    /// Events of a backlog.
    #[arg(long, default_value_t = 2_000_000)]
    events: u64,

    /// Rounds of which the median counts.
    #[arg(long, default_value_t = 5)]
    runs: usize,

    /// Write all figures to this file.
    #[arg(long)]
    json: Option<PathBuf>,

    /// End with 1 where a goal is missed.
    #[arg(long)]
    check: bool,
}

#[derive(Debug, clap::Args)]
struct ChartOptions {
    /// The figures.
    json: PathBuf,

    /// Where the charts go.
    folder: PathBuf,
}

impl CheckOptions for Cli {
    fn check(&self, problems: &mut Problems) {
        if let Command::Run(options) = &self.command {
            problems.require(options.events > 0, "--events must be at least 1");
            problems.require(options.runs > 0, "--runs must be at least 1");
        }
    }
}

/// That of gateways: a floor must not be dearer for its allocator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let cli: Cli = common::options::parse();
    match cli.command {
        Command::List => {
            for case in Case::value_variants() {
                println!("{:<20} {}", case.name(), case.description());
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Run(options) => run(options).await,
        Command::Chart(options) => draw(&options),
        Command::Floor(floor) => {
            floor.serve().await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn run(options: RunOptions) -> anyhow::Result<ExitCode> {
    let RunOptions { mut cases, events, runs, json, check } = options;
    if cases.is_empty() {
        cases = Case::value_variants().to_vec();
    }
    let mut reports = Vec::new();
    for case in cases {
        let report = case
            .run(&Options { events, runs }, |line| eprintln!("{}: {line}", case.name()))
            .await
            .with_context(|| case.name())?;
        println!("{report}");
        reports.push(report);
    }
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(&reports)?;
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    let met = reports.iter().all(|report| report.meets_goals());
    Ok(if check && !met { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn draw(ChartOptions { json, folder }: &ChartOptions) -> anyhow::Result<ExitCode> {
    let text = std::fs::read_to_string(json).with_context(|| json.display().to_string())?;
    let reports: Vec<Report> = serde_json::from_str(&text)?;
    for report in reports {
        for file in chart::draw(&report, folder)? {
            println!("{}", folder.join(file).display());
        }
    }
    Ok(ExitCode::SUCCESS)
}
