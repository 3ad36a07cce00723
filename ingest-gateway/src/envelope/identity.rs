//! Ids of events whose recorder gave none.

use std::collections::HashMap;

use common::event_id;
use common::failpoint;
use common::time::Timestamp;
use uuid::Uuid;

/// Derives the ids of one envelope's events: counts those of each millisecond that have neither
/// an id nor a number.
pub struct Ordinals {
    replay_id: Uuid,
    next_by_millisecond: HashMap<i64, u64>,
}

impl Ordinals {
    /// Begins to count in an envelope of this replay.
    pub fn of(replay_id: Uuid) -> Self {
        Self { replay_id, next_by_millisecond: HashMap::new() }
    }

    /// The id of the envelope's next event without one; `event_data` as it will be stored.
    pub fn derive(
        &mut self,
        seq: Option<u64>,
        timestamp: Timestamp,
        event_type: &str,
        event_data: &str,
    ) -> Uuid {
        let timestamp = match failpoint::is_on("gateway::ids-from-clock") {
            true => Timestamp::now(),
            false => timestamp,
        };
        if let Some(seq) = seq {
            return event_id::from_seq(self.replay_id, timestamp, seq);
        }
        let next = self.next_by_millisecond.entry(timestamp.millis()).or_insert(0);
        let ordinal = *next;
        *next += 1;
        event_id::from_content(self.replay_id, timestamp, ordinal, event_type, event_data)
    }
}
