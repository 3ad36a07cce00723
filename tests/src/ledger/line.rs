//! The lines of a ledger.

use common::page_hash::PageHash;
use common::record::events::{Replay, User};
use common::time::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{EventDigest, UNWRITABLE_EVENT_TYPE};
use crate::recordings::envelope::Envelope;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line<'a> {
    /// A batch is about to be sent.
    #[serde(borrow)]
    Sent(Sent<'a>),
    /// Its sender will not send it again.
    Settled(Settled),
    /// A record that cannot be read is about to be put on a topic.
    Garbage {
        /// Its key.
        key: String,
    },
    /// Kafka has that record.
    GarbageAcknowledged {
        /// Its key.
        key: String,
    },
}

/// A batch as it was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent<'a> {
    /// Its number in the ledger, from 0.
    pub batch: u64,
    /// The latest time found in it.
    pub as_of: Timestamp,
    /// The replay and its user.
    #[serde(borrow)]
    pub replay: Replay<'a>,
    /// Its events, in order.
    pub events: Vec<SentEvent>,
    /// Its page states, in order.
    pub pages: Vec<SentPage>,
}

/// An event as it was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentEvent {
    /// The id under which it must be stored.
    pub event_id: Uuid,
    /// The hash of its row.
    pub sha256: EventDigest,
    /// The page state that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webstate_hash: Option<PageHash>,
    /// Whether the database refuses it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unwritable: bool,
}

/// A page state as it was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentPage {
    /// The hash of its content.
    pub html_hash: PageHash,
    /// When it was seen.
    pub captured_at: Timestamp,
    /// Whether its content was sent.
    pub content: bool,
}

/// How a batch ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// Its number in the ledger.
    pub batch: u64,
    /// What is known of it.
    pub outcome: Outcome,
    /// The last answer's status, if there was an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How many requests were made.
    pub attempts: u32,
    /// When it was settled.
    pub at: Timestamp,
}

/// What the sender of a batch knows of it in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is in Kafka.
    Acknowledged,
    /// It never will be: no gateway has left it open whether it has arrived.
    Refused,
    /// It may be or not: the sender gave up, or was stopped.
    Unknown,
}

impl<'a> Sent<'a> {
    /// What an envelope says, as batch number `batch`.
    pub fn of(batch: u64, envelope: &'a Envelope) -> Self {
        let replay_id = envelope.replay.replay_id;
        let events = envelope.identified_events().map(|(event_id, event)| SentEvent {
            event_id,
            sha256: EventDigest::of(
                replay_id,
                event.timestamp,
                event.event_type,
                event.event_data.get(),
                event.webstate_hash,
            ),
            webstate_hash: event.webstate_hash,
            unwritable: event.event_type == UNWRITABLE_EVENT_TYPE,
        });
        let pages = envelope.webstates.iter().map(|capture| SentPage {
            html_hash: capture.html_hash,
            captured_at: capture.captured_at,
            content: capture.html_content.is_some(),
        });
        Self {
            batch,
            as_of: envelope.as_of(),
            replay: envelope.replay.clone(),
            events: events.collect(),
            pages: pages.collect(),
        }
    }

    /// The same, outliving the line that it was read from.
    pub fn into_owned(self) -> Sent<'static> {
        let Self { batch, as_of, replay, events, pages } = self;
        let User { user_id, email, name, created_at } = replay.user;
        let owned = |text: std::borrow::Cow<'_, str>| text.into_owned().into();
        let user = User { user_id, email: email.map(owned), name: name.map(owned), created_at };
        let replay = Replay {
            replay_id: replay.replay_id,
            initial_url: replay.initial_url.into_owned().into(),
            start_time: replay.start_time,
            end_time: replay.end_time,
            user,
        };
        Sent { batch, as_of, replay, events, pages }
    }
}
