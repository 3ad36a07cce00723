//! What a lane knows to be stored, bounded, the longest unused forgotten first.
//!
//! Rows only move upwards (see [`crate::merge`]), so a remembered state is a lower bound of the
//! row: what would not change it will not change the row. Only a deleted row breaks this; the
//! foreign keys notice, and everything is forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;
use std::num::NonZeroUsize;
use std::time::Instant;

use chrono::NaiveDate;
use common::page_hash::PageHash;
use lru::LruCache;
use uuid::Uuid;

use crate::merge::{Merge, ReplayState, UserState, WebstateState, change};

/// States known to be stored, by key.
pub(super) struct Known {
    pub(super) users: KnownStates<Uuid, UserState>,
    pub(super) replays: KnownStates<Uuid, ReplayState>,
    pub(super) webstates: KnownStates<PageHash, WebstateState>,
    /// Months known to have a partition. As many as there are months: bounded by the gateway's
    /// limits on time.
    pub(super) months: BTreeSet<NaiveDate>,
    /// Until when no further month is made.
    pub(super) months_not_before: Option<Instant>,
}

impl Known {
    pub(super) fn new(capacity: NonZeroUsize) -> Self {
        Self {
            users: KnownStates::new(capacity),
            replays: KnownStates::new(capacity),
            webstates: KnownStates::new(capacity),
            months: BTreeSet::new(),
            months_not_before: None,
        }
    }

    pub(super) fn clear(&mut self) {
        self.users.0.clear();
        self.replays.0.clear();
        self.webstates.0.clear();
        self.months.clear();
    }
}

/// States of one table known to be stored.
pub(super) struct KnownStates<K: Hash + Eq, S>(LruCache<K, S>);

impl<K: Hash + Eq + Ord + Copy, S: Merge + Clone + PartialEq> KnownStates<K, S> {
    fn new(capacity: NonZeroUsize) -> Self {
        Self(LruCache::new(capacity))
    }

    /// The keys whose rows must be read: not remembered, or remembered as something that the
    /// incoming state would change.
    pub(super) fn unknown(&mut self, incoming: &BTreeMap<K, S>) -> Vec<K> {
        let mut would_change = |(key, state): &(&K, &S)| match self.0.get(*key) {
            Some(known) => change(known, *state).is_some(),
            None => true,
        };
        incoming.iter().filter(|entry| would_change(entry)).map(|(key, _)| *key).collect()
    }

    pub(super) fn get(&self, key: &K) -> Option<&S> {
        self.0.peek(key)
    }

    /// The rows that incoming states would change or make.
    pub(super) fn changes(&self, incoming: &BTreeMap<K, S>) -> Vec<(K, S)> {
        let changed = |(key, state): (&K, &S)| match self.get(key) {
            Some(stored) => change(stored, state).map(|merged| (*key, merged)),
            None => Some((*key, state.clone())),
        };
        incoming.iter().filter_map(changed).collect()
    }

    pub(super) fn remember(&mut self, states: Vec<(K, S)>) {
        for (key, state) in states {
            self.0.put(key, state);
        }
    }
}
