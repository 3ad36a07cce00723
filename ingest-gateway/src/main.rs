//! The ingest gateway's command line.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use common::shutdown;
use ingest_gateway::keys;
use ingest_gateway::options::{Command, GatewayOptions, ServeOptions};
use ingest_gateway::serve::{self, Ended, Listeners};

/// The system's allocator keeps much of what bodies of all sizes leave behind, spread over its
/// arenas: measured, a quarter more memory at the limits of bytes in flight. Kafka's client keeps to
/// the system's: with this one in its place, libraries that come before all others (`LD_PRELOAD`)
/// hang.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let options: GatewayOptions = common::options::parse();
    common::logging::init(&options.log);
    let result = match options.command {
        Command::Serve(options) => {
            shutdown::block_on(Box::pin(serve(*options))).map_err(anyhow::Error::from).flatten()
        }
        Command::Keys(options) => keys::command::execute(&options)
            .map(|text| {
                println!("{text}");
                ExitCode::SUCCESS
            })
            .map_err(anyhow::Error::from),
    };
    result.unwrap_or_else(|error| {
        tracing::error!(error = format!("{error:#}"), "failed");
        ExitCode::FAILURE
    })
}

async fn serve(options: ServeOptions) -> anyhow::Result<ExitCode> {
    let stop = shutdown::on_signals()?;
    let listeners = Listeners::bind(&options).await?;
    Ok(match serve::run(options, listeners, stop).await? {
        Ended::Drained => ExitCode::SUCCESS,
        Ended::NotDrained => ExitCode::from(shutdown::EXIT_NOT_DRAINED),
    })
}
