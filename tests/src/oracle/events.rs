//! Every event that was sent against Kafka and the rows of `events`.

use common::time::Timestamp;
use uuid::Uuid;

use super::clause::Clause;
use super::verdict::Verdict;
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
    /// Where the event of the claim at the same place was seen.
    seen: Vec<Seen>,
    /// By batch.
    outcomes: Vec<Outcome>,
    /// All digests in order, to recognise an event under another id.
    digests: Vec<EventDigest>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Kafka holds it, as this claim has it.
    in_kafka: bool,
    /// There is a row with its id; noted at the first claim about it.
    stored: bool,
}

/// What an event that was found somewhere is.
#[derive(Clone, Copy, Debug)]
enum Recognised {
    /// What that claim says; the first one about it stands at that place.
    AsSent { place: usize, claim: EventClaim },
    /// Other than any batch says that was not refused, such as this one.
    Changed { place: usize, claim: EventClaim },
    /// Only refused batches speak of it, such as this one.
    Refused { place: usize, claim: EventClaim },
    /// No batch has an event with that id, but one has the same event.
    UnderAnotherId,
    /// No batch has it.
    Stranger,
}

impl Recognised {
    /// The place of the first claim about its id.
    fn place(self) -> Option<usize> {
        match self {
            Self::AsSent { place, .. }
            | Self::Changed { place, .. }
            | Self::Refused { place, .. } => Some(place),
            Self::UnderAnotherId | Self::Stranger => None,
        }
    }
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

    /// What an event with that id and these contents is.
    fn recognise(&self, event_id: Uuid, digest: EventDigest) -> Recognised {
        let Some(place) = self.place(event_id) else {
            return match self.digests.binary_search(&digest) {
                Ok(_) => Recognised::UnderAnotherId,
                Err(_) => Recognised::Stranger,
            };
        };
        let claims = self.about(place);
        let mut possible = claims.iter().filter(|claim| self.outcome(claim) != Outcome::Refused);
        let same = possible.clone().find(|claim| claim.digest == digest);
        match (same, possible.next()) {
            (Some(claim), _) => Recognised::AsSent { place, claim: *claim },
            (None, Some(first)) => Recognised::Changed { place, claim: *first },
            (None, None) => Recognised::Refused { place, claim: claims[0] },
        }
    }

    /// Kafka holds a record with an event of that id and these contents.
    pub(super) fn in_kafka(&mut self, event_id: Uuid, digest: EventDigest, verdict: &mut Verdict) {
        match self.recognise(event_id, digest) {
            Recognised::AsSent { place, .. } => {
                let claims = self.about(place).len();
                let (claims, seen) = (&self.claims[place..][..claims], &mut self.seen[place..]);
                for (_, seen) in claims.iter().zip(seen).filter(|(it, _)| it.digest == digest) {
                    seen.in_kafka = true;
                }
            }
            Recognised::Changed { claim, .. } => verdict.add(Clause::ChangedBeforeKafka, || {
                format!("{}: sent {}, in Kafka {digest}", describe(&claim), claim.digest)
            }),
            Recognised::Refused { claim, .. } => {
                verdict.add(Clause::RefusedInKafka, || describe(&claim));
            }
            Recognised::UnderAnotherId => verdict.add(Clause::InventedInKafka, || {
                format!("{event_id} holds an event that was sent under another id")
            }),
            Recognised::Stranger => {
                verdict.add(Clause::InventedInKafka, || format!("{event_id} was never sent"));
            }
        }
    }

    /// There is a row with that id and these contents.
    pub(super) fn stored(&mut self, event_id: Uuid, digest: EventDigest, verdict: &mut Verdict) {
        verdict.counts.event_rows += 1;
        let recognised = self.recognise(event_id, digest);
        if let Some(place) = recognised.place()
            && std::mem::replace(&mut self.seen[place].stored, true)
        {
            return verdict.add(Clause::Doubled, || format!("{event_id} has two rows"));
        }
        match recognised {
            Recognised::AsSent { claim, .. } if claim.unwritable => {
                verdict.add(Clause::UnwritableStored, || describe(&claim));
            }
            Recognised::AsSent { .. } => {}
            Recognised::Changed { claim, .. } => verdict.add(Clause::Changed, || {
                format!("{}: sent {}, stored {digest}", describe(&claim), claim.digest)
            }),
            Recognised::Refused { claim, .. } => {
                verdict.add(Clause::RefusedStored, || describe(&claim));
            }
            Recognised::UnderAnotherId => verdict.add(Clause::Doubled, || {
                format!("{event_id} holds an event that was sent under another id")
            }),
            Recognised::Stranger => {
                verdict.add(Clause::Invented, || format!("{event_id} was never sent"));
            }
        }
    }

    /// Judges what was not seen. Kafka's records and all rows have been given before.
    pub(super) fn judge(&self, verdict: &mut Verdict) {
        let mut place = 0;
        while place < self.claims.len() {
            let claims = self.about(place);
            self.judge_one(claims, &self.seen[place..][..claims.len()], verdict);
            place += claims.len();
        }
    }

    fn judge_one(&self, claims: &[EventClaim], seen: &[Seen], verdict: &mut Verdict) {
        let stored = seen[0].stored;
        let with = |outcome| {
            let all = claims.iter().zip(seen);
            all.filter(move |(claim, _)| self.outcome(claim) == outcome)
        };
        // Of several that differ under one id, Kafka must hold each.
        let acknowledged = with(Outcome::Acknowledged).min_by_key(|(_, seen)| seen.in_kafka);
        let unknown = with(Outcome::Unknown).max_by_key(|(_, seen)| seen.in_kafka);
        let (claim, seen) = match (acknowledged, unknown) {
            (Some(best), _) => {
                verdict.counts.events.acknowledged += 1;
                verdict.counts.unwritable += u64::from(best.0.unwritable);
                best
            }
            (None, Some(best)) => {
                verdict.counts.events.unknown += 1;
                verdict.counts.unknown_in_kafka += u64::from(best.1.in_kafka);
                verdict.counts.unknown_stored += u64::from(stored);
                best
            }
            (None, None) => {
                verdict.counts.events.refused += 1;
                return;
            }
        };
        let broken = match (acknowledged.is_some(), seen.in_kafka, stored) {
            (_, true, true) | (false, false, false) => return,
            // The dead letters tell what became of it.
            (_, true, false) if claim.unwritable => return,
            (true, true, false) => Clause::LostAfterKafka,
            (false, true, false) => Clause::Stranded,
            (true, false, false) => Clause::LostBeforeKafka,
            (_, false, true) => Clause::StoredNotInKafka,
        };
        verdict.add(broken, || describe(claim));
    }
}

fn describe(claim: &EventClaim) -> String {
    let EventClaim { event_id, batch, .. } = claim;
    let at = Timestamp::from_micros(common::event_id::millis(*event_id).saturating_mul(1_000));
    format!("{event_id} ({at}) of batch {batch}")
}

#[cfg(test)]
mod tests;
