//! Events that keep the writers busy, and how far each partition has got.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use tests::stack::Environment;
use tests::stack::records::Record;
use tokio::sync::watch;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::PARTITIONS;
use crate::writer::support::{NOON_MS, Session, feed};

/// Replays enough for every partition to have some.
const REPLAYS: usize = 192;
/// Events of a record.
const EVENTS: usize = 25;
/// How often each replay has a record before anybody looks, which makes a backlog.
const FIRST_ROUNDS: usize = 6;
/// Events that wait at any time: a second's work of some lanes.
const AHEAD: i64 = 25_000;
/// How often it is looked at what is written.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How many events are written, by the partition that they came from.
pub(super) type Written = BTreeMap<i32, i64>;

/// What was written at one moment.
#[derive(Clone, Debug)]
struct Sample {
    at: Instant,
    written: Written,
}

/// A topic of events that always has some more than the writers have written.
pub(super) struct Load<'a> {
    environment: &'a Environment,
    sql: Client,
    sessions: Vec<Session>,
    /// Where the events of each replay are.
    partitions: BTreeMap<Uuid, i32>,
    fed: AtomicI64,
    samples: Mutex<Vec<Sample>>,
    written: watch::Sender<Written>,
}

impl<'a> Load<'a> {
    /// Feeds a backlog; the topic must be there.
    pub(super) async fn begin(environment: &'a Environment) -> Result<Self> {
        let sessions: Vec<_> = (0..REPLAYS).map(|_| Session::new()).collect();
        let backlog: Vec<_> = (0..FIRST_ROUNDS).flat_map(|it| round(&sessions, it)).collect();
        feed(environment, &backlog).await?;
        let topic = environment.topic("replay-events");
        let mut partitions = BTreeMap::new();
        for record in environment.records().read_all(&topic).await? {
            partitions.insert(std::str::from_utf8(&record.key)?.parse()?, record.partition);
        }
        let sql = environment.sql().await?;
        let (samples, written) = (Mutex::default(), watch::Sender::default());
        let fed = AtomicI64::new(events_of(FIRST_ROUNDS)?);
        let load = Self { environment, sql, sessions, partitions, fed, samples, written };
        let begun = load.look().await?.len();
        ensure!(begun == usize::try_from(PARTITIONS)?, "events on {begun} partitions");
        Ok(load)
    }

    /// Feeds and looks on until told to stop; gives how many events each replay has.
    pub(super) async fn keep_up(&self, stop: &CancellationToken) -> Result<i64> {
        let (events, ()) = tokio::try_join!(self.feed(stop), self.look_on(stop))?;
        Ok(events)
    }

    async fn feed(&self, stop: &CancellationToken) -> Result<i64> {
        let mut written = self.written.subscribe();
        let mut rounds = FIRST_ROUNDS;
        while !stop.is_cancelled() {
            let fed = events_of(rounds)?;
            let few = |written: &Written| fed - written.values().sum::<i64>() < AHEAD;
            tokio::select! {
                waited = written.wait_for(few) => drop(waited?),
                () = stop.cancelled() => break,
            }
            let records = round(&self.sessions, rounds);
            rounds += 1;
            self.fed.store(events_of(rounds)?, Ordering::Relaxed);
            feed(self.environment, &records).await?;
        }
        Ok(i64::try_from(rounds * EVENTS)?)
    }

    async fn look_on(&self, stop: &CancellationToken) -> Result<()> {
        while !stop.is_cancelled() {
            self.look().await?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// What is written now.
    pub(super) async fn look(&self) -> Result<Written> {
        // A replay's events are one a millisecond, and written in order.
        let newest = "SELECT id, (SELECT max(timestamp) FROM events WHERE replay_id = id) \
                      FROM unnest($1::uuid[]) AS replays (id)";
        let replays: Vec<_> = self.sessions.iter().map(|session| session.replay_id).collect();
        let mut written = Written::new();
        for row in self.sql.query(newest, &[&replays]).await? {
            let (replay_id, newest): (Uuid, Option<DateTime<Utc>>) = (row.get(0), row.get(1));
            let partition = self.partitions.get(&replay_id).context("a replay of nobody's")?;
            let events = newest.map_or(0, |newest| newest.timestamp_millis() - NOON_MS + 1);
            *written.entry(*partition).or_default() += events;
        }
        let sample = Sample { at: Instant::now(), written: written.clone() };
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
        self.written.send_replace(written.clone());
        Ok(written)
    }

    /// How many events wait to be written now.
    pub(super) async fn waiting(&self) -> Result<i64> {
        let fed = self.fed.load(Ordering::Relaxed);
        Ok(fed - self.look().await?.values().sum::<i64>())
    }

    /// The replays that the events are of.
    pub(super) fn sessions(&self) -> &[Session] {
        &self.sessions
    }

    /// The longest time for which one of the partitions stood still.
    pub(super) fn standstill(
        &self,
        partitions: impl IntoIterator<Item = i32>,
        window: &Range<Instant>,
    ) -> Duration {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let longest = partitions.into_iter().map(|it| longest_standstill(&samples, it, window));
        longest.max().unwrap_or_default()
    }
}

/// Events of so many rounds.
fn events_of(rounds: usize) -> Result<i64> {
    Ok(i64::try_from(rounds * REPLAYS * EVENTS)?)
}

/// The records of one batch of each replay.
fn round(sessions: &[Session], number: usize) -> Vec<Record> {
    let first_seq = (number * EVENTS) as u64;
    sessions.iter().map(|it| it.batch(first_seq, &[("scroll", "[0,1]"); EVENTS])).collect()
}

/// The longest time within the window from one growth of the partition's rows to the next, its
/// begin and its end counted as growths.
fn longest_standstill(samples: &[Sample], partition: i32, window: &Range<Instant>) -> Duration {
    let (mut since, mut longest) = (window.start, Duration::ZERO);
    let written = |sample: &Sample| sample.written.get(&partition).copied();
    for pair in samples.windows(2).filter(|pair| window.contains(&pair[1].at)) {
        if written(&pair[1]) > written(&pair[0]) {
            longest = longest.max(pair[1].at - since);
            since = pair[1].at;
        }
    }
    longest.max(window.end.saturating_duration_since(since))
}

#[test]
fn a_standstill_lasts_from_one_growth_to_the_next() {
    fn check(written: &[(u64, i64)], window: Range<u64>, expected: u64) {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let sample = |(seconds, written): &(u64, i64)| Sample {
            at: at(*seconds),
            written: [(7, *written), (8, 0)].into(),
        };
        let samples: Vec<_> = written.iter().map(sample).collect();
        let standstill = longest_standstill(&samples, 7, &(at(window.start)..at(window.end)));
        assert_eq!(standstill.as_secs(), expected, "{written:?} in {window:?}");
    }
    let steady = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)];
    check(&steady, 0..5, 1);
    let pauses = [(0, 1), (1, 2), (2, 2), (3, 2), (4, 9), (5, 9)];
    check(&pauses, 0..6, 3);
    check(&pauses, 1..4, 3);
    check(&pauses, 4..6, 2);
    check(&[(0, 1), (9, 1)], 2..8, 6);
}
