//! The headers that every record of the gateway carries.

use common::record::SCHEMA_VERSION;
use common::record::headers::{HeaderError, RecordHeaders, SCHEMA, text};
use rdkafka::Message;

use crate::message;

/// Headers that are read are written so that they are read again as the same; a newer format is
/// only what says so.
pub fn check(data: &[u8]) {
    let message = message::read(data);
    let said = text(message.headers(), SCHEMA).map(str::parse::<u32>);
    match RecordHeaders::from_kafka(message.headers()) {
        Ok(headers) => {
            let written = headers.to_kafka();
            assert_eq!(RecordHeaders::from_kafka(Some(&written)), Ok(headers));
            assert_eq!(said, Some(Ok(SCHEMA_VERSION)));
        }
        Err(HeaderError::NewerSchema { found }) => {
            assert!(found > SCHEMA_VERSION);
            assert_eq!(said, Some(Ok(found)));
        }
        Err(HeaderError::Malformed { .. }) => {}
    }
}
