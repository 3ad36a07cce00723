//! Room for one Tapedeck in a stack.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio_postgres::Client;

use super::command::CommandBuilder;
use super::kafka::Kafka;
use super::launch::Launch;
use super::paths::Programs;
use super::postgres::{self, Postgres};
use super::records::Records;
use super::roles::Role;
use super::service::{Program, ServiceBuilder};
use super::wait::eventually;
use super::{Folder, Stack};

/// Partitions of each topic: more than one, so that order is nowhere taken for granted.
const PARTITIONS: &str = "3";

/// The name of the key that every environment has.
const KEY_NAME: &str = "local";

/// A database, topics, a consumer group and a key that nobody else uses, and the services that
/// are started with them.
#[derive(Debug)]
pub struct Environment {
    name: String,
    topic_prefix: String,
    folder: PathBuf,
    brokers: String,
    database_url: String,
    key: String,
    programs: Programs,
    /// How many processes have been started, to name their logs.
    processes: AtomicUsize,
}

impl Environment {
    /// An environment in the stack, its database migrated by `writer migrate`.
    ///
    /// # Errors
    /// When the programs have not been built, or one of the steps fails.
    pub async fn new(stack: &Stack) -> Result<Self> {
        Self::on(stack.folder(), stack.kafka(), stack.postgres()).await
    }

    /// The same with other programs: its database is migrated by theirs, and its services are
    /// theirs unless another file is given.
    ///
    /// # Errors
    /// When one of the programs is missing, or one of the steps fails.
    pub async fn with_programs(stack: &Stack, programs: Programs) -> Result<Self> {
        Self::of(programs, stack.folder(), stack.kafka(), stack.postgres()).await
    }

    /// The environment of a stack that has no other: its names are plain, for people.
    ///
    /// # Errors
    /// When the programs have not been built, or one of the steps fails.
    pub async fn sole(stack: &Stack) -> Result<Self> {
        let name = "tapedeck".to_owned();
        let database_url = stack.postgres().create_database(&name).await?;
        let brokers = stack.kafka().brokers();
        let prefix = String::new();
        Self::make(Programs::Built, name, prefix, stack.folder(), brokers, database_url).await
    }

    /// An environment on any broker and database server, with its files below `folder`.
    ///
    /// # Errors
    /// When the programs have not been built, or one of the steps fails.
    pub async fn on(folder: &Folder, kafka: &Kafka, postgres: &Postgres) -> Result<Self> {
        Self::of(Programs::Built, folder, kafka, postgres).await
    }

    async fn of(
        programs: Programs,
        folder: &Folder,
        kafka: &Kafka,
        postgres: &Postgres,
    ) -> Result<Self> {
        let name = format!("tapedeck-{}", uuid::Uuid::new_v4().simple());
        let topic_prefix = format!("{name}.");
        let database_url = postgres.create_database(&name).await?;
        Self::make(programs, name, topic_prefix, folder, kafka.brokers(), database_url).await
    }

    /// An environment with plain names whose brokers and empty database are at the given
    /// addresses.
    ///
    /// # Errors
    /// When the programs have not been built, or one of the steps fails.
    pub async fn at(folder: &Folder, brokers: String, database_url: String) -> Result<Self> {
        let (name, prefix) = ("tapedeck".to_owned(), String::new());
        Self::make(Programs::Built, name, prefix, folder, brokers, database_url).await
    }

    async fn make(
        programs: Programs,
        name: String,
        topic_prefix: String,
        folder: &Folder,
        brokers: String,
        database_url: String,
    ) -> Result<Self> {
        let folder = folder.path().join(&name);
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut environment = Self {
            database_url,
            brokers,
            key: String::new(),
            programs,
            processes: AtomicUsize::new(0),
            folder,
            topic_prefix,
            name,
        };
        environment.migrate()?.run().await?.success()?;
        environment.key = environment.add_key(KEY_NAME).await?;
        Ok(environment)
    }

