//! Everything that batches and records may say of a page state.

use common::json_text::JsonText;
use common::record::events::{Replay, User};
use uuid::Uuid;

use super::*;
use crate::ledger::{EventDigest, SentEvent, SentPage};

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn page() -> PageHash {
    PageHash::of(b"page")
}

fn batch(captures: &[i64], refers: bool, unwritable: bool) -> Sent<'static> {
    let event = SentEvent {
        event_id: Uuid::nil(),
        sha256: EventDigest::of(Uuid::nil(), at(0), "", "", None),
        webstate_hash: Some(page()),
        unwritable,
    };
    let capture =
        |micros: &i64| SentPage { html_hash: page(), captured_at: at(*micros), content: true };
    let user = User { user_id: Uuid::nil(), email: None, name: None, created_at: None };
    Sent {
        batch: 0,
        as_of: at(0),
        replay: Replay {
            replay_id: Uuid::nil(),
            initial_url: "/".into(),
            start_time: at(0),
            end_time: None,
            user,
        },
        events: if refers { vec![event] } else { vec![] },
        pages: captures.iter().map(capture).collect(),
    }
}

/// What Kafka holds of the page state.
#[derive(Clone, Copy, Debug, Default)]
struct Kafka<'a> {
    /// Captures in records of batches.
    captures: &'a [i64],
    /// Whether there is the page itself.
    content: bool,
    /// Whether there is an event that belongs to it, and whether that one can be written.
    event_is_writable: Option<bool>,
}

