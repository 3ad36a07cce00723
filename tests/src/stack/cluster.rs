//! Three brokers that replicate: what a fault run stops, freezes and empties one or two at a time.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::json;

use super::kafka::{Files, address, fetch};
use super::ports::free_port;
use super::process::Process;
use super::tuning::Tuning;
use super::wait::eventually;

/// Brokers of the cluster; also the replicas of each partition.
pub const BROKERS: usize = 3;
/// The cluster's min.insync.replicas.
pub const MIN_IN_SYNC: usize = 2;
/// The node that is controller and nothing else: with two of three brokers away there must be
/// someone to notice.
const CONTROLLER: usize = BROKERS + 1;

/// What all nodes have besides what local brokers have anyway. Short time-outs: a fail-over is
/// tried dozens of times.
const PROPERTIES: &str = "\
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2
default.replication.factor=3
broker.session.timeout.ms=5000
broker.heartbeat.interval.ms=500
replica.lag.time.max.ms=5000
replica.socket.timeout.ms=5000
controlled.shutdown.enable=true
";

/// How long a broker may take to stop in good order.
const STOP_WITHIN: Duration = Duration::from_secs(60);
/// With what a Java virtual machine exits after SIGTERM.
const TERMINATED_JVM: i32 = 128 + Signal::SIGTERM as i32;
/// How long one question to the brokers may take.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(5);

/// A way to a broker under a name of its own, so that what comes that way can be disturbed apart
/// from the rest.
#[derive(Clone, Debug)]
pub struct Listener {
    /// `GATEWAY`: capital letters.
    pub name: &'static str,
    /// The port that the broker listens on.
    pub port: u16,
    /// What clients are told to use, `host:port`.
    pub advertised: String,
}

/// Listeners of one broker.
#[derive(Clone, Debug)]
pub struct Listeners {
    /// Used between brokers.
    pub internal: Listener,
    /// Used by clients that find the broker at one of these.
    pub clients: Vec<Listener>,
}

impl Listeners {
    /// No ways for clients but the one for questions, and a direct one between brokers.
    ///
    /// # Errors
    /// When no port is free.
    pub fn between_brokers() -> Result<Self> {
        let port = free_port()?;
        let internal = Listener { name: "INTERNAL", port, advertised: address(port) };
        Ok(Self { internal, clients: Vec::new() })
    }
}

/// One broker of the cluster.
#[derive(Debug)]
pub struct Broker {
    /// From 1 on.
    pub id: usize,
    port: u16,
    files: Files,
    process: Mutex<Arc<Process>>,
}

/// The cluster.
#[derive(Debug)]
pub struct Cluster {
    brokers: Vec<Broker>,
    _controller: Process,
}

impl Cluster {
    /// Starts a cluster with its data below `parent`; `listeners` are those of each broker in turn.
    /// Each has one more, undisturbed, for the tests' own questions.
    ///
    /// # Errors
    /// When Kafka cannot be fetched, or a broker does not come up.
    pub async fn start(parent: &Path, listeners: &[Listeners; BROKERS]) -> Result<Self> {
        let libraries = fetch(parent).await?;
        let files = |id| Files::new(&libraries, parent.join(format!("kafka-{id}")), Tuning::Tests);
        let controller_port = free_port()?;
        let controller = files(CONTROLLER);
        controller.write_properties(&controller_properties(controller_port))?;
        controller.format(&[]).await?;
        // The brokers answer once it does.
        let controller = controller.launch()?;
        let starting = (1..).zip(listeners).map(|(id, listeners)| {
            let files = files(id);
            async move {
                let port = free_port()?;
                files.write_properties(&properties(id, port, controller_port, listeners))?;
                files.format(&[]).await?;
                let process = Mutex::new(Arc::new(files.start(port).await?));
                anyhow::Ok(Broker { id, port, files, process })
            }
        });
        let brokers = futures::future::try_join_all(starting)
            .await
            .with_context(|| format!("Kafka's cluster{}", controller.end_of_log()))?;
        Ok(Self { brokers, _controller: controller })
    }

    /// What clients that nothing disturbs begin with.
    pub fn brokers(&self) -> String {
        let all: Vec<_> = self.brokers.iter().map(|broker| address(broker.port)).collect();
        all.join(",")
    }

    /// All brokers in the order of their ids.
    pub fn all(&self) -> &[Broker] {
        &self.brokers
    }

