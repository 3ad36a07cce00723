//! Parses, starts, and exits with what came of it.

#![forbid(unsafe_code)]

use std::io::stdout;

use common::{logging, options, shutdown};
use writer::commands::{self, DeadLettersCommand};
use writer::options::{Cli, Command};
use writer::{migrate, run};

/// The system's allocator keeps much of what batches leave behind, spread over its arenas. Kafka's
/// client keeps to the system's: with this one in its place, libraries that come before all others
/// (`LD_PRELOAD`) hang.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    let cli: Cli = options::parse();
    logging::init(&cli.logging);
    let code = shutdown::block_on(execute(cli.command)).map_err(anyhow::Error::from).flatten();
    std::process::exit(code.unwrap_or_else(|error| {
        tracing::error!(error = format!("{error:#}"), "failed");
        1
    }));
}

async fn execute(command: Command) -> anyhow::Result<i32> {
    match command {
        Command::Run(options) => return run::run(*options, shutdown::on_signals()?).await,
        Command::Migrate(database) => migrate::migrate(&database).await?,
        Command::Page(options) => commands::page(&options, &mut stdout().lock()).await?,
        Command::Replay(options) => commands::replay(&options, &mut stdout().lock()).await?,
        Command::DeadLetters(DeadLettersCommand::List(options)) => {
            commands::list(&options, &mut stdout().lock())?;
        }
        Command::Redrive(options) => commands::redrive(&options, &mut stdout().lock()).await?,
    }
    Ok(0)
}
