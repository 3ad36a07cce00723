//! No lane waits for a dead connection to a broker beyond its time-out, and once another broker
//! leads, events are fresh again.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use tests::stack::cluster::{BROKERS, Cluster, Listener, Listeners};
use tests::stack::ports::free_port;
use tests::stack::service::ServiceBuilder;
use tests::stack::{Environment, Folder, Postgres, Service, Stack, eventually};
use tokio_postgres::Client;

use super::BUSY;
use super::relay::Relay;
use crate::writer::support::{Session, feed, reaches, wait_stored};

/// How long the client leaves a request unanswered until it takes the connection for dead; it
/// waits that long for an answer to what it has fetched, and then connects anew.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(10);

/// After this time the cluster takes a broker for dead (`tests/src/stack/cluster.rs`), and so long
/// events may take then until they are fresh.
const BROKER_SESSION_TIMEOUT: Duration = Duration::from_secs(5);
const FAIL_OVER_WITHIN: Duration = Duration::from_secs(15);

/// Replays enough for every broker's partitions to have some.
const REPLAYS: usize = 48;

/// Partitions of each topic: each of two lanes has several of each broker's.
const PARTITIONS: i32 = 12;

const SETTINGS: [(&str, &str); 3] = [
    ("TAPEDECK_TOPIC_REPLICATION", "3"),
    ("TAPEDECK_TOPIC_MIN_INSYNC_REPLICAS", "2"),
    ("TAPEDECK_TOPIC_PARTITIONS", "12"),
];

/// A writer whose way to each of three brokers leads through a relay.
struct Fixture {
    writer: Service,
    environment: Environment,
    relays: Vec<Relay>,
    cluster: Cluster,
    sql: Client,
    _postgres: Postgres,
    _folder: Folder,
}

impl Fixture {
    async fn start() -> Result<Self> {
        let folder = Folder::create()?;
        let mut relays = Vec::new();
        let mut listeners = Vec::new();
        for _ in 0..BROKERS {
            let port = free_port()?;
            let relay = Relay::to(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
            let advertised = relay.address().to_string();
            let relayed = Listener { name: "RELAYED", port, advertised };
            listeners.push(Listeners { clients: vec![relayed], ..Listeners::between_brokers()? });
            relays.push(relay);
        }
        let listeners = listeners.try_into().ok().context("not as many as brokers")?;
        let cluster = Cluster::start(folder.path(), &listeners).await?;
        let postgres = Stack::shared().await?.private_postgres().await?;
        let database = postgres.create_database("fail_over").await?;
        let environment = Environment::at(&folder, cluster.brokers(), database).await?;
        let writer = writer(&environment, &relays).start().await?;
        writer.wait_ready().await?;
        let sql = environment.sql().await?;
        let it = Self {
            writer,
            environment,
            relays,
            cluster,
            sql,
            _postgres: postgres,
            _folder: folder,
        };
        it.fresh_events().await?;
        Ok(it)
    }

    /// How long new events of all partitions take until they are stored.
    async fn fresh_events(&self) -> Result<Duration> {
        let begun = Instant::now();
        let sessions: Vec<_> = (0..REPLAYS).map(|_| Session::new()).collect();
        let records: Vec<_> = sessions.iter().map(|it| it.batch(0, &[("click", "1")])).collect();
        feed(&self.environment, &records).await?;
        try_join_all(sessions.iter().map(|session| wait_stored(&self.sql, session, 1)))
            .await
            .with_context(|| self.writer.log())?;
        Ok(begun.elapsed())
    }
}

/// A writer whose way to the brokers leads through the relays.
fn writer<'a>(environment: &'a Environment, relays: &[Relay]) -> ServiceBuilder<'a> {
    let brokers: Vec<_> = relays.iter().map(|relay| relay.address().to_string()).collect();
    let brokers = brokers.join(",");
    environment.writer().variable("TAPEDECK_KAFKA_BROKERS", brokers).variables(SETTINGS)
}

