//! Bodies on their way: slow ones, unwanted ones, and what is in flight at a time.

use std::time::{Duration, Instant};

use anyhow::Result;
use rand::Rng;
use tokio::io::AsyncReadExt;

use super::support::{BATCHES, DEADLINE, Gateway, answer, envelope, read_answer, write};

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_comes_too_slowly_is_408() -> Result<()> {
    let gateway = Gateway::start(&[
        ("TAPEDECK_REQUEST_GAP_SECONDS", "1"),
        ("TAPEDECK_REQUEST_TIMEOUT_SECONDS", "3"),
    ])
    .await?;
    let mut silent = gateway.connect().await?;
    write(&mut silent, gateway.head(100)).await?;
    let answer = read_answer(&mut silent).await?;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("access-control-allow-origin: *"), "{answer}");
    assert!(answer.contains("silent after 1 seconds"), "{answer}");

    let (mut reader, mut dripping) = tokio::io::split(gateway.connect().await?);
    write(&mut dripping, gateway.head(100)).await?;
    let begun = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(300));
    let mut reading = std::pin::pin!(read_answer(&mut reader));
    let answer = loop {
        tokio::select! {
            answer = &mut reading => break answer?,
            _ = ticks.tick() => write(&mut dripping, " ").await?,
        }
    };
    assert!(answer.contains("not complete after 3 seconds"), "{answer}");
    assert!(begun.elapsed() >= Duration::from_secs(3));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_reaches_a_client_whose_body_nobody_wanted() -> Result<()> {
    let gateway = Gateway::start(&[]).await?;
    let mut noise = vec![0; 20 << 20];
    rand::rng().fill_bytes(&mut noise);
    for (key, status) in [("wrong", 401), (gateway.environment.key(), 413)] {
        let request = gateway.request(reqwest::Method::POST, BATCHES).bearer_auth(key);
        assert_eq!(answer(request.body(noise.clone())).await?.status, status);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_budget_of_bytes_in_flight_requests_get_503() -> Result<()> {
    let budget = 10 << 20;
    let gateway = Gateway::start(&[
        ("TAPEDECK_WIRE_LIMIT_BYTES", "8388608"),
        ("TAPEDECK_DECOMPRESSED_LIMIT_BYTES", "524288"),
        ("TAPEDECK_IN_FLIGHT_LIMIT_BYTES", &budget.to_string()),
    ])
    .await?;
    // What is announced is held from the start.
    let mut waiting = gateway.connect().await?;
    write(&mut waiting, gateway.head(8 << 20)).await?;
    let held = |value: f64| value >= f64::from(8 << 20);
    let metric = "tapedeck_gateway_in_flight_bytes";
    gateway.service.wait_for_metric(metric, &[], DEADLINE, held).await?;
    let refused = answer(gateway.post(BATCHES, vec![b' '; 4 << 20])).await?;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(refused.body["type"], "/problems/too-many-bytes-in-flight");
    assert_eq!(gateway.send(&envelope(1)).await?.status, 200);
    drop(waiting);
    gateway.service.wait_for_metric(metric, &[], DEADLINE, |it| it == 0.0).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_asks_for_nothing_is_closed() -> Result<()> {
    let gateway = Gateway::start(&[("TAPEDECK_IDLE_TIMEOUT_SECONDS", "1")]).await?;
    for sent in ["", "POST /v1/batches HTTP/1.1\r\nhost: gate"] {
        let mut idle = gateway.connect().await?;
        write(&mut idle, sent).await?;
        let mut received = Vec::new();
        tokio::time::timeout(DEADLINE, idle.read_to_end(&mut received)).await??;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_limit_connections_wait_for_others_to_end() -> Result<()> {
    let gateway = Gateway::start(&[("TAPEDECK_CONNECTIONS_LIMIT", "1")]).await?;
    let first = gateway.connect().await?;
    let open = "tapedeck_gateway_connections";
    gateway.service.wait_for_metric(open, &[], DEADLINE, |count| count == 1.0).await?;
    let mut second = gateway.connect().await?;
    write(&mut second, "GET /openapi.json HTTP/1.1\r\nhost: gateway\r\n\r\n").await?;
    let mut byte = [0];
    let early = tokio::time::timeout(Duration::from_millis(500), second.peek(&mut byte)).await;
    assert!(early.is_err(), "the second connection is served beside the first");
    drop(first);
    assert!(read_answer(&mut second).await?.starts_with("HTTP/1.1 200 "));
    Ok(())
}
