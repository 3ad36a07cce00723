//! The envelope of the recorder API: from bytes to checked content.
//!
//! [`raw`] is its shape, [`parse`] reads it, [`check`] says what every member must be like,
//! [`fields`] reads single values, [`escapes`] mends what Postgres cannot store.

pub mod check;
pub mod depth;
pub mod escapes;
pub mod fields;
pub mod identity;
pub mod parse;
pub mod raw;
pub mod rules;
pub mod shape;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use common::page_hash::PageHash;
use common::record::events::{self, EventsRecord, Replay, Sighting};
use common::time::Timestamp;
use serde_json::value::RawValue;
use uuid::Uuid;

pub use fields::text;
pub use parse::parse;
pub use raw::RawEnvelope;
pub use rules::EnvelopeRules;
pub use shape::{Capped, Object};

use crate::problem::Problem;

/// A checked envelope: nothing in it can be refused any more but for the size of its records.
#[derive(Debug)]
pub struct Envelope<'a> {
    /// The replay, and who was recorded.
    pub replay: Replay<'a>,
    /// The latest of its times.
    pub as_of: Timestamp,
    /// Its events, in the recorder's order, each with its id.
    pub events: Vec<Event<'a>>,
    /// The page states seen.
    pub sightings: Vec<Sighting>,
    /// Those sent with their content.
    pub pages: Vec<Page<'a>>,
    /// How many escapes had to be replaced.
    pub replaced_escapes: u64,
}

/// A checked event.
#[derive(Debug)]
pub struct Event<'a> {
    /// The recorder's own id or the derived one.
    pub event_id: Uuid,
    /// Its number in the replay.
    pub seq: Option<u64>,
    /// When it happened.
    pub timestamp: Timestamp,
    /// What happened.
    pub event_type: Cow<'a, str>,
    /// JSON text as it will be stored.
    pub event_data: Cow<'a, RawValue>,
    /// The page state that it belongs to.
    pub webstate_hash: Option<PageHash>,
}

/// A page state sent with its content.
#[derive(Debug)]
pub struct Page<'a> {
    /// Its verified hash.
    pub hash: PageHash,
    /// The page.
    pub content: Cow<'a, str>,
    /// Its place among the envelope's page states, from 0.
    pub position: usize,
}

/// A refused envelope.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub problem: Problem,
    /// How many events it had; none are known of what cannot be parsed.
    pub events: usize,
}

/// Reads an envelope as it was sent; `now` is the gateway's time. The body's lone surrogates are
/// mended in place, the rest of it is borrowed.
///
/// # Errors
/// Why it is refused, whole.
pub fn read<'a>(
    body: &'a mut [u8],
    rules: &EnvelopeRules,
    now: Timestamp,
) -> Result<Envelope<'a>, Refused> {
    let surrogates = escapes::mend_surrogates(body);
    let Object(raw) =
        parse::<Object<RawEnvelope<'a>>>(body).map_err(|problem| Refused { problem, events: 0 })?;
    let events = raw.events.as_ref().map_or(0, |list| list.total);
    let mut envelope =
        check::check(raw, rules, now).map_err(|problem| Refused { problem, events })?;
    envelope.replaced_escapes += surrogates;
    Ok(envelope)
}

impl Envelope<'_> {
    /// The envelope as a record for Kafka.
    pub fn record(&self) -> EventsRecord<'_> {
        EventsRecord {
            replay: self.replay.clone(),
            as_of: self.as_of,
            events: self.events.iter().map(Event::record).collect(),
            webstates: self.sightings.clone(),
        }
    }
}

impl Event<'_> {
    fn record(&self) -> events::Event<'_> {
        events::Event {
            event_id: self.event_id,
            seq: self.seq,
            timestamp: self.timestamp,
            event_type: &self.event_type,
            event_data: self.event_data.as_ref().into(),
            webstate_hash: self.webstate_hash,
        }
    }
}
