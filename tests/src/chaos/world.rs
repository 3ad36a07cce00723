//! Everything that a fault run runs: three brokers, Postgres and its standby, the services, and
//! the connections between them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::Mutex;

use super::kind::{self, GATEWAYS, WRITERS};
use super::links::Links;
use super::roster::Roster;
use crate::ledger::REFUSE_UNWRITABLE;
use crate::stack::cluster::Cluster;
use crate::stack::replicated::{ReplicatedPostgres, TABLE_SPACE};
use crate::stack::service::{Service, ServiceBuilder};
use crate::stack::toxiproxy::Toxiproxy;
use crate::stack::{Environment, Folder, eventually, postgres};

/// The database's name.
const DATABASE: &str = "tapedeck";

/// MiB of the disk that can be filled up: room for the tables of a few million events.
const DISK_MIB: u32 = 4_096;

/// How long new replicas may take to be in sync at the start.
const SYNC_WITHIN: Duration = Duration::from_secs(60);

/// The writers' statement time-out: short, as waiting for it is part of some faults.
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);

/// What the services of a fault run are told besides where things are. Time-outs are shorter than
/// the defaults, so that in a few seconds each of them has its turn.
const GATEWAY_SETTINGS: [(&str, &str); 1] = [("TAPEDECK_DELIVERY_TIMEOUT_SECONDS", "8")];
const WRITER_SETTINGS: [(&str, &str); 7] = [
    ("TAPEDECK_DATABASE_STATEMENT_TIMEOUT_MS", "5000"),
    ("TAPEDECK_DATABASE_LOCK_TIMEOUT_MS", "3000"),
    ("TAPEDECK_DATABASE_IDLE_TIMEOUT_MS", "5000"),
    ("TAPEDECK_DATABASE_DEAD_PEER_TIMEOUT_MS", "6000"),
    ("TAPEDECK_TRANSACTION_TIMEOUT_MS", "15000"),
    ("TAPEDECK_REVOKE_TIMEOUT_MS", "10000"),
    ("TAPEDECK_MAX_POLL_INTERVAL_MS", "30000"),
];
const TOPIC_SETTINGS: [(&str, &str); 2] =
    [("TAPEDECK_TOPIC_REPLICATION", "3"), ("TAPEDECK_TOPIC_MIN_INSYNC_REPLICAS", "2")];
/// Partitions of each topic.
const TOPIC_PARTITIONS: usize = 6;
/// Partitions that the writers share: those of the events and those of the page states.
const SHARED_PARTITIONS: usize = 2 * TOPIC_PARTITIONS;
const REPORTER_SETTINGS: [(&str, &str); 2] = [
    ("TAPEDECK_DATABASE_STATEMENT_TIMEOUT_MS", "5000"),
    ("TAPEDECK_DATABASE_DEAD_PEER_TIMEOUT_MS", "6000"),
];

/// All parts of a fault run. Dropping it ends them.
#[derive(Debug)]
pub(super) struct World {
    // In the order in which they go.
    /// The services that run now.
    pub(super) roster: Roster,
    /// Settings, records, questions.
    pub(super) environment: Environment,
    /// The brokers.
    pub(super) cluster: Cluster,
    /// The database servers.
    pub(super) postgres: Mutex<ReplicatedPostgres>,
    /// The connections.
    pub(super) links: Links,
    /// A writer of the previous build, if there is one.
    pub(super) previous_writer: Option<PathBuf>,
    gateway_addresses: [std::net::SocketAddr; GATEWAYS],
    writers_database_url: String,
    reporters_database_url: String,
    _toxiproxy: Toxiproxy,
    _folder: Folder,
}

impl World {
    /// Starts everything and waits until it is ready. With `full_disk` the tables lie on a disk
    /// that can be filled up, which only root can make.
    ///
    /// # Errors
    /// When a part does not come up.
    pub(super) async fn start(
        full_disk: bool,
        previous_writer: Option<PathBuf>,
    ) -> Result<Arc<Self>> {
        let folder = Folder::create()?;
        let toxiproxy = Toxiproxy::start(folder.path()).await?;
        let (links, listeners, gateway_addresses) = Links::new(&toxiproxy).await?;
        let disk_mib = full_disk.then_some(DISK_MIB);
        let (cluster, mut postgres) = tokio::try_join!(
            Cluster::start(folder.path(), &listeners),
            ReplicatedPostgres::start(folder.path(), disk_mib),
        )?;
        let primary = postgres.primary().postgres();
        let direct = primary.create_database(DATABASE).await?;
        if full_disk {
            let lie_there =
                format!("ALTER DATABASE {DATABASE} SET default_tablespace = {TABLE_SPACE}");
            primary.sql().await?.batch_execute(&lie_there).await?;
        }
        links.lead_to_postgres(&primary.address()).await?;
        let url_by = |proxy: &crate::stack::toxiproxy::Proxy| {
            primary.url_by(&proxy.address().to_string(), DATABASE)
        };
        let writers_database_url = url_by(&links.writers_postgres);
        let reporters_database_url = url_by(&links.reporters_postgres);
        let questions = url_by(&links.questions_postgres);
        let environment = Environment::at(&folder, cluster.brokers(), questions).await?;
        postgres::connect(&direct).await?.batch_execute(REFUSE_UNWRITABLE).await?;
        postgres.add_standby().await?;
        let world = Arc::new(Self {
            roster: Roster::default(),
            environment,
            cluster,
            postgres: Mutex::new(postgres),
            links,
            previous_writer,
            gateway_addresses,
            writers_database_url,
            reporters_database_url,
            _toxiproxy: toxiproxy,
            _folder: folder,
        });
        // The first creates the topics.
        world.start_writer(0).await?.wait_ready().await?;
        for number in 1..WRITERS {
            world.start_writer(number).await?;
        }
        for number in 0..GATEWAYS {
            world.start_gateway(number, &[]).await?;
        }
        world.start_reporter().await?;
        for (name, service) in world.roster.all() {
            service.wait_ready().await.with_context(|| name)?;
        }
        world.cluster.wait_in_sync(SYNC_WITHIN).await?;
        Ok(world)
    }

