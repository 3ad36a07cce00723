//! The database's tables: bringing them up to this version, and knowing whether they are.

use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use common::database::DatabaseOptions;
use diesel::migration::MigrationSource;
use diesel::pg::Pg;
use diesel::sql_types::{BigInt, Bool, Text};
use diesel::{QueryableByName, sql_query};
use diesel_async::{AsyncMigrationHarness, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use crate::store::APPLICATION;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// What other roles may do with the tables, as SQL that changes nothing when it is run again.
const GRANTS: &str = include_str!("../grants.sql");

/// The advisory lock that migrating instances take turns with.
const LOCK: i64 = 0x7461_7065_6465_636b;

/// How long another instance's migration is waited for.
const LOCK_TIMEOUT: Duration = Duration::from_secs(300);

/// How often the lock is tried.
const LOCK_RETRY: Duration = Duration::from_millis(200);

/// How long one statement of a migration may take: building an index takes what it takes.
const STATEMENT_TIMEOUT_MS: u32 = 3_600_000;

#[derive(QueryableByName)]
struct Applied {
    #[diesel(sql_type = Text)]
    version: String,
}

#[derive(QueryableByName)]
struct Locked {
    #[diesel(sql_type = Bool)]
    locked: bool,
}

/// Runs the migrations that the database has not seen, and grants the roles of
/// `deploy/postgres/roles.sql` their rights; one instance at a time.
///
/// # Errors
/// When the database cannot be reached or refuses, or another instance takes too long.
pub async fn migrate(options: &DatabaseOptions) -> anyhow::Result<()> {
    let options =
        DatabaseOptions { database_statement_timeout_ms: STATEMENT_TIMEOUT_MS, ..options.clone() };
    let mut session = options.connect("tapedeck-migrate").await?;
    lock(&mut session.connection).await?;
    let connection = session.connection;
    let run = move || {
        let mut harness = AsyncMigrationHarness::<AsyncPgConnection>::new(connection);
        match harness.run_pending_migrations(MIGRATIONS) {
            Ok(versions) => {
                let versions: Vec<_> = versions.iter().map(ToString::to_string).collect();
                Ok((versions, harness.into_inner()))
            }
            Err(error) => Err(anyhow!("{error}")),
        }
    };
    let (versions, mut connection) =
        tokio::task::spawn_blocking(run).await?.context("a migration failed and was undone")?;
    connection.batch_execute(GRANTS).await.context("cannot grant other roles their rights")?;
    tracing::info!(migrations = ?versions, "the database is up to date");
    Ok(())
}

async fn lock(connection: &mut AsyncPgConnection) -> anyhow::Result<()> {
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        let row: Locked = sql_query("SELECT pg_try_advisory_lock($1) AS locked")
            .bind::<BigInt, _>(LOCK)
            .get_result(connection)
            .await?;
        if row.locked {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!("another instance has been migrating for {} s", LOCK_TIMEOUT.as_secs());
        }
        tokio::time::sleep(LOCK_RETRY).await;
    }
}

/// Checks that the database has this version's tables. Only reads: a writer need not be allowed
/// to make any.
///
/// # Errors
/// When it has not, or cannot be asked.
pub async fn check(options: &DatabaseOptions) -> anyhow::Result<()> {
    let mut session = options.connect(APPLICATION).await?;
    let applied: Vec<Applied> = sql_query("SELECT version FROM __diesel_schema_migrations")
        .load(&mut session.connection)
        .await
        .context("cannot ask the database for its version")?;
    let ours =
        MigrationSource::<Pg>::migrations(&MIGRATIONS).map_err(|error| anyhow!("{error}"))?;
    let missing = |version: &String| applied.iter().all(|it| it.version != *version);
    match ours.iter().map(|it| it.name().version().to_string()).find(missing) {
        None => Ok(()),
        Some(version) => bail!("migration {version} is missing: run `writer migrate`"),
    }
}
