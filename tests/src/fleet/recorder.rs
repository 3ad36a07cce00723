//! One recorder's session, from its first batch to its last.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::Shared;
use super::body::{Body, Encoding};
use super::plan::{self, Batch};
use super::report::Attempt;
use super::retry::{self, Answer, Outcome, Step};
use crate::recordings::envelope::{Capture, Envelope};
use crate::recordings::{Session, seed};

/// One recorder.
pub(super) struct Recorder {
    pub(super) shared: Arc<Shared>,
    pub(super) session: Arc<Session>,
    /// Its number in the fleet, from which its choices follow.
    pub(super) number: u64,
}

/// How a batch went.
struct Settled {
    outcome: Outcome,
    status: Option<u16>,
    attempts: u32,
    /// How long to wait before sending the two halves of a batch that was too slow.
    halve_after: Option<Duration>,
}

impl Recorder {
    /// Plays the session, which begins at `start`.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub(super) async fn play(self, start: Instant) -> io::Result<()> {
        let mut choices = seed::generator(self.shared.seed, "recorder", self.number);
        let batches = plan::batches(&self.session, &mut choices);
        let last = batches.len() - 1;
        for (number, batch) in batches.into_iter().enumerate() {
            let due = start + self.shared.speed.wall_time(batch.due);
            if !self.wait_until(due).await {
                return Ok(());
            }
            let envelope = self.envelope(batch, number == last).await;
            self.deliver(envelope, &mut choices).await?;
        }
        Ok(())
    }

    /// The batch as it will be sent: pages that the gateway has go without their content.
    async fn envelope(&self, batch: Batch, is_last: bool) -> Envelope {
        let mut replay = self.session.replay.clone();
        if !is_last {
            replay.end_time = None;
        }
        let hashes: BTreeSet<_> = batch.pages.iter().map(|page| page.html_hash).collect();
        let hashes: Vec<_> = hashes.into_iter().collect();
        let mut missing = match hashes.is_empty() {
            true => BTreeSet::new(),
            false => self.shared.client.missing(&hashes).await,
        };
        let webstates: Vec<Capture> = batch
            .pages
            .iter()
            .map(|page| match missing.remove(&page.html_hash) {
                true => page.clone(),
                // Known, or sent with this very batch.
                false => page.without_content(),
            })
            .collect();
        self.shared.tally.pages(&batch.pages, &webstates);
        Envelope { replay, events: batch.events, webstates }
    }

    /// Sends an envelope until it is settled; where it is too slow, in ever smaller pieces.
    async fn deliver(&self, envelope: Envelope, choices: &mut StdRng) -> io::Result<()> {
        let mut pieces = vec![envelope];
        while let Some(envelope) = pieces.pop() {
            let envelope = Arc::new(envelope);
            let ledger = self.shared.ledger.as_ref();
            let batch = ledger.map(|ledger| ledger.sent(&envelope)).transpose()?;
            let settled = self.settle(&envelope, choices).await?;
            if let (Some(ledger), Some(batch)) = (ledger, batch) {
                ledger.settled(batch, settled.outcome, settled.status, settled.attempts)?;
            }
            match (settled.halve_after, envelope.halves()) {
                (Some(wait), Some((first, second))) => {
                    self.wait_until(Instant::now() + wait).await;
                    pieces.extend([second, first]);
                }
                _ => {
                    self.shared.tally.settled(&envelope, settled.outcome, settled.status);
                    self.shared.progress.inc(envelope.events.len() as u64);
                }
            }
        }
        Ok(())
    }

    async fn settle(&self, envelope: &Arc<Envelope>, choices: &mut StdRng) -> io::Result<Settled> {
        let body = encode(Arc::clone(envelope), Encoding::any(choices)).await?;
        let begun = Instant::now();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let sent = Instant::now();
            let (events, webstates) = (envelope.events.len(), envelope.webstates.len());
            let answer = self.shared.client.send(&body, events, webstates).await;
            let took = sent.elapsed();
            self.shared.tally.attempt(&Attempt { body: &body, answer: &answer, took });
            let (elapsed, jitter) = (begun.elapsed(), choices.random_range(0.0..1.0));
            let step = retry::next(&answer, attempts, elapsed, self.shared.patience, jitter);
            let (status, halve) = (status(&answer), envelope.halves().is_some());
            match step {
                Step::Settle(outcome) => {
                    if outcome == Outcome::Acknowledged {
                        self.shared.tally.acknowledged_after(begun.elapsed());
                    }
                    return Ok(Settled { outcome, status, attempts, halve_after: None });
                }
                Step::Halve { after } if halve => {
                    let outcome = Outcome::Refused;
                    return Ok(Settled { outcome, status, attempts, halve_after: Some(after) });
                }
                // What cannot be made smaller is tried again as it is.
                Step::Resend { after } | Step::Halve { after } => {
                    if !self.wait_until(Instant::now() + after).await {
                        let outcome = Outcome::Unknown;
                        return Ok(Settled { outcome, status, attempts, halve_after: None });
                    }
                }
            }
        }
    }

    /// Waits; false when the fleet is stopped.
    async fn wait_until(&self, time: Instant) -> bool {
        tokio::select! {
            biased;
            () = self.shared.stop.cancelled() => false,
            () = tokio::time::sleep_until(time) => true,
        }
    }
}

/// Compresses on a thread where that holds up nobody's answer.
async fn encode(envelope: Arc<Envelope>, encoding: Encoding) -> io::Result<Body> {
    tokio::task::spawn_blocking(move || Body::of(&envelope, encoding)).await?
}

fn status(answer: &Answer) -> Option<u16> {
    match answer {
        Answer::Acknowledged => Some(200),
        Answer::Refused(status) | Answer::Later { status, .. } => Some(*status),
        Answer::TooSlow => Some(408),
        Answer::Unclear(_) => None,
    }
}
