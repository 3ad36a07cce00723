//! Where reading begins, and that nothing is skipped without a word.

use anyhow::{Context, Result};
use common::event_id;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tests::stack::cluster::{Cluster, Listeners};
use tests::stack::{Environment, Folder, Stack, eventually};
use tokio_postgres::Client;

use super::support::{PATIENCE, Session, feed, reaches, wait_stored};

#[tokio::test]
async fn records_deleted_unread_are_counted_and_reading_goes_on() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let first = environment.writer().start().await?;
    first.wait_ready().await?;
    let session = Session::new();
    feed(&environment, &[session.batch(0, &[("click", "0")])]).await?;
    let sql = environment.sql().await?;
    wait_stored(&sql, &session, 1).await?;
    environment.wait_committed(PATIENCE).await?;
    assert!(first.terminate().await?.success());

    // One replay's records share a partition: three more, of which retention takes two.
    let more = [1, 2, 3].map(|seq| session.batch(seq, &[("click", "0")]));
    feed(&environment, &more).await?;
    let topic = environment.topic("replay-events");
    let partition = environment.records().read_all(&topic).await?[0].partition;
    delete_before(environment.brokers(), &topic, partition, 3).await?;

    let next = environment.writer().start().await?;
    wait_stored(&sql, &session, 2).await?;
    let lost = "tapedeck_writer_records_lost_to_retention_total";
    reaches(&next, lost, |it| it == 2.0).await?;
    assert!(next.log().contains("deleted unread"));
    Ok(())
}

#[tokio::test]
async fn a_position_that_retention_overtakes_is_moved_while_running() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let writer = environment.writer().start().await?;
    writer.wait_ready().await?;
    let session = Session::new();
    feed(&environment, &[session.batch(0, &[("click", "0")])]).await?;
    let sql = environment.sql().await?;
    wait_stored(&sql, &session, 1).await?;
    environment.wait_committed(PATIENCE).await?;

    // Long enough for a fetch that was under way to come back empty.
    writer.freeze()?;
    let topic = environment.topic("replay-events");
    let partition = environment.records().read_all(&topic).await?[0].partition;
    let more = [1, 2, 3].map(|seq| session.batch(seq, &[("click", "0")]));
    // Deleted before the broker has told the frozen writer of any of them.
    delete_before(environment.brokers(), &topic, partition, 1).await?;
    feed(&environment, &more).await?;
    delete_before(environment.brokers(), &topic, partition, 3).await?;
    writer.thaw()?;
    // The newest is there in any case; the two deleted ones are stored or counted as lost.
    wait_stored_newest(&sql, &session).await.with_context(|| writer.log())?;
    let stored = session.stored(&sql).await?.len();
    let lost = "tapedeck_writer_records_lost_to_retention_total";
    #[expect(clippy::cast_precision_loss, reason = "a handful of rows")]
    reaches(&writer, lost, |it| it == 4.0 - stored as f64).await?;
    environment.wait_committed(PATIENCE).await
}

#[tokio::test]
async fn a_partition_without_a_leader_is_consumed_once_it_has_one() -> Result<()> {
    let folder = Folder::create()?;
    let undisturbed = Listeners::between_brokers;
    let listeners = [undisturbed()?, undisturbed()?, undisturbed()?];
    let cluster = Cluster::start(folder.path(), &listeners).await?;
    let database = Stack::shared().await?.postgres().create_database("leaderless").await?;
    let environment = Environment::at(&folder, cluster.brokers(), database).await?;
    // Makes the topics, with one replica of each partition.
    let first = environment.writer().start().await?;
    first.wait_ready().await?;
    assert!(first.terminate().await?.success());
    let session = Session::new();
    feed(&environment, &[session.batch(0, &[("click", "0")])]).await?;
    let topic = environment.topic("replay-events");
    let partition = environment.records().read_all(&topic).await?[0].partition;
    let leader = cluster.leader(&topic, partition).await?.context("no leader")?;

    leader.process().kill()?;
    eventually("the partition has no leader", PATIENCE, async || {
        match cluster.leader(&topic, partition).await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    // A client that the broker's return tells nothing: it does not know of it.
    let brokers = environment.brokers().split(',').zip(cluster.all());
    let others: Vec<_> =
        brokers.filter(|(_, it)| it.id != leader.id).map(|(address, _)| address).collect();
    let next =
        environment.writer().variable("TAPEDECK_KAFKA_BROKERS", others.join(",")).start().await?;
    next.wait_logged("cannot find where it begins", PATIENCE).await?;
    leader.restart().await?;
    wait_stored(&environment.sql().await?, &session, 1).await.with_context(|| next.log())
}

async fn wait_stored_newest(sql: &Client, session: &Session) -> Result<()> {
    let newest = event_id::from_seq(session.replay_id, session.time_of(3), 3);
    eventually("the newest event is stored", PATIENCE, async || match session.stored(sql).await {
        Ok(rows) if rows.iter().any(|(event_id, _)| *event_id == newest) => Ok(()),
        Ok(rows) => Err(format!("{} others", rows.len())),
        Err(error) => Err(format!("{error:#}")),
    })
    .await
}

async fn delete_before(brokers: &str, topic: &str, partition: i32, offset: i64) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(topic, partition, Offset::Offset(offset))?;
    admin.delete_records(&offsets, &AdminOptions::new()).await?;
    Ok(())
}
