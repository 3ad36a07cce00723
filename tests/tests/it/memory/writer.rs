//! The writer's memory: with more to do than fits, and with nowhere to put it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::recordings;
use tests::stack::records::Record;
use tests::stack::{Environment, Postgres, Service, Stack};

use super::{MB, stays_small_and_live};
use crate::writer::support::{Session, feed};

/// What the writer may have resident at any time.
const LIMIT_BYTES: u64 = 300 * MB;

/// Partitions of a topic, as many as there are by default.
const PARTITIONS: &str = "12";

/// Events of a record, all of one recorder batch.
const RECORD_EVENTS: usize = 300;

/// Records that are made and sent at a time.
const CHUNK_RECORDS: usize = 300;

/// Batches close by what they hold, not by age: so that all that there may be are full.
const BATCH_AGE_MS: &str = "5000";

/// Each of 2 lanes holds two batches of 4 MiB: so many events only when all are full or nearly so.
const HELD_EVENTS: f64 = 16_000.0;

/// More than the writer holds by its settings: for each of 2 lanes 1 MiB ahead, a fetch of
/// 512 KiB compressed and two batches of 4 MiB, which is less than 32 MiB; at 770 bytes an event.
const BEYOND_ALL_BUFFERS: usize = 200_000;

/// How long a test waits for the writer to get somewhere: far beyond what it needs.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// Time-outs so short that an attempt takes little more than the pause after it.
const IMPATIENT: [(&str, &str); 2] =
    [("TAPEDECK_DATABASE_CONNECT_TIMEOUT_MS", "100"), ("TAPEDECK_TRANSACTION_TIMEOUT_MS", "500")];

/// A backlog of recorded events for a writer with a Postgres of its own.
struct Backlog {
    postgres: Postgres,
    environment: Environment,
    /// The types and data of the events.
    recorded: Vec<(String, String)>,
}

impl Backlog {
    /// So many events, in Kafka, each so many times: to make them takes far longer than to send
    /// them, and what the writer holds is the same.
    async fn of(events: usize, times: usize) -> Result<Self> {
        let stack = Stack::shared().await?;
        let postgres = stack.private_postgres().await?;
        let environment = Environment::on(stack.folder(), stack.kafka(), &postgres).await?;
        let recorded = recordings::own()?
            .iter()
            .flat_map(recordings::Session::events)
            .map(|event| (event.event_type.to_owned(), event.event_data.get().to_owned()))
            .collect();
        let it = Self { postgres, environment, recorded };
        // The topics come with the first writer.
        let writer = it.writer(&[]).await?;
        writer.wait_ready().await?;
        writer.terminate().await?;
        it.feed(events, times).await?;
        Ok(it)
    }

    /// A writer with default settings, save for some.
    async fn writer(&self, settings: &[(&str, &str)]) -> Result<Service> {
        let builder = self
            .environment
            .writer()
            .variable("TAPEDECK_TOPIC_PARTITIONS", PARTITIONS)
            .variable("TAPEDECK_BATCH_AGE_MS", BATCH_AGE_MS)
            .variables(settings.iter().copied());
        builder.start().await
    }

    /// Takes Postgres away in the middle of a writer's work, and sees its batches fill.
    async fn fill(&self, writer: &Service) -> Result<()> {
        has_at_least(writer, "tapedeck_writer_events_written_total", 1.0).await?;
        self.postgres.freeze()?;
        has_at_least(writer, "tapedeck_writer_events_in_flight", HELD_EVENTS).await?;
        let high_water = writer.process().memory_high_water_bytes()? / MB;
        println!("the batches are full, {high_water} MB resident, and Postgres away");
        Ok(())
    }

    /// Feeds events of recorded sessions, in records of many users and replays.
    async fn feed(&self, events: usize, times: usize) -> Result<()> {
        let mut left = events.div_ceil(RECORD_EVENTS);
        let mut recorded = self.recorded.iter().cycle();
        let (begun, mut bytes) = (Instant::now(), 0);
        while left > 0 {
            let records: Vec<Record> = (0..left.min(CHUNK_RECORDS))
                .map(|_| {
                    let events: Vec<(&str, &str)> = recorded
                        .by_ref()
                        .take(RECORD_EVENTS)
                        .map(|(event_type, data)| (event_type.as_str(), data.as_str()))
                        .collect();
                    Session::new().batch(0, &events)
                })
                .collect();
            left -= records.len();
            bytes += records.iter().flat_map(|it| &it.value).map(Vec::len).sum::<usize>();
            for _ in 0..times {
                feed(&self.environment, &records).await?;
            }
        }
        let (sent, megabytes) = (events * times, bytes * times / 1_000_000);
        println!("{sent} events ({megabytes} MB) fed in {:?}", begun.elapsed());
        Ok(())
    }
}

async fn has_at_least(writer: &Service, name: &str, least: f64) -> Result<()> {
    writer.wait_for_metric(name, &[], PATIENCE, |it| it >= least).await.map(drop)
}

#[tokio::test]
async fn a_backlog_beyond_all_buffers_does_not_grow_the_writer() -> Result<()> {
    let backlog = Backlog::of(BEYOND_ALL_BUFFERS, 1).await?;
    let writer = backlog.writer(&[]).await?;
    stays_small_and_live(&writer, LIMIT_BYTES, async {
        backlog.fill(&writer).await?;
        backlog.postgres.thaw()?;
        let most = BEYOND_ALL_BUFFERS as f64 / 2.0;
        has_at_least(&writer, "tapedeck_writer_events_written_total", most).await
    })
    .await
}

#[tokio::test]
#[ignore = "takes two minutes; test.sh --full"]
async fn five_million_lagging_events_do_not_grow_the_writer() -> Result<()> {
    const EVENTS: usize = 500_000;
    const TIMES: usize = 10;
    let backlog = Backlog::of(EVENTS, TIMES).await?;
    let writer = backlog.writer(&[]).await?;
    stays_small_and_live(&writer, LIMIT_BYTES, async {
        backlog.fill(&writer).await?;
        backlog.postgres.thaw()?;
        let begun = Instant::now();
        let half = (EVENTS * TIMES / 2) as f64;
        has_at_least(&writer, "tapedeck_writer_events_consumed_total", half).await?;
        println!("half of them consumed in {:?}", begun.elapsed());
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "takes half an hour; test.sh --full"]
async fn an_hour_without_postgres_does_not_grow_the_writer() -> Result<()> {
    /// Of two lanes. With the default settings each takes at least seven seconds: five to connect,
    /// and a pause of two to four.
    const ATTEMPTS_OF_AN_HOUR: f64 = 2.0 * 3_600.0 / 7.0;
    let backlog = Backlog::of(BEYOND_ALL_BUFFERS, 1).await?;
    let writer = backlog.writer(&IMPATIENT).await?;
    stays_small_and_live(&writer, LIMIT_BYTES, async {
        backlog.fill(&writer).await?;
        let begun = Instant::now();
        has_at_least(&writer, "tapedeck_writer_retries_total", ATTEMPTS_OF_AN_HOUR).await?;
        println!("{ATTEMPTS_OF_AN_HOUR} attempts in {:?}", begun.elapsed());
        ensure!(writer.readiness().await?.is_err(), "ready without Postgres");
        backlog.postgres.thaw()?;
        let all = BEYOND_ALL_BUFFERS as f64;
        has_at_least(&writer, "tapedeck_writer_events_written_total", all).await
    })
    .await
}
