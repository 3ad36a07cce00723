//! `writer replay ID`.

use std::io::Write;

use anyhow::bail;
use clap::Args;
use common::database::DatabaseOptions;
use common::page_hash::PageHash;
use common::schema::{events, replays};
use common::time::Timestamp;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::dsl::exists;
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::prelude::*;
use diesel::sql_types::Json;
use diesel_async::RunQueryDsl;
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

/// How many events are read at once: a replay may hold more than memory does.
const PAGE_ROWS: i64 = 1_000;

/// Options of `replay`.
#[derive(Debug, Args)]
pub struct ReplayOptions {
    /// The replay's id.
    pub replay_id: Uuid,
    /// Where Postgres is.
    #[command(flatten)]
    pub database: DatabaseOptions,
}

/// JSON text as stored, every byte of it.
#[derive(Debug, Serialize, AsExpression, FromSqlRow)]
#[diesel(sql_type = Json)]
#[serde(transparent)]
struct StoredJson(Box<RawValue>);

impl FromSql<Json, Pg> for StoredJson {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        let text = std::str::from_utf8(value.as_bytes())?.to_owned();
        Ok(Self(RawValue::from_string(text)?))
    }
}

/// A line of output.
#[derive(Debug, Serialize, Queryable, Selectable)]
#[diesel(table_name = events)]
struct Line {
    event_id: Uuid,
    #[serde(serialize_with = "rfc3339")]
    timestamp: Timestamp,
    event_type: String,
    event_data: StoredJson,
    webstate_hash: Option<PageHash>,
}

fn rfc3339<S: serde::Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}

/// Writes a replay's events in the order of the recorder's clock, one JSON object a line.
///
/// # Errors
/// When there is no such replay.
pub async fn replay(options: &ReplayOptions, out: &mut impl Write) -> anyhow::Result<()> {
    let mut session = options.database.connect(super::APPLICATION).await?;
    let connection = &mut session.connection;
    let known: bool = diesel::select(exists(replays::table.find(options.replay_id)))
        .get_result(connection)
        .await?;
    if !known {
        bail!("there is no replay {}", options.replay_id);
    }
    let mut after: Option<(Timestamp, Uuid)> = None;
    loop {
        let mut query = events::table
            .filter(events::replay_id.eq(options.replay_id))
            .order((events::timestamp, events::event_id))
            .limit(PAGE_ROWS)
            .select(Line::as_select())
            .into_boxed();
        if let Some((timestamp, event_id)) = after {
            query = query.filter(
                events::timestamp
                    .gt(timestamp)
                    .or(events::timestamp.eq(timestamp).and(events::event_id.gt(event_id))),
            );
        }
        let lines: Vec<Line> = query.load(connection).await?;
        for line in &lines {
            serde_json::to_writer(&mut *out, line)?;
            out.write_all(b"\n")?;
        }
        match lines.last() {
            Some(last) => after = Some((last.timestamp, last.event_id)),
            None => return Ok(out.flush()?),
        }
    }
}
