//! What the gateway leaves in Kafka.

use std::io::Write;

use anyhow::Result;
use common::page_hash::PageHash;
use common::record::events::EventsRecord;
use common::record::headers;
use common::record::webstates;
use common::time::Timestamp;
use serde_json::{Value, json};
use tests::stack::records::Record;

use super::support::{BATCHES, Gateway, MISSING, answer, envelope, now_millis};

async fn stored(gateway: &Gateway, topic: &str) -> Result<Vec<Record>> {
    gateway.environment.records().read_all(&gateway.environment.topic(topic)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envelope_is_one_record_with_all_that_a_consumer_needs() -> Result<()> {
    let gateway = Gateway::start(&[]).await?;
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let data = r#"{ "b": 1.0, "a":[1e400,"\u0041\u0000\ud800"], "b": 18446744073709551616 }"#;
    let sent = envelope(3);
    let body = sent.to_string().replace(r#"{"x":1}"#, data);
    let before = Timestamp::now();
    let request = gateway.post(BATCHES, body.clone()).header("traceparent", traceparent);
    let accepted = answer(request).await?;
    assert_eq!((accepted.status, accepted.body), (200, json!({"events": 3, "webstates": 0})));

    let records = stored(&gateway, "replay-events").await?;
    let [record] = records.as_slice() else { panic!("{} records", records.len()) };
    let replay_id = sent["replay"]["replay_id"].as_str().unwrap();
    assert_eq!(record.key, replay_id.as_bytes());
    assert_eq!(record.header(headers::SCHEMA), Some("1"));
    assert_eq!(record.header(headers::TRACEPARENT), Some(traceparent));
    let received_at = Timestamp::parse_rfc3339(record.header(headers::RECEIVED_AT).unwrap())?;
    assert!(received_at >= before && received_at <= Timestamp::now());
    let value = EventsRecord::decode(record.value.as_deref().unwrap())?;
    let kept = data.replace(r"\u0000", r"\ufffd").replace(r"\ud800", r"\ufffd");
    assert_eq!(value.events[1].event_data.as_str(), kept);
    assert_eq!(value.as_of.millis(), sent["replay"]["start_time"].as_i64().unwrap());

    // The same bytes make the same record.
    answer(gateway.post(BATCHES, body)).await?;
    let again = stored(&gateway, "replay-events").await?;
    assert_eq!((again.len(), &again[0].value), (2, &again[1].value));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_encoding_and_type_is_taken() -> Result<()> {
    let gateway = Gateway::start(&[]).await?;
    let body = envelope(2).to_string().into_bytes();
    let mut gzip = flate2::write::GzEncoder::new(vec![], flate2::Compression::default());
    gzip.write_all(&body)?;
    let gzip = gzip.finish()?;
    let mut brotli = brotli::CompressorWriter::new(vec![], 4096, 5, 22);
    brotli.write_all(&body)?;
    for (encoding, content_type, wire) in [
        (None, None, body.clone()),
        (None, Some("text/plain;charset=UTF-8"), body.clone()),
        (None, Some("application/x-ndjson"), body.clone()),
        (None, Some("text/plain"), gzip.clone()),
        (Some("gzip"), Some("application/json"), gzip),
        (Some("zstd"), Some("application/json"), zstd::encode_all(&*body, 3)?),
        (Some("br"), Some("application/json"), brotli.into_inner()),
        (Some("identity"), Some("application/json"), body),
    ] {
        let mut request = gateway.post(BATCHES, wire);
        for (name, value) in [("content-encoding", encoding), ("content-type", content_type)] {
            request = value.into_iter().fold(request, |request, value| request.header(name, value));
        }
        let answer = answer(request).await?;
        assert_eq!(answer.status, 200, "{encoding:?} {content_type:?}: {answer:?}");
    }
    let records = stored(&gateway, "replay-events").await?;
    assert_eq!(records.len(), 8);
    assert!(records.iter().all(|record| record.value == records[0].value));
    Ok(())
}

fn seen(pages: Value) -> Value {
    let mut envelope = envelope(0);
    envelope["webstates"] = pages;
    envelope
}

async fn missing(gateway: &Gateway, hashes: &[&str]) -> Result<Value> {
    let question = json!({"html_hashes": hashes}).to_string();
    let request = gateway.post(MISSING, question).header("content-type", "text/plain");
    Ok(answer(request).await?.body["missing"].take())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_sent_once_and_seen_each_time() -> Result<()> {
    let gateway = Gateway::start(&[]).await?;
    let page = "<!DOCTYPE html><p>näive</p>";
    let hash = PageHash::of(page.as_bytes()).to_hex();
    let other = PageHash::of(b"other").to_hex();
    assert_eq!(missing(&gateway, &[&hash, &other]).await?, json!([hash, other]));
    let now = now_millis();
    let first = seen(json!([
        {"html_content": page, "captured_at": now},
        {"html_content": page, "html_hash": hash.to_uppercase(), "captured_at": now + 1},
    ]));
    assert_eq!(gateway.send(&first).await?.body, json!({"events": 0, "webstates": 2}));
    assert_eq!(missing(&gateway, &[&hash, &other]).await?, json!([other]));
    let again = seen(json!([{"html_content": page, "captured_at": now + 2}]));
    let by_hash = seen(json!([{"html_hash": hash, "captured_at": now + 3}]));
    for envelope in [again, by_hash] {
        assert_eq!(gateway.send(&envelope).await?.body, json!({"events": 0, "webstates": 1}));
    }
    let pages = stored(&gateway, "replay-webstates").await?;
    let [record] = pages.as_slice() else { panic!("{} pages", pages.len()) };
    assert_eq!(record.key, hash.as_bytes());
    assert_eq!(webstates::decode(record.value.as_deref().unwrap(), 1_000)?, page.as_bytes());
    let mut captures = Vec::new();
    for record in stored(&gateway, "replay-events").await? {
        let value = EventsRecord::decode(record.value.as_deref().unwrap())?;
        assert!(value.webstates.iter().all(|it| it.html_hash.to_hex() == hash));
        captures.extend(value.webstates.iter().map(|it| it.captured_at.millis() - now));
    }
    captures.sort_unstable();
    assert_eq!(captures, [0, 1, 2, 3]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_forgotten_when_their_time_is_up() -> Result<()> {
    let gateway = Gateway::start(&[("TAPEDECK_PAGE_MEMORY_SECONDS", "1")]).await?;
    let hash = PageHash::of(b"<p>").to_hex();
    let page = seen(json!([{"html_content": "<p>", "captured_at": now_millis()}]));
    assert_eq!(gateway.send(&page).await?.status, 200);
    // Asking does not keep it.
    tests::stack::eventually("the page is asked for again", super::support::DEADLINE, async || {
        match missing(&gateway, &[&hash]).await {
            Ok(answer) if answer == json!([hash]) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_envelope_is_split_without_an_effect_on_its_content() -> Result<()> {
    let gateway = Gateway::start(&[("TAPEDECK_RECORD_LIMIT_BYTES", "65536")]).await?;
    let mut sent = envelope(200);
    for event in sent["events"].as_array_mut().unwrap() {
        event["event_data"] = json!("x".repeat(2_000));
    }
    sent["webstates"] = json!(vec![
        json!({"html_hash": PageHash::of(b"<p>"), "captured_at": now_millis() + 500});
        500
    ]);
    assert_eq!(gateway.send(&sent).await?.body, json!({"events": 200, "webstates": 500}));
    let records = stored(&gateway, "replay-events").await?;
    assert!(records.len() > 6, "{} records", records.len());
    let (mut seqs, mut sightings) = (Vec::new(), 0);
    let mut heads = Vec::new();
    for record in &records {
        let value = EventsRecord::decode(record.value.as_deref().unwrap())?;
        seqs.extend(value.events.iter().filter_map(|event| event.seq));
        sightings += value.webstates.len();
        heads.push((value.as_of, value.replay.replay_id));
    }
    // All in one partition, in order.
    assert_eq!(seqs, (0..200).collect::<Vec<_>>());
    assert_eq!(sightings, 500);
    assert!(heads.iter().all(|head| *head == heads[0]));
    Ok(())
}
