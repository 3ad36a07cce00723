//! Envelopes as the records that a gateway makes of them, for tests that choose themselves how
//! often and in which order they are delivered.

use anyhow::{Context, Result};
use common::record::events::{Event, EventsRecord, Sighting};
use common::record::headers::RecordHeaders;
use common::record::webstates;
use common::time::Timestamp;
use rdkafka::message::Headers;

use crate::recordings::envelope::{Capture, Envelope};
use crate::stack::records::Record;

/// The records of the events topic: more than one where the envelope does not fit `limit_bytes`.
///
/// # Errors
/// When one of its events alone does not fit.
pub fn of_events(envelope: &Envelope, limit_bytes: usize) -> Result<Vec<Record>> {
    let events = envelope.identified_events().map(|(event_id, event)| Event {
        event_id,
        seq: event.seq,
        timestamp: event.timestamp,
        event_type: event.event_type,
        event_data: (&*event.event_data).into(),
        webstate_hash: event.webstate_hash,
    });
    let sightings = envelope
        .webstates
        .iter()
        .map(|capture| Sighting { html_hash: capture.html_hash, captured_at: capture.captured_at });
    let whole = EventsRecord {
        replay: envelope.replay.clone(),
        as_of: envelope.as_of(),
        events: events.collect(),
        webstates: sightings.collect(),
    };
    let key = envelope.replay.replay_id.to_string();
    let pieces = whole.encode(limit_bytes)?.into_iter();
    Ok(pieces.map(|piece| record(key.clone(), piece.value)).collect())
}

/// The records of the page states topic, one for each page whose content is in the envelope.
///
/// # Errors
/// When zstd has no memory left.
pub fn of_pages(envelope: &Envelope) -> Result<Vec<Record>> {
    let page = |capture: &Capture| {
        let content = capture.html_content.as_ref()?;
        let encoded = webstates::encode(content.as_bytes()).context("cannot compress");
        Some(encoded.map(|value| record(capture.html_hash.to_hex(), value)))
    };
    envelope.webstates.iter().filter_map(page).collect()
}

/// A record with the headers that a gateway gives it.
pub(crate) fn record(key: String, value: Vec<u8>) -> Record {
    let headers = RecordHeaders { received_at: Timestamp::now(), traceparent: None }.to_kafka();
    let headers = headers.iter().map(|header| {
        (header.key.to_owned(), header.value.map(<[u8]>::to_vec).unwrap_or_default())
    });
    Record {
        key: key.into_bytes(),
        value: Some(value),
        headers: headers.collect(),
        ..Record::default()
    }
}
