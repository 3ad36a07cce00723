//! What a ledger claims, in the form in which it is compared.

use std::collections::BTreeMap;

use super::events::{EventClaim, Events};
use super::heads::Heads;
use super::pages::Pages;
use super::verdict::ByOutcome;
use crate::ledger::{Line, Outcome, Sent, Settled};

/// All that a ledger claims.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Batches by outcome.
    pub(super) batches: ByOutcome,
    /// Every event.
    pub(super) events: Events,
    /// Every page state of batches that were not refused.
    pub(super) pages: Pages,
    /// What batches that were not refused say of replays and users.
    pub(super) heads: Heads,
    /// Keys of unreadable records, and whether Kafka has acknowledged them.
    pub(super) garbage: BTreeMap<String, bool>,
}

/// Reads a ledger. Only batches that are not settled are kept whole.
#[derive(Debug, Default)]
pub(super) struct ClaimsReader {
    claims: Claims,
    /// The outcomes of all batches, by number.
    outcomes: Vec<Outcome>,
    events: Vec<EventClaim>,
    open: BTreeMap<u64, Sent<'static>>,
}

impl ClaimsReader {
    /// Takes in a line.
    ///
    /// # Errors
    /// When it contradicts those before.
    pub(super) fn take(&mut self, line: Line<'_>) -> Result<(), String> {
        match line {
            Line::Sent(sent) => self.sent(sent),
            Line::Settled(settled) => self.settled(&settled),
            Line::Garbage { key } => match self.claims.garbage.insert(key, false) {
                None => Ok(()),
                Some(_) => Err("two unreadable records have one key".to_owned()),
            },
            Line::GarbageAcknowledged { key } => match self.claims.garbage.get_mut(&key) {
                Some(acknowledged) => {
                    *acknowledged = true;
                    Ok(())
                }
                None => Err(format!("{key} was acknowledged before it was sent")),
            },
        }
    }

    fn sent(&mut self, sent: Sent<'_>) -> Result<(), String> {
        let number = u32::try_from(sent.batch).map_err(|error| error.to_string())?;
        // Batches are numbered as they begin, and their lines may overtake each other a little.
        let place = number as usize;
        if self.outcomes.len() <= place {
            self.outcomes.resize(place + 1, Outcome::Unknown);
        }
        self.events.extend(sent.events.iter().map(|event| EventClaim {
            event_id: event.event_id,
            digest: event.sha256,
            batch: number,
            unwritable: event.unwritable,
        }));
        match self.open.insert(sent.batch, sent.into_owned()) {
            None => Ok(()),
            Some(sent) => Err(format!("batch {} was sent before", sent.batch)),
        }
    }

    fn settled(&mut self, settled: &Settled) -> Result<(), String> {
        let number = settled.batch;
        let sent = self
            .open
            .remove(&number)
            .ok_or_else(|| format!("batch {number} is settled and not open"))?;
        if let Some(outcome) =
            usize::try_from(number).ok().and_then(|place| self.outcomes.get_mut(place))
        {
            *outcome = settled.outcome;
        }
        match settled.outcome {
            Outcome::Acknowledged => {
                self.claims.batches.acknowledged += 1;
                self.claims.heads.acknowledged(&sent);
                self.claims.pages.acknowledged(&sent);
            }
            Outcome::Refused => self.claims.batches.refused += 1,
            Outcome::Unknown => self.unknown(&sent),
        }
        Ok(())
    }

    fn unknown(&mut self, sent: &Sent<'_>) {
        self.claims.batches.unknown += 1;
        self.claims.heads.unknown(sent);
        self.claims.pages.unknown(sent);
    }

    /// What the whole ledger claims; what is not settled is unknown.
    pub(super) fn finish(mut self) -> Claims {
        for sent in std::mem::take(&mut self.open).into_values() {
            self.unknown(&sent);
        }
        Claims { events: Events::of(self.events, self.outcomes), ..self.claims }
    }
}
