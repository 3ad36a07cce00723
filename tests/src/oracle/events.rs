//! Every event that was sent against Kafka and the rows of `events`.

use common::time::Timestamp;
use uuid::Uuid;

use super::verdict::{Clause, Verdict};
use crate::ledger::{EventDigest, Outcome};

/// One batch's claim about one event.
#[derive(Clone, Copy, Debug)]
pub(super) struct EventClaim {
    pub(super) event_id: Uuid,
    pub(super) digest: EventDigest,
    /// The batch's number.
    pub(super) batch: u32,
    pub(super) unwritable: bool,
}

/// All claims, and where their events were seen.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// By id; several batches may hold one event.
    claims: Vec<EventClaim>,
    /// Where the event was seen whose first claim stands at that place.
    seen: Vec<Seen>,
    /// By batch.
    outcomes: Vec<Outcome>,
    /// All digests in order, to recognise an event under another id.
    digests: Vec<EventDigest>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    in_kafka: bool,
    stored: bool,
}

impl Events {
    /// Nothing has been seen yet.
    pub(super) fn of(mut claims: Vec<EventClaim>, outcomes: Vec<Outcome>) -> Self {
        claims.sort_unstable_by_key(|claim| (claim.event_id, claim.batch));
        let mut digests: Vec<_> = claims.iter().map(|claim| claim.digest).collect();
        digests.sort_unstable();
        Self { seen: vec![Seen::default(); claims.len()], claims, outcomes, digests }
    }

    /// The place of the first claim about an event.
    fn place(&self, event_id: Uuid) -> Option<usize> {
        let place = self.claims.partition_point(|claim| claim.event_id < event_id);
        (self.claims.get(place)?.event_id == event_id).then_some(place)
    }

    /// All claims about the event whose first claim stands at that place.
    fn about(&self, place: usize) -> &[EventClaim] {
        let rest = &self.claims[place..];
        let event_id = rest[0].event_id;
        &rest[..rest.partition_point(|claim| claim.event_id == event_id)]
    }

    fn outcome(&self, claim: &EventClaim) -> Outcome {
        self.outcomes.get(claim.batch as usize).copied().unwrap_or(Outcome::Unknown)
    }

    /// Kafka holds a record with that event.
    pub(super) fn in_kafka(&mut self, event_id: Uuid) {
        if let Some(place) = self.place(event_id) {
            self.seen[place].in_kafka = true;
        }
    }

    /// There is a row with that id and these contents.
    pub(super) fn stored(&mut self, event_id: Uuid, digest: EventDigest, verdict: &mut Verdict) {
        verdict.counts.event_rows += 1;
        let Some(place) = self.place(event_id) else {
            return match self.digests.binary_search(&digest) {
                Ok(_) => verdict.add(Clause::Doubled, || {
                    format!("{event_id} holds an event that was sent under another id")
                }),
                Err(_) => verdict.add(Clause::Invented, || format!("{event_id} was never sent")),
            };
        };
        if std::mem::replace(&mut self.seen[place].stored, true) {
            return verdict.add(Clause::Doubled, || format!("{event_id} has two rows"));
        }
        let claims = self.about(place);
        let batch = claims[0].batch;
        let mut possible = claims.iter().filter(|claim| self.outcome(claim) != Outcome::Refused);
        let Some(first) = possible.clone().next() else {
            return verdict
                .add(Clause::RefusedStored, || format!("{event_id} of refused batch {batch}"));
        };
        match possible.find(|claim| claim.digest == digest) {
            None => verdict.add(Clause::Changed, || {
                let (batch, sent) = (first.batch, first.digest);
                format!("{event_id} of batch {batch}: sent {sent}, stored {digest}")
            }),
            Some(claim) if claim.unwritable => verdict
                .add(Clause::UnwritableStored, || format!("{event_id} of batch {}", claim.batch)),
            Some(_) => {}
        }
    }

    /// Whether the event has a row.
    pub(super) fn is_stored(&self, event_id: Uuid) -> bool {
        self.place(event_id).is_some_and(|place| self.seen[place].stored)
    }

    /// Judges what was not seen. Kafka's records and all rows have been given before.
    pub(super) fn judge(&self, verdict: &mut Verdict) {
        let mut place = 0;
        while place < self.claims.len() {
            let claims = self.about(place);
            self.judge_one(claims, self.seen[place], verdict);
            place += claims.len();
        }
    }

    fn judge_one(&self, claims: &[EventClaim], seen: Seen, verdict: &mut Verdict) {
        let with = |outcome| claims.iter().find(move |claim| self.outcome(claim) == outcome);
        if let Some(claim) = with(Outcome::Acknowledged) {
            verdict.counts.events.acknowledged += 1;
            verdict.counts.unwritable += u64::from(claim.unwritable);
            match (seen.stored, seen.in_kafka) {
                (true, _) => {}
                (false, false) => verdict.add(Clause::LostBeforeKafka, || self.describe(claim)),
                // The dead letters tell what became of it.
                (false, true) if claim.unwritable => {}
                (false, true) => verdict.add(Clause::LostAfterKafka, || self.describe(claim)),
            }
        } else if let Some(claim) = with(Outcome::Unknown) {
            verdict.counts.events.unknown += 1;
            verdict.counts.unknown_stored += u64::from(seen.stored);
            if seen.in_kafka && !seen.stored && !claim.unwritable {
                verdict.add(Clause::Stranded, || self.describe(claim));
            }
        } else {
            verdict.counts.events.refused += 1;
        }
    }

