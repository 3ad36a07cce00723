//! Everything that a fault run runs: three brokers, Postgres and its standby, the services, and
//! the connections between them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::Mutex;

use super::kind::GATEWAYS;
use super::links::Links;
use super::roster::Roster;
use super::standing::Standing;
use crate::ledger::REFUSE_UNWRITABLE;
use crate::stack::cluster::Cluster;
use crate::stack::replicated::{ReplicatedPostgres, TABLE_SPACE};
use crate::stack::service::{Service, ServiceBuilder};
use crate::stack::toxiproxy::Toxiproxy;
use crate::stack::{Environment, Folder, Role, eventually, postgres};

/// Settings by their environment variables.
type Settings = Vec<(&'static str, String)>;

/// The database's name.
const DATABASE: &str = "tapedeck";

/// MiB of the disk that can be filled up: room for the tables of about two million events.
const DISK_MIB: u32 = 6_144;

/// How long new replicas may take to be in sync at the start.
const SYNC_WITHIN: Duration = Duration::from_secs(60);

/// The services' statement time-out: short, as waiting for it is part of some faults.
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Partitions of each topic.
const TOPIC_PARTITIONS: u32 = 6;
/// Partitions that the writers share: those of the events and those of the page states.
const SHARED_PARTITIONS: u32 = 2 * TOPIC_PARTITIONS;

// What the services of a fault run are told besides where things are. Time-outs are shorter than
// the defaults, so that faults of some seconds outlast them.

fn gateway_settings() -> Settings {
    vec![("TAPEDECK_DELIVERY_TIMEOUT_SECONDS", "8".to_owned())]
}

fn writer_settings() -> Settings {
    vec![
        ("TAPEDECK_DATABASE_STATEMENT_TIMEOUT_MS", STATEMENT_TIMEOUT.as_millis().to_string()),
        ("TAPEDECK_DATABASE_LOCK_TIMEOUT_MS", "3000".to_owned()),
        ("TAPEDECK_DATABASE_IDLE_TIMEOUT_MS", "5000".to_owned()),
        ("TAPEDECK_DATABASE_DEAD_PEER_TIMEOUT_MS", "6000".to_owned()),
        ("TAPEDECK_TRANSACTION_TIMEOUT_MS", "12000".to_owned()),
        ("TAPEDECK_REVOKE_TIMEOUT_MS", "10000".to_owned()),
        ("TAPEDECK_DRAIN_TIMEOUT_MS", "15000".to_owned()),
        ("TAPEDECK_MAX_POLL_INTERVAL_MS", "30000".to_owned()),
    ]
}

fn topic_settings() -> Settings {
    vec![
        ("TAPEDECK_TOPIC_REPLICATION", "3".to_owned()),
        ("TAPEDECK_TOPIC_MIN_INSYNC_REPLICAS", "2".to_owned()),
        ("TAPEDECK_TOPIC_PARTITIONS", TOPIC_PARTITIONS.to_string()),
    ]
}

fn reporter_settings() -> Settings {
    vec![
        // So often that its connection always carries something.
        ("TAPEDECK_REPORTER_INTERVAL_SECONDS", "1".to_owned()),
        ("TAPEDECK_DATABASE_STATEMENT_TIMEOUT_MS", STATEMENT_TIMEOUT.as_millis().to_string()),
        ("TAPEDECK_DATABASE_DEAD_PEER_TIMEOUT_MS", "6000".to_owned()),
    ]
}

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
            let lie_there = format!(
                "ALTER DATABASE {DATABASE} SET default_tablespace = {TABLE_SPACE}; \
                 GRANT CREATE ON TABLESPACE {TABLE_SPACE} TO {}",
                Role::Migrate.name()
            );
            primary.sql().await?.batch_execute(&lie_there).await?;
        }
        links.lead_to_postgres(&primary.address()).await?;
        let url_by = |proxy: &crate::stack::toxiproxy::Proxy| {
            primary.url_by(&proxy.address().to_string(), DATABASE)
        };
        let writers_database_url = Role::Writer.url(&url_by(&links.writers_postgres))?;
        let reporters_database_url = Role::Reporter.url(&url_by(&links.reporters_postgres))?;
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
        let first = Standing::Writer(0);
        world.start_standing(first).await?.wait_ready().await?;
        for standing in Standing::all().filter(|standing| *standing != first) {
            world.start_standing(standing).await?;
        }
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

    /// Starts a service as it stands in the run.
    ///
    /// # Errors
    /// When it does not come up.
    pub(super) async fn start_standing(&self, standing: Standing) -> Result<Arc<Service>> {
        let builder = match standing {
            Standing::Gateway(number) => self.gateway(number),
            Standing::Writer(_) => self.writer(),
            Standing::Reporter => self.reporter(),
        };
        self.roster.start(&standing.name(), builder).await
    }

    /// Gateway `number` (from 0) to start.
    pub(super) fn gateway(&self, number: usize) -> ServiceBuilder<'_> {
        self.environment
            .gateway()
            .variable("TAPEDECK_LISTEN", self.gateway_addresses[number].to_string())
            .variable("TAPEDECK_KAFKA_BROKERS", self.links.brokers_for_gateways())
            .variables(gateway_settings())
            .variables(topic_settings())
    }

    /// A writer to start, under a name of one's own.
    pub(super) fn writer(&self) -> ServiceBuilder<'_> {
        self.environment
            .writer()
            .variable("TAPEDECK_KAFKA_BROKERS", self.links.brokers_for_writers())
            .variable("TAPEDECK_DATABASE_URL", self.writers_database_url.clone())
            .variables(writer_settings())
            .variables(topic_settings())
    }

    fn reporter(&self) -> ServiceBuilder<'_> {
        self.environment
            .reporter()
            .variable("TAPEDECK_DATABASE_URL", self.reporters_database_url.clone())
            .variables(reporter_settings())
    }

    /// Waits until the standing writers have all partitions between them.
    ///
    /// # Errors
    /// When they have not within `within`, or one cannot be asked.
    pub(super) async fn wait_all_partitions_assigned(&self, within: Duration) -> Result<()> {
        eventually("the standing writers have all partitions", within, async || {
            let mut assigned = 0.0;
            for writer in Standing::writers() {
                let metrics = self.roster.get(&writer.name())?.metrics().await?;
                assigned += metrics.sum("tapedeck_writer_partitions_assigned", &[]).unwrap_or(0.0);
            }
            anyhow::ensure!(assigned == f64::from(SHARED_PARTITIONS), "they have {assigned}");
            Ok(())
        })
        .await
    }
}
