//! The ingest gateway's command line.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use ingest_gateway::keys;
use ingest_gateway::options::{Command, GatewayOptions, ServeOptions};
use ingest_gateway::serve::{self, Ended, Listeners};

#[tokio::main]
async fn main() -> ExitCode {
    let options: GatewayOptions = common::options::parse();
    common::logging::init(&options.log);
    let result = match options.command {
        Command::Serve(options) => Box::pin(serve(*options)).await,
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
    let stop = common::shutdown::on_signals()?;
    let listeners = Listeners::bind(&options).await?;
    Ok(match serve::run(options, listeners, stop).await? {
        Ended::Drained => ExitCode::SUCCESS,
        // Returning would wait for the threads that are still at work.
        Ended::NotDrained => std::process::exit(common::shutdown::EXIT_NOT_DRAINED),
    })
}
