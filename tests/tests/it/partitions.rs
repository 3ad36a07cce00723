//! Partitions of `events`: which month an event lies in, and making a month's partition while
//! others write. What the writer's process does with them is tested with the writer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tests::stack::{Environment, Stack, eventually};
use tokio_postgres::Client;
use uuid::Uuid;

/// Rows that one insert of the concurrent writers brings.
const ROWS_PER_INSERT: i64 = 50;
/// How long a condition of these tests may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// One user, replay and page for all events of these tests.
const PARENTS: &str = "
    INSERT INTO users (user_id, created_at)
    VALUES ('00000000-0000-4000-8000-000000000001', '2024-01-01T00:00Z');
    INSERT INTO replays (replay_id, user_id, start_time, initial_url, user_as_of)
    VALUES ('00000000-0000-4000-8000-000000000002', '00000000-0000-4000-8000-000000000001',
        '2024-01-01T00:00Z', 'https://example.com/', '2024-01-01T00:00Z');
    INSERT INTO webstates (html_hash) VALUES (repeat('a', 64));
";

/// Events at `$1`, as the writer inserts them: `$2` rows with ids that follow `$3`.
const INSERT_EVENTS: &str = "
    INSERT INTO events (event_id, replay_id, timestamp, event_type, event_data, webstate_hash)
    SELECT (left(least_event_id($1)::text, 14) || '7000-8000-'
            || lpad(to_hex($3 + row), 12, '0'))::uuid,
        '00000000-0000-4000-8000-000000000002', $1, 'click', '{}', repeat('a', 64)
    FROM generate_series(1, $2::bigint) AS row
    ON CONFLICT DO NOTHING";

async fn prepared() -> Result<(Environment, Client)> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let client = environment.sql().await?;
    client.batch_execute(PARENTS).await?;
    Ok((environment, client))
}

/// Inserts rows of the time; gives how many were new.
async fn insert(client: &Client, time: &str, rows: i64, after: i64) -> Result<u64> {
    let time: chrono::DateTime<chrono::Utc> = time.parse()?;
    Ok(client.execute(INSERT_EVENTS, &[&time, &rows, &after]).await?)
}

async fn ensure_partition(client: &Client, month: &str) -> Result<bool, tokio_postgres::Error> {
    let call = format!("SELECT ensure_events_partition('{month}')");
    Ok(client.query_one(&call, &[]).await?.get(0))
}

