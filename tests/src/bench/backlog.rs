//! A backlog: real-shaped records on the topics, as gateways would have left them.
//!
//! Sessions are copies of the recordings. They are played in rounds of some hundred at a time, so
//! that records of many replays lie between one another and ids rise with time, as when a fleet
//! streams. A page is put on its topic once, however often it repeats: that is what the gateway's
//! negotiation comes to.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use anyhow::{Context, Result};
use common::page_hash::PageHash;
use common::time::Timestamp;
use uuid::Uuid;

use super::sessions;
use crate::model::records::{of_events, of_pages};
use crate::model::{EventRow, dump};
use crate::recordings::envelope::Envelope;
use crate::recordings::{Cast, CloneOptions, Moment, Session};
use crate::stack::Environment;

/// Sessions recorded at the same time.
pub(super) const SESSIONS_AT_ONCE: usize = 200;
/// By how much one round ends later than the one before, in microseconds.
const ROUND_MICROS: i64 = 60_000_000;
/// Events of one batch: recorders send 20 to 100.
const BATCH_EVENTS: usize = 50;
/// The largest record, as the gateway has it by default.
const RECORD_LIMIT_BYTES: usize = 1 << 20;
/// Seeds are so many rounds apart: more than the largest backlog has.
const ROUNDS_OF_A_SEED: u32 = 1_000;
/// The end of the first round: 2026-10-05T00:00:00Z. Enough later rounds end in the same month.
const FIRST_END: Timestamp = Timestamp::from_micros(1_791_158_400_000_000);

/// What was put on the topics.
#[derive(Clone, Copy, Debug)]
pub struct Backlog {
    /// Events, each once.
    pub events: u64,
    /// Pages, each once.
    pub pages: u64,
    /// Of all events together: see [`digest`].
    pub digest: u64,
}

impl Backlog {
    /// Puts at least `events` events on the environment's topics, with their replays, users and
    /// page states; `duplicate_page_states` is the share of pages that repeat. Backlogs whose
    /// `seed` differs share nothing, and that of a greater one is later.
    ///
    /// # Errors
    /// When the recordings cannot be read or Kafka does not take a record.
    pub async fn produce(
        environment: &Environment,
        seed: u32,
        events: u64,
        duplicate_page_states: f64,
    ) -> Result<Self> {
        let sessions = sessions::usual()?;
        let mut backlog = Self { events: 0, pages: 0, digest: 0 };
        let mut pages = BTreeSet::new();
        let mut round = seed * ROUNDS_OF_A_SEED;
        while backlog.events < events {
            let clones = CloneOptions {
                seed: u64::from(round),
                ending_at: Timestamp::from_micros(
                    FIRST_END.micros() + i64::from(round) * ROUND_MICROS,
                ),
                duplicate_page_states,
            };
            let cast = Cast::copies(sessions.clone(), SESSIONS_AT_ONCE, clones);
            backlog.play(environment, &cast, &mut pages).await?;
            round += 1;
        }
        Ok(backlog)
    }

    async fn play(
        &mut self,
        environment: &Environment,
        cast: &Cast,
        known_pages: &mut BTreeSet<PageHash>,
    ) -> Result<()> {
        let (mut events, mut pages) = (Vec::new(), Vec::new());
        for envelope in in_order(cast, known_pages) {
            for (event_id, event) in envelope.identified_events() {
                let row = EventRow {
                    replay_id: envelope.replay.replay_id,
                    timestamp: event.timestamp,
                    event_type: event.event_type.to_owned(),
                    event_data: event.event_data.get().to_owned(),
                    webstate_hash: event.webstate_hash,
                };
                self.events += 1;
                self.digest = self.digest.wrapping_add(digest(event_id, &row));
            }
            pages.extend(of_pages(&envelope)?);
            events.extend(of_events(&envelope, RECORD_LIMIT_BYTES)?);
        }
        self.pages += pages.len() as u64;
        let records = environment.records();
        records.produce(&environment.topic("replay-webstates"), &pages).await?;
        records.produce(&environment.topic("replay-events"), &events).await
    }

    /// Checks that the database at `url` holds the backlog's events, each once and unchanged, and
    /// its pages.
    ///
    /// # Errors
    /// When it does not.
    pub async fn check(&self, url: &str) -> Result<()> {
        let sql = crate::stack::postgres::connect(url).await?;
        let (mut events, mut found) = (0_u64, 0_u64);
        dump::each_event(&sql, |event_id, row| {
            events += 1;
            found = found.wrapping_add(digest(event_id, &row));
        })
        .await?;
        anyhow::ensure!(events == self.events, "{events} events, not {}", self.events);
        anyhow::ensure!(found == self.digest, "the events are not those that were sent");
        let pages = "SELECT count(*) FROM webstates WHERE html_content IS NOT NULL";
        let pages: i64 = sql.query_one(pages, &[]).await.context("webstates")?.get(0);
        anyhow::ensure!(pages.unsigned_abs() == self.pages, "{pages} pages, not {}", self.pages);
        Ok(())
    }
}

/// The batches of all sessions, in the order of time. A page comes with its content only the first
/// time.
pub(super) fn in_order(cast: &Cast, known_pages: &mut BTreeSet<PageHash>) -> Vec<Envelope> {
    let sessions = (0..cast.len()).map(|number| cast.session(number));
    let mut envelopes: Vec<_> = sessions.flat_map(|session| batches(&session)).collect();
    envelopes.sort_by_key(Envelope::as_of);
    for capture in envelopes.iter_mut().flat_map(|envelope| &mut envelope.webstates) {
        if !known_pages.insert(capture.html_hash) {
            *capture = capture.without_content();
        }
    }
    envelopes
}

/// A session as its recorder would send it: some events at a time, and the pages between them.
pub(super) fn batches(session: &Session) -> Vec<Envelope> {
    let begin = || Envelope {
        // The end is known last.
        replay: common::record::events::Replay { end_time: None, ..session.replay.clone() },
        events: Vec::new(),
        webstates: Vec::new(),
    };
    let (mut batches, mut batch) = (Vec::new(), begin());
    for moment in &session.moments {
        match moment {
            Moment::Page(capture) => batch.webstates.push(capture.clone()),
            Moment::Event(event) => batch.events.push(event.clone()),
        }
        if batch.events.len() == BATCH_EVENTS {
            batches.push(std::mem::replace(&mut batch, begin()));
        }
    }
    batch.replay.end_time = session.replay.end_time;
    batches.push(batch);
    batches
}

/// Stands for one event and all of its columns. The sum of all stands for the whole table, in any
/// order.
fn digest(event_id: Uuid, row: &EventRow) -> u64 {
    let mut hasher = DefaultHasher::new();
    (event_id, row).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recordings;

    #[test]
    fn batches_hold_every_event_and_page_of_the_session_in_order() {
        for session in recordings::own().unwrap() {
            let batches = batches(&session);
            let events = batches.iter().flat_map(|batch| &batch.events).map(|it| it.seq);
            assert!(events.eq(session.events().map(|it| it.seq)));
            let pages = batches.iter().flat_map(|batch| &batch.webstates).map(|it| it.html_hash);
            assert!(pages.eq(session.pages().map(|it| it.html_hash)));
            assert!(batches.iter().all(|batch| batch.events.len() <= BATCH_EVENTS));
        }
    }
}
