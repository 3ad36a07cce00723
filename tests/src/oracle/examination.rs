//! All comparisons together, fed one record or row at a time.

use std::collections::{BTreeMap, BTreeSet};

use common::record::events::{DecodeError, EventsRecord};
use common::record::headers::{RECEIVED_AT, RecordHeaders, SCHEMA};
use common::record::webstates::{self, PageError};
use rdkafka::message::{Header, OwnedHeaders};
use uuid::Uuid;

use super::claims::Claims;
use super::clause::Clause;
use super::letters::Letters;
use super::verdict::Verdict;
use crate::ledger::{EventDigest, UNWRITABLE_EVENT_TYPE};
use crate::model::{EventRow, Tables};
use crate::stack::records::Record;

/// The largest page that is decompressed here: more than any gateway accepts.
const PAGE_LIMIT_BYTES: usize = 64 << 20;

/// What a dead letter says is wrong with an event that is unwritable by construction: a constraint
/// refuses it.
const UNWRITABLE_CLASS: &str = "check_violation";

/// What has been found so far. To be given, in this order: the records of the two topics, the dead
/// letters, the rows, the lag.
#[derive(Debug)]
pub(super) struct Examination {
    claims: Claims,
    events_topic: String,
    webstates_topic: String,
    /// Keys of unreadable records that Kafka holds.
    garbage: BTreeSet<String>,
    letters: Letters,
    verdict: Verdict,
}

impl Examination {
    /// Nothing has been found yet.
    pub(super) fn of(claims: Claims, events_topic: &str, webstates_topic: &str) -> Self {
        let mut verdict = Verdict::default();
        verdict.counts.batches = claims.batches;
        Self {
            claims,
            events_topic: events_topic.to_owned(),
            webstates_topic: webstates_topic.to_owned(),
            garbage: BTreeSet::new(),
            letters: Letters::default(),
            verdict,
        }
    }

    /// There is that record on the events topic.
    #[expect(clippy::needless_pass_by_value, reason = "as records are given one by one")]
    pub(super) fn take_batch_record(&mut self, record: Record) {
        self.verdict.counts.batch_records += 1;
        let batch = match value_of(&record).and_then(|value| {
            EventsRecord::decode(value).map_err(|error| match error {
                DecodeError::NotJson(_) => "not_json",
                DecodeError::WrongShape(_) => "wrong_shape",
                DecodeError::ForeignEventId { .. } => "foreign_event_id",
            })
        }) {
            Ok(batch) => batch,
            Err(class) => return self.unreadable(Topic::Events, &record, class),
        };
        let Self { claims: Claims { events, heads, pages, .. }, verdict, .. } = self;
        let replay_id = batch.replay.replay_id;
        if record.key != replay_id.to_string().as_bytes() {
            verdict.add(Clause::Misplaced, || {
                format!("{replay_id} under the key {}", String::from_utf8_lossy(&record.key))
            });
        }
        heads.in_kafka(&batch.replay, batch.as_of, verdict);
        for sighting in &batch.webstates {
            pages.sighting_in_kafka(sighting, verdict);
        }
        let mut unwritable = Vec::new();
        for (place, event) in batch.events.iter().enumerate() {
            let is_writable = event.event_type != UNWRITABLE_EVENT_TYPE;
            if !is_writable {
                unwritable.push(place);
            }
            let digest = EventDigest::of(
                replay_id,
                event.timestamp,
                event.event_type,
                event.event_data.as_str(),
                event.webstate_hash,
            );
            events.in_kafka(event.event_id, digest, verdict);
            pages.event_in_kafka(event, is_writable);
        }
        if !unwritable.is_empty() {
            self.letters.expect(&self.events_topic, &record, UNWRITABLE_CLASS, Some(unwritable));
        }
    }

    /// There is that record on the page states topic.
    #[expect(clippy::needless_pass_by_value, reason = "as records are given one by one")]
    pub(super) fn take_page_record(&mut self, record: Record) {
        self.verdict.counts.page_records += 1;
        let page = value_of(&record).and_then(|value| {
            webstates::decode_key(Some(&record.key))
                .and_then(|hash| webstates::verify(hash, value, PAGE_LIMIT_BYTES).map(|()| hash))
                .map_err(|error| match error {
                    PageError::BadKey => "bad_key",
                    PageError::NotAPage { .. } => "not_a_page",
                    PageError::OtherContent { .. } => "other_content",
                })
        });
        match page {
            Ok(hash) => self.claims.pages.content_in_kafka(hash, &mut self.verdict),
            Err(class) => self.unreadable(Topic::Webstates, &record, class),
        }
    }

    /// A record must be in the dead letters, under that class of errors; if a gateway has made it,
    /// it should not be there.
    fn unreadable(&mut self, topic: Topic, record: &Record, class: &'static str) {
        let topic = match topic {
            Topic::Events => &self.events_topic,
            Topic::Webstates => &self.webstates_topic,
        };
        self.letters.expect(topic, record, class, None);
        let key = String::from_utf8_lossy(&record.key);
        if self.claims.garbage.contains_key(&*key) {
            self.garbage.insert(key.into_owned());
        } else {
            let Record { partition, offset, .. } = record;
            self.verdict.add(Clause::Unreadable, || {
                format!("{topic} [{partition}] @{offset}, key {key}: {class}")
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
        self.claims.heads.judge(tables, &mut self.verdict);
        self.claims.pages.judge(&tables.webstates, &mut self.verdict);
    }

    /// By partition of that topic, how far its end lies beyond what the writers have committed.
    pub(super) fn take_lag(&mut self, topic: &str, uncommitted: &BTreeMap<i32, i64>) {
        for (partition, records) in uncommitted.iter().filter(|(_, records)| **records != 0) {
            let describe = || match records.is_positive() {
                true => format!("{records} of {topic} [{partition}]"),
                false => format!("{topic} [{partition}] is committed {} beyond its end", -records),
            };
            self.verdict.add_many(Clause::Uncommitted, records.unsigned_abs(), describe);
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

/// A record's value, if it has one and the headers of all records, or the class of what is wrong.
fn value_of(record: &Record) -> Result<&[u8], &'static str> {
    let mut headers = OwnedHeaders::new();
    for (key, value) in record.headers.iter().filter(|(key, _)| key == SCHEMA || key == RECEIVED_AT)
    {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    RecordHeaders::from_kafka(Some(&headers)).map_err(|_| "bad_header")?;
    record.value.as_deref().ok_or("empty")
}

#[cfg(test)]
mod tests;
