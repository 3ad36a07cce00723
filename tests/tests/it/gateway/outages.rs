//! Kafka away: 503 in time, nothing acknowledged that isn't there, and recovery by itself.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::Result;
use common::record::events::EventsRecord;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::Value;
use tests::stack::{Environment, Stack, eventually};

use super::support::{Answer, DEADLINE, Gateway, envelope, envelope_with};

/// Short, for the test's sake.
const DELIVERY_TIMEOUT: [(&str, &str); 1] = [("TAPEDECK_DELIVERY_TIMEOUT_SECONDS", "3")];

/// The delivery time-out, and what a busy machine may add.
const REFUSED_WITHIN: Duration = Duration::from_secs(10);

/// Sends a batch; remembers its replay if it was acknowledged.
async fn send(gateway: &Gateway, acknowledged: &mut HashSet<String>) -> Result<Answer> {
    let batch = envelope(5);
    let answer = gateway.send(&batch).await?;
    if answer.status == 200 {
        acknowledged.extend(batch["replay"]["replay_id"].as_str().map(str::to_owned));
    }
    Ok(answer)
}

fn is_unreachable(answer: &Answer) -> bool {
    answer.status == 503 && answer.body["type"] == "/problems/kafka-unreachable"
}

#[tokio::test(flavor = "multi_thread")]
async fn while_kafka_is_away_batches_are_refused_and_afterwards_taken() -> Result<()> {
    let stack = Stack::shared().await?;
    let mut kafka = stack.private_kafka().await?;
    let environment = Environment::on(stack.folder(), &kafka, stack.postgres()).await?;
    let gateway = Gateway::start_in(environment, &DELIVERY_TIMEOUT).await?;
    gateway.service.wait_ready().await?;
    let mut acknowledged = HashSet::new();
    assert_eq!(send(&gateway, &mut acknowledged).await?.status, 200);

    kafka.kill()?;
    let begun = Instant::now();
    let first = send(&gateway, &mut acknowledged).await?;
    assert!(is_unreachable(&first), "{first:?}");
    assert!(begun.elapsed() < REFUSED_WITHIN, "refused after {:?}", begun.elapsed());
    // Of many at a time one tries, the others are told at once.
    let begun = Instant::now();
    let (batch, mut at_once) = (envelope(1), 0);
    let answers = futures::future::try_join_all((0..50).map(async |_| {
        let answer = gateway.send(&batch).await?;
        Ok::<_, anyhow::Error>((answer, begun.elapsed()))
    }));
    for (answer, elapsed) in answers.await? {
        assert!(is_unreachable(&answer), "{answer:?}");
        at_once += usize::from(elapsed < Duration::from_millis(2_500));
    }
    assert!(at_once >= 45, "{at_once} of 50 were told at once");
    // Recorders do better with an answer than with a refused connection.
    assert_eq!(gateway.service.readiness().await?, Ok(()));

    kafka.restart().await?;
    eventually("batches are taken again", DEADLINE, async || {
        match send(&gateway, &mut acknowledged).await {
            Ok(answer) if answer.status == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let topic = gateway.environment.topic("replay-events");
    let mut stored = HashSet::new();
    for record in gateway.environment.records().read_all(&topic).await? {
        let value = EventsRecord::decode(record.value.as_deref().unwrap())?;
        stored.insert(value.replay.replay_id.to_string());
    }
    assert!(acknowledged.is_subset(&stored), "{acknowledged:?} is not in {stored:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_starts_without_kafka_waits_for_it() -> Result<()> {
    let stack = Stack::shared().await?;
    let mut kafka = stack.private_kafka().await?;
    let environment = Environment::on(stack.folder(), &kafka, stack.postgres()).await?;
    kafka.kill()?;
    let gateway = Gateway::start_in(environment, &DELIVERY_TIMEOUT).await?;
    let answer = gateway.send(&envelope(1)).await?;
    assert!(is_unreachable(&answer), "{answer:?}");
    assert!(gateway.service.readiness().await?.is_err());
    kafka.restart().await?;
    gateway.service.wait_ready().await?;
    assert_eq!(gateway.send(&envelope(1)).await?.status, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_producer_queue_is_503_at_once() -> Result<()> {
    let stack = Stack::shared().await?;
    let kafka = stack.private_kafka().await?;
    let environment = Environment::on(stack.folder(), &kafka, stack.postgres()).await?;
    let settings = [
        ("TAPEDECK_PRODUCER_QUEUE_LIMIT_BYTES", "1048576"),
        ("TAPEDECK_DECOMPRESSED_LIMIT_BYTES", "1048576"),
        ("TAPEDECK_WIRE_LIMIT_BYTES", "1048576"),
    ];
    let gateway = Gateway::start_in(environment, &settings).await?;
    gateway.service.wait_ready().await?;
    kafka.process().freeze()?;
    let batch = envelope_with("/events/0/event_data", "x".repeat(400_000).into());
    // Two fit the queue and wait there for Kafka; the others are told at once.
    let mut answers: FuturesUnordered<_> = (0..5).map(|_| gateway.send(&batch)).collect();
    for _ in 0..3 {
        let answer = answers.next().await.unwrap()?;
        assert_eq!(answer.status, 503, "{answer:?}");
        assert_eq!(answer.body["type"], "/problems/queue-full");
    }
    kafka.process().thaw()?;
    while let Some(answer) = answers.next().await {
        assert_eq!(answer?.status, 200);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_are_not_as_they_must_be_end_the_gateway() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let topic = environment.topic("replay-events");
    environment.records().create_topic(&topic, 1).await?;
    let refused =
        environment.command(tests::stack::Program::Gateway).arguments(["serve"]).run().await?;
    assert_eq!(refused.status.code(), Some(1));
    let told = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap_or_default();
        let error = event["error"].as_str().unwrap_or_default();
        error.contains(&topic) && error.contains("LogAppendTime")
    };
    assert!(refused.stderr.lines().any(told), "{}", refused.stderr);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_are_missing_are_waited_for_a_while() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let gateway = environment.gateway().variable("TAPEDECK_CREATE_TOPICS", "false").start().await?;
    eventually("the gateway says what it waits for", DEADLINE, async || {
        match gateway.readiness().await {
            Ok(Err(reason)) if reason.contains("does not exist") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    // Makes them.
    environment.writer().start().await?.wait_ready().await?;
    gateway.wait_ready().await
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_nobody_makes_end_the_gateway() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let gateway = environment.command(tests::stack::Program::Gateway).arguments(["serve"]);
    let refused = gateway.variable("TAPEDECK_CREATE_TOPICS", "false").run().await?;
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stderr.contains("--create-topics makes it"), "{}", refused.stderr);
    Ok(())
}
