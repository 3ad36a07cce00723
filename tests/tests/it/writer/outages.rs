//! What is nobody's fault is waited out: no partition lost, nothing in the dead letters.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::stack::small_disk::SmallDisk;
use tests::stack::{Environment, Service, Stack, eventually};
use tokio_postgres::Client;

use super::support::{NOON_MS, PATIENCE, Session, feed, figure, wait_stored};

/// Less than what the test writes.
const SMALL_DISK_MIB: u32 = 4;

/// A writer under way, with one session stored.
struct UnderWay {
    environment: Environment,
    writer: Service,
    sql: Client,
    session: Session,
}

async fn under_way(environment: Environment) -> Result<UnderWay> {
    let writer = environment
        .writer()
        // A second lane would join later and take partitions over: that is not what is watched.
        .variable("TAPEDECK_LANES", "1")
        .variable("TAPEDECK_DATABASE_LOCK_TIMEOUT_MS", "300")
        .variable("TAPEDECK_DATABASE_STATEMENT_TIMEOUT_MS", "1000")
        .start()
        .await?;
    writer.wait_ready().await?;
    let sql = environment.sql().await?;
    let session = Session::new();
    feed(&environment, &[session.batch(0, &[("click", "0")])]).await?;
    wait_stored(&sql, &session, 1).await?;
    Ok(UnderWay { environment, writer, sql, session })
}

impl UnderWay {
    /// Feeds a batch and sees it retried at least `times`; then `mend`s, and sees it stored.
    async fn waits_out(&self, times: f64, mend: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
        let retries = || figure(&self.writer, "tapedeck_writer_retries_total", &[]);
        let before = retries().await?;
        feed(&self.environment, &[self.session.batch(10, &[("click", "1"); 5])]).await?;
        eventually("the batch is retried", PATIENCE, async || match retries().await {
            Ok(now) if now >= before + times => Ok(()),
            other => Err(format!("{other:?}, before {before}")),
        })
        .await?;
        ensure!(self.writer.readiness().await?.is_err(), "ready while nothing can be written");
        mend().await?;
        wait_stored(&self.environment.sql().await?, &self.session, 6).await?;
        self.environment.wait_committed(PATIENCE).await?;
        let letters = self.environment.topic("replay-dead-letters");
        ensure!(self.environment.records().read_all(&letters).await?.is_empty());
        let revoked = [("change", "revoked")];
        let moved = figure(&self.writer, "tapedeck_writer_rebalanced_partitions_total", &revoked);
        ensure!(moved.await? == 0.0, "partitions were given up");
        self.writer.wait_ready().await
    }

    async fn execute(&self, statements: &str) -> Result<()> {
        Ok(self.sql.batch_execute(statements).await?)
    }
}

async fn shared() -> Result<UnderWay> {
    under_way(Environment::new(Stack::shared().await?).await?).await
}

#[tokio::test]
async fn a_locked_table_is_waited_out() -> Result<()> {
    let it = shared().await?;
    it.execute("BEGIN; LOCK TABLE events IN ACCESS EXCLUSIVE MODE").await?;
    it.waits_out(3.0, async || it.execute("COMMIT").await).await
}

#[tokio::test]
async fn a_missing_column_is_waited_out() -> Result<()> {
    let it = shared().await?;
    it.execute("ALTER TABLE events RENAME COLUMN event_data TO moved").await?;
    it.waits_out(3.0, async || {
        it.execute("ALTER TABLE events RENAME COLUMN moved TO event_data").await
    })
    .await
}

#[tokio::test]
async fn a_read_only_server_is_waited_out() -> Result<()> {
    let it = shared().await?;
    let database: String = it.sql.query_one("SELECT current_database()", &[]).await?.get(0);
    let end_sessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    it.execute(&format!(
        "ALTER DATABASE \"{database}\" SET default_transaction_read_only = on; {end_sessions}"
    ))
    .await?;
    it.waits_out(3.0, async || {
        it.execute(&format!(
            "ALTER DATABASE \"{database}\" RESET default_transaction_read_only; {end_sessions}"
        ))
        .await
    })
    .await
}

#[tokio::test]
async fn a_missing_permission_is_waited_out() -> Result<()> {
    let it = shared().await?;
    it.execute("REVOKE INSERT ON events FROM tapedeck_writer").await?;
    it.waits_out(3.0, async || {
        let reason = it.writer.readiness().await?.err().context("it is ready")?;
        ensure!(reason.contains("permission denied for table events"), "{reason}");
        it.execute("GRANT INSERT ON events TO tapedeck_writer").await
    })
    .await
}

