//! All comparisons together, fed one record or row at a time.

use std::collections::{BTreeSet, HashMap};

use common::record::events::{EventsRecord, Replay};
use common::record::headers::{RECEIVED_AT, RecordHeaders, SCHEMA};
use common::record::webstates;
use common::time::Timestamp;
use rdkafka::message::{Header, OwnedHeaders};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::claims::Claims;
use super::letters::Letters;
use super::verdict::{Clause, Verdict};
use crate::ledger::{EventDigest, UNWRITABLE_EVENT_TYPE};
use crate::model::{EventRow, Tables, differences};
use crate::stack::records::Record;

/// The largest page that is decompressed here: more than any gateway accepts.
const PAGE_LIMIT_BYTES: usize = 64 << 20;

/// SHA-256 over what a batch says of its replay and user, and when: all that merging depends on.
type HeadDigest = [u8; 32];

/// What has been found so far. To be given, in this order: the records of the two topics, the dead
/// letters, the rows, the lag.
#[derive(Debug)]
pub(super) struct Examination {
    claims: Claims,
    events_topic: String,
    webstates_topic: String,
    /// Unknown batches by what they say of replay and user.
    unknown_heads: HashMap<HeadDigest, Vec<usize>>,
    /// Unknown batches of which Kafka holds a record.
    traced: BTreeSet<usize>,
    /// Keys of unreadable records that Kafka holds.
    garbage: BTreeSet<String>,
    letters: Letters,
    verdict: Verdict,
}

impl Examination {
    /// Nothing has been found yet.
    pub(super) fn of(claims: Claims, events_topic: &str, webstates_topic: &str) -> Self {
        let mut unknown_heads: HashMap<_, Vec<_>> = HashMap::new();
        for (place, batch) in claims.unknown.iter().enumerate() {
            unknown_heads.entry(head_digest(&batch.replay, batch.as_of)).or_default().push(place);
        }
        let mut verdict = Verdict::default();
        verdict.counts.batches = claims.batches;
        Self {
            claims,
            events_topic: events_topic.to_owned(),
            webstates_topic: webstates_topic.to_owned(),
            unknown_heads,
            traced: BTreeSet::new(),
            garbage: BTreeSet::new(),
            letters: Letters::default(),
            verdict,
        }
    }

    /// There is that record on the events topic.
    #[expect(clippy::needless_pass_by_value, reason = "as records are given one by one")]
    pub(super) fn take_batch_record(&mut self, record: Record) {
        self.verdict.counts.batch_records += 1;
        let Some(value) = record.value.as_deref().filter(|_| has_readable_headers(&record)) else {
            return self.unreadable(Topic::Events, &record, "no value, or no headers");
        };
        let batch = match EventsRecord::decode(value) {
            Ok(batch) => batch,
            Err(error) => return self.unreadable(Topic::Events, &record, &error.to_string()),
        };
        if let Some(places) = self.unknown_heads.get(&head_digest(&batch.replay, batch.as_of)) {
            self.traced.extend(places);
        }
        let mut unwritable = Vec::new();
        for (place, event) in batch.events.iter().enumerate() {
            self.claims.events.in_kafka(event.event_id);
            if event.event_type == UNWRITABLE_EVENT_TYPE {
                unwritable.push(place);
            }
        }
        if !unwritable.is_empty() {
            self.letters.expect(&self.events_topic, &record, Some(unwritable));
        }
    }

    /// There is that record on the page states topic.
    #[expect(clippy::needless_pass_by_value, reason = "as records are given one by one")]
    pub(super) fn take_page_record(&mut self, record: Record) {
        self.verdict.counts.page_records += 1;
        let Some(value) = record.value.as_deref().filter(|_| has_readable_headers(&record)) else {
            return self.unreadable(Topic::Webstates, &record, "no value, or no headers");
        };
        let page = webstates::decode_key(Some(&record.key))
            .and_then(|hash| webstates::verify(hash, value, PAGE_LIMIT_BYTES));
        if let Err(error) = page {
            self.unreadable(Topic::Webstates, &record, &error.to_string());
        }
    }

