//! The headers of dead letters, as the writer's commands read them.

use std::sync::LazyLock;

use clap::Parser;
use common::record::headers::RecordHeaders;
use rdkafka::Message;
use rdkafka::message::{Headers, OwnedHeaders, OwnedMessage};
use writer::commands::{Entry, Selection, origin};
use writer::dead_letters::{Reason, dead_letter_headers, original_headers};

use crate::message;

/// What `writer dead-letters list` is asked for.
#[derive(Parser)]
struct Asked {
    #[command(flatten)]
    selection: Selection,
}

static OF_ONE_CLASS: LazyLock<Selection> =
    LazyLock::new(|| Asked::parse_from(["list", "--class", "not_json"]).selection);

static OF_A_LATER_TIME: LazyLock<Selection> =
    LazyLock::new(|| Asked::parse_from(["list", "--since", "2024-01-01T00:00:00.001Z"]).selection);

/// Whatever a dead letter's headers hold, it can be listed, selected and sent back; what becomes a
/// dead letter says why, and is sent back with the headers that it had.
pub fn check(data: &[u8]) {
    let message = message::read(data);
    let entry = Entry::of(&message);
    serde_json::to_string(&entry).expect("every entry can be shown");
    assert_eq!(OF_ONE_CLASS.takes(&message), entry.class == "not_json");
    assert!(!OF_A_LATER_TIME.takes(&message), "it came a millisecond earlier");
    let topics = [OF_ONE_CLASS.topics.events(), OF_ONE_CLASS.topics.webstates()];
    assert_eq!(origin(&topics, &message).is_some(), topics.contains(&entry.original_topic));
    check_return(&message, &topics);
}

/// To the dead letters and back.
fn check_return(message: &OwnedMessage, topics: &[String]) {
    let reason = Reason {
        class: "not_json",
        message: "not JSON".to_owned(),
        events: Some("0-2,17".to_owned()),
    };
    let letter = with_headers(message, dead_letter_headers(message, &reason));
    let entry = Entry::of(&letter);
    assert_eq!((entry.class.as_str(), &entry.message), (reason.class, &reason.message));
    assert_eq!(entry.events, reason.events);
    assert_eq!(entry.original_topic, message.topic());
    assert_eq!(entry.original_partition, Some(message.partition()));
    assert_eq!(entry.original_offset, Some(message.offset()));
    assert_eq!(origin(topics, &letter), Some(message.topic()));
    let (first, second) = (original_headers(message), original_headers(&letter));
    assert!(first.iter().eq(second.iter()), "the headers of the record come back");
    assert_eq!(
        RecordHeaders::from_kafka(message.headers()),
        RecordHeaders::from_kafka(Some(&second))
    );
}

fn with_headers(message: &OwnedMessage, headers: OwnedHeaders) -> OwnedMessage {
    message::record(message.key(), headers, message.payload())
}