#[tokio::test]
async fn a_broker_that_does_not_answer_holds_up_no_partitions_but_its_own() -> Result<()> {
    /// To happen on a broker that answers when it looks at the topics.
    const STARTED_WITHIN: Duration = Duration::from_secs(60);
    /// To join, to ask the silent broker for as long as one round may take, and to write.
    const OTHERS_WITHIN: Duration = Duration::from_secs(25);
    let it = Fixture::start().await?;
    ensure!(it.writer.terminate().await?.success(), "{}", it.writer.log());
    let group = it.environment.consumer_group();
    let coordinator = it.cluster.coordinator(group).await?.context("no coordinator")?.id;
    let mut brokers = it.cluster.all().iter().zip(&it.relays);
    let (silent, relay) =
        brokers.find(|(broker, _)| broker.id != coordinator).context("no other")?;
    relay.swallow();
    let next = writer(&it.environment, &it.relays).start().await?;
    next.wait_logged("\"consuming\"", STARTED_WITHIN).await?;
    let begun = Instant::now();
    let topic = it.environment.topic("replay-events");
    let sessions: Vec<_> = (0..REPLAYS).map(|_| Session::new()).collect();
    let records: Vec<_> = sessions.iter().map(|it| it.batch(0, &[("click", "1")])).collect();
    feed(&it.environment, &records).await?;
    let mut held_up = BTreeSet::new();
    for number in 0..PARTITIONS {
        if it.cluster.leader(&topic, number).await?.is_some_and(|it| it.id == silent.id) {
            held_up.insert(number);
        }
    }
    let fed = it.environment.records().read_all(&topic).await?;
    let is_held_up = |session: &&Session| {
        let key = session.replay_id.to_string();
        fed.iter().any(|it| it.key == key.as_bytes() && held_up.contains(&it.partition))
    };
    let (held_up, others): (Vec<_>, Vec<_>) = sessions.iter().partition(is_held_up);
    ensure!(!held_up.is_empty() && !others.is_empty(), "all have one leader");
    try_join_all(others.iter().map(|session| wait_stored(&it.sql, session, 1)))
        .await
        .with_context(|| next.log())?;
    println!("those of others are stored after {:?}", begun.elapsed());
    ensure!(begun.elapsed() < OTHERS_WITHIN, "{:?}\n{}", begun.elapsed(), next.log());
    ensure!(next.liveness().await?.is_ok(), "it is taken for stuck");
    // A lane may be between two rebalances, and have none just then.
    eventually("it tells what it waits for", OTHERS_WITHIN, async || {
        match next.readiness().await.map_err(|error| format!("{error:#}"))? {
            Err(reason) if reason.contains("cannot find where") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let unplaced = "tapedeck_writer_partitions_unplaced";
    reaches(&next, unplaced, |unplaced| unplaced > 0.0).await?;
    for session in &held_up {
        ensure!(session.stored(&it.sql).await?.is_empty(), "it answers");
    }
    relay.heal();
    try_join_all(held_up.iter().map(|session| wait_stored(&it.sql, session, 1))).await?;
    next.wait_ready().await?;
    reaches(&next, unplaced, |unplaced| unplaced == 0.0).await
}

#[tokio::test]
async fn connections_to_brokers_that_swallow_bytes_are_given_up_and_events_are_soon_fresh_again()
-> Result<()> {
    let it = Fixture::start().await?;
    for relay in &it.relays {
        relay.swallow();
        relay.heal();
    }
    let took = it.fresh_events().await?;
    println!("events were fresh again after {took:?}");
    // The connection to the group's coordinator first, and then what is fetched over the others.
    ensure!(took < 2 * SOCKET_TIMEOUT + BUSY, "{took:?}");
    Ok(())
}

#[tokio::test]
async fn events_are_fresh_again_soon_after_the_death_of_a_broker_is_noticed() -> Result<()> {
    let it = Fixture::start().await?;
    let topic = it.environment.topic("replay-events");
    let leader = it.cluster.leader(&topic, 0).await?.context("no leader")?;
    leader.process().kill()?;
    let took = it.fresh_events().await?;
    println!("events were fresh again after {took:?}");
    ensure!(took < BROKER_SESSION_TIMEOUT + FAIL_OVER_WITHIN, "{took:?}");
    Ok(())
}