    /// The broker that leads a partition, if one does.
    ///
    /// # Errors
    /// When no broker answers, or none knows the partition.
    pub async fn leader(&self, topic: &str, number: i32) -> Result<Option<&Broker>> {
        let (partitions, _) = known(self.brokers()).await?;
        let partition = partitions.iter().find(|it| it.topic == topic && it.number == number);
        let leader = partition.context("no such partition")?.leader;
        Ok(self.brokers.iter().find(|it| i32::try_from(it.id) == Ok(leader)))
    }

    /// The broker that coordinates a consumer group that has been there.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn coordinator(&self, group: &str) -> Result<Option<&Broker>> {
        self.leader("__consumer_offsets", offsets_partition(group)).await
    }

    /// Waits until every replica of every partition is in sync.
    ///
    /// # Errors
    /// When one is not within `deadline`.
    pub async fn wait_in_sync(&self, deadline: Duration) -> Result<()> {
        eventually("all replicas are in sync", deadline, async || {
            let partitions = self.partitions().await.map_err(|error| format!("{error:#}"))?;
            let behind = |it: &&Partition| it.in_sync < it.replicas.len();
            match partitions.iter().filter(behind).count() {
                0 => Ok(()),
                behind => Err(format!("{behind} partitions lack a replica")),
            }
        })
        .await
    }

    /// How many partitions have fewer replicas in sync than that, as one of the brokers tells.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn behind_as_told_by(&self, broker: &Broker, in_sync: usize) -> Result<usize> {
        let (partitions, _) = known(address(broker.port)).await?;
        Ok(partitions.iter().filter(|it| it.in_sync < in_sync).count())
    }

    /// Gives every partition another leader; returns how many moved.
    ///
    /// # Errors
    /// When Kafka's tools fail.
    pub async fn move_leaders(&self) -> Result<usize> {
        let before = self.partitions().await?;
        let moves: Vec<_> = before
            .iter()
            .map(|partition| {
                let mut replicas = partition.replicas.clone();
                // The first replica is the preferred leader.
                if let Some(place) = replicas.iter().position(|id| *id == partition.leader) {
                    replicas.rotate_left(place + 1);
                }
                json!({
                    "topic": partition.topic, "partition": partition.number, "replicas": replicas,
                })
            })
            .collect();
        let files = &self.brokers[0].files;
        let plan = files.folder().join("reassignment.json");
        fs::write(&plan, json!({"version": 1, "partitions": moves}).to_string())?;
        let servers = self.brokers();
        let reassign = ["org.apache.kafka.tools.reassign.ReassignPartitionsCommand", "--execute"];
        let elect = ["org.apache.kafka.tools.LeaderElectionCommand", "--all-topic-partitions"];
        let with_servers = ["--bootstrap-server", &servers];
        let options = ["--reassignment-json-file".into(), plan.into_os_string()];
        let strings = |texts: &[&str]| -> Vec<_> { texts.iter().map(Into::into).collect() };
        let arguments = [strings(&reassign), strings(&with_servers), options.into()].concat();
        files.run_tool("kafka-reassign", arguments).await?;
        let kind = ["--election-type", "preferred"];
        let arguments = [strings(&elect), strings(&with_servers), strings(&kind)].concat();
        files.run_tool("kafka-elect", arguments).await?;
        let leaders = |partitions: &[Partition]| -> BTreeMap<(String, i32), i32> {
            let leader = |it: &Partition| ((it.topic.clone(), it.number), it.leader);
            partitions.iter().map(leader).collect()
        };
        let (before, after) = (leaders(&before), leaders(&self.partitions().await?));
        Ok(after.iter().filter(|(key, leader)| before.get(key) != Some(leader)).count())
    }

    /// All partitions, told while no broker is missing.
    async fn partitions(&self) -> Result<Vec<Partition>> {
        let (partitions, brokers) = known(self.brokers()).await?;
        ensure!(brokers == BROKERS, "a broker is missing");
        Ok(partitions)
    }
}

/// Where a group's offsets are: as Kafka does it, by Java's hash of its name.
fn offsets_partition(group: &str) -> i32 {
    /// `offsets.topic.num.partitions` in `deploy/local/kafka/server.properties`.
    const PARTITIONS: i32 = 4;
    let hash = |hash: i32, unit: u16| hash.wrapping_mul(31).wrapping_add(unit.into());
    group.encode_utf16().fold(0, hash).checked_abs().unwrap_or(0) % PARTITIONS
}

