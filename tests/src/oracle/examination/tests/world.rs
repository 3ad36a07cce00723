//! All that an examination is given, as it should be.

use std::collections::BTreeMap;

use common::record::headers::{
    ERROR_CLASS, ERROR_EVENTS, ERROR_MESSAGE, ORIGINAL_OFFSET, ORIGINAL_PARTITION, ORIGINAL_TOPIC,
};
use common::time::Timestamp;

use super::super::{Examination, UNWRITABLE_CLASS};
use crate::ledger::{Line, Outcome, Sent, Settled, UNWRITABLE_EVENT_TYPE};
use crate::model::{Model, Tables, records};
use crate::oracle::claims::ClaimsReader;
use crate::oracle::{Clause, Verdict};
use crate::recordings::envelope::Envelope;
use crate::recordings::own;
use crate::stack::records::Record;

const EVENTS: &str = "replay-events";
const WEBSTATES: &str = "replay-webstates";
const GARBAGE: &str = "garbage-1";
const RECORD_LIMIT_BYTES: usize = 10 << 20;

/// The batch that was acknowledged; also the place of its record.
pub(super) const ACKNOWLEDGED: usize = 0;
/// The batch that is unknown and arrived; also the place of its record.
pub(super) const ARRIVED: usize = 1;
/// The batch that is unknown and did not arrive.
pub(super) const LOST: usize = 2;
/// The place of the event, in the acknowledged batch, that is unwritable.
pub(super) const UNWRITABLE: usize = 2;

/// All that an examination is given.
pub(super) struct World {
    pub(super) lines: Vec<(Envelope, Option<Outcome>)>,
    pub(super) garbage_acknowledged: bool,
    pub(super) batches: Vec<Record>,
    pub(super) pages: Vec<Record>,
    pub(super) letters: Vec<Record>,
    pub(super) tables: Tables,
    pub(super) lag: BTreeMap<i32, i64>,
}

impl World {
    /// An acknowledged batch, an unknown one that arrived, and one that did not; an unwritable
    /// event, and a record that cannot be read.
    pub(super) fn whole() -> Self {
        let mut envelopes: Vec<_> = own().unwrap()[13..].iter().map(|it| it.envelope()).collect();
        envelopes[ACKNOWLEDGED].events[UNWRITABLE].event_type = UNWRITABLE_EVENT_TYPE;
        let arrived = &envelopes[..=ARRIVED];
        let mut batches: Vec<_> = arrived.iter().map(batch).collect();
        batches.push(Record { key: GARBAGE.into(), value: None, ..batches[0].clone() });
        for (record, offset) in batches.iter_mut().zip(0..) {
            record.offset = offset;
        }
        let unwritable = UNWRITABLE.to_string();
        let letters = vec![
            letter(&batches[ACKNOWLEDGED], Some(&unwritable)),
            letter(batches.last().unwrap(), None),
        ];
        let (pages, tables) = (pages(arrived), tables(arrived));
        let outcomes = [Some(Outcome::Acknowledged), Some(Outcome::Unknown), None];
        let lines = envelopes.into_iter().zip(outcomes).collect();
        let lag = BTreeMap::new();
        Self { lines, garbage_acknowledged: true, batches, pages, letters, tables, lag }
    }

    /// Has the second batch not arrived either; gives its record.
    pub(super) fn lose_unknown(&mut self) -> Record {
        let acknowledged = std::slice::from_ref(&self.lines[ACKNOWLEDGED].0);
        self.pages = pages(acknowledged);
        self.tables = tables(acknowledged);
        self.batches.remove(ARRIVED)
    }

    /// Has a gateway change a batch on its way to Kafka, and no writer notice: the record is
    /// otherwise, and its dead letter if it has one.
    pub(super) fn change_record(&mut self, place: usize, change: impl FnOnce(&mut Envelope)) {
        let mut envelope = self.lines[place].0.clone();
        change(&mut envelope);
        let Record { value, .. } = batch(&envelope);
        self.batches[place].value.clone_from(&value);
        if place == ACKNOWLEDGED {
            self.letters[0].value = value;
        }
    }

    pub(super) fn examine(self) -> Verdict {
        let mut reader = ClaimsReader::default();
        let mut take = |line| reader.take(line).unwrap();
        for ((envelope, outcome), batch) in self.lines.iter().zip(0..) {
            take(Line::Sent(Sent::of(batch, envelope)));
            if let Some(outcome) = *outcome {
                let at = Timestamp::from_micros(0);
                take(Line::Settled(Settled { batch, outcome, status: None, attempts: 1, at }));
            }
        }
        take(Line::Garbage { key: GARBAGE.to_owned() });
        if self.garbage_acknowledged {
            take(Line::GarbageAcknowledged { key: GARBAGE.to_owned() });
        }
        let mut examination = Examination::of(reader.finish(), EVENTS, WEBSTATES);
        self.batches.into_iter().for_each(|record| examination.take_batch_record(record));
        self.pages.into_iter().for_each(|record| examination.take_page_record(record));
        self.letters.into_iter().for_each(|letter| examination.take_letter(letter));
        for (event_id, row) in &self.tables.events {
            examination.take_event_row(*event_id, row);
        }
        examination.take_tables(&self.tables);
        examination.take_lag(EVENTS, &self.lag);
        examination.finish()
    }
}

/// The record of a batch that fits one.
pub(super) fn batch(envelope: &Envelope) -> Record {
    let mut records = records::of_events(envelope, RECORD_LIMIT_BYTES).unwrap();
    assert_eq!(records.len(), 1);
    records.remove(0)
}

fn pages(envelopes: &[Envelope]) -> Vec<Record> {
    envelopes.iter().flat_map(|it| records::of_pages(it).unwrap()).collect()
}

/// What the tables hold once that has been written.
pub(super) fn tables(envelopes: &[Envelope]) -> Tables {
    let mut tables = Model::of(envelopes).tables();
    tables.events.retain(|_, event| event.event_type != UNWRITABLE_EVENT_TYPE);
    tables
}

pub(super) fn letter(original: &Record, events: Option<&str>) -> Record {
    let mut letter = original.clone();
    let mut add = |name: &str, value: &str| letter.headers.push((name.to_owned(), value.into()));
    add(ERROR_CLASS, if events.is_some() { UNWRITABLE_CLASS } else { "empty" });
    add(ERROR_MESSAGE, "message");
    add(ORIGINAL_TOPIC, EVENTS);
    add(ORIGINAL_PARTITION, &original.partition.to_string());
    add(ORIGINAL_OFFSET, &original.offset.to_string());
    if let Some(events) = events {
        add(ERROR_EVENTS, events);
    }
    letter
}

pub(super) fn check(break_it: impl FnOnce(&mut World), expected: &[Clause]) {
    let mut world = World::whole();
    break_it(&mut world);
    let verdict = world.examine();
    let found: Vec<_> = verdict.findings().keys().copied().collect();
    assert_eq!(found, expected, "{verdict}");
}
