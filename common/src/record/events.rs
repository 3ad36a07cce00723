//! The record of one recorder batch: the envelope with every event's id, and of the page states
//! only hash and time of capture.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::event_id;
use crate::json_text::JsonText;
use crate::page_hash::PageHash;
use crate::time::Timestamp;

/// A session replay, and who was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay<'a> {
    /// The replay's id, chosen by the recorder.
    pub replay_id: Uuid,
    /// The address of the first page.
    #[serde(borrow)]
    pub initial_url: Cow<'a, str>,
    /// When the recording began.
    pub start_time: Timestamp,
    /// When it ended, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Timestamp>,
    /// Who was recorded.
    #[serde(borrow)]
    pub user: User<'a>,
}

/// The person recorded, as the recorder knows them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User<'a> {
    /// The user's id, chosen by the recorder.
    pub user_id: Uuid,
    /// The address that the user claims.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub email: Option<Cow<'a, str>>,
    /// The user's name.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Cow<'a, str>>,
    /// When the user came to be; without it the replay's start counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
}

/// One thing that happened on a page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event<'a> {
    /// UUID of version 7, see [`crate::event_id`].
    pub event_id: Uuid,
    /// The event's number in its replay, where the recorder counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// When it happened, by the recorder's clock.
    pub timestamp: Timestamp,
    /// What happened: `[a-z][a-z0-9_]{0,63}`.
    pub event_type: &'a str,
    /// JSON text, byte for byte as it will be stored.
    #[serde(borrow)]
    pub event_data: JsonText<'a>,
    /// The page state that the event belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webstate_hash: Option<PageHash>,
}

/// A page state was seen; its content travels on the page states topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// Which page state.
    pub html_hash: PageHash,
    /// When it was seen.
    pub captured_at: Timestamp,
}

/// One record of the events topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsRecord<'a> {
    /// The replay, so that any record can create the rows that it needs.
    #[serde(borrow)]
    pub replay: Replay<'a>,
    /// The latest time found in the whole envelope before it was split: which of two statements
    /// about a user is the newer one.
    pub as_of: Timestamp,
    /// The events, in the recorder's order.
    #[serde(borrow, default)]
    pub events: Vec<Event<'a>>,
    /// The page states seen.
    #[serde(default)]
    pub webstates: Vec<Sighting>,
}

/// The value of one Kafka record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedRecord {
    /// JSON text.
    pub value: Vec<u8>,
    /// How many events it holds.
    pub events: usize,
}

/// Why a record's value cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are not JSON text.
    #[error("not JSON at line {}, column {}", .0.line(), .0.column())]
    NotJson(serde_json::Error),
    /// JSON of another shape than [`EventsRecord`].
    #[error("wrong shape at line {}, column {}", .0.line(), .0.column())]
    WrongShape(serde_json::Error),
    /// An event's id is not of version 7 or does not carry the event's millisecond.
    #[error("event {position}: the id is not a version 7 UUID of its millisecond")]
    ForeignEventId {
        /// The event's place in the record, from 0.
        position: usize,
    },
}

/// An item alone is larger than a Kafka record may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("would need a record of {needed_bytes} bytes; the limit is {limit_bytes}")]
pub struct ItemTooLarge {
    /// Which one.
    pub item: Item,
    /// The size of the record with this item alone.
    pub needed_bytes: usize,
    /// The largest record allowed.
    pub limit_bytes: usize,
}

/// An item of an envelope, by its place in the list it stands in, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// The replay itself.
    Replay,
    /// An event.
    Event(usize),
    /// A page state.
    Webstate(usize),
}

impl<'a> EventsRecord<'a> {
    /// Reads a record's value.
    ///
    /// # Errors
    /// See [`DecodeError`]; none of them shows content.
    pub fn decode(value: &'a [u8]) -> Result<Self, DecodeError> {
        let parsed = match std::str::from_utf8(value) {
            // Checked once as a whole, which is faster than text by text.
            Ok(text) => serde_json::from_str::<Self>(text),
            Err(_) => serde_json::from_slice(value),
        };
        let record = parsed.map_err(|error| {
            if error.is_data() {
                DecodeError::WrongShape(error)
            } else {
                DecodeError::NotJson(error)
            }
        })?;
        let foreign = |event: &Event<'_>| !event_id::carries(event.event_id, event.timestamp);
        match record.events.iter().position(foreign) {
            Some(position) => Err(DecodeError::ForeignEventId { position }),
            None => Ok(record),
        }
    }

    /// Writes the record as the values of as few Kafka records as hold it, each at most
    /// `limit_bytes` long, each with the replay and `as_of`: at least one, also for an envelope
    /// without events.
    ///
    /// # Errors
    /// [`ItemTooLarge`] names the item that fits no record.
    pub fn encode(&self, limit_bytes: usize) -> Result<Vec<EncodedRecord>, ItemTooLarge> {
        let mut pieces = Pieces::new(self, limit_bytes)?;
        let mut item = Vec::new();
        for (position, event) in self.events.iter().enumerate() {
            item.clear();
            write_json(&mut item, event);
            pieces.push(Item::Event(position), &item)?;
        }
        for (position, sighting) in self.webstates.iter().enumerate() {
            item.clear();
            write_json(&mut item, sighting);
            pieces.push(Item::Webstate(position), &item)?;
        }
        Ok(pieces.finish())
    }
}

