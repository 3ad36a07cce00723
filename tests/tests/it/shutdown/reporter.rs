//! The reporter's end. It has nothing to finish: what it counts, it counts again.

use std::time::Instant;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use tests::stack::{Environment, Stack};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{AT_ONCE, PATIENCE, ends_undrained};
use crate::reporter_fixture::{Fixture, figures};

#[tokio::test]
async fn the_reporter_ends_at_once_in_the_middle_of_a_roll_up_and_the_next_counts_all() -> Result<()>
{
    let stack = Stack::shared().await?;
    let postgres = stack.private_postgres().await?;
    let environment = Environment::on(stack.folder(), stack.kafka(), &postgres).await?;
    let fixture = Fixture::of(environment).await?;
    let often = || {
        fixture.environment.reporter().variable("TAPEDECK_REPORTER_INTERVAL_SECONDS", "1").start()
    };
    let reporter = often().await?;
    reporter.wait_ready().await?;
    fixture.add_user("now()").await?;
    postgres.freeze()?;
    let sent = Instant::now();
    let status = reporter.process().stop(Signal::SIGTERM, AT_ONCE).await?;
    println!("the reporter ended {:?} after SIGTERM without Postgres: {status}", sent.elapsed());
    ensure!(status.success(), "{status}: {}", reporter.log());
    postgres.thaw()?;

    let next = often().await?;
    let month = fixture.month_back(0).await?;
    fixture.wait_for_reports(&[figures(&month, (1, 1), (0, 0))]).await?;
    ensure!(next.terminate().await?.success());
    Ok(())
}

#[tokio::test]
async fn a_second_signal_ends_the_reporter_at_once() -> Result<()> {
    let fixture = Fixture::new().await?;
    let reporter = fixture.environment.reporter().start().await?;
    // An answer under way on the admin port is all that it ever waits for.
    let mut asking = TcpStream::connect(reporter.url().trim_start_matches("http://")).await?;
    asking.write_all(b"GET /metrics HTTP/1.1\r\nhost: reporter\r\n").await?;
    // Frozen, so that both signals wait for it.
    reporter.freeze()?;
    reporter.process().signal(Signal::SIGTERM)?;
    reporter.process().signal(Signal::SIGINT)?;
    ends_undrained(&reporter, Signal::SIGCONT, AT_ONCE).await?;
    // Whoever comes next is not in its way.
    let next = fixture.environment.reporter().start().await?;
    next.wait_ready().await?;
    tokio::time::timeout(PATIENCE, next.terminate()).await??;
    Ok(())
}