/// A row's content and time of capture.
type Row = (Option<&'static [u8]>, Option<i64>);

const CONTENT: Option<&[u8]> = Some(b"page");

fn check(
    acknowledged: &[Sent<'_>],
    unknown: &[Sent<'_>],
    kafka: Kafka<'_>,
    row: Option<Row>,
    expected: &[Clause],
) {
    let (mut pages, mut verdict) = (Pages::default(), Verdict::default());
    acknowledged.iter().for_each(|batch| pages.acknowledged(batch));
    unknown.iter().for_each(|batch| pages.unknown(batch));
    for micros in kafka.captures {
        let sighting = Sighting { html_hash: page(), captured_at: at(*micros) };
        pages.sighting_in_kafka(&sighting, &mut verdict);
    }
    if kafka.content {
        pages.content_in_kafka(page(), &mut verdict);
    }
    if let Some(is_writable) = kafka.event_is_writable {
        let event = Event {
            event_id: Uuid::nil(),
            seq: None,
            timestamp: at(0),
            event_type: "",
            event_data: JsonText::parse("null").unwrap(),
            webstate_hash: Some(page()),
        };
        pages.event_in_kafka(&event, is_writable);
    }
    let row = row.map(|(content, captured_at)| WebstateRow {
        content: content.map(PageHash::of),
        captured_at: captured_at.map(at),
    });
    let rows: BTreeMap<_, _> = row.map(|row| (page(), row)).into_iter().collect();
    pages.judge(&rows, &mut verdict);
    let found: Vec<_> = verdict.findings().keys().copied().collect();
    assert_eq!(found, expected, "{acknowledged:?} {unknown:?} {kafka:?} {rows:?}");
}

fn captured(micros: &[i64]) -> [Sent<'static>; 1] {
    [batch(micros, false, false)]
}

#[test]
fn acknowledged_page_states_are_in_kafka_and_in_the_tables() {
    let whole = Kafka { captures: &[7, 5], content: true, ..Kafka::default() };
    let row = |row, expected| check(&captured(&[7, 5]), &[], whole, row, expected);
    row(Some((CONTENT, Some(5))), &[]);
    row(Some((CONTENT, Some(7))), &[Clause::Webstate]);
    row(Some((CONTENT, Some(4))), &[Clause::Webstate]);
    row(Some((CONTENT, None)), &[Clause::Webstate]);
    row(None, &[Clause::Webstate]);
    row(Some((None, Some(5))), &[Clause::PageMissing]);
    row(Some((Some(b"other"), Some(5))), &[Clause::PageChanged]);

    // Kafka lost it, before a writer could read it or afterwards.
    let kafka = |kafka, expected| {
        check(&captured(&[7, 5]), &[], kafka, Some((CONTENT, Some(5))), expected);
    };
    kafka(Kafka { content: false, ..whole }, &[Clause::StatementMissing]);
    kafka(Kafka { captures: &[5], ..whole }, &[Clause::StatementMissing]);
    kafka(Kafka { captures: &[7], ..whole }, &[Clause::StatementMissing]);
    kafka(Kafka { captures: &[7, 6, 5], ..whole }, &[Clause::StatementUnexpected]);
}

#[test]
fn unknown_page_states_are_in_the_tables_as_far_as_kafka_holds_them() {
    let earlier = |captures, captured_at, expected: &[Clause]| {
        let kafka = Kafka { captures, content: true, ..Kafka::default() };
        let row = Some((CONTENT, Some(captured_at)));
        check(&captured(&[5]), &captured(&[3, 9]), kafka, row, expected);
    };
    earlier(&[5], 5, &[]);
    earlier(&[5], 3, &[Clause::Webstate]);
    earlier(&[5, 3], 3, &[]);
    earlier(&[5, 3], 5, &[Clause::Webstate]);
    earlier(&[5, 9], 5, &[]);
    earlier(&[5, 9], 9, &[Clause::Webstate]);

    let unknown = |captures, content, row: Option<Row>, expected: &[Clause]| {
        let kafka = Kafka { captures, content, ..Kafka::default() };
        check(&[], &captured(&[3, 9]), kafka, row, expected);
    };
    unknown(&[], false, None, &[]);
    unknown(&[], false, Some((None, None)), &[Clause::Webstate]);
    unknown(&[], true, Some((CONTENT, None)), &[]);
    unknown(&[], true, Some((None, None)), &[Clause::PageMissing]);
    unknown(&[], true, None, &[Clause::Webstate]);
    unknown(&[9], false, Some((None, Some(9))), &[]);
    unknown(&[9], false, Some((CONTENT, Some(9))), &[Clause::Webstate]);
    unknown(&[9], false, None, &[Clause::Webstate]);
    unknown(&[9, 3], true, Some((CONTENT, Some(3))), &[]);
    unknown(&[9, 3], true, Some((CONTENT, Some(9))), &[Clause::Webstate]);
}

#[test]
fn what_nobody_sent_is_nowhere() {
    check(&[], &[], Kafka::default(), None, &[]);
    check(&[], &[], Kafka::default(), Some((CONTENT, None)), &[Clause::Webstate]);
    let page = Kafka { content: true, ..Kafka::default() };
    check(&[], &[], page, None, &[Clause::StatementUnexpected]);
    // It was spoken of, but its content never sent.
    let refers = [batch(&[], true, false)];
    check(&[], &refers, page, None, &[Clause::StatementUnexpected]);
    let capture = Kafka { captures: &[5], ..Kafka::default() };
    check(&[], &[], capture, None, &[Clause::StatementUnexpected]);
}

#[test]
fn an_event_that_is_stored_has_a_row_to_refer_to() {
    let check = |unwritable, is_unknown, event_is_writable, row, expected: &[Clause]| {
        let (batches, none) = ([batch(&[], true, unwritable)], []);
        let (acknowledged, unknown) =
            if is_unknown { (&none[..], &batches[..]) } else { (&batches[..], &none[..]) };
        let kafka = Kafka { event_is_writable, ..Kafka::default() };
        check(acknowledged, unknown, kafka, row, expected);
    };
    let row = Some((None, None));
    for is_unknown in [false, true] {
        check(false, is_unknown, Some(true), row, &[]);
        check(false, is_unknown, Some(true), None, &[Clause::Webstate]);
        // A writer may have made the row before the database refused the event.
        check(true, is_unknown, Some(false), row, &[]);
        check(true, is_unknown, Some(false), None, &[]);
    }
    check(false, false, None, None, &[Clause::Webstate]);
    check(false, true, None, None, &[]);
    check(false, true, None, row, &[Clause::Webstate]);
}
