//! Kafka records, made of the bytes that libFuzzer changes.

use common::record::headers::RecordHeaders;
use common::time::Timestamp;
use rdkafka::message::{Header, OwnedHeaders, OwnedMessage};

/// The topic that the records are read from.
pub const TOPIC: &str = "replay-events";

/// When gateway and Kafka received the records.
const RECEIVED_AT: Timestamp = Timestamp::from_micros(1_704_067_200_000_000);

/// The record that a text stands for: its key, a line; its headers, a line each (`name: value`);
/// an empty line; its value. Without the empty line it has no value, and without a first line no
/// key.
pub fn read(data: &[u8]) -> OwnedMessage {
    let mut rest = Some(data);
    let key = next_line(&mut rest);
    let mut headers = OwnedHeaders::new();
    while let Some(line) = next_line(&mut rest).filter(|line| !line.is_empty()) {
        headers = with_header(headers, line);
    }
    record(key.filter(|key| !key.is_empty()), headers, rest)
}

/// A record with the headers that a gateway gives it.
pub fn from_gateway(key: Option<&[u8]>, value: &[u8]) -> OwnedMessage {
    let headers = RecordHeaders { received_at: RECEIVED_AT, traceparent: None };
    record(key, headers.to_kafka(), Some(value))
}

/// A record of the first partition.
pub fn record(key: Option<&[u8]>, headers: OwnedHeaders, value: Option<&[u8]>) -> OwnedMessage {
    let (key, value) = (key.map(<[u8]>::to_vec), value.map(<[u8]>::to_vec));
    let timestamp = rdkafka::Timestamp::CreateTime(RECEIVED_AT.millis());
    OwnedMessage::new(value, key, TOPIC.to_owned(), timestamp, 0, 7, Some(headers))
}

/// The bytes up to the next line end; what is behind it stays in `rest`.
fn next_line<'a>(rest: &mut Option<&'a [u8]>) -> Option<&'a [u8]> {
    let all = rest.take()?;
    match all.iter().position(|byte| *byte == b'\n') {
        Some(end) => {
            *rest = Some(&all[end + 1..]);
            Some(&all[..end])
        }
        None => Some(all),
    }
}

/// Adds the header of a line; names that Kafka's client cannot hand over are left out.
fn with_header(headers: OwnedHeaders, line: &[u8]) -> OwnedHeaders {
    let end = line.windows(2).position(|pair| pair == b": ");
    let (name, value) = match end {
        Some(end) => (&line[..end], Some(&line[end + 2..])),
        None => (line, None),
    };
    match std::str::from_utf8(name) {
        Ok(name) if !name.contains('\0') => headers.insert(Header { key: name, value }),
        _ => headers,
    }
}
