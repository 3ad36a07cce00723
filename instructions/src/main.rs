//! Compares how many instructions the hot functions take with how many they took before.

#![forbid(unsafe_code)]

mod baseline;
mod summary;

use std::io::BufReader;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::Parser;
use comfy_table::{Table, presets};

use baseline::{Baseline, Change, Toolchain};

/// Compares how many instructions the hot functions take with the baseline. With the same compiler
/// and C library, a function that has got worse by more than three in a hundred is an error; with
/// others the comparison is only shown.
#[derive(Debug, Parser)]
#[command(name = "instructions", version)]
struct Cli {
    /// What `cargo bench --bench instructions -- --output-format=json` has printed.
    counts: PathBuf,

    /// The baseline.
    #[arg(long)]
    baseline: PathBuf,

    /// Make the counts the baseline.
    #[arg(long)]
    update: bool,
}

fn main() -> Result<ExitCode> {
    let Cli { counts, baseline: path, update } = Cli::parse();
    let file = std::fs::File::open(&counts).with_context(|| counts.display().to_string())?;
    let counts = summary::read(BufReader::new(file))?;
    let toolchain = Toolchain {
        rustc: first_line("rustc", &["--version"])?,
        target: first_line("rustc", &["--print", "host-tuple"])?,
        libc: first_line("ldd", &["--version"])?,
    };
    if update {
        let baseline = Baseline { toolchain, counts };
        let text = serde_json::to_string_pretty(&baseline)? + "\n";
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let baseline: Baseline = serde_json::from_str(&text).context("the baseline")?;
    let comparable = baseline.toolchain == toolchain;
    let changes = baseline.compare(&counts);
    println!("{}", table(&changes));
    if !comparable {
        println!("The baseline was taken with {}, and this with {toolchain}.", baseline.toolchain);
        return Ok(ExitCode::SUCCESS);
    }
    if changes.iter().any(|change| change.is_better() || change.is_new()) {
        println!("Better, or new: take a new baseline with --update.");
    }
    let worse = changes.iter().any(Change::is_worse);
    Ok(if worse { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn table(changes: &[Change]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(["function", "instructions", "before", "change"]);
    for change in changes {
        let show = |count: Option<u64>| count.map_or_else(String::new, |count| count.to_string());
        let verdict = match change {
            _ if change.is_worse() => " WORSE",
            _ if change.is_better() => " better",
            _ => "",
        };
        let percent = change.percent();
        let percent = percent.map_or_else(String::new, |it| format!("{it:+.2} %{verdict}"));
        table.add_row([change.name.clone(), show(change.now), show(change.before), percent]);
    }
    table
}

/// The first line of what a program says.
fn first_line(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().context(program.to_owned())?;
    let text = String::from_utf8(output.stdout)?;
    let line = text.lines().next().with_context(|| format!("{program} says nothing"))?;
    Ok(line.to_owned())
}
