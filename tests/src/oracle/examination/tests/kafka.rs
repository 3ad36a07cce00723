//! What Kafka holds otherwise than it was sent, or no longer.

use common::time::Timestamp;
use serde_json::value::RawValue;

use super::world::{self, ACKNOWLEDGED, ARRIVED, LOST, UNWRITABLE, check};
use crate::ledger::Outcome;
use crate::model::records;
use crate::oracle::Clause;
use crate::recordings::envelope::Envelope;
use crate::stack::records::Record;

fn change_data(envelope: &mut Envelope, event: usize) {
    envelope.events[event].event_data = RawValue::from_string("7".to_owned()).unwrap().into();
}

#[test]
fn repetition_and_splitting_change_nothing() {
    check(
        |it| {
            let again = Record { offset: 98, ..it.batches[ARRIVED].clone() };
            it.batches.push(again);
            it.pages.extend_from_within(..);
        },
        &[],
    );
    check(
        |it| {
            let whole = it.batches.remove(ARRIVED).value.unwrap();
            it.batches.extend(records::of_events(&it.lines[ARRIVED].0, whole.len() - 1).unwrap());
            assert!(it.batches.len() > 3);
        },
        &[],
    );
}

#[test]
fn kafka_keeps_what_was_acknowledged() {
    // A writer has read it all; of the unwritable event not even a row is left.
    check(
        |it| {
            it.batches.remove(ACKNOWLEDGED);
            it.letters.remove(0);
        },
        &[Clause::LostBeforeKafka, Clause::StoredNotInKafka, Clause::StatementMissing],
    );
    // No writer has read its last record.
    check(
        |it| {
            let mut envelope = it.lines[ACKNOWLEDGED].0.clone();
            let event_id = envelope.identified_events().last().unwrap().0;
            envelope.events.pop();
            it.change_record(ACKNOWLEDGED, |record| *record = envelope);
            it.tables.events.remove(&event_id).unwrap();
        },
        &[Clause::LostBeforeKafka],
    );
    check(|it| drop(it.pages.remove(0)), &[Clause::StatementMissing]);
}

#[test]
fn a_gateway_changes_nothing() {
    // Nobody would see it in the tables.
    check(
        |it| it.change_record(ACKNOWLEDGED, |batch| change_data(batch, UNWRITABLE)),
        &[Clause::LostBeforeKafka, Clause::ChangedBeforeKafka],
    );
    check(
        |it| {
            let mut changed = it.lines[ARRIVED].0.clone();
            change_data(&mut changed, 0);
            it.change_record(ARRIVED, |batch| *batch = changed.clone());
            it.tables.events.extend(world::tables(&[changed]).events);
        },
        &[Clause::StoredNotInKafka, Clause::ChangedBeforeKafka, Clause::Changed],
    );
    // Of two names of one moment only the greater is seen in the tables.
    check(
        |it| {
            let mut batch = it.lines[ARRIVED].0.clone();
            batch.events.clear();
            batch.webstates.clear();
            batch.replay.user.name = Some("".into());
            it.batches.push(Record { offset: 98, ..world::batch(&batch) });
        },
        &[Clause::StatementUnexpected],
    );
    // A later capture never is.
    check(
        |it| {
            it.change_record(ARRIVED, |batch| {
                let mut later = batch.webstates[0].clone();
                later.captured_at = Timestamp::from_micros(later.captured_at.micros() + 1);
                batch.webstates.push(later);
            });
        },
        &[Clause::StatementUnexpected],
    );
}

#[test]
fn a_gateway_invents_nothing() {
    check(
        |it| {
            let mut batch = it.lines[ARRIVED].0.clone();
            batch.events.truncate(1);
            batch.events[0].seq = Some(1 << 20);
            change_data(&mut batch, 0);
            it.tables.events.extend(world::tables(std::slice::from_ref(&batch)).events);
            it.change_record(ARRIVED, |record| record.events.extend(batch.events));
        },
        &[Clause::InventedInKafka, Clause::Invented],
    );
    // Under another id an event is another.
    check(
        |it| {
            it.change_record(ACKNOWLEDGED, |batch| {
                let mut again = batch.events[UNWRITABLE].clone();
                again.seq = Some(1 << 20);
                batch.events[UNWRITABLE] = again;
            });
        },
        &[Clause::LostBeforeKafka, Clause::InventedInKafka],
    );
}

#[test]
fn nothing_refused_is_in_kafka() {
    check(
        |it| {
            it.lines[LOST].1 = Some(Outcome::Refused);
            let record = world::batch(&it.lines[LOST].0);
            // A writer has dropped it.
            it.batches.push(Record { offset: 98, ..record });
        },
        &[Clause::RefusedInKafka, Clause::StatementUnexpected],
    );
}

#[test]
fn unknown_pages_are_written_if_kafka_holds_them() {
    // One that the acknowledged batch does not speak of.
    let page = |it: &world::World| {
        let spoken_of =
            |hash| it.lines[ACKNOWLEDGED].0.webstates.iter().any(|it| it.html_hash == hash);
        let mut unknown = it.lines[ARRIVED].0.webstates.iter().map(|capture| capture.html_hash);
        unknown.find(|hash| !spoken_of(*hash)).unwrap()
    };
    check(
        |it| {
            let page = page(it);
            it.tables.webstates.get_mut(&page).unwrap().content = None;
        },
        &[Clause::PageMissing],
    );
    check(
        |it| {
            let page = page(it);
            it.tables.webstates.remove(&page).unwrap();
        },
        &[Clause::Webstate],
    );
    check(
        |it| {
            let page = page(it);
            it.tables.webstates.get_mut(&page).unwrap().captured_at = None;
        },
        &[Clause::Webstate],
    );
    // Kafka has lost the page itself: unknown and not acknowledged, but a writer had read it.
    check(
        |it| {
            let key = page(it).to_hex().into_bytes();
            it.pages.retain(|record| record.key != key);
        },
        &[Clause::Webstate],
    );
    // It saw a page of an acknowledged batch before that did.
    let sees_earlier = |it: &mut world::World| {
        let mut seen = it.lines[ACKNOWLEDGED].0.webstates[0].clone();
        let acknowledged_at = seen.captured_at;
        seen.captured_at = Timestamp::from_micros(acknowledged_at.micros() - 1);
        it.lines[ARRIVED].0.webstates.push(seen.clone());
        it.change_record(ARRIVED, |_| {});
        let row = it.tables.webstates.get_mut(&seen.html_hash).unwrap();
        row.captured_at = Some(seen.captured_at);
        (seen.html_hash, acknowledged_at)
    };
    check(
        |it| {
            sees_earlier(it);
        },
        &[],
    );
    check(
        |it| {
            let (page, acknowledged_at) = sees_earlier(it);
            it.tables.webstates.get_mut(&page).unwrap().captured_at = Some(acknowledged_at);
        },
        &[Clause::Webstate],
    );
}