/// All partitions, and how many brokers there are, as one of `servers` tells.
async fn known(servers: String) -> Result<(Vec<Partition>, usize)> {
    tokio::task::spawn_blocking(move || {
        let client: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", servers).create()?;
        let metadata = client.fetch_metadata(None, QUESTION_TIMEOUT)?;
        let partitions = metadata.topics().iter().flat_map(|topic| {
            topic.partitions().iter().map(|partition| Partition {
                topic: topic.name().to_owned(),
                number: partition.id(),
                leader: partition.leader(),
                replicas: partition.replicas().to_vec(),
                in_sync: partition.isr().len(),
            })
        });
        Ok((partitions.collect(), metadata.brokers().len()))
    })
    .await?
}

/// A partition as the controller knows it.
struct Partition {
    topic: String,
    number: i32,
    leader: i32,
    replicas: Vec<i32>,
    in_sync: usize,
}

impl Broker {
    /// The process that runs now, or ran last.
    pub fn process(&self) -> Arc<Process> {
        Arc::clone(&self.process.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Stops the broker in good order (its leaders move first) and starts it again.
    ///
    /// # Errors
    /// When it does not end in time, ends in another way, or does not come up again.
    pub async fn stop_and_start(&self) -> Result<()> {
        let status = self.process().stop(Signal::SIGTERM, STOP_WITHIN).await?;
        // A Java virtual machine that has run its shutdown hooks says so in this way.
        let in_good_order = status.success() || status.code() == Some(TERMINATED_JVM);
        ensure!(in_good_order, "broker {} did not stop in good order: {status}", self.id);
        self.restart().await
    }

    /// Starts the broker again after its end, on the same ports and data.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn restart(&self) -> Result<()> {
        self.process().kill()?;
        let process = Arc::new(self.files.start(self.port).await?);
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = process;
        Ok(())
    }

    /// Takes away everything that a broker that has ended had stored, as a new disk would.
    ///
    /// # Errors
    /// When the data cannot be removed or the new folder not be made.
    pub async fn empty_disk(&self) -> Result<()> {
        ensure!(self.process().exit_status()?.is_some(), "broker {} is running", self.id);
        fs::remove_dir_all(self.files.data())?;
        self.files.format(&[]).await
    }
}

fn common_properties(controller_port: u16) -> String {
    let controller = address(controller_port);
    format!(
        "{PROPERTIES}\
         min.insync.replicas={MIN_IN_SYNC}\n\
         controller.quorum.voters={CONTROLLER}@{controller}\n"
    )
}

fn controller_properties(port: u16) -> String {
    format!(
        "{common}\
         process.roles=controller\n\
         node.id={CONTROLLER}\n\
         listeners=CONTROLLER://{listener}\n",
        common = common_properties(port),
        listener = address(port),
    )
}

fn properties(id: usize, port: u16, controller_port: u16, own: &Listeners) -> String {
    let questions = Listener { name: "QUESTIONS", port, advertised: address(port) };
    let all = || own.clients.iter().chain([&own.internal, &questions]);
    let join = |show: &dyn Fn(&Listener) -> String| {
        let shown: Vec<_> = all().map(show).collect();
        shown.join(",")
    };
    let listeners = join(&|it| format!("{}://{}", it.name, address(it.port)));
    let advertised = join(&|it| format!("{}://{}", it.name, it.advertised));
    let protocols = join(&|it| format!("{}:PLAINTEXT", it.name));
    format!(
        "{common}\
         process.roles=broker\n\
         node.id={id}\n\
         listeners={listeners}\n\
         advertised.listeners={advertised}\n\
         listener.security.protocol.map={protocols},CONTROLLER:PLAINTEXT\n\
         inter.broker.listener.name={internal}\n",
        common = common_properties(controller_port),
        internal = own.internal.name,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_groups_offsets_are_where_java_finds_them() {
        fn check(group: &str, expected: i32) {
            assert_eq!(offsets_partition(group), expected, "{group}");
        }
        // In Java, "a".hashCode() is 97, "hello".hashCode() 99162322, and "tapedeck".hashCode()
        // -501100341.
        check("", 0);
        check("a", 1);
        check("hello", 2);
        check("tapedeck", 1);
    }
}
