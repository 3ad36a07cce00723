//! Record headers: what a consumer needs without parsing the value.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rdkafka::message::{Header, Headers, OwnedHeaders};

use super::{OLDEST_READABLE_SCHEMA_VERSION, SCHEMA_VERSION};
use crate::time::Timestamp;

/// Header: the version of the record format, decimal.
pub const SCHEMA: &str = "schema";
/// Header: when the gateway received the request, RFC 3339.
pub const RECEIVED_AT: &str = "received_at";
/// Header: the request's W3C trace context.
pub const TRACEPARENT: &str = "traceparent";

/// On dead letters: why the record could not be written, a name of bounded variety.
pub const ERROR_CLASS: &str = "error.class";
/// On dead letters: the same for a person, without content.
pub const ERROR_MESSAGE: &str = "error.message";
/// On dead letters: which events of the record could not be written, by place from 0, as ranges:
/// `0-2,17`. Absent when the whole record could not be read.
pub const ERROR_EVENTS: &str = "error.events";
/// On dead letters: the topic that the record was read from.
pub const ORIGINAL_TOPIC: &str = "original.topic";
/// On dead letters: its partition.
pub const ORIGINAL_PARTITION: &str = "original.partition";
/// On dead letters: its offset.
pub const ORIGINAL_OFFSET: &str = "original.offset";

/// The headers that every record of the gateway carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHeaders {
    /// When the gateway received the request.
    pub received_at: Timestamp,
    /// The request's W3C trace context, as sent.
    pub traceparent: Option<String>,
}

/// Why a record's headers cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The record was written by a newer gateway. Not poison: the partition waits for a newer
    /// writer.
    #[error("record format {found} is newer than {SCHEMA_VERSION}, the newest known here")]
    NewerSchema {
        /// The record's version.
        found: u32,
    },
    /// A header is missing or not what it should be.
    #[error("header {name} is missing or malformed")]
    Malformed {
        /// Which one.
        name: &'static str,
    },
}

impl RecordHeaders {
    /// As Kafka headers.
    pub fn to_kafka(&self) -> OwnedHeaders {
        let schema = SCHEMA_VERSION.to_string();
        let received_at = self.received_at.to_string();
        let headers = OwnedHeaders::new_with_capacity(3)
            .insert(Header { key: SCHEMA, value: Some(&schema) })
            .insert(Header { key: RECEIVED_AT, value: Some(&received_at) });
        match &self.traceparent {
            Some(trace) => headers.insert(Header { key: TRACEPARENT, value: Some(trace) }),
            None => headers,
        }
    }

    /// Reads the headers of a record.
    ///
    /// # Errors
    /// See [`HeaderError`].
    pub fn from_kafka<H: Headers>(headers: Option<&H>) -> Result<Self, HeaderError> {
        let headers: Vec<_> = headers.into_iter().flat_map(readable).collect();
        let text = |name| last_text(&headers, name);
        let schema: u32 = text(SCHEMA)
            .and_then(|version| version.parse().ok())
            .filter(|version| *version >= OLDEST_READABLE_SCHEMA_VERSION)
            .ok_or(HeaderError::Malformed { name: SCHEMA })?;
        if schema > SCHEMA_VERSION {
            return Err(HeaderError::NewerSchema { found: schema });
        }
        let received_at = text(RECEIVED_AT)
            .and_then(|time| Timestamp::parse_rfc3339(time).ok())
            .ok_or(HeaderError::Malformed { name: RECEIVED_AT })?;
        let traceparent = text(TRACEPARENT).map(str::to_owned);
        Ok(Self { received_at, traceparent })
    }
}

/// The text of the last header of that name.
pub fn text<'a, H: Headers>(headers: Option<&'a H>, name: &str) -> Option<&'a str> {
    let headers: Vec<_> = readable(headers?).collect();
    last_text(&headers, name)
}

fn last_text<'a>(headers: &[Header<'a, &'a [u8]>], name: &str) -> Option<&'a str> {
    let last = headers.iter().rev().find(|header| header.key == name)?;
    std::str::from_utf8(last.value?).ok()
}

/// The headers whose names are UTF-8, in order. Anything may stand in a record, but rdkafka hands
/// out names as `&str` and panics on others; without this one such record would end every writer
/// that reads it.
pub fn readable<H: Headers>(headers: &H) -> impl Iterator<Item = Header<'_, &[u8]>> {
    // Reading changes nothing, so there is nothing that a panic could leave half done.
    let read = |place| catch_unwind(AssertUnwindSafe(|| headers.try_get(place)));
    (0..headers.count()).filter_map(move |place| read(place).ok().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(version: &str) -> OwnedHeaders {
        RecordHeaders { received_at: Timestamp::from_micros(5), traceparent: None }
            .to_kafka()
            .insert(Header { key: SCHEMA, value: Some(version) })
    }

    #[test]
    fn headers_are_read_back() {
        let headers = RecordHeaders {
            received_at: Timestamp::from_micros(1_704_067_200_123_456),
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        };
        assert_eq!(RecordHeaders::from_kafka(Some(&headers.to_kafka())), Ok(headers));
    }

    /// Headers of which the first has a name that is not UTF-8, as rdkafka hands them out.
    struct AfterAnUnreadableName {
        name: Vec<u8>,
        others: OwnedHeaders,
    }

    impl Headers for AfterAnUnreadableName {
        fn count(&self) -> usize {
            1 + self.others.count()
        }

        fn try_get(&self, place: usize) -> Option<Header<'_, &[u8]>> {
            match place.checked_sub(1) {
                Some(place) => self.others.try_get(place),
                None => {
                    let key = std::str::from_utf8(&self.name).unwrap();
                    Some(Header { key, value: None })
                }
            }
        }
    }

    #[test]
    fn a_name_that_is_not_utf8_hides_no_other_header() {
        let headers = AfterAnUnreadableName { name: vec![0xff], others: schema("1") };
        assert!(RecordHeaders::from_kafka(Some(&headers)).is_ok());
        assert_eq!(readable(&headers).count(), headers.count() - 1);
    }

    #[test]
    fn a_newer_format_is_told_apart_from_a_broken_one() {
        fn check(headers: Option<&OwnedHeaders>, expected: &HeaderError) {
            assert_eq!(RecordHeaders::from_kafka(headers).as_ref(), Err(expected));
        }
        check(Some(&schema("2")), &HeaderError::NewerSchema { found: 2 });
        check(Some(&schema("0")), &HeaderError::Malformed { name: SCHEMA });
        check(Some(&schema("new")), &HeaderError::Malformed { name: SCHEMA });
        check(None, &HeaderError::Malformed { name: SCHEMA });
        let only_schema = OwnedHeaders::new().insert(Header { key: SCHEMA, value: Some("1") });
        check(Some(&only_schema), &HeaderError::Malformed { name: RECEIVED_AT });
    }

    proptest::proptest! {
        #[test]
        fn headers_written_are_read_back(
            micros in 0_i64..253_402_300_800_000_000,
            traceparent: Option<String>,
        ) {
            let received_at = Timestamp::from_micros(micros);
            let headers = RecordHeaders { received_at, traceparent };
            let read = RecordHeaders::from_kafka(Some(&headers.to_kafka()));
            proptest::prop_assert_eq!(read, Ok(headers));
        }
    }
}
