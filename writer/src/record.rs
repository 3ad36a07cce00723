//! A Kafka record as the writer holds it: its bytes, once, and what was found in them.

use common::event_id;
use common::page_hash::PageHash;
use common::record::events::{DecodeError, Event, EventsRecord};
use common::record::headers::{HeaderError, RecordHeaders};
use common::record::webstates::{self, PageError};
use common::time::Timestamp;
use rdkafka::Message;
use rdkafka::message::OwnedMessage;
use uuid::Uuid;

use crate::merge::{ReplayState, UserState, WebstateState};

/// Which of the two topics a record was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Recorder batches.
    Events,
    /// Pages.
    Webstates,
}

/// A partition of either topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// Its topic.
    pub topic: Topic,
    /// Its number.
    pub number: i32,
}

/// A record, read from Kafka and not yet in Postgres.
#[derive(Debug)]
pub struct Record {
    /// Where it was read from.
    pub partition: Partition,
    /// The record as it was, for the dead letters.
    pub message: OwnedMessage,
    /// What it holds.
    pub content: Content,
}

/// What a record holds.
#[derive(Debug)]
pub enum Content {
    /// A recorder batch.
    Events(EventsContent),
    /// A page; the record's value is its `html_content`.
    Page {
        /// The page's hash.
        hash: PageHash,
        /// When the gateway received it.
        received_at: Timestamp,
    },
    /// Nothing that can be read.
    Unreadable(Unreadable),
}

/// A recorder batch.
#[derive(Debug)]
pub struct EventsContent {
    /// When the gateway received it.
    pub received_at: Timestamp,
    /// What it says of the user.
    pub user: (Uuid, UserState),
    /// What it says of the replay.
    pub replay: (Uuid, ReplayState),
    /// The page states seen.
    pub sightings: Vec<(PageHash, WebstateState)>,
    /// The events, in the recorder's order.
    pub events: Vec<EventRow>,
}

/// An event; its texts lie in the record's value.
#[derive(Clone, Copy, Debug)]
pub struct EventRow {
    /// The primary key.
    pub event_id: Uuid,
    /// When it happened.
    pub timestamp: Timestamp,
    /// Where its type is.
    pub event_type: Span,
    /// Where its data are: JSON text.
    pub event_data: Span,
    /// The page state that it belongs to.
    pub webstate_hash: Option<PageHash>,
}

/// A piece of a record's value.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    start: usize,
    end: usize,
}

impl Span {
    /// Where `piece`, which was parsed out of `value` without copying, lies in it.
    fn locate(piece: &str, value: &[u8]) -> Self {
        let start = piece.as_ptr() as usize - value.as_ptr() as usize;
        Self { start, end: start + piece.len() }
    }

    /// The piece.
    pub fn of(self, value: &[u8]) -> &[u8] {
        &value[self.start..self.end]
    }
}

