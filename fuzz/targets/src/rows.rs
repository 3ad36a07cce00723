//! What the writer would put into the tables, merged: its plan, without the records it borrows
//! from.

use std::collections::BTreeMap;

use common::page_hash::PageHash;
use common::time::Timestamp;
use uuid::Uuid;
use writer::merge::{ReplayState, UserState, WebstateState};
use writer::record::Record;
use writer::selection::Selection;
use writer::store::plan::Plan;

/// The rows that records ask for.
#[derive(Debug, PartialEq, Eq)]
pub struct Rows {
    /// Of `users`, by id.
    pub users: BTreeMap<Uuid, UserState>,
    /// Of `replays`, by id.
    pub replays: BTreeMap<Uuid, ReplayState>,
    /// Of `webstates`, by hash.
    pub webstates: BTreeMap<PageHash, WebstateState>,
    /// Of `events`, by id.
    pub events: Vec<EventRow>,
}

/// A row of `events`.
#[derive(Debug, PartialEq, Eq)]
pub struct EventRow {
    /// The primary key.
    pub event_id: Uuid,
    /// The replay that it belongs to.
    pub replay_id: Uuid,
    /// When it happened.
    pub timestamp: Timestamp,
    /// What happened.
    pub event_type: Vec<u8>,
    /// Its data, byte for byte.
    pub event_data: Vec<u8>,
    /// The page state that it belongs to.
    pub webstate_hash: Option<PageHash>,
}

impl Rows {
    /// The rows that the writer makes of records it gets in one batch.
    ///
    /// # Panics
    /// When the records would need more than one transaction.
    pub fn of(records: &[Record]) -> Self {
        let selections = Selection::all(records);
        let [selection] = selections.as_slice() else {
            panic!("{} transactions for {} records", selections.len(), records.len());
        };
        let plan = Plan::new(records, selection);
        let event = |event: &writer::store::plan::PlannedEvent<'_>| EventRow {
            event_id: event.event_id,
            replay_id: event.replay_id,
            timestamp: event.timestamp,
            event_type: event.event_type.to_vec(),
            event_data: event.event_data.to_vec(),
            webstate_hash: event.webstate_hash,
        };
        let events = plan.events().iter().map(event).collect();
        Self { users: plan.users, replays: plan.replays, webstates: plan.webstates, events }
    }
}
