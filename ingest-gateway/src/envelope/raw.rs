//! The envelope's shape. Every member may be absent here: what is missing, and what a single
//! value must be like, [`super::check`] says, with the member's pointer. Values stay the bytes
//! that were sent.

use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::shape::{Capped, Object, null_is_a_value};

/// A batch of what one recorder captured of one replay.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = Envelope, example = json!({
    "replay": {
        "replay_id": "2237a107-3a76-4f18-887f-a033138e750e",
        "initial_url": "https://shop.example/",
        "start_time": "2024-01-01T00:00:00Z",
        "user": {"user_id": "6f0e2c9a-0000-4000-8000-00000000000a", "email": "ada@shop.example"}
    },
    "events": [{
        "seq": 0,
        "timestamp": 1_704_067_200_123_i64,
        "event_type": "click",
        "event_data": {"x": 12, "y": 40}
    }],
    "webstates": [{"html_content": "<!DOCTYPE html><p>hello", "captured_at": 1_704_067_200_120_i64}]
}))]
pub struct RawEnvelope<'a> {
    /// The replay that all of it belongs to.
    #[serde(borrow)]
    #[schema(value_type = RawReplay)]
    pub replay: Option<Object<RawReplay<'a>>>,
    /// What happened, in order.
    #[serde(borrow)]
    #[schema(value_type = Option<Vec<RawEvent>>)]
    pub events: Option<Capped<Object<RawEvent<'a>>>>,
    /// Page states seen.
    #[serde(borrow)]
    #[schema(value_type = Option<Vec<RawWebstate>>)]
    pub webstates: Option<Capped<Object<RawWebstate<'a>>>>,
}

/// A session replay.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = Replay)]
pub struct RawReplay<'a> {
    /// Chosen by the recorder.
    #[serde(borrow)]
    #[schema(value_type = String, format = "uuid")]
    pub replay_id: Option<&'a RawValue>,
    /// Address of the first page. Its limit counts bytes of UTF-8.
    #[serde(borrow)]
    #[schema(value_type = String)]
    pub initial_url: Option<&'a RawValue>,
    /// When the recording began.
    #[serde(borrow)]
    #[schema(value_type = Time)]
    pub start_time: Option<&'a RawValue>,
    /// When it ended, once known.
    #[serde(borrow)]
    #[schema(value_type = Option<Time>)]
    pub end_time: Option<&'a RawValue>,
    /// Who was recorded.
    #[serde(borrow)]
    #[schema(value_type = RawUser)]
    pub user: Option<Object<RawUser<'a>>>,
}

/// The person recorded.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = User)]
pub struct RawUser<'a> {
    /// Chosen by the recorder.
    #[serde(borrow)]
    #[schema(value_type = String, format = "uuid")]
    pub user_id: Option<&'a RawValue>,
    /// Its limit counts bytes of UTF-8.
    #[serde(borrow)]
    #[schema(value_type = Option<String>)]
    pub email: Option<&'a RawValue>,
    /// Its limit counts bytes of UTF-8.
    #[serde(borrow)]
    #[schema(value_type = Option<String>)]
    pub name: Option<&'a RawValue>,
    /// When the user came to be; without it the replay's start counts.
    #[serde(borrow)]
    #[schema(value_type = Option<Time>)]
    pub created_at: Option<&'a RawValue>,
}

/// One thing that happened.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = Event)]
pub struct RawEvent<'a> {
    /// UUID of version 7 that carries the event's millisecond; derived when absent.
    #[serde(borrow)]
    #[schema(
        value_type = Option<String>,
        format = "uuid",
        pattern = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-7[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}$",
    )]
    pub event_id: Option<&'a RawValue>,
    /// The event's number in its replay.
    #[serde(borrow)]
    #[schema(value_type = Option<u64>, minimum = 0, maximum = 9_007_199_254_740_991_u64)]
    pub seq: Option<&'a RawValue>,
    /// When it happened.
    #[serde(borrow)]
    #[schema(value_type = Time)]
    pub timestamp: Option<&'a RawValue>,
    /// What happened: `click`, `scroll`, `dom_mutation`…
    #[serde(borrow)]
    #[schema(value_type = String, pattern = "^[a-z][a-z0-9_]{0,63}$")]
    pub event_type: Option<&'a RawValue>,
    /// Any JSON, `null` too; kept byte for byte.
    #[serde(borrow, default, deserialize_with = "null_is_a_value")]
    #[schema(value_type = serde_json::Value, required = true)]
    pub event_data: Option<&'a RawValue>,
    /// The page state that the event belongs to.
    #[serde(borrow)]
    #[schema(value_type = Option<String>, pattern = "^[0-9a-fA-F]{64}$")]
    pub webstate_hash: Option<&'a RawValue>,
}

/// A page state: its hash, its content, or both, which must agree.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = Webstate)]
pub struct RawWebstate<'a> {
    /// SHA-256 of the content's UTF-8 bytes.
    #[serde(borrow)]
    #[schema(value_type = Option<String>, pattern = "^[0-9a-fA-F]{64}$")]
    pub html_hash: Option<&'a RawValue>,
    /// The page.
    #[serde(borrow)]
    #[schema(value_type = Option<String>)]
    pub html_content: Option<&'a RawValue>,
    /// When it was seen.
    #[serde(borrow)]
    #[schema(value_type = Time)]
    pub captured_at: Option<&'a RawValue>,
}

/// RFC 3339 text, or milliseconds since 1970 as a number; cut at the microsecond. Neither too long
/// ago nor too far ahead of the gateway's clock.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Time {
    /// RFC 3339.
    Text(String),
    /// Milliseconds since 1970.
    Milliseconds(f64),
}
