//! Batches at a steady rate, as a fleet sends them.
//!
//! Bodies are plain: what recorders compress, they compress on machines of their own, and here
//! they share the cores with what is measured.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use common::page_hash::PageHash;
use common::time::Timestamp;
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::task::JoinSet;

use super::backlog::{SESSIONS_AT_ONCE, batches, in_order};
use super::drain::DUPLICATE_PAGE_STATES;
use super::load::{self, Connection, Head};
use super::sessions;
use crate::recordings::envelope::Envelope;
use crate::recordings::{Cast, CloneOptions, Session};

/// Connections that the batches are spread over.
const CONNECTIONS: usize = 64;
/// Batches that are made ahead.
const MADE_AHEAD: usize = 4_096;
/// How often batches become due.
const TICK: Duration = Duration::from_millis(5);

/// A batch to send.
struct Batch {
    body: Bytes,
    events: u64,
}

/// Batches without end, made on a thread of their own.
pub(super) struct Batches {
    made: Mutex<mpsc::Receiver<Batch>>,
    /// Events that a batch has on average.
    mean_events: f64,
}

impl Batches {
    /// Begins to make batches; those of different seeds share nothing.
    ///
    /// # Errors
    /// When the recordings cannot be read.
    pub(super) fn make(seed: u64) -> Result<Arc<Self>> {
        let sessions = sessions::usual()?;
        let (events, count) = sessions
            .iter()
            .flat_map(batches)
            .fold((0, 0), |sum, envelope| (sum.0 + envelope.events.len(), sum.1 + 1));
        let mean_events = events as f64 / f64::from(count);
        let (sender, made) = mpsc::channel(MADE_AHEAD);
        std::thread::Builder::new().name("batches".to_owned()).spawn(move || {
            let mut known_pages = BTreeSet::new();
            for round in 0.. {
                for batch in round_of(&sessions, seed + round, &mut known_pages) {
                    // Nobody takes any more.
                    if sender.blocking_send(batch).is_err() {
                        return;
                    }
                }
            }
        })?;
        Ok(Arc::new(Self { made: Mutex::new(made), mean_events }))
    }

    async fn next(&self) -> Result<Batch> {
        self.made.lock().await.recv().await.context("no batch is made any more")
    }
}

/// Batches of some sessions that end now, in the order of time. A page is sent once, as the
/// gateway's negotiation comes to.
fn round_of(sessions: &[Session], seed: u64, known_pages: &mut BTreeSet<PageHash>) -> Vec<Batch> {
    let clones = CloneOptions {
        seed,
        ending_at: Timestamp::now(),
        duplicate_page_states: DUPLICATE_PAGE_STATES,
    };
    let cast = Cast::copies(sessions.to_vec(), SESSIONS_AT_ONCE, clones);
    let encode = |envelope: Envelope| {
        let events = envelope.events.len() as u64;
        // Such an envelope can always be written.
        serde_json::to_vec(&envelope).ok().map(|body| Batch { body: body.into(), events })
    };
    in_order(&cast, known_pages).into_iter().filter_map(encode).collect()
}

/// What came of a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Streamed {
    /// Events that were acknowledged.
    pub events: u64,
    /// Until the last answer.
    pub seconds: f64,
}

/// Sends batches for a time, about so many events a second.
///
/// # Errors
/// When a connection breaks, or an answer is not 200.
pub(super) async fn stream(
    address: SocketAddr,
    head: &Head,
    batches: &Arc<Batches>,
    events_per_second: f64,
    time: Duration,
) -> Result<Streamed> {
    let due = Arc::new(Semaphore::new(0));
    let begun = Instant::now();
    let mut senders = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (due, batches, head) = (Arc::clone(&due), Arc::clone(batches), head.clone());
        let mut connection = Connection::open(address).await?;
        senders.spawn(async move {
            let mut events = 0;
            // The end closes it.
            while let Ok(permit) = due.acquire().await {
                permit.forget();
                let batch = batches.next().await?;
                connection.ask(&head, batch.body).await?;
                events += batch.events;
            }
            anyhow::Ok(events)
        });
    }
    let batches_per_second = events_per_second / batches.mean_events;
    let mut released = 0;
    while begun.elapsed() < time {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let by_now = (begun.elapsed().as_secs_f64() * batches_per_second) as usize;
        due.add_permits(by_now - released);
        released = by_now;
        tokio::time::sleep(TICK).await;
    }
    due.close();
    let events = load::all_answered(senders, Duration::ZERO).await?;
    Ok(Streamed { events, seconds: begun.elapsed().as_secs_f64() })
}
