//! One batch on its way: sent until it is settled.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::Shared;
use super::body::{Body, Encoding};
use super::recorder::Recorder;
use super::report::Attempt;
use super::retry::{self, Answer, Step};
use super::unruly::Conduct;
use crate::ledger::Outcome;
use crate::recordings::envelope::Envelope;

/// The delivery of a recorder's batch.
pub(super) struct Delivery<'a> {
    pub(super) recorder: &'a Recorder,
    pub(super) conduct: Conduct,
    pub(super) choices: StdRng,
}

/// A batch that has been acknowledged, as it was sent.
pub(super) struct Acknowledged {
    body: Body,
    events: usize,
    webstates: usize,
    /// The gateway that it goes to if it is sent once more.
    next_gateway: usize,
}

/// How a batch went.
struct Settled {
    outcome: Outcome,
    status: Option<u16>,
    attempts: u32,
    then: Then,
}

/// What follows.
enum Then {
    /// Nothing.
    Rest,
    /// The batch may be sent once more.
    Again(Acknowledged),
    /// After this long its halves are sent: it was too slow.
    Halve(Duration),
}

impl Delivery<'_> {
    /// Sends an envelope until it is settled; where it is too slow, in ever smaller pieces. Gives
    /// what was acknowledged.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub(super) async fn deliver(mut self, envelope: Envelope) -> io::Result<Vec<Acknowledged>> {
        let shared = &self.recorder.shared;
        let mut pieces = vec![envelope];
        let mut acknowledged = Vec::new();
        while let Some(envelope) = pieces.pop() {
            let envelope = Arc::new(envelope);
            let ledger = shared.ledger.as_ref();
            let batch = ledger.map(|ledger| ledger.sent(&envelope)).transpose()?;
            let Settled { outcome, status, attempts, then } = self.settle(&envelope).await?;
            if let (Some(ledger), Some(batch)) = (ledger, batch) {
                ledger.settled(batch, outcome, status, attempts)?;
            }
            match (then, envelope.halves()) {
                (Then::Halve(wait), Some((first, second))) => {
                    self.recorder.wait_until(Instant::now() + wait).await;
                    pieces.extend([second, first]);
                    continue;
                }
                (Then::Again(batch), _) => acknowledged.push(batch),
                (Then::Halve(_) | Then::Rest, _) => {}
            }
            shared.tally.settled(&envelope, outcome, status);
            shared.progress.inc(envelope.events.len() as u64);
        }
        Ok(acknowledged)
    }

    async fn settle(&mut self, envelope: &Arc<Envelope>) -> io::Result<Settled> {
        let recorder = self.recorder;
        let shared = &recorder.shared;
        let body = encode(Arc::clone(envelope), Encoding::any(&mut self.choices)).await?;
        let (events, webstates) = (envelope.events.len(), envelope.webstates.len());
        let begun = Instant::now();
        let mut attempts = 0;
        // After an answer that leaves it open whether the batch has arrived, a refusal is of this
        // request alone.
        let mut may_have_arrived = false;
        loop {
            attempts += 1;
            let gateway = recorder.gateway();
            let answer = shared.send(gateway, &body, events, webstates).await;
            if answer.is_gateways_trouble() {
                recorder.leave(gateway);
                may_have_arrived = true;
            }
            let refused = if may_have_arrived { Outcome::Unknown } else { Outcome::Refused };
            let (elapsed, jitter) = (begun.elapsed(), self.choices.random_range(0.0..1.0));
            let step = retry::next(&answer, attempts, elapsed, shared.patience, jitter);
            let settled =
                |outcome, then| Settled { outcome, status: answer.status(), attempts, then };
            let after = match step {
                Step::Settle(Outcome::Acknowledged) => {
                    shared.tally.acknowledged_after(begun.elapsed());
                    let next_gateway = self.choices.random_range(0..shared.client.gateways());
                    let batch = Acknowledged { body, events, webstates, next_gateway };
                    return Ok(settled(Outcome::Acknowledged, Then::Again(batch)));
                }
                Step::Settle(Outcome::Refused) => return Ok(settled(refused, Then::Rest)),
                Step::Settle(Outcome::Unknown) => {
                    return Ok(settled(Outcome::Unknown, Then::Rest));
                }
                Step::Halve { after } if envelope.halves().is_some() => {
                    return Ok(settled(refused, Then::Halve(after)));
                }
                // What cannot be made smaller is tried again as it is.
                Step::Resend { after } | Step::Halve { after } => after,
            };
            if self.conduct.abandoned && events > 0 && answer.is_gateways_trouble() {
                shared.tally.abandoned();
                return Ok(settled(Outcome::Unknown, Then::Rest));
            }
            if !recorder.wait_until(Instant::now() + after).await {
                return Ok(settled(Outcome::Unknown, Then::Rest));
            }
        }
    }
}

impl Acknowledged {
    /// Sends the same bytes once more. Whether that arrives does not matter; that it is refused
    /// would.
    pub(super) async fn send_again(&self, shared: &Shared) {
        let Self { body, events, webstates, next_gateway } = self;
        let answer = shared.send(*next_gateway, body, *events, *webstates).await;
        shared.tally.sent_again(&answer);
    }
}

impl Shared {
    /// Sends a body, and counts the request and its answer.
    async fn send(&self, gateway: usize, body: &Body, events: usize, webstates: usize) -> Answer {
        let sent = Instant::now();
        let answer = self.client.send(gateway, body, events, webstates).await;
        self.tally.attempt(&Attempt { body, answer: &answer, took: sent.elapsed() });
        answer
    }
}

impl Recorder {
    /// The gateway that it sends to.
    pub(super) fn gateway(&self) -> usize {
        self.gateway.load(Ordering::Relaxed)
    }

    /// Goes on to the next gateway, unless another of its batches has done so already.
    fn leave(&self, gateway: usize) {
        let next = (gateway + 1) % self.shared.client.gateways();
        let _ = self.gateway.compare_exchange(gateway, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Waits; false when the fleet is stopped.
    pub(super) async fn wait_until(&self, time: Instant) -> bool {
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
