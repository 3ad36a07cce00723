//! A lane: one consumer on a thread of its own, one connection, nothing shared with other lanes.
//!
//! It reads one of the two topics. A consumer of both would get any mixture of their partitions:
//! the assignor balances how many a member has, and when one joins it hands over those of the first
//! topic until the numbers are even. Two writers where there was one would leave all events to the
//! new one. And a page state of a megabyte does not keep events waiting.
//!
//! The thread polls Kafka and fills a batch while the settler (a task) settles the one before:
//! at most two batches are held. Everything that happens to the lane happens in its loop, in
//! order: [`partitions`] that come and go, outcomes, [`commits`], handing over, [`intake`]; and at
//! its end [`drain`].

mod commits;
mod config;
mod context;
mod drain;
mod intake;
mod lane_topic;
mod offsets;
mod partitions;
mod refusal;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use common::client_log::ClientLog;
use common::failpoint;
use common::kafka::unique_client_id;
use common::repeats::Repeats;
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::accounts::Accounts;
use crate::batch::{Batch, CloseReason};
use crate::health::LaneHealth;
use crate::metrics::WriterMetrics;
use crate::options::RunOptions;
use crate::record::{Partition, Record, Topic};
use crate::settle::{Handover, Outcome, Settler};
use commits::Commits;
use config::consumer_config;
use context::LaneContext;
use lane_topic::LaneTopic;
use offsets::SilentBrokers;
use refusal::Refusal;

/// The longest wait for anything before the lane looks around again.
const ROUND: Duration = Duration::from_millis(100);

/// A full lane that has waited so long for its settler stops fetching and goes on polling, so
/// that its group does not give it up. Not at once: stopping throws away what was prefetched.
const PAUSE_AFTER: Duration = Duration::from_secs(5);

/// What a lane shares with the rest of the process.
pub struct LaneParts {
    /// What it reads.
    pub topic: Topic,
    /// Its options.
    pub options: RunOptions,
    /// The events' accounts.
    pub accounts: Accounts,
    /// The metrics.
    pub metrics: WriterMetrics,
    /// Its health.
    pub health: LaneHealth,
    /// How many lanes of the process have not finished yet.
    pub unfinished: Arc<AtomicUsize>,
}

/// How a lane ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything held was settled and its offsets committed.
    Drained,
    /// The deadline passed before.
    GivenUp,
}

/// Why a lane cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum LaneError {
    /// Kafka's client gave up for good, or refuses what the lane asks of it.
    #[error("Kafka: {0}")]
    Kafka(#[from] KafkaError),
    /// The settler's task ended early: a bug.
    #[error("the settler ended before its lane")]
    SettlerGone,
}

/// A lane.
pub struct Lane {
    number: usize,
    consumer: Arc<BaseConsumer<LaneContext>>,
    commits: Commits,
    parts: LaneParts,
    topic: LaneTopic,
    handovers: mpsc::Sender<Handover>,
    outcomes: Receiver<Outcome>,
    building: Batch,
    settling: Option<Settling>,
    /// Assigned, but their position could not be found yet.
    unplaced: BTreeSet<Partition>,
    /// When to look for it.
    place_at: Option<Instant>,
    /// Who was asked for positions and did not answer.
    silent_brokers: SilentBrokers,
    /// The group waits to hear that its assignment was taken on.
    assignment_open: bool,
    /// Kafka no longer has some partition's position.
    position_lost: bool,
    /// The topic may not be read.
    refusal: Option<Refusal>,
    /// Waiting for a newer writer.
    stopped: BTreeSet<Partition>,
    full_since: Option<Instant>,
    paused: bool,
    halted: bool,
    /// The next offset of each partition of which something is settled.
    settled: BTreeMap<Partition, i64>,
    consume_failures: Repeats,
    /// What this lane last added to the gauge of bytes held.
    held_bytes: i64,
}

/// The batch with the settler.
struct Settling {
    give_up: CancellationToken,
    bytes: usize,
}

/// The settler's side of a lane: settles one batch after the other until the lane ends.
pub async fn settle_batches(
    mut settler: Settler,
    mut handovers: mpsc::Receiver<Handover>,
    outcomes: SyncSender<Outcome>,
) {
    while let Some(handover) = handovers.recv().await {
        let outcome = settler.settle(handover).await;
        // There is room: the lane takes each outcome before it hands over again.
        if outcomes.try_send(outcome).is_err() {
            return;
        }
    }
}

impl Lane {
    /// A member of the consumer group, number `number` in this process. Also returns the two ends
    /// that [`settle_batches`] takes.
    ///
    /// # Errors
    /// When the Kafka options are wrong.
    pub fn new(
        number: usize,
        parts: LaneParts,
    ) -> anyhow::Result<(Self, mpsc::Receiver<Handover>, SyncSender<Outcome>)> {
        let client_id = unique_client_id("tapedeck-writer", number);
        let context = LaneContext::new(ClientLog::new(&client_id), parts.metrics.clone());
        let consumer: BaseConsumer<LaneContext> =
            consumer_config(number, &client_id, &parts.options)?.create_with_context(context)?;
        let consumer = Arc::new(consumer);
        let topic = LaneTopic::new(parts.topic, &parts.options.topics);
        let commits = Commits::start(consumer.clone(), &topic, &parts)?;
        consumer.subscribe(&[topic.name()])?;
        let (handovers, handovers_receiver) = mpsc::channel(1);
        let (outcomes_sender, outcomes) = sync_channel(1);
        let lane = Self {
            number,
            consumer,
            commits,
            parts,
            topic,
            handovers,
            outcomes,
            building: Batch::default(),
            settling: None,
            unplaced: BTreeSet::new(),
            place_at: None,
            silent_brokers: SilentBrokers::default(),
            assignment_open: false,
            position_lost: false,
            refusal: None,
            stopped: BTreeSet::new(),
            full_since: None,
            paused: false,
            halted: false,
            settled: BTreeMap::new(),
            consume_failures: Repeats::default(),
            held_bytes: 0,
        };
        Ok((lane, handovers_receiver, outcomes_sender))
    }

