//! Who may send, and how much.

use std::convert::Infallible;
use std::fs;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use futures::stream;
use http_body_util::StreamBody;
use hyper::body::Frame;
use reqwest::Method;
use tests::stack::{Environment, Program, Stack, eventually};

use super::support::{BATCHES, DEADLINE, Gateway, answer, envelope};

async fn status_with(gateway: &Gateway, key: &str) -> Result<u16> {
    let request = gateway.request(Method::POST, BATCHES).bearer_auth(key);
    Ok(answer(request.body(envelope(1).to_string())).await?.status)
}

/// Waits until a batch with this key is answered so.
pub(crate) async fn wait_for(gateway: &Gateway, key: &str, status: u16) -> Result<()> {
    eventually(&format!("the key gets {status}"), DEADLINE, async || {
        match status_with(gateway, key).await {
            Ok(found) if found == status => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_asked_for_in_the_header_or_the_query() -> Result<()> {
    let gateway = Gateway::start(&[]).await?;
    let body = envelope(1).to_string();
    let without = answer(gateway.request(Method::POST, BATCHES).body(body.clone())).await?;
    assert_eq!((without.status, without.header("www-authenticate")), (401, "Bearer"));
    assert_eq!(status_with(&gateway, "tdk_wrong").await?, 401);
    let path = format!("{BATCHES}?key={}", gateway.environment.key());
    assert_eq!(answer(gateway.request(Method::POST, &path).body(body)).await?.status, 200);
    assert!(!gateway.service.log().contains(gateway.environment.key()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_the_keys_file_are_taken_over_and_broken_ones_are_not() -> Result<()> {
    let gateway = Gateway::start(&[]).await?;
    let environment = &gateway.environment;
    let new = environment.add_key("new").await?;
    wait_for(&gateway, &new, 200).await?;
    let disable = environment.command(Program::Gateway).arguments(["keys", "disable", "new"]);
    disable.run().await?.success()?;
    wait_for(&gateway, &new, 403).await?;
    let list = environment.command(Program::Gateway).arguments(["keys", "list"]);
    assert!(list.run().await?.success()?.contains("new"));

    let failures = "tapedeck_gateway_keys_reload_failures_total";
    fs::write(environment.keys_file(), "{")?;
    gateway.service.wait_for_metric(failures, &[], DEADLINE, |count| count > 0.0).await?;
    assert_eq!(status_with(&gateway, environment.key()).await?, 200);
    fs::remove_file(environment.keys_file())?;
    let seen = gateway.service.metrics().await?.sum(failures, &[]).unwrap();
    gateway.service.wait_for_metric(failures, &[], DEADLINE, |count| count > seen).await?;
    assert_eq!(status_with(&gateway, environment.key()).await?, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_without_keys_starts_only_when_told_to() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    fs::write(environment.keys_file(), r#"{"keys":[]}"#)?;
    let refused = environment.command(Program::Gateway).arguments(["serve"]).run().await?;
    assert_eq!(refused.status.code(), Some(2));
    assert!(refused.stderr.contains("holds no keys"), "{}", refused.stderr);
    let anonymous = [("TAPEDECK_ALLOW_ANONYMOUS", "true")];
    let gateway = Gateway::start_in(environment, &anonymous).await?;
    gateway.service.wait_ready().await?;
    let request = gateway.request(Method::POST, BATCHES).body(envelope(1).to_string());
    assert_eq!(answer(request).await?.status, 200);
    assert_eq!(status_with(&gateway, "tdk_wrong").await?, 401);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_key_has_its_own_rate() -> Result<()> {
    let settings = [("TAPEDECK_RATE_LIMIT_PER_SECOND", "1"), ("TAPEDECK_RATE_LIMIT_BURST", "2")];
    let environment = Environment::new(Stack::shared().await?).await?;
    let other = environment.add_key("other").await?;
    let gateway = Gateway::start_in(environment, &settings).await?;
    gateway.service.wait_ready().await?;
    let mut limited = None;
    for _ in 0..10 {
        let answer = gateway.send(&envelope(1)).await?;
        if answer.status == 429 {
            limited = Some(answer);
            break;
        }
    }
    let limited = limited.expect("ten requests at once are more than two and one a second");
    assert_eq!(limited.header("retry-after"), "1");
    assert_eq!(status_with(&gateway, &other).await?, 200);
    wait_for(&gateway, gateway.environment.key(), 200).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_key_has_its_own_bytes_and_is_taken_again_after_the_time_it_was_told() -> Result<()> {
    // The burst is one body of the largest size, so two such bodies are more than it.
    let body = format!("{:<29000}", envelope(1).to_string());
    let settings =
        [("TAPEDECK_WIRE_LIMIT_BYTES", "30000"), ("TAPEDECK_RATE_LIMIT_BYTES_PER_SECOND", "10000")];
    let environment = Environment::new(Stack::shared().await?).await?;
    let other = environment.add_key("other").await?;
    let gateway = Gateway::start_in(environment, &settings).await?;
    gateway.service.wait_ready().await?;
    let chunked = || {
        let chunks = body.as_bytes().chunks(5_000).map(Bytes::copy_from_slice);
        let frames: Vec<_> = chunks.map(|chunk| Ok::<_, Infallible>(Frame::data(chunk))).collect();
        reqwest::Body::wrap(StreamBody::new(stream::iter(frames)))
    };
    assert_eq!(answer(gateway.post(BATCHES, body.clone())).await?.status, 200);
    for refused in [
        answer(gateway.post(BATCHES, body.clone())).await?,
        answer(gateway.post(BATCHES, chunked())).await?,
    ] {
        assert_eq!(refused.status, 429, "{refused:?}");
        assert_eq!(refused.body["type"], "/problems/byte-rate-limited");
        let of_other = gateway.request(Method::POST, BATCHES).bearer_auth(&other);
        assert_eq!(answer(of_other.body(envelope(1).to_string())).await?.status, 200);
        let wait = Duration::from_secs(refused.header("retry-after").parse()?);
        // Not for luck: this is what the recorder was told.
        tokio::time::sleep(wait).await;
        assert_eq!(answer(gateway.post(BATCHES, body.clone())).await?.status, 200);
    }
    let metrics = gateway.service.metrics().await?;
    let refused = "tapedeck_gateway_requests_refused_total";
    assert_eq!(metrics.sum(refused, &[("reason", "byte_rate_limited")]), Some(2.0));
    assert_eq!(metrics.sum(refused, &[("reason", "rate_limited")]), Some(0.0));
    let left = "tapedeck_gateway_rate_limit_left_ratio_bucket";
    let never_left = [("limit", "bytes"), ("le", "0")];
    assert_eq!(metrics.sum(left, &never_left), Some(2.0), "refused ones had nothing left");
    Ok(())
}
