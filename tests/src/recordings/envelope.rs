//! One batch as the recorder API takes it.

use std::collections::HashMap;
use std::sync::Arc;

use common::event_id;
use common::page_hash::PageHash;
use common::record::events::Replay;
use common::time::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use uuid::Uuid;

/// What a recorder sends in one request. Large parts are shared, so that copies are cheap.
#[derive(Clone, Debug, Serialize)]
pub struct Envelope {
    /// The replay and its user, as far as the recorder knows them by now.
    pub replay: Replay<'static>,
    /// Events in the order in which they happened.
    pub events: Vec<Event>,
    /// Page states, with or without their content.
    pub webstates: Vec<Capture>,
}

/// One event as it is sent.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// Its number in the replay, from 0; without one its id comes from its content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// When it happened.
    pub timestamp: Timestamp,
    /// What happened.
    pub event_type: &'static str,
    /// JSON text, sent as it is.
    #[serde(serialize_with = "shared")]
    pub event_data: Arc<RawValue>,
    /// The page state that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webstate_hash: Option<PageHash>,
}

/// One page state as it is sent.
#[derive(Clone, Debug, Serialize)]
pub struct Capture {
    /// The SHA-256 of its content.
    pub html_hash: PageHash,
    /// The page itself, unless the gateway has it already.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shared_if_any")]
    pub html_content: Option<Arc<str>>,
    /// When it was seen.
    pub captured_at: Timestamp,
}

impl Capture {
    /// The same sighting without the page.
    pub fn without_content(&self) -> Self {
        Self { html_content: None, ..self.clone() }
    }

    /// Bytes of the page, 0 without one.
    pub fn content_bytes(&self) -> usize {
        self.html_content.as_ref().map_or(0, |content| content.len())
    }
}

impl Envelope {
    /// The latest time found in it: which of two statements about a user is the newer one.
    pub fn as_of(&self) -> Timestamp {
        let replay = &self.replay;
        std::iter::once(replay.start_time)
            .chain(replay.end_time)
            .chain(self.events.iter().map(|event| event.timestamp))
            .chain(self.webstates.iter().map(|capture| capture.captured_at))
            .max()
            .unwrap_or(replay.start_time)
    }

    /// Every event with the id under which it is stored.
    pub fn identified_events(&self) -> impl Iterator<Item = (Uuid, &Event)> {
        let replay_id = self.replay.replay_id;
        let mut uncounted: HashMap<i64, u64> = HashMap::new();
        self.events.iter().map(move |event| {
            let id = match event.seq {
                Some(seq) => event_id::from_seq(replay_id, event.timestamp, seq),
                None => {
                    let next = uncounted.entry(event.timestamp.millis()).or_default();
                    let ordinal = *next;
                    *next += 1;
                    let data = event.event_data.get();
                    let (time, kind) = (event.timestamp, event.event_type);
                    event_id::from_content(replay_id, time, ordinal, kind, data)
                }
            };
            (id, event)
        })
    }

    /// Two envelopes that hold the same between them, or `None` if there is nothing to share out.
    /// A page that the first brings and both name is brought by the second as well, which must
    /// stand on its own where the first does not arrive.
    pub fn halves(&self) -> Option<(Self, Self)> {
        if self.events.len() + self.webstates.len() < 2 {
            return None;
        }
        // Rounded up and down, so that one event and one page go apart.
        let (events, later_events) = self.events.split_at(self.events.len().div_ceil(2));
        let (webstates, later_webstates) = self.webstates.split_at(self.webstates.len() / 2);
        let mut contents: HashMap<PageHash, &Arc<str>> = webstates
            .iter()
            .filter_map(|capture| Some((capture.html_hash, capture.html_content.as_ref()?)))
            .collect();
        let with_content = |capture: &Capture| Capture {
            html_content: contents
                .remove(&capture.html_hash)
                .or(capture.html_content.as_ref())
                .cloned(),
            ..*capture
        };
        let later_webstates = later_webstates.iter().map(with_content).collect();
        let with = |events: &[Event], webstates: Vec<Capture>| Self {
            replay: self.replay.clone(),
            events: events.to_vec(),
            webstates,
        };
        Some((with(events, webstates.to_vec()), with(later_events, later_webstates)))
    }
}

fn shared<T: Serialize + ?Sized, S: Serializer>(
    value: &Arc<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    value.as_ref().serialize(serializer)
}

fn shared_if_any<T: Serialize + ?Sized, S: Serializer>(
    value: &Option<Arc<T>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    value.as_deref().serialize(serializer)
}

#[cfg(test)]
mod tests {
    use common::record::events::User;

    use super::*;

    fn envelope(events: u64, webstates: usize) -> Envelope {
        let at = Timestamp::from_micros(1_704_067_200_000_000);
        let event = |seq| Event {
            seq: Some(seq),
            timestamp: at,
            event_type: "click",
            event_data: RawValue::from_string("{ \"x\": 1.0}".to_owned()).unwrap().into(),
            webstate_hash: None,
        };
        let capture =
            Capture { html_hash: PageHash::of(b"page"), html_content: None, captured_at: at };
        Envelope {
            replay: Replay {
                replay_id: Uuid::from_u128(1),
                initial_url: "https://shop.example/".into(),
                start_time: at,
                end_time: None,
                user: User {
                    user_id: Uuid::from_u128(2),
                    email: None,
                    name: None,
                    created_at: None,
                },
            },
            events: (0..events).map(event).collect(),
            webstates: vec![capture; webstates],
        }
    }

    #[test]
    fn data_is_sent_as_it_is_and_what_is_unknown_is_left_out() {
        assert_eq!(
            serde_json::to_string(&envelope(1, 0)).unwrap(),
            concat!(
                r#"{"replay":{"replay_id":"00000000-0000-0000-0000-000000000001","#,
                r#""initial_url":"https://shop.example/","start_time":1704067200000,"#,
                r#""user":{"user_id":"00000000-0000-0000-0000-000000000002"}},"#,
                r#""events":[{"seq":0,"timestamp":1704067200000,"event_type":"click","#,
                r#""event_data":{ "x": 1.0}}],"webstates":[]}"#,
            )
        );
    }

    #[test]
    fn halves_hold_the_same_between_them() {
        fn check(events: u64, webstates: usize, expected: Option<[(usize, usize); 2]>) {
            let halves = envelope(events, webstates).halves().map(|(first, second)| {
                [first, second].map(|half| (half.events.len(), half.webstates.len()))
            });
            assert_eq!(halves, expected);
        }
        check(0, 0, None);
        check(1, 0, None);
        check(0, 1, None);
        check(1, 1, Some([(1, 0), (0, 1)]));
        check(5, 2, Some([(3, 1), (2, 1)]));
        check(0, 2, Some([(0, 1), (0, 1)]));
    }

    #[test]
    fn a_half_brings_the_pages_that_it_names() {
        let mut whole = envelope(0, 4);
        whole.webstates[0].html_content = Some("page".into());
        let brings = |half: &Envelope| -> Vec<_> {
            half.webstates.iter().map(|capture| capture.html_content.is_some()).collect()
        };
        let (first, second) = whole.halves().unwrap();
        assert_eq!([brings(&first), brings(&second)], [[true, false], [true, false]]);
        let (first, second) = envelope(0, 4).halves().unwrap();
        assert_eq!([brings(&first), brings(&second)], [[false, false], [false, false]]);
    }
}
