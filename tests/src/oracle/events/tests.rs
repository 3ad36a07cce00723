//! Every outcome in every place.

use super::*;

const ID: Uuid = Uuid::from_u128(7);
const OTHER_ID: Uuid = Uuid::from_u128(8);

fn digest(text: &str) -> EventDigest {
    EventDigest::of(Uuid::nil(), Timestamp::from_micros(0), text, "{}", None)
}

/// An event with that id and content, in Kafka or in a row.
type Found<'a> = (Uuid, &'a str);

const SENT: &[Found<'_>] = &[(ID, "sent")];
const OTHER: &[Found<'_>] = &[(ID, "other")];

/// What is found of event 7, which was sent with these contents in batches of these outcomes.
fn examine(
    sent: &[(Outcome, &str)],
    unwritable: bool,
    in_kafka: &[Found<'_>],
    rows: &[Found<'_>],
) -> Verdict {
    let claims = (0..).zip(sent).map(|(batch, (_, content))| EventClaim {
        event_id: ID,
        digest: digest(content),
        batch,
        unwritable,
    });
    let outcomes = sent.iter().map(|(outcome, _)| *outcome).collect();
    let mut events = Events::of(claims.collect(), outcomes);
    let mut verdict = Verdict::default();
    for (event_id, content) in in_kafka {
        events.in_kafka(*event_id, digest(content), &mut verdict);
    }
    for (event_id, content) in rows {
        events.stored(*event_id, digest(content), &mut verdict);
    }
    events.judge(&mut verdict);
    verdict
}

fn clauses(verdict: &Verdict) -> Vec<Clause> {
    assert!(verdict.findings().values().all(|found| found.count == 1), "{verdict}");
    verdict.findings().keys().copied().collect()
}

/// Event 7 was sent as "sent".
fn check(outcomes: &[Outcome], in_kafka: &[Found<'_>], rows: &[Found<'_>], expected: &[Clause]) {
    let sent: Vec<_> = outcomes.iter().map(|outcome| (*outcome, "sent")).collect();
    let found = clauses(&examine(&sent, false, in_kafka, rows));
    assert_eq!(found, expected, "{outcomes:?}, in Kafka: {in_kafka:?}, {rows:?}");
}

#[test]
fn rows_are_judged_by_what_was_answered_and_what_kafka_holds() {
    use Outcome::{Acknowledged, Refused, Unknown};
    check(&[Acknowledged], SENT, SENT, &[]);
    check(&[Unknown], SENT, SENT, &[]);
    check(&[Unknown], &[], &[], &[]);
    check(&[Refused], &[], &[], &[]);
    check(&[Acknowledged], &[], &[], &[Clause::LostBeforeKafka]);
    check(&[Acknowledged], SENT, &[], &[Clause::LostAfterKafka]);
    check(&[Unknown], SENT, &[], &[Clause::Stranded]);
    check(&[Refused], &[], SENT, &[Clause::RefusedStored]);
    check(&[Acknowledged], SENT, OTHER, &[Clause::Changed]);
    check(&[Unknown], SENT, OTHER, &[Clause::Changed]);
    check(&[Acknowledged], SENT, &[(ID, "sent"), (ID, "sent")], &[Clause::Doubled]);
    check(&[Acknowledged], SENT, &[(ID, "sent"), (OTHER_ID, "sent")], &[Clause::Doubled]);
    check(&[Acknowledged], SENT, &[(ID, "sent"), (OTHER_ID, "new")], &[Clause::Invented]);
    let under_another_id = [Clause::LostBeforeKafka, Clause::Doubled];
    check(&[Acknowledged], &[], &[(OTHER_ID, "sent")], &under_another_id);
}

#[test]
fn what_kafka_holds_is_judged_by_what_was_sent() {
    use Outcome::{Acknowledged, Refused, Unknown};
    // A writer read it, and then Kafka lost it.
    check(&[Acknowledged], &[], SENT, &[Clause::StoredNotInKafka]);
    check(&[Unknown], &[], SENT, &[Clause::StoredNotInKafka]);
    check(&[Refused], SENT, &[], &[Clause::RefusedInKafka]);
    check(&[Refused], OTHER, &[], &[Clause::RefusedInKafka]);
    check(&[Unknown], OTHER, &[], &[Clause::ChangedBeforeKafka]);
    let nowhere_as_sent = [Clause::LostBeforeKafka, Clause::ChangedBeforeKafka];
    check(&[Acknowledged], OTHER, &[], &nowhere_as_sent);
    // The first of two gateways changed it.
    let both = [(ID, "other"), (ID, "sent")];
    check(&[Acknowledged], &both, SENT, &[Clause::ChangedBeforeKafka]);
    check(&[Acknowledged], &both, OTHER, &[Clause::ChangedBeforeKafka, Clause::Changed]);
    for stranger in [(OTHER_ID, "sent"), (OTHER_ID, "new")] {
        check(&[Acknowledged], &[(ID, "sent"), stranger], SENT, &[Clause::InventedInKafka]);
        check(&[Unknown], &[stranger], &[], &[Clause::InventedInKafka]);
    }
    // A resend is no second event.
    check(&[Acknowledged], &[(ID, "sent"), (ID, "sent")], SENT, &[]);
}

#[test]
fn the_best_answer_counts_that_any_batch_with_the_event_got() {
    use Outcome::{Acknowledged, Refused, Unknown};
    let counts = |outcomes: &[Outcome]| {
        let sent: Vec<_> = outcomes.iter().map(|outcome| (*outcome, "sent")).collect();
        examine(&sent, false, &[], &[]).counts.events
    };
    assert_eq!(counts(&[Refused, Unknown, Acknowledged]).acknowledged, 1);
    assert_eq!(counts(&[Refused, Unknown]).unknown, 1);
    assert_eq!(counts(&[Refused, Refused]).refused, 1);
    check(&[Refused, Unknown, Acknowledged], SENT, &[], &[Clause::LostAfterKafka]);
    check(&[Refused, Unknown, Acknowledged], &[], SENT, &[Clause::StoredNotInKafka]);
    check(&[Refused, Unknown], SENT, SENT, &[]);
}

#[test]
fn of_two_events_under_one_id_kafka_holds_both_and_a_row_either() {
    use Outcome::{Acknowledged, Unknown};
    let both = [(ID, "sent"), (ID, "other")];
    let sent = [(Acknowledged, "sent"), (Acknowledged, "other")];
    let found = |sent, in_kafka, rows| clauses(&examine(sent, false, in_kafka, rows));
    for rows in [SENT, OTHER] {
        assert_eq!(found(&sent, &both, rows), []);
        assert_eq!(found(&sent, SENT, rows), [Clause::StoredNotInKafka]);
    }
    let sent = [(Acknowledged, "sent"), (Unknown, "other")];
    assert_eq!(found(&sent, SENT, SENT), []);
    assert_eq!(found(&sent, OTHER, OTHER), [Clause::StoredNotInKafka]);
}

#[test]
fn unwritable_events_have_no_row_but_are_in_kafka() {
    let found = |in_kafka, rows| {
        let verdict = examine(&[(Outcome::Acknowledged, "sent")], true, in_kafka, rows);
        assert_eq!(verdict.counts.unwritable, 1);
        clauses(&verdict)
    };
    assert_eq!(found(SENT, &[]), []);
    assert_eq!(found(&[], &[]), [Clause::LostBeforeKafka]);
    assert_eq!(found(OTHER, &[]), [Clause::LostBeforeKafka, Clause::ChangedBeforeKafka]);
    assert_eq!(found(SENT, SENT), [Clause::UnwritableStored]);
}
