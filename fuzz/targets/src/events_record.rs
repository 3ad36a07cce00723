//! The record of a recorder batch, as the writer reads it.

use common::event_id;
use common::json_text::JsonText;
use common::record::events::{EncodedRecord, EventsRecord};
use writer::record::{Content, Record, Topic, Unreadable, month_of};

use crate::message;
use crate::rows::Rows;

/// So small that records that are read are split when they are written again.
const VALUE_LIMIT_BYTES: usize = 512;

/// What is read is written and read again as the same, whole and in pieces; what cannot be read
/// has a class.
pub fn check(data: &[u8]) {
    let Ok(record) = Record::read(Topic::Events, message::read(data), 0) else { return };
    match &record.content {
        Content::Events(content) => {
            let value = record.value();
            let read = EventsRecord::decode(value).expect("the writer has read it");
            assert_eq!(content.events.len(), read.events.len());
            for (row, event) in content.events.iter().zip(&read.events) {
                assert_eq!(row.event_type.of(value), event.event_type.as_bytes());
                assert_eq!(row.event_data.of(value), event.event_data.as_str().as_bytes());
                JsonText::parse(event.event_data.as_str()).expect("data are JSON");
                assert!(event_id::carries(row.event_id, row.timestamp));
                assert!(month_of(row.event_id).is_some(), "every id lies in a month");
            }
            check_written(&read, &Rows::of(std::slice::from_ref(&record)));
        }
        Content::Page { .. } => panic!("a page on the events topic"),
        Content::Unreadable(reason) => assert!(Unreadable::CLASSES.contains(&reason.class())),
    }
}

fn check_written(record: &EventsRecord<'_>, rows: &Rows) {
    let whole = record.encode(usize::MAX).expect("there is no limit");
    let [whole] = whole.as_slice() else { panic!("{} records without a limit", whole.len()) };
    assert_eq!(EventsRecord::decode(&whole.value).as_ref().ok(), Some(record));
    if let Ok(pieces) = record.encode(VALUE_LIMIT_BYTES) {
        assert!(pieces.iter().all(|piece| piece.value.len() <= VALUE_LIMIT_BYTES));
        assert_eq!(Rows::of(&read_all(&pieces)), *rows, "splitting changes no row");
    }
}

/// Reads records as the writer does.
///
/// # Panics
/// When one of them is of a newer format.
pub fn read_all(records: &[EncodedRecord]) -> Vec<Record> {
    let read = |record: &EncodedRecord| {
        let message = message::from_gateway(None, &record.value);
        Record::read(Topic::Events, message, 0).expect("our own format")
    };
    records.iter().map(read).collect()
}
