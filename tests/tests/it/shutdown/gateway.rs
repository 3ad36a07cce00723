//! The gateway's end, under load and where something keeps it from draining.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Result, ensure};
use common::record::events::EventsRecord;
use futures::future::{join_all, try_join_all};
use nix::sys::signal::Signal;
use tests::stack::{Environment, Stack, eventually};

use super::{AT_ONCE, PATIENCE, begin_draining, ends_undrained};
use crate::gateway::support::{Gateway, envelope, read_answer, write};

/// Recorders that send as fast as they are answered.
const RECORDERS: usize = 30;

/// Requests of which half has arrived when the signal comes.
const HALF_SENT: usize = 20;

/// Events of a batch.
const EVENTS: usize = 5;

/// A deadline for draining that is short, for the test's sake, in seconds; and the delivery
/// time-out, which must be shorter.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
const SHORT_DRAIN: [(&str, &str); 2] =
    [("TAPEDECK_DRAIN_TIMEOUT_SECONDS", "2"), ("TAPEDECK_DELIVERY_TIMEOUT_SECONDS", "1")];

/// Sends batches until the gateway is gone; gives the replays that were acknowledged.
async fn send_until_gone(gateway: &Gateway) -> Result<Vec<String>> {
    let mut acknowledged = Vec::new();
    loop {
        let batch = envelope(EVENTS);
        match gateway.send(&batch).await {
            Ok(answer) if answer.status == 200 => {
                acknowledged.extend(batch["replay"]["replay_id"].as_str().map(str::to_owned));
            }
            // Draining, or not confirmed by Kafka: to be sent again, to another gateway.
            Ok(answer) => ensure!(answer.status == 503, "{answer:?}"),
            // Refused, or closed before it was read: nothing has been promised.
            Err(error) if error.is::<reqwest::Error>() => return Ok(acknowledged),
            Err(error) => return Err(error),
        }
    }
}

/// How often each replay's batch is in Kafka.
async fn in_kafka(environment: &Environment) -> Result<BTreeMap<String, usize>> {
    let mut batches = BTreeMap::new();
    for record in environment.records().read_all(&environment.topic("replay-events")).await? {
        let value = record.value.unwrap_or_default();
        let replay = EventsRecord::decode(&value)?.replay.replay_id;
        *batches.entry(replay.to_string()).or_default() += 1;
    }
    Ok(batches)
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_answers_what_is_in_flight_and_every_200_is_in_kafka_once() -> Result<()>
{
    let gateway = Gateway::start(&[]).await?;
    let mut half_sent = Vec::new();
    for _ in 0..HALF_SENT {
        let body = envelope(EVENTS).to_string();
        let mut connection = gateway.connect().await?;
        let (first, rest) = body.split_at(body.len() / 2);
        write(&mut connection, format!("{}{first}", gateway.head(body.len()))).await?;
        half_sent.push((connection, rest.to_owned()));
    }
    let load = try_join_all((0..RECORDERS).map(|_| send_until_gone(&gateway)));
    let stop = async {
        let taken = |events: f64| events > (50 * EVENTS) as f64;
        let metric = "tapedeck_gateway_events_accepted_total";
        gateway.service.wait_for_metric(metric, &[], PATIENCE, taken).await?;
        begin_draining(&gateway.service).await?;
        let finish = half_sent.into_iter().map(async |(mut connection, rest)| {
            write(&mut connection, rest).await?;
            read_answer(&mut connection).await
        });
        for answer in try_join_all(finish).await? {
            ensure!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
        let status = gateway.service.process().wait_for_exit(PATIENCE).await?;
        ensure!(status.success(), "{status}: {}", gateway.service.log());
        Ok(())
    };
    let (acknowledged, ()) = tokio::try_join!(load, stop)?;
    let acknowledged: BTreeSet<String> = acknowledged.into_iter().flatten().collect();
    let stored = in_kafka(&gateway.environment).await?;
    println!("{} batches acknowledged under load, {} in Kafka", acknowledged.len(), stored.len());
    ensure!(acknowledged.len() >= 50);
    for replay in &acknowledged {
        ensure!(stored.get(replay) == Some(&1), "{replay}: {:?}", stored.get(replay));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_the_gateway_at_once_and_a_resend_is_stored_once() -> Result<()> {
    let stack = Stack::shared().await?;
    let kafka = stack.private_kafka().await?;
    let environment = Environment::on(stack.folder(), &kafka, stack.postgres()).await?;
    let gateway = Gateway::start_in(environment, &[]).await?;
    gateway.service.wait_ready().await?;
    let batch = envelope(EVENTS);
    kafka.process().freeze()?;
    let stop = async {
        let waits = |bytes: f64| bytes > 0.0;
        let metric = "tapedeck_gateway_producer_queue_bytes";
        gateway.service.wait_for_metric(metric, &[], PATIENCE, waits).await?;
        begin_draining(&gateway.service).await?;
        ends_undrained(&gateway.service, Signal::SIGTERM, AT_ONCE).await
    };
    let (sent, stopped) = tokio::join!(gateway.send(&batch), stop);
    stopped?;
    // Whether it is in Kafka is open; so the recorder sends it again.
    ensure!(sent.is_err(), "{sent:?}");
    kafka.process().thaw()?;

    let next = Gateway::start_in(gateway.environment, &[]).await?;
    next.service.wait_ready().await?;
    ensure!(next.send(&batch).await?.status == 200);
    let _writer = next.environment.writer().start().await?;
    next.environment.wait_committed(PATIENCE).await?;
    let sql = next.environment.sql().await?;
    eventually("the batch is stored once", PATIENCE, async || {
        let rows = sql.query_one("SELECT count(*) FROM events", &[]).await;
        match rows.map(|row| row.get::<_, i64>(0)) {
            Ok(rows) if usize::try_from(rows) == Ok(EVENTS) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passed_deadline_ends_the_gateway_while_a_client_does_not_read() -> Result<()> {
    let gateway = Gateway::start(&SHORT_DRAIN).await?;
    let _deaf = gateway.deaf_client().await?;
    ends_undrained(&gateway.service, Signal::SIGTERM, DRAIN_TIMEOUT + AT_ONCE).await
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_for_a_frozen_kafka_are_answered_before_the_gateway_ends() -> Result<()>
{
    let stack = Stack::shared().await?;
    let kafka = stack.private_kafka().await?;
    let environment = Environment::on(stack.folder(), &kafka, stack.postgres()).await?;
    let settings = [("TAPEDECK_DELIVERY_TIMEOUT_SECONDS", "2")];
    let gateway = Gateway::start_in(environment, &settings).await?;
    gateway.service.wait_ready().await?;
    kafka.process().freeze()?;
    let stop = async {
        let waits = |bytes: f64| bytes > 0.0;
        let metric = "tapedeck_gateway_producer_queue_bytes";
        gateway.service.wait_for_metric(metric, &[], PATIENCE, waits).await?;
        gateway.service.terminate().await
    };
    let batches: Vec<_> = (0..RECORDERS).map(|_| envelope(EVENTS)).collect();
    let sending = join_all(batches.iter().map(|batch| gateway.send(batch)));
    let (answers, status) = tokio::join!(sending, stop);
    for answer in answers {
        let answer = answer?;
        ensure!(answer.status == 503, "{answer:?}");
    }
    ensure!(status?.success(), "{}", gateway.service.log());
    Ok(())
}
