//! The writer's end while Postgres or Kafka stand still.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use tests::stack::{Environment, Kafka, Postgres, Role, Service, Stack};

use super::{AT_ONCE, PATIENCE, begin_draining, ends_undrained};
use crate::writer::support::{Session, feed, reaches, wait_stored};

/// A deadline for draining that is short, for the test's sake.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Events that a test feeds before and while something stands still.
const EVENTS: usize = 2_000;

/// A writer with servers of its own, and a session of which half is stored.
struct UnderWay {
    kafka: Kafka,
    postgres: Postgres,
    environment: Environment,
    writer: Service,
    session: Session,
}

impl UnderWay {
    async fn start(settings: &[(&str, &str)]) -> Result<Self> {
        let stack = Stack::shared().await?;
        let (kafka, postgres) = tokio::try_join!(stack.private_kafka(), stack.private_postgres())?;
        let environment = Environment::on(stack.folder(), &kafka, &postgres).await?;
        let writer = environment.writer().variables(settings.iter().copied()).start().await?;
        writer.wait_ready().await?;
        let it = Self { kafka, postgres, environment, writer, session: Session::new() };
        it.feed_half(0).await?;
        wait_stored(&it.environment.sql().await?, &it.session, EVENTS / 2).await?;
        it.environment.wait_committed(PATIENCE).await?;
        Ok(it)
    }

    /// Feeds the first or the second half of the session's events.
    async fn feed_half(&self, half: u64) -> Result<()> {
        let record = |number: u64| self.session.batch(number * 20, &[("scroll", "[1,2,3]"); 20]);
        let records = EVENTS as u64 / 20 / 2;
        let records: Vec<_> = (half * records..(half + 1) * records).map(record).collect();
        feed(&self.environment, &records).await
    }

    /// Freezes Postgres and sees the writer hold all of the second half.
    async fn hold_half(&self) -> Result<()> {
        self.postgres.freeze()?;
        self.feed_half(1).await?;
        let all = EVENTS as f64;
        reaches(&self.writer, "tapedeck_writer_events_consumed_total", |it| it == all).await
    }

    /// A new writer stores what the old one did not, and every event is there once.
    async fn successor_finishes(self) -> Result<()> {
        let next = self.environment.writer().start().await?;
        let sql = self.environment.sql().await?;
        wait_stored(&sql, &self.session, EVENTS).await?;
        self.environment.wait_committed(PATIENCE).await?;
        ensure!(self.session.stored(&sql).await?.len() == EVENTS);
        ensure!(next.terminate().await?.success(), "{}", next.log());
        Ok(())
    }
}

#[tokio::test]
async fn a_second_signal_ends_the_writer_at_once_and_nothing_is_lost() -> Result<()> {
    let it = UnderWay::start(&[]).await?;
    it.hold_half().await?;
    begin_draining(&it.writer).await?;
    ends_undrained(&it.writer, Signal::SIGTERM, AT_ONCE).await?;
    it.postgres.thaw()?;
    it.successor_finishes().await
}

#[tokio::test]
async fn a_passed_deadline_ends_the_writer_while_postgres_is_frozen() -> Result<()> {
    let timeout_ms = DRAIN_TIMEOUT.as_millis().to_string();
    let it = UnderWay::start(&[("TAPEDECK_DRAIN_TIMEOUT_MS", &timeout_ms)]).await?;
    it.hold_half().await?;
    ends_undrained(&it.writer, Signal::SIGTERM, DRAIN_TIMEOUT + AT_ONCE).await?;
    it.postgres.thaw()?;
    it.successor_finishes().await
}

#[tokio::test]
async fn a_passed_deadline_ends_the_writer_while_kafka_is_frozen() -> Result<()> {
    let timeout_ms = DRAIN_TIMEOUT.as_millis().to_string();
    let it = UnderWay::start(&[("TAPEDECK_DRAIN_TIMEOUT_MS", &timeout_ms)]).await?;
    // Held with Postgres away, and written once Kafka cannot take the offsets.
    it.hold_half().await?;
    it.kafka.process().freeze()?;
    it.postgres.thaw()?;
    ends_undrained(&it.writer, Signal::SIGTERM, DRAIN_TIMEOUT + AT_ONCE).await?;
    it.kafka.process().thaw()?;
    it.successor_finishes().await
}

#[tokio::test]
async fn a_deadline_passes_also_while_a_rebalance_waits_for_postgres() -> Result<()> {
    let timeout_ms = DRAIN_TIMEOUT.as_millis().to_string();
    let settings = [("TAPEDECK_DRAIN_TIMEOUT_MS", timeout_ms.as_str()), ("TAPEDECK_LANES", "1")];
    let it = UnderWay::start(&settings).await?;
    it.hold_half().await?;
    // When one joins, the group tells the first to let partitions go, which it does only when it
    // has written what it holds of them. The second's database is another's, as the frozen one
    // would not let it begin.
    let elsewhere = Environment::new(Stack::shared().await?).await?;
    let joining = it.environment.writer();
    let joined = joining
        .variable("TAPEDECK_DATABASE_URL", elsewhere.database_url_for(Role::Writer)?)
        .start()
        .await?;
    it.writer.wait_logged("partitions are to go", PATIENCE).await?;
    joined.kill()?;
    ends_undrained(&it.writer, Signal::SIGTERM, DRAIN_TIMEOUT + AT_ONCE).await?;
    it.postgres.thaw()?;
    it.successor_finishes().await
}

#[tokio::test]
async fn a_writer_that_still_waits_for_its_servers_ends_at_once() -> Result<()> {
    let stack = Stack::shared().await?;
    let (kafka, postgres) = tokio::try_join!(stack.private_kafka(), stack.private_postgres())?;
    let environment = Environment::on(stack.folder(), &kafka, &postgres).await?;
    for frozen in ["Kafka", "Postgres"] {
        match frozen {
            "Kafka" => kafka.process().freeze()?,
            _ => drop(postgres.freeze()?),
        }
        let writer = environment.writer().start().await?;
        let sent = Instant::now();
        let status = writer.process().stop(Signal::SIGTERM, AT_ONCE).await?;
        println!("the writer ended {:?} after SIGTERM without {frozen}: {status}", sent.elapsed());
        ensure!(status.success(), "{status}: {}", writer.log());
        match frozen {
            "Kafka" => kafka.process().thaw()?,
            _ => postgres.thaw()?,
        }
    }
    Ok(())
}
