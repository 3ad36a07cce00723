//! Writes the pages that are made from the code.

#![forbid(unsafe_code)]

use anyhow::Result;
use clap::Parser;

/// Writes docs/metrics.md and docs/configuration.md anew.
#[derive(Debug, Parser)]
#[command(name = "reference", version)]
struct Cli {}

fn main() -> Result<()> {
    let Cli {} = Cli::parse();
    for page in reference::pages()? {
        page.write()?;
        println!("{}", page.path);
    }
    Ok(())
}