    /// Consumes until `stop`, then drains.
    ///
    /// # Errors
    /// See [`LaneError`].
    pub fn run(mut self, stop: &CancellationToken) -> Result<Ended, LaneError> {
        let finished = self.consume(stop).and_then(|()| self.finish_for_good());
        self.answer_rebalances_for_good();
        // Whichever way it came out, the siblings need not wait for this lane.
        self.parts.unfinished.fetch_sub(1, Ordering::AcqRel);
        match finished {
            Ok(deadline) => self.leave(deadline),
            Err(error) => {
                self.consumer.unsubscribe();
                Err(error)
            }
        }
    }

    fn consume(&mut self, stop: &CancellationToken) -> Result<(), LaneError> {
        while !stop.is_cancelled() {
            self.parts.health.tick();
            // Before anything is committed: a lost partition is another's.
            self.carry_out_rebalances()?;
            self.take_outcomes(Duration::ZERO)?;
            self.proceed_with_commits(Duration::ZERO);
            self.look_for_permission_if_due();
            self.take_on_anew_if_due()?;
            self.place_partitions()?;
            if self.may_take_more()? {
                self.poll(self.poll_timeout())?;
            }
        }
        Ok(())
    }

    /// Hands over what is due. Whether there is room for another record.
    fn may_take_more(&mut self) -> Result<bool, LaneError> {
        if self.halted {
            self.pause();
            return Ok(true);
        }
        let limits = self.parts.options.batch_limits();
        let now = Instant::now();
        if self.settling.is_none()
            && let Some(reason) = self.building.due(&limits, now)
        {
            self.hand_over(reason);
        }
        // What a given-up batch brought back counts as well: never more than two batches are held.
        let settling = self.settling.as_ref().map_or(0, |settling| settling.bytes);
        let room = self.building.full(&limits).is_none()
            && self.building.bytes() + settling < 2 * limits.bytes;
        if room {
            self.full_since = None;
            self.resume();
            return Ok(true);
        }
        let full_since = *self.full_since.get_or_insert(now);
        if now.duration_since(full_since) >= PAUSE_AFTER {
            self.pause();
            return Ok(true);
        }
        self.take_outcomes(ROUND)?;
        Ok(false)
    }

    fn note_held(&mut self) {
        let settling = self.settling.as_ref().map_or(0, |settling| settling.bytes);
        let held = i64::try_from(self.building.bytes() + settling).unwrap_or(i64::MAX);
        // The gauge is all lanes' together, so each adds its own change.
        self.parts.metrics.batch_bytes_held.add(held - self.held_bytes);
        self.held_bytes = held;
    }

    fn hand_over(&mut self, closed_by: CloseReason) {
        let batch = std::mem::take(&mut self.building);
        if failpoint::is_on("writer::commit-early") {
            self.commit(&batch);
        }
        let give_up = CancellationToken::new();
        self.settling = Some(Settling { give_up: give_up.clone(), bytes: batch.bytes() });
        // There is room: nothing else is with the settler.
        if self.handovers.try_send(Handover { batch, closed_by, give_up }).is_err() {
            tracing::error!(topic = self.topic.name(), "the settler is gone: its lane ends");
        }
    }

    /// Acts on what the settler is done with, waiting for it up to `timeout`.
    fn take_outcomes(&mut self, timeout: Duration) -> Result<(), LaneError> {
        if self.settling.is_none() {
            return Ok(());
        }
        let outcome = match self.outcomes.recv_timeout(timeout) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout) => return Ok(()),
            Err(RecvTimeoutError::Disconnected) => return Err(LaneError::SettlerGone),
        };
        self.settling = None;
        match outcome {
            Outcome::Settled { batch, settled } => {
                self.parts.accounts.settle(settled);
                self.commit(&batch);
            }
            Outcome::GivenUp(batch) => self.building.prepend(batch),
            Outcome::Halted(batch) => {
                self.building.prepend(batch);
                self.halted = true;
                self.parts.health.halted();
                self.parts.metrics.lanes_halted.inc();
                let topic = self.topic.name();
                tracing::error!(
                    topic,
                    "most of the last records are poison: this lane stops and keeps its \
                     partitions; find the cause, then restart the writer"
                );
            }
        }
        self.note_held();
        Ok(())
    }

    /// Notes how far a settled batch reaches, and asks Kafka to commit that.
    fn commit(&mut self, batch: &Batch) {
        // In order, so the last of a partition is its newest.
        let newest: BTreeMap<Partition, &Record> =
            batch.records().iter().map(|record| (record.partition, record)).collect();
        for (partition, record) in newest {
            self.settled.insert(partition, record.message.offset() + 1);
            if let Some(appended_at) = record.appended_at() {
                self.consumer.context().written(partition.number, appended_at);
            }
        }
        self.commits.want();
        self.proceed_with_commits(Duration::ZERO);
    }

    /// Whether the partitions are this lane's to commit: of those that were lost, what others
    /// commit counts, until they are let go.
    fn may_commit(&self) -> bool {
        !self.consumer.assignment_lost()
    }

    fn proceed_with_commits(&mut self, timeout: Duration) {
        if !self.may_commit() {
            return;
        }
        let (settled, topic) = (&self.settled, &self.topic);
        self.commits.proceed(timeout, || topic.list_with_offsets(settled));
    }
}
