//! Databases to measure on: each new, migrated, and with the months that the backlog needs.

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::{SinkExt, TryStreamExt, pin_mut};
use tokio_postgres::Client;

use super::copy_rows::{self, Piece};
use crate::stack::{Stack, postgres};

/// The tables with their parents first, and how their rows are ordered in a load.
const TABLES: [(&str, &str); 4] = [
    ("users", "user_id"),
    ("replays", "replay_id"),
    ("webstates", "html_hash"),
    ("events", "event_id"),
];

/// Rows of one transaction of a load: at most as many as a batch of the writer has.
const ROWS_PER_TRANSACTION: usize = 10_000;

/// A database that is there as long as it is needed.
pub struct Database<'a> {
    stack: &'a Stack,
    name: String,
}

impl<'a> Database<'a> {
    /// A copy of the environment's database at `template_url`, of which nobody may be a client.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn like(stack: &'a Stack, template: &str) -> Result<Self> {
        let name = format!("bench-{}", uuid::Uuid::new_v4().simple());
        let sql = stack.postgres().sql().await?;
        sql.batch_execute(&format!("CREATE DATABASE \"{name}\" TEMPLATE \"{template}\"")).await?;
        // So that no measurement pays for the pages that the one before has left to write.
        sql.batch_execute("CHECKPOINT").await?;
        Ok(Self { stack, name })
    }

    /// Its address.
    pub fn url(&self) -> String {
        self.stack.postgres().url(&self.name)
    }

    /// A connection to it.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn sql(&self) -> Result<Client> {
        postgres::connect(&self.url()).await
    }

    /// Removes it.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn drop(self) -> Result<()> {
        let sql = self.stack.postgres().sql().await?;
        let name = &self.name;
        sql.batch_execute(&format!("DROP DATABASE \"{name}\" WITH (FORCE)")).await?;
        Ok(())
    }

    /// The months of `events` that have a partition, each by its first day.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn months(&self) -> Result<Vec<String>> {
        let months = "SELECT to_char(to_date(right(relname, 7), 'YYYY_MM'), 'YYYY-MM-DD') \
                      FROM pg_class WHERE relname ~ '^events_[0-9]{4}_[0-9]{2}$' AND relkind = 'r'";
        let rows = self.sql().await?.query(months, &[]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Makes months.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn make_months(&self, months: &[String]) -> Result<()> {
        let sql = self.sql().await?;
        for month in months {
            sql.batch_execute(&format!("SELECT ensure_events_partition('{month}')")).await?;
        }
        Ok(())
    }

    /// Bytes of all tables and indexes.
    ///
    /// # Errors
    /// When Postgres fails.
    pub async fn bytes(&self) -> Result<u64> {
        let size = "SELECT sum(pg_total_relation_size(oid))::int8 FROM pg_class \
                    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace";
        let bytes: i64 = self.sql().await?.query_one(size, &[]).await?.get(0);
        Ok(bytes.unsigned_abs())
    }

    /// How many rows `events` has.
    ///
    /// # Errors
    /// When Postgres fails.
    pub async fn count_events(&self) -> Result<u64> {
        let count = "SELECT count(*) FROM events";
        let count: i64 = self.sql().await?.query_one(count, &[]).await?.get(0);
        Ok(count.unsigned_abs())
    }

    /// What of `events` takes how many bytes, all months together: its rows, values that are kept
    /// apart from them, and each index.
    ///
    /// # Errors
    /// When Postgres fails.
    pub async fn bytes_of_events(&self) -> Result<Vec<(String, u64)>> {
        let sizes = "SELECT 'rows' AS part, sum(pg_relation_size(relid))::int8 AS bytes \
                       FROM pg_partition_tree('events') WHERE isleaf \
                     UNION ALL \
                     SELECT 'values kept apart', sum(pg_total_relation_size(reltoastrelid))::int8 \
                       FROM pg_partition_tree('events') JOIN pg_class ON oid = relid \
                       WHERE isleaf AND reltoastrelid <> 0 \
                     UNION ALL \
                     SELECT index.relname, (SELECT sum(pg_relation_size(relid)) \
                       FROM pg_partition_tree(indexrelid) WHERE isleaf)::int8 \
                       FROM pg_index JOIN pg_class index ON index.oid = indexrelid \
                       WHERE indrelid = 'events'::regclass \
                     ORDER BY bytes DESC";
        let rows = self.sql().await?.query(sizes, &[]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get::<_, i64>(1).unsigned_abs())).collect())
    }

    /// For each table how many rows it has and what stands for them: the same for the same rows,
    /// in any order.
    ///
    /// # Errors
    /// When Postgres fails.
    pub async fn fingerprints(&self) -> Result<Vec<(&'static str, i64, String)>> {
        let sql = self.sql().await?;
        let mut fingerprints = Vec::new();
        for (table, _) in TABLES {
            let row = sql
                .query_one(
                    &format!(
                        "SELECT count(*), coalesce(sum(hashtextextended(it::text, 0)), 0)::text \
                         FROM {table} it"
                    ),
                    &[],
                )
                .await
                .context(table)?;
            fingerprints.push((table, row.get(0), row.get(1)));
        }
        Ok(fingerprints)
    }
}

