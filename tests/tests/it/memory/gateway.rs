//! The gateway's memory while Kafka is away and every recorder comes back again and again.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use common::time::Timestamp;
use futures::future::try_join_all;
use serde_json::json;
use tests::recordings::{self, Cast, CloneOptions};
use tests::stack::{Environment, Stack};

use super::{MB, stays_small_and_live};
use crate::gateway::support::{Answer, BATCHES, DEADLINE, Gateway, answer, envelope};

/// What the gateway may have resident at any time.
const LIMIT_BYTES: u64 = 200 * MB;

/// Recorders that all have a batch to send.
const RECORDERS: usize = 500;

/// Events of a batch; with it comes a page that no gateway has seen.
const BATCH_EVENTS: usize = 100;

/// The sizes of pages, in bytes, from the smallest to the largest. With them the recorders have
/// more between them than a gateway lets in.
const PAGE_BYTES: Range<usize> = 50_000..450_000;

/// Within which a gateway that knows that Kafka is away says so.
const TOLD_WITHIN: Duration = Duration::from_millis(100);

/// Short, for the test's sake.
const DELIVERY_TIMEOUT: [(&str, &str); 1] = [("TAPEDECK_DELIVERY_TIMEOUT_SECONDS", "3")];

/// How long all batches may take to be taken once Kafka is back.
const TAKEN_WITHIN: Duration = Duration::from_secs(240);

/// Small batches by which a recorder that has nothing else to do finds out how soon it is told.
const QUESTIONS: usize = 50;

/// The batches of recorders that have just opened a page.
fn bodies() -> Result<Vec<Bytes>> {
    let options = CloneOptions { seed: 7, ending_at: Timestamp::now(), duplicate_page_states: 0.0 };
    let cast = Cast::copies(recordings::own()?, RECORDERS, options);
    let body = |number| {
        let session = cast.session(number);
        let events: Vec<_> = session.events().take(BATCH_EVENTS).collect();
        let page = session.pages().next().context("a session without a page")?;
        let recorded = page.html_content.as_deref().context("a page without content")?;
        let bytes = PAGE_BYTES.start + PAGE_BYTES.len() * number / RECORDERS;
        let webstate = json!({
            "html_content": recorded.repeat(bytes.div_ceil(recorded.len())),
            "captured_at": page.captured_at,
        });
        let batch = json!({"replay": session.replay, "events": events, "webstates": [webstate]});
        Ok(Bytes::from(batch.to_string()))
    };
    (0..cast.len()).map(body).collect()
}

/// Sends a batch until it is taken; before each further attempt it waits as long as it is told to.
async fn deliver(gateway: &Gateway, body: &Bytes) -> Result<()> {
    loop {
        let answer = answer(gateway.post(BATCHES, body.clone())).await?;
        match answer.status {
            200 => return Ok(()),
            503 => tokio::time::sleep(retry_after(&answer)?).await,
            _ => anyhow::bail!("{answer:?}"),
        }
    }
}

fn retry_after(answer: &Answer) -> Result<Duration> {
    let seconds = answer.header("retry-after").parse().context("no Retry-After")?;
    Ok(Duration::from_secs(seconds))
}

#[tokio::test(flavor = "multi_thread")]
async fn recorders_that_come_back_do_not_grow_a_gateway_without_kafka() -> Result<()> {
    let stack = Stack::shared().await?;
    let kafka = stack.private_kafka().await?;
    let environment = Environment::on(stack.folder(), &kafka, stack.postgres()).await?;
    let gateway = Gateway::start_in(environment, &DELIVERY_TIMEOUT).await?;
    gateway.service.wait_ready().await?;
    let bodies = bodies()?;
    let bytes: usize = bodies.iter().map(Bytes::len).sum();
    println!("{RECORDERS} recorders with {} MB between them", bytes / 1_000_000);

    kafka.process().freeze()?;
    let recorders = try_join_all(bodies.iter().map(|body| deliver(&gateway, body)));
    let recorders = async {
        tokio::time::timeout(TAKEN_WITHIN, recorders).await.context("batches are not taken")?
    };
    let told_after = async {
        let known = |available: f64| available == 0.0;
        let metric = "tapedeck_gateway_kafka_available";
        gateway.service.wait_for_metric(metric, &[], DEADLINE, known).await?;
        let mut told_after = Vec::new();
        while told_after.len() < QUESTIONS {
            let asked = Instant::now();
            let answer = gateway.send(&envelope(1)).await?;
            ensure!(answer.status == 503, "{answer:?}");
            // One at a time is let through to try whether Kafka is back.
            if answer.body["detail"] == "Kafka does not acknowledge records at the moment" {
                told_after.push(asked.elapsed());
            }
        }
        let refused = gateway.service.metrics().await?;
        let refused = ["too_many_bytes_in_flight", "queue_full"].map(|reason| {
            refused.sum("tapedeck_gateway_requests_refused_total", &[("reason", reason)])
        });
        ensure!(refused.iter().flatten().any(|it| *it > 0.0), "no limit was met: {refused:?}");
        let high_water = gateway.service.process().memory_high_water_bytes()? / MB;
        println!("{high_water} MB resident, and Kafka away");
        kafka.process().thaw()?;
        told_after.sort();
        Ok(told_after)
    };
    let work = async { tokio::try_join!(recorders, told_after) };
    let (_, told_after) = stays_small_and_live(&gateway.service, LIMIT_BYTES, work).await?;
    let (median, slowest) = (told_after[QUESTIONS / 2], told_after[QUESTIONS - 1]);
    println!("told that Kafka is away after {median:?} (median), {slowest:?} (slowest)");
    // The median: single ones wait for the machine, which all recorders share with the gateway.
    ensure!(median < TOLD_WITHIN, "{told_after:?}");
    Ok(())
}
