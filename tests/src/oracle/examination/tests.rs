//! A small world that is as it should be, and every way of breaking it.

use super::*;
use crate::ledger::{Line, Outcome, Sent, Settled};
use crate::model::{Model, records};
use crate::oracle::claims::ClaimsReader;
use crate::recordings::envelope::Envelope;
use crate::recordings::own;
use common::record::headers::{
    ERROR_CLASS, ERROR_EVENTS, ORIGINAL_OFFSET, ORIGINAL_PARTITION, ORIGINAL_TOPIC,
};

const EVENTS: &str = "replay-events";
const WEBSTATES: &str = "replay-webstates";
const GARBAGE: &str = "garbage-1";
const RECORD_LIMIT_BYTES: usize = 10 << 20;

/// All that an examination is given.
struct World {
    lines: Vec<(Envelope, Option<Outcome>)>,
    garbage_acknowledged: bool,
    batches: Vec<Record>,
    pages: Vec<Record>,
    letters: Vec<Record>,
    tables: Tables,
    lag: i64,
}

impl World {
    /// An acknowledged batch, an unknown one that arrived, and one that did not; an unwritable
    /// event, and a record that cannot be read.
    fn whole() -> Self {
        let mut envelopes: Vec<_> = own().unwrap()[13..].iter().map(|it| it.envelope()).collect();
        let tables = {
            envelopes[0].events[2].event_type = UNWRITABLE_EVENT_TYPE;
            let mut model = Model::of(&envelopes[..2]);
            model.add(&envelopes[1]);
            let mut tables = model.tables();
            tables.events.retain(|_, event| event.event_type != UNWRITABLE_EVENT_TYPE);
            tables
        };
        let arrived = || envelopes[..2].iter();
        let mut batches: Vec<_> =
            arrived().flat_map(|it| records::of_events(it, RECORD_LIMIT_BYTES).unwrap()).collect();
        batches.push(Record { key: GARBAGE.into(), value: None, ..batches[0].clone() });
        for (record, offset) in batches.iter_mut().zip(0..) {
            record.offset = offset;
        }
        let letters = vec![letter(&batches[0], Some("2")), letter(batches.last().unwrap(), None)];
        let outcomes = [Some(Outcome::Acknowledged), Some(Outcome::Unknown), None];
        Self {
            garbage_acknowledged: true,
            pages: arrived().flat_map(|it| records::of_pages(it).unwrap()).collect(),
            lines: envelopes.into_iter().zip(outcomes).collect(),
            batches,
            letters,
            tables,
            lag: 0,
        }
    }

    fn examine(self) -> Verdict {
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
        examination.take_lag(EVENTS, self.lag);
        examination.finish()
    }

    fn unknown_replay(&mut self) -> Uuid {
        self.lines[1].0.replay.replay_id
    }
}

fn letter(original: &Record, events: Option<&str>) -> Record {
    let mut letter = original.clone();
    let mut add = |name: &str, value: &str| letter.headers.push((name.to_owned(), value.into()));
    add(ERROR_CLASS, "class");
    add(ORIGINAL_TOPIC, EVENTS);
    add(ORIGINAL_PARTITION, &original.partition.to_string());
    add(ORIGINAL_OFFSET, &original.offset.to_string());
    if let Some(events) = events {
        add(ERROR_EVENTS, events);
    }
    letter
}

fn check(break_it: impl FnOnce(&mut World), expected: &[Clause]) {
    let mut world = World::whole();
    break_it(&mut world);
    let verdict = world.examine();
    let found: Vec<_> = verdict.findings().keys().copied().collect();
    assert_eq!(found, expected, "{verdict}");
}

#[test]
fn a_world_as_it_should_be_is_clean() {
    let world = World::whole();
    let [acknowledged, unknown, lost] = [0, 1, 2].map(|it| world.lines[it].0.events.len() as u64);
    let verdict = world.examine();
    assert!(verdict.is_clean(), "{verdict}");
    let counts = verdict.counts;
    assert_eq!((counts.batches.acknowledged, counts.batches.unknown), (1, 2));
    assert_eq!(counts.events.acknowledged, acknowledged);
    assert_eq!((counts.events.unknown, counts.unknown_stored), (unknown + lost, unknown));
    assert_eq!((counts.unwritable, counts.letters), (1, 2));
}