/// All rows of a database, in memory, as COPY carries them.
#[derive(Default)]
pub struct Rows {
    tables: Vec<(&'static str, Vec<Piece>)>,
}

impl Rows {
    /// Reads them.
    ///
    /// # Errors
    /// When Postgres fails.
    pub async fn of(database: &Database<'_>) -> Result<Self> {
        let sql = database.sql().await?;
        let mut tables = Vec::new();
        for (table, key) in TABLES {
            let copy = format!("COPY (SELECT * FROM {table} ORDER BY {key}) TO STDOUT BINARY");
            let stream = sql.copy_out(&copy).await.context(table)?;
            pin_mut!(stream);
            let mut all = bytes::BytesMut::new();
            while let Some(bytes) = stream.try_next().await.context(table)? {
                all.extend_from_slice(&bytes);
            }
            tables.push((table, copy_rows::cut(&all.freeze(), ROWS_PER_TRANSACTION)?));
        }
        Ok(Self { tables })
    }

    /// How many rows a table has.
    pub fn count(&self, table: &str) -> u64 {
        self.pieces(table).map(|piece| piece.rows as u64).sum()
    }

    fn pieces(&self, table: &str) -> impl Iterator<Item = &Piece> {
        let of_table = self.tables.iter().filter(move |(name, _)| *name == table);
        of_table.flat_map(|(_, pieces)| pieces)
    }

    /// Loads all of them, piece after piece, each in a transaction of its own: page states on one
    /// connection, as the writer has a lane for them, beside the other tables on so many.
    ///
    /// # Errors
    /// When Postgres fails.
    pub async fn load(&self, database: &Database<'_>, connections: usize) -> Result<()> {
        let for_pages = [database.sql().await?];
        let mut clients = Vec::new();
        for _ in 0..connections {
            clients.push(database.sql().await?);
        }
        let page_states = self.load_table("webstates", &for_pages);
        let parents = async {
            self.load_table("users", &clients).await?;
            self.load_table("replays", &clients).await
        };
        futures::try_join!(page_states, parents)?;
        self.load_table("events", &clients).await
    }

    async fn load_table(&self, table: &'static str, clients: &[Client]) -> Result<()> {
        let shares = clients.iter().enumerate().map(|(number, client)| async move {
            for piece in self.pieces(table).skip(number).step_by(clients.len()) {
                load(client, table, piece.bytes.clone()).await?;
            }
            anyhow::Ok(())
        });
        futures::future::try_join_all(shares).await.map(drop).context(table)
    }
}

async fn load(client: &Client, table: &str, rows: Bytes) -> Result<()> {
    let sink = client.copy_in(&format!("COPY {table} FROM STDIN BINARY")).await?;
    pin_mut!(sink);
    sink.send(rows).await?;
    sink.finish().await?;
    Ok(())
}
