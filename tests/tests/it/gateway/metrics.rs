//! What the gateway exports.

use anyhow::Result;
use common::page_hash::PageHash;
use serde_json::json;

use super::support::{BATCHES, Gateway, answer, envelope, envelope_with, now_millis};

#[tokio::test(flavor = "multi_thread")]
async fn statuses_that_alerts_look_for_are_there_before_they_happen() -> Result<()> {
    let metrics = Gateway::start(&[]).await?.service.metrics().await?;
    for status in ["200", "207", "400", "429", "500", "503", "aborted"] {
        let labels = [("path", BATCHES), ("status", status)];
        let count = metrics.sum("tapedeck_gateway_requests_total", &labels);
        assert_eq!(count, Some(0.0), "{status}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_counted_by_what_became_of_them() -> Result<()> {
    let gateway = Gateway::start(&[]).await?;
    gateway.send(&envelope(3)).await?;
    let hash = PageHash::of(b"<p>");
    let page = json!([{"html_content": "<p>", "html_hash": hash, "captured_at": now_millis()}]);
    gateway.send(&envelope_with("/webstates", page.clone())).await?;
    gateway.send(&envelope_with("/webstates", page)).await?;
    gateway.send(&envelope_with("/replay/user/user_id", json!(1))).await?;
    answer(gateway.post(BATCHES, "{")).await?;
    let metrics = gateway.service.metrics().await?;
    for (name, labels, expected) in [
        ("tapedeck_gateway_events_received_total", &[][..], 6.0),
        ("tapedeck_gateway_events_accepted_total", &[], 5.0),
        ("tapedeck_gateway_events_rejected_total", &[("reason", "invalid")], 1.0),
        ("tapedeck_gateway_envelopes_rejected_total", &[("reason", "not_readable")], 1.0),
        ("tapedeck_gateway_requests_total", &[("path", BATCHES), ("status", "200")], 3.0),
        ("tapedeck_gateway_requests_total", &[("path", BATCHES), ("status", "422")], 1.0),
        ("tapedeck_gateway_request_seconds_count", &[("path", BATCHES)], 5.0),
        ("tapedeck_gateway_produce_seconds_count", &[("outcome", "acknowledged")], 4.0),
        ("tapedeck_gateway_pages_published_total", &[], 1.0),
        ("tapedeck_gateway_pages_deduplicated_total", &[], 1.0),
        ("tapedeck_gateway_deduplicated_bytes_total", &[], 3.0),
        ("tapedeck_gateway_in_flight_bytes", &[], 0.0),
        ("tapedeck_gateway_kafka_available", &[], 1.0),
        ("tapedeck_build_info", &[("service", "ingest-gateway")], 1.0),
    ] {
        assert_eq!(metrics.sum(name, labels), Some(expected), "{name}{labels:?}");
    }
    Ok(())
}