#[test]
fn no_clause_is_blind() {
    check(|it| drop(it.tables.events.pop_first()), &[Clause::LostAfterKafka]);
    check(
        |it| {
            let replay_id = it.unknown_replay();
            it.tables.events.retain(|_, event| event.replay_id != replay_id);
        },
        &[Clause::Stranded],
    );
    check(
        |it| {
            it.tables.events.pop_first();
            // Kafka holds neither its record nor, then, a reason for the dead letter.
            it.batches.remove(0);
        },
        &[Clause::LostBeforeKafka, Clause::LetterUnexpected],
    );
    check(
        |it| it.tables.events.first_entry().unwrap().get_mut().event_data.push(' '),
        &[Clause::Changed],
    );
    check(
        |it| {
            let row = it.tables.events.first_key_value().unwrap().1.clone();
            it.tables.events.insert(Uuid::from_u128(1), row);
        },
        &[Clause::Doubled],
    );
    check(
        |it| {
            let row = it.tables.events.first_key_value().unwrap().1.clone();
            let event_type = "other".to_owned();
            it.tables.events.insert(Uuid::from_u128(1), EventRow { event_type, ..row });
        },
        &[Clause::Invented],
    );
    check(
        |it| it.batches.push(Record { offset: 99, ..bad_record() }),
        &[Clause::Unreadable, Clause::LetterMissing],
    );
    check(|it| drop(it.letters.pop()), &[Clause::LetterMissing]);
    check(|it| it.letters[0].key.push(b'x'), &[Clause::LetterChanged]);
    check(|it| it.letters[0].headers.pop().map_or((), drop), &[Clause::LetterMisnamed]);
    check(|it| it.letters.push(letter(&it.batches[1], Some("0"))), &[Clause::LetterUnexpected]);
    check(
        |it| {
            it.batches.pop();
            it.letters.pop();
        },
        &[Clause::GarbageLost],
    );
    check(|it| it.tables.users.first_entry().unwrap().get_mut().name = None, &[Clause::User]);
    check(|it| drop(it.tables.users.pop_first()), &[Clause::User]);
    check(
        |it| it.tables.replays.first_entry().unwrap().get_mut().end_time = None,
        &[Clause::Replay],
    );
    check(
        |it| it.tables.webstates.first_entry().unwrap().get_mut().captured_at = None,
        &[Clause::Webstate],
    );
    check(
        |it| {
            let page = it.lines[0].0.webstates[0].html_hash;
            it.tables.webstates.get_mut(&page).unwrap().content = None;
        },
        &[Clause::PageMissing],
    );
    check(
        |it| {
            let other = common::page_hash::PageHash::of(b"other");
            it.tables.webstates.first_entry().unwrap().get_mut().content = Some(other);
        },
        &[Clause::PageChanged],
    );
    check(|it| it.lag = 3, &[Clause::Uncommitted]);
}

#[test]
fn what_was_refused_is_nowhere() {
    let refused = |it: &mut World| it.lines[1].1 = Some(Outcome::Refused);
    let mut world = World::whole();
    refused(&mut world);
    let found = world.examine();
    let clauses: Vec<_> = found.findings().keys().copied().collect();
    // Nor are its user, its replay and the pages that nobody else has seen.
    let expected = [Clause::RefusedStored, Clause::User, Clause::Replay, Clause::Webstate];
    assert_eq!(clauses, expected, "{found}");
}

#[test]
fn an_unwritable_event_has_no_row() {
    check(
        |it| {
            let tables = Model::of([&it.lines[0].0]).tables();
            let unwritable = |event: &EventRow| event.event_type == UNWRITABLE_EVENT_TYPE;
            it.tables.events.extend(tables.events.into_iter().filter(|(_, row)| unwritable(row)));
        },
        &[Clause::UnwritableStored],
    );
}

#[test]
fn a_record_that_cannot_be_read_need_not_arrive_unless_it_was_acknowledged() {
    check(
        |it| {
            it.garbage_acknowledged = false;
            it.batches.pop();
            it.letters.pop();
        },
        &[],
    );
}

#[test]
fn an_unknown_batch_counts_once_it_has_left_a_trace() {
    let gone = |it: &mut World| {
        let replay_id = it.unknown_replay();
        let user_id = it.lines[1].0.replay.user.user_id;
        it.tables.events.retain(|_, event| event.replay_id != replay_id);
        it.tables.replays.remove(&replay_id);
        it.tables.users.remove(&user_id);
        it.batches.remove(1);
    };
    check(gone, &[]);
    // Kafka holds its record, or the tables an event of it: so the rest must be there as well.
    check(
        |it| {
            let record = it.batches[1].clone();
            gone(it);
            it.batches.push(record);
        },
        &[Clause::Stranded, Clause::User, Clause::Replay],
    );
    check(
        |it| {
            let row = it.tables.events.clone();
            gone(it);
            it.tables.events = row;
        },
        &[Clause::User, Clause::Replay],
    );
}

fn bad_record() -> Record {
    Record { key: b"a gateway's".to_vec(), value: Some(b"{".to_vec()), ..Record::default() }
}