/// Between the events and the page states of a record.
const WEBSTATES: &[u8] = br#"],"webstates":["#;
/// The end of a record.
const END: &[u8] = b"]}";

/// Records being filled one item after the other.
struct Pieces {
    head: Vec<u8>,
    limit_bytes: usize,
    finished: Vec<EncodedRecord>,
    value: Vec<u8>,
    events: usize,
    in_webstates: bool,
    empty: bool,
}

impl Pieces {
    fn new(record: &EventsRecord<'_>, limit_bytes: usize) -> Result<Self, ItemTooLarge> {
        let mut head = br#"{"replay":"#.to_vec();
        write_json(&mut head, &record.replay);
        head.extend_from_slice(br#","as_of":"#);
        write_json(&mut head, &record.as_of);
        head.extend_from_slice(br#","events":["#);
        let needed_bytes = head.len() + WEBSTATES.len() + END.len();
        if needed_bytes > limit_bytes {
            return Err(ItemTooLarge { item: Item::Replay, needed_bytes, limit_bytes });
        }
        Ok(Self {
            value: head.clone(),
            head,
            limit_bytes,
            finished: Vec::new(),
            events: 0,
            in_webstates: false,
            empty: true,
        })
    }

    fn push(&mut self, place: Item, item: &[u8]) -> Result<(), ItemTooLarge> {
        let is_webstate = matches!(place, Item::Webstate(_));
        // The separator counts one byte whether it will be needed or not.
        let needed = |value: &[u8], in_webstates: bool| {
            let middle = if in_webstates { 0 } else { WEBSTATES.len() };
            value.len() + middle + 1 + item.len() + END.len()
        };
        if !self.empty && needed(&self.value, self.in_webstates) > self.limit_bytes {
            self.close();
        }
        let needed_bytes = needed(&self.value, self.in_webstates);
        if needed_bytes > self.limit_bytes {
            let limit_bytes = self.limit_bytes;
            return Err(ItemTooLarge { item: place, needed_bytes, limit_bytes });
        }
        if is_webstate && !self.in_webstates {
            self.value.extend_from_slice(WEBSTATES);
            self.in_webstates = true;
        } else if self.value.last() != Some(&b'[') {
            self.value.push(b',');
        }
        self.value.extend_from_slice(item);
        self.events += usize::from(!is_webstate);
        self.empty = false;
        Ok(())
    }

    fn close(&mut self) {
        if !self.in_webstates {
            self.value.extend_from_slice(WEBSTATES);
        }
        self.value.extend_from_slice(END);
        let value = std::mem::replace(&mut self.value, self.head.clone());
        self.finished.push(EncodedRecord { value, events: std::mem::take(&mut self.events) });
        self.in_webstates = false;
        self.empty = true;
    }

    fn finish(mut self) -> Vec<EncodedRecord> {
        if !self.empty || self.finished.is_empty() {
            self.close();
        }
        self.finished
    }
}

/// Appends a value whose serialization cannot fail: its keys are text and its numbers finite.
fn write_json<T: Serialize>(out: &mut Vec<u8>, value: &T) {
    #[expect(clippy::expect_used, reason = "writing to memory, of types without fallible parts")]
    serde_json::to_writer(out, value).expect("a record's parts are valid JSON");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record<'a>(events: Vec<Event<'a>>, webstates: Vec<Sighting>) -> EventsRecord<'a> {
        EventsRecord {
            replay: Replay {
                replay_id: Uuid::from_u128(7),
                initial_url: "https://shop.example/\"quoted\"".into(),
                start_time: Timestamp::from_micros(1_704_067_200_000_500),
                end_time: None,
                user: User {
                    user_id: Uuid::from_u128(8),
                    email: Some("é@shop.example".into()),
                    name: None,
                    created_at: None,
                },
            },
            as_of: Timestamp::from_micros(1_704_067_300_000_000),
            events,
            webstates,
        }
    }