    /// A record must be in the dead letters; if a gateway has made it, it should not be there.
    fn unreadable(&mut self, topic: Topic, record: &Record, why: &str) {
        let topic = match topic {
            Topic::Events => &self.events_topic,
            Topic::Webstates => &self.webstates_topic,
        };
        self.letters.expect(topic, record, None);
        let key = String::from_utf8_lossy(&record.key);
        if self.claims.garbage.contains_key(&*key) {
            self.garbage.insert(key.into_owned());
        } else {
            let Record { partition, offset, .. } = record;
            self.verdict.add(Clause::Unreadable, || {
                format!("{topic} [{partition}] @{offset}, key {key}: {why}")
            });
        }
    }

    /// There is that dead letter.
    #[expect(clippy::needless_pass_by_value, reason = "as records are given one by one")]
    pub(super) fn take_letter(&mut self, letter: Record) {
        self.letters.take(&letter, &mut self.verdict);
    }

    /// There is that row of `events`.
    pub(super) fn take_event_row(&mut self, event_id: Uuid, row: &EventRow) {
        let EventRow { replay_id, timestamp, event_type, event_data, webstate_hash } = row;
        let digest =
            EventDigest::of(*replay_id, *timestamp, event_type, event_data, *webstate_hash);
        self.claims.events.stored(event_id, digest, &mut self.verdict);
    }

    /// The other three tables hold these rows.
    pub(super) fn take_tables(&mut self, tables: &Tables) {
        let counts = &mut self.verdict.counts;
        counts.user_rows = tables.users.len() as u64;
        counts.replay_rows = tables.replays.len() as u64;
        counts.webstate_rows = tables.webstates.len() as u64;
        self.merge_unknown();
        let expected = self.claims.merged.tables();
        let Self { verdict, claims, .. } = self;
        for difference in differences("users", &expected.users, &tables.users) {
            verdict.add(Clause::User, || difference);
        }
        for difference in differences("replays", &expected.replays, &tables.replays) {
            verdict.add(Clause::Replay, || difference);
        }
        claims.pages.judge(&tables.webstates, verdict);
    }

    /// Unknown batches count if they left a trace: Kafka holds their record, or the tables one of
    /// their events.
    fn merge_unknown(&mut self) {
        let Claims { events, merged, unknown, .. } = &mut self.claims;
        for (place, batch) in unknown.iter().enumerate() {
            let left_a_trace = self.traced.contains(&place)
                || batch.events.iter().any(|event| events.is_stored(event.event_id));
            if left_a_trace {
                merged.add_head(&batch.replay, batch.as_of);
            }
        }
    }

    /// The writers have not committed so many records of a topic.
    pub(super) fn take_lag(&mut self, topic: &str, records: i64) {
        if records != 0 {
            let count = records.unsigned_abs();
            let describe = || format!("{records} of {topic}");
            self.verdict.add_many(Clause::Uncommitted, count, describe);
        }
    }

    /// What it comes to.
    pub(super) fn finish(mut self) -> Verdict {
        self.claims.events.judge(&mut self.verdict);
        self.letters.judge(&mut self.verdict);
        for (key, acknowledged) in self.claims.garbage {
            if acknowledged && !self.garbage.contains(&key) {
                self.verdict.add(Clause::GarbageLost, || key);
            }
        }
        self.verdict
    }
}

/// The topics that are examined.
#[derive(Clone, Copy, Debug)]
enum Topic {
    Events,
    Webstates,
}

fn has_readable_headers(record: &Record) -> bool {
    let mut headers = OwnedHeaders::new();
    for (key, value) in record.headers.iter().filter(|(key, _)| key == SCHEMA || key == RECEIVED_AT)
    {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    RecordHeaders::from_kafka(Some(&headers)).is_ok()
}

fn head_digest(replay: &Replay<'_>, as_of: Timestamp) -> HeadDigest {
    let mut hash = Sha256::new();
    let mut add = |part: &str| {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    };
    // A debug text tells what is absent from what is empty.
    add(&format!("{replay:?}"));
    add(&as_of.to_string());
    hash.finalize().into()
}

#[cfg(test)]
mod tests;
