//! The reporter's command line.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use reporter::one_off::OneOff;
use reporter::options::ReporterOptions;

#[tokio::main]
async fn main() -> ExitCode {
    let options: ReporterOptions = common::options::parse();
    common::logging::init(&options.log);
    match reporter::execute(options).await {
        Ok(OneOff::Done) => ExitCode::SUCCESS,
        Ok(OneOff::AnotherAtWork) => ExitCode::from(reporter::one_off::EXIT_ANOTHER_AT_WORK),
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "failed");
            ExitCode::FAILURE
        }
    }
}