/// Why a record cannot be read: poison.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// A header that every record carries is missing or malformed.
    #[error("header {0} is missing or malformed")]
    Header(&'static str),
    /// The record has no value.
    #[error("the record has no value")]
    Empty,
    /// The value of a recorder batch.
    #[error(transparent)]
    Events(#[from] DecodeError),
    /// The key or value of a page.
    #[error(transparent)]
    Page(#[from] PageError),
}

impl Unreadable {
    /// The name in the dead letter's `error.class` and in the metrics.
    pub const fn class(&self) -> &'static str {
        match self {
            Self::Header(_) => "bad_header",
            Self::Empty => "empty",
            Self::Events(DecodeError::NotJson(_)) => "not_json",
            Self::Events(DecodeError::WrongShape(_)) => "wrong_shape",
            Self::Events(DecodeError::ForeignEventId { .. }) => "foreign_event_id",
            Self::Page(PageError::BadKey) => "bad_key",
            Self::Page(PageError::NotAPage { .. }) => "not_a_page",
            Self::Page(PageError::OtherContent { .. }) => "other_content",
        }
    }

    /// All classes.
    pub const CLASSES: [&'static str; 8] = [
        "bad_header",
        "empty",
        "not_json",
        "wrong_shape",
        "foreign_event_id",
        "bad_key",
        "not_a_page",
        "other_content",
    ];
}

/// The record is of a newer format: its partition waits for a newer writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewerSchema(pub u32);

impl Record {
    /// Reads a record. Bytes are copied once, out of Kafka's fetch buffer, which a borrowed
    /// message would pin whole.
    ///
    /// # Errors
    /// [`NewerSchema`]. What cannot be read otherwise is [`Content::Unreadable`].
    pub fn read(
        topic: Topic,
        message: OwnedMessage,
        page_limit_bytes: usize,
    ) -> Result<Self, NewerSchema> {
        let content = match RecordHeaders::from_kafka(message.headers()) {
            Err(HeaderError::NewerSchema { found }) => return Err(NewerSchema(found)),
            Err(HeaderError::Malformed { name }) => Err(Unreadable::Header(name)),
            Ok(headers) => match topic {
                Topic::Events => read_events(&message, headers.received_at),
                Topic::Webstates => read_page(&message, headers.received_at, page_limit_bytes),
            },
        };
        let partition = Partition { topic, number: message.partition() };
        let content = content.unwrap_or_else(Content::Unreadable);
        Ok(Self { partition, message, content })
    }

    /// The record's value.
    pub fn value(&self) -> &[u8] {
        self.message.payload().unwrap_or_default()
    }

    /// When Kafka appended it.
    pub fn appended_at(&self) -> Option<Timestamp> {
        let milliseconds = self.message.timestamp().to_millis()?;
        Some(Timestamp::from_micros(milliseconds.saturating_mul(1_000)))
    }

    /// How many events it holds; none where it could not be read.
    pub fn events(&self) -> usize {
        match &self.content {
            Content::Events(content) => content.events.len(),
            Content::Page { .. } | Content::Unreadable(_) => 0,
        }
    }

    /// What it takes of the memory: its value and what was parsed of it.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.value().len() + self.events() * size_of::<EventRow>()
    }
}

fn read_events(message: &OwnedMessage, received_at: Timestamp) -> Result<Content, Unreadable> {
    let value = message.payload().ok_or(Unreadable::Empty)?;
    let record = EventsRecord::decode(value)?;
    let row = |event: &Event<'_>| EventRow {
        event_id: event.event_id,
        timestamp: event.timestamp,
        event_type: Span::locate(event.event_type, value),
        event_data: Span::locate(event.event_data.as_str(), value),
        webstate_hash: event.webstate_hash,
    };
    Ok(Content::Events(EventsContent {
        received_at,
        user: (record.replay.user.user_id, UserState::of(&record.replay, record.as_of)),
        replay: (record.replay.replay_id, ReplayState::of(&record.replay, record.as_of)),
        sightings: record.webstates.iter().map(WebstateState::seen).collect(),
        events: record.events.iter().map(row).collect(),
    }))
}

fn read_page(
    message: &OwnedMessage,
    received_at: Timestamp,
    page_limit_bytes: usize,
) -> Result<Content, Unreadable> {
    let hash = webstates::decode_key(message.key())?;
    let value = message.payload().ok_or(Unreadable::Empty)?;
    webstates::verify(hash, value, page_limit_bytes)?;
    Ok(Content::Page { hash, received_at })
}

/// The first instant (milliseconds since 1970) and name of the month that an event's id lies in.
pub fn month_of(event_id: Uuid) -> Option<chrono::NaiveDate> {
    use chrono::{DateTime, Datelike, NaiveDate};
    let day = DateTime::from_timestamp_millis(event_id::millis(event_id))?.date_naive();
    NaiveDate::from_ymd_opt(day.year(), day.month(), 1)
}

#[cfg(test)]
mod tests {
    use common::json_text::JsonText;
    use common::record::events::{Replay, User};
    use rdkafka::Timestamp as KafkaTimestamp;
    use rdkafka::message::{Header, OwnedHeaders};

    use super::*;

    const PAGE_LIMIT_BYTES: usize = 1 << 20;