    /// A gateway to start.
    pub fn gateway(&self) -> ServiceBuilder<'_> {
        ServiceBuilder::new(self, Program::Gateway)
    }

    /// A writer to start; all writers of an environment are in one consumer group.
    pub fn writer(&self) -> ServiceBuilder<'_> {
        ServiceBuilder::new(self, Program::Writer)
    }

    /// A reporter to start.
    pub fn reporter(&self) -> ServiceBuilder<'_> {
        ServiceBuilder::new(self, Program::Reporter)
    }

    /// A one-off command of a program, with the environment's settings.
    pub fn command(&self, program: Program) -> CommandBuilder<'_> {
        CommandBuilder::new(self, program)
    }

    /// `writer migrate`, as the role that owns the tables.
    ///
    /// # Errors
    /// When the database's address is not one of a role.
    pub fn migrate(&self) -> Result<CommandBuilder<'_>> {
        let url = self.database_url_for(Role::Migrate)?;
        let command = self.command(Program::Writer).arguments(["migrate"]);
        Ok(command.variable("TAPEDECK_DATABASE_URL", url))
    }

    /// Makes another key under the given name.
    ///
    /// # Errors
    /// When `ingest-gateway keys add` fails.
    pub async fn add_key(&self, name: &str) -> Result<String> {
        let output = self.command(Program::Gateway).arguments(["keys", "add", name]).run().await?;
        Ok(output.success()?.trim().to_owned())
    }

    /// The key that recorders send.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The file that the gateway reads its keys from.
    pub fn keys_file(&self) -> PathBuf {
        self.folder.join("keys.json")
    }

    /// Where the logs, the key file and whatever a test wants to put there are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Kafka's address.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// What stands before each topic's name.
    pub fn topic_prefix(&self) -> &str {
        &self.topic_prefix
    }

    /// A topic's full name.
    pub fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.topic_prefix)
    }

    /// The writers' consumer group.
    pub fn consumer_group(&self) -> &str {
        &self.name
    }

    /// The database's address, for the superuser.
    pub fn database_url(&self) -> &str {
        &self.database_url
    }

    /// The database's address, for a role.
    ///
    /// # Errors
    /// When it is not that of a role.
    pub fn database_url_for(&self, role: Role) -> Result<String> {
        role.url(&self.database_url)
    }

    /// A connection to the database for the test's own questions, which may do everything.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn sql(&self) -> Result<Client> {
        postgres::connect(&self.database_url).await
    }

    /// The broker's records, to read and to add to.
    pub fn records(&self) -> Records {
        Records::new(&self.brokers)
    }

    /// Waits until the writers have committed whatever is on the topics of events and page states.
    ///
    /// # Errors
    /// When they have not within `deadline`.
    pub async fn wait_committed(&self, deadline: Duration) -> Result<()> {
        let records = self.records();
        for topic in ["replay-events", "replay-webstates"].map(|name| self.topic(name)) {
            eventually("the writers have committed everything", deadline, async || {
                let uncommitted = records.uncommitted(self.consumer_group(), &topic).await?;
                ensure!(
                    uncommitted.is_empty(),
                    "records of {topic} to go, by partition: {uncommitted:?}"
                );
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// A program, from the environment's own file or another, with the environment's settings, of
    /// which `variables` may overrule some.
    pub(super) fn launch(
        &self,
        program: Program,
        file: Option<PathBuf>,
        variables: Vec<(String, String)>,
    ) -> Result<Launch> {
        let name = program.name();
        let file = file.map_or_else(|| self.programs.file(name), Ok)?;
        let number = self.processes.fetch_add(1, Ordering::Relaxed) + 1;
        let log = self.folder.join(format!("{number:03}-{name}.log"));
        let role = match program {
            Program::Gateway => None,
            Program::Writer => Some(Role::Writer),
            Program::Reporter => Some(Role::Reporter),
        };
        let database = role.map(|role| self.database_url_for(role)).transpose()?;
        let database = database.map(|url| ("TAPEDECK_DATABASE_URL", url));
        let settings = self.settings().into_iter().chain(database);
        let settings = settings.map(|(name, value)| (name.to_owned(), value));
        let launch = Launch::new(name, file, log);
        Ok(launch.variables(settings).variables(variables))
    }

    /// The settings that all of the environment's processes get.
    fn settings(&self) -> [(&'static str, String); 11] {
        let any_port = "127.0.0.1:0";
        [
            ("TAPEDECK_LOG_FORMAT", "json".to_owned()),
            ("TAPEDECK_ADMIN_LISTEN", any_port.to_owned()),
            ("TAPEDECK_LISTEN", any_port.to_owned()),
            ("TAPEDECK_KEYS_FILE", self.keys_file().display().to_string()),
            ("TAPEDECK_KAFKA_BROKERS", self.brokers.clone()),
            ("TAPEDECK_TOPIC_PREFIX", self.topic_prefix.clone()),
            ("TAPEDECK_TOPIC_PARTITIONS", PARTITIONS.to_owned()),
            ("TAPEDECK_TOPIC_REPLICATION", "1".to_owned()),
            ("TAPEDECK_TOPIC_MIN_INSYNC_REPLICAS", "1".to_owned()),
            ("TAPEDECK_CREATE_TOPICS", "true".to_owned()),
            ("TAPEDECK_CONSUMER_GROUP", self.name.clone()),
        ]
    }
}
