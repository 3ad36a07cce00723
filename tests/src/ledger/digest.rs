//! The hash by which an event's row is compared with what was sent.

use std::fmt;
use std::str::FromStr;

use common::page_hash::PageHash;
use common::time::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// SHA-256 over all columns of an event's row but its id:
///
/// `replay_id`, 16 bytes ‖ `timestamp`, microseconds since 1970, 8 bytes big-endian ‖ `event_type`
/// ‖ 0x00 ‖ `webstate_hash`, 64 lower-case hex digits, or nothing ‖ 0x00 ‖ `event_data`.
///
/// Neither a type nor a hash holds 0x00, so no two rows give the same bytes. The id is left out so
/// that a row can be recognised that was stored under another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventDigest([u8; 32]);

impl EventDigest {
    /// That of a row with these columns.
    pub fn of(
        replay_id: Uuid,
        timestamp: Timestamp,
        event_type: &str,
        event_data: &str,
        webstate_hash: Option<PageHash>,
    ) -> Self {
        let mut hash = Sha256::new();
        hash.update(replay_id.as_bytes());
        hash.update(timestamp.micros().to_be_bytes());
        hash.update(event_type);
        hash.update([0]);
        if let Some(webstate_hash) = webstate_hash {
            hash.update(webstate_hash.to_hex());
        }
        hash.update([0]);
        hash.update(event_data);
        Self(hash.finalize().into())
    }
}

impl fmt::Display for EventDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for EventDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for EventDigest {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

impl Serialize for EventDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_counts() {
        let hash = PageHash::of(b"page");
        let of = |replay, micros, kind, data, page| {
            EventDigest::of(
                Uuid::from_u128(replay),
                Timestamp::from_micros(micros),
                kind,
                data,
                page,
            )
        };
        let row = of(1, 2, "click", "{}", Some(hash));
        let others = [
            of(9, 2, "click", "{}", Some(hash)),
            of(1, 9, "click", "{}", Some(hash)),
            of(1, 2, "clack", "{}", Some(hash)),
            of(1, 2, "click", "{ }", Some(hash)),
            of(1, 2, "click", "{}", None),
            of(1, 2, "click", "{}", Some(PageHash::of(b"other"))),
        ];
        assert!(others.iter().all(|other| *other != row));
        assert_eq!(of(1, 2, "click", "{}", Some(hash)), row);
    }

    #[test]
    fn the_bytes_are_those_described() {
        let hash = PageHash::of(b"page");
        let row = EventDigest::of(
            Uuid::from_u128(7),
            Timestamp::from_micros(0x0102_0304),
            "click",
            "[1]",
            Some(hash),
        );
        let mut bytes = vec![0; 15];
        bytes.extend([7, 0, 0, 0, 0, 1, 2, 3, 4]);
        bytes.extend(format!("click\0{hash}\0[1]").bytes());
        assert_eq!(row.to_string(), hex::encode(Sha256::digest(&bytes)));
        assert_eq!(row.to_string().parse(), Ok(row));
    }
}
