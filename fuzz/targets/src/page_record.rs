//! The record of a page, as the writer reads it.

use common::page_hash::PageHash;
use common::record::webstates;
use rdkafka::Message;
use rdkafka::message::OwnedMessage;
use writer::record::{Content, Record, Topic, Unreadable};

use crate::message;

/// The largest page, decompressed: so small that fuzzing finds larger ones.
const PAGE_LIMIT_BYTES: usize = 4_096;

/// A page is taken only under the hash of its content, stays within the limit, and is written so
/// that it is read again.
pub fn check(data: &[u8]) {
    let message = message::read(data);
    let value = message.payload().map(<[u8]>::to_vec);
    check_record(message);
    let Some(value) = value else { return };
    if let Ok(page) = webstates::decode(&value, PAGE_LIMIT_BYTES) {
        // Under the right key it must be taken: bytes that hash to a key found by chance are rare.
        let key = PageHash::of(&page).to_hex();
        let message = message::from_gateway(Some(key.as_bytes()), &value);
        assert!(check_record(message), "a page under its hash is taken");
    }
}

/// Reads a record; says whether it is a page.
fn check_record(message: OwnedMessage) -> bool {
    let Ok(record) = Record::read(Topic::Webstates, message, PAGE_LIMIT_BYTES) else {
        return false;
    };
    match record.content {
        Content::Page { hash, .. } => {
            let page = webstates::decode(record.value(), PAGE_LIMIT_BYTES).expect("it was read");
            assert!(page.len() <= PAGE_LIMIT_BYTES);
            assert_eq!(PageHash::of(&page), hash);
            assert_eq!(webstates::decode_key(Some(hash.to_hex().as_bytes())), Ok(hash));
            let written = webstates::encode(&page).expect("there is memory");
            assert_eq!(webstates::verify(hash, &written, PAGE_LIMIT_BYTES), Ok(()));
            true
        }
        Content::Unreadable(reason) => {
            assert!(Unreadable::CLASSES.contains(&reason.class()));
            false
        }
        Content::Events(_) => panic!("a recorder batch on the topic of pages"),
    }
}