    /// Where recorders find the gateways.
    pub(super) fn gateway_urls(&self) -> Vec<String> {
        self.links.gateways.iter().map(|proxy| format!("http://{}", proxy.address())).collect()
    }

    /// Starts gateway `number` (from 0), with a few settings more.
    ///
    /// # Errors
    /// When it does not come up.
    pub(super) async fn start_gateway(
        &self,
        number: usize,
        settings: &[(&str, String)],
    ) -> Result<Arc<Service>> {
        let builder = self
            .environment
            .gateway()
            .variable("TAPEDECK_LISTEN", self.gateway_addresses[number].to_string())
            .variable("TAPEDECK_KAFKA_BROKERS", self.links.brokers_for_gateways());
        let builder = with_topic_settings(with(builder, &GATEWAY_SETTINGS));
        let builder = settings
            .iter()
            .fold(builder, |builder, (name, value)| builder.variable(name, value.clone()));
        self.roster.start(&gateway(number), builder).await
    }

    /// Starts writer `number` (from 0).
    ///
    /// # Errors
    /// When it does not come up.
    pub(super) async fn start_writer(&self, number: usize) -> Result<Arc<Service>> {
        self.roster.start(&writer(number), self.writer()).await
    }

    /// Starts gateway or writer `number` (from 0) as it stands in the run.
    ///
    /// # Errors
    /// When it does not come up.
    pub(super) async fn start_standing(
        &self,
        service: kind::Service,
        number: usize,
    ) -> Result<Arc<Service>> {
        match service {
            kind::Service::Gateway => self.start_gateway(number, &[]).await,
            kind::Service::Writer => self.start_writer(number).await,
        }
    }

    /// A writer to start, under a name of one's own.
    pub(super) fn writer(&self) -> ServiceBuilder<'_> {
        let builder = self
            .environment
            .writer()
            .variable("TAPEDECK_KAFKA_BROKERS", self.links.brokers_for_writers())
            .variable("TAPEDECK_DATABASE_URL", self.writers_database_url.clone());
        with_topic_settings(with(builder, &WRITER_SETTINGS))
    }

    /// Waits until the standing writers have all partitions between them.
    ///
    /// # Errors
    /// When they have not within `within`, or one cannot be asked.
    pub(super) async fn wait_all_partitions_assigned(&self, within: Duration) -> Result<()> {
        eventually("the standing writers have all partitions", within, async || {
            let mut assigned = 0.0;
            for number in 0..WRITERS {
                let metrics = self.roster.get(&writer(number))?.metrics().await?;
                assigned += metrics.sum("tapedeck_writer_partitions_assigned", &[]).unwrap_or(0.0);
            }
            anyhow::ensure!(assigned as usize == SHARED_PARTITIONS, "they have {assigned}");
            Ok(())
        })
        .await
    }

    /// Starts the reporter.
    ///
    /// # Errors
    /// When it does not come up.
    pub(super) async fn start_reporter(&self) -> Result<Arc<Service>> {
        let builder = self
            .environment
            .reporter()
            .variable("TAPEDECK_DATABASE_URL", self.reporters_database_url.clone());
        self.roster.start("reporter", with(builder, &REPORTER_SETTINGS)).await
    }
}

/// What gateway or writer `number` is called.
pub(super) fn name(service: kind::Service, number: usize) -> String {
    match service {
        kind::Service::Gateway => gateway(number),
        kind::Service::Writer => writer(number),
    }
}

/// What gateway `number` is called.
pub(super) fn gateway(number: usize) -> String {
    format!("gateway-{}", number + 1)
}

/// What writer `number` is called.
pub(super) fn writer(number: usize) -> String {
    format!("writer-{}", number + 1)
}

fn with_topic_settings(builder: ServiceBuilder<'_>) -> ServiceBuilder<'_> {
    with(builder, &TOPIC_SETTINGS)
        .variable("TAPEDECK_TOPIC_PARTITIONS", TOPIC_PARTITIONS.to_string())
}

fn with<'a>(builder: ServiceBuilder<'a>, settings: &[(&str, &str)]) -> ServiceBuilder<'a> {
    settings.iter().fold(builder, |builder, (name, value)| builder.variable(name, *value))
}
