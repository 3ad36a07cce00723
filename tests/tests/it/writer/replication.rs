//! Commits that a synchronous standby must have before their offsets are committed.

use anyhow::{Context, Result, ensure};
use tests::stack::replicated::ReplicatedPostgres;
use tests::stack::{Environment, Stack, eventually};
use tokio_postgres::Client;

use super::support::{PATIENCE, Session, feed, wait_stored};

#[tokio::test]
async fn rows_that_no_standby_has_yet_are_waited_for_also_when_found_stored() -> Result<()> {
    let stack = Stack::shared().await?;
    let mut postgres = ReplicatedPostgres::start(stack.folder().path(), None).await?;
    let primary = postgres.primary().postgres();
    let environment = Environment::on(stack.folder(), stack.kafka(), primary).await?;
    postgres.add_standby().await?;
    let writer = environment.writer().variable("TAPEDECK_LANES", "1").start().await?;
    writer.wait_ready().await?;
    let sql = environment.sql().await?;
    // The month has its partition, so that only the rows' own commit waits below.
    let earlier = Session::new();
    feed(&environment, &[earlier.batch(0, &[("click", "1")])]).await?;
    wait_stored(&sql, &earlier, 1).await?;
    environment.wait_committed(PATIENCE).await?;
    let standby = postgres.standby().context("no standby")?.postgres();

    standby.freeze()?;
    let session = Session::new();
    feed(&environment, &[session.batch(0, &[("click", "1"); 5])]).await?;
    let first = waits_for_the_standby(&sql, None).await.with_context(|| writer.log())?;
    // Ends the wait, and with it the session; the primary alone has the rows then.
    sql.execute("SELECT pg_terminate_backend($1)", &[&first]).await?;
    wait_stored(&sql, &session, 5).await?;

    // The writer tries again and finds all of it stored.
    waits_for_the_standby(&sql, Some(first)).await.with_context(|| writer.log())?;
    let topic = environment.topic("replay-events");
    let group = environment.consumer_group();
    let uncommitted = environment.records().uncommitted(group, &topic).await?;
    ensure!(uncommitted.len() == 1, "uncommitted: {uncommitted:?}");
    standby.thaw()?;
    environment.wait_committed(PATIENCE).await
}

/// Waits until a session of the writer, not `other`, waits for the standby; gives its process.
async fn waits_for_the_standby(sql: &Client, other: Option<i32>) -> Result<i32> {
    let waiting = "SELECT pid FROM pg_stat_activity \
                   WHERE application_name = 'tapedeck-writer' AND wait_event = 'SyncRep'";
    eventually("a commit waits for the standby", PATIENCE, async || {
        let rows = sql.query(waiting, &[]).await.map_err(|error| error.to_string())?;
        let mut pids = rows.iter().map(|row| row.get::<_, i32>(0));
        pids.find(|pid| Some(*pid) != other).ok_or_else(|| "none does".to_owned())
    })
    .await
}
