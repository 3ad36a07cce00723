//! What the log says of an outage: that it began, that it lasts, and that it is over, in few lines
//! however often something was tried.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use serde_json::Value;
use tests::stack::{Environment, Service, Stack, eventually};

use crate::gateway::support::{Gateway, envelope};
use crate::writer::support::{PATIENCE, Session, feed, figure, wait_stored};

/// How often a cause may be logged: short, for the test's sake.
const PERIOD: Duration = Duration::from_secs(2);
const PERIOD_SETTING: (&str, &str) = ("TAPEDECK_LOG_REPEAT_SECONDS", "2");

/// The lines of a service's log with this message, each as an object.
fn lines(service: &Service, message: &str) -> Vec<Value> {
    let log = service.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["message"] == message).collect()
}

/// Waits until a line with this message satisfies `holds`, and gives it.
async fn wait_line(
    service: &Service,
    message: &str,
    holds: impl Fn(&Value) -> bool,
) -> Result<Value> {
    eventually(&format!("a line says {message:?}"), PATIENCE, async || {
        let found = lines(service, message).into_iter().find(|line| holds(line));
        found.ok_or_else(|| service.log())
    })
    .await
}

fn left_out(line: &Value) -> u64 {
    line["left_out"].as_u64().unwrap_or_default()
}

#[tokio::test]
async fn an_outage_of_postgres_is_told_from_its_beginning_to_its_end_in_few_lines() -> Result<()> {
    let stack = Stack::shared().await?;
    let mut postgres = stack.private_postgres().await?;
    let environment = Environment::on(stack.folder(), stack.kafka(), &postgres).await?;
    let settings = [PERIOD_SETTING, ("TAPEDECK_LANES", "1")];
    let writer = environment.writer().variables(settings).start().await?;
    writer.wait_ready().await?;
    let session = Session::new();
    feed(&environment, &[session.batch(0, &[("click", "0")])]).await?;
    wait_stored(&environment.sql().await?, &session, 1).await?;

    let begun = Instant::now();
    postgres.stop_immediately().await?;
    feed(&environment, &[session.batch(10, &[("click", "1")])]).await?;
    // It began; and it lasts, with more failures than lines.
    wait_line(&writer, "retrying", |line| left_out(line) == 0).await?;
    wait_line(&writer, "retrying", |line| left_out(line) > 0).await?;
    let retries = figure(&writer, "tapedeck_writer_retries_total", &[]).await?;
    postgres.restart().await?;
    wait_stored(&environment.sql().await?, &session, 2).await?;
    let over = wait_line(&writer, "writing again", |_| true).await?;

    let told = lines(&writer, "retrying");
    let failures = over["failures"].as_u64().context("how many failures there were")?;
    ensure!(failures as f64 >= retries, "{failures} failures, {retries} retries at least");
    ensure!(over["seconds"].as_f64().is_some_and(|it| it > 0.0), "{over}");
    let causes = told.iter().filter(|line| left_out(line) == 0).count();
    let periods = begun.elapsed().as_secs() / PERIOD.as_secs() + 1;
    ensure!(told.len() as u64 <= causes as u64 * periods, "{told:?}");
    ensure!((told.len() as u64) < failures, "{} lines of {failures} failures", told.len());
    for line in &told {
        ensure!(line["lane"].is_u64() && line["error"].as_str().is_some(), "{line}");
    }
    // Every failure is either a line or counted.
    let uncounted = figure(&writer, "tapedeck_log_errors_left_out_total", &[]).await?;
    ensure!(uncounted + told.len() as f64 >= failures as f64, "{uncounted} left out: {told:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_kafka_is_told_in_few_lines_however_many_requests_are_refused() -> Result<()> {
    /// Requests at a time while Kafka is away, of which one tries, and how many times.
    const REQUESTS: usize = 50;
    const ROUNDS: usize = 3;
    /// What Kafka's client and the gateway may find wrong with one broker: that it is gone, that it
    /// refuses connections, that no other is left.
    const CAUSES: usize = 6;

    let stack = Stack::shared().await?;
    let mut kafka = stack.private_kafka().await?;
    let environment = Environment::on(stack.folder(), &kafka, stack.postgres()).await?;
    let settings =
        [("TAPEDECK_LOG_REPEAT_SECONDS", "3600"), ("TAPEDECK_DELIVERY_TIMEOUT_SECONDS", "1")];
    let gateway = Gateway::start_in(environment, &settings).await?;
    gateway.service.wait_ready().await?;
    ensure!(gateway.send(&envelope(1)).await?.status == 200);
    let loud = || {
        let log = gateway.service.log();
        log.lines().filter(|line| line.contains("\"WARN\"") || line.contains("\"ERROR\"")).count()
    };
    let before = loud();

    kafka.kill()?;
    for _ in 0..ROUNDS {
        let batch = envelope(1);
        for answer in try_join_all((0..REQUESTS).map(|_| gateway.send(&batch))).await? {
            ensure!(answer.status == 503, "{answer:?}");
        }
    }
    // The client tries to reach its broker again and again.
    let left_out = "tapedeck_log_errors_left_out_total";
    gateway.service.wait_for_metric(left_out, &[], PATIENCE, |it| it > 0.0).await?;
    let refused = wait_line(
        &gateway.service,
        "a record is not acknowledged: its recorder is told to send it again",
        |_| true,
    )
    .await?;
    ensure!(refused["error"] == "Kafka did not acknowledge the records in time", "{refused}");
    let client = lines(&gateway.service, "Kafka's client reports an error");
    ensure!(client.iter().all(|line| line["reason"].is_string()), "{client:?}");
    ensure!(!client.is_empty() && loud() - before <= CAUSES, "{}", gateway.service.log());

    kafka.restart().await?;
    eventually("a batch is taken", PATIENCE, async || match gateway.send(&envelope(1)).await {
        Ok(answer) if answer.status == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    wait_line(&gateway.service, "Kafka acknowledges records again", |_| true).await?;
    wait_line(&gateway.service, "Kafka's client has reached its brokers again", |_| true).await?;
    Ok(())
}
