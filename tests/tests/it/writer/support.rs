//! Records to feed a writer with, and what to ask of it.

use std::time::Duration;

use anyhow::Result;
use common::event_id;
use common::json_text::JsonText;
use common::page_hash::PageHash;
use common::record::events::{Event, EventsRecord, Replay, Sighting, User};
use common::record::headers::{RECEIVED_AT, SCHEMA};
use common::record::webstates;
use common::time::Timestamp;
use tests::oracle::accounts::WriterAccounts;
use tests::stack::records::Record;
use tests::stack::{Environment, Service, eventually};
use tokio_postgres::Client;
use uuid::Uuid;

/// How long a test waits for the writer to get somewhere: far beyond what it needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// 2026-10-15T12:00:00Z, in milliseconds.
pub(crate) const NOON_MS: i64 = 1_792_065_600_000;

/// A replay to make batches of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Session {
    pub(crate) replay_id: Uuid,
    pub(crate) user_id: Uuid,
    pub(crate) begin_ms: i64,
}

impl Session {
    pub(crate) fn new() -> Self {
        Self::beginning(NOON_MS)
    }

    pub(crate) fn beginning(begin_ms: i64) -> Self {
        Self { replay_id: Uuid::new_v4(), user_id: Uuid::new_v4(), begin_ms }
    }

    /// The record of a batch of events, numbered from `first_seq`, one a millisecond.
    pub(crate) fn batch(&self, first_seq: u64, types_and_data: &[(&str, &str)]) -> Record {
        self.batch_with_pages(first_seq, types_and_data, &[])
    }

    /// The same; the first events belong to the given pages, which are seen but not sent.
    pub(crate) fn batch_with_pages(
        &self,
        first_seq: u64,
        types_and_data: &[(&str, &str)],
        pages: &[PageHash],
    ) -> Record {
        let start_time = millis(self.begin_ms);
        let events =
            types_and_data.iter().zip(0_usize..).map(|((event_type, event_data), place)| {
                let seq = first_seq + place as u64;
                let timestamp = self.time_of(seq);
                let event_id = event_id::from_seq(self.replay_id, timestamp, seq);
                let webstate_hash = pages.get(place).copied();
                let event_data = JsonText::parse(event_data).unwrap();
                Event { event_id, seq: Some(seq), timestamp, event_type, event_data, webstate_hash }
            });
        let sighting = |hash: &PageHash| Sighting { html_hash: *hash, captured_at: start_time };
        let user = User { user_id: self.user_id, email: None, name: None, created_at: None };
        let record = EventsRecord {
            replay: Replay {
                replay_id: self.replay_id,
                initial_url: "https://shop.example/".into(),
                start_time,
                end_time: None,
                user,
            },
            as_of: start_time,
            events: events.collect(),
            webstates: pages.iter().map(sighting).collect(),
        };
        let value = record.encode(10 << 20).unwrap().remove(0).value;
        events_record(&self.replay_id.to_string(), value)
    }

    /// When the event of that number happened.
    pub(crate) fn time_of(&self, seq: u64) -> Timestamp {
        millis(self.begin_ms + i64::try_from(seq).unwrap())
    }

    /// The ids of the replay's rows in `events`, in order.
    pub(crate) async fn stored(&self, sql: &Client) -> Result<Vec<(Uuid, String)>> {
        let rows = sql
            .query(
                "SELECT event_id, event_data::text FROM events WHERE replay_id = $1 \
                 ORDER BY timestamp, event_id",
                &[&self.replay_id],
            )
            .await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}

/// A record of the events topic with any value.
pub(crate) fn events_record(key: &str, value: impl Into<Vec<u8>>) -> Record {
    Record {
        key: key.as_bytes().to_vec(),
        value: Some(value.into()),
        headers: gateway_headers(),
        ..Record::default()
    }
}

/// A page's record.
pub(crate) fn page_record(html: &str) -> Record {
    let key = PageHash::of(html.as_bytes()).to_hex().into_bytes();
    let value = Some(webstates::encode(html.as_bytes()).unwrap());
    Record { key, value, headers: gateway_headers(), ..Record::default() }
}

fn gateway_headers() -> Vec<(String, Vec<u8>)> {
    let received_at = Timestamp::now().to_string().into_bytes();
    vec![(SCHEMA.to_owned(), b"1".to_vec()), (RECEIVED_AT.to_owned(), received_at)]
}

fn millis(millis: i64) -> Timestamp {
    Timestamp::from_micros(millis * 1_000)
}

/// Puts records on the events topic.
pub(crate) async fn feed(environment: &Environment, records: &[Record]) -> Result<()> {
    environment.records().produce(&environment.topic("replay-events"), records).await
}

/// Waits until the session has as many events stored as expected.
pub(crate) async fn wait_stored(sql: &Client, session: &Session, expected: usize) -> Result<()> {
    eventually("the session's events are stored", PATIENCE, async || {
        match session.stored(sql).await {
            Ok(rows) if rows.len() == expected => Ok(()),
            Ok(rows) => Err(format!("{} of {expected}", rows.len())),
            Err(error) => Err(format!("{error:#}")),
        }
    })
    .await
}

/// One figure of the writer.
pub(crate) async fn figure(writer: &Service, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
    let metrics = writer.metrics().await?;
    metrics.sum(name, labels).ok_or_else(|| anyhow::anyhow!("{name} {labels:?} is not exported"))
}

/// Waits until a figure, all its series together, is as it should be.
pub(crate) async fn reaches(
    writer: &Service,
    name: &str,
    expected: impl Fn(f64) -> bool,
) -> Result<()> {
    writer.wait_for_metric(name, &[], PATIENCE, expected).await.map(drop)
}

/// Waits until the writers have so many partitions together, over both topics, and each of them as
/// many as `least`.
pub(crate) async fn share_out(writers: &[&Service], all: f64, least: f64) -> Result<()> {
    eventually("the partitions are shared out", PATIENCE, async || {
        let mut shares = Vec::new();
        for writer in writers {
            let assigned = figure(writer, "tapedeck_writer_partitions_assigned", &[]).await;
            shares.push(assigned.map_err(|error| error.to_string())?);
        }
        let shared_out = shares.iter().sum::<f64>() == all && shares.iter().all(|it| *it >= least);
        if shared_out { Ok(()) } else { Err(format!("{shares:?}")) }
    })
    .await
}

/// Has a writer that has just started store the session's first events, one after the other, until
/// it copies them; returns how many they are.
pub(crate) async fn wait_copying(
    environment: &Environment,
    writer: &Service,
    session: &Session,
) -> Result<u64> {
    /// More than any writer should take.
    const MOST: u32 = 20;
    for seq in 0..MOST {
        feed(environment, &[session.batch(seq.into(), &[("click", "{}")])]).await?;
        let written = f64::from(seq + 1);
        reaches(writer, "tapedeck_writer_events_written_total", |it| it == written).await?;
        if figure(writer, "tapedeck_writer_insertions_total", &[("way", "copy")]).await? > 0.0 {
            return Ok(u64::from(seq) + 1);
        }
    }
    anyhow::bail!("{MOST} transactions without a repeat, and none was a copy")
}

/// Checks that the events' accounts add up in one scrape; returns the number consumed.
pub(crate) async fn check_accounts(writer: &Service) -> Result<f64> {
    let accounts = WriterAccounts::of(&writer.metrics().await?)?;
    accounts.check()?;
    Ok(accounts.consumed)
}
