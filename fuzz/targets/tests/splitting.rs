//! An envelope that the gateway splits leaves the same rows as if one record could hold it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::LazyLock;

use common::page_hash::PageHash;
use common::record::events::EncodedRecord;
use common::time::Timestamp;
use fuzz_targets::events_record::read_all;
use fuzz_targets::rows::Rows;
use ingest_gateway::envelope::{self, Envelope, EnvelopeRules};
use proptest::prelude::*;
use serde_json::{Value, json};

/// 2024-01-01, in milliseconds since 1970.
const START_MILLIS: u64 = 1_704_067_200_000;

const REPLAY_ID: &str = "2237a107-3a76-4f18-887f-a033138e750e";

/// The gateway's limits unless it is told otherwise.
static RULES: LazyLock<EnvelopeRules> = LazyLock::new(|| {
    #[derive(clap::Parser)]
    struct Defaults {
        #[command(flatten)]
        rules: EnvelopeRules,
    }
    <Defaults as clap::Parser>::parse_from(["rules"]).rules
});

/// A time within ten milliseconds, so that events share theirs.
fn time() -> impl Strategy<Value = Value> {
    (0_u64..10_000).prop_map(|micros| {
        let number = format!("{}.{:03}", START_MILLIS + micros / 1_000, micros % 1_000);
        serde_json::from_str(&number).unwrap()
    })
}

/// One of a few pages.
fn hash() -> impl Strategy<Value = PageHash> {
    (0_u8..5).prop_map(|page| PageHash::of(&[page]))
}

/// An event without its number.
fn event() -> impl Strategy<Value = Value> {
    let data = ("[ -~]{0,300}", any::<bool>()).prop_map(|(text, null)| match null {
        true => Value::Null,
        false => json!({"text": text}),
    });
    (time(), "(click|scroll)", data, prop::option::of(hash())).prop_map(
        |(timestamp, event_type, event_data, webstate_hash)| {
            json!({
                "timestamp": timestamp,
                "event_type": event_type,
                "event_data": event_data,
                "webstate_hash": webstate_hash,
            })
        },
    )
}

prop_compose! {
    /// What a recorder may send; every other event is numbered.
    fn envelope()(
        url: String,
        email in prop::option::of("[a-z]{1,20}@shop\\.example"),
        name: Option<String>,
        times in prop::collection::vec(time(), 2),
        mut events in prop::collection::vec(event(), 0..30),
        sightings in prop::collection::vec((hash(), time()), 0..20),
    ) -> Value {
        for (number, event) in events.iter_mut().enumerate().step_by(2) {
            event["seq"] = json!(number);
        }
        let sighting = |(hash, captured_at)| json!({"html_hash": hash, "captured_at": captured_at});
        json!({
            "replay": {
                "replay_id": REPLAY_ID,
                "initial_url": url,
                "start_time": times[0],
                "end_time": times[1],
                "user": {"user_id": REPLAY_ID, "email": email, "name": name},
            },
            "events": events,
            "webstates": sightings.into_iter().map(sighting).collect::<Vec<Value>>(),
        })
    }
}

fn records(envelope: &Envelope<'_>, limit_bytes: usize) -> Vec<EncodedRecord> {
    envelope.record().encode(limit_bytes).unwrap()
}

proptest! {
    #[test]
    fn splitting_changes_no_row(
        envelope in envelope(),
        limit_bytes in 2_000_usize..4_000,
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let mut body = envelope.to_string().into_bytes();
        let envelope = envelope::read(&mut body, &RULES, Timestamp::now()).unwrap();
        let whole = records(&envelope, usize::MAX);
        prop_assert_eq!(whole.len(), 1);
        let mut pieces = records(&envelope, limit_bytes);
        prop_assert!(pieces.iter().all(|piece| piece.value.len() <= limit_bytes));
        // Delivered in another order, some of them again.
        for index in order {
            let piece = index.get(&pieces).clone();
            pieces.insert(0, piece);
        }
        prop_assert_eq!(Rows::of(&read_all(&pieces)), Rows::of(&read_all(&whole)));
    }
}
