//! What the hot pure functions are counted on: a recorded batch of fifty events, and what becomes
//! of it on its way.

#![expect(
    missing_docs,
    clippy::expect_used,
    reason = "the harness makes public items of its own; a sample that cannot be read is a mistake here"
)]

use std::hint::black_box;
use std::time::Instant;

use common::event_id;
use common::record::events::{EncodedRecord, EventsRecord};
use common::record::headers::RecordHeaders;
use common::time::Timestamp;
use gungraun::prelude::*;
use ingest_gateway::envelope::{self, EnvelopeRules, escapes};
use rdkafka::message::OwnedMessage;
use uuid::Uuid;
use writer::batch::Batch;
use writer::record::{Record, Topic};
use writer::selection::Selection;
use writer::store::plan::Plan;

/// A batch as a recorder sends it.
const BATCH: &[u8] = include_bytes!("../samples/batch.json");

/// No limit of a record's size plays a part.
const RECORD_LIMIT_BYTES: usize = 10 << 20;
/// Nor one of a page's.
const PAGE_LIMIT_BYTES: usize = 16 << 20;

/// Records of one writer's batch.
const RECORDS: i64 = 100;

/// Limits as they are by default.
const RULES: EnvelopeRules = EnvelopeRules {
    events_limit: 10_000,
    webstates_limit: 1_000,
    email_limit_bytes: 320,
    name_limit_bytes: 1_024,
    url_limit_bytes: 65_536,
    event_data_limit_bytes: 8 << 20,
    event_data_depth_limit: 10_000,
    earliest_time: Timestamp::from_micros(946_684_800_000_000),
    hours_ahead_limit: 24,
};

/// After the sample's times.
const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

const REPLAY_ID: Uuid = Uuid::from_u128(0x2237_a107_3a76_4f18_887f_a033_138e_750e);

fn batch() -> Vec<u8> {
    BATCH.to_vec()
}

/// The sample's value in Kafka.
fn value() -> Vec<u8> {
    let mut body = batch();
    let envelope = envelope::read(&mut body, &RULES, NOW);
    let envelope = envelope.expect("the sample is a batch");
    let mut records = envelope.record().encode(RECORD_LIMIT_BYTES).expect("there is no limit");
    records.remove(0).value
}

fn message(offset: i64) -> OwnedMessage {
    let headers = RecordHeaders { received_at: NOW, traceparent: None }.to_kafka();
    let (time, topic) = (rdkafka::Timestamp::NotAvailable, "replay-events".to_owned());
    OwnedMessage::new(Some(value()), None, topic, time, 0, offset, Some(headers))
}

fn record(offset: i64) -> Record {
    Record::read(Topic::Events, message(offset), PAGE_LIMIT_BYTES).expect("it is no newer one")
}

#[library_benchmark]
#[bench::fifty_events(batch())]
fn envelope_parsing(mut body: Vec<u8>) -> usize {
    let envelope = envelope::read(black_box(&mut body), &RULES, NOW);
    black_box(envelope.expect("the sample is a batch").events.len())
}

#[library_benchmark]
#[bench::fifty_events(batch())]
fn escape_scan(mut body: Vec<u8>) -> u64 {
    black_box(escapes::mend_surrogates(black_box(&mut body)))
}

#[library_benchmark]
#[bench::fifty_events(50)]
fn event_id_of_seq(events: u64) -> Uuid {
    let ids = (0..events).map(|seq| event_id::from_seq(REPLAY_ID, NOW, black_box(seq)));
    black_box(ids.max().unwrap_or_default())
}

#[library_benchmark]
#[bench::fifty_events(50)]
fn event_id_of_content(events: u64) -> Uuid {
    let data = r#"{"source":3,"id":1,"x":0,"y":1204}"#;
    let id = |ordinal| event_id::from_content(REPLAY_ID, NOW, ordinal, "scroll", data);
    black_box((0..events).map(|ordinal| id(black_box(ordinal))).max().unwrap_or_default())
}

#[library_benchmark]
#[bench::fifty_events(value())]
fn record_encoding(value: Vec<u8>) -> Vec<EncodedRecord> {
    let record = EventsRecord::decode(&value).expect("it was just written");
    black_box(black_box(record).encode(RECORD_LIMIT_BYTES).expect("there is no limit"))
}

#[library_benchmark]
#[bench::fifty_events(message(0))]
fn record_decoding(message: OwnedMessage) -> Record {
    let record = Record::read(Topic::Events, black_box(message), PAGE_LIMIT_BYTES);
    black_box(record.expect("it is no newer one"))
}

#[library_benchmark]
#[bench::a_hundred_records((0..RECORDS).map(record).collect())]
fn batch_assembly(records: Vec<Record>) -> usize {
    let (mut batch, now) = (Batch::default(), Instant::now());
    for record in records {
        batch.push(black_box(record), now);
    }
    let selections = Selection::all(batch.records());
    let plans = selections.iter().map(|selection| Plan::new(batch.records(), selection));
    black_box(plans.map(|plan| plan.events().len()).sum())
}

library_benchmark_group!(
    name = hot,
    benchmarks = [
        envelope_parsing,
        escape_scan,
        event_id_of_seq,
        event_id_of_content,
        record_encoding,
        record_decoding,
        batch_assembly,
    ]
);

main!(library_benchmark_groups = hot);