    fn headers() -> OwnedHeaders {
        RecordHeaders { received_at: Timestamp::from_micros(1), traceparent: None }.to_kafka()
    }

    fn message(key: &[u8], value: Option<Vec<u8>>, headers: OwnedHeaders) -> OwnedMessage {
        let timestamp = KafkaTimestamp::NotAvailable;
        OwnedMessage::new(value, Some(key.to_vec()), "t".into(), timestamp, 3, 5, Some(headers))
    }

    fn class(topic: Topic, message: OwnedMessage) -> &'static str {
        match Record::read(topic, message, PAGE_LIMIT_BYTES).unwrap().content {
            Content::Unreadable(reason) => {
                assert!(Unreadable::CLASSES.contains(&reason.class()));
                reason.class()
            }
            Content::Events(_) => "events",
            Content::Page { .. } => "page",
        }
    }

    #[test]
    fn records_that_cannot_be_read_have_a_class() {
        let page = webstates::encode(b"<p>").unwrap();
        let key = PageHash::of(b"<p>").to_hex();
        let check = |topic, key: &str, value: Option<&[u8]>, expected| {
            let message = message(key.as_bytes(), value.map(<[u8]>::to_vec), headers());
            assert_eq!(class(topic, message), expected);
        };
        check(Topic::Events, "", None, "empty");
        check(Topic::Events, "", Some(b"{"), "not_json");
        check(Topic::Events, "", Some(b"{}"), "wrong_shape");
        check(Topic::Webstates, &key, None, "empty");
        check(Topic::Webstates, "key", Some(&page), "bad_key");
        check(Topic::Webstates, &key, Some(b"<p>"), "not_a_page");
        check(Topic::Webstates, &"0".repeat(64), Some(&page), "other_content");
        check(Topic::Webstates, &key, Some(&page), "page");
        let bare = message(b"", Some(b"{}".to_vec()), OwnedHeaders::new());
        assert_eq!(class(Topic::Events, bare), "bad_header");
    }

    #[test]
    fn a_newer_format_is_not_poison() {
        let newer = headers().insert(Header { key: "schema", value: Some("2") });
        let record = Record::read(Topic::Events, message(b"", None, newer), PAGE_LIMIT_BYTES);
        assert_eq!(record.err(), Some(NewerSchema(2)));
    }

    #[test]
    fn spans_find_the_bytes_of_the_value() {
        let timestamp = Timestamp::from_micros(1_704_067_200_123_000);
        let replay_id = Uuid::from_u128(1);
        let data = "{ \"ü\": [1.0, 1.0] }";
        let event = Event {
            event_id: event_id::from_seq(replay_id, timestamp, 4),
            seq: Some(4),
            timestamp,
            event_type: "custom_type",
            event_data: JsonText::parse(data).unwrap(),
            webstate_hash: None,
        };
        let encoded = EventsRecord {
            replay: Replay {
                replay_id,
                initial_url: "/".into(),
                start_time: timestamp,
                end_time: None,
                user: User { user_id: replay_id, email: None, name: None, created_at: None },
            },
            as_of: timestamp,
            events: vec![event],
            webstates: vec![],
        }
        .encode(10_000)
        .unwrap();
        let message = message(b"", Some(encoded[0].value.clone()), headers());
        let record = Record::read(Topic::Events, message, PAGE_LIMIT_BYTES).unwrap();
        let Content::Events(content) = &record.content else { panic!("readable") };
        let row = content.events[0];
        assert_eq!(row.event_type.of(record.value()), b"custom_type");
        assert_eq!(row.event_data.of(record.value()), data.as_bytes());
    }

    #[test]
    fn an_id_tells_its_month() {
        let id = |millis: i64| {
            event_id::from_seq(Uuid::nil(), Timestamp::from_micros(millis * 1_000), 0)
        };
        let check = |millis, expected: &str| {
            assert_eq!(month_of(id(millis)).unwrap().to_string(), expected);
        };
        check(1_704_067_199_999, "2023-12-01");
        check(1_704_067_200_000, "2024-01-01");
    }
}
