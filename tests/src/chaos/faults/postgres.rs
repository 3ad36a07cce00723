//! A database that restarts, throws its clients out, waits, refuses, is full, or dies for good.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::seq::IndexedRandom;
use tokio_postgres::Client;

use super::{EFFECT_WITHIN, Happened, Scene};
use crate::chaos::world::STATEMENT_TIMEOUT;
use crate::stack::{Postgres, eventually};

/// What the writers' lanes call their sessions.
const WRITERS_SESSIONS: &str = "tapedeck-writer";

/// How long a table is locked beyond the statement time-out.
const LOCKED_BEYOND: Duration = Duration::from_secs(2);

/// How long statements are refused, or the disk is full, in seconds.
const REFUSING_SECONDS: std::ops::Range<f64> = 2.0..6.0;

/// Attempts at a deadlock before none can be had.
const DEADLOCK_ATTEMPTS: usize = 5;
/// How long the services may take to wait for a lock of ours.
const WAITER_WITHIN: Duration = Duration::from_secs(2);
/// How long the server may take to count a deadlock.
const COUNTED_WITHIN: Duration = Duration::from_secs(2);
/// Rows that were changed last and will soon be changed again.
const RECENT_REPLAYS: i64 = 400;

/// How the server logs that its disk is full, and that somebody waited for a lock in vain.
const DISK_FULL: &str = "No space left on device";
const LOCK_TIMEOUT: &str = "canceling statement due to lock timeout";

pub(super) async fn restart(scene: &Scene<'_>) -> Result<Happened> {
    let mut postgres = scene.world.postgres.lock().await;
    let primary = postgres.primary().postgres();
    let before = primary.process().pid();
    primary.stop_immediately().await?;
    postgres.primary_mut().restart().await?;
    let after = postgres.primary().postgres().process().pid();
    Ok(Happened::now(format!("process {before} is {after} now")))
}

pub(super) async fn terminate_sessions(scene: &Scene<'_>) -> Result<Happened> {
    let sql = scene.sql().await?;
    let terminate = "SELECT application_name = $1, pg_terminate_backend(pid) \
                     FROM pg_stat_activity WHERE application_name LIKE 'tapedeck-%'";
    let rows = sql.query(terminate, &[&WRITERS_SESSIONS]).await?;
    // One that has gone by itself meanwhile was not terminated.
    let writers = rows.iter().filter(|row| row.get(0) && row.get(1)).count();
    ensure!(writers > 0, "the writers had no sessions");
    Ok(Happened::now(format!("{writers} of the writers' sessions ended")))
}

