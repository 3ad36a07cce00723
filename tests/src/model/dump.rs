//! The real tables, read into the form of [`Tables`].

use std::collections::BTreeMap;

use anyhow::Context;
use chrono::{DateTime, Utc};
use common::page_hash::PageHash;
use common::record::webstates;
use common::time::Timestamp;
use futures::{TryStreamExt, pin_mut};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::tables::{EventRow, ReplayRow, Tables, UserRow, WebstateRow};

/// The largest page that is decompressed here: more than any gateway accepts.
const PAGE_LIMIT_BYTES: usize = 64 << 20;

/// Reads all rows of the four tables.
///
/// # Errors
/// When Postgres fails, or a page's content is not a zstd frame.
pub async fn all(client: &Client) -> anyhow::Result<Tables> {
    read(client, None).await
}

/// Reads the rows with the keys of `expected`, and all events of its replays: for a database that
/// holds other things too.
///
/// # Errors
/// See [`all`].
pub async fn like(client: &Client, expected: &Tables) -> anyhow::Result<Tables> {
    let keys = Keys {
        users: expected.users.keys().copied().collect(),
        replays: expected.replays.keys().copied().collect(),
        webstates: expected.webstates.keys().map(|hash| hash.to_hex()).collect(),
    };
    read(client, Some(keys)).await
}

/// Which rows to read.
struct Keys {
    users: Vec<Uuid>,
    replays: Vec<Uuid>,
    webstates: Vec<String>,
}

async fn read(client: &Client, keys: Option<Keys>) -> anyhow::Result<Tables> {
    let (users, replays, webstates) = match keys {
        Some(keys) => (Some(keys.users), Some(keys.replays), Some(keys.webstates)),
        None => (None, None, None),
    };
    Ok(Tables {
        users: rows(client, USERS, &users, user).await.context("users")?,
        replays: rows(client, REPLAYS, &replays, replay).await.context("replays")?,
        webstates: rows(client, WEBSTATES, &webstates, webstate).await.context("webstates")?,
        events: rows(client, EVENTS, &replays, event).await.context("events")?,
    })
}

/// Reads all rows of `users`, `replays` and `webstates`, of which there are far fewer than events.
///
/// # Errors
/// See [`all`].
pub async fn all_but_events(client: &Client) -> anyhow::Result<Tables> {
    let all: Option<Vec<Uuid>> = None;
    let all_hashes: Option<Vec<String>> = None;
    Ok(Tables {
        users: rows(client, USERS, &all, user).await.context("users")?,
        replays: rows(client, REPLAYS, &all, replay).await.context("replays")?,
        webstates: rows(client, WEBSTATES, &all_hashes, webstate).await.context("webstates")?,
        events: BTreeMap::new(),
    })
}

/// Gives every row of `events` to `take`, one after the other.
///
/// # Errors
/// When Postgres fails.
pub async fn each_event(client: &Client, take: impl FnMut(Uuid, EventRow)) -> anyhow::Result<()> {
    let all: Option<Vec<Uuid>> = None;
    each_row(client, EVENTS, &all, event, take).await.context("events")
}

const USERS: &str = "SELECT user_id, email, name, created_at, email_claim, email_as_of, name_as_of
     FROM users WHERE $1::uuid[] IS NULL OR user_id = ANY ($1)";

const REPLAYS: &str = "SELECT replay_id, user_id, start_time, end_time, initial_url, user_as_of
     FROM replays WHERE $1::uuid[] IS NULL OR replay_id = ANY ($1)";

const WEBSTATES: &str = "SELECT html_hash, html_content, captured_at
     FROM webstates WHERE $1::text[] IS NULL OR html_hash = ANY ($1)";

const EVENTS: &str =
    "SELECT event_id, replay_id, timestamp, event_type, event_data::text, webstate_hash
     FROM events WHERE $1::uuid[] IS NULL OR replay_id = ANY ($1)";

async fn rows<K: Ord, V>(
    client: &Client,
    query: &str,
    keys: &(impl ToSql + Sync),
    read: fn(&Row) -> anyhow::Result<(K, V)>,
) -> anyhow::Result<BTreeMap<K, V>> {
    let mut rows = BTreeMap::new();
    each_row(client, query, keys, read, |key, value| drop(rows.insert(key, value))).await?;
    Ok(rows)
}

/// Reads row by row, so that events and compressed pages are never all in memory at once.
async fn each_row<K, V>(
    client: &Client,
    query: &str,
    keys: &(impl ToSql + Sync),
    read: fn(&Row) -> anyhow::Result<(K, V)>,
    mut take: impl FnMut(K, V),
) -> anyhow::Result<()> {
    let stream = client.query_raw(query, [keys as &(dyn ToSql + Sync)]).await?;
    pin_mut!(stream);
    while let Some(row) = stream.try_next().await? {
        let (key, value) = read(&row)?;
        take(key, value);
    }
    Ok(())
}

fn user(row: &Row) -> anyhow::Result<(Uuid, UserRow)> {
    let values = UserRow {
        email: row.try_get(1)?,
        name: row.try_get(2)?,
        created_at: micros(row.try_get(3)?),
        email_claim: row.try_get(4)?,
        email_as_of: row.try_get::<_, Option<_>>(5)?.map(micros),
        name_as_of: row.try_get::<_, Option<_>>(6)?.map(micros),
    };
    Ok((row.try_get(0)?, values))
}

fn replay(row: &Row) -> anyhow::Result<(Uuid, ReplayRow)> {
    let values = ReplayRow {
        user_id: row.try_get(1)?,
        start_time: micros(row.try_get(2)?),
        end_time: row.try_get::<_, Option<_>>(3)?.map(micros),
        initial_url: row.try_get(4)?,
        user_as_of: micros(row.try_get(5)?),
    };
    Ok((row.try_get(0)?, values))
}

fn webstate(row: &Row) -> anyhow::Result<(PageHash, WebstateRow)> {
    let hash: PageHash = row.try_get::<_, &str>(0)?.parse()?;
    let content = row
        .try_get::<_, Option<&[u8]>>(1)?
        .map(|content| webstates::decode(content, PAGE_LIMIT_BYTES))
        .transpose()
        .with_context(|| format!("page {hash}"))?;
    let values = WebstateRow {
        content: content.map(|page| PageHash::of(&page)),
        captured_at: row.try_get::<_, Option<_>>(2)?.map(micros),
    };
    Ok((hash, values))
}

fn event(row: &Row) -> anyhow::Result<(Uuid, EventRow)> {
    let values = EventRow {
        replay_id: row.try_get(1)?,
        timestamp: micros(row.try_get(2)?),
        event_type: row.try_get(3)?,
        event_data: row.try_get(4)?,
        webstate_hash: row.try_get::<_, Option<&str>>(5)?.map(str::parse).transpose()?,
    };
    Ok((row.try_get(0)?, values))
}

fn micros(time: DateTime<Utc>) -> Timestamp {
    Timestamp::from_micros(time.timestamp_micros())
}
