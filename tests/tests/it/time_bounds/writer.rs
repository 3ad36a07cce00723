//! No lane waits for a dead connection beyond its time-out, and once Postgres answers again,
//! events are fresh again.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::stack::{Environment, Postgres, Role, Service, Stack, eventually};
use tokio_postgres::Client;

use super::relay::Relay;
use super::{BUSY, PATIENCE};
use crate::writer::support::{Session, feed, wait_stored};

/// How long a transaction may take, and connecting: short, for the test's sake.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(2);
const SETTINGS: [(&str, &str); 2] =
    [("TAPEDECK_TRANSACTION_TIMEOUT_MS", "2000"), ("TAPEDECK_DATABASE_CONNECT_TIMEOUT_MS", "1000")];

/// How soon after a fault has ended events are fresh again, and what fresh is.
const RECOVERED_WITHIN: Duration = Duration::from_secs(30);
const FRESH: Duration = Duration::from_secs(5);

/// A writer whose way to its Postgres leads through a relay.
struct Fixture {
    postgres: Postgres,
    relay: Relay,
    environment: Environment,
    writer: Service,
    sql: Client,
}

impl Fixture {
    async fn start() -> Result<Self> {
        let stack = Stack::shared().await?;
        let postgres = stack.private_postgres().await?;
        let environment = Environment::on(stack.folder(), stack.kafka(), &postgres).await?;
        let direct = environment.database_url_for(Role::Writer)?;
        let config: tokio_postgres::Config = direct.parse()?;
        let port = *config.get_ports().first().context("no port")?;
        let relay = Relay::to(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
        let relayed =
            direct.replace(&format!(":{port}/"), &format!(":{}/", relay.address().port()));
        ensure!(relayed != direct, "{direct} does not name its port");
        let builder = environment.writer().variable("TAPEDECK_DATABASE_URL", relayed);
        let writer = builder.variables(SETTINGS).start().await?;
        writer.wait_ready().await?;
        let sql = environment.sql().await?;
        let it = Self { postgres, relay, environment, writer, sql };
        it.fresh_events().await?;
        Ok(it)
    }

    /// How long new events take until they are stored.
    async fn fresh_events(&self) -> Result<Duration> {
        let session = Session::new();
        let begun = Instant::now();
        feed(&self.environment, &[session.batch(0, &[("click", "1"); 5])]).await?;
        wait_stored(&self.sql, &session, 5).await?;
        Ok(begun.elapsed())
    }

    /// Feeds events, and sees the lane give its session up in time.
    async fn gives_its_session_up(&self) -> Result<()> {
        let (name, labels) = ("tapedeck_writer_retries_total", [("cause", "session")]);
        let before = self.writer.metrics().await?.sum(name, &labels).context(name)?;
        feed(&self.environment, &[Session::new().batch(0, &[("click", "1"); 5])]).await?;
        let begun = Instant::now();
        self.writer.wait_for_metric(name, &labels, PATIENCE, |it| it > before).await?;
        println!("the session was given up after {:?}", begun.elapsed());
        ensure!(begun.elapsed() < TRANSACTION_TIMEOUT + BUSY, "{:?}", begun.elapsed());
        ensure!(self.writer.readiness().await?.is_err(), "ready without Postgres");
        ensure!(self.writer.liveness().await?.is_ok(), "an outage is no reason for a restart");
        Ok(())
    }

    async fn recovers(&self) -> Result<()> {
        let begun = Instant::now();
        eventually("events are fresh", RECOVERED_WITHIN, async || {
            match self.fresh_events().await {
                Ok(took) if took < FRESH => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        println!("events were fresh again after {:?}", begun.elapsed());
        self.environment.wait_committed(PATIENCE).await
    }
}

#[tokio::test]
async fn a_session_with_a_frozen_postgres_is_given_up_and_events_are_soon_fresh_again() -> Result<()>
{
    let it = Fixture::start().await?;
    it.postgres.freeze()?;
    it.gives_its_session_up().await?;
    it.postgres.thaw()?;
    it.recovers().await
}

#[tokio::test]
async fn a_connection_that_swallows_bytes_is_given_up_and_events_are_soon_fresh_again() -> Result<()>
{
    let it = Fixture::start().await?;
    it.relay.swallow();
    it.gives_its_session_up().await?;
    it.relay.heal();
    it.recovers().await
}