/// How many events each partition holds, those without any left out.
async fn rows_by_partition(client: &Client) -> Result<Vec<(String, i64)>> {
    let rows = client
        .query("SELECT tableoid::regclass::text, count(*) FROM events GROUP BY 1 ORDER BY 1", &[])
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

fn counts(expected: &[(&str, i64)]) -> Vec<(String, i64)> {
    expected.iter().map(|(name, rows)| ((*name).to_owned(), *rows)).collect()
}

fn sqlstate(error: &tokio_postgres::Error) -> &str {
    error.code().map_or("", |code| code.code())
}

#[tokio::test]
async fn months_meet_at_the_first_millisecond() -> Result<()> {
    let (_environment, client) = prepared().await?;
    assert!(ensure_partition(&client, "2024-02-01").await?);
    assert!(!ensure_partition(&client, "2024-02-01").await?);
    assert!(ensure_partition(&client, "2024-03-01").await?);
    for time in [
        "2024-01-31T23:59:59.999999Z",
        "2024-02-01T00:00:00Z",
        "2024-02-29T23:59:59.999999Z",
        "2024-03-01T00:00:00Z",
        "2024-03-31T23:59:59.999999Z",
        "2024-04-01T00:00:00Z",
    ] {
        assert_eq!(insert(&client, time, 1, 0).await?, 1);
    }
    assert_eq!(
        rows_by_partition(&client).await?,
        counts(&[("events_2024_02", 2), ("events_2024_03", 2), ("events_default", 2)])
    );
    Ok(())
}

#[tokio::test]
async fn only_months_are_accepted() -> Result<()> {
    let (_environment, client) = prepared().await?;
    for wrong in ["2024-02-02", "1999-12-01", "2201-01-01", "infinity"] {
        assert!(ensure_partition(&client, wrong).await.is_err(), "{wrong}");
    }
    assert!(client.query_one("SELECT ensure_events_partition(NULL)", &[]).await.is_err());
    for right in ["2000-01-01", "2200-12-01"] {
        assert!(ensure_partition(&client, right).await?, "{right}");
    }
    Ok(())
}

#[tokio::test]
async fn a_late_months_rows_move_out_of_the_default_partition() -> Result<()> {
    let (_environment, client) = prepared().await?;
    insert(&client, "2024-01-31T23:59:59.999Z", 10, 0).await?;
    insert(&client, "2024-02-01T00:00:00Z", 20, 0).await?;
    insert(&client, "2024-02-29T23:59:59.999Z", 30, 0).await?;
    insert(&client, "2024-03-01T00:00:00Z", 40, 0).await?;
    assert!(ensure_partition(&client, "2024-02-01").await?);
    assert_eq!(
        rows_by_partition(&client).await?,
        counts(&[("events_2024_02", 50), ("events_default", 50)])
    );
    // The moved rows are found as duplicates where they are now.
    assert_eq!(insert(&client, "2024-02-01T00:00:00Z", 21, 0).await?, 1);
    // And their foreign keys hold there.
    let orphan = client.execute("DELETE FROM replays", &[]).await.unwrap_err();
    assert_eq!(sqlstate(&orphan), "23503");
    Ok(())
}

/// Inserts batches of the month, each a transaction that touches the tables in the writer's
/// order, until told to stop; gives how many rows it has written. Any error is one that a writer
/// would have met.
async fn keep_inserting(
    environment: Arc<Environment>,
    upserts_parents: bool,
    next: Arc<AtomicI64>,
    stop: Arc<AtomicBool>,
) -> Result<u64> {
    let mut client = environment.sql().await?;
    let mut written = 0;
    while !stop.load(Ordering::Relaxed) {
        let after = next.fetch_add(ROWS_PER_INSERT, Ordering::Relaxed);
        let transaction = client.transaction().await?;
        if upserts_parents {
            transaction
                .batch_execute(
                    "UPDATE users SET created_at = least(created_at, now());
                     UPDATE replays SET start_time = least(start_time, now());
                     INSERT INTO webstates (html_hash) VALUES (repeat('a', 64))
                     ON CONFLICT DO NOTHING",
                )
                .await?;
        }
        let time: chrono::DateTime<chrono::Utc> = "2024-02-10T00:00:00Z".parse()?;
        written += transaction
            .execute(INSERT_EVENTS, &[&time, &ROWS_PER_INSERT, &after])
            .await
            .context("an insert failed")?;
        transaction.commit().await?;
    }
    Ok(written)
}

#[tokio::test]
async fn a_late_month_gets_its_partition_while_others_write_into_it() -> Result<()> {
    let (environment, client) = prepared().await?;
    let environment = Arc::new(environment);
    let next = Arc::new(AtomicI64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let inserters: Vec<_> = (0..6)
        .map(|number| {
            // Writers that know the replay and page touch events alone.
            let upserts_parents = number % 2 == 0;
            let (next, stop) = (Arc::clone(&next), Arc::clone(&stop));
            tokio::spawn(keep_inserting(Arc::clone(&environment), upserts_parents, next, stop))
        })
        .collect();
    let rows_in = async |partition: &str| -> Result<i64> {
        let rows = rows_by_partition(&client).await?;
        Ok(rows.iter().find(|(name, _)| name == partition).map_or(0, |(_, rows)| *rows))
    };
    let reaches = async |partition: &str, enough: i64| {
        eventually(&format!("{partition} holds {enough}"), DEADLINE, async || {
            match rows_in(partition).await {
                Ok(rows) if rows >= enough => Ok(()),
                Ok(rows) => Err(format!("{rows} rows")),
                Err(error) => Err(format!("{error:#}")),
            }
        })
        .await
    };

    reaches("events_default", 2_000).await?;
    let creators = (0..3).map(|_| {
        let environment = Arc::clone(&environment);
        async move {
            let client = environment.sql().await?;
            anyhow::Ok(ensure_partition(&client, "2024-02-01").await?)
        }
    });
    let made = futures::future::try_join_all(creators).await?;
    assert_eq!(made.iter().filter(|made| **made).count(), 1, "{made:?}");
    let moved = rows_in("events_2024_02").await?;
    reaches("events_2024_02", moved + 1_000).await?;

    stop.store(true, Ordering::Relaxed);
    let mut written = 0;
    for inserter in inserters {
        written += inserter.await??;
    }
    let written = i64::try_from(written)?;
    assert_eq!(written, next.load(Ordering::Relaxed), "every row was new");
    assert_eq!(rows_by_partition(&client).await?, counts(&[("events_2024_02", written)]));
    Ok(())
}

#[tokio::test]
async fn a_partition_that_exists_is_seen_without_a_lock() -> Result<()> {
    let (environment, client) = prepared().await?;
    ensure_partition(&client, "2024-02-01").await?;
    let mut holder = environment.sql().await?;
    let transaction = holder.transaction().await?;
    transaction.batch_execute("LOCK TABLE events, replays, webstates").await?;
    client.batch_execute("SET statement_timeout = '5s'").await?;
    assert!(!ensure_partition(&client, "2024-02-01").await?);
    Ok(())
}

#[tokio::test]
async fn who_cannot_have_the_locks_gives_up_and_lets_others_on() -> Result<()> {
    let (environment, client) = prepared().await?;
    insert(&client, "2024-02-10T00:00:00Z", 5, 0).await?;
    let mut holder = environment.sql().await?;
    let transaction = holder.transaction().await?;
    transaction.query("SELECT FROM events_default LIMIT 1", &[]).await?;
    let error = ensure_partition(&client, "2024-02-01").await.unwrap_err();
    assert_eq!(sqlstate(&error), "55P03");
    insert(&client, "2024-02-10T00:00:00Z", 5, 5).await?;
    transaction.commit().await?;
    assert!(ensure_partition(&client, "2024-02-01").await?);
    assert_eq!(rows_by_partition(&client).await?, counts(&[("events_2024_02", 10)]));
    Ok(())
}

#[tokio::test]
async fn readers_of_other_months_go_on_while_a_partition_is_made() -> Result<()> {
    let (environment, client) = prepared().await?;
    ensure_partition(&client, "2024-03-01").await?;
    insert(&client, "2024-03-10T00:00:00Z", 7, 0).await?;
    let mut maker = environment.sql().await?;
    let transaction = maker.transaction().await?;
    let made = transaction.query_one("SELECT ensure_events_partition('2024-02-01')", &[]).await?;
    assert!(made.get::<_, bool>(0));
    // The maker holds its locks until it commits.
    client.batch_execute("SET statement_timeout = '5s'").await?;
    let march = "SELECT count(*) FROM events WHERE event_id >= least_event_id('2024-03-01T00:00Z') \
                 AND event_id < least_event_id('2024-04-01T00:00Z')";
    assert_eq!(client.query_one(march, &[]).await?.get::<_, i64>(0), 7);
    Ok(())
}

#[tokio::test]
async fn an_old_month_goes_with_its_table_and_may_come_back() -> Result<()> {
    let (_environment, client) = prepared().await?;
    ensure_partition(&client, "2024-02-01").await?;
    insert(&client, "2024-02-10T00:00:00Z", 5, 0).await?;
    client.batch_execute("DROP TABLE events_2024_02").await?;
    assert_eq!(rows_by_partition(&client).await?, []);
    insert(&client, "2024-02-10T00:00:00Z", 2, 0).await?;
    assert!(ensure_partition(&client, "2024-02-01").await?);
    assert_eq!(rows_by_partition(&client).await?, counts(&[("events_2024_02", 2)]));
    Ok(())
}

#[tokio::test]
async fn a_month_kept_elsewhere_does_not_stop_its_late_events() -> Result<()> {
    let (_environment, client) = prepared().await?;
    ensure_partition(&client, "2024-02-01").await?;
    insert(&client, "2024-02-10T00:00:00Z", 5, 0).await?;
    client.batch_execute("ALTER TABLE events DETACH PARTITION events_2024_02").await?;
    assert!(!ensure_partition(&client, "2024-02-01").await?);
    insert(&client, "2024-02-10T00:00:00Z", 1, 5).await?;
    assert_eq!(rows_by_partition(&client).await?, counts(&[("events_default", 1)]));
    client.batch_execute("ALTER TABLE events_2024_02 RENAME TO february").await?;
    assert!(ensure_partition(&client, "2024-02-01").await?);
    assert_eq!(rows_by_partition(&client).await?, counts(&[("events_2024_02", 1)]));
    Ok(())
}

#[tokio::test]
async fn ids_begin_with_the_whole_millisecond() -> Result<()> {
    let (_environment, client) = prepared().await?;
    let check = async |time: &str, expected: &str| -> Result<()> {
        let query = format!("SELECT least_event_id('{time}')");
        let id: Uuid = client.query_one(&query, &[]).await?.get(0);
        assert_eq!(id.to_string(), expected, "{time}");
        Ok(())
    };
    // The first 48 bits of the published vectors of event identity.
    check("2024-01-01T00:00:00.123Z", "018cc251-f47b-0000-0000-000000000000").await?;
    check("2024-01-01T00:00:00.123999Z", "018cc251-f47b-0000-0000-000000000000").await?;
    check("2024-01-01T01:00:00.123+01", "018cc251-f47b-0000-0000-000000000000").await?;
    check("1970-01-01T00:00:00Z", "00000000-0000-0000-0000-000000000000").await?;
    check("1960-01-01T00:00:00Z", "00000000-0000-0000-0000-000000000000").await
}
