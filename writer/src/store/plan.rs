//! What a selection of a batch says, merged by key and sorted: no key twice in one statement, and
//! the same order of locks in every writer.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use common::page_hash::PageHash;
use common::time::Timestamp;
use uuid::Uuid;

use crate::merge::{Merge, ReplayState, UserState, WebstateState};
use crate::record::{Content, EventsContent, Record, month_of};
use crate::selection::{Part, Selection};

/// The rows that a selection asks for. Borrows the records' bytes.
#[derive(Debug, Default)]
pub struct Plan<'a> {
    /// Users, merged.
    pub users: BTreeMap<Uuid, UserState>,
    /// Replays, merged.
    pub replays: BTreeMap<Uuid, ReplayState>,
    /// Page states: seen, referred to, or come, merged.
    pub webstates: BTreeMap<PageHash, WebstateState>,
    contents: BTreeMap<PageHash, &'a [u8]>,
    events: Vec<PlannedEvent<'a>>,
    all_events: u64,
    all_pages: Pages,
}

/// How many pages, and how large they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pages {
    /// How many.
    pub count: u64,
    /// Their compressed bytes.
    pub bytes: u64,
}

impl Pages {
    fn add(&mut self, content: &[u8]) {
        self.count += 1;
        self.bytes += content.len() as u64;
    }
}

/// A row of `events`.
#[derive(Clone, Copy, Debug)]
pub struct PlannedEvent<'a> {
    /// The primary key.
    pub event_id: Uuid,
    /// The replay it belongs to.
    pub replay_id: Uuid,
    /// When it happened.
    pub timestamp: Timestamp,
    /// UTF-8 text.
    pub event_type: &'a [u8],
    /// JSON text.
    pub event_data: &'a [u8],
    /// The page state that it belongs to.
    pub webstate_hash: Option<PageHash>,
}

impl PlannedEvent<'_> {
    /// About what the row takes on its way to Postgres.
    pub const fn bytes(&self) -> usize {
        /// The fields of fixed length, and the lengths of all.
        const FIXED_BYTES: usize = 128;
        FIXED_BYTES + self.event_type.len() + self.event_data.len()
    }
}

impl<'a> Plan<'a> {
    /// Merges a selection.
    pub fn new(records: &'a [Record], selection: &Selection) -> Self {
        let mut plan = Self::default();
        for part in selection.parts() {
            let record = &records[part.record];
            match &record.content {
                Content::Events(content) => plan.add_events(content, record.value(), part),
                Content::Page { hash, .. } => {
                    merge_in(&mut plan.webstates, *hash, &WebstateState::WITH_CONTENT);
                    plan.contents.insert(*hash, record.value());
                    plan.all_pages.add(record.value());
                }
                Content::Unreadable(_) => {}
            }
        }
        plan.all_events = plan.events.len() as u64;
        // The sort is stable: of two events under one id the first stays, as it would across
        // batches. And it moves ids, not events, until their places are known.
        plan.events.sort_by_cached_key(|event| event.event_id);
        plan.events.dedup_by_key(|event| event.event_id);
        plan
    }

    fn add_events(&mut self, content: &EventsContent, value: &'a [u8], part: &Part) {
        let (user_id, user) = &content.user;
        merge_in(&mut self.users, *user_id, user);
        let (replay_id, replay) = &content.replay;
        merge_in(&mut self.replays, *replay_id, replay);
        for (hash, sighting) in &content.sightings {
            merge_in(&mut self.webstates, *hash, sighting);
        }
        for event in &content.events[part.events.clone()] {
            if let Some(hash) = event.webstate_hash {
                merge_in(&mut self.webstates, hash, &WebstateState::REFERRED_TO);
            }
            self.events.push(PlannedEvent {
                event_id: event.event_id,
                replay_id: *replay_id,
                timestamp: event.timestamp,
                event_type: event.event_type.of(value),
                event_data: event.event_data.of(value),
                webstate_hash: event.webstate_hash,
            });
        }
    }

    /// Distinct events, sorted by id.
    pub fn events(&self) -> &[PlannedEvent<'a>] {
        &self.events
    }

    /// How many events the selection holds, repetitions included.
    pub const fn all_events(&self) -> u64 {
        self.all_events
    }

    /// The pages that came, repetitions included.
    pub const fn all_pages(&self) -> Pages {
        self.all_pages
    }

    /// The hashes of the pages that came.
    pub fn page_hashes(&self) -> impl Iterator<Item = PageHash> {
        self.contents.keys().copied()
    }

    /// How many and how large some of the pages that came are.
    pub fn size_of(&self, hashes: &BTreeSet<PageHash>) -> Pages {
        let mut pages = Pages::default();
        for content in hashes.iter().filter_map(|hash| self.page(hash)) {
            pages.add(content);
        }
        pages
    }

    /// A page that came, compressed.
    pub fn page(&self, hash: &PageHash) -> Option<&'a [u8]> {
        self.contents.get(hash).copied()
    }

    /// The months in which the events lie, each by its first day.
    pub fn months(&self) -> BTreeSet<NaiveDate> {
        self.events.iter().filter_map(|event| month_of(event.event_id)).collect()
    }
}

fn merge_in<K: Ord, S: Merge + Clone>(states: &mut BTreeMap<K, S>, key: K, state: &S) {
    match states.entry(key) {
        Entry::Vacant(vacant) => {
            vacant.insert(state.clone());
        }
        Entry::Occupied(mut occupied) => occupied.get_mut().merge(state),
    }
}
