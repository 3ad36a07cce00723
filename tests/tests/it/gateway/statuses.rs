//! Bad requests: each gets the status that the contract names, with path and reason, and the
//! gateway lives on.

use anyhow::Result;
use common::page_hash::PageHash;
use rand::Rng;
use reqwest::Method;
use serde_json::{Value, json};

use super::support::{
    Answer, BATCHES, Gateway, MISSING, answer, envelope, envelope_with, now_millis,
};

/// A problem at a place of the envelope.
#[track_caller]
fn check(answer: &Answer, status: u16, path: Option<&str>, detail: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.body["path"].as_str(), path, "{answer:?}");
    let found = answer.body["detail"].as_str().unwrap();
    assert!(found.contains(detail), "{found:?} does not say {detail:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_400_with_its_offset() -> Result<()> {
    let gateway = Gateway::start(&[]).await?;
    let whole = envelope(3).to_string();
    let truncated = &whole[..whole.len() - 10];
    let not_utf8 = [&whole.as_bytes()[..30], b"\xff\xfe", &whole.as_bytes()[30..]].concat();
    for (body, offset) in [
        (truncated.as_bytes().to_vec(), truncated.len()),
        (not_utf8, 30),
        (Vec::new(), 0),
        (b"<html>".to_vec(), 0),
    ] {
        let answer = answer(gateway.post(BATCHES, body)).await?;
        check(&answer, 400, None, "");
        assert_eq!(answer.body["offset"], offset, "{answer:?}");
    }
    for encoding in ["gzip", "zstd", "br"] {
        let request = gateway.post(BATCHES, whole.clone()).header("content-encoding", encoding);
        check(&answer(request).await?, 400, None, "content encoding is broken");
    }
    assert_eq!(gateway.send(&envelope(1)).await?.status, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_as_described_is_422_with_its_path() -> Result<()> {
    let gateway = Gateway::start(&[]).await?;
    let page = json!([{"html_hash": PageHash::of(b"<b>"), "html_content": "<p>", "captured_at": now_millis()}]);
    let (said, actual) = (PageHash::of(b"<b>").to_hex(), PageHash::of(b"<p>").to_hex());
    for (pointer, value, path, detail) in [
        ("/replay", Value::Null, "/replay", "is missing"),
        ("/replay", json!([]), "/replay", "is not an object"),
        ("/replay/user/user_id", json!(7), "/replay/user/user_id", "is not a text"),
        ("/replay/start_time", json!(1_700_000_000), "/replay/start_time", "seconds"),
        ("/events/0/event_type", json!("Click!"), "/events/0/event_type", "does not match"),
        ("/events/0/seq", json!(0.5), "/events/0/seq", "integer"),
        ("/events/0/timestamp", json!(4e12), "/events/0/timestamp", "ahead"),
        ("/webstates", page.clone(), "/webstates/0/html_hash", &said),
        ("/webstates", page, "/webstates/0/html_hash", &actual),
    ] {
        let answer = gateway.send(&envelope_with(pointer, value)).await?;
        check(&answer, 422, Some(path), detail);
    }
    let many = gateway.send(&envelope(10_001)).await?;
    check(&many, 422, Some("/events"), "the limit is 10000");
    assert_eq!(
        gateway.send(&envelope(10_000)).await?.body,
        json!({"events": 10_000, "webstates": 0})
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_levels_are_accepted_and_a_hundred_thousand_refused() -> Result<()> {
    let gateway = Gateway::start(&[]).await?;
    let nested = |levels: usize| {
        let deep = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        envelope(1).to_string().replace(r#"{"x":0}"#, &deep)
    };
    let accepted = answer(gateway.post(BATCHES, nested(10_000))).await?;
    assert_eq!(accepted.status, 200, "{accepted:?}");
    for levels in [10_001, 100_000, 4_000_000] {
        let refused = answer(gateway.post(BATCHES, nested(levels))).await?;
        check(&refused, 422, Some("/events/0/event_data"), "10000 levels");
    }
    // Also where nobody looks, depth does no harm.
    let elsewhere = envelope(1).to_string().replacen(
        '{',
        &format!(r#"{{"other":{}{},"#, "[".repeat(2_000_000), "]".repeat(2_000_000)),
        1,
    );
    assert_eq!(answer(gateway.post(BATCHES, elsewhere)).await?.status, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_413_and_names_limit_and_size() -> Result<()> {
    let gateway = Gateway::start(&[("TAPEDECK_RECORD_LIMIT_BYTES", "1048576")]).await?;
    let on_the_wire = answer(gateway.post(BATCHES, vec![b' '; (8 << 20) + 1])).await?;
    check(&on_the_wire, 413, None, "8388609 bytes on the wire; the limit is 8388608");
    let inflated = zstd::encode_all(&*vec![b' '; (32 << 20) + 1], 1)?;
    let request = gateway.post(BATCHES, inflated).header("content-encoding", "zstd");
    check(&answer(request).await?, 413, None, "33554432 bytes decompressed");
    let beyond_a_record = envelope_with("/events/0/event_data", json!("x".repeat(1 << 20)));
    check(&gateway.send(&beyond_a_record).await?, 413, Some("/events/0"), "the limit is 1044480");
    let mut noise = vec![0; 1 << 20];
    rand::rng().fill_bytes(&mut noise);
    let incompressible =
        json!([{"html_content": hex::encode(noise) , "captured_at": now_millis()}]);
    let answer = gateway.send(&envelope_with("/webstates", incompressible)).await?;
    check(&answer, 413, Some("/webstates/0/html_content"), "compressed; the limit is 1044480");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn other_types_encodings_paths_and_methods_are_refused() -> Result<()> {
    let gateway = Gateway::start(&[]).await?;
    let batch = envelope(1).to_string();
    for (name, value) in [
        ("content-type", "application/xml"),
        ("content-type", "application/json; charset=latin1"),
        ("content-encoding", "deflate"),
        ("content-encoding", "gzip, gzip"),
    ] {
        let request = gateway.post(BATCHES, batch.clone()).header(name, value);
        let answer = answer(request).await?;
        check(&answer, 415, None, "must be");
        let accepted = if name == "content-encoding" { "gzip, zstd, br" } else { "" };
        assert_eq!(answer.header("accept-encoding"), accepted);
    }
    check(&answer(gateway.post("/v2/batches", batch)).await?, 404, None, "");
    for (method, path, allowed) in [
        (Method::GET, BATCHES, "POST"),
        (Method::PUT, MISSING, "POST"),
        (Method::POST, "/openapi.json", "GET, HEAD"),
    ] {
        let answer = answer(gateway.request(method, path)).await?;
        check(&answer, 405, None, allowed);
        assert_eq!(answer.header("allow"), allowed);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn random_bytes_are_never_the_gateways_fault() -> Result<()> {
    let gateway = Gateway::start(&[]).await?;
    for content_type in ["application/json", "text/plain", "application/x-ndjson"] {
        for encoding in [None, Some("gzip"), Some("zstd"), Some("br")] {
            let mut noise = vec![0; 512 << 10];
            rand::rng().fill_bytes(&mut noise);
            let request = gateway.post(BATCHES, noise).header("content-type", content_type);
            let request = match encoding {
                Some(encoding) => request.header("content-encoding", encoding),
                None => request,
            };
            let answer = answer(request).await?;
            let refused = [400, 413, 422].contains(&answer.status);
            assert!(refused || answer.status == 207, "{content_type} {encoding:?}: {answer:?}");
        }
    }
    assert_eq!(gateway.send(&envelope(1)).await?.status, 200);
    Ok(())
}
