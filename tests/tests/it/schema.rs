//! The tables as `writer migrate` leaves them: what the catalogue says of them, and that
//! `docs/schema.md` says the same.

use anyhow::Result;
use tests::stack::{Environment, Stack};
use tokio_postgres::Client;

use crate::schema_document;

/// The page that explains the tables.
const SCHEMA_PAGE: &str = "docs/schema.md";

async fn migrated() -> Result<(Environment, Client)> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let client = environment.sql().await?;
    Ok((environment, client))
}

/// The rows of a query with one text column.
async fn lines(client: &Client, query: &str) -> Result<Vec<String>> {
    Ok(client.query(query, &[]).await?.iter().map(|row| row.get(0)).collect())
}

#[tokio::test]
async fn columns_are_those_that_are_promised() -> Result<()> {
    let (_environment, client) = migrated().await?;
    let columns = lines(
        &client,
        "SELECT format('%s.%s %s%s', attrelid::regclass, attname, \
             format_type(atttypid, atttypmod), CASE WHEN attnotnull THEN '' ELSE ' null' END) \
         FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped AND attrelid::regclass::text IN \
             ('users', 'webstates', 'replays', 'events', 'monthly_reports') \
         ORDER BY attrelid::regclass::text, attnum",
    )
    .await?;
    assert_eq!(
        columns,
        [
            "events.event_id uuid",
            "events.replay_id uuid",
            "events.timestamp timestamp with time zone",
            "events.event_type character varying(64)",
            "events.event_data json",
            "events.webstate_hash character varying(64) null",
            "monthly_reports.report_id bigint",
            "monthly_reports.report_month_start date",
            "monthly_reports.new_users_count bigint",
            "monthly_reports.total_users_end bigint",
            "monthly_reports.new_replays_count bigint",
            "monthly_reports.total_replays_end bigint",
            "monthly_reports.generated_at timestamp with time zone",
            "replays.replay_id uuid",
            "replays.user_id uuid",
            "replays.start_time timestamp with time zone",
            "replays.end_time timestamp with time zone null",
            "replays.initial_url text",
            "replays.user_as_of timestamp with time zone",
            "users.user_id uuid",
            "users.email character varying null",
            "users.name character varying null",
            "users.created_at timestamp with time zone",
            "users.email_claim character varying null",
            "users.email_as_of timestamp with time zone null",
            "users.name_as_of timestamp with time zone null",
            "webstates.html_hash character varying(64)",
            "webstates.html_content bytea null",
            "webstates.captured_at timestamp with time zone null",
        ]
    );
    Ok(())
}

#[tokio::test]
async fn keys_are_those_that_are_promised() -> Result<()> {
    let (_environment, client) = migrated().await?;
    let keys = lines(
        &client,
        "SELECT format('%s: %s', conrelid::regclass, pg_get_constraintdef(oid)) \
         FROM pg_constraint WHERE contype IN ('p', 'u', 'f') AND convalidated \
             AND conrelid::regclass::text IN \
             ('users', 'webstates', 'replays', 'events', 'monthly_reports') \
         ORDER BY 1",
    )
    .await?;
    assert_eq!(
        keys,
        [
            "events: FOREIGN KEY (replay_id) REFERENCES replays(replay_id)",
            "events: FOREIGN KEY (webstate_hash) REFERENCES webstates(html_hash)",
            "events: PRIMARY KEY (event_id)",
            "monthly_reports: PRIMARY KEY (report_id)",
            "monthly_reports: UNIQUE (report_month_start)",
            "replays: FOREIGN KEY (user_id) REFERENCES users(user_id)",
            "replays: PRIMARY KEY (replay_id)",
            "users: PRIMARY KEY (user_id)",
            "users: UNIQUE (email)",
            "webstates: PRIMARY KEY (html_hash)",
        ]
    );
    Ok(())
}

