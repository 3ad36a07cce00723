//! Event identity: UUIDs of version 7, derived from content.
//!
//! The same event resent has the same id, ids sort by time, and within a millisecond they sort
//! in the order in which things happened:
//!
//! ```text
//! 48 bits  timestamp, whole milliseconds since 1970
//!  4 bits  0111 (version)
//! 12 bits  order, upper half
//!  2 bits  10 (variant)
//! 12 bits  order, lower half
//! 50 bits  the first 50 bits of a SHA-256
//! ```

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::time::Timestamp;

/// `order` counts modulo this: 24 bits of the id.
const ORDER_MODULUS: u64 = 1 << 24;

/// Separates hashes of counted events from those of uncounted ones.
const DOMAIN_SEQ: u8 = 0x01;
const DOMAIN_CONTENT: u8 = 0x02;

/// The id of an event that its recorder counted: `seq` is its number in the replay.
pub fn from_seq(replay_id: Uuid, timestamp: Timestamp, seq: u64) -> Uuid {
    let mut hash = Sha256::new();
    hash.update(replay_id.as_bytes());
    hash.update([DOMAIN_SEQ]);
    hash.update(seq.to_be_bytes());
    assemble(timestamp, seq, hash)
}

/// The id of an event without `seq`: `ordinal` is its place, from 0, among the events of its
/// envelope and millisecond that have neither `seq` nor an id of their own; `event_data` is the
/// JSON text as it will be stored.
pub fn from_content(
    replay_id: Uuid,
    timestamp: Timestamp,
    ordinal: u64,
    event_type: &str,
    event_data: &str,
) -> Uuid {
    let mut hash = Sha256::new();
    hash.update(replay_id.as_bytes());
    hash.update([DOMAIN_CONTENT]);
    hash.update(timestamp.micros().to_be_bytes());
    hash.update(event_type);
    hash.update([0]);
    hash.update(event_data);
    assemble(timestamp, ordinal, hash)
}

fn assemble(timestamp: Timestamp, order: u64, hash: Sha256) -> Uuid {
    let digest: [u8; 32] = hash.finalize().into();
    let mut first_eight = [0; 8];
    first_eight.copy_from_slice(&digest[..8]);
    let order = order % ORDER_MODULUS;
    let upper = (timestamp.millis().cast_unsigned() << 16) | 0x7000 | (order >> 12);
    let lower = (0b10 << 62) | ((order & 0xfff) << 50) | (u64::from_be_bytes(first_eight) >> 14);
    Uuid::from_u64_pair(upper, lower)
}

/// Whether `event_id` is a UUID of version 7 that carries the millisecond of `timestamp`, which
/// every stored id must: the tables are ordered and partitioned by it.
pub fn carries(event_id: Uuid, timestamp: Timestamp) -> bool {
    event_id.get_version_num() == 7
        && event_id.get_variant() == uuid::Variant::RFC4122
        && millis(event_id) == timestamp.millis()
}

/// The milliseconds since 1970 in the first 48 bits of an id.
pub fn millis(event_id: Uuid) -> i64 {
    (event_id.as_u64_pair().0 >> 16).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLAY: Uuid = Uuid::from_u128(0x2237a107_3a76_4f18_887f_a033138e750e);

    fn time(millis: &str) -> Timestamp {
        Timestamp::from_json(millis).unwrap()
    }

    #[test]
    fn counted_events_match_the_published_vectors() {
        fn check(seq: u64, millis: &str, expected: &str) {
            let id = from_seq(REPLAY, time(millis), seq);
            assert_eq!(id.to_string(), expected);
            assert!(carries(id, time(millis)));
        }
        check(0, "1704067200123", "018cc251-f47b-7000-8000-d125acf2d2c3");
        check(17, "1704067200123", "018cc251-f47b-7000-8044-87595dc80b77");
        check(16_781_313, "1704067200123.5", "018cc251-f47b-7001-8004-5b0c2aa41a17");
    }

    #[test]
    fn uncounted_events_match_the_published_vectors() {
        fn check(ordinal: u64, millis: &str, kind: &str, data: &str, expected: &str) {
            let id = from_content(REPLAY, time(millis), ordinal, kind, data);
            assert_eq!(id.to_string(), expected);
            assert!(carries(id, time(millis)));
        }
        let scroll = r#"{"y":120}"#;
        check(0, "1704067200123", "scroll", scroll, "018cc251-f47b-7000-8001-6e0c75a17412");
        check(1, "1704067200123", "scroll", scroll, "018cc251-f47b-7000-8005-6e0c75a17412");
        let click = r#"{ "x": 1.0 }"#;
        check(0, "1704067200123.25", "click", click, "018cc251-f47b-7000-8003-105ae3cdaa16");
    }

    #[test]
    fn an_id_of_another_version_or_millisecond_does_not_carry_its_time() {
        let at = time("1704067200123");
        let version_four = Uuid::from_u128(0x018cc251_f47b_4000_8000_d125acf2d2c3);
        assert!(!carries(version_four, at));
        assert!(!carries(from_seq(REPLAY, time("1704067200124"), 0), at));
    }

    /// The largest millisecond that the 48 bits of an id hold.
    const MILLIS_MAX: i64 = (1 << 48) - 1;

    proptest::proptest! {
        #[test]
        fn an_id_carries_its_time_and_its_order(
            micros in 0..=MILLIS_MAX * 1_000,
            order: u64,
            data: String,
        ) {
            let at = Timestamp::from_micros(micros);
            let next = order.wrapping_add(1);
            let counted = [order, next].map(|seq| from_seq(REPLAY, at, seq));
            let uncounted =
                [order, next].map(|ordinal| from_content(REPLAY, at, ordinal, "click", &data));
            for ids in [counted, uncounted] {
                for id in ids {
                    proptest::prop_assert!(carries(id, at));
                    proptest::prop_assert_eq!(millis(id), at.millis());
                    proptest::prop_assert_eq!(Uuid::try_parse(&id.to_string()).ok(), Some(id));
                }
                let wraps = next % ORDER_MODULUS == 0;
                proptest::prop_assert_eq!(ids[0] < ids[1], !wraps);
            }
        }
    }
}
