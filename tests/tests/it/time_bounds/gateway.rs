//! No request to a gateway hangs.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use tests::stack::{Environment, Stack};

use super::{BUSY, PATIENCE};
use crate::gateway::support::{Gateway, envelope, read_answer, write};

/// Short, for the test's sake.
const GAP_TIMEOUT: Duration = Duration::from_secs(1);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(3);
const SETTINGS: [(&str, &str); 3] = [
    ("TAPEDECK_REQUEST_GAP_SECONDS", "1"),
    ("TAPEDECK_REQUEST_TIMEOUT_SECONDS", "2"),
    ("TAPEDECK_DELIVERY_TIMEOUT_SECONDS", "3"),
];

/// How much longer than the delivery time-out the gateway waits for the producer to say so.
const REPORT_GRACE: Duration = Duration::from_secs(3);

/// Requests of each kind at a time.
const REQUESTS: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_answered_in_time_while_kafka_is_frozen() -> Result<()> {
    let stack = Stack::shared().await?;
    let kafka = stack.private_kafka().await?;
    let environment = Environment::on(stack.folder(), &kafka, stack.postgres()).await?;
    let gateway = Gateway::start_in(environment, &SETTINGS).await?;
    gateway.service.wait_ready().await?;
    kafka.process().freeze()?;
    let ask = async |complete: bool| {
        let body = envelope(5).to_string();
        let sent = if complete { body.as_str() } else { &body[..body.len() / 2] };
        let begun = Instant::now();
        let mut connection = gateway.connect().await?;
        write(&mut connection, format!("{}{sent}", gateway.head(body.len()))).await?;
        let answer = read_answer(&mut connection).await?;
        // While Kafka is taken to be away, what is still to come of a body is not waited for.
        let known = answer.starts_with("HTTP/1.1 503 ");
        ensure!(known || (!complete && answer.starts_with("HTTP/1.1 408 ")), "{answer}");
        anyhow::Ok(begun.elapsed())
    };
    let asking = (0..2 * REQUESTS).map(|number| ask(number % 2 == 0));
    let slowest = try_join_all(asking).await?.into_iter().max().unwrap_or_default();
    println!("the slowest of {} answers took {slowest:?}", 2 * REQUESTS);
    ensure!(slowest < REQUEST_TIMEOUT + DELIVERY_TIMEOUT + REPORT_GRACE + BUSY, "{slowest:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_loses_its_connection() -> Result<()> {
    let gateway = Gateway::start(&SETTINGS).await?;
    let _deaf = gateway.deaf_client().await?;
    let begun = Instant::now();
    let none = |open: f64| open == 0.0;
    gateway.service.wait_for_metric("tapedeck_gateway_connections", &[], PATIENCE, none).await?;
    let took = begun.elapsed();
    println!("given up after {took:?} more");
    ensure!(took < GAP_TIMEOUT + BUSY, "{took:?}");
    Ok(())
}
