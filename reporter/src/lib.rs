//! The reporter: rolls up `monthly_reports` for calendar months in UTC.
//!
//! A roll-up is one transaction that sees one snapshot, under a lock that lets one reporter work
//! at a time ([`lock`], [`rollup`]). What it counts is decided without I/O ([`plan`], [`report`]);
//! [`serve`] repeats it, [`one_off`] does it once, [`show`] prints what is stored.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests"))]

pub mod count;
pub mod health;
pub mod lock;
pub mod metrics;
pub mod month;
pub mod one_off;
pub mod options;
pub mod plan;
pub mod report;
pub mod rollup;
mod rollup_span;
pub mod schedule;
pub mod serve;
pub mod show;
pub mod store;

use anyhow::Context;

use one_off::OneOff;
use options::{Command, ReporterOptions};
use plan::Scope;

/// The name of the reporter's sessions in `pg_stat_activity`.
pub const APPLICATION_NAME: &str = "tapedeck-reporter";

/// Does what the command line asks for.
///
/// # Errors
/// Whatever kept it from being done.
pub async fn execute(options: ReporterOptions) -> anyhow::Result<OneOff> {
    match options.command {
        Command::Serve(serve) => {
            let stop = common::shutdown::on_signals().context("cannot handle signals")?;
            serve::run(&serve, stop).await.map(|()| OneOff::Done)
        }
        Command::Run(run) => one_off::run(&run.one_off, Scope::Only(run.month)).await,
        Command::Backfill(backfill) => {
            one_off::run(&backfill.one_off, backfill.from.map_or(Scope::All, Scope::From)).await
        }
        Command::Show(show) => show::run(&show).await.map(|()| OneOff::Done),
    }
}
