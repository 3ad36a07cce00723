//! Rolling up once, on request.

use crate::lock::{self, Attempt};
use crate::options::{Format, OneOffOptions};
use crate::plan::Scope;
use crate::store::StoredReport;
use crate::{APPLICATION_NAME, rollup, show};

/// Exit code when another reporter is at work: EX_TEMPFAIL of sysexits.h, try again later.
pub const EXIT_ANOTHER_AT_WORK: u8 = 75;

/// How a command ended that was carried out without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OneOff {
    /// What was asked for is done.
    Done,
    /// Nothing is done, as another reporter is at work.
    AnotherAtWork,
}

/// Counts what `scope` asks for, stores the reports and prints them.
///
/// # Errors
/// Why nothing was stored.
pub async fn run(options: &OneOffOptions, scope: Scope) -> anyhow::Result<OneOff> {
    let answer_timeout = options.database.answer_timeout();
    let session = options.database.connect(APPLICATION_NAME).await?;
    let attempt = match options.wait {
        true => lock::acquire(session, answer_timeout).await.map(Attempt::Locked),
        false => lock::try_acquire(session, answer_timeout).await,
    };
    let mut locked = match attempt? {
        Attempt::Locked(locked) => locked,
        Attempt::AnotherAtWork(_) => {
            tracing::error!("another reporter is at work; try again later, or with --wait");
            return Ok(OneOff::AnotherAtWork);
        }
    };
    let rolled_up = rollup::run(&mut locked, scope, options.limits.rollup_timeout()).await?;
    // Released rather than left to the closing of the session, of which Postgres learns a moment
    // after this process has ended: a next command could find itself the second.
    locked.release(answer_timeout).await?;
    let generated_at = rolled_up.generated_at;
    let stored: Vec<StoredReport> =
        rolled_up.reports.into_iter().map(|report| StoredReport { report, generated_at }).collect();
    print!("{}", show::render(&stored, Format::Table)?);
    Ok(OneOff::Done)
}
