//! One permission missing at a time: it is named, waited out, and nothing is lost or taken for
//! poison.

use anyhow::{Result, ensure};
use tests::stack::secure_kafka::{Listener, User};
use tests::stack::{Environment, SecureKafka, Service, Stack, eventually};

use super::{PATIENCE, permitted, with_a_page};
use crate::gateway::support::{Gateway, envelope};
use crate::writer::support::{Session, events_record, feed, figure, reaches, wait_stored};

async fn started(kafka: &SecureKafka, environment: &Environment, user: User) -> Result<Service> {
    let settings = kafka.settings(environment.folder(), user, Listener::SaslSsl)?;
    let builder = if user == User::Gateway { environment.gateway() } else { environment.writer() };
    builder.variables(settings).start().await
}

/// Waits until the probe says what is missing; it has to stand in the log too.
async fn wait_told(service: &Service, lacking: &str) -> Result<()> {
    eventually(lacking, PATIENCE, async || match service.readiness().await {
        Ok(Err(reason)) if reason.contains(lacking) => Ok(()),
        other => Err(format!("{other:?}\n{}", service.log())),
    })
    .await?;
    ensure!(service.log().contains(lacking), "not in the log: {lacking}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_refuses_what_it_may_not_write_until_it_may() -> Result<()> {
    let kafka = Stack::shared().await?.secure_kafka().await?;
    let environment = permitted(&kafka).await?;
    let pages = environment.topic("replay-webstates");
    let letters = environment.topic("replay-dead-letters");
    let write = |topic| (User::Gateway, "Write", ["--topic", topic]);
    let describe = (User::Gateway, "DescribeConfigs", ["--topic", &*letters]);
    let forbid = async |(user, operation, on)| kafka.forbid(user, operation, on).await;
    let allow = async |(user, operation, on)| kafka.allow(user, operation, on).await;

    forbid(describe).await?;
    let settings = kafka.settings(environment.folder(), User::Gateway, Listener::SaslSsl)?;
    let settings: Vec<_> = settings.iter().map(|(name, value)| (&**name, &**value)).collect();
    let gateway = Gateway::start_in(environment, &settings).await?;
    wait_told(&gateway.service, &format!("allow this user DescribeConfigs on topic {letters}"))
        .await?;
    allow(describe).await?;
    gateway.service.wait_ready().await?;
    ensure!(gateway.send(&with_a_page()).await?.status == 200);

    forbid(write(&*pages)).await?;
    eventually("pages are refused", PATIENCE, async || match gateway.send(&with_a_page()).await {
        Ok(answer) if answer.status == 503 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    let lacking = format!("allow this user Write on topic {pages}");
    gateway.service.wait_logged(&lacking, PATIENCE).await?;
    ensure!(gateway.send(&envelope(1)).await?.status == 200, "events are another topic");
    let refused = gateway.service.log().matches(&lacking).count();
    for _ in 0..20 {
        ensure!(gateway.send(&with_a_page()).await?.status == 503);
    }
    ensure!(gateway.service.log().matches(&lacking).count() <= refused + 1, "the log is flooded");

    // Without any topic to write to, the cluster itself refuses the producer.
    let events = gateway.environment.topic("replay-events");
    forbid(write(&*events)).await?;
    gateway.service.kill()?;
    let gateway = Gateway::start_in(gateway.environment, &settings).await?;
    gateway.service.wait_ready().await?;
    ensure!(gateway.send(&envelope(1)).await?.status == 503);
    gateway.service.wait_logged("allow this user Write on topic", PATIENCE).await?;
    allow(write(&*events)).await?;
    allow(write(&*pages)).await?;
    eventually("everything is taken", PATIENCE, async || match gateway.send(&with_a_page()).await {
        Ok(answer) if answer.status == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_waits_for_what_it_may_not_do_and_then_goes_on() -> Result<()> {
    let kafka = Stack::shared().await?.secure_kafka().await?;
    let environment = permitted(&kafka).await?;
    let sql = environment.sql().await?;
    let events = environment.topic("replay-events");
    let letters = environment.topic("replay-dead-letters");
    let group = environment.consumer_group().to_owned();
    let feed_one = async || {
        let session = Session::new();
        feed(&environment, &[session.batch(0, &[("click", "1")])]).await?;
        anyhow::Ok(session)
    };

    let bury = ["--topic", &*letters];
    kafka.forbid(User::Writer, "Write", bury).await?;
    let writer = started(&kafka, &environment, User::Writer).await?;
    writer.wait_ready().await?;
    wait_stored(&sql, &feed_one().await?, 1).await?;
    feed(&environment, &[events_record("key", "not JSON")]).await?;
    wait_told(
        &writer,
        &format!(
            "dead letters: Kafka does not permit it: allow this user Write on topic {letters}"
        ),
    )
    .await?;
    let waiting = feed_one().await?;
    kafka.allow(User::Writer, "Write", bury).await?;
    wait_stored(&sql, &waiting, 1).await?;
    writer.wait_ready().await?;
    environment.wait_committed(PATIENCE).await?;
    ensure!(environment.records().read_all(&letters).await?.len() == 1, "buried once");

    let read = ["--topic", &*events];
    kafka.forbid(User::Writer, "Read", read).await?;
    wait_told(&writer, &format!("allow this user Read on topic {events}")).await?;
    let waiting = feed_one().await?;
    kafka.allow(User::Writer, "Read", read).await?;
    wait_stored(&sql, &waiting, 1).await?;
    writer.wait_ready().await?;

    let join = ["--group", &*group];
    kafka.forbid(User::Writer, "Read", join).await?;
    wait_stored(&sql, &feed_one().await?, 1).await?;
    wait_told(&writer, &format!("allow this user Read on group {group}")).await?;
    kafka.allow(User::Writer, "Read", join).await?;
    environment.wait_committed(PATIENCE).await?;
    writer.wait_ready().await?;

    ensure!(writer.terminate().await?.success(), "{}", writer.log());
    kafka.forbid(User::Writer, "Read", join).await?;
    let writer = started(&kafka, &environment, User::Writer).await?;
    wait_told(&writer, &format!("allow this user Read on group {group}")).await?;
    kafka.allow(User::Writer, "Read", join).await?;
    wait_stored(&sql, &feed_one().await?, 1).await?;
    writer.wait_ready().await?;
    ensure!(figure(&writer, "tapedeck_writer_records_dead_lettered_total", &[]).await? == 0.0);
    reaches(&writer, "tapedeck_writer_events_in_flight", |count| count == 0.0).await
}