#[tokio::test]
async fn a_deleted_parent_is_made_again() -> Result<()> {
    let it = shared().await?;
    // The writer remembers the replay as stored; the foreign key tells it otherwise.
    it.execute("DELETE FROM events; DELETE FROM replays").await?;
    feed(&it.environment, &[it.session.batch(10, &[("click", "1"); 5])]).await?;
    wait_stored(&it.sql, &it.session, 5).await?;
    let cause = [("cause", "parent_gone")];
    ensure!(figure(&it.writer, "tapedeck_writer_retries_total", &cause).await? >= 1.0);
    Ok(())
}

#[tokio::test]
async fn a_long_reader_of_the_default_partition_is_not_waited_for() -> Result<()> {
    const HALF_A_YEAR_MS: i64 = 183 * 24 * 3_600_000;
    let it = shared().await?;
    // A dump, say: it keeps the month from getting its partition.
    it.execute("BEGIN; SELECT FROM events_default").await?;
    let late = Session::beginning(NOON_MS - HALF_A_YEAR_MS);
    feed(&it.environment, &[late.batch(0, &[("click", "1")])]).await?;
    wait_stored(&it.environment.sql().await?, &late, 1).await?;
    ensure!(it.writer.log().contains("making a partition takes too long"));
    let waiting: i64 = it.sql.query_one("SELECT count(*) FROM events_default", &[]).await?.get(0);
    ensure!(waiting == 1, "{waiting} rows wait for their month");
    it.execute("COMMIT").await
}

#[tokio::test]
async fn a_full_disk_is_waited_out() -> Result<()> {
    let it = shared().await?;
    // A table space on a file system of its own, small and full.
    let disk = SmallDisk::mount(&it.environment.folder().join("disk"), SMALL_DISK_MIB)?;
    let name = it.environment.consumer_group();
    let space = disk.space().display().to_string();
    it.execute(&format!("CREATE TABLESPACE \"{name}\" LOCATION '{space}'")).await?;
    it.execute(&format!("ALTER TABLE events_2026_10 SET TABLESPACE \"{name}\"")).await?;
    disk.fill()?;
    let big = format!("\"{}\"", "x".repeat(7_000));
    let events = vec![("click", big.as_str()); 200];
    feed(&it.environment, &[it.session.batch(100, &events)]).await?;
    let retries = || figure(&it.writer, "tapedeck_writer_retries_total", &[]);
    eventually("the batch is retried", PATIENCE, async || match retries().await {
        Ok(now) if now >= 3.0 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    disk.empty()?;
    wait_stored(&it.environment.sql().await?, &it.session, 201).await?;
    it.environment.wait_committed(PATIENCE).await?;
    let letters = it.environment.topic("replay-dead-letters");
    ensure!(it.environment.records().read_all(&letters).await?.is_empty());
    it.writer.terminate().await?;
    it.execute("DROP TABLE events CASCADE").await?;
    it.execute(&format!("DROP TABLESPACE \"{name}\"")).await
}

/// Stops Postgres for `away`, then sees everything stored.
async fn survives_without_postgres(away: Duration) -> Result<()> {
    let stack = Stack::shared().await?;
    let mut postgres = stack.private_postgres().await?;
    let environment = Environment::on(stack.folder(), stack.kafka(), &postgres).await?;
    let it = under_way(environment).await?;
    postgres.kill().await?;
    let feeding = async {
        // Recorders go on all the while.
        let steps = 20;
        for step in 0..steps {
            feed(&it.environment, &[it.session.batch(100 + step * 10, &[("click", "1"); 10])])
                .await?;
            tokio::time::sleep(away / u32::try_from(steps)?).await;
        }
        anyhow::Ok(())
    };
    feeding.await?;
    ensure!(it.writer.readiness().await?.is_err(), "ready without Postgres");
    postgres.restart().await?;
    wait_stored(&it.environment.sql().await?, &it.session, 201).await?;
    it.environment.wait_committed(PATIENCE).await?;
    let revoked = [("change", "revoked")];
    let moved = figure(&it.writer, "tapedeck_writer_rebalanced_partitions_total", &revoked).await?;
    ensure!(moved == 0.0, "partitions were given up");
    it.writer.wait_ready().await
}

#[tokio::test]
async fn postgres_away_costs_nothing_but_time() -> Result<()> {
    survives_without_postgres(Duration::from_secs(8)).await
}

#[tokio::test]
#[ignore = "takes a minute; test.sh --full"]
async fn postgres_away_for_a_minute_costs_nothing_but_time() -> Result<()> {
    survives_without_postgres(Duration::from_secs(60)).await
}
