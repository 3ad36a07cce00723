//! Every way of breaking a small world that is as it should be.

mod kafka;
mod world;

use common::page_hash::PageHash;
use uuid::Uuid;

use super::*;
use crate::ledger::Outcome;
use crate::model::Model;
use world::{ACKNOWLEDGED, ARRIVED, LOST, World, check, letter};

#[test]
fn a_world_as_it_should_be_is_clean() {
    let world = World::whole();
    let [acknowledged, unknown, lost] =
        [ACKNOWLEDGED, ARRIVED, LOST].map(|it| world.lines[it].0.events.len() as u64);
    let verdict = world.examine();
    assert!(verdict.is_clean(), "{verdict}");
    let counts = verdict.counts;
    assert_eq!((counts.batches.acknowledged, counts.batches.unknown), (1, 2));
    assert_eq!(counts.events.acknowledged, acknowledged);
    assert_eq!(counts.events.unknown, unknown + lost);
    assert_eq!((counts.unknown_in_kafka, counts.unknown_stored), (unknown, unknown));
    assert_eq!((counts.unwritable, counts.letters), (1, 2));
}

#[test]
fn no_clause_is_blind() {
    check(|it| drop(it.tables.events.pop_first()), &[Clause::LostAfterKafka]);
    check(
        |it| {
            let replay_id = it.lines[ARRIVED].0.replay.replay_id;
            it.tables.events.retain(|_, event| event.replay_id != replay_id);
        },
        &[Clause::Stranded],
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
    check(|it| it.batches[ARRIVED].key = b"another".to_vec(), &[Clause::Misplaced]);
    check(|it| drop(it.letters.pop()), &[Clause::LetterMissing]);
    check(|it| it.letters[0].key.push(b'x'), &[Clause::LetterChanged]);
    check(|it| it.letters[0].headers.pop().map_or((), drop), &[Clause::LetterMisnamed]);
    check(
        |it| it.letters.push(letter(&it.batches[ARRIVED], Some("0"))),
        &[Clause::LetterUnexpected],
    );
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
            let page = it.lines[ACKNOWLEDGED].0.webstates[0].html_hash;
            it.tables.webstates.get_mut(&page).unwrap().content = None;
        },
        &[Clause::PageMissing],
    );
    check(
        |it| {
            let other = PageHash::of(b"other");
            it.tables.webstates.first_entry().unwrap().get_mut().content = Some(other);
        },
        &[Clause::PageChanged],
    );
    check(|it| it.lag.extend([(0, 3)]), &[Clause::Uncommitted]);
}

#[test]
fn what_was_refused_is_nowhere() {
    let refused = |it: &mut World| it.lines[ARRIVED].1 = Some(Outcome::Refused);
    let mut world = World::whole();
    refused(&mut world);
    let found = world.examine();
    let clauses: Vec<_> = found.findings().keys().copied().collect();
    // Nor are its user, its replay and the pages that nobody else has seen.
    let expected = [
        Clause::RefusedInKafka,
        Clause::RefusedStored,
        Clause::StatementUnexpected,
        Clause::User,
        Clause::Replay,
        Clause::Webstate,
    ];
    assert_eq!(clauses, expected, "{found}");
}

#[test]
fn an_unwritable_event_has_no_row() {
    check(
        |it| {
            let tables = Model::of([&it.lines[ACKNOWLEDGED].0]).tables();
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
fn an_unknown_batch_counts_once_kafka_holds_it() {
    check(|it| drop(it.lose_unknown()), &[]);
    check(
        |it| {
            let record = it.lose_unknown();
            it.batches.push(record);
        },
        &[Clause::Stranded, Clause::User, Clause::Replay, Clause::Webstate],
    );
    // The tables hold it, and Kafka does not.
    check(
        |it| {
            let whole = it.tables.clone();
            it.lose_unknown();
            it.tables = whole;
        },
        &[Clause::StoredNotInKafka, Clause::User, Clause::Replay, Clause::Webstate],
    );
}

#[test]
fn a_partition_committed_beyond_its_end_does_not_make_up_for_one_that_lags() {
    let mut world = World::whole();
    world.lag.extend([(0, 3), (1, 0), (2, -3)]);
    let verdict = world.examine();
    assert_eq!(verdict.count(Clause::Uncommitted), 6, "{verdict}");
    check(|it| it.lag.extend([(2, -3)]), &[Clause::Uncommitted]);
}

fn bad_record() -> Record {
    Record { key: b"a gateway's".to_vec(), value: Some(b"{".to_vec()), ..Record::default() }
}