    fn event(seq: u64, event_data: &str) -> Event<'_> {
        let timestamp = Timestamp::from_micros(1_704_067_200_000_000);
        Event {
            event_id: event_id::from_seq(Uuid::from_u128(7), timestamp, seq),
            seq: Some(seq),
            timestamp,
            event_type: "click",
            event_data: JsonText::parse(event_data).unwrap(),
            webstate_hash: None,
        }
    }

    proptest! {
        #[test]
        fn splitting_keeps_every_item_in_order_within_the_limit(
            lengths in prop::collection::vec(0_usize..200, 0..40),
            webstates in 0_usize..20,
            limit in 700_usize..4_000,
        ) {
            let data: Vec<String> =
                lengths.iter().map(|length| format!("[ \"{}\"]", "x".repeat(*length))).collect();
            let events = data.iter().zip(0..).map(|(data, seq)| event(seq, data)).collect();
            let sighting = Sighting {
                html_hash: PageHash::of(b"page"),
                captured_at: Timestamp::from_micros(1_704_067_200_000_000),
            };
            let whole = record(events, vec![sighting; webstates]);
            let pieces = whole.encode(limit).unwrap();
            let decoded: Vec<_> =
                pieces.iter().map(|piece| EventsRecord::decode(&piece.value).unwrap()).collect();
            prop_assert!(pieces.iter().all(|piece| piece.value.len() <= limit));
            prop_assert!(pieces.iter().zip(&decoded).all(|(p, d)| p.events == d.events.len()));
            prop_assert!(decoded.iter().all(|d| d.replay == whole.replay && d.as_of == whole.as_of));
            let joined: Vec<_> = decoded.iter().flat_map(|d| d.events.clone()).collect();
            prop_assert_eq!(joined, whole.events);
            let joined: Vec<_> = decoded.iter().flat_map(|d| d.webstates.clone()).collect();
            prop_assert_eq!(joined, whole.webstates);
        }
    }

    fn time() -> impl Strategy<Value = Timestamp> {
        (0_i64..4_000_000_000_000_000).prop_map(Timestamp::from_micros)
    }

    prop_compose! {
        fn any_user()(
            user_id: u128,
            email: Option<String>,
            name: Option<String>,
            created_at in prop::option::of(time()),
        ) -> User<'static> {
            User {
                user_id: Uuid::from_u128(user_id),
                email: email.map(Into::into),
                name: name.map(Into::into),
                created_at,
            }
        }
    }

    prop_compose! {
        fn any_replay()(
            replay_id: u128,
            initial_url: String,
            start_time in time(),
            end_time in prop::option::of(time()),
            user in any_user(),
        ) -> Replay<'static> {
            let replay_id = Uuid::from_u128(replay_id);
            Replay { replay_id, initial_url: initial_url.into(), start_time, end_time, user }
        }
    }

    proptest! {
        #[test]
        fn a_record_written_is_read_back(
            replay in any_replay(),
            as_of in time(),
            events in prop::collection::vec((any::<Option<u64>>(), time(), any::<String>()), 0..5),
            pages in prop::collection::vec((any::<[u8; 4]>(), time()), 0..5),
        ) {
            let events: Vec<_> = events
                .into_iter()
                .map(|(seq, at, text)| (seq, at, serde_json::to_string(&text).unwrap()))
                .collect();
            let record = EventsRecord {
                as_of,
                events: events
                    .iter()
                    .map(|(seq, timestamp, event_data)| Event {
                        event_id: event_id::from_seq(replay.replay_id, *timestamp, 1),
                        seq: *seq,
                        timestamp: *timestamp,
                        event_type: "click",
                        event_data: JsonText::parse(event_data).unwrap(),
                        webstate_hash: seq.map(|seq| PageHash::of(&seq.to_be_bytes())),
                    })
                    .collect(),
                webstates: pages
                    .iter()
                    .map(|(page, captured_at)| Sighting {
                        html_hash: PageHash::of(page),
                        captured_at: *captured_at,
                    })
                    .collect(),
                replay,
            };
            let encoded = record.encode(usize::MAX).unwrap();
            prop_assert_eq!(encoded.len(), 1);
            prop_assert_eq!(&EventsRecord::decode(&encoded[0].value).unwrap(), &record);
        }
    }

    #[test]
    fn an_envelope_without_events_is_one_record() {
        let pieces = record(vec![], vec![]).encode(10_000).unwrap();
        assert_eq!(pieces.len(), 1);
        assert!(EventsRecord::decode(&pieces[0].value).is_ok());
    }

    #[test]
    fn an_event_that_fits_no_record_is_named() {
        let large = format!("\"{}\"", "x".repeat(2_000));
        let error = record(vec![event(0, "1"), event(1, &large)], vec![]).encode(1_000);
        assert_eq!(error.unwrap_err().item, Item::Event(1));
    }

    #[test]
    fn what_cannot_be_read_is_told_apart() {
        fn check(value: &[u8], expected: &str) {
            let error = EventsRecord::decode(value).unwrap_err();
            let class = match error {
                DecodeError::NotJson(_) => "not JSON",
                DecodeError::WrongShape(_) => "wrong shape",
                DecodeError::ForeignEventId { .. } => "foreign id",
            };
            assert_eq!(class, expected);
        }
        check(b"", "not JSON");
        check(b"\xff\xfe", "not JSON");
        check(br#"{"replay":"#, "not JSON");
        check(b"[]", "wrong shape");
        check(br#"{"replay":{},"as_of":0}"#, "wrong shape");
        let mut foreign = event(0, "1");
        foreign.event_id = Uuid::from_u128(1);
        let value = record(vec![foreign], vec![]).encode(10_000).unwrap().remove(0).value;
        check(&value, "foreign id");
    }
}