    fn describe(&self, claim: &EventClaim) -> String {
        let EventClaim { event_id, batch, .. } = claim;
        let at = Timestamp::from_micros(common::event_id::millis(*event_id).saturating_mul(1_000));
        format!("{event_id} ({at}) of batch {batch}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid::from_u128(7);
    const OTHER_ID: Uuid = Uuid::from_u128(8);

    fn digest(text: &str) -> EventDigest {
        EventDigest::of(Uuid::nil(), Timestamp::from_micros(0), text, "{}", None)
    }

    /// What is found of event 7, which was sent as "sent" in batches of these outcomes.
    fn found(
        outcomes: &[Outcome],
        unwritable: bool,
        in_kafka: bool,
        rows: &[(Uuid, &str)],
    ) -> Verdict {
        let claim = |batch| EventClaim { event_id: ID, digest: digest("sent"), batch, unwritable };
        let claims = (0..).take(outcomes.len()).map(claim).collect();
        let mut events = Events::of(claims, outcomes.to_vec());
        let mut verdict = Verdict::default();
        if in_kafka {
            events.in_kafka(ID);
        }
        for (event_id, content) in rows {
            events.stored(*event_id, digest(content), &mut verdict);
        }
        events.judge(&mut verdict);
        verdict
    }

    fn check(
        outcomes: &[Outcome],
        in_kafka: bool,
        rows: &[(Uuid, &str)],
        expected: &[(Clause, u64)],
    ) {
        let verdict = found(outcomes, false, in_kafka, rows);
        let found: Vec<_> =
            verdict.findings().iter().map(|(clause, found)| (*clause, found.count)).collect();
        assert_eq!(found, expected, "{outcomes:?}, in Kafka: {in_kafka}, {rows:?}");
    }

    #[test]
    fn events_are_judged_by_what_was_answered_and_where_they_are() {
        use Outcome::{Acknowledged, Refused, Unknown};
        let sent = &[(ID, "sent")][..];
        check(&[Acknowledged], true, sent, &[]);
        check(&[Unknown], true, sent, &[]);
        check(&[Unknown], false, &[], &[]);
        check(&[Refused], false, &[], &[]);
        check(&[Acknowledged], false, &[], &[(Clause::LostBeforeKafka, 1)]);
        check(&[Acknowledged], true, &[], &[(Clause::LostAfterKafka, 1)]);
        check(&[Unknown], true, &[], &[(Clause::Stranded, 1)]);
        check(&[Refused], true, sent, &[(Clause::RefusedStored, 1)]);
        check(&[Acknowledged], true, &[(ID, "other")], &[(Clause::Changed, 1)]);
        check(&[Unknown], true, &[(ID, "other")], &[(Clause::Changed, 1)]);
        check(&[Acknowledged], true, &[(ID, "sent"), (ID, "sent")], &[(Clause::Doubled, 1)]);
        check(&[Acknowledged], true, &[(ID, "sent"), (OTHER_ID, "sent")], &[(Clause::Doubled, 1)]);
        check(&[Acknowledged], true, &[(ID, "sent"), (OTHER_ID, "new")], &[(Clause::Invented, 1)]);
        let under_another_id = [(Clause::LostBeforeKafka, 1), (Clause::Doubled, 1)];
        check(&[Acknowledged], false, &[(OTHER_ID, "sent")], &under_another_id);
    }

    #[test]
    fn the_best_answer_counts_that_any_batch_with_the_event_got() {
        use Outcome::{Acknowledged, Refused, Unknown};
        let counts = |outcomes: &[Outcome]| found(outcomes, false, false, &[]).counts.events;
        assert_eq!(counts(&[Refused, Unknown, Acknowledged]).acknowledged, 1);
        assert_eq!(counts(&[Refused, Unknown]).unknown, 1);
        assert_eq!(counts(&[Refused, Refused]).refused, 1);
        check(&[Refused, Unknown, Acknowledged], true, &[], &[(Clause::LostAfterKafka, 1)]);
        check(&[Refused, Unknown], true, &[(ID, "sent")], &[]);
    }

    #[test]
    fn unwritable_events_have_no_row_but_are_in_kafka() {
        let clauses = |in_kafka, rows: &[(Uuid, &str)]| {
            let verdict = found(&[Outcome::Acknowledged], true, in_kafka, rows);
            assert_eq!(verdict.counts.unwritable, 1);
            verdict.findings().keys().copied().collect::<Vec<_>>()
        };
        assert_eq!(clauses(true, &[]), []);
        assert_eq!(clauses(false, &[]), [Clause::LostBeforeKafka]);
        assert_eq!(clauses(true, &[(ID, "sent")]), [Clause::UnwritableStored]);
    }
}
