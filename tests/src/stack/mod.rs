//! The one way to start, stop and kill Kafka, Postgres and the services on this machine.
//!
//! A [`Stack`] is a Kafka and a Postgres in a temporary folder. An [`Environment`] is room for one
//! Tapedeck in it: a database, a topic prefix, a consumer group and a key of its own; so tests
//! share the servers and run in parallel without seeing each other. From an environment come the
//! services and their one-off commands:
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use tests::stack::{Environment, Program, Stack};
//!
//! let environment = Environment::new(Stack::shared().await?).await?;
//! let gateway = environment.gateway().start().await?;
//! let writer = environment.writer().variable("TAPEDECK_LANES", "2").start().await?;
//! writer.wait_ready().await?;
//! let batches = format!("{}/v1/batches", gateway.url());
//! let written = writer.metrics().await?.sum("tapedeck_writer_events_written_total", &[]);
//! writer.kill()?;
//! let report = environment.command(Program::Reporter).arguments(["show"]).run().await?;
//! # Ok(())
//! # }
//! ```
//!
//! A [`Tapedeck`] is all of it with one of each service, as the demo and `stack up` run it; the
//! [`supervisor`] keeps one running in the background, and its [`Addresses`] are what others need
//! to use it.
//!
//! Nothing outlives the process that started it, whatever ends that one: the kernel kills the
//! children with it ([`launch`]), and the folder's remover sees its end ([`folder`]).

pub mod addresses;
pub mod certificates;
pub mod cluster;
pub mod command;
pub mod environment;
pub mod folder;
mod groups;
pub mod kafka;
pub mod launch;
pub mod metrics;
pub mod otlp;
pub mod paths;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod records;
pub mod replicated;
pub mod roles;
pub mod secure_kafka;
pub mod service;
pub mod small_disk;
pub mod supervisor;
pub mod tapedeck;
pub mod toxiproxy;
pub mod tuning;
mod wait;
pub mod wrong_clock;

use anyhow::Result;
use tokio::sync::OnceCell;

pub use addresses::Addresses;
pub use command::CommandOutput;
pub use environment::Environment;
pub use folder::Folder;
pub use kafka::Kafka;
pub use metrics::Metrics;
pub use postgres::Postgres;
pub use prometheus::Prometheus;
pub use roles::Role;
pub use secure_kafka::SecureKafka;
pub use service::{Program, Service};
pub use tapedeck::Tapedeck;
pub use tuning::Tuning;
pub use wait::eventually;

/// Ports that somebody wants; any free one where there is none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ports {
    /// Kafka's.
    pub kafka: Option<u16>,
    /// Postgres'.
    pub postgres: Option<u16>,
}

/// A Kafka, a Postgres, and the folder that holds all of their data.
///
/// Dropping it kills both and removes the folder.
#[derive(Debug)]
pub struct Stack {
    // In the order in which they go.
    postgres: Postgres,
    kafka: Kafka,
    folder: Folder,
}

impl Stack {
    /// Starts both and waits until they answer.
    ///
    /// # Errors
    /// When either does not come up.
    pub async fn start(ports: Ports, tuning: Tuning) -> Result<Self> {
        let folder = Folder::create()?;
        let (kafka, postgres) = tokio::try_join!(
            Kafka::start(folder.path(), ports.kafka, tuning),
            Postgres::start(folder.path(), ports.postgres, tuning),
        )?;
        Ok(Self { postgres, kafka, folder })
    }

    /// The stack that all tests of this process share. Nobody stops it; it goes with the process.
    ///
    /// # Errors
    /// When it does not come up; the next caller tries again.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Stack> = OnceCell::const_new();
        SHARED.get_or_try_init(|| Self::start(Ports::default(), Tuning::Tests)).await
    }

    /// The broker.
    pub fn kafka(&self) -> &Kafka {
        &self.kafka
    }

    /// The database server.
    pub fn postgres(&self) -> &Postgres {
        &self.postgres
    }

    /// The folder of everything that belongs to the stack.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// A broker of one's own, to stop, kill or freeze without harm to others.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn private_kafka(&self) -> Result<Kafka> {
        Kafka::start(self.folder.path(), None, Tuning::Tests).await
    }

    /// A broker of one's own that asks who its clients are and permits each what it is told to.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn secure_kafka(&self) -> Result<SecureKafka> {
        SecureKafka::start(self.folder.path()).await
    }

    /// A database server of one's own, to stop, kill or freeze without harm to others.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn private_postgres(&self) -> Result<Postgres> {
        Postgres::start(self.folder.path(), None, Tuning::Tests).await
    }

    /// Stops Postgres, then Kafka, in good order, and removes the folder.
    ///
    /// # Errors
    /// When one does not end in time; it is killed then.
    pub async fn stop(self) -> Result<()> {
        let postgres = self.postgres.stop().await;
        let kafka = self.kafka.stop().await;
        postgres.and(kafka)
    }
}