pub(super) async fn lock_table(scene: &mut Scene<'_>) -> Result<Happened> {
    let tables = ["users", "replays", "webstates", "events"];
    let table = tables.choose(&mut scene.choices).copied().unwrap_or("events");
    let sql = scene.sql().await?;
    let postgres = scene.world.postgres.lock().await;
    let refusals = Refusals::from_now_on(postgres.primary().postgres(), LOCK_TIMEOUT);
    sql.batch_execute(&format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")).await?;
    tokio::time::sleep(STATEMENT_TIMEOUT + LOCKED_BEYOND).await;
    let refused = refusals.wait().await;
    sql.batch_execute("ROLLBACK").await?;
    refused.with_context(|| format!("no writer waited for {table}"))?;
    let count = refusals.count();
    Ok(Happened::now(format!("writers waited for {table} in vain {count} times")))
}

pub(super) async fn deadlock(scene: &Scene<'_>) -> Result<Happened> {
    let sql = scene.sql().await?;
    // So the writers find the deadlock first, and are its victims.
    sql.batch_execute("SET deadlock_timeout = '1h'; SET statement_timeout = '10s'").await?;
    for attempt in 1..=DEADLOCK_ATTEMPTS {
        if cross_locks(scene, &sql).await? {
            return Ok(Happened::now(format!("a writer was the victim of attempt {attempt}")));
        }
    }
    anyhow::bail!("no deadlock in {DEADLOCK_ATTEMPTS} attempts")
}

/// Locks rows that writers want, and then the table that they have begun to write to.
async fn cross_locks(scene: &Scene<'_>, sql: &Client) -> Result<bool> {
    let before = deadlocks(sql).await?;
    let lock_rows = "SELECT 1 FROM replays WHERE replay_id = ANY (ARRAY( \
                         SELECT replay_id FROM replays ORDER BY age(xmin) LIMIT $1)) \
                     ORDER BY replay_id FOR UPDATE";
    sql.batch_execute("BEGIN").await?;
    sql.query(lock_rows, &[&RECENT_REPLAYS]).await?;
    let somebody_waits =
        eventually("a writer waits", WAITER_WITHIN, async || match scene.waiting().await {
            Ok(waiting) if waiting > 0 => Ok(()),
            Ok(_) => Err("nobody waits".to_owned()),
            Err(error) => Err(format!("{error:#}")),
        });
    if somebody_waits.await.is_ok() {
        // Returns once the writer that waits for us has given up.
        let _ = sql.batch_execute("LOCK TABLE replays IN ACCESS EXCLUSIVE MODE").await;
    }
    sql.batch_execute("ROLLBACK").await?;
    // Statistics come with a delay of up to a second.
    let counted =
        eventually("a deadlock is counted", COUNTED_WITHIN, async || match deadlocks(sql).await {
            Ok(now) if now > before => Ok(()),
            other => Err(format!("{other:?}")),
        });
    Ok(counted.await.is_ok())
}

async fn deadlocks(sql: &Client) -> Result<i64> {
    let query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    Ok(sql.query_one(query, &[]).await?.get(0))
}

pub(super) async fn fail_serialization(scene: &mut Scene<'_>) -> Result<Happened> {
    let sql = scene.sql().await?;
    // A sequence counts what a rolled back transaction did, too. It is not the writers' to count with.
    sql.batch_execute(
        "CREATE SEQUENCE refusals;
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
             PERFORM nextval('refusals');
             RAISE serialization_failure; END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON events EXECUTE FUNCTION refuse()",
    )
    .await?;
    let refusals = async || {
        let row = sql.query_one("SELECT last_value, is_called FROM refusals", &[]).await?;
        anyhow::Ok(if row.get(1) { row.get::<_, i64>(0) } else { 0 })
    };
    let refused =
        eventually("a statement is refused", EFFECT_WITHIN, async || match refusals().await {
            Ok(0) => Err("none is".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{error:#}")),
        })
        .await;
    scene.last(REFUSING_SECONDS).await;
    let count = refusals().await?;
    sql.batch_execute("DROP FUNCTION refuse CASCADE; DROP SEQUENCE refusals").await?;
    refused?;
    Ok(Happened::now(format!("{count} statements refused")))
}

pub(super) async fn fill_disk(scene: &mut Scene<'_>) -> Result<Happened> {
    let world = scene.world;
    let postgres = world.postgres.lock().await;
    let primary = postgres.primary();
    let disk = primary.disk().context("there is no disk that can be filled up")?;
    let refusals = Refusals::from_now_on(primary.postgres(), DISK_FULL);
    disk.fill()?;
    let refused = refusals.wait().await;
    scene.last(REFUSING_SECONDS).await;
    disk.empty()?;
    refused.context("no writer noticed")?;
    Ok(Happened::now(format!("writers were refused {} times", refusals.count())))
}

/// What the server refuses writers from a moment on, as its log says.
struct Refusals<'a> {
    postgres: &'a Postgres,
    message: &'static str,
    before: usize,
}

impl<'a> Refusals<'a> {
    fn from_now_on(postgres: &'a Postgres, message: &'static str) -> Self {
        let refusals = Self { postgres, message, before: 0 };
        Self { before: refusals.count(), ..refusals }
    }

    fn count(&self) -> usize {
        let log = self.postgres.process().log();
        let lines = log.lines().filter(|line| {
            // Each line names the application.
            line.contains(WRITERS_SESSIONS) && line.contains(self.message)
        });
        lines.count() - self.before
    }

    /// Waits for one.
    async fn wait(&self) -> Result<()> {
        eventually("a writer is refused", EFFECT_WITHIN, async || match self.count() {
            0 => Err("none is"),
            _ => Ok(()),
        })
        .await
    }
}

pub(super) async fn fail_over(scene: &Scene<'_>) -> Result<Happened> {
    let mut postgres = scene.world.postgres.lock().await;
    postgres.fail_over().await?;
    let primary = postgres.primary().postgres();
    scene.world.links.lead_to_postgres(&primary.address()).await?;
    let happened = Happened::now(format!("{} is the primary now", primary.address()));
    postgres.add_standby().await?;
    Ok(happened)
}

impl Scene<'_> {
    /// A session with the database, as its superuser.
    async fn sql(&self) -> Result<Client> {
        self.world.environment.sql().await
    }

    /// How many of the writers' sessions wait for a lock.
    async fn waiting(&self) -> Result<i64> {
        let query = "SELECT count(DISTINCT pid) FROM pg_locks JOIN pg_stat_activity USING (pid) \
                     WHERE NOT granted AND application_name = $1";
        Ok(self.sql().await?.query_one(query, &[&WRITERS_SESSIONS]).await?.get(0))
    }
}
