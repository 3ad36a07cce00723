//! The reporter's command line.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use reporter::one_off::OneOff;
use reporter::options::ReporterOptions;

fn main() -> ExitCode {
    let options: ReporterOptions = common::options::parse();
    common::logging::init(&options.log);
    let ended = common::shutdown::block_on(reporter::execute(options));
    match ended.map_err(anyhow::Error::from).flatten() {
        Ok(OneOff::Done) => ExitCode::SUCCESS,
        Ok(OneOff::AnotherAtWork) => ExitCode::from(reporter::one_off::EXIT_ANOTHER_AT_WORK),
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "failed");
            ExitCode::FAILURE
        }
    }
}