#[tokio::test]
async fn indexes_are_those_that_are_promised_on_every_partition_too() -> Result<()> {
    let (_environment, client) = migrated().await?;
    client.execute("SELECT ensure_events_partition('2024-02-01')", &[]).await?;
    let indexes = lines(
        &client,
        "SELECT format('%s: %s%s', indrelid::regclass, \
             CASE WHEN indisunique THEN 'unique ' ELSE '' END, \
             substring(pg_get_indexdef(indexrelid) FROM 'USING (.*)')) \
         FROM pg_index WHERE indisvalid AND indrelid::regclass::text IN ('users', 'webstates', \
             'replays', 'events', 'events_default', 'events_2024_02', 'monthly_reports') \
         ORDER BY 1",
    )
    .await?;
    let mut expected = vec![
        "monthly_reports: unique btree (report_id)".to_owned(),
        "monthly_reports: unique btree (report_month_start)".to_owned(),
        "replays: btree (start_time)".to_owned(),
        "replays: btree (user_id)".to_owned(),
        "replays: unique btree (replay_id)".to_owned(),
        "users: btree (created_at)".to_owned(),
        "users: btree (email_claim)".to_owned(),
        "users: unique btree (email)".to_owned(),
        "users: unique btree (user_id)".to_owned(),
        "webstates: unique btree (html_hash)".to_owned(),
    ];
    for table in ["events", "events_default", "events_2024_02"] {
        expected.extend([
            format!("{table}: btree (replay_id, \"timestamp\")"),
            format!("{table}: btree (webstate_hash) WHERE (webstate_hash IS NOT NULL)"),
            format!("{table}: unique btree (event_id)"),
        ]);
    }
    expected.sort();
    let mut indexes = indexes;
    indexes.sort();
    assert_eq!(indexes, expected);
    Ok(())
}

#[tokio::test]
async fn pages_are_stored_as_they_are_since_they_come_compressed() -> Result<()> {
    let (_environment, client) = migrated().await?;
    let row = client
        .query_one(
            "SELECT attstorage = 'e' FROM pg_attribute \
             WHERE attrelid = 'webstates'::regclass AND attname = 'html_content'",
            &[],
        )
        .await?;
    assert!(row.get::<_, bool>(0));
    Ok(())
}

#[tokio::test]
async fn event_data_are_compressed_the_fast_way_in_every_partition() -> Result<()> {
    let (_environment, client) = migrated().await?;
    client.execute("SELECT ensure_events_partition('2026-10-01')", &[]).await?;
    let row = client
        .query_one(
            "SELECT count(*), count(*) FILTER (WHERE attcompression = 'l') \
             FROM pg_partition_tree('events') JOIN pg_attribute ON attrelid = relid \
             WHERE attname = 'event_data'",
            &[],
        )
        .await?;
    let (tables, with_lz4): (i64, i64) = (row.get(0), row.get(1));
    assert!(tables >= 3, "events, the default partition and a month, but {tables}");
    assert_eq!(with_lz4, tables);
    Ok(())
}

#[tokio::test]
async fn only_whom_the_owner_lets_may_make_partitions() -> Result<()> {
    let (_environment, client) = migrated().await?;
    let row = client
        .query_one(
            "SELECT prosecdef, proacl::text, array_to_string(proconfig, '; ') FROM pg_proc \
             WHERE oid = 'ensure_events_partition'::regproc",
            &[],
        )
        .await?;
    assert!(row.get::<_, bool>(0), "it runs with its owner's rights");
    // A grant to PUBLIC would stand there without a name before the '='.
    let granted = "{tapedeck_migrate=X/tapedeck_migrate,tapedeck_writer=X/tapedeck_migrate}";
    assert_eq!(row.get::<_, &str>(1), granted);
    assert!(row.get::<_, &str>(2).contains("search_path=pg_catalog, pg_temp"));
    Ok(())
}

#[tokio::test]
async fn a_month_is_reported_once_and_by_its_first_day() -> Result<()> {
    let (_environment, client) = migrated().await?;
    let insert = async |day: &str| {
        let statement = format!(
            "INSERT INTO monthly_reports (report_month_start, new_users_count, total_users_end, \
                 new_replays_count, total_replays_end, generated_at) \
             VALUES ('{day}', 0, 0, 0, 0, now())"
        );
        client
            .execute(&statement, &[])
            .await
            .map_err(|error| error.code().expect("the server refused it").code().to_owned())
    };
    assert_eq!(insert("2026-10-01").await, Ok(1));
    assert_eq!(insert("2026-10-01").await, Err("23505".to_owned()));
    assert_eq!(insert("2026-10-02").await, Err("23514".to_owned()));
    Ok(())
}

#[tokio::test]
async fn the_page_shows_the_tables_as_they_are() -> Result<()> {
    let (_environment, client) = migrated().await?;
    let make = async |_before: &str, subject: &str| match subject.split_once(' ') {
        Some(("table", name)) => schema_document::table(&client, name).await,
        Some(("function", name)) => schema_document::function(&client, name).await,
        _ => anyhow::bail!("{SCHEMA_PAGE} asks for {subject:?}: neither table nor function"),
    };
    schema_document::check(SCHEMA_PAGE, make, |written, made| written == made).await
}
